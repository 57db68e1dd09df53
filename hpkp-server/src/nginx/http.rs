//! The server blocks of `http`, their addresses, and which of them clients can reach.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use hpkp_core::check::{Certificates, Choice, Context, Host, Listener, NamePattern};
use hpkp_core::finding::{Check, Code, Finding, Location, Text};
use hpkp_core::text::Excerpt;

use super::address::{Address, Own, ServerKey};
use super::built::Built;
use super::chooser::{CHOSEN_LATER, Choosers, can_replace, chosen_by};
use super::guard::{self, GuardUse};
use crate::loader::Loader;
use crate::public_port::PublicPorts;
use crate::setting::{GlobalSettings, ServerSettings};

/// All server blocks and their addresses.
#[derive(Debug)]
pub struct Servers<H> {
    /// The servers in the order of the configuration.
    pub all: Vec<Server<H>>,
    /// The addresses on TLS, with the ports by which clients reach them.
    pub listeners: Vec<Listener>,
    /// The port numbers and texts of these addresses.
    pub listening: Vec<(u16, String)>,
}

/// A server block.
#[derive(Debug)]
pub struct Server<H> {
    /// The handle of its reader.
    pub handle: H,
    /// Its names.
    pub names: Vec<String>,
    /// The names by which nginx finds it, including the empty name of requests without a host.
    claims: Vec<String>,
    patterns: Vec<Rc<dyn NamePattern>>,
    /// The addresses on which it listens.
    pub addresses: Vec<String>,
    /// Its name in messages.
    pub label: String,
    /// Whether clients reach it on TLS.
    pub tls: bool,
    /// What the server does about a lock-out or an unsure answer.
    pub check: Check,
    /// Where its block begins, if its reader knows it.
    pub at: Option<Location>,
    /// Its directives.
    pub settings: ServerSettings,
    /// Directives of other modules that choose or replace the certificate.
    pub choosers: Choosers,
    /// Its own certificates, if it has some.
    pub own: Option<Own>,
    /// The servers (by position) whose certificates its clients may get: itself, or if it has no certificates, the
    /// default servers of its addresses.
    pub presents: Vec<usize>,
}

impl<H> Servers<H> {
    /// Servers without addresses.
    #[must_use]
    pub fn new(all: Vec<Server<H>>) -> Self {
        Self { all, listeners: Vec::new(), listening: Vec::new() }
    }

    /// Adds an address of the configuration.
    pub fn add_address(&mut self, address: &Address, public_ports: &PublicPorts) {
        let Address { text, port, tls, servers: hosts, default, .. } = address;
        if *tls {
            let mut patterns = Vec::new();
            for host in hosts {
                let own = self.all[*host].patterns.iter();
                patterns.extend(own.map(|pattern| (*host, pattern.clone())));
            }
            for port in public_ports.of(*port, text) {
                self.listeners.push(Listener {
                    address: Some(address.on_record()),
                    patterns: patterns.clone(),
                    ..Listener::new(port, Choice::Nginx, hosts.clone(), *default)
                });
            }
            self.listening.push((*port, text.clone()));
        }
        let mut claimed = HashSet::new();
        for position in hosts.iter().copied() {
            // nginx chooses the first block that has a name. A block whose names all belong to earlier blocks is never
            // chosen, unless it is the default.
            let names = self.all[position].claims.iter().filter(|name| Choice::Nginx.finds(name));
            let is_asked =
                names.filter(|name| claim(&mut claimed, name)).count() > 0 || position == *default;
            let server = &mut self.all[position];
            server.addresses.push(text.clone());
            if server.label.is_empty() {
                server.label.clone_from(&server.addresses[0]);
            }
            if !tls {
                continue;
            }
            server.tls = true;
            if !is_asked {
                continue;
            }
            let chosen = if server.own.is_some() { position } else { *default };
            if !server.presents.contains(&chosen) {
                server.presents.push(chosen);
            }
        }
    }

    /// Whether a server uses a policy.
    #[must_use]
    pub fn any_policy(&self) -> bool {
        self.all.iter().any(|server| server.settings.uses_policy())
    }

    /// Whether a server presents the certificates of a guard.
    #[must_use]
    pub fn any_guard(&self) -> bool {
        self.all.iter().any(|server| {
            server.settings.guard.is_some()
                || server.own.is_some_and(|own| own.guard != GuardUse::None)
        })
    }

