//! Findings gathered and worded: one for each code and policy, however many hosts share it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Names, Serving};
use crate::certificate::Certificate;
use crate::finding::{Check, Class, Code, Finding, Location};
use crate::header::Kind;
use crate::max_age::MaxAge;
use crate::path::{Chain, Paths};
use crate::pin::Pin;
use crate::policy::{MAX_PINS, Policy, ResolvedPin, Role};
use crate::text::Excerpt;

/// How many lines of a kind a finding has at most.
pub(super) const MAX_DETAILS: usize = 24;

/// What follows a pin that no advice may name.
pub(super) const COMPROMISED: &str = ", compromised: do not use it";

/// What a finding is about, besides its code and its host.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) policy: &'a str,
    pub(super) kind: Kind,
    /// The directive that causes it.
    pub(super) at: &'a Location,
    /// Whether findings of one code and policy at different places are different findings.
    pub(super) each_place: bool,
}

/// What was found, and what is to be done about it.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) code: Code,
    pub(super) class: Class,
    pub(super) check: Check,
    /// Whether the host has a header.
    pub(super) has_header: bool,
}

type Key = (Code, Class, Check, Kind, String, Option<Location>);

/// The findings so far.
#[derive(Default)]
pub(super) struct Findings {
    all: Vec<Finding>,
    index: HashMap<Key, usize>,
    /// The hosts of each, which are named and counted once.
    hosts: Vec<HashSet<Box<str>>>,
}

impl Findings {
    pub(super) fn add(
        &mut self,
        scope: Scope<'_>,
        Found { code, class, check, has_header }: Found,
        host: &str,
        text: impl FnOnce() -> (String, Vec<String>),
    ) {
        let place = scope.each_place.then(|| scope.at.clone());
        let key = (code, class, check, scope.kind, scope.policy.to_owned(), place);
        if let Some(&index) = self.index.get(&key) {
            if self.hosts[index].insert(host.into()) {
                self.all[index].add_host(host);
            }
            self.all[index].has_header |= has_header;
            return;
        }
        let (mut summary, details) = text();
        if scope.kind == Kind::ReportOnly {
            summary.push_str(" (report-only)");
        }
        self.index.insert(key, self.all.len());
        self.hosts.push(HashSet::from([host.into()]));
        self.all.push(Finding {
            code,
            class,
            check,
            hosts: vec![Excerpt::new(host).to_string()],
            host_count: 1,
            has_header,
            at: scope.at.clone(),
            summary,
            details,
        });
    }

    /// The gravest class first; within one, in the order in which they were found.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        self.all.sort_by_key(|finding| finding.class);
        self.all
    }
}

pub(super) fn incomplete(policy: &Policy, code: Code, names: &Names) -> String {
    let name = policy.shown();
    let count = policy.spec.distinct_sources();
    match code {
        Code::TooFewPins => format!(
            "the policy \"{name}\" has {count} {}; it needs the pin of the key in use and the pin \
             of a backup key that is not in use (RFC 7469 section 2.5)",
            if count == 1 { "pin" } else { "different pins" }
        ),
        Code::TooManyPins => format!(
            "the policy \"{name}\" has {count} pins; more than {MAX_PINS} are dropped as a whole by \
             some clients (Firefox)"
        ),
        Code::MissingMaxAge => {
            format!(
                "the policy \"{name}\" has no {}, and clients ignore a header without one; start \
                 with 1d",
                names.max_age
            )
        }
        _ => format!(
            "the policy \"{name}\" is used as report-only and has no {}, so nobody would be told of \
             anything",
            names.report_uri
        ),
    }
}

pub(super) fn keyword(role: Role, names: &Names) -> String {
    format!(
        "the keyword \"{}\" stands for whatever key is loaded, which is safe only where it is \
         recorded what clients were told before; write records ({}), or name the pin itself",
        role.as_str(),
        names.published_pins
    )
}

pub(super) fn max_age_too_long(policy: &Policy, age: MaxAge, names: &Names) -> String {
    format!(
        "the {} of the policy \"{}\" is {} seconds; browsers cut it at {} (60 days), other \
         clients remember a mistake for as long as it says",
        names.max_age,
        policy.shown(),
        age.seconds(),
        MaxAge::USER_AGENTS_CAP.seconds()
    )
}

pub(super) fn not_known_at_load(policy: &Policy, why: &str, remedy: &str) -> String {
    format!(
        "{why}, so it cannot be compared with the policy \"{}\" and no header is sent; {remedy}",
        policy.shown()
    )
}

pub(super) fn checked_at_start(policy: &Policy, why: &str) -> String {
    format!(
        "{why}, so this test cannot compare it with the policy \"{}\"; the start will, and sends \
         the header only where the two fit",
        policy.shown()
    )
}

type Text = (String, Vec<String>);

/// Certificates that do not meet a policy.
pub(super) struct Unmet<'a> {
    pub(super) chains: &'a [(&'a Chain, &'a Paths)],
    /// How many certificates the host has.
    pub(super) of: usize,
    pub(super) serving: &'a [Serving],
    /// Whether the last accepted configuration had the same keys and published the same policy.
    pub(super) before: bool,
    pub(super) names: &'a Names,
}

