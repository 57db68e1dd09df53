//! The texts of findings about published pins.

use std::collections::BTreeSet;

use super::messages::{self, COMPROMISED, MAX_DETAILS, leaf, leaf_text, searches, served_now};
use super::presented::PresentedKeys;
use super::routing::{Claim, HostSet};
use super::{Names, NotServedHere, Records, Serving, dane_messages};
use crate::date;
use crate::finding::{Class, Code, MAX_LINE, Text};
use crate::path::Chain;
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::{Live, Record, Retention};
use crate::published::{HostName, Lifetime, Matching, Origin, PinValidation, Presents};
use crate::text::{Excerpt, NAMED, ShellWord, listed};

/// The most ids in a command; if there are more, the command has the names instead.
const NAMED_IDS: usize = 12;

/// The most pins in a line.
const PINS_OF_A_LINE: usize = 8;

/// The least room, in bytes, for the ids or names in one command.
const MIN_CHOSEN: usize = 300;

/// The most bytes of a line besides the directory and the ids or names of its command.
const OTHERS_OF_A_LINE: usize = 400;

pub(super) fn not_known(why: &str, remedy: &str, records: &Records) -> Text {
    Text::new(format!("{why}, so it cannot be compared with the pins that clients hold"))
        .fix(remedy)
        .fix(format!(
            "otherwise check each new certificate: {} --cert FILE",
            command("why", records, "HOST")
        ))
}

pub(super) fn at_start(why: &str) -> Text {
    Text::new(format!(
        "{why}, so this test cannot compare it with the pins that clients hold; the start does"
    ))
}

pub(super) fn at_handshake(why: &str, remedy: &str) -> Text {
    messages::at_handshake(
        why,
        "compare it with the pins that clients hold; the guard does",
        remedy,
    )
}

/// Records whose pins a host does not match.
pub(super) struct UnmetPins<'a> {
    pub(super) records: &'a Records,
    pub(super) found: &'a [Live<'a>],
    /// The names and ports for which the pins do not match.
    pub(super) names: &'a BTreeSet<(HostSet, u16)>,
    /// Why the host answers for these names.
    pub(super) claim: Claim,
    /// By what the finding calls the host.
    pub(super) label: &'a str,
    pub(super) directives: &'a Names,
    /// The records of all hosts that share the finding.
    pub(super) all: &'a [Live<'a>],
    pub(super) chains: &'a [&'a Chain],
    pub(super) presented: &'a PresentedKeys<'a>,
    pub(super) serving: &'a [Serving],
    /// Whether the last accepted configuration presented the same.
    pub(super) before: bool,
    /// Whether its header was withheld, and is so again.
    pub(super) is_kept: bool,
    pub(super) now: i64,
}

