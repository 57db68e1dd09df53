//! The findings of a check and their texts. Hosts that share the code and the policy share one finding.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Names, Serving};
use crate::certificate::Certificate;
use crate::date;
use crate::finding::{Check, Class, Code, Finding, Location, Text};
use crate::header::Kind;
use crate::max_age::MaxAge;
use crate::other_hash::HashOf;
use crate::path::{Chain, Paths};
use crate::pin::Pin;
use crate::policy::{MAX_PINS, Policy, ResolvedPin, Role};
use crate::text::{Excerpt, ShellWord};

/// The most lines of one kind in a finding.
pub(super) const MAX_DETAILS: usize = 24;

/// The note after a pin that no advice may recommend.
pub(super) const COMPROMISED: &str = " (compromised, do not use it)";

/// The most pins for which a finding prints a command.
const MAX_SEARCHED: usize = 4;

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

/// What was found, and what the server does about it.
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
    /// The hosts of each finding, so that each host is named and counted once.
    hosts: Vec<HashSet<Box<str>>>,
}

impl Findings {
    pub(super) fn add<T: Into<Text>>(
        &mut self,
        scope: Scope<'_>,
        Found { code, class, check, has_header }: Found,
        host: &str,
        text: impl FnOnce() -> T,
    ) {
        // Such findings never refuse a configuration, so findings that differ only in `check` can be one.
        let check = match class {
            Class::Lockout | Class::Unsure => check,
            Class::Invalid | Class::Withhold | Class::Warning => Check::default(),
        };
        let place = scope.each_place.then(|| scope.at.clone());
        let key = (code, class, check, scope.kind, scope.policy.to_owned(), place);
        if let Some(&index) = self.index.get(&key) {
            if self.hosts[index].insert(host.into()) {
                self.all[index].add_host(host);
            }
            self.all[index].has_header |= has_header;
            return;
        }
        let mut text = text().into();
        if scope.kind == Kind::ReportOnly {
            text.what.push_str(" (report-only)");
        }
        self.index.insert(key, self.all.len());
        self.hosts.push(HashSet::from([host.into()]));
        let mut finding = Finding::new(code, scope.at.clone(), text);
        finding.add_host(host);
        self.all.push(Finding { class, check, has_header, ..finding });
    }

    /// Whether a host has a finding of this code.
    pub(super) fn has(&self, code: Code, host: &str) -> bool {
        let mut hosts = self.all.iter().zip(&self.hosts);
        hosts.any(|(finding, hosts)| finding.code == code && hosts.contains(host))
    }

    /// Whether there is a finding of this code.
    pub(super) fn has_code(&self, code: Code) -> bool {
        self.all.iter().any(|finding| finding.code == code)
    }

    /// The most serious class first; within a class, in the order in which they were found.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        self.all.sort_by_key(|finding| finding.class);
        self.all
    }
}

/// Adds the commands that make a backup pin.
pub(super) fn with_backup_key(text: Text) -> Text {
    text.fix(
        "create a backup key on a machine that is not this server, and keep it offline: openssl genpkey \
         -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out backup.key",
    )
    .fix("add its pin to the policy: openssl pkey -in backup.key -pubout | hpkp pin -")
}

pub(super) fn incomplete(policy: &Policy, code: Code, names: &Names) -> Text {
    let name = policy.label();
    let count = policy.spec.distinct_sources();
    let pins = if count == 1 { "pin" } else { "different pins" };
    match code {
        // A policy with max-age=0 needs no backup pin. Without any pin of its own, two pins are added to it.
        Code::TooFewPins if policy.spec.is_unpinning() && count == 1 => Text::new(format!(
            "policy \"{name}\" has {count} {pins}; some clients (Chromium) ignore a header without the pin of \
             the key in use and another pin, and forget nothing"
        ))
        .fix("remove the pin: a policy that tells clients to forget gets the pins that they need"),
        Code::TooFewPins => with_backup_key(Text::new(format!(
            "policy \"{name}\" has {count} {pins}; clients ignore a header without the pin of the key \
             in use and a backup pin (RFC 7469 section 2.5)"
        ))),
        Code::TooManyPins => Text::new(format!(
            "policy \"{name}\" has {count} pins; some clients (Firefox) ignore a header with more than \
             {MAX_PINS}"
        ))
        .fix("remove the pins of keys that are no longer used, or define one policy for each server"),
        Code::MissingMaxAge => Text::new(format!(
            "policy \"{name}\" has no {}; clients ignore a header without it",
            names.max_age
        ))
        .fix(format!("add {}, starting with one day (1d)", names.max_age)),
        _ => Text::new(format!(
            "policy \"{name}\" is used as report-only and has no {}, so clients report nothing",
            names.report_uri
        ))
        .fix(format!("add {}", names.report_uri)),
    }
}

