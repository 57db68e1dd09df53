//! TLSA records compared with the certificates that servers present: findings, unchanged certificates, and remedies.

use hpkp_core::check::{NotServedHere, check, digest};
use hpkp_core::date;
use hpkp_core::finding::{Class, Code, Location};
use hpkp_core::pin::Pin;
use hpkp_core::published::state::{Retention, Standing};
use hpkp_core::published::tlsa::Protocol;
use hpkp_core::published::{
    Body, Client, Configuration, Ended, Event, Fingerprint, Matching, Published, Rrset, Scope,
    Tlsa, Why,
};
use hpkp_tests::pki::leaf_extensions;
use hpkp_tests::recorded::held;

use crate::answering::{by_port, codes_of};
use crate::published::{BLOCK, Block, LOCKOUT, Never, World};

const HOST: &str = "a.example.com";
const WARNING: Class = Class::Warning;
const UNMET: (Code, Class) = (Code::PublishedPinsUnmet, LOCKOUT);
const UNMET_UNCHANGED: (Code, Class) = (Code::PublishedPinsUnmet, WARNING);
const COMBINATION: (Code, Class) = (Code::TlsaCombinationUnmet, WARNING);

/// A leaf `a`, another certificate `renewed` of its key by the same CA, and a leaf `b` of another key.
fn world() -> World {
    let world = World::new(&[("a", HOST), ("b", HOST)]);
    world.pki.sign_as("renewed", "a", &format!("/CN={HOST}"), "ca", &leaf_extensions(HOST));
    world
}

fn block(certificate: &str) -> Block<'_> {
    Block { names: &[HOST], certificate, ..BLOCK }
}

fn plain(port: Option<u16>) -> Published {
    Published { scope: Scope::Leaf, port, ..held(HOST, vec![Pin::from_bytes([1; 32])]) }
}

fn set(records: Vec<Tlsa>) -> Rrset {
    Rrset::new(Some(Protocol::Tcp), Some(3_600), records).expect("records")
}

fn of(world: &World, kind: Kind, certificate: &str) -> Tlsa {
    Tlsa::of(kind, &world.certificate(certificate))
}

type Kind = (u8, u8, u8);

/// Publishes records of these kinds for these certificates.
fn publish(world: &mut World, records: &[(Kind, &str)]) -> Event {
    let records = records.iter().map(|(kind, name)| of(world, *kind, name));
    let set = set(records.collect());
    publish_set(world, set)
}

fn publish_set(world: &mut World, set: Rrset) -> Event {
    world.add("dns", Body::Published(plain(Some(443)).with_tlsa(set)))
}

#[test]
fn a_renewal_with_the_same_key_locks_out_clients_that_compare_certificates() {
    let mut world = world();
    world.accept(&[block("a")]);
    let held = publish(&mut world, &[((3, 0, 1), "a")]);
    assert_eq!(world.codes(&[block("a")]), []);
    assert_eq!(world.codes(&[block("renewed")]), [UNMET]);
    let next = of(&world, (3, 0, 1), "renewed");
    let text = world.check(&[block("renewed")]).findings[0].lines().collect::<Vec<_>>().join("\n");
    let line =
        format!("publish its record now, beside the others: _443._tcp.{HOST}. IN TLSA {next}");
    assert!(text.contains(&line) && text.contains("2 hours (twice the TTL)"), "{text}");
    let end = format!(" end {} --why REASON", held.id());
    assert!(text.lines().any(|line| line.contains("to fix: ") && line.ends_with(&end)), "{text}");
    assert!(text.contains("these records do not expire") && !text.contains("these pins"), "{text}");
    // Records of the key are not affected by the renewal.
    let mut other = self::world();
    other.accept(&[block("a")]);
    publish(&mut other, &[((3, 1, 1), "a")]);
    assert_eq!(other.codes(&[block("renewed")]), []);
}

#[test]
fn the_next_certificate_is_published_first() {
    let mut world = world();
    world.accept(&[block("a")]);
    let (now, next) = (of(&world, (3, 0, 1), "a"), of(&world, (3, 0, 1), "renewed"));
    let old = publish_set(&mut world, set(vec![now.clone()]));
    publish_set(&mut world, set(vec![now, next]));
    assert_eq!(world.codes(&[block("renewed")]), [UNMET], "the old set may still be held");
    let ended = Ended { ids: vec![old.id()], why: Why::Other("replaced".into()), when: None };
    world.add("dns", Body::Ended(ended));
    let record = world.state.published_by(old.id()).expect("a record");
    let retention = world.state.retention(record, &world.state.clock(world.now));
    assert_eq!(retention, Some(Retention::Until(world.now + 7_200)), "{}", date::format(world.now));
    assert_eq!(world.codes(&[block("renewed")]), [UNMET], "for twice its time to live");
    world.now += 7_201;
    assert_eq!(world.codes(&[block("renewed")]), []);
}

