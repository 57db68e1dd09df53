//! Staleness of peers: findings when another machine has been silent for longer than `max_staleness`.

use std::collections::BTreeSet;

use hpkp_core::accepted::accepted;
use hpkp_core::check::{Deployment, Freshness, HeardFile, Verdict, check};
use hpkp_core::finding::{Check, Class, Code};
use hpkp_core::max_age::MaxAge;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::heard::{AllHeard, Heard};
use hpkp_core::published::state::Standing;
use hpkp_core::published::{
    Body, Event, EventId, Gone, Lifetime, Origin, Presented, Presents, Published, Waived,
};
use hpkp_tests::recorded::held;

use super::published::{BLOCK, Block, DAY, Never, World, at, codes};

const WWW: &[&str] = &["www.example.com"];

/// A server whose directory of records has a `max_staleness`, and its peers.
struct Fleet {
    world: World,
    heard: HeardFile,
    peers: BTreeSet<String>,
}

impl Fleet {
    fn new(certificates: &[(&str, &str)]) -> Self {
        let world = World::new(certificates);
        Self { world, heard: HeardFile::Read(AllHeard::new()), peers: BTreeSet::new() }
    }

    /// An event of another machine.
    fn peer(&mut self, writer: &str, body: Body) -> EventId {
        let name = writer.parse().expect("a name");
        let seq = 1 + self.world.state.last_seq(&name);
        let event = Event::new(self.world.now, seq, name, body);
        let id = event.id();
        self.world.state.take(event, Standing::Peer);
        self.peers.insert(writer.to_owned());
        id
    }

    /// Another machine publishes pins.
    fn publishes(&mut self, writer: &str, host: &str, pins: &[&str], below: bool) -> EventId {
        let pins = pins.iter().map(|name| self.world.pin(name)).collect();
        let body = Published {
            lifetime: Lifetime::MaxAge(MaxAge::from_seconds(30 * 86_400).expect("an age")),
            origin: Origin::Header,
            include_subdomains: below,
            ..held(host, pins)
        };
        self.peer(writer, Body::Published(body))
    }

    /// Another machine presents what a block here would.
    fn presents(&mut self, writer: &str, host: &str, certificate: &str) {
        let block = Block { names: &[host], certificate, ..BLOCK };
        let verdict = self.world.check(&[block]);
        let certificates: Vec<Presented> =
            verdict.hosts[0].presented.clone().expect("certificates");
        let body = Presents::of_one(host.parse().expect("a host"), 443, certificates);
        self.peer(writer, Body::Presents(body));
    }

    /// Another machine is heard from now.
    fn hears(&mut self, writer: &str) {
        let last = "00112233445566778899aabbccddeeff".parse().expect("an id");
        let heard = Heard { number: 1, at: self.world.now, last };
        let HeardFile::Read(all) = &mut self.heard else { panic!("no file") };
        all.insert(writer.parse().expect("a name"), heard);
    }

