//! The check: policies against what a server presents, for all its hosts at once.
//!
//! A pure function of its input, so that the modules and the command give the same answer.

mod closed;
mod compromised;
mod dane;
mod dane_messages;
mod keywords;
mod live;
mod messages;
mod name_set;
mod new_names;
mod new_pins;
mod not_here;
mod other_hashes;
mod record_messages;
mod records;
mod routing;
mod unchanged;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::finding::{Check, Class, Code, Finding, Location, Text};
use crate::header::{self, Header, Kind};
use crate::max_age::MaxAge;
use crate::path::{Chain, Match, Paths, Trust, Verified, VerifySignature};
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::{HostName, Matching, Presented};
use crate::text::Excerpt;
use messages::{Findings, Found, Scope};
use other_hashes::Mistaken;
use records::Published;

pub use name_set::NameSet;
pub use records::Records;
pub(crate) use records::sorted;
pub use routing::{Choice, Listener, NamePattern};

/// All that a configuration says and has loaded.
#[derive(Debug, Default)]
pub struct Deployment {
    /// What the server loaded, one entry for each TLS context.
    pub contexts: Vec<Context>,
    /// The policies, with different names.
    pub policies: Vec<Policy>,
    /// The server blocks.
    pub hosts: Vec<Host>,
    /// What messages call the directives.
    pub names: Names,
    /// Where they answer on TLS. Without them no name leads to a block, and each block is held
    /// against its own policy alone.
    pub listeners: Vec<Listener>,
    /// What the records of published pins say; none where the caller has nothing to do with them.
    pub records: Option<Records>,
    /// Names that clients do not reach here, as the operator says (`hpkp_not_served_here`).
    pub not_served_here: Vec<NotServedHere>,
    /// What the server's module has found in the configuration itself.
    pub noticed: Vec<Noticed>,
}

/// A finding of the server's module about something that the core does not see.
#[derive(Clone, Debug)]
pub struct Noticed {
    /// The code, which gives the class.
    pub code: Code,
    /// What it is about, in place of a host.
    pub label: String,
    /// What was found. Findings of one code with the same text become one.
    pub text: Text,
    /// The directive.
    pub at: Location,
}

/// A name that the operator says is served elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotServedHere {
    /// The host, or the domain above the hosts.
    pub host: HostName,
    /// Which hosts are meant: this one, or those one label below it.
    pub matching: Matching,
    /// The one port that is meant; all where there is none.
    pub port: Option<u16>,
    /// Where the directive stands.
    pub at: Location,
}

/// The names of those directives of a server that findings speak of.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// How long clients remember a policy.
    pub max_age: &'static str,
    /// Where violation reports go.
    pub report_uri: &'static str,
    /// The file of trust anchors.
    pub trusted_certificate: &'static str,
    /// The directory with records.
    pub published_pins: &'static str,
    /// That a name is served elsewhere.
    pub not_served_here: &'static str,
    /// What makes a default server refuse clients of names that no server has, where there is such
    /// a directive.
    pub reject_handshake: Option<&'static str>,
}

impl Default for Names {
    /// nginx's.
    fn default() -> Self {
        Self {
            max_age: "max_age",
            report_uri: "report_uri",
            trusted_certificate: "hpkp_trusted_certificate",
            published_pins: "hpkp_published_pins",
            not_served_here: "hpkp_not_served_here",
            reject_handshake: Some("ssl_reject_handshake on"),
        }
    }
}

/// What one TLS context presents.
#[derive(Debug)]
pub struct Context {
    /// Its certificates.
    pub certificates: Certificates,
    /// Whom the clients of the server that owns it trust.
    pub trust: Arc<TrustSetting>,
}

/// The certificates of a TLS context.
#[derive(Debug)]
pub enum Certificates {
    /// One chain for each key: a server may have an RSA and an ECDSA certificate side by side.
    Loaded(Vec<Chain>),
    /// They are not known when the configuration is read.
    NotKnown {
        /// Why, as a clause.
        why: Cow<'static, str>,
        /// What can be done, as a clause.
        remedy: &'static str,
    },
    /// They are known at the start only, and this is a test; why, as a clause.
    Later(String),
    /// One of them cannot be used; the code and what is wrong.
    Unusable(Code, Text),
}