#[test]
fn an_unchanged_certificate_is_not_refused() {
    for kind in [(3, 0, 1), (3, 1, 1), (3, 1, 2), (2, 1, 1)] {
        let mut world = world();
        world.accept(&[block("a")]);
        publish(&mut world, &[(kind, "b")]);
        assert_eq!(world.codes(&[block("a")]), [UNMET_UNCHANGED], "{kind:?}");
        // The key is unchanged, the certificate is not.
        let whole = kind.1 == 0;
        let renewed = if whole { UNMET } else { UNMET_UNCHANGED };
        assert_eq!(world.codes(&[block("renewed")]), [renewed], "{kind:?}");
        world.accept(&[block("renewed")]);
        assert_eq!(world.codes(&[block("renewed")]), [UNMET_UNCHANGED], "{kind:?}");
    }
}

#[test]
fn one_tlsa_record_of_each_kind_should_match() {
    let mut world = world();
    publish(&mut world, &[((3, 1, 1), "a"), ((3, 0, 1), "renewed")]);
    assert_eq!(world.codes(&[block("a")]), [COMBINATION]);
    assert_eq!(world.codes(&[block("renewed")]), []);
    // Only the strongest digest decides, but the others should match as well.
    let mut world = self::world();
    publish(&mut world, &[((3, 1, 1), "a"), ((3, 1, 2), "b")]);
    assert_eq!(world.codes(&[block("a")]), [UNMET]);
    assert_eq!(world.codes(&[block("b")]), [COMBINATION]);
}

#[test]
fn unusable_tlsa_records_bind_nobody() {
    let mut world = world();
    let short = Tlsa { usage: 3, selector: 1, matching: 2, data: vec![1; 32] };
    publish_set(&mut world, set(vec![short]));
    assert_eq!(world.codes(&[block("b")]), [(Code::TlsaNotUsable, WARNING)]);
}

#[test]
fn a_wildcard_for_all_ports_leaves_out_those_that_have_records() {
    let mut world = world();
    let records = set(vec![of(&world, (3, 1, 1), "a")]).without_ports(vec![8443]);
    world.add("dns", Body::Published(plain(None).with_tlsa(records)));
    assert_eq!(world.codes(&[block("b")]), [UNMET]);
    assert_eq!(world.codes(&[Block { port: 8443, ..block("b") }]), []);
}

/// On one port nginx may answer DNS over TLS, and another program DNS over QUIC with a key of its own.
#[test]
fn udp_records_are_compared_with_certificates_over_udp() {
    const NOT_SERVED: (Code, Class) = (Code::PublishedPinsPortNotServed, WARNING);
    let at = |world: &World, address: &str| {
        let mut deployment = world.deployment(&[Block { port: 853, ..block("b") }]);
        deployment.listeners[0].address = Some(address.to_owned());
        deployment
    };
    let (tcp, quic) = ("192.0.2.1:853", "192.0.2.1:853/udp");
    for (protocol, over_tcp, over_quic) in [
        (Protocol::Udp, NOT_SERVED, UNMET),
        (Protocol::Sctp, NOT_SERVED, NOT_SERVED),
        (Protocol::Tcp, UNMET, UNMET),
    ] {
        let mut world = world();
        let records = vec![of(&world, (3, 1, 1), "a")];
        let set = Rrset::new(Some(protocol), Some(3_600), records).expect("records");
        world.add("dns", Body::Published(plain(Some(853)).with_tlsa(set)));
        assert_eq!(codes_of(&world, &at(&world, tcp)), [over_tcp], "{protocol:?}");
        assert_eq!(codes_of(&world, &at(&world, quic)), [over_quic], "{protocol:?}");
        // A "not served here" for UDP does not cover TCP.
        let mut deployment = at(&world, tcp);
        deployment.not_served_here.push(NotServedHere {
            host: HOST.parse().expect("a name"),
            matching: Matching::Exact,
            port: Some(853),
            udp: true,
            at: Location { file: "nginx.conf".into(), line: 1 },
        });
        let not_served = (Code::NotServedHere, WARNING);
        let found = match protocol {
            Protocol::Tcp => vec![not_served, UNMET],
            Protocol::Udp | Protocol::Sctp => vec![not_served],
        };
        let mut codes = codes_of(&world, &deployment);
        codes.sort_by_key(|(code, _)| *code != not_served.0);
        assert_eq!(codes, found, "{protocol:?}");
    }
}