/// What hosts must have in common to share a finding: the pins that they do not match.
pub(super) fn group(found: &[Live<'_>]) -> String {
    let mut pins: BTreeSet<String> = BTreeSet::new();
    for live in found {
        let body = &live.record.body;
        pins.insert(format!("{:?} {:?} {:?}", body.scope, body.pins, body.tlsa));
    }
    pins.into_iter().collect()
}

impl UnmetPins<'_> {
    pub(super) fn text(&self, code: Code) -> Text {
        let mut text = Text::new(self.what(code));
        let is_incidental = !matches!(self.claim, Claim::Name | Claim::Pattern);
        match code {
            Code::Waived | Code::RemovedHostPinsUnmet | Code::WildcardHostPinsUnmet => {}
            _ => text.fix.extend(self.safe_actions(code)),
        }
        match code {
            Code::RemovedHostPinsUnmet => {
                text = text.fix(format!(
                    "if {} moved to another machine, no action is needed; otherwise restore its server",
                    self.hosts()
                ));
            }
            Code::WildcardHostPinsUnmet => text.fix.extend(self.ways_out()),
            Code::Waived => {}
            _ if is_incidental => text.fix.extend(self.ways_out()),
            _ => {}
        }
        text.details.extend(self.chains.iter().map(|chain| leaf(chain)));
        for served in self.serving {
            text.details.push(served_now(served, self.is_held(served.pin), self.note(served.pin)));
        }
        for live in self.found.iter().take(MAX_DETAILS) {
            text.details.extend(self.held(live));
        }
        if self.before {
            let mut line = String::from(
                "not refused: the last accepted configuration presents the same to these clients",
            );
            if self.is_kept {
                line.push_str(
                    "; the header was not sent and is not sent, until these pins expire, their clients are given \
                     up, or the policy changes",
                );
            }
            text.details.push(line);
        }
        if self.claim == Claim::Pattern || self.is_of_other_names(code) {
            text.details.push(format!("affects {}", self.hosts()));
        }
        if code == Code::RemovedHostPinsUnmet || code == Code::WildcardHostPinsUnmet {
            text.details.push(format!("on port {}", self.ports()));
        } else if is_incidental && code != Code::Waived {
            text.details.push(self.why_answering());
        }
        if code != Code::Waived && code != Code::RemovedHostPinsUnmet {
            text.last_resort = self.commands();
        }
        text
    }

    /// What is wrong, and the consequence for clients.
    fn what(&self, code: Code) -> String {
        let chain = match self.chains.len() {
            1 => "the certificate chain",
            _ => "the chain of one of the certificates",
        };
        let above = match code {
            Code::SuperdomainPinsUnmet => " for a parent domain (includeSubDomains)",
            _ => "",
        };
        let until = self.until();
        let is_dane = self.found.iter().all(|live| live.record.body.tlsa.is_some());
        let until = if is_dane { until.replace("these pins", "these records") } else { until };
        match code {
            Code::PublishedPinsPartlyMet => format!(
                "some certificate paths that clients may build contain no key that matches the pins \
                 they hold{above}; clients on such a path refuse the certificate, {until}"
            ),
            Code::WildcardHostPinsUnmet => format!(
                "clients hold pins for {}, and no key in {chain} matches them; this server answers for \
                 {} only through {}; clients that connect here refuse the certificate, {until}",
                self.hosts(),
                self.it(),
                self.reason()
            ),
            Code::RemovedHostPinsUnmet => format!(
                "clients hold pins for {}, and no server has {} any more, {until}; the server that \
                 answers instead has a certificate for other names, which clients refuse",
                self.hosts(),
                self.it()
            ),
            Code::Waived if is_dane => {
                format!("waived: {}", dane_messages::unmet(self.found, chain, &until))
            }
            Code::Waived => format!(
                "no key in {chain} matches the waived pins that clients hold{above}; these clients \
                 refuse the certificate, {until}"
            ),
            _ if self.presented.is_temporary => format!(
                "clients hold pins{above}, and the server has no certificate for this host any more; they would \
                 refuse the temporary one that it presents instead, {until}"
            ),
            _ if is_dane => dane_messages::unmet(self.found, chain, &until),
            _ if self.is_partly() => format!(
                "some certificate paths that clients may build contain no key that matches the pins \
                 they hold{above}; it is not known which path these clients build, and those on such a \
                 path would refuse the certificate, {until}"
            ),
            _ => format!(
                "no key in {chain} matches the pins that clients hold{above}; these clients would \
                 refuse the certificate, {until}"
            ),
        }
    }

    /// Whether each certificate matches the pins of every record on some paths.
    fn is_partly(&self) -> bool {
        let meets = |live: &Live<'_>| {
            let body = &live.record.body;
            super::presented::meet(&self.presented.certificates, body.scope, &body.pins)
                != PinValidation::Fails
        };
        self.found.iter().all(meets)
    }

    /// Whether clients of the name that the finding begins with are not among these.
    fn is_of_other_names(&self, code: Code) -> bool {
        self.claim == Claim::Name
            && code != Code::RemovedHostPinsUnmet
            && self.names.iter().all(|((host, _), _)| host.as_str() != self.label)
    }

    /// The affected hosts, the first few.
    fn hosts(&self) -> String {
        let all: BTreeSet<String> =
            self.names.iter().map(|((host, m), _)| m.pattern(host)).collect();
        listed(all)
    }

    fn it(&self) -> &'static str {
        let hosts: BTreeSet<&HostSet> = self.names.iter().map(|(host_set, _)| host_set).collect();
        if hosts.len() == 1 { "it" } else { "them" }
    }

    fn ports(&self) -> String {
        let ports: BTreeSet<u16> = self.names.iter().map(|(_, port)| *port).collect();
        let ports: Vec<String> = ports
            .into_iter()
            .map(|port| if port == 0 { "a Unix socket".to_owned() } else { port.to_string() })
            .collect();
        ports.join(", ")
    }

    /// The reason why the host answers for the names, as a clause.
    fn reason(&self) -> String {
        let names: BTreeSet<&str> = self
            .chains
            .iter()
            .flat_map(|chain| chain.leaf().accepted_names())
            .filter(|name| self.names.iter().any(|((host, _), _)| is_for(name, host)))
            .map(String::as_str)
            .collect();
        match self.claim {
            Claim::PortOnly | Claim::AnyName | Claim::PatternOnly => {
                format!("its port ({})", self.ports())
            }
            _ => format!("the name {} in its certificate", listed(names)),
        }
    }

    /// The directives that declare that the names are served elsewhere.
    fn served_elsewhere(&self) -> String {
        let named: BTreeSet<String> = self
            .names
            .iter()
            .filter(|((_, matching), _)| *matching != Matching::AnyDepth)
            .map(|((host, matching), _)| matching.pattern(host))
            .collect();
        let directive = self.directives.not_served_here;
        let end = if self.directives.reject_handshake.is_some() { ";" } else { "" };
        if named.is_empty() {
            return format!("{directive} NAME{end}");
        }
        let all: Vec<String> =
            named.iter().take(NAMED).map(|name| format!("{directive} {name}{end}")).collect();
        all.join(" ")
    }

    /// Why a host that does not have the names answers for them.
    fn why_answering(&self) -> String {
        let (hosts, ports) = (self.hosts(), self.ports());
        if self.claim == Claim::AnyName {
            return format!(
                "these clients of {hosts} ignore the names in a certificate, and no server on port {ports} \
                 has a certificate for {}: they get this one",
                self.it()
            );
        }
        if self.claim == Claim::PatternOnly {
            return format!(
                "these clients of {hosts} ignore the names in a certificate; a pattern among the names of \
                 this server leads them here on port {ports}"
            );
        }
        if matches!(self.claim, Claim::Port | Claim::PortOnly) {
            return format!(
                "clients of {hosts} reach this server through its port alone ({ports})"
            );
        }
        format!(
            "this is the default server of port {ports}; no server there has {hosts}, so it answers for \
             {} through {}",
            self.it(),
            self.reason()
        )
    }

    /// What can be done where a host answers for names that it does not have.
    fn ways_out(&self) -> Vec<String> {
        let hosts = self.hosts();
        let elsewhere = self.served_elsewhere();
        if self.claim == Claim::Port {
            return Vec::new();
        }
        if self.claim.is_nameless() {
            return vec![format!("if clients do not reach {hosts} on this port: {elsewhere}")];
        }
        let reject = self.directives.reject_handshake.map(|directive| {
            format!("if clients do not reach {hosts} here, refuse their handshakes in a default server: {directive};")
        });
        let other = format!(
            "if clients do not reach {hosts} here, load a certificate without that name, or: {elsewhere}"
        );
        let here = format!(
            "if clients reach {hosts} here, add the name to a server, so that its pins are checked"
        );
        [here].into_iter().chain(reject).chain([other]).collect()
    }

    /// The actions that lock none of these clients out, best first.
    fn safe_actions(&self, code: Code) -> Vec<String> {
        if self.found.iter().all(|live| live.record.body.tlsa.is_some()) {
            return dane_messages::advice(self.records, self.found, self.chains);
        }
        let pins = || self.found.iter().flat_map(|live| live.record.body.pins.iter().copied());
        let is_compromised = |pin: &Pin| self.records.state.is_compromised(*pin);
        let first = match (
            pins().any(|pin| is_compromised(&pin)),
            pins().all(|pin| is_compromised(&pin)),
        ) {
            _ if code == Code::PublishedPinsPartlyMet => {
                "load a certificate that has a key pinned by these clients on every path"
            }
            (false, _) => {
                "load a certificate for a key that these clients accept: the previous certificate, or \
                 one for a backup key (certbot renews with the same key if run with --reuse-key)"
            }
            (true, false) => {
                "load a certificate for a key that these clients accept and that is not compromised"
            }
            (true, true) => {
                "all keys that these clients accept are compromised, so no certificate can satisfy them \
                 safely; wait until the pins expire, or lock these clients out (docs/incident.md)"
            }
        };
        let searched: BTreeSet<Pin> = pins().filter(|pin| !is_compromised(pin)).collect();
        // The key in use first: it is on this machine, a backup key most likely is not.
        let hosts = self.found.iter().map(|live| &live.record.body.host).collect();
        let in_use = self.records.state.presented_keys(&hosts);
        let mut searched: Vec<Pin> = searched.into_iter().collect();
        searched.sort_by_key(|pin| !in_use.contains(pin));
        let mut actions = vec![first.to_owned()];
        actions.extend(searches(searched.into_iter(), self.chains.iter().copied()));
        actions.push(self.safe_date());
        actions.extend(dane_messages::advice(self.records, self.found, self.chains));
        actions
    }

    /// Until when the last of these clients would refuse the host, if no server sent these pins any more.
    fn until(&self) -> String {
        let mut longest: Option<(i64, String)> = None;
        for live in self.found {
            let (end, text) = match live.retention {
                Retention::Until(time) => (time, format!("until {}", date::format(time))),
                Retention::WhilePublished(after) => (
                    self.now.saturating_add(after),
                    format!(
                        "until {} after {} stops sending these pins",
                        date::duration(after),
                        self.sender(live)
                    ),
                ),
                Retention::Indefinite => return NO_EXPIRY.to_owned(),
            };
            if longest.as_ref().is_none_or(|(known, _)| *known <= end) {
                longest = Some((end, text));
            }
        }
        longest.map_or_else(|| NO_EXPIRY.to_owned(), |(_, text)| text)
    }

    /// Who sends the pins of a record.
    fn sender(&self, live: &Live<'_>) -> String {
        let writer = &live.record.writer;
        match self.records.writer.as_ref() == Some(writer) {
            true => "this server".to_owned(),
            false => writer.to_string(),
        }
    }

    /// How the key can be changed without locking these clients out.
    fn safe_date(&self) -> String {
        let (mut latest, mut served, mut elsewhere) = (self.now, None, BTreeSet::new());
        let mut in_apps = false;
        for live in self.found {
            match live.retention {
                Retention::Until(time) => latest = latest.max(time),
                Retention::WhilePublished(after) => {
                    served = served.max(Some(after));
                    if self.records.writer.as_ref() != Some(&live.record.writer) {
                        elsewhere.insert(live.record.writer.as_str());
                    }
                }
                // The advice for TLSA records is a line of its own.
                Retention::Indefinite if live.record.body.tlsa.is_some() => {}
                Retention::Indefinite => in_apps = true,
            }
        }
        if in_apps {
            let publish = match (served, elsewhere.is_empty()) {
                (None, _) => String::new(),
                (Some(_), true) => ", and publish it in the policy".to_owned(),
                (Some(_), false) => {
                    format!(", and publish it in the policy on {} too", listed(&elsewhere))
                }
            };
            return self.after_a_release(&publish);
        }
        let place = match elsewhere.is_empty() {
            true => ", beside that of the key in use".to_owned(),
            false => format!(" on {} too", listed(&elsewhere)),
        };
        let publish = format!(
            "for a new key: publish its pin{} now{place}; the certificate may change",
            self.new_pin()
        );
        // These pins expire a fixed time after the operator's change. Before the change the date is not known.
        let outlasts = |after: i64| self.now.saturating_add(after) >= latest;
        match served {
            Some(after) if !elsewhere.is_empty() && outlasts(after) => {
                format!("{publish} {} after that", date::duration(after))
            }
            Some(after) if outlasts(after) => format!(
                "{publish} {} after that, on {} at the earliest",
                date::duration(after),
                date::format(self.now.saturating_add(after))
            ),
            Some(_) => format!("{publish} on {}", date::format(latest)),
            None => format!(
                "for a new key: wait until the last of these pins expires on {}; the certificate may \
                 change then",
                date::format(latest)
            ),
        }
    }

    /// The command that ends the pins of released apps, for all hosts of the finding. If there are many,
    /// the command does not name their hosts: these may also have pins of releases that are still in use. `publish`
    /// says where the pin is to be published besides.
    fn after_a_release(&self, publish: &str) -> String {
        let of_an_app = |live: &&Live<'_>| {
            live.retention == Retention::Indefinite && live.record.body.tlsa.is_none()
        };
        let open: Vec<Live<'_>> = self.all.iter().filter(of_an_app).copied().collect();
        let release = format!(
            "for a new key: release the app (zone, script) with the new pin{publish}; when no old release is in use \
             any more"
        );
        match &commands("end", "--why REASON", self.records, &open)[..] {
            [end] if open.len() <= NAMED_IDS => format!("{release}, run: {end}"),
            _ => format!(
                "{release}, end its records by their ids, which this prints: hpkp published {} list",
                self.records.options()
            ),
        }
    }

    /// The pin of the loaded key, if the host has only one.
    fn new_pin(&self) -> String {
        match self.chains {
            [chain] => {
                chain.leaf().pin().map_or_else(String::new, |pin| format!(" (sha256/{pin})"))
            }
            _ => String::new(),
        }
    }

    /// Who holds which pins, until when.
    fn held(&self, live: &Live<'_>) -> Vec<String> {
        let record = live.record;
        let body = &record.body;
        let name = body.matching.pattern(&body.host);
        let since = date::format(body.since.unwrap_or(record.at));
        let until = match live.retention {
            Retention::Until(time) => format!("until {}", date::format(time)),
            Retention::WhilePublished(after) => {
                format!(
                    "until {} after {} stops sending them",
                    date::duration(after),
                    self.sender(live)
                )
            }
            Retention::Indefinite => "without expiry".to_owned(),
        };
        let who = match (&body.origin, body.lifetime, live.retention) {
            (_, Lifetime::MaxAge(age), Retention::Until(time)) => format!(
                "clients that visited {name} between {since} and {}",
                date::format(self.now.min(time - i64::from(age.seconds())))
            ),
            (Origin::Header, ..) | (_, Lifetime::MaxAge(_), _) => {
                format!("clients that visited {name} since {since}")
            }
            (origin, ..) => {
                format!("clients of \"{}\" for {name} since {since}", Excerpt::new(origin.as_str()))
            }
        };
        let what_for = body
            .owner()
            .map_or_else(|| format!("scope {}", body.scope), |owner| format!("at {owner}"));
        let source = format!("(recorded by {}, {what_for}, id {})", record.writer, record.id);
        let held: Vec<String> = match body.tlsa.as_deref() {
            Some(set) => dane_messages::held(set),
            None => body
                .pins
                .iter()
                .take(MAX_DETAILS)
                .map(|pin| self.held_pin(body.scope, *pin))
                .collect(),
        };
        let lines = held.chunks(PINS_OF_A_LINE).map(|some| some.join(", "));
        lines.map(|some| format!("held by: {who}, {until}: {some} {source}")).collect()
    }

    fn held_pin(&self, scope: crate::published::Scope, pin: Pin) -> String {
        let on_path = self.presented.meet_one(scope, pin) != PinValidation::Fails;
        let path = if on_path { " (on some paths)" } else { "" };
        format!("sha256/{pin}{}{path}", self.note(pin))
    }

    fn is_held(&self, pin: Pin) -> bool {
        self.found.iter().any(|live| live.record.body.pins.contains(&pin))
    }

    fn note(&self, pin: Pin) -> &'static str {
        if self.records.state.is_compromised(pin) { COMPROMISED } else { "" }
    }

    /// The commands that waive these pins, for all hosts of the finding.
    fn commands(&self) -> Vec<String> {
        commands("waive", "--who NAME --why REASON", self.records, self.all)
    }
}