pub(super) fn keyword(role: Role, names: &Names) -> Text {
    Text::new(format!(
        "the pin \"{}\" follows the loaded certificate; without records of published pins, a new key \
         would lock out clients that remember the previous one",
        role.as_str()
    ))
    .fix(format!(
        "name a directory for records ({}), or give the pin itself (hpkp pin FILE)",
        names.published_pins
    ))
}

pub(super) fn max_age_too_long(policy: &Policy, age: MaxAge, names: &Names) -> Text {
    Text::new(format!(
        "the {} of policy \"{}\" is {}; browsers limit it to 60 days, other clients remember a mistake \
         for the whole time",
        names.max_age,
        policy.label(),
        date::duration(i64::from(age.seconds()))
    ))
    .fix(format!("set {} to 60d or less", names.max_age))
}

pub(super) fn not_known_at_load(policy: &Policy, why: &str, remedy: &str) -> Text {
    Text::new(format!(
        "{why}, so policy \"{}\" cannot be checked and no header is sent",
        policy.label()
    ))
    .fix(remedy)
}

pub(super) fn not_guarded(policy: &Policy, why: &str) -> Text {
    Text::new(format!(
        "{why}, and policy \"{}\" is used unguarded: the header is sent on each connection whose certificate \
         satisfies the policy; nothing refuses a new key, which locks out the clients that noted the pins",
        policy.label()
    ))
    .fix(
        "keep the key at each renewal, or publish the pin of the next key for as long as max_age before \
         that key is used",
    )
}

pub(super) fn checked_at_handshake(policy: &Policy, why: &str, remedy: &str) -> Text {
    let what = format!("check it against policy \"{}\"; the guard compares it", policy.label());
    at_handshake(why, &what, remedy)
}

/// The text about a certificate that the guard compares at each handshake. `what` is the check that the config test
/// cannot do.
pub(super) fn at_handshake(why: &str, what: &str, remedy: &str) -> Text {
    let text = Text::new(format!(
        "{why}, so this test cannot {what} at each handshake, and presents the last good certificate where \
         clients would refuse it; hpkp does not record which certificate the guard presents"
    ));
    if remedy.is_empty() { text } else { text.fix(remedy) }
}

pub(super) fn checked_at_start(policy: &Policy, why: &str) -> Text {
    Text::new(format!(
        "{why}, so this test cannot check it against policy \"{}\"; the start checks it, and sends the \
         header only if the certificate satisfies the policy",
        policy.label()
    ))
}

/// Certificates that do not meet a policy.
pub(super) struct UnmetChains<'a> {
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
    unmet: &UnmetChains<'_>,
    is_compromised: &dyn Fn(Pin) -> bool,
) -> Text {
    let pins = distinct(policy);
    let mut text = failed_policy(policy, kind, unmet, &pins, is_compromised);
    let UnmetChains { chains: unmet, serving, names, .. } = *unmet;
    let note = |pin| if is_compromised(pin) { COMPROMISED } else { "" };
    if serving.iter().any(|leaf| !is_compromised(leaf.pin)) {
        text = text.fix(
            "the running server has another certificate; restore its certificate and key files \
             (certbot keeps earlier ones in archive/) and test again",
        );
    }
    let usable = pins.iter().map(|one| one.pin).filter(|pin| !is_compromised(*pin));
    if kind == Kind::Enforced {
        text.fix.extend(searches(usable, unmet.iter().map(|(chain, _)| *chain)));
    }
    if unmet.iter().any(|(_, paths)| !paths.reaches_an_anchor()) {
        text = text.fix(format!(
            "if the policy pins a root that the server does not send, name its file in {}; no trusted \
             root was found for this chain",
            names.trusted_certificate
        ));
    }
    for (chain, paths) in unmet {
        text.details.push(leaf(chain));
        text.details.extend(paths.describe().take(MAX_DETAILS));
        let extra = paths.superfluous().iter().find(|c| c.pin().is_some_and(|p| policy.has(p)));
        text.details.extend(extra.map(|certificate| superfluous(policy, certificate)));
    }
    text.details
        .extend(serving.iter().map(|leaf| served_now(leaf, policy.has(leaf.pin), note(leaf.pin))));
    let pinned = pins.iter().take(MAX_DETAILS);
    text.details.extend(
        pinned.map(|pin| format!("pinned: sha256/{} ({}){}", pin.pin, pin.at, note(pin.pin))),
    );
    text
}

