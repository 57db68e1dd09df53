//! The words for findings about published pins.

use std::collections::BTreeSet;

use super::Serving;
use super::records::{Records, Shown};
use super::report::{COMPROMISED, MAX_DETAILS, leaf};
use super::routing::Sample;
use crate::date;
use crate::finding::Code;
use crate::path::Chain;
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::{Binding, Live, Record};
use crate::published::{Lifetime, Matching, Met, Origin, Presents};
use crate::text::Excerpt;

type Text = (String, Vec<String>);

/// How many ids a command line names; more would not fit a line of the log.
const NAMED_IDS: usize = 6;

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
    pub(super) chains: &'a [&'a Chain],
    pub(super) shown: &'a Shown,
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
            Code::Waived => format!(
                "no key in the chain of {whose} is among published pins{above} that were waived; \
                 clients that hold them refuse it, {until}"
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
                "the configuration accepted before presents the same keys, so this is no reason \
                 to refuse the new one"
                    .to_owned(),
            );
        }
        details.push(self.safe_date());
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
        if code != Code::Waived {
            details.push(self.commands());
        }
        (summary, details)
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
        let mut latest = self.now;
        for live in self.found {
            match live.binding {
                Binding::Until(time) => latest = latest.max(time),
                Binding::Served(after)
                    if self.records.writer.as_ref() == Some(&live.record.writer) =>
                {
                    latest = latest.max(self.now.saturating_add(after));
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
        let scope = format!("{:?}", said.scope);
        let head = format!(
            "held {who}, told by {}; compared: {}; event {}",
            record.writer,
            scope.to_lowercase(),
            record.id
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

    /// The command that gives these clients up, or says that there are none.
    fn commands(&self) -> String {
        let ids: Vec<String> =
            self.found.iter().take(NAMED_IDS).map(|live| live.record.id.to_string()).collect();
        let more = if self.found.len() > NAMED_IDS { " ..." } else { "" };
        // What was noted at a visit stays noted, whatever ends.
        let is_noted = |live: &Live<'_>| matches!(live.record.said.lifetime, Lifetime::MaxAge(_));
        let (verb, meaning, words) = match self.found.iter().any(is_noted) {
            false => ("end", "if nobody uses what holds these pins any more", "--why REASON"),
            true => ("waive", "to give these clients up", "--who NAME --why REASON"),
        };
        let command = command(verb, self.records, &ids.join(" "));
        format!("{meaning}: {command}{more} {words}")
    }
}

impl Shown {
    fn meet_one(&self, scope: crate::published::Scope, pin: Pin) -> Met {
        let meets = self.certificates.iter().map(|one| one.keys.meet(scope, |other| other == pin));
        meets.max().unwrap_or(Met::No)
    }
}

fn shown_name(host: &str, matching: Matching) -> String {
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
    let directory = Excerpt::new(&records.directory);
    format!("hpkp published -d {directory} {verb} {ids}")
}

pub(super) fn elsewhere(policy: &Policy, records: &Records, record: &Record<Presents>) -> Text {
    let said = &record.said;
    let summary = format!(
        "clients that note the policy \"{}\" from here would refuse the server of {}, which \
         presents other keys for {}; first publish the pin of its key here and of the new key \
         there, and change the key afterwards",
        policy.shown(),
        record.writer,
        shown_name(said.host.as_str(), said.matching)
    );
    let leaves = said.certificates.iter().filter_map(|one| one.served.first().copied().flatten());
    let mut details: Vec<String> =
        leaves.take(MAX_DETAILS).map(|pin| format!("presented there: sha256/{pin}")).collect();
    if let Some(end) = records.state.end(record.id) {
        details.push(format!(
            "it stopped {}, which may be to come back; it counts until it starts with other keys or \
             is said to be gone",
            date::format(end.at)
        ));
    }
    details.push(format!(
        "recorded {}, event {}; if that server is gone: {} --why REASON",
        date::format(record.at),
        record.id,
        command("end", records, &record.id.to_string())
    ));
    (summary, details)
}

pub(super) fn not_kept(policy: &Policy, directive: &str) -> String {
    format!(
        "nothing records that the pins of the policy \"{}\" are published, so a later configuration \
         that locks their holders out would pass; name a directory for records ({directive})",
        policy.shown()
    )
}
