//! The words for findings about published pins.

use std::collections::BTreeSet;

use super::records::{Records, Shown};
use super::report::{COMPROMISED, MAX_DETAILS, leaf};
use super::routing::{Claim, Sample};
use super::{Names, Serving};
use crate::date;
use crate::finding::Code;
use crate::path::Chain;
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::{Binding, Live, Record};
use crate::published::{HostName, Lifetime, Matching, Met, Origin, Presents};
use crate::text::{Excerpt, ShellWord};

type Text = (String, Vec<String>);

/// How many ids a command line names; more would not fit a line of the log.
const NAMED_IDS: usize = 6;

/// How many bytes of ids or names one command line has; more would not fit a line of the log.
const MAX_CHOSEN: usize = 500;

pub(super) fn not_known(why: &str, remedy: &str) -> String {
    format!("{why}, so it cannot be compared with the published pins; {remedy}")
}

pub(super) fn at_start(why: &str) -> String {
    format!("{why}, so this test cannot compare it with the published pins; the start will")
}

/// Records that a host does not meet.
pub(super) struct Unmet<'a> {
    pub(super) records: &'a Records,
    pub(super) found: &'a [Live<'a>],
    /// For whom they are not met, with the ports.
    pub(super) names: &'a BTreeSet<(Sample, u16)>,
    /// Why the host answers for these names.
    pub(super) claim: Claim,
    pub(super) directives: &'a Names,
    /// The same of all hosts that share the finding.
    pub(super) all: &'a [Live<'a>],
    pub(super) chains: &'a [&'a Chain],
    pub(super) shown: &'a Shown<'a>,
    pub(super) serving: &'a [Serving],
    /// Whether the last accepted configuration presented the same.
    pub(super) before: bool,
    pub(super) now: i64,
}

