//! Asks the core's check about one certificate for one host, and remembers the answer.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use hpkp_core::check::{
    Alarm, Certificates, Choice, Context, Deployment, Host, Listener, PolicyUse, Records,
    TrustSetting, check,
};
use hpkp_core::finding::{Check, Class, Code, Location};
use hpkp_core::published::{Fingerprint, HostName, Matching};

use super::given::{Given, Pair, PairText};
use super::sight::Sight;
use crate::kept::index::HostPort;
use crate::openssl::OpenSsl;

/// The most certificates, and the most answers, that a worker remembers. Beyond that it forgets all of them.
const MAX_KNOWN: usize = 256;

/// How long an answer is valid, in seconds: a certificate that expires may change the paths.
const TTL: i64 = 3600;

/// A server whose certificate is guarded.
#[derive(Clone, Debug)]
pub struct GuardedHost {
    /// Its name in messages.
    pub label: String,
    /// Its names.
    pub names: Vec<String>,
    /// The ports by which clients reach it.
    pub ports: Vec<u16>,
    /// The trust anchors of its clients.
    pub trust: Arc<TrustSetting>,
    /// What the guard does about a lock-out.
    pub check: Check,
    /// Its policy.
    pub enforced: Option<PolicyUse>,
    /// Whether certificates that clients accept are kept in a file.
    pub is_kept: bool,
    /// The directive that guards the server.
    pub at: Location,
}

impl GuardedHost {
    /// The place of the last good certificate for one of its names.
    #[must_use]
    pub fn slot(&self, name: &str) -> HostPort {
        let port = self.ports.iter().min().copied().unwrap_or(0);
        HostPort { name: name.to_owned(), port }
    }
}

/// The findings about a certificate for a host.
#[derive(Debug)]
pub(super) struct Judged {
    /// The lock-outs and unsure answers.
    pub(super) alarms: Vec<Alarm>,
    /// The lines about them for messages.
    pub(super) reasons: Vec<String>,
    at: i64,
}

