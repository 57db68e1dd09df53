//! The state of a running check: its findings, and their consequence for each host.

use std::collections::{HashMap, HashSet};

use super::messages::{Findings, Found, Mistaken, Scope};
use super::records::Published;
use super::{Alarm, Deployment, Noticed, PolicyUse};
use crate::finding::{Check, Class, Code, Text};
use crate::header::Kind;
use crate::path::Paths;
use crate::pin::Pin;
use crate::policy::Policy;

/// The state of a running check. The other modules of the check add methods to it.
pub(super) struct Checker<'a> {
    pub(super) deployment: &'a Deployment,
    /// Which block answers for which name, and the records.
    pub(super) published: Option<&'a Published<'a>>,
    pub(super) policies: HashMap<&'a str, &'a Policy>,
    /// For each context, the paths of each of its chains.
    pub(super) paths: &'a [Vec<Paths>],
    pub(super) findings: Findings,
    /// Pins that are the hash of something other than a key.
    pub(super) mistaken: HashMap<Pin, Mistaken>,
    /// Hosts whose field of a kind is not sent, by position.
    pub(super) withheld: HashSet<(usize, Kind)>,
    /// For each host, its lock-outs and unsure answers.
    pub(super) alarms: Vec<Vec<Alarm>>,
    /// For each host, whether its header was already withheld for this lock-out before.
    pub(super) withheld_before: Vec<bool>,
}

/// The hosts (by position) that use one policy for one field.
pub(super) type Uses<'a> = Vec<(usize, &'a PolicyUse)>;

impl<'a> Checker<'a> {
    pub(super) fn uses(
        &self,
        kind: Kind,
    ) -> impl Iterator<Item = (usize, &'a PolicyUse)> + use<'a> {
        self.deployment.hosts.iter().enumerate().filter_map(move |(position, host)| {
            let policy_use = match kind {
                Kind::Enforced => &host.enforced,
                Kind::ReportOnly => &host.report_only,
            };
            policy_use.as_ref().map(|policy_use| (position, policy_use))
        })
    }

    /// Records a finding of one host, and withholds the host's field where its class says so.
    pub(super) fn find<T: Into<Text>>(
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
    pub(super) fn find_as<T: Into<Text>>(
        &mut self,
        scope: Scope<'_>,
        kind: Kind,
        host: usize,
        (code, class): (Code, Class),
        summary: impl FnOnce() -> T,
    ) {
        let alarm = Alarm::new(code, None);
        self.find_for(scope, kind, host, (code, class, false), vec![alarm], summary);
    }

    /// The same, for a finding that is about some of the host's names: an alarm for each. `is_kept` says that the
    /// header was withheld before for the same reason, so that a refusal would protect nobody.
    pub(super) fn find_for<T: Into<Text>>(
        &mut self,
        scope: Scope<'_>,
        kind: Kind,
        host: usize,
        (code, class, is_kept): (Code, Class, bool),
        alarms: Vec<Alarm>,
        summary: impl FnOnce() -> T,
    ) {
        let accepted = &self.deployment.hosts[host].accepted;
        let is_accepted = !alarms.is_empty() && alarms.iter().all(|alarm| alarm.is_among(accepted));
        if class != Class::Warning {
            self.withheld.insert((host, kind));
        }
        // Findings about the policy itself name no port. Those about pins that clients hold compare each name and
        // port with the last accepted configuration by themselves.
        let is_of_policy =
            |alarm: &Alarm| alarm.name.as_ref().is_none_or(|(_, _, port)| port.is_none());
        let is_withheld = class == Class::Lockout
            && alarms.iter().all(is_of_policy)
            && (self.is_withheld_before(host)
                // No client reaches the block, and no record of it says whether it is unchanged.
                || self.published.is_some_and(|published| published.routing.is_unreached(host)));
        if matches!(class, Class::Lockout | Class::Unsure) {
            self.alarms[host].extend(alarms);
        }
        let host = &self.deployment.hosts[host];
        let is_passing = is_accepted || is_withheld || is_kept;
        let check = if is_passing { Check::Warn } else { host.check };
        let has_header = host.enforced.is_some() || host.report_only.is_some();
        self.findings.add(scope, Found { code, class, check, has_header }, &host.label, summary);
    }

    /// Whether the last accepted configuration withheld the header of a host, which has the same policy and presents
    /// the same.
    pub(super) fn is_withheld_before(&self, host: usize) -> bool {
        self.withheld_before.get(host).is_some_and(|before| *before)
    }

    pub(super) fn withheld_before(&self) -> Vec<bool> {
        let Some(published) = self.published else { return Vec::new() };
        let hosts = self.deployment.hosts.iter().enumerate();
        let is_before = hosts.map(|(position, host)| {
            let policy = host.enforced.as_ref();
            let policy = policy.and_then(|policy| self.policies.get(policy.policy.as_str()));
            policy.is_some_and(|policy| published.is_withholding_unchanged(position, policy))
        });
        is_before.collect()
    }

    /// Adds the findings of the server's module.
    pub(super) fn report_noticed(&mut self) {
        for Noticed { code, label, text, at } in &self.deployment.noticed {
            // If clients hold pins for the server, the graver finding about its certificates is enough.
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
