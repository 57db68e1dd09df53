//! The TLS servers outside `http`: those of `stream` and `mail`, which the same nginx loads. They
//! send no header, but clients may hold pins of their keys all the same (TLSA records, apps).
//!
//! No symbol of these modules is linked, or the module could not be loaded without them: they are
//! found by their names among the modules of the cycle. Their structures are those of the headers
//! that this module is built with, and nginx loads no module that was built for another version.

mod bindings;
mod chosen;
mod mail;
mod modules;
mod servers;
mod stream;

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt as _;

use hpkp_core::check::{Certificates, Choice, Context, Deployment, Host, Listener, Noticed};
use hpkp_core::finding::{Check, Code, Location, Text};
use hpkp_core::path::Chain;
use hpkp_core::text::Excerpt;
use hpkp_core::text::ShellWord;
use hpkp_server::loader::Loader;
use hpkp_server::public_port::PublicPorts;
use hpkp_server::sending::ContextAddress;
use nginx_sys::{NGX_CONF_MODULE, NGX_CORE_MODULE, NGX_EVENT_MODULE, NGX_HTTP_MODULE, ngx_cycle_t};

use crate::chooser::{self, CHOSEN_LATER};
use crate::conf::{ServerConf, ServerKey};
use crate::server::OwnContext;
use modules::{module, modules};
use servers::{Address, Server};

pub(crate) use chosen::{CONTEXT as STREAM_CONTEXT, KIND as STREAM_KIND};
pub(crate) use servers::Outside;

/// What `http` says for all servers.
pub(crate) struct Settings<'a> {
    pub(crate) check: Check,
    pub(crate) conf: &'a ServerConf,
    pub(crate) public_ports: &'a PublicPorts,
}

/// The core modules whose blocks have servers.
const BLOCKS: [&CStr; 2] = [c"ngx_stream_module", c"ngx_mail_module"];

/// How many blocks with such servers have not been met, and may still follow in the file.
///
/// # Safety
/// `cycle` is the cycle whose configuration is being read.
pub(crate) unsafe fn blocks_to_come(cycle: *const ngx_cycle_t) -> usize {
    let is_to_come = |name: &&&CStr| {
        // SAFETY: by the caller's promise; there is a slot for each module, null until its block
        // has been met.
        unsafe {
            module(cycle, name, NGX_CORE_MODULE as usize)
                .is_some_and(|module| (*(*cycle).conf_ctx.add(module.index)).is_null())
        }
    };
    BLOCKS.iter().filter(is_to_come).count()
}

impl Outside {
    /// # Safety
    /// The blocks that `cycle` has so far have been read to their ends.
    pub(crate) unsafe fn of(cycle: *const ngx_cycle_t) -> Self {
        let mut outside = Self::default();
        // SAFETY: by the caller's promise.
        unsafe {
            stream::read(cycle, &mut outside);
            mail::read(cycle, &mut outside);
            outside.strangers = strangers(cycle);
        }
        outside
    }