/// Compares certificates with pins.
pub struct Judge {
    pub(super) openssl: OpenSsl,
    pub(super) hosts: Vec<GuardedHost>,
    /// The policies and records. The only host and context are those of the current question.
    deployment: Deployment,
    sight: Sight,
    /// The hosts for which there are records.
    recorded: HashSet<String>,
    pairs: HashMap<Fingerprint, Rc<Pair>>,
    /// The answers by host, name and certificate.
    judged: HashMap<(usize, Box<str>, Fingerprint), Rc<Judged>>,
}

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Judge {
    /// A judge with the policies and records of `deployment`, which has just taken effect. `sight` was taken before the
    /// records were read.
    #[must_use]
    pub fn new(
        openssl: OpenSsl,
        hosts: Vec<GuardedHost>,
        deployment: Deployment,
        sight: Sight,
    ) -> Self {
        let mut records = deployment.records;
        if let Some(records) = &mut records {
            // The records do not contain what this server presents for guarded hosts.
            (records.writer, records.unrecorded) = (None, None);
            at_handshake(records);
        }
        let deployment = Deployment {
            policies: deployment.policies,
            names: deployment.names,
            not_served_here: deployment.not_served_here,
            records,
            ..Deployment::default()
        };
        let recorded = recorded(deployment.records.as_ref());
        let (pairs, judged) = (HashMap::new(), HashMap::new());
        Self { openssl, hosts, deployment, sight, recorded, pairs, judged }
    }

    /// Where the records are, for the commands of messages.
    pub(super) fn records(&self) -> Option<String> {
        self.deployment.records.as_ref().map(|records| records.options())
    }

    pub(super) fn state(&self) -> Option<&hpkp_core::published::State> {
        self.deployment.records.as_ref().map(|records| &records.state)
    }

    /// Reads the records again if they have changed. They are examined at intervals, or if `must_look`.
    ///
    /// # Errors
    /// Why the records cannot be read; those that were read before stay in use.
    pub(super) fn refresh(&mut self, now: i64, must_look: bool) -> Result<(), String> {
        if let Some(mut records) = self.sight.look(now, must_look)? {
            records.writer = None;
            at_handshake(&mut records);
            self.recorded = recorded(Some(&records));
            self.deployment.records = Some(records);
            self.judged.clear();
        }
        if let Some(heard) = self.sight.heard(now, must_look) {
            if let Some(records) = &mut self.deployment.records {
                records.freshness = heard;
                at_handshake(records);
                self.judged.clear();
            }
        }
        Ok(())
    }

    /// The parsed pair of a given certificate.
    pub(super) fn given(&mut self, given: &Given<'_>) -> Rc<Pair> {
        self.pair(given.id(), || Some(given.text())).unwrap_or_else(|| {
            // The closure always returns a text, so there is a pair.
            Rc::new(Pair::new(given.text(), &self.openssl))
        })
    }

    /// The parsed pair of the certificate with this id.
    pub(super) fn pair(
        &mut self,
        id: Fingerprint,
        text: impl FnOnce() -> Option<PairText>,
    ) -> Option<Rc<Pair>> {
        if let Some(pair) = self.pairs.get(&id) {
            return Some(pair.clone());
        }
        let pair = Rc::new(Pair::new(text()?, &self.openssl));
        // The writer of the entry may have named it with another id.
        if pair.id != id {
            return None;
        }
        if self.pairs.len() >= MAX_KNOWN {
            self.pairs.clear();
        }
        self.pairs.insert(id, pair.clone());
        Some(pair)
    }

    /// The name under which a certificate is checked: a name of the server, of the certificate or of the
    /// records, or the pattern of the certificate that matches it, or none. Clients choose the name that
    /// they send, which must not cause many checks.
    pub(super) fn asked(&self, host: usize, name: &str, pair: Option<&Pair>) -> String {
        let host = &self.hosts[host];
        let names = pair.and_then(Pair::leaf).map(|leaf| leaf.accepted_names());
        let is_certified =
            |name: &str| names.unwrap_or_default().iter().any(|own| own.eq_ignore_ascii_case(name));
        let is_own = host.names.iter().any(|own| own.eq_ignore_ascii_case(name));
        let is_known = is_own || is_certified(name) || self.recorded.contains(name);
        match pattern(name) {
            _ if is_known && !name.is_empty() => name.to_owned(),
            Some(pattern) if is_certified(&pattern) => pattern,
            _ => String::new(),
        }
    }

    /// The place in the store for the last good certificate of such a name.
    pub(super) fn slot(&self, host: usize, asked: &str) -> HostPort {
        self.hosts[host].slot(asked)
    }

    /// The findings about a certificate for clients that name this host, or none.
    pub(super) fn judge(&mut self, host: usize, name: &str, pair: &Pair, now: i64) -> Rc<Judged> {
        let key = (host, Box::from(name), pair.id);
        let is_fresh = |judged: &&Rc<Judged>| (0..TTL).contains(&now.saturating_sub(judged.at));
        if let Some(judged) = self.judged.get(&key).filter(is_fresh) {
            return judged.clone();
        }
        let judged = Rc::new(self.ask(host, name, pair, now));
        if self.judged.len() >= MAX_KNOWN {
            self.judged.clear();
        }
        self.judged.insert(key, judged.clone());
        judged
    }

    fn ask(&mut self, position: usize, name: &str, pair: &Pair, now: i64) -> Judged {
        let host = &self.hosts[position];
        let mut judged = Judged { alarms: Vec::new(), reasons: Vec::new(), at: now };
        let Ok(chain) = &pair.chain else { return judged };
        let named = (!name.is_empty()).then(|| vec![name.to_owned()]);
        let deployment = &mut self.deployment;
        deployment.contexts = vec![Context {
            certificates: Certificates::Loaded(vec![chain.clone()]),
            trust: host.trust.clone(),
        }];
        deployment.hosts = vec![Host {
            enforced: host.enforced.clone(),
            ..Host::new(host.label.clone(), named.unwrap_or_else(|| host.names.clone()), vec![0])
        }];
        let listener = |port: &u16| Listener::new(*port, Choice::Nginx, vec![0], 0);
        deployment.listeners = host.ports.iter().map(listener).collect();
        let verdict = check(deployment, now, &self.openssl);
        let is_asked = |alarm: &Alarm| is_about(alarm, name);
        let alarms = verdict.hosts.into_iter().flat_map(|host| host.alarms).filter(is_asked);
        judged.alarms = alarms.collect();
        if !judged.alarms.is_empty() {
            let grave = verdict.findings.iter().filter(|finding| {
                matches!(finding.class, Class::Lockout | Class::Unsure)
                    && judged.alarms.iter().any(|alarm| alarm.code == finding.code)
            });
            judged.reasons =
                grave.map(|finding| format!("[{}] {}", finding.code, finding.text.what)).collect();
        }
        judged
    }
}

/// Notes that certificates arrive one by one at the handshake.
fn at_handshake(records: &mut Records) {
    records.freshness.iter_mut().for_each(|freshness| freshness.at_handshake = true);
}

/// The hosts for which there are records.
fn recorded(records: Option<&Records>) -> HashSet<String> {
    let all = records.into_iter().flat_map(|records| records.state.published());
    all.map(|record| record.body.host.as_str().to_owned()).collect()
}

/// Whether an alarm is about this certificate, for clients that name this host or a host of this pattern.
fn is_about(alarm: &Alarm, name: &str) -> bool {
    // Another certificate here does not change what other blocks and servers present.
    if matches!(alarm.code, Code::SameHostPinMismatch | Code::PeerServerPinMismatch) {
        return false;
    }
    let Some((host, matching, _)) = &alarm.name else { return true };
    let (name, is_pattern) = match name.strip_prefix("*.") {
        Some(domain) => (domain, true),
        None => (name, false),
    };
    let Ok(name) = name.parse::<HostName>() else { return true };
    let mut above = name.parents();
    match matching {
        Matching::Exact => !is_pattern && *host == name,
        Matching::OneLabel if is_pattern => *host == name,
        Matching::OneLabel => above.next() == Some(host.as_str()),
        Matching::AnyDepth => *host == name || above.any(|parent| parent == host.as_str()),
    }
}

/// The wildcard that matches a name.
fn pattern(name: &str) -> Option<String> {
    name.split_once('.').map(|(_, rest)| format!("*.{rest}"))
}