/// The words for pins without an expiry.
const NO_EXPIRY: &str = "and these pins do not expire";

/// Commands for all of `found`, by id if there are few records, else by name. There are several commands if one would
/// be too long for a log line.
fn commands(verb: &str, words: &str, records: &Records, found: &[Live<'_>]) -> Vec<String> {
    let mut chosen: Vec<String> = found.iter().map(|live| live.record.id.to_string()).collect();
    if chosen.len() > NAMED_IDS {
        let name = |live: &Live<'_>| {
            let body = &live.record.body;
            body.matching.pattern(&body.host)
        };
        let names: BTreeSet<String> = found.iter().map(name).collect();
        chosen = names.iter().map(|name| format!("--host {}", ShellWord::new(name))).collect();
    }
    let room = MAX_LINE.saturating_sub(OTHERS_OF_A_LINE + records.options().len()).max(MIN_CHOSEN);
    let mut all: Vec<String> = Vec::new();
    for one in chosen {
        match all.last_mut().filter(|line| line.len() + one.len() < room) {
            Some(line) => {
                line.push(' ');
                line.push_str(&one);
            }
            None => all.push(one),
        }
    }
    all.into_iter().map(|ids| format!("{} {words}", command(verb, records, &ids))).collect()
}

impl PresentedKeys<'_> {
    fn meet_one(&self, scope: crate::published::Scope, pin: Pin) -> PinValidation {
        let meets = self.certificates.iter().map(|one| one.keys.meet(scope, |other| other == pin));
        meets.max().unwrap_or(PinValidation::Fails)
    }
}