    /// What has certificates.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = OwnContext> + '_ {
        self.servers.iter().filter_map(|server| server.own)
    }

    /// The numbers and texts of the addresses on TLS.
    pub(crate) fn listening(&self) -> impl Iterator<Item = (u16, String)> + '_ {
        let on_tls = self.addresses.iter().filter(|address| address.tls);
        on_tls.map(|address| (address.port, address.text.clone()))
    }

    /// Adds the servers behind the hosts of `http`, and what they present. `addresses` are those of
    /// the deployment's contexts. Gives what each added host is known by.
    ///
    /// # Safety
    /// The contexts belong to the configuration that has just been read, and one thread reads it.
    pub(crate) unsafe fn add_to(
        &self,
        deployment: &mut Deployment,
        addresses: &mut Vec<ContextAddress>,
        loader: &mut Loader<'_>,
        settings: &Settings<'_>,
    ) -> Vec<ServerKey> {
        // SAFETY: by the caller's promise.
        let context_of = unsafe { self.add_contexts(deployment, addresses, loader, settings) };
        let mut keys = Vec::new();
        // A server has one host for the addresses that it has alone, and one for those that it
        // shares: there its names decide.
        let mut hosts: HashMap<(usize, bool), usize> = HashMap::new();
        for address in self.addresses.iter().filter(|address| address.tls) {
            let alone = address.servers.len() == 1;
            let mut positions = Vec::new();
            for &server in &address.servers {
                let presents =
                    if self.servers[server].own.is_some() { server } else { address.default };
                let context = context_of.get(&presents).copied();
                let host = *hosts.entry((server, alone)).or_insert_with(|| {
                    let Server { kind, names, .. } = &self.servers[server];
                    let names = [*kind].into_iter().map(str::to_owned).chain(names.clone());
                    keys.push(ServerKey { names: names.collect(), addresses: Vec::new() });
                    let host = self.host(server, address, alone, context, deployment, settings);
                    deployment.hosts.push(host);
                    deployment.hosts.len() - 1
                });
                let first = deployment.hosts.len() - keys.len();
                keys[host - first].addresses.push(address.text.clone());
                let contexts = &mut deployment.hosts[host].contexts;
                contexts.extend(context.filter(|context| !contexts.contains(context)));
                positions.push((server, host));
            }
            let mut patterns = Vec::new();
            for (server, host) in positions.iter().filter(|_| !alone) {
                let own = self.servers[*server].patterns.iter();
                patterns.extend(own.map(|pattern| (*host, pattern.clone())));
            }
            let default = positions.iter().find(|(server, _)| *server == address.default);
            let Some(&(_, default)) = default else { continue };
            for port in settings.public_ports.of(address.port, &address.text) {
                deployment.listeners.push(Listener {
                    port,
                    address: Some(address.text.clone()),
                    choice: Choice::Nginx,
                    hosts: positions.iter().map(|(_, host)| *host).collect(),
                    default,
                    patterns: patterns.clone(),
                    by_port_alone: true,
                });
            }
        }
        self.report(deployment, &context_of);
        keys
    }

    /// Adds the contexts of the servers on TLS; gives their positions by those of the servers.
    ///
    /// # Safety
    /// As for [`Self::add_to`].
    unsafe fn add_contexts(
        &self,
        deployment: &mut Deployment,
        addresses: &mut Vec<ContextAddress>,
        loader: &mut Loader<'_>,
        settings: &Settings<'_>,
    ) -> HashMap<usize, usize> {
        let on_tls = self.addresses.iter().filter(|address| address.tls);
        let on_tls: HashSet<usize> = on_tls.flat_map(|a| a.servers.iter().copied()).collect();
        let mut context_of: HashMap<usize, usize> = HashMap::new();
        for (position, server) in self.servers.iter().enumerate() {
            let Some(own) = server.own.filter(|own| !own.rejects) else { continue };
            if !on_tls.contains(&position) {
                continue;
            }
            let certificates = match &server.chosen.chosen_by {
                Some(chooser) => chooser::chosen_by(chooser),
                None if own.variables => CHOSEN_LATER,
                // SAFETY: by the caller's promise.
                None => unsafe { loader.loaded(own.context) },
            };
            let trust = loader.trust(settings.conf.trusted.as_ref());
            context_of.insert(position, deployment.contexts.len());
            addresses.push(ContextAddress::from(own.context.cast_const()));
            deployment.contexts.push(Context { certificates, trust });
        }
        context_of
    }

    fn host(
        &self,
        server: usize,
        address: &Address,
        alone: bool,
        context: Option<usize>,
        deployment: &Deployment,
        settings: &Settings<'_>,
    ) -> Host {
        let Server { kind, names, .. } = &self.servers[server];
        let certificates = context.map(|context| &deployment.contexts[context].certificates);
        let names = if alone { certified(certificates) } else { names.clone() };
        let place = format!("{kind} {}", address.text);
        let label = match names.first() {
            Some(name) => format!("{name} ({place})"),
            None => place,
        };
        Host {
            label,
            names,
            tls: true,
            contexts: Vec::new(),
            check: settings.check,
            enforced: None,
            report_only: None,
            accepted: Vec::new(),
            serving: Vec::new(),
        }
    }

    /// What cannot be looked at.
    fn report(&self, deployment: &mut Deployment, context_of: &HashMap<usize, usize>) {
        let mut first: HashMap<usize, &str> = HashMap::new();
        for address in &self.addresses {
            for server in &address.servers {
                first.entry(*server).or_insert(&address.text);
            }
        }
        let mut noticed = self.unlooked_at(deployment, context_of, &first);
        noticed.extend(self.replaced(deployment, context_of, &first));
        let at = deployment.records.as_ref().map(|records| records.at.clone());
        for name in self.strangers.iter().filter(|_| at.is_some()) {
            noticed.push(Noticed {
                code: Code::TlsServerNotChecked,
                label: name.clone(),
                text: Text::new(
                    "this module may have TLS servers of a kind that hpkp does not know; their \
                     certificates are not compared with the pins that clients hold",
                ),
                at: at.clone().unwrap_or_else(|| Location { file: "-".into(), line: 0 }),
            });
        }
        deployment.noticed.extend(noticed);
    }

    /// The servers whose certificates are not known.
    fn unlooked_at(
        &self,
        deployment: &Deployment,
        context_of: &HashMap<usize, usize>,
        first: &HashMap<usize, &str>,
    ) -> Vec<Noticed> {
        let records = deployment.records.as_ref();
        let directory = records.map_or("DIR", |records| records.directory.as_str());
        let directory = ShellWord::new(directory).to_string();
        let mut noticed = Vec::new();
        for (position, server) in self.servers.iter().enumerate() {
            let certificates = context_of.get(&position).map(|c| &deployment.contexts[*c]);
            let why = match certificates.map(|context| &context.certificates) {
                Some(Certificates::NotKnown { why, .. }) => why.clone().into_owned(),
                Some(Certificates::Unusable(_, why)) => why.what.clone(),
                _ if server.passes_on => {
                    "this server passes TLS on without decrypting it (ssl_preread)".to_owned()
                }
                _ => continue,
            };
            let on = first.get(&position).copied().unwrap_or("-");
            // As its host is called.
            let is_shared = self.addresses.iter().any(|a| a.text == on && a.servers.len() > 1);
            let label = match server.names.first().filter(|_| is_shared) {
                Some(name) => format!("{name} ({} {on})", server.kind),
                None => format!("{} {on}", server.kind),
            };
            noticed.push(Noticed {
                code: Code::TlsServerNotChecked,
                label,
                text: Text::new(format!(
                    "{why}, so no certificate of this server is compared with the pins that clients hold"
                ))
                .fix(format!(
                    "if clients hold pins for this port, check each new certificate: hpkp published -d \
                     {directory} why HOST --cert FILE"
                )),
                at: server.at.clone(),
            });
        }
        noticed
    }

    /// The servers whose certificates other code can replace.
    fn replaced(
        &self,
        deployment: &Deployment,
        context_of: &HashMap<usize, usize>,
        first: &HashMap<usize, &str>,
    ) -> Vec<Noticed> {
        let mut noticed = Vec::new();
        let loaded = self.servers.iter().enumerate().filter(|(position, _)| {
            context_of.get(position).is_some_and(|context| {
                matches!(deployment.contexts[*context].certificates, Certificates::Loaded(_))
            })
        });
        for (position, server) in loaded {
            let label = format!("{} {}", server.kind, first.get(&position).copied().unwrap_or("-"));
            let code = Code::CertificateMayBeReplaced;
            let mut may_replace = |by: &str, at: &Location| {
                let text = chooser::can_replace(by);
                noticed.push(Noticed {
                    code,
                    label: label.clone(),
                    text: Text::new(text),
                    at: at.clone(),
                });
            };
            if let Some(chooser) = &server.chosen.replaced_by {
                may_replace(&chooser.directive, &chooser.at);
            }
            for module in self.unseen_choosers.iter().filter(|_| server.kind == "stream") {
                let path = Excerpt::new(module.as_os_str().as_bytes());
                may_replace(&format!("the module in {path}"), &server.at);
            }
        }
        noticed
    }
}