/// The consequence for clients if a certificate does not match a policy, and the first action.
fn failed_policy(
    policy: &Policy,
    kind: Kind,
    unmet: &UnmetChains<'_>,
    pins: &[&ResolvedPin],
    is_compromised: &dyn Fn(Pin) -> bool,
) -> Text {
    let chain = match unmet.of {
        1 => "the certificate chain".to_owned(),
        of => format!("the chain of {} of {of} certificates", unmet.chains.len()),
    };
    let name = policy.label();
    let found = match pins.len() {
        1 => format!("the only pin in policy \"{name}\" matches no key in {chain}"),
        _ => format!("no pin in policy \"{name}\" matches a key in {chain}"),
    };
    let (consequence, remedy) = match kind {
        Kind::ReportOnly => {
            ("clients would report a violation", "correct the pins before the policy is enforced")
        }
        Kind::Enforced if policy.spec.is_unpinning() => (
            "clients ignore a header with max-age=0 without such a pin, so it is not sent and they keep \
             their pins until these expire",
            "load a certificate for a pinned key, or remove all pins from the policy: the header then \
             has the pin of the loaded key",
        ),
        Kind::Enforced if unmet.before => (
            "the last accepted configuration had the same keys and pins, so the new one is not refused, \
             but no header is sent",
            "check whether the trusted roots have changed",
        ),
        Kind::Enforced if !pins.iter().any(|pin| is_compromised(pin.pin)) => (
            "clients that remember these pins would refuse the certificate",
            "load a certificate for a pinned key: the previous certificate, or one for a backup key \
             (certbot renews with the same key if run with --reuse-key)",
        ),
        Kind::Enforced if !pins.iter().all(|pin| is_compromised(pin.pin)) => (
            "clients that remember these pins would refuse the certificate",
            "load a certificate for a pinned key that is not compromised",
        ),
        Kind::Enforced => (
            "clients that remember these pins would refuse the certificate",
            "all pinned keys are compromised, so no certificate can satisfy these clients safely; wait \
             until the pins expire, or lock these clients out (docs/incident.md)",
        ),
    };
    Text::new(format!("{found}; {consequence}")).fix(remedy)
}

/// A certificate that the running server has.
pub(super) fn served_now(leaf: &Serving, is_accepted: bool, note: &str) -> String {
    let accepted = if is_accepted { "pinned" } else { "not pinned either" };
    format!(
        "served now: a certificate with another key, sha256/{} ({accepted}){note}, expires {}",
        leaf.pin, leaf.not_after
    )
}

/// The commands that find the private keys of pins, in the directories of the present keys.
pub(super) fn searches<'a>(
    pins: impl Iterator<Item = Pin>,
    chains: impl Iterator<Item = &'a Chain>,
) -> Vec<String> {
    let directories: BTreeSet<&str> =
        chains.filter_map(|chain| chain.file()?.keys.as_deref()).collect();
    let pins: Vec<Pin> = pins.take(MAX_SEARCHED).collect();
    let of = |pin: &Pin| {
        let pin = *pin;
        directories.iter().take(MAX_SEARCHED).map(move |directory| {
            format!(
                "find the private key of a pin: hpkp find sha256/{pin} {}",
                ShellWord::new(directory)
            )
        })
    };
    pins.iter().flat_map(of).collect()
}

/// The pins of a policy, each once.
fn distinct(policy: &Policy) -> Vec<&ResolvedPin> {
    let mut seen = HashSet::new();
    policy.pins.iter().filter(|resolved| seen.insert(resolved.pin)).collect()
}

pub(super) fn partial_path_match(policy: &Policy, chains: &[(&Chain, &Paths)]) -> Text {
    Text::new(format!(
        "policy \"{}\" matches some certificate paths that clients may build and fails on others, so \
         some clients would refuse the certificate",
        policy.label()
    ))
    .fix("pin a key that is on every path, preferably the certificate's own key")
    .details(described(chains))
}

pub(super) fn root_only_match(policy: &Policy, chains: &[(&Chain, &Paths)]) -> Text {
    Text::new(format!(
        "policy \"{}\" pins only a key above the certificates that the server sends; clients that \
         compare the sent certificates alone (wget2) would refuse them",
        policy.label()
    ))
    .fix("also pin the key of the certificate or of its issuer")
    .details(described(chains))
}

pub(super) fn superfluous(policy: &Policy, certificate: &Arc<Certificate>) -> String {
    format!(
        "policy \"{}\" pins {} (sha256/{}), which the server sends but which is on no certificate path; \
         clients ignore it, so this pin protects nothing",
        policy.label(),
        certificate.subject(),
        certificate.pin().map_or_else(String::new, |pin| pin.to_string())
    )
}