/// Whether a name in a certificate matches a host.
fn is_for(name: &str, host: &HostName) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host.parents().next() == Some(domain) || host.as_str() == domain,
        None => name == host.as_str(),
    }
}

pub(super) fn name_and_port(one: &NotServedHere) -> String {
    let name = one.matching.pattern(&one.host);
    let over = if one.udp { "/udp" } else { "" };
    match one.port {
        Some(port) => format!("{name}:{port}{over}"),
        None => name,
    }
}

/// The names, several to a line, or none if the text already has `named` them all.
fn lines_of(names: &[String], named: usize) -> impl Iterator<Item = String> {
    let names = if names.len() > named { names } else { &[] };
    names.chunks(NAMED).take(MAX_DETAILS).map(|some| some.join(", "))
}

pub(super) fn served_here(name: &str, directive: &str) -> Text {
    Text::new(format!(
        "{directive} declares that clients do not reach {name} here, but this server has the name"
    ))
    .fix(format!("remove the name from {directive} or from the server"))
}

pub(super) fn not_served_here(names: &[String], directive: &str) -> Text {
    let what = match names {
        [only] => format!("pins that clients hold for {only} are not compared ({directive})"),
        many => {
            format!(
                "pins that clients hold for {} hosts are not compared ({directive})",
                many.len()
            )
        }
    };
    Text::new(what).details(lines_of(names, 1))
}