pub(super) fn no_pin_in_chain(
    policy: &Policy,
    kind: Kind,
    unmet: &Unmet<'_>,
    is_compromised: &dyn Fn(Pin) -> bool,
) -> Text {
    let Unmet { chains: unmet, of, serving, before, names } = *unmet;
    let which = if of > 1 {
        format!("{} of its {of} certificates", unmet.len())
    } else {
        "its certificate".to_owned()
    };
    let pins = distinct(policy);
    let none = match pins.len() {
        1 => "the one pin".to_owned(),
        count => format!("none of the {count} pins"),
    };
    let not = if pins.len() == 1 { "not " } else { "" };
    let consequence = match kind {
        Kind::ReportOnly => "clients would report it. Correct the pins before they are enforced",
        Kind::Enforced if before => {
            "the configuration accepted before has the same keys and the same pins, so this is no \
             reason to refuse the new one, but no header is sent with it. See whether the trusted \
             roots have changed"
        }
        Kind::Enforced if !pins.iter().any(|pin| is_compromised(pin.pin)) => {
            "clients that remember them would refuse it. Load a certificate whose key is pinned: \
             the old one, or one for a backup key"
        }
        Kind::Enforced if !pins.iter().all(|pin| is_compromised(pin.pin)) => {
            "clients that remember them would refuse it. Load a certificate whose key is pinned \
             and not compromised"
        }
        Kind::Enforced => {
            "clients that remember them would refuse it. All pinned keys are compromised, so \
             there is none to go back to"
        }
    };
    let note = |pin| if is_compromised(pin) { COMPROMISED } else { "" };
    let summary = format!(
        "{none} of the policy \"{}\" is {not}of a key in the chain of {which}; {consequence}",
        policy.shown()
    );
    let mut details = Vec::new();
    for (chain, paths) in unmet {
        details.push(format!("loaded: {}", leaf(chain)));
        details.extend(paths.describe().take(MAX_DETAILS));
        let extra = paths.superfluous().iter().find(|c| c.pin().is_some_and(|p| policy.has(p)));
        if let Some(certificate) = extra {
            details.push(superfluous(policy, certificate));
        }
    }
    details.extend(
        pins.iter()
            .take(MAX_DETAILS)
            .map(|pin| format!("pinned: sha256/{} ({}){}", pin.pin, pin.at, note(pin.pin))),
    );
    for leaf in serving {
        let pinned = if policy.has(leaf.pin) { "pinned" } else { "not pinned either" };
        details.push(format!(
            "the certificate on disk is not the one being served: that has the key sha256/{} \
             ({pinned}{}) and expires {}",
            leaf.pin,
            note(leaf.pin),
            leaf.not_after
        ));
    }
    if serving.iter().any(|leaf| !is_compromised(leaf.pin)) {
        details.push(
            "to put it back, restore its certificate and key files (certbot keeps them under \
             archive/, numbered) and test again; the running server is not affected"
                .to_owned(),
        );
    }
    if unmet.iter().any(|(_, paths)| !paths.reaches_an_anchor()) {
        details.push(format!(
            "no trusted root was found above it; where the pin is that of a root that the server \
             does not send, name its file in {}",
            names.trusted_certificate
        ));
    }
    (summary, details)
}

/// The pins of a policy, each once.
fn distinct(policy: &Policy) -> Vec<&ResolvedPin> {
    let mut seen = HashSet::new();
    policy.pins.iter().filter(|resolved| seen.insert(resolved.pin)).collect()
}

pub(super) fn partial_path_match(policy: &Policy, chains: &[(&Chain, &Paths)]) -> Text {
    let summary = format!(
        "the policy \"{}\" is met on some paths that clients may build and missed on others; pin a \
         key that is on all of them, best that of the certificate itself",
        policy.shown()
    );
    (summary, described(chains))
}

pub(super) fn root_only_match(policy: &Policy, chains: &[(&Chain, &Paths)]) -> Text {
    let summary = format!(
        "the policy \"{}\" pins no key of what the server sends, only one above it; clients that \
         compare what is sent (wget2) would refuse it. Pin the certificate or its issuer as well",
        policy.shown()
    );
    (summary, described(chains))
}

pub(super) fn superfluous(policy: &Policy, certificate: &Arc<Certificate>) -> String {
    format!(
        "the policy \"{}\" pins {} (sha256/{}), which is sent but is on no path to a root; clients \
         pass over it, so this pin protects nothing",
        policy.shown(),
        certificate.subject(),
        certificate.pin().map_or_else(String::new, |pin| pin.to_string())
    )
}

pub(super) fn no_backup_pin(policy: &Policy) -> Text {
    let summary = format!(
        "every pin of the policy \"{}\" is of a key that is loaded, so there is none for a backup \
         and clients ignore the header (RFC 7469 section 2.5); make a key that stays offline and \
         pin it. No header is sent",
        policy.shown()
    );
    let details = distinct(policy)
        .iter()
        .take(MAX_DETAILS)
        .map(|resolved| format!("loaded and pinned: sha256/{} ({})", resolved.pin, resolved.at))
        .collect();
    (summary, details)
}

fn described(chains: &[(&Chain, &Paths)]) -> Vec<String> {
    chains
        .iter()
        .flat_map(|(chain, paths)| {
            std::iter::once(format!("loaded: {}", leaf(chain)))
                .chain(paths.describe().take(MAX_DETAILS))
        })
        .collect()
}

pub(super) fn leaf(chain: &Chain) -> String {
    let leaf = chain.leaf();
    let pin = leaf.pin().map_or_else(
        || "a key of which no pin can be formed".to_owned(),
        |pin| format!("sha256/{pin}"),
    );
    format!("{}, key {pin}, expires {}", leaf.subject(), leaf.not_after_text())
}