/// The names in certificates, each once.
fn certified(certificates: Option<&Certificates>) -> Vec<String> {
    let Some(Certificates::Loaded(chains)) = certificates else { return Vec::new() };
    let mut names: Vec<String> = Vec::new();
    for name in chains.iter().map(Chain::leaf).flat_map(|leaf| leaf.dns_names()) {
        if !names.contains(name) {
            names.push(name.to_string());
        }
    }
    names
}

/// The first module of each kind that is not known here.
///
/// # Safety
/// As for [`modules`].
unsafe fn strangers(cycle: *const ngx_cycle_t) -> Vec<String> {
    let known = [
        NGX_CORE_MODULE as usize,
        NGX_CONF_MODULE as usize,
        NGX_EVENT_MODULE as usize,
        NGX_HTTP_MODULE as usize,
        bindings::NGX_STREAM_MODULE as usize,
        bindings::NGX_MAIL_MODULE as usize,
    ];
    let mut kinds = Vec::new();
    let mut names = Vec::new();
    // SAFETY: by the caller's promise; a module of a cycle has a name.
    unsafe {
        for module in modules(cycle).filter(|module| !known.contains(&module.type_)) {
            if !kinds.contains(&module.type_) {
                kinds.push(module.type_);
                names.push(CStr::from_ptr(module.name).to_string_lossy().into_owned());
            }
        }
    }
    names
}