pub(super) fn unlistened(names: &[String], directive: &str) -> Text {
    let first = listed(names);
    Text::new(format!(
        "clients hold pins for {first}, and no checked server has the host on that port, so these \
         pins are not compared with any certificate"
    ))
    .fix("if clients reach the host through another port of this server, declare the public port")
    .fix(match names {
        [only] => format!("if another machine or program serves it: {directive} {only}"),
        _ => format!("if another machine or program serves it: {directive} NAME:PORT"),
    })
    .details(lines_of(names, NAMED))
}

pub(super) fn closed(names: &[String], directive: &str) -> Text {
    let first = listed(names);
    Text::new(format!(
        "the last accepted configuration served {first} with TLS and this one does not; clients that \
         hold pins for it cannot connect, or reach a service whose certificate is not checked"
    ))
    .fix("if that is a mistake, restore the server block and its listener with TLS")
    .fix(format!("if another machine serves it now: {directive} NAME:PORT"))
    .details(lines_of(names, NAMED))
}

pub(super) fn earlier_format() -> Text {
    Text::new(
        "the last accepted configuration was recorded in format 1, which has keys and not certificates: \
         until the next start or reload writes format 2, a certificate chain with the same keys counts \
         as unchanged even if it leads to another root",
    )
}

pub(super) fn still_sent(policy: &str) -> Text {
    Text::new(format!(
        "the pins of policy \"{policy}\" were waived and are still sent; the waiver covers clients that note \
         them from now on as well, so a certificate that locks them out passes with a warning"
    ))
    .fix("to protect these clients, change the policy, for instance its backup pin: other pins are not waived")
}

