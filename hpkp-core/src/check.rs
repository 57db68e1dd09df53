//! The check: policies against what a server presents, for all its hosts at once.
//!
//! A pure function of its input, so that the modules and the command give the same answer.

mod certificates;
mod closed;
mod compromised;
mod dane;
mod dane_messages;
mod digest;
mod input;
mod keywords;
mod live;
mod messages;
mod name_set;
mod nameless;
mod new_names;
mod new_pins;
mod not_here;
mod other_hashes;
mod policies;
mod presented;
mod record_messages;
mod records;
mod routing;
mod unchanged;
mod verdict;

use std::collections::{HashMap, HashSet};

use crate::finding::{Check, Class, Code, Text};
use crate::header::Kind;
use crate::path::{Paths, Verified, VerifySignature};
use crate::pin::Pin;
use crate::policy::Policy;
use messages::{Findings, Found, Scope};
use other_hashes::Mistaken;
use records::Published;

pub use digest::digest;
pub use input::{
    Alarm, Certificates, Context, Deployment, Host, Names, NotServedHere, Noticed, PolicyUse,
    Records, Serving, Skipped, TrustSetting,
};
pub use name_set::NameSet;
pub(crate) use records::sorted;
pub use routing::{Choice, Listener, NamePattern};
pub use verdict::{HostVerdict, SeenName, Sending, Verdict};

/// Checks `deployment` as it is at `now`, in seconds since 1970 UTC. `verify` is the server's own
/// library.
#[must_use]
pub fn check(deployment: &Deployment, now: i64, verify: &dyn VerifySignature) -> Verdict {
    let verified = Verified::new(verify);
    let paths: Vec<Vec<Paths>> = deployment
        .contexts
        .iter()
        .map(|context| match &context.certificates {
            Certificates::Loaded(chains) => chains
                .iter()
                .map(|chain| Paths::build(chain, &context.trust.trust, &verified, now))
                .collect(),
            _ => Vec::new(),
        })
        .collect();
    let is_asked = !deployment.listeners.is_empty() || deployment.records.is_some();
    let mut published = is_asked.then(|| Published::new(deployment, &paths, &verified, now));
    let mut hosts = match &mut published {
        Some(published) => published.describe(deployment),
        None => vec![HostVerdict::default(); deployment.hosts.len()],
    };
    let mut checker = Checker {
        deployment,
        published: published.as_ref(),
        policies: deployment.policies.iter().map(|policy| (policy.name(), policy)).collect(),
        paths: &paths,
        findings: Findings::default(),
        mistaken: other_hashes::mistaken(deployment),
        withheld: HashSet::new(),
        alarms: vec![Vec::new(); deployment.hosts.len()],
        withheld_before: Vec::new(),
    };
    checker.withheld_before = checker.withheld_before();
    let mut enforced = checker.check_uses(Kind::Enforced);
    let report_only = checker.check_uses(Kind::ReportOnly);
    checker.check_trusted();
    checker.check_compromised();
    checker.check_published(&mut enforced, now);
    checker.report_noticed();
    let sending = enforced.into_iter().zip(report_only).zip(checker.alarms);
    for (host, ((enforced, report_only), alarms)) in hosts.iter_mut().zip(sending) {
        (host.enforced, host.report_only, host.alarms) = (enforced, report_only, alarms);
    }
    Verdict { findings: checker.findings.finish(), hosts }
}

struct Checker<'a> {
    deployment: &'a Deployment,
    /// Which names lead where, and what the records say.
    published: Option<&'a Published<'a>>,
    policies: HashMap<&'a str, &'a Policy>,
    /// For each context, of each of its chains.
    paths: &'a [Vec<Paths>],
    findings: Findings,
    /// Pins that are the hash of something other than a key.
    mistaken: HashMap<Pin, Mistaken>,
    /// Hosts whose field of a kind is not sent, by position.
    withheld: HashSet<(usize, Kind)>,
    /// For each host, its lock-outs and unsure answers.
    alarms: Vec<Vec<Alarm>>,
    /// For each host, whether it goes on without its header for a lock-out that stood before.
    withheld_before: Vec<bool>,
}