/// What hosts must have in common to share a finding: the pins that they do not meet.
pub(super) fn group(found: &[Live<'_>]) -> String {
    let mut pins: BTreeSet<String> = BTreeSet::new();
    for live in found {
        let said = &live.record.said;
        pins.insert(format!("{:?} {:?}", said.scope, said.pins));
    }
    pins.into_iter().collect()
}

impl Unmet<'_> {
    pub(super) fn text(&self, code: Code) -> Text {
        let whose = match self.chains.len() {
            1 => "its certificate",
            _ => "one of its certificates",
        };
        let above = match code {
            Code::SuperdomainPinsUnmet => " of a domain above it, with includeSubDomains,",
            _ => "",
        };
        let until = self.until();
        let summary = match code {
            Code::PublishedPinsPartlyMet => format!(
                "clients that hold published pins{above} may build a path from {whose} that has \
                 none of these keys, {until}; present a key that is on every path, best that of \
                 the certificate itself"
            ),
            Code::WildcardHostPinsUnmet => format!(
                "clients hold pins for {}, and no key in the chain of {whose} is among them; this \
                 server answers for {} only by {}. If clients come here, they refuse it, {until}: add \
                 the name to those of a server here, and its pins are checked. If they do not, \
                 write: {}",
                self.hosts(),
                self.it(),
                self.reason(),
                self.served_elsewhere()
            ),
            Code::RemovedHostPinsUnmet => format!(
                "no server has {} any more, for which clients hold pins, {until}; this default server \
                 answers instead, and clients refuse its certificate, which is not for {}. If the host \
                 has moved to another machine, nothing need be done; if not, put its server back",
                self.hosts(),
                self.it()
            ),
            Code::Waived => format!(
                "no key in the chain of {whose} is among published pins{above} that were waived; \
                 clients that hold them refuse it, {until}"
            ),
            _ if self.is_partly() => format!(
                "clients that hold pins{above} may build a path from {whose} that has none of these \
                 keys and that is not known to be theirs so far; they would refuse it, {until}. {}",
                self.remedy()
            ),
            _ => format!(
                "no key in the chain of {whose} is among the pins{above} that clients hold; they \
                 would refuse it, {until}. {}",
                self.remedy()
            ),
        };
        let mut details = Vec::new();
        if self.before {
            details.push(
                "the configuration accepted before presents the same to these clients, so this is no \
                 reason to refuse the new one"
                    .to_owned(),
            );
        }
        if self.claim == Claim::Pattern {
            details.push(format!("affects {}", self.hosts()));
        }
        let is_incidental = !matches!(self.claim, Claim::Name | Claim::Pattern);
        if is_incidental && !matches!(code, Code::WildcardHostPinsUnmet | Code::Waived) {
            details.extend(self.why_concerned());
        }
        if code == Code::RemovedHostPinsUnmet || code == Code::WildcardHostPinsUnmet {
            details.push(format!("ports: {}", self.ports()));
        } else {
            details.push(self.safe_date());
        }
        for live in self.found.iter().take(MAX_DETAILS) {
            details.extend(self.held(live));
        }
        details.extend(self.chains.iter().map(|chain| format!("loaded: {}", leaf(chain))));
        for served in self.serving {
            details.push(format!(
                "the certificate on disk is not the one being served: that has the key sha256/{}{}, \
                 expires {}",
                served.pin,
                self.note(served.pin),
                served.not_after
            ));
        }
        if code != Code::Waived && code != Code::RemovedHostPinsUnmet {
            details.extend(self.commands());
        }
        (summary, details)
    }

    /// Whether some paths of each certificate meet all of the pins.
    fn is_partly(&self) -> bool {
        let meets = |live: &Live<'_>| {
            let said = &live.record.said;
            super::records::meet(&self.shown.certificates, said.scope, &said.pins) != Met::No
        };
        self.found.iter().all(meets)
    }

    /// The hosts concerned, the first few.
    fn hosts(&self) -> String {
        let all: BTreeSet<String> =
            self.names.iter().map(|((host, m), _)| shown_name(host.as_str(), *m)).collect();
        let named: Vec<&str> = all.iter().take(NAMED_IDS).map(String::as_str).collect();
        let more = if all.len() > NAMED_IDS { ", ..." } else { "" };
        format!("{}{more}", named.join(", "))
    }

    fn it(&self) -> &'static str {
        let hosts: BTreeSet<&Sample> = self.names.iter().map(|(sample, _)| sample).collect();
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

    /// What makes the host answer for the names.
    fn reason(&self) -> String {
        let names: BTreeSet<&str> = self
            .chains
            .iter()
            .flat_map(|chain| chain.leaf().dns_names())
            .filter(|name| self.names.iter().any(|((host, _), _)| is_for(name, host)))
            .map(String::as_str)
            .collect();
        let names: Vec<&str> = names.into_iter().take(NAMED_IDS).collect();
        match self.claim {
            Claim::PortOnly => format!("its port ({})", self.ports()),
            _ => format!("the name {} in its certificate", names.join(", ")),
        }
    }

    /// The directives that say that the names are served elsewhere.
    fn served_elsewhere(&self) -> String {
        let named: BTreeSet<String> = self
            .names
            .iter()
            .filter(|((_, matching), _)| *matching != Matching::AnyDepth)
            .map(|((host, matching), _)| shown_name(host.as_str(), *matching))
            .collect();
        let directive = self.directives.not_served_here;
        let end = if self.directives.reject_handshake.is_some() { ";" } else { "" };
        if named.is_empty() {
            return format!("{directive} NAME{end}");
        }
        let all: Vec<String> =
            named.iter().take(NAMED_IDS).map(|name| format!("{directive} {name}{end}")).collect();
        all.join(" ")
    }

    /// Why a host that does not have the names is concerned, and how it can be taken out of it.
    fn why_concerned(&self) -> Vec<String> {
        let (hosts, ports) = (self.hosts(), self.ports());
        if matches!(self.claim, Claim::Port | Claim::PortOnly) {
            return vec![format!(
                "this server is reached by its port alone ({ports}), for {hosts}"
            )];
        }
        let why = format!(
            "this is the default server of port {ports}; no server there has {hosts}, so it answers \
             for {} by {}",
            self.it(),
            self.reason()
        );
        let reject =
            self.directives.reject_handshake.map(|directive| format!("{directive}; in it, "));
        let way_out = format!(
            "if clients do not reach {hosts} here: {}a certificate of other names, or: {}",
            reject.unwrap_or_default(),
            self.served_elsewhere()
        );
        vec![why, way_out]
    }

    /// What to do, in the first line.
    fn remedy(&self) -> &'static str {
        let pins = || self.found.iter().flat_map(|live| &live.record.said.pins);
        let is_compromised = |pin: &Pin| self.records.state.is_compromised(*pin);
        match (pins().any(is_compromised), pins().all(is_compromised)) {
            (false, _) => {
                "Load a certificate for a key that they hold, the old one or a backup (certbot: \
                 --reuse-key); publish the new key's pin first and change the certificate later"
            }
            (true, false) => {
                "Load a certificate for a key that they hold and that is not compromised; publish \
                 the new key's pin first and change the certificate later"
            }
            (true, true) => {
                "All keys that they hold are compromised, so there is none to go back to; waiting \
                 or giving these clients up is what is left"
            }
        }
    }

    /// Until when the last of these clients would refuse it, were nothing of this sent any more.
    fn until(&self) -> String {
        let (mut served, mut until) = (None, None);
        for live in self.found {
            match live.binding {
                Binding::Until(time) => until = until.max(Some(time)),
                Binding::Served(after) => served = served.max(Some(after)),
                Binding::Open => return "with no end known".to_owned(),
            }
        }
        // What was published before may have been for longer than what is now.
        let outlasts = |after: &i64| Some(self.now.saturating_add(*after)) >= until;
        match (served.filter(outlasts), until) {
            (Some(after), _) => format!("for {} hours after it is no longer sent", after / 3_600),
            (None, Some(time)) => format!("until {}", date::format(time)),
            (None, None) => "with no end known".to_owned(),
        }
    }

    /// From when on nobody holds the pins, if the new ones are published at once.
    fn safe_date(&self) -> String {
        let (mut latest, mut served) = (self.now, None);
        for live in self.found {
            match live.binding {
                Binding::Until(time) => latest = latest.max(time),
                Binding::Served(after)
                    if self.records.writer.as_ref() == Some(&live.record.writer) =>
                {
                    served = served.max(Some(after));
                }
                Binding::Served(after) => {
                    return format!(
                        "{} still publishes such pins; this is safe {} hours after it has stopped",
                        live.record.writer,
                        after / 3_600
                    );
                }
                Binding::Open => {
                    return "these pins have no known end; this is safe once they are said to have \
                            ended"
                        .to_owned();
                }
            }
        }
        // A date would recede for as long as nothing is changed.
        let outlasts = |after: &i64| self.now.saturating_add(*after) >= latest;
        if let Some(after) = served.filter(outlasts) {
            let (count, unit) = match after {
                days if days % (24 * 3_600) == 0 => (days / (24 * 3_600), "days"),
                _ => (after / 3_600, "hours"),
            };
            return format!(
                "publish the pin of the new key now, and none that it lacks; the certificate may \
                 change {count} {unit} after that"
            );
        }
        format!(
            "safe from {} on, if what is published now has the pin of the new key and none that it \
             lacks",
            date::format(latest)
        )
    }

    /// Who holds what.
    fn held(&self, live: &Live<'_>) -> Vec<String> {
        let record = live.record;
        let said = &record.said;
        let name = shown_name(said.host.as_str(), said.matching);
        let since = date::format(said.since.unwrap_or(record.at));
        let who = match (&said.origin, said.lifetime) {
            (Origin::Header, _) | (_, Lifetime::MaxAge(_)) => {
                let last = match (live.binding, said.lifetime) {
                    (Binding::Until(time), Lifetime::MaxAge(age)) => {
                        date::format(time - i64::from(age.seconds()))
                    }
                    _ => "now".to_owned(),
                };
                format!("by clients that visited {name} between {since} and {last}")
            }
            (origin, _) => {
                format!(
                    "by clients of \"{}\" for {name}, since {since}",
                    Excerpt::new(origin.as_str())
                )
            }
        };
        let head = format!(
            "held {who}, told by {}; compared: {}; event {}",
            record.writer, said.scope, record.id
        );
        let pins = said.pins.iter().take(MAX_DETAILS).map(|pin| {
            let note = self.note(*pin);
            let on_path = self.shown.meet_one(said.scope, *pin) != Met::No;
            let path = if on_path { ", on some of the paths" } else { "" };
            format!("held: sha256/{pin}{note}{path}")
        });
        std::iter::once(head).chain(pins).collect()
    }

    fn note(&self, pin: Pin) -> &'static str {
        if self.records.state.is_compromised(pin) { COMPROMISED } else { "" }
    }

    /// The command that gives these clients up, or says that there are none: of all hosts of the finding.
    fn commands(&self) -> Vec<String> {
        // What was noted at a visit stays noted, whatever ends.
        let is_noted = |live: &&Live<'_>| matches!(live.record.said.lifetime, Lifetime::MaxAge(_));
        let (noted, others): (Vec<&Live<'_>>, Vec<&Live<'_>>) = self.all.iter().partition(is_noted);
        let mut commands = Vec::new();
        if noted.is_empty() {
            let meaning = "if nobody uses what holds these pins any more";
            commands.extend(named(meaning, "end", "--why REASON", self.records, &others));
        } else {
            let all: Vec<&Live<'_>> = self.all.iter().collect();
            let words = "--who NAME --why REASON";
            commands.extend(named("to give these clients up", "waive", words, self.records, &all));
        }
        commands
    }
}