/// `why` returns the reason why a pin is no backup.
pub(super) fn no_backup_pin(policy: &Policy, why: &dyn Fn(Pin) -> &'static str) -> Text {
    let all_loaded = policy.pins.iter().all(|one| why(one.pin) == LOADED);
    let cause = if all_loaded {
        "every pinned key is loaded"
    } else {
        "every pin is that of a loaded or compromised key, or of no key at all"
    };
    let text = Text::new(format!(
        "policy \"{}\" has no backup pin, since {cause}; clients ignore such a header (RFC 7469 section \
         2.5), so it is not sent",
        policy.label()
    ));
    let pins = distinct(policy);
    let pins = pins.iter().take(MAX_DETAILS);
    with_backup_key(text).details(
        pins.map(|one| format!("pinned: sha256/{} ({}), {}", one.pin, one.at, why(one.pin))),
    )
}

/// Why a pin is no backup: it is in use.
pub(super) const LOADED: &str = "key is loaded";

/// A pin that is the hash of something other than a key.
#[derive(Debug)]
pub(super) struct Mistaken {
    pub(super) of: HashOf,
    /// The object, as a clause behind "of".
    pub(super) object: String,
}

pub(super) fn pin_not_spki_hash(policy: &Policy, pin: Pin, mistaken: &Mistaken) -> Text {
    Text::new(format!(
        "sha256/{pin} in policy \"{}\" is the SHA-256 hash of {}, {}; no key has this pin, so no client \
         can match it and it is no backup pin",
        policy.label(),
        mistaken.of.name(),
        mistaken.object
    ))
    .fix("use the pin of the key, which is the hash of its SPKI: hpkp pin FILE")
}

/// A compromised key among those that a host presents.
#[derive(Debug)]
pub(super) struct Compromised<'a> {
    pub(super) pin: Pin,
    /// The reason in the record.
    pub(super) why: &'a str,
    /// Whether it is the key of a leaf: the host's own.
    pub(super) is_leaf: bool,
    /// The subject of a certificate with that key.
    pub(super) subject: String,
}

pub(super) fn compromised_key_loaded(
    found: &Compromised<'_>,
    policy: Option<&Policy>,
    is_compromised: &dyn Fn(Pin) -> bool,
) -> Text {
    let whose = if found.is_leaf {
        "the key of the certificate".to_owned()
    } else {
        format!("the key of {}, above the certificate,", found.subject)
    };
    let pins = policy.map(distinct).unwrap_or_default();
    let others = || pins.iter().filter(|one| one.pin != found.pin && !is_compromised(one.pin));
    let remedy = match (others().next(), found.is_leaf) {
        (Some(_), _) => {
            "install a certificate for a backup key of the policy, then remove the pin of this key and \
             revoke the old certificate"
        }
        (None, true) => {
            "install a certificate for a key that clients accept and that is not compromised, and \
             revoke the old one"
        }
        (None, false) => "install a certificate from another issuer",
    };
    let text = Text::new(format!(
        "{whose} is recorded as compromised (\"{}\"); whoever has it can impersonate this host",
        Excerpt::new(found.why)
    ))
    .fix(remedy)
    .details([format!("compromised: sha256/{} {}", found.pin, found.subject)]);
    let own = pins.iter().filter(|one| one.pin == found.pin);
    text.details(own.map(|one| format!("pinned: sha256/{} ({}){COMPROMISED}", one.pin, one.at)))
        .details(
            others()
                .take(MAX_DETAILS)
                .map(|one| format!("pinned: sha256/{} ({})", one.pin, one.at)),
        )
}

pub(super) fn compromised_key_pinned(policy: &Policy, pin: Pin, why: &str) -> Text {
    Text::new(format!(
        "policy \"{}\" pins sha256/{pin}, whose key is recorded as compromised (\"{}\"); clients with \
         this policy accept whoever has that key, and it is no backup pin",
        policy.label(),
        Excerpt::new(why)
    ))
    .fix("remove the pin, and pin a new backup key")
}

fn described(chains: &[(&Chain, &Paths)]) -> Vec<String> {
    chains
        .iter()
        .flat_map(|(chain, paths)| {
            std::iter::once(leaf(chain)).chain(paths.describe().take(MAX_DETAILS))
        })
        .collect()
}

/// A loaded certificate: its file, subject, pin and expiry.
pub(super) fn leaf(chain: &Chain) -> String {
    let file =
        chain.file().map_or_else(String::new, |file| format!("{}, ", Excerpt::new(&file.path)));
    format!("certificate: {file}{}", leaf_text(chain))
}

/// [`leaf`] without the file.
pub(super) fn leaf_text(chain: &Chain) -> String {
    let leaf = chain.leaf();
    let pin =
        leaf.pin().map_or_else(|| "key without a pin".to_owned(), |pin| format!("sha256/{pin}"));
    format!("{}, {pin}, expires {}", leaf.subject(), leaf.not_after_text())
}