    /// Adds the hosts and their certificates.
    pub(super) fn add_to<'a, 'l>(
        &'a self,
        built: &mut Built<'a, H>,
        global: &GlobalSettings,
        loader: &mut Loader<'l>,
        certificates: &mut impl FnMut(&mut Loader<'l>, &H) -> Certificates,
    ) {
        let mut context_of = HashMap::new();
        for (position, server) in self.all.iter().enumerate() {
            let Some(own) = server.own.filter(|own| server.tls && !own.rejects) else { continue };
            context_of.insert(position, built.deployment.contexts.len());
            built.contexts.push(&server.handle);
            built.kept.push(server.settings.keep.unwrap_or(true));
            let is_kept = global.keep.is_some() && server.settings.keep.unwrap_or(true);
            let certificates = server
                .chosen_later(own, is_kept)
                .unwrap_or_else(|| certificates(loader, &server.handle));
            let trust = loader.trust(server.settings.trusted.as_ref());
            built.deployment.contexts.push(Context { certificates, trust });
        }
        for server in &self.all {
            if server.settings.unguarded {
                built.deployment.unguarded.insert(built.deployment.hosts.len());
            }
            if let Some(key) = server.settings.renewal_key {
                built.deployment.renewal_keys.insert(built.deployment.hosts.len(), key);
            }
            let [enforced, report_only] = server.settings.policies().map(Option::<&_>::cloned);
            let presents = server.presents.iter().filter(|p| context_of.contains_key(p));
            let mut is_guarded = presents.map(|p| self.all[*p].is_guarded()).peekable();
            if is_guarded.peek().is_some() && is_guarded.all(|is_guarded| is_guarded) {
                built.deployment.guarded.insert(built.deployment.hosts.len());
            }
            let contexts = server.presents.iter().filter_map(|p| context_of.get(p)).copied();
            built.deployment.hosts.push(Host {
                tls: server.tls,
                check: server.check,
                enforced,
                report_only,
                ..Host::new(server.label.clone(), server.names.clone(), contexts.collect())
            });
            built.checks.push(server.settings.check.unwrap_or_default());
            built.keys.push(server.is_checked(global).then(|| server.key()));
        }
    }

    /// Findings about servers where code of another module can replace the certificate, one for each place of such
    /// code. The loaded certificate is checked nevertheless, because that code has other purposes.
    pub(super) fn may_be_replaced(
        &self,
        global: &GlobalSettings,
        unseen_choosers: &[PathBuf],
    ) -> Vec<Finding> {
        let mut findings: Vec<(Finding, HashSet<String>)> = Vec::new();
        let mut find = |at: &Location, by: &str, label: &str| {
            let text = Text::new(format!(
                "{}, and no header is sent on a connection with another one",
                can_replace(by)
            ));
            let is_same =
                |(known, _): &(Finding, HashSet<String>)| known.at == *at && known.text == text;
            let index = findings.iter().position(is_same);
            let index = index.unwrap_or_else(|| {
                let code = Code::CertificateMayBeReplaced;
                findings.push((Finding::new(code, at.clone(), text), HashSet::new()));
                findings.len() - 1
            });
            let (finding, labels) = &mut findings[index];
            if labels.insert(label.to_owned()) {
                finding.add_host(label);
            }
        };
        for server in self.all.iter().filter(|server| server.is_checked(global) && server.tls) {
            let own = |position: &usize| Some(&self.all[*position]).filter(|own| own.is_loaded());
            let presents: Vec<&Server<H>> = server.presents.iter().filter_map(own).collect();
            let choosers = presents.iter().filter_map(|own| own.choosers.replaced_by.as_ref());
            for chooser in choosers {
                find(&chooser.at, &chooser.directive, &server.label);
            }
            let policy =
                server.settings.policies().into_iter().flatten().next().map(|policy| &policy.at);
            let at = global.published.first().map(|records| &records.at).or(policy);
            let Some(at) = at.filter(|_| !presents.is_empty()) else { continue };
            for module in unseen_choosers {
                let path = Excerpt::new(module.as_os_str().as_bytes());
                find(at, &format!("the module in {path}"), &server.label);
            }
        }
        findings.into_iter().map(|(finding, _)| finding).collect()
    }

    /// Findings about guards that are used wrongly: variables without a value, and guards whose variables are not used.
    /// `around` are the settings of `http`.
    pub(super) fn misused_guards(&self, around: &ServerSettings) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |code, at: &Location, label: &str, text: Text| {
            let mut finding = Finding::new(code, at.clone(), text);
            finding.add_host(label);
            findings.push(finding);
        };
        for server in &self.all {
            let (guard, own) = (server.settings.guard.as_ref(), server.own.unwrap_or_default());
            let label = &server.label;
            let text = match (guard, own.guard) {
                (_, GuardUse::Misplaced) => guard::misplaced(),
                (_, GuardUse::Beside) => guard::beside(),
                (None, GuardUse::Whole) => guard::missing(),
                (Some(guard), GuardUse::None) if guard.own => {
                    find(Code::GuardNotUsed, &guard.at, label, guard::not_used());
                    continue;
                }
                _ => continue,
            };
            let at = server.at.as_ref().or(guard.map(|guard| &guard.at));
            let Some(at) = at else { continue };
            find(Code::GuardVariableMisplaced, at, label, text);
        }
        let is_used = self.all.iter().any(|server| {
            server.is_guarded() && server.settings.guard.as_ref().is_some_and(|guard| !guard.own)
        });
        if let Some(guard) = around.guard.as_ref().filter(|_| !is_used) {
            find(Code::GuardNotUsed, &guard.at, "-", guard::not_used());
        }
        findings
    }
}