/// The anchors in force for a server, and what was wrong with reading them.
#[derive(Debug, Default)]
pub struct TrustSetting {
    /// The anchors that could be read.
    pub trust: Trust,
    /// The code, what is wrong, and the directive.
    pub problem: Option<(Code, Text, Location)>,
    /// What was left out of the anchors; the others are used.
    pub skipped: Vec<Skipped>,
}

/// Trusted certificates that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What is left out, the consequence, and each of them with its reason.
    pub text: Text,
    /// The directive; none where it is the system's store.
    pub at: Option<Location>,
}

/// A server block.
#[derive(Debug)]
pub struct Host {
    /// How it is called in messages: its first name, or where it listens.
    pub label: String,
    /// Its names as the server's configuration has them, wildcards included.
    pub names: Vec<String>,
    /// Whether it answers on TLS.
    pub tls: bool,
    /// The contexts (positions in [`Deployment::contexts`]) whose certificates its clients see.
    pub contexts: Vec<usize>,
    /// What is done when the answer is a lock-out or unsure.
    pub check: Check,
    /// The policy for `Public-Key-Pins`.
    pub enforced: Option<PolicyUse>,
    /// The policy for `Public-Key-Pins-Report-Only`.
    pub report_only: Option<PolicyUse>,
    /// What the running configuration goes on with in spite of, for this very host with the same
    /// keys and the same policy: refusing the new one would protect nobody, and would keep the
    /// other hosts from being renewed.
    pub accepted: Vec<Alarm>,
    /// The leaves that the running server presents for it while this configuration is a candidate
    /// to take its place; empty where nothing is serving yet.
    pub serving: Vec<Serving>,
}

/// A lock-out or an unsure answer that was found for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What was found.
    pub code: Code,
    /// The name for which it was, where it is about one: the same for another name is another matter.
    /// The port is none where it is found of a policy, whose pins hold for all.
    pub name: Option<(HostName, Matching, Option<u16>)>,
}

/// A leaf that is being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Its pin.
    pub pin: Pin,
    /// When it expires, to be shown.
    pub not_after: String,
}

/// A directive that puts a policy into use.
#[derive(Clone, Debug)]
pub struct PolicyUse {
    /// The policy's name.
    pub policy: String,
    /// Where the directive stands.
    pub at: Location,
    /// Whether it stands in this very server block, not in one around it.
    pub own: bool,
}

/// The answer.
#[derive(Debug)]
pub struct Verdict {
    /// What was found, the gravest class first.
    pub findings: Vec<Finding>,
    /// What to send, an entry for each of [`Deployment::hosts`].
    pub hosts: Vec<HostVerdict>,
}

/// What a host sends; `None` where it has no such policy.
#[derive(Clone, Debug, Default)]
pub struct HostVerdict {
    /// `Public-Key-Pins`.
    pub enforced: Option<Sending>,
    /// `Public-Key-Pins-Report-Only`.
    pub report_only: Option<Sending>,
    /// The lock-outs and unsure answers found for it, in spite of which the configuration may go
    /// on: what [`Host::accepted`] is for the configuration after it.
    pub alarms: Vec<Alarm>,
    /// The names by which clients reach it.
    pub names: Vec<SeenName>,
    /// What it presents, where all of it is known.
    pub presented: Option<Vec<Presented>>,
    /// The names for which the field of the enforced policy may be sent, where the host is reached by
    /// others too. None where it may be sent for every name that leads here.
    pub header_names: Option<Arc<NameSet>>,
}

/// A name by which clients reach a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenName {
    /// The host, or the domain above the hosts.
    pub host: HostName,
    /// Which hosts are meant.
    pub matching: Matching,
    /// Hosts that a pattern does not mean: other blocks have them.
    pub except: Vec<HostName>,
    /// The ports; none where it is reached on a Unix socket alone.
    pub ports: Vec<u16>,
    /// Whether no header is sent for it: the block answers for it only by a wildcard in its
    /// certificate, or by the port alone.
    pub aside: bool,
}