/// Why unusable records do not refuse a configuration, by the class of the finding.
pub(super) const fn not_refused(class: Class) -> Option<&'static str> {
    match class {
        Class::Warning => {
            Some("not refused: the last accepted configuration presents and publishes the same")
        }
        Class::Withhold => Some(
            "not refused: the last accepted configuration presents and publishes the same; the header is not sent \
             until these records can be used",
        ),
        Class::Invalid | Class::Lockout | Class::Unsure => None,
    }
}

pub(super) fn clock_behind(now: i64, newest: i64) -> Text {
    Text::new(format!(
        "the clock of this machine shows {}, before the newest record of this server ({}); until it is \
         right, pins that had not expired at that time count as not expired",
        date::format(now),
        date::format(newest)
    ))
    .fix("set the clock")
}

pub(super) fn other_block(
    policy: &Policy,
    noted: &HostSet,
    visited: &HostSet,
    label: &str,
    chains: &[&Chain],
) -> Text {
    let visited_name = visited.1.pattern(&visited.0);
    let label = Excerpt::new(label);
    Text::new(format!(
        "server \"{label}\" presents keys for {visited_name} that policy \"{}\" does not pin; clients \
         that remember the policy would refuse that server, since pins apply to all ports of a host",
        policy.label()
    ))
    .fix("add the pin of its key to the policy, or use one key for both servers")
    .details([format!("policy remembered for {}", noted.1.pattern(&noted.0))])
    .details(chains.iter().map(|chain| match chain.file() {
        Some(_) => format!("presented by \"{label}\", {}", leaf(chain)),
        None => format!("presented by \"{label}\": {}", leaf_text(chain)),
    }))
}