/// A command for all of `found`: by their ids where these are few, else by their names, and in several
/// lines where one would be too long for a log.
fn named(
    meaning: &str,
    verb: &str,
    words: &str,
    records: &Records,
    found: &[&Live<'_>],
) -> Vec<String> {
    let mut chosen: Vec<String> = found.iter().map(|live| live.record.id.to_string()).collect();
    if chosen.len() > NAMED_IDS {
        let name = |live: &&Live<'_>| {
            let said = &live.record.said;
            shown_name(said.host.as_str(), said.matching)
        };
        let names: BTreeSet<String> = found.iter().map(name).collect();
        chosen = names.iter().map(|name| format!("--host {}", ShellWord::new(name))).collect();
    }
    let mut commands: Vec<String> = Vec::new();
    let mut line = String::new();
    for one in chosen {
        if line.len() + one.len() > MAX_CHOSEN && !line.is_empty() {
            commands.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&one);
    }
    commands.push(line);
    let commands = commands.into_iter();
    commands.map(|ids| format!("{meaning}: {} {words}", command(verb, records, &ids))).collect()
}

impl Shown<'_> {
    fn meet_one(&self, scope: crate::published::Scope, pin: Pin) -> Met {
        let meets = self.certificates.iter().map(|one| one.keys.meet(scope, |other| other == pin));
        meets.max().unwrap_or(Met::No)
    }
}