/// Whether nginx gives a block this name; `claimed` are those that the address has given before.
fn claim(claimed: &mut HashSet<String>, name: &str) -> bool {
    let Some(domain) = name.strip_prefix('.') else { return claimed.insert(name.to_owned()) };
    // `.example.com` is two names, and nginx ignores both where a block before has either. It first compares the domain:
    // if a block before has it, the wildcard stays free for later blocks. Otherwise no later block gets the domain.
    claimed.insert(domain.to_owned()) && claimed.insert(format!("*.{domain}"))
}

impl<H> Server<H> {
    /// A server with these names, in nginx's form: `~` precedes a regular expression, and the name for requests
    /// without a host is empty. It has no addresses yet.
    #[must_use]
    pub fn new(
        handle: H,
        claims: Vec<String>,
        patterns: Vec<Rc<dyn NamePattern>>,
        (settings, choosers): (ServerSettings, Choosers),
        own: Option<Own>,
    ) -> Self {
        let names: Vec<String> = claims.iter().filter(|name| !name.is_empty()).cloned().collect();
        Self {
            handle,
            label: names.first().cloned().unwrap_or_default(),
            names,
            claims,
            patterns,
            addresses: Vec::new(),
            tls: false,
            check: settings.check.unwrap_or_default(),
            at: None,
            settings,
            choosers,
            own,
            presents: Vec::new(),
        }
    }

    /// Whether it presents the certificates that were loaded, according to its directives.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        let own = self.own.filter(|own| !own.variables && !own.rejects);
        own.is_some() && self.choosers.chosen_by.is_none()
    }

    /// The key that identifies it.
    #[must_use]
    pub fn key(&self) -> ServerKey {
        // nginx sorts its lists of addresses at the end of `http`, so their order may change.
        let mut addresses = self.addresses.clone();
        addresses.sort();
        ServerKey { names: self.names.clone(), addresses }
    }

    /// Whether its certificates are compared with pins.
    #[must_use]
    pub fn is_checked(&self, global: &GlobalSettings) -> bool {
        self.settings.uses_policy() || !global.published.is_empty()
    }

    /// The certificates of the server if they are not known when the configuration is read.
    fn chosen_later(&self, own: Own, is_kept: bool) -> Option<Certificates> {
        let chooser = self.choosers.chosen_by.as_ref();
        let guarded = self.is_guarded().then(|| guard::guarded(is_kept));
        chooser.map(chosen_by).or(guarded).or(own.variables.then_some(CHOSEN_LATER))
    }

    /// Whether it presents only the certificates of a guard.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.choosers.chosen_by.is_none()
            && self.settings.guard.is_some()
            && self.own.is_some_and(|own| own.guard == GuardUse::Whole && !own.rejects)
    }
}