/// One field of one host.
#[derive(Clone, Debug)]
pub struct Sending {
    /// The field, or `None` where it is withheld.
    pub header: Option<Arc<Header>>,
    /// The contexts on whose connections it may be sent: those all of whose certificates satisfy
    /// the policy. Sorted.
    pub contexts: Arc<[usize]>,
}

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
    /// Checks every policy used for `kind`, with all its hosts, and says what each host sends.
    fn check_uses(&mut self, kind: Kind) -> Vec<Option<Sending>> {
        let mut sending = vec![None; self.deployment.hosts.len()];
        let mut order = Vec::new();
        let mut uses: HashMap<&'a str, Uses<'a>> = HashMap::new();
        for (host, policy_use) in self.uses(kind) {
            uses.entry(&policy_use.policy)
                .or_insert_with(|| {
                    order.push(policy_use.policy.as_str());
                    Vec::new()
                })
                .push((host, policy_use));
        }
        let satisfying = self.contexts_by_pin();
        for name in order {
            let uses = &uses[name];
            let Some(&policy) = self.policies.get(name) else {
                self.unknown_policy(name, kind, uses);
                continue;
            };
            let uses_on_tls = self.without_plain_servers(policy, kind, uses);
            if uses_on_tls.is_empty() {
                continue;
            }
            let header = self.check_text(policy, kind, &uses_on_tls);
            self.check_mistaken(policy, kind, &uses_on_tls);
            self.check_certificates(policy, kind, &uses_on_tls);
            if kind == Kind::Enforced {
                // Of a policy whose text lacks more, nothing is said of its backup.
                if header::missing_or_excessive(policy, kind).is_empty() {
                    self.check_backup(policy, &uses_on_tls);
                }
                self.check_names(policy, &uses_on_tls);
            }
            self.check_report_uri(policy, kind, &uses_on_tls);

            let contexts = self.satisfying(policy, &satisfying);
            for (host, _) in uses_on_tls {
                let may_send = !self.withheld.contains(&(host, kind));
                sending[host] = Some(Sending {
                    header: header.clone().filter(|_| may_send),
                    contexts: match kind {
                        Kind::Enforced => contexts.clone(),
                        // A report-only policy is there to be evaluated where it is not met.
                        Kind::ReportOnly => contexts
                            .iter()
                            .chain(&self.deployment.hosts[host].contexts)
                            .copied()
                            .collect::<BTreeSet<_>>()
                            .into_iter()
                            .collect(),
                    },
                });
            }
        }
        sending
    }

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
            policy.is_some_and(|policy| published.is_withheld_as_before(position, policy))
        });
        is_before.collect()
    }

    /// What the server's module found by itself.
    fn report_noticed(&mut self) {
        for Noticed { code, label, text, at } in &self.deployment.noticed {
            let scope = Scope { policy: &text.what, kind: Kind::Enforced, at, each_place: false };
            let class = code.class();
            let found = Found { code: *code, class, check: Check::Refuse, has_header: false };
            self.findings.add(scope, found, label, || text.clone());
        }
    }

    fn unknown_policy(&mut self, name: &str, kind: Kind, uses: &Uses<'_>) {
        for (host, policy_use) in uses {
            let scope = Scope { policy: name, kind, at: &policy_use.at, each_place: true };
            self.find(scope, kind, *host, Code::UnknownPolicy, || {
                Text::new(format!("policy \"{}\" is not defined", Excerpt::new(name)))
                    .fix("define it, or correct the name")
            });
        }
    }

    /// A policy means nothing without TLS (RFC 7469 section 2.2.2). Said only where the directive
    /// stands in that very server; one that stands further out is meant for the others.
    fn without_plain_servers(&mut self, policy: &Policy, kind: Kind, uses: &Uses<'a>) -> Uses<'a> {
        let (tls, plain): (Uses<'a>, Uses<'a>) =
            uses.iter().partition(|(host, _)| self.deployment.hosts[*host].tls);
        for (host, policy_use) in plain.into_iter().filter(|(_, policy_use)| policy_use.own) {
            let scope =
                Scope { policy: policy.name(), kind, at: &policy_use.at, each_place: false };
            self.find(scope, kind, host, Code::NoTls, || {
                Text::new(format!(
                    "policy \"{}\" is used in a server that does not listen on TLS, so its header is \
                     never sent there",
                    policy.shown()
                ))
                .fix("move the directive to the server that listens on TLS")
            });
        }
        tls
    }

    /// Whether what is published goes on record, or would if the records could be read.
    fn keeps_records(&self) -> bool {
        self.deployment.records.as_ref().is_some_and(|records| {
            let is_unreadable =
                |(code, ..): &(Code, Text, Location)| *code == Code::RecordsUnreadable;
            records.writer.is_some() || records.problems.iter().any(is_unreadable)
        })
    }

    /// What the policy's text and its files say; its header where they are sound.
    fn check_text(
        &mut self,
        policy: &'a Policy,
        kind: Kind,
        uses: &Uses<'_>,
    ) -> Option<Arc<Header>> {
        let names = self.deployment.names;
        for code in header::missing_or_excessive(policy, kind) {
            let scope =
                Scope { policy: policy.name(), kind, at: &policy.spec.at, each_place: false };
            for (host, _) in uses {
                self.find(scope, kind, *host, code, || messages::incomplete(policy, code, &names));
            }
        }
        // Nobody remembers the pins of a header that tells clients to forget.
        if !self.keeps_records() && !policy.spec.is_unpinning() {
            for (role, at) in policy.spec.roles() {
                let scope = Scope { policy: policy.name(), kind, at, each_place: true };
                for (host, _) in uses {
                    self.find(scope, kind, *host, Code::KeywordPinWithoutPublishedPins, || {
                        messages::keyword(role, &names)
                    });
                }
            }
        }
        for problem in &policy.problems {
            let scope = Scope { policy: policy.name(), kind, at: &problem.at, each_place: true };
            for (host, _) in uses {
                self.find(scope, kind, *host, problem.code, || problem.text.clone());
            }
        }
        let mut first: HashMap<Pin, &Location> = HashMap::new();
        for pin in &policy.pins {
            let Some(earlier) = first.get(&pin.pin) else {
                first.insert(pin.pin, &pin.at);
                continue;
            };
            let scope = Scope { policy: policy.name(), kind, at: &pin.at, each_place: true };
            for (host, _) in uses {
                self.find(scope, kind, *host, Code::DuplicatePin, || {
                    Text::new(format!(
                        "duplicate pin sha256/{} in policy \"{}\", first configured at {earlier}; it is \
                         sent once",
                        pin.pin,
                        policy.shown()
                    ))
                    .fix("remove one of the two")
                });
            }
        }
        if kind == Kind::Enforced
            && let Some(age) = policy.spec.max_age.filter(|age| *age > MaxAge::USER_AGENTS_CAP)
        {
            let scope =
                Scope { policy: policy.name(), kind, at: &policy.spec.at, each_place: false };
            for (host, _) in uses {
                self.find(scope, kind, *host, Code::MaxAgeTooLong, || {
                    messages::max_age_too_long(policy, age, &names)
                });
            }
        }
        Header::render(policy, kind).ok().map(Arc::new)
    }

    /// Every certificate that a host presents against its policy.
    fn check_certificates(&mut self, policy: &'a Policy, kind: Kind, uses: &Uses<'_>) {
        for (position, policy_use) in uses {
            let host = &self.deployment.hosts[*position];
            let scope =
                Scope { policy: policy.name(), kind, at: &policy_use.at, each_place: false };
            let mut chains = Vec::new();
            // What cannot be read may be what the certificates need.
            let mut is_sure = policy.problems.is_empty();
            for &context in &host.contexts {
                let Context { certificates, trust } = &self.deployment.contexts[context];
                if let Some((code, text, at)) = &trust.problem {
                    is_sure = false;
                    let scope = Scope { at, each_place: true, ..scope };
                    self.find(scope, kind, *position, *code, || text.clone());
                }
                match certificates {
                    Certificates::Loaded(loaded) => {
                        chains.extend(loaded.iter().zip(&self.paths[context]));
                    }
                    Certificates::NotKnown { why, remedy } => {
                        self.find(scope, kind, *position, Code::CertificateNotKnownAtLoad, || {
                            messages::not_known_at_load(policy, why, remedy)
                        });
                    }
                    Certificates::Later(why) => {
                        self.find(scope, kind, *position, Code::CertificateCheckedAtStart, || {
                            messages::checked_at_start(policy, why)
                        });
                    }
                    Certificates::Unusable(code, text) => {
                        self.find(scope, kind, *position, *code, || text.clone());
                    }
                }
            }
            if is_sure {
                self.check_chains(policy, kind, scope, *position, &chains);
            }
        }
    }

    fn check_chains(
        &mut self,
        policy: &'a Policy,
        kind: Kind,
        scope: Scope<'_>,
        host: usize,
        chains: &[(&Chain, &Paths)],
    ) {
        let meets: Vec<Match> =
            chains.iter().map(|(_, paths)| paths.meet(|pin| policy.has(pin))).collect();
        let those = |wanted: fn(&Match) -> bool| -> Vec<(&Chain, &Paths)> {
            let chosen = chains.iter().zip(&meets).filter(|(_, meet)| wanted(meet));
            chosen.map(|(chain, _)| *chain).collect()
        };
        let unmet = those(|meet| *meet == Match::Unmet);
        if !unmet.is_empty() {
            let Deployment { hosts, names, records, .. } = self.deployment;
            let serving = &hosts[host].serving;
            let is_compromised =
                |pin| records.as_ref().is_some_and(|records| records.state.is_compromised(pin));
            // Then it is what this machine trusts that has changed, and clients trust what they did.
            let before = kind == Kind::Enforced
                && self
                    .published
                    .is_some_and(|published| published.is_unmet_as_before(host, policy));
            let class = match kind {
                // Nobody can note pins that last no time at all.
                Kind::Enforced if policy.spec.is_unpinning() && unmet.len() == chains.len() => {
                    Class::Withhold
                }
                Kind::Enforced if policy.spec.is_unpinning() => Class::Warning,
                Kind::Enforced if !before => Class::Lockout,
                _ => Class::Warning,
            };
            self.find_as(scope, kind, host, (Code::NoPinInChain, class), || {
                let unmet =
                    messages::Unmet { chains: &unmet, of: chains.len(), serving, before, names };
                messages::no_pin_in_chain(policy, kind, &unmet, &is_compromised)
            });
        }
        if kind == Kind::Enforced && policy.spec.is_unpinning() {
            // Which clients would refuse such pins later is no question.
            return;
        }
        let partly = those(|meet| matches!(meet, Match::Partly { .. }));
        if !partly.is_empty() {
            self.find(scope, kind, host, Code::PartialPathMatch, || {
                messages::partial_path_match(policy, &partly)
            });
        }
        let root_only = those(|meet| {
            matches!(meet, Match::Met { served: false } | Match::Partly { served: false })
        });
        if !root_only.is_empty() {
            self.find(scope, kind, host, Code::RootOnlyMatch, || {
                messages::root_only_match(policy, &root_only)
            });
        }
        if !unmet.is_empty() {
            // Its details say which pins are of certificates on no path.
            return;
        }
        let on_a_path: HashSet<Pin> = chains.iter().flat_map(|(_, paths)| paths.pins()).collect();
        let superfluous = chains.iter().flat_map(|(_, paths)| paths.superfluous()).find(|extra| {
            extra.pin().is_some_and(|pin| policy.has(pin) && !on_a_path.contains(&pin))
        });
        if let Some(certificate) = superfluous {
            self.find(scope, kind, host, Code::SuperfluousCertificateMatch, || {
                messages::superfluous(policy, certificate)
            });
        }
    }

    /// A backup pin is a pin of no key in the chains that the hosts of this policy present
    /// (RFC 7469 section 2.5).
    fn check_backup(&mut self, policy: &'a Policy, uses: &Uses<'_>) {
        let hosts = &self.deployment.hosts;
        let contexts: BTreeSet<usize> =
            uses.iter().flat_map(|(host, _)| &hosts[*host].contexts).copied().collect();
        let mut loaded: HashSet<Pin> = HashSet::new();
        for &context in &contexts {
            loaded.extend(self.paths[context].iter().flat_map(Paths::pins));
            if let Certificates::Loaded(chains) = &self.deployment.contexts[context].certificates {
                let served = chains.iter().flat_map(Chain::certificates);
                loaded.extend(served.filter_map(|certificate| certificate.pin()));
            }
        }
        self.check_compromised_pins(policy, uses, &loaded);
        // Nobody has the key of a hash that is none of a key, and a thief has that of a stolen one.
        let has_backup = policy.pins.iter().map(|resolved| resolved.pin).any(|pin| {
            !loaded.contains(&pin) && !self.mistaken.contains_key(&pin) && !self.is_compromised(pin)
        });
        // What cannot be read may be the backup; that is a finding of its own.
        if has_backup || loaded.is_empty() || !policy.problems.is_empty() {
            return;
        }
        let at = &policy.spec.at;
        let scope = Scope { policy: policy.name(), kind: Kind::Enforced, at, each_place: false };
        let why = |pin: Pin| match () {
            () if loaded.contains(&pin) => messages::LOADED,
            () if self.mistaken.contains_key(&pin) => "no key has this pin",
            () => "key is compromised",
        };
        let text = messages::no_backup_pin(policy, &why);
        for (host, _) in uses {
            self.find(scope, Kind::Enforced, *host, Code::NoBackupPin, || text.clone());
        }
    }

    /// Trusted certificates that are left out, where something is compared with paths to them.
    fn check_trusted(&mut self) {
        for (position, host) in self.deployment.hosts.iter().enumerate() {
            let uses = [&host.enforced, &host.report_only];
            let policy_use = uses.into_iter().flatten().next().map(|one| &one.at);
            let records = self.deployment.records.as_ref().map(|records| &records.at);
            let Some(place) = policy_use.or(records) else { continue };
            let mut settings: Vec<*const TrustSetting> = Vec::new();
            for &context in &host.contexts {
                let trust = &self.deployment.contexts[context].trust;
                if settings.contains(&Arc::as_ptr(trust)) {
                    continue;
                }
                settings.push(Arc::as_ptr(trust));
                for Skipped { text, at } in &trust.skipped {
                    let at = at.as_ref().unwrap_or(place);
                    let scope =
                        Scope { policy: &text.what, kind: Kind::Enforced, at, each_place: false };
                    let code = Code::TrustedCertificateSkipped;
                    self.find(scope, Kind::Enforced, position, code, || text.clone());
                }
            }
        }
    }

    /// User agents note no IP addresses (RFC 7469 section 2.3.3).
    fn check_names(&mut self, policy: &'a Policy, uses: &Uses<'_>) {
        for (position, policy_use) in uses {
            let host = &self.deployment.hosts[*position];
            let address = host.names.iter().find(|name| {
                let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
                name.parse::<IpAddr>().is_ok()
            });
            let Some(address) = address else { continue };
            let scope = Scope {
                policy: policy.name(),
                kind: Kind::Enforced,
                at: &policy_use.at,
                each_place: false,
            };
            self.find(scope, Kind::Enforced, *position, Code::IpAddressHost, || {
                format!(
                    "the server name {address} is an IP address; clients ignore pins for addresses (RFC \
                     7469 section 2.3.3), so pins do not protect them"
                )
            });
        }
    }

    /// Reports about a host go nowhere when they are sent to that very host
    /// (RFC 7469 section 2.1.4).
    fn check_report_uri(&mut self, policy: &'a Policy, kind: Kind, uses: &Uses<'_>) {
        let Some(uri) = &policy.spec.report_uri else {
            return;
        };
        for (host, policy_use) in uses {
            let Host { names, enforced, .. } = &self.deployment.hosts[*host];
            let enforced = enforced.as_ref().and_then(|e| self.policies.get(e.policy.as_str()));
            let is_pinned = enforced.is_some_and(|enforced| {
                let subdomains = enforced.spec.binds_subdomains();
                names.iter().any(|name| covers(name, uri.host(), subdomains))
            });
            if !is_pinned {
                continue;
            }
            let scope =
                Scope { policy: policy.name(), kind, at: &policy_use.at, each_place: false };
            self.find(scope, kind, *host, Code::ReportUriOnPinnedHost, || {
                Text::new(format!(
                    "reports for policy \"{}\" go to {}, which has the same pins; a client that refuses \
                     its certificate cannot send its report there",
                    policy.shown(),
                    uri.host()
                ))
                .fix("use a host of another name for reports")
            });
        }
    }

    /// Contexts by the pins on the paths of their first chain.
    fn contexts_by_pin(&self) -> HashMap<Pin, Vec<usize>> {
        let mut contexts: HashMap<Pin, Vec<usize>> = HashMap::new();
        for (context, paths) in self.paths.iter().enumerate() {
            let pins: HashSet<Pin> = paths.first().into_iter().flat_map(Paths::pins).collect();
            for pin in pins {
                contexts.entry(pin).or_default().push(context);
            }
        }
        contexts
    }

    /// The contexts all of whose certificates satisfy `policy`.
    fn satisfying(&self, policy: &Policy, by_pin: &HashMap<Pin, Vec<usize>>) -> Arc<[usize]> {
        let candidates: BTreeSet<usize> = policy
            .pins
            .iter()
            .filter_map(|resolved| by_pin.get(&resolved.pin))
            .flatten()
            .copied()
            .collect();
        candidates
            .into_iter()
            .filter(|context| {
                let paths = &self.paths[*context];
                paths.iter().all(|paths| paths.meet(|pin| policy.has(pin)) != Match::Unmet)
            })
            .collect()
    }
}

/// Whether a server of this name, noted by a client, covers `host`.
fn covers(name: &str, host: &str, include_subdomains: bool) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(domain) => below(domain) || (name.starts_with('.') && host == domain),
        None => name == host || (include_subdomains && below(&name)),
    }
}