/// Whether a name in a certificate is for a host.
fn is_for(name: &str, host: &HostName) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host.parents().next() == Some(domain) || host.as_str() == domain,
        None => name == host.as_str(),
    }
}

pub(super) fn name_and_port(host: &HostName, matching: Matching, port: Option<u16>) -> String {
    let name = shown_name(host.as_str(), matching);
    match port {
        Some(port) => format!("{name}:{port}"),
        None => name,
    }
}

/// A list, several to a line.
fn listed(names: &[String]) -> Vec<String> {
    names.chunks(NAMED_IDS).take(MAX_DETAILS).map(|some| some.join(", ")).collect()
}

pub(super) fn served_here(name: &str, directive: &str) -> String {
    format!(
        "{directive} says that clients do not reach {name} here, and this server has the name; remove \
         one of the two"
    )
}

pub(super) fn not_served_here(names: &[String], directive: &str) -> Text {
    let summary = match names {
        [only] => format!("pins of {only} are not compared here ({directive})"),
        many => format!("pins of {} hosts are not compared here ({directive})", many.len()),
    };
    (summary, if names.len() > 1 { listed(names) } else { Vec::new() })
}

pub(super) fn unlistened(names: &[String], directive: &str) -> Text {
    let first = names.iter().take(NAMED_IDS).cloned().collect::<Vec<_>>().join(", ");
    let more = if names.len() > NAMED_IDS { ", ..." } else { "" };
    let summary = format!(
        "clients hold pins for {first}{more}, and no checked server has the host on that port, so \
         these pins are compared with nothing; if clients reach it through another port here, declare \
         the public port; if it is served elsewhere, write: {directive} NAME:PORT"
    );
    (summary, if names.len() > NAMED_IDS { listed(names) } else { Vec::new() })
}