/// The command that records an operator's decision about events, without its reason.
fn command(verb: &str, records: &Records, ids: &str) -> String {
    format!("hpkp published {} {verb} {ids}", records.options())
}

/// The text about certificates of other machines that new pins do not match, for all hosts of the policy.
pub(super) fn elsewhere(policy: &Policy, records: &Records, all: &[&Record<Presents>]) -> Text {
    let writers: BTreeSet<&str> = all.iter().map(|record| record.writer.as_str()).collect();
    let names: BTreeSet<String> =
        all.iter().map(|record| record.body.matching.pattern(&record.body.host)).collect();
    let (present, that) = match writers.len() {
        1 => ("presents", "that server"),
        _ => ("present", "those servers"),
    };
    let mut text = Text::new(format!(
        "{} {present} keys for {} that policy \"{}\" does not pin; clients that remember the policy would \
         refuse {that}",
        listed(&writers),
        listed(names),
        policy.label()
    ))
    .fix("publish the pin of its key here and the pin of the new key there, and change the key afterwards");
    // Each writer gets a command, since one may be gone and another not. If there are many, a command has as many
    // writers as fit in a log line.
    let of_a_line = if writers.len() <= NAMED { 1 } else { NAMED };
    let writers: Vec<&str> = writers.into_iter().collect();
    for some in writers.chunks(of_a_line) {
        let is = if some.len() == 1 { "is" } else { "are all" };
        let names =
            some.iter().map(|name| format!("--writer {name}")).collect::<Vec<_>>().join(" ");
        text = text.fix(format!(
            "only if {} {is} gone for good: {} --why REASON",
            some.join(", "),
            command("end", records, &names)
        ));
    }
    text.details(all.iter().take(MAX_DETAILS / 2).map(|record| presented_there(records, record)))
}

fn presented_there(records: &Records, record: &Record<Presents>) -> String {
    let body = &record.body;
    let leaves = body.certificates.iter().filter_map(|one| one.served.first().copied().flatten());
    let leaves: Vec<String> = leaves.take(4).map(|pin| format!("sha256/{pin}")).collect();
    let stopped = records.state.end(record.id).map_or_else(String::new, |end| {
        format!(
            "; it stopped on {} and may start again, so it counts until it starts with other keys or \
             its end is recorded",
            date::format(end.at)
        )
    });
    format!(
        "presented by {} for {}: {} (recorded {}, id {}){stopped}",
        record.writer,
        body.matching.pattern(&body.host),
        leaves.join(", "),
        date::format(record.at),
        record.id
    )
}

pub(super) fn no_writer(policy: &Policy, directive: &str) -> Text {
    Text::new(format!(
        "the pins of policy \"{}\" are sent and not recorded, so a later configuration that locks out \
         clients which remember them would pass",
        policy.label()
    ))
    .fix(format!("create a directory for records and name it in {directive}: hpkp published init DIR"))
}