/// In `stream` and `mail` only the certificate has names.
#[test]
fn a_certificate_for_another_name_locks_out_clients_that_check_names() {
    for (usage, found) in [(1, vec![UNMET]), (3, vec![])] {
        let mut world = world();
        let other = leaf_extensions("other.example.com");
        world.pki.sign_as("other", "a", "/CN=other.example.com", "ca", &other);
        let mail = |certificate| Block { port: 25, names: &[], certificate, ..BLOCK };
        let with = |world: &World, certificate| by_port(world, &[mail(certificate)], 0);
        world.accept_deployment(&with(&world, "a"));
        let records = set(vec![of(&world, (usage, 1, 1), "a")]);
        world.add("dns", Body::Published(plain(Some(25)).with_tlsa(records)));
        assert_eq!(codes_of(&world, &with(&world, "a")), [], "{usage}");
        assert_eq!(codes_of(&world, &with(&world, "other")), found, "{usage}");
    }
}

fn publish_for(world: &mut World, host: &str, port: u16, records: &[(Kind, &str)]) {
    let records = records.iter().map(|(kind, name)| of(world, *kind, name)).collect();
    let of_leaf = vec![Pin::from_bytes([1; 32])];
    let body = Published { scope: Scope::Leaf, port: Some(port), ..held(host, of_leaf) };
    world.add("dns", Body::Published(body.with_tlsa(set(records))));
}

/// The only server on the port is a default server whose certificate is for another name.
#[test]
fn clients_that_ignore_names_are_locked_out_on_a_port_with_one_certificate() {
    let mut world = world();
    world.accept(&[block("a")]);
    publish_for(&mut world, "other.test", 443, &[((1, 1, 1), "b"), ((3, 0, 1), "a")]);
    assert_eq!(world.codes(&[block("a")]), [COMBINATION]);
    assert_eq!(world.codes(&[block("renewed")]), [UNMET]);
}

#[test]
fn a_certificate_for_another_name_never_matched_clients_that_check_names() {
    let mut world = world();
    world.accept(&[block("a")]);
    publish_for(&mut world, "other.test", 443, &[((3, 1, 1), "b"), ((2, 1, 0), "ca")]);
    assert_eq!(world.codes(&[block("renewed")]), []);
    // A server that is reached by its port alone gives the same result.
    let mail = |certificate| Block { port: 25, names: &[], certificate, ..BLOCK };
    let with = |world: &World, certificate| by_port(world, &[mail(certificate)], 0);
    world.accept_deployment(&with(&world, "a"));
    publish_for(&mut world, "other.test", 25, &[((2, 1, 0), "b")]);
    assert_eq!(codes_of(&world, &with(&world, "renewed")), []);
}

#[test]
fn new_records_do_not_change_the_digest_of_an_unrecorded_configuration() {
    let mut world = world();
    let served = world.deployment(&[block("a")]);
    let unrecorded = digest(&served, &check(&served, world.now, &Never).hosts);
    publish(&mut world, &[((3, 0, 1), "b")]);
    let with = |world: &World, certificate| {
        let mut deployment = world.deployment(&[block(certificate)]);
        deployment.records.as_mut().expect("records").unrecorded = Some(unrecorded);
        deployment
    };
    assert_eq!(codes_of(&world, &with(&world, "a")), [UNMET_UNCHANGED]);
    assert_eq!(codes_of(&world, &with(&world, "renewed")), [UNMET], "another certificate");
    assert_eq!(unrecorded.to_string().parse(), Ok(unrecorded));
}

/// One matching entry of its configuration is enough for a client, but an entry recorded by a peer must not satisfy it.
#[test]
fn an_entry_of_a_peer_satisfies_no_client() {
    let mut world = world();
    let configuration =
        Some(Configuration { client: Client::Dane, id: Fingerprint::of([&b"zone"[..]]) });
    let entry = |scope, pin| {
        let entry = Published { scope, pins: vec![pin], configuration, ..plain(Some(443)) };
        Body::Published(entry)
    };
    let (a, ca) = (world.pin("a"), world.pin("ca"));
    world.add("dns", entry(Scope::Leaf, a));
    assert_eq!(world.codes(&[block("b")]), [UNMET]);
    // The peer's entry of the CA's key does not match, because the CA is not sent; its entry of the leaf's key does.
    let b = world.pin("b");
    let event = Event::new(world.now, 1, "peer".parse().expect("a name"), entry(Scope::SentCa, ca));
    world.state.take(event, Standing::Peer);
    let event = Event::new(world.now, 2, "peer".parse().expect("a name"), entry(Scope::Leaf, b));
    world.state.take(event, Standing::Peer);
    assert!(world.codes(&[block("b")]).contains(&UNMET));
}