pub(super) fn earlier_format() -> String {
    "the records of the last accepted configuration are of format 1, which names keys and not \
     certificates: until the next start or reload writes format 2, a certificate chain with the same \
     keys passes as unchanged even if it leads to another root"
        .to_owned()
}

pub(super) fn shown_name(host: &str, matching: Matching) -> String {
    match matching {
        Matching::Exact => host.to_owned(),
        Matching::OneLabel => format!("*.{host}"),
        Matching::AnyDepth => format!("**.{host}"),
    }
}

pub(super) fn clock_behind(now: i64, newest: i64) -> String {
    format!(
        "the clock says {}, and this server's newest record is of {}; set the clock. Until then no \
         published pin is taken for expired that was not at that time",
        date::format(now),
        date::format(newest)
    )
}

pub(super) fn other_block(
    policy: &Policy,
    noted: &Sample,
    visited: &Sample,
    label: &str,
    chains: &[&Chain],
) -> Text {
    let visited_name = shown_name(visited.0.as_str(), visited.1);
    let summary = format!(
        "clients that note the policy \"{}\" from here would refuse the server \"{}\", which \
         presents other keys for {visited_name}; pins hold for all ports. Pin its key as well, or \
         give both servers one key",
        policy.shown(),
        Excerpt::new(label)
    );
    let noted = format!("noted for {}", shown_name(noted.0.as_str(), noted.1));
    let loaded = chains.iter().map(|chain| format!("presented there: {}", leaf(chain)));
    (summary, std::iter::once(noted).chain(loaded).collect())
}

/// The command that records an operator's decision about events, without its reason.
fn command(verb: &str, records: &Records, ids: &str) -> String {
    format!("hpkp published -d {} {verb} {ids}", ShellWord::new(&records.directory))
}

/// What other servers present that new pins do not meet: of all hosts of the policy.
pub(super) fn elsewhere(policy: &Policy, records: &Records, all: &[&Record<Presents>]) -> Text {
    let writers: BTreeSet<&str> = all.iter().map(|record| record.writer.as_str()).collect();
    let names: BTreeSet<String> = all
        .iter()
        .map(|record| shown_name(record.said.host.as_str(), record.said.matching))
        .collect();
    let listed = |texts: Vec<&str>| {
        let named = texts.iter().take(NAMED_IDS).copied().collect::<Vec<_>>().join(", ");
        match texts.len().saturating_sub(NAMED_IDS) {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    };
    let summary = format!(
        "clients that note the policy \"{}\" from here would refuse the server of {}, which \
         presents other keys for {}; first publish the pin of its key here and of the new key \
         there, and change the key afterwards",
        policy.shown(),
        listed(writers.iter().copied().collect()),
        listed(names.iter().map(String::as_str).collect())
    );
    let mut details = Vec::new();
    for record in all.iter().take(MAX_DETAILS / 2) {
        let said = &record.said;
        let leaves =
            said.certificates.iter().filter_map(|one| one.served.first().copied().flatten());
        let leaves: Vec<String> = leaves.take(4).map(|pin| format!("sha256/{pin}")).collect();
        let stopped = records.state.end(record.id).map_or_else(String::new, |end| {
            format!(
                ", stopped {}, which may be to come back; it counts until it starts with other keys \
                 or is said to be gone",
                date::format(end.at)
            )
        });
        details.push(format!(
            "presented there: {}; by {} for {}, recorded {}, event {}{stopped}",
            leaves.join(", "),
            record.writer,
            shown_name(said.host.as_str(), said.matching),
            date::format(record.at),
            record.id
        ));
    }
    let mut writers = writers.into_iter().peekable();
    while writers.peek().is_some() {
        // As many as a line of the log has room for.
        let some = writers.by_ref().take(NAMED_IDS).map(|name| format!("--writer {name}"));
        let some = some.collect::<Vec<_>>().join(" ");
        details.push(format!(
            "if that server is gone for good: {} --why REASON",
            command("end", records, &some)
        ));
    }
    (summary, details)
}

pub(super) fn not_kept(policy: &Policy, directive: &str) -> String {
    format!(
        "nothing records that the pins of the policy \"{}\" are published, so a later configuration \
         that locks their holders out would pass; name a directory for records ({directive})",
        policy.shown()
    )
}