/// The hosts (by position) that use one policy for one field.
type Uses<'a> = Vec<(usize, &'a PolicyUse)>;

impl<'a> Checker<'a> {
    fn uses(&self, kind: Kind) -> impl Iterator<Item = (usize, &'a PolicyUse)> + use<'a> {
        self.deployment.hosts.iter().enumerate().filter_map(move |(position, host)| {
            let policy_use = match kind {
                Kind::Enforced => &host.enforced,
                Kind::ReportOnly => &host.report_only,
            };
            policy_use.as_ref().map(|policy_use| (position, policy_use))
        })
    }

    /// Records a finding of one host, and withholds the host's field where its class says so.
    fn find<T: Into<Text>>(
        &mut self,
        scope: Scope<'_>,
        kind: Kind,
        host: usize,
        code: Code,
        summary: impl FnOnce() -> T,
    ) {
        let about_pins = matches!(code.class(), Class::Lockout | Class::Withhold);
        let class = match kind {
            Kind::ReportOnly if about_pins => Class::Warning,
            _ => code.class(),
        };
        self.find_as(scope, kind, host, (code, class), summary);
    }

    /// The same, for a finding whose class is not that of its code.
    fn find_as<T: Into<Text>>(
        &mut self,
        scope: Scope<'_>,
        kind: Kind,
        host: usize,
        (code, class): (Code, Class),
        summary: impl FnOnce() -> T,
    ) {
        let alarm = Alarm { code, name: None };
        self.find_for(scope, kind, host, (code, class), vec![alarm], summary);
    }

    /// The same, for a finding that is about some of the host's names: an alarm for each.
    fn find_for<T: Into<Text>>(
        &mut self,
        scope: Scope<'_>,
        kind: Kind,
        host: usize,
        (code, class): (Code, Class),
        alarms: Vec<Alarm>,
        summary: impl FnOnce() -> T,
    ) {
        let accepted = &self.deployment.hosts[host].accepted;
        let is_accepted = !alarms.is_empty() && alarms.iter().all(|alarm| accepted.contains(alarm));
        if class != Class::Warning {
            self.withheld.insert((host, kind));
        }
        // What is found of the policy, that is, and not of pins that clients hold: these tell for each
        // name and port whether it is as before.
        let is_of_policy =
            |alarm: &Alarm| alarm.name.as_ref().is_none_or(|(_, _, port)| port.is_none());
        let is_withheld = class == Class::Lockout
            && alarms.iter().all(is_of_policy)
            && (self.withheld_before.get(host).is_some_and(|before| *before)
                // Nobody comes there to be refused, and no record can tell whether it is as before.
                || self.published.is_some_and(|published| published.routing.is_unreached(host)));
        if matches!(class, Class::Lockout | Class::Unsure) {
            self.alarms[host].extend(alarms);
        }
        let host = &self.deployment.hosts[host];
        let check = if is_accepted || is_withheld { Check::Warn } else { host.check };
        let has_header = host.enforced.is_some() || host.report_only.is_some();
        self.findings.add(scope, Found { code, class, check, has_header }, &host.label, summary);
    }

    fn withheld_before(&self) -> Vec<bool> {
        let Some(published) = self.published else { return Vec::new() };
        let hosts = self.deployment.hosts.iter().enumerate();
        let is_before = hosts.map(|(position, host)| {
            let policy = host.enforced.as_ref();
            let policy = policy.and_then(|policy| self.policies.get(policy.policy.as_str()));
            policy.is_some_and(|policy| published.is_withholding_unchanged(position, policy))
        });
        is_before.collect()
    }

    /// What the server's module found by itself.
    fn report_noticed(&mut self) {
        for Noticed { code, label, text, at } in &self.deployment.noticed {
            // Where pins are held for the server, that has a finding of its own, which is graver.
            let is_known = |label: &str| self.findings.has(Code::CertificateNotKnownAtLoad, label);
            if *code == Code::TlsServerNotChecked && is_known(label) {
                continue;
            }
            let scope = Scope { policy: &text.what, kind: Kind::Enforced, at, each_place: false };
            let class = code.class();
            let found = Found { code: *code, class, check: Check::Refuse, has_header: false };
            self.findings.add(scope, found, label, || text.clone());
        }
    }
}
