//! The TLS servers outside `http`: those of `stream` and `mail` in the same nginx. They send no header, but clients may
//! hold pins of their keys (TLSA records, apps).

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Host, Listener, NamePattern, Noticed, Records,
};
use hpkp_core::finding::{Check, Code, Location, Text};
use hpkp_core::path::Chain;
use hpkp_core::text::Excerpt;

use super::address::{Address, Own, ServerKey};
use super::built::Built;
use super::chooser::{self, CHOSEN_LATER, Choosers};
use crate::loader::Loader;
use crate::public_port::PublicPorts;
use crate::setting::ServerSettings;

/// The settings of `http` for all servers.
pub(super) struct Settings<'a> {
    pub(super) check: Check,
    pub(super) around: &'a ServerSettings,
    pub(super) public_ports: &'a PublicPorts,
}

/// All servers outside `http`.
#[derive(Debug)]
pub struct Outside<H> {
    /// The servers.
    pub servers: Vec<OutsideServer<H>>,
    /// The addresses on which they listen.
    pub addresses: Vec<Address>,
    /// Modules that may have servers of a kind that is not known here.
    pub strangers: Vec<String>,
    /// The files of other modules that can choose certificates in `stream` without a directive.
    pub unseen_choosers: Vec<PathBuf>,
}

impl<H> Default for Outside<H> {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            addresses: Vec::new(),
            strangers: Vec::new(),
            unseen_choosers: Vec::new(),
        }
    }
}

/// A server.
#[derive(Debug)]
pub struct OutsideServer<H> {
    /// The handle of its reader.
    pub handle: H,
    /// The block around it.
    pub kind: &'static str,
    /// Its names, which count if several servers share an address.
    pub names: Vec<String>,
    /// Its names that are regular expressions.
    pub patterns: Vec<Rc<dyn NamePattern>>,
    /// Its own certificates, if it has some.
    pub own: Option<Own>,
    /// Whether it passes TLS on without terminating it.
    pub passes_on: bool,
    /// Which directives of other modules choose or replace its certificates.
    pub choosers: Choosers,
    /// Its place in the configuration.
    pub at: Location,
}

impl<H> Outside<H> {
    /// The port numbers and texts of the addresses on TLS.
    pub fn listening(&self) -> impl Iterator<Item = (u16, String)> + '_ {
        let on_tls = self.addresses.iter().filter(|address| address.tls);
        on_tls.map(|address| (address.port, address.text.clone()))
    }

    /// Adds the servers after the hosts of `http`, with their certificates.
    pub(super) fn add_to<'a, 'l>(
        &'a self,
        built: &mut Built<'a, H>,
        settings: &Settings<'_>,
        loader: &mut Loader<'l>,
        certificates: &mut impl FnMut(&mut Loader<'l>, &H) -> Certificates,
    ) {
        let context_of = self.add_contexts(built, settings, loader, certificates);
        let Built { deployment, keys: all_keys, .. } = built;
        let mut keys = Vec::new();
        // A server becomes one host for the addresses that it has alone, and another one for the addresses that it
        // shares, where its names decide.
        let mut hosts: HashMap<(usize, bool), usize> = HashMap::new();
        for address in self.addresses.iter().filter(|address| address.tls) {
            let alone = address.servers.len() == 1;
            let mut positions = Vec::new();
            for &server in &address.servers {
                let presents =
                    if self.servers[server].own.is_some() { server } else { address.default };
                let context = context_of.get(&presents).copied();
                let host = *hosts.entry((server, alone)).or_insert_with(|| {
                    let OutsideServer { kind, names, .. } = &self.servers[server];
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
        all_keys.extend(keys.into_iter().map(Some));
        self.report(deployment, &context_of);
    }

    /// Adds the certificates of the servers, and returns the positions of their contexts.
    fn add_contexts<'a, 'l>(
        &'a self,
        built: &mut Built<'a, H>,
        settings: &Settings<'_>,
        loader: &mut Loader<'l>,
        certificates: &mut impl FnMut(&mut Loader<'l>, &H) -> Certificates,
    ) -> HashMap<usize, usize> {
        let on_tls = self.addresses.iter().filter(|address| address.tls);
        let on_tls: HashSet<usize> = on_tls.flat_map(|a| a.servers.iter().copied()).collect();
        let mut context_of: HashMap<usize, usize> = HashMap::new();
        for (position, server) in self.servers.iter().enumerate() {
            let Some(own) = server.own.filter(|own| !own.rejects) else { continue };
            if !on_tls.contains(&position) {
                continue;
            }
            let certificates = match &server.choosers.chosen_by {
                Some(chooser) => chooser::chosen_by(chooser),
                None if own.variables => CHOSEN_LATER,
                None => certificates(loader, &server.handle),
            };
            let trust = loader.trust(settings.around.trusted.as_ref());
            context_of.insert(position, built.deployment.contexts.len());
            built.contexts.push(&server.handle);
            built.kept.push(settings.around.keep.unwrap_or(true));
            built.deployment.contexts.push(Context { certificates, trust });
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
        let OutsideServer { kind, names, .. } = &self.servers[server];
        let certificates = context.map(|context| &deployment.contexts[context].certificates);
        let names = if alone { certified(certificates) } else { names.clone() };
        let place = format!("{kind} {}", address.text);
        let label = match names.first() {
            Some(name) => format!("{name} ({place})"),
            None => place,
        };
        Host { check: settings.check, ..Host::new(label, names, Vec::new()) }
    }

    /// Reports servers that cannot be checked.
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

    /// Findings about servers whose certificates are not known.
    fn unlooked_at(
        &self,
        deployment: &Deployment,
        context_of: &HashMap<usize, usize>,
        first: &HashMap<usize, &str>,
    ) -> Vec<Noticed> {
        let records = deployment.records.as_ref();
        let directories = records.map_or_else(|| "-d DIR".to_owned(), Records::options);
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
            // The same label as that of its host.
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
                    "if clients hold pins for this port, check each new certificate: hpkp published \
                     {directories} why HOST --cert FILE"
                )),
                at: server.at.clone(),
            });
        }
        noticed
    }

    /// Findings about servers whose certificates other code can replace.
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
            if let Some(chooser) = &server.choosers.replaced_by {
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
    let chains = certificates.map(Certificates::loaded).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for name in chains.iter().map(Chain::leaf).flat_map(|leaf| leaf.dns_names()) {
        if !names.contains(name) {
            names.push(name.to_string());
        }
    }
    names
}