    fn deployment(&self, blocks: &[Block<'_>]) -> Deployment {
        let mut deployment = self.world.deployment(blocks);
        let records = deployment.records.as_mut().expect("records");
        records.freshness = vec![Freshness {
            max_staleness: DAY,
            at: at(),
            file: "/var/lib/hpkp/hpkp-heard".to_owned(),
            peers: self.peers.iter().map(|name| name.parse().expect("a name")).collect(),
            heard: self.heard.clone(),
            at_handshake: false,
        }];
        deployment
    }

    fn check(&self, blocks: &[Block<'_>]) -> Verdict {
        check(&self.deployment(blocks), self.world.now, &Never)
    }

    fn codes(&self, blocks: &[Block<'_>]) -> Vec<(Code, Class)> {
        codes(&self.check(blocks))
    }

    fn accept(&mut self, blocks: &[Block<'_>]) {
        let deployment = self.deployment(blocks);
        let verdict = check(&deployment, self.world.now, &Never);
        let writer = "web-1".parse().expect("a name");
        for event in accepted(&deployment, &verdict, &self.world.state, &writer, self.world.now) {
            self.world.state.add(&event);
        }
    }

    fn later(&mut self, seconds: i64) {
        self.world.now += seconds;
    }
}

fn block<'a>(certificate: &'a str, pins: &'a [&'a str]) -> Block<'a> {
    Block { names: WWW, certificate, pins, ..BLOCK }
}

const SILENT: [(Code, Class); 1] = [(Code::PeerSilent, Class::Unsure)];
const WARNED: [(Code, Class); 1] = [(Code::PeerSilent, Class::Warning)];
const CERTIFICATES: &[(&str, &str)] =
    &[("old", "www.example.com"), ("new", "www.example.com"), ("third", "www.example.com")];

/// Two servers publish the same pins of two keys, and one is silent.
fn two() -> Fleet {
    let mut fleet = Fleet::new(CERTIFICATES);
    fleet.publishes("web-2", "www.example.com", &["old", "new"], false);
    fleet.presents("web-2", "www.example.com", "old");
    fleet.hears("web-2");
    fleet.accept(&[block("old", &["old", "new"])]);
    fleet
}

#[test]
fn a_machine_is_silent_after_max_staleness() {
    let mut fleet = two();
    fleet.later(DAY);
    assert_eq!(fleet.codes(&[block("old", &["old", "new"])]), []);
    assert_eq!(fleet.codes(&[block("old", &["old", "new", "third"])]), []);
    fleet.later(1);
    assert_eq!(fleet.codes(&[block("old", &["old", "new"])]), WARNED);
    assert_eq!(fleet.codes(&[block("old", &["old", "new", "third"])]), SILENT);
    fleet.hears("web-2");
    assert_eq!(fleet.codes(&[block("old", &["old", "new", "third"])]), []);
}

#[test]
fn without_the_parameter_nothing_changes() {
    let mut fleet = two();
    fleet.later(1000 * DAY);
    let mut deployment = fleet.deployment(&[block("old", &["old", "new", "third"])]);
    deployment.records.as_mut().expect("records").freshness.clear();
    assert_eq!(codes(&check(&deployment, fleet.world.now, &Never)), []);
}

#[test]
fn a_stolen_key_can_be_replaced() {
    let mut fleet = two();
    fleet.later(2 * DAY);
    let verdict = fleet.check(&[block("new", &["old", "new"])]);
    // The policy has no backup any more, so the header is withheld, but nothing is refused.
    let found = codes(&verdict);
    assert!(found.contains(&WARNED[0]) && !found.contains(&SILENT[0]), "{found:?}");
    let silent = verdict.findings.iter().find(|finding| finding.code == Code::PeerSilent);
    let what = &silent.expect("a finding").text.what;
    assert!(what.contains("the new key here satisfies all pins on record and passes"), "{what}");
    // With other pins in the same step it is refused.
    assert_eq!(fleet.codes(&[block("new", &["old", "new", "third"])]), SILENT);
    // A key that no pin matches is a lock-out in any case.
    let found = fleet.codes(&[block("third", &["old", "third"])]);
    assert!(found.contains(&(Code::PublishedPinsUnmet, Class::Lockout)), "{found:?}");
}

#[test]
fn a_new_key_without_pins_is_refused_beside_a_silent_machine() {
    let mut fleet = Fleet::new(CERTIFICATES);
    fleet.presents("web-2", "www.example.com", "old");
    fleet.hears("web-2");
    fleet.accept(&[block("old", &[])]);
    assert_eq!(fleet.codes(&[block("new", &[])]), []);
    fleet.later(2 * DAY);
    assert_eq!(fleet.codes(&[block("old", &[])]), WARNED);
    let verdict = fleet.check(&[block("new", &[])]);
    assert_eq!(codes(&verdict), SILENT);
    let text = verdict.findings[0].lines().collect::<Vec<_>>().join("\n");
    for part in [
        "www.example.com: web-2 (last heard from at 20",
        ", 2 days ago) has been silent for more than 1 day (max_staleness)",
        "a new key for this host may lock clients out",
        "to fix: run hpkp sync on the machine of web-2, then on this one",
        "only if that machine is gone for good: hpkp published -d /var/lib/hpkp end --writer web-2 --why",
    ] {
        assert!(text.contains(part), "no \"{part}\" in:\n{text}");
    }
    // With `check warn`, which lets lock-outs pass, this finding passes too.
    let mut deployment = fleet.deployment(&[block("new", &[])]);
    deployment.hosts[0].check = Check::Warn;
    let verdict = check(&deployment, fleet.world.now, &Never);
    assert_eq!(verdict.findings[0].check, Check::Warn);
    assert_eq!(verdict.hosts[0].alarms.len(), 1);
}

#[test]
fn waived_pins_allow_any_key() {
    let mut fleet = two();
    fleet.later(2 * DAY);
    let ids: Vec<EventId> = fleet.world.state.published().map(|record| record.id).collect();
    let waived = Waived { ids, who: "root".into(), why: "stolen".into() };
    fleet.world.add("web-1.command", Body::Waived(waived));
    let found = fleet.codes(&[block("third", &[])]);
    assert!(found.contains(&WARNED[0]) && !found.contains(&SILENT[0]), "{found:?}");
}

#[test]
fn only_machines_that_have_the_host_count() {
    let mut fleet = two();
    fleet.publishes("web-3", "other.example.org", &["old"], true);
    fleet.later(2 * DAY);
    fleet.hears("web-2");
    // web-3 was never heard from, but does not serve this host.
    assert_eq!(fleet.codes(&[block("old", &["old", "new", "third"])]), []);
    // web-3 publishes pins of the domain above, with includeSubDomains.
    let mut fleet = two();
    fleet.publishes("web-3", "example.com", &["old", "new"], true);
    fleet.hears("web-3");
    fleet.later(2 * DAY);
    fleet.hears("web-2");
    let verdict = fleet.check(&[block("old", &["old", "new", "third"])]);
    assert_eq!(codes(&verdict), SILENT);
    assert!(verdict.findings[0].text.what.starts_with("web-3 "), "{:?}", verdict.findings[0].text);
    // Without includeSubDomains it does not count.
    let mut fleet = two();
    fleet.publishes("web-3", "example.com", &["old", "new"], false);
    fleet.hears("web-3");
    fleet.later(2 * DAY);
    fleet.hears("web-2");
    assert_eq!(fleet.codes(&[block("old", &["old", "new", "third"])]), []);
}

#[test]
fn include_subdomains_above_a_silent_machine_is_refused() {
    let certificates =
        &[("old", "example.com"), ("new", "example.com"), ("api", "api.example.com")];
    let names: &[&str] = &["example.com"];
    let mut fleet = Fleet::new(certificates);
    fleet.presents("web-2", "api.example.com", "api");
    fleet.hears("web-2");
    let pins: &[&str] = &["old", "new", "api"];
    let one =
        |include_subdomains| Block { names, certificate: "old", pins, include_subdomains, ..BLOCK };
    fleet.accept(&[one(false)]);
    fleet.later(2 * DAY);
    assert_eq!(fleet.codes(&[one(false)]), []);
    assert_eq!(fleet.codes(&[one(true)]), SILENT);
    fleet.hears("web-2");
    fleet.accept(&[one(true)]);
    fleet.later(2 * DAY);
    assert_eq!(fleet.codes(&[one(true)]), []);
    assert_eq!(fleet.codes(&[one(false)]), []);
}

#[test]
fn a_writer_that_is_gone_is_not_waited_for() {
    let mut fleet = two();
    fleet.later(2 * DAY);
    let gone = |upto| {
        let of = "web-2".parse().expect("a name");
        Body::Gone(Gone { of, instance: None, upto, why: "scrapped".into(), when: None })
    };
    fleet.world.add("web-1.command", gone(1));
    // web-2 has written another event since.
    assert_eq!(fleet.codes(&[block("old", &["old", "new", "third"])]), SILENT);
    fleet.world.add("web-1.command", gone(2));
    assert_eq!(fleet.codes(&[block("old", &["old", "new", "third"])]), []);
}

#[test]
fn a_peer_cannot_end_a_third_machine() {
    let mut fleet = two();
    fleet.later(2 * DAY);
    let of = "web-2".parse().expect("a name");
    let gone = Gone { of, instance: None, upto: 9, why: "scrapped".into(), when: None };
    fleet.peer("web-3", Body::Gone(gone));
    let found = fleet.codes(&[block("old", &["old", "new", "third"])]);
    assert!(found.contains(&SILENT[0]), "{found:?}");
}

#[test]
fn a_machine_that_was_never_heard_of_is_a_warning() {
    let mut fleet = two();
    fleet.publishes("web-3", "www.example.com", &["old", "new"], false);
    let warned = [(Code::PeerNeverHeard, Class::Warning)];
    assert_eq!(fleet.codes(&[block("old", &["old", "new"])]), warned);
    assert_eq!(fleet.codes(&[block("old", &["old", "new", "third"])]), warned);
    assert_eq!(fleet.check(&[block("old", &["old", "new"])]).findings[0].host_count, 1);
    // There is no file of heartbeats.
    fleet.heard = HeardFile::Missing;
    assert_eq!(fleet.codes(&[block("old", &["old", "new", "third"])]), warned);
    // The warning also appears if no other machine serves a host of this server.
    let fleet = Fleet { heard: HeardFile::Missing, ..Fleet::new(CERTIFICATES) };
    assert_eq!(fleet.codes(&[block("old", &[])]), warned);
}

#[test]
fn an_unusable_heartbeat_file_refuses_changes() {
    let mut fleet = two();
    fleet.heard = HeardFile::Unusable("line 2 is invalid".to_owned());
    let unusable = |class| [(Code::HeartbeatsUnreadable, class)];
    let unchanged = fleet.codes(&[block("old", &["old", "new"])]);
    assert_eq!(unchanged, unusable(Class::Warning));
    let changed = fleet.codes(&[block("old", &["old", "new", "third"])]);
    assert_eq!(changed, unusable(Class::Unsure));
    // No other machine serves the host.
    let heard = HeardFile::Unusable("incomplete".to_owned());
    let fleet = Fleet { heard, ..Fleet::new(CERTIFICATES) };
    assert_eq!(fleet.codes(&[block("old", &["old", "new"])]), unusable(Class::Warning));
}

#[test]
fn a_clock_that_was_set_back_makes_nobody_fresh() {
    let mut fleet = two();
    fleet.later(-30);
    let found = fleet.codes(&[block("old", &["old", "new", "third"])]);
    assert_eq!(found, [(Code::ClockBehindRecords, Class::Warning)]);
    fleet.later(-31);
    let verdict = fleet.check(&[block("old", &["old", "new", "third"])]);
    assert!(codes(&verdict).contains(&SILENT[0]), "{:?}", codes(&verdict));
    let silent = verdict.findings.iter().find(|finding| finding.code == Code::PeerSilent);
    assert!(silent.expect("a finding").text.what.contains("is in the future"));
    let found = fleet.codes(&[block("old", &["old", "new"])]);
    assert!(found.contains(&WARNED[0]) && !found.contains(&SILENT[0]), "{found:?}");
}

#[test]
fn the_same_pins_for_a_shorter_time_are_not_new() {
    let mut fleet = two();
    fleet.later(2 * DAY);
    for (max_age, expected) in [("1h", WARNED), ("0", WARNED), ("2d", SILENT)] {
        let mut deployment = fleet.deployment(&[block("old", &["old", "new"])]);
        let mut spec = PolicySpec::new("policy-0".to_owned(), at());
        let setting =
            |name| PinSetting { source: PinSource::Literal(fleet.world.pin(name)), at: at() };
        spec.pins = ["old", "new"].map(setting).into();
        spec.max_age = Some(max_age.parse().expect("a time"));
        deployment.policies = vec![spec.resolve(|_| Err(String::new()))];
        let found = codes(&check(&deployment, fleet.world.now, &Never));
        assert_eq!(found, expected, "{max_age}");
    }
}

#[test]
fn a_name_that_is_new_here_has_new_keys() {
    let mut fleet = Fleet::new(&[("a", "a.example.com"), ("b", "b.example.com")]);
    let a = || Block { names: &["a.example.com"], certificate: "a", ..BLOCK };
    let b = || Block { names: &["b.example.com"], certificate: "b", ..BLOCK };
    fleet.presents("web-2", "b.example.com", "b");
    fleet.hears("web-2");
    fleet.accept(&[a()]);
    fleet.later(2 * DAY);
    assert_eq!(fleet.codes(&[a()]), []);
    let verdict = fleet.check(&[a(), b()]);
    assert_eq!(codes(&verdict), SILENT);
    assert_eq!(verdict.findings[0].hosts, ["b.example.com"]);
}

/// A certificate that is given at the handshake has no earlier configuration to compare with.
#[test]
fn a_key_that_no_held_pin_matches_is_refused_at_the_handshake() {
    let mut fleet = two();
    fleet.later(2 * DAY);
    fleet.world.writer = None;
    let at_handshake = |certificate, is| {
        let mut deployment = fleet.deployment(&[block(certificate, &["old", "new", "third"])]);
        deployment.records.as_mut().expect("records").freshness[0].at_handshake = is;
        let alarms = check(&deployment, fleet.world.now, &Never).hosts.remove(0).alarms;
        alarms.into_iter().map(|alarm| alarm.code).collect::<Vec<_>>()
    };
    assert_eq!(at_handshake("new", true), []);
    assert_eq!(at_handshake("new", false), []);
    assert!(at_handshake("third", true).contains(&Code::PeerSilent));
}
