//! The format of records: written events are read back, invalid records are refused with their line, and all fixtures
//! of earlier versions stay readable.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::file::{self, FileError};
use hpkp_core::published::line::{LineError, MAX_DEPTH, MAX_ENTRIES, MAX_LINE};
use hpkp_core::published::tlsa::Protocol;
use hpkp_core::published::{
    Again, Body, CertificateIdentity, Client, Compromised, Configuration, Ended, Event, EventId,
    Exempt, Fingerprint, Gone, HostName, Identity, KeyGraph, KeyNode, Lifetime, Matching, Origin,
    Presented, Presents, Published, Rrset, Scope, Seen, Sight, Slot, Tlsa, Waived, Why, Withheld,
    WriterName,
};
use proptest::prelude::*;

fn pins() -> impl Strategy<Value = Vec<Pin>> {
    let pin = any::<[u8; 32]>().prop_map(Pin::from_bytes);
    prop::collection::btree_set(pin, 1..5).prop_map(|pins| pins.into_iter().collect())
}

fn hosts() -> impl Strategy<Value = HostName> {
    "([a-z0-9_-]{1,9}\\.){1,4}[a-z]{2,6}".prop_map(|name| name.parse().unwrap())
}

fn times() -> impl Strategy<Value = i64> {
    -62_167_219_200_i64..=253_402_300_799
}

/// Free text that is not one of the reserved words.
fn text() -> impl Strategy<Value = String> {
    "\\PC{0,40}|[\\x00-\\x1f\"\\\\]{1,9}".prop_map(|text| format!("{text}."))
}

fn ids() -> impl Strategy<Value = Vec<EventId>> {
    prop::collection::vec("[0-9a-f]{32}".prop_map(|id| id.parse().unwrap()), 0..5)
}

fn matchings() -> impl Strategy<Value = Matching> {
    prop::sample::select(vec![Matching::Exact, Matching::OneLabel, Matching::AnyDepth])
}

fn published() -> impl Strategy<Value = Published> {
    let scopes = vec![Scope::Chain, Scope::Leaf, Scope::PathCa, Scope::SentCa];
    let lifetimes = prop_oneof![
        (0..=i32::MAX as u64).prop_map(|s| Lifetime::MaxAge(MaxAge::from_seconds(s).unwrap())),
        times().prop_map(Lifetime::ExpiresAt),
        Just(Lifetime::Open),
    ];
    let origins = prop_oneof![Just(Origin::Header), text().prop_map(Origin::Other)];
    let names = (hosts(), matchings(), prop::collection::vec(hosts(), 0..3), any::<bool>());
    let rest = (prop::option::of(1_u16..), pins(), lifetimes, origins, prop::option::of(times()));
    let clients = vec![
        Client::OkHttp,
        Client::Android,
        Client::TrustKit,
        Client::Apple,
        Client::Cronet,
        Client::Curl,
        Client::Dane,
        Client::DnsOverTls,
    ];
    let configuration = (prop::sample::select(clients), fingerprints())
        .prop_map(|(client, id)| Configuration { client, id });
    let exempt = (hosts(), any::<bool>())
        .prop_map(|(host, include_subdomains)| Exempt { host, include_subdomains });
    let of = (prop::option::of(configuration), prop::collection::vec(exempt, 0..3));
    (names, prop::sample::select(scopes), rest, of).prop_map(|(names, scope, rest, of)| {
        let (host, matching, except, include_subdomains) = names;
        let (port, pins, lifetime, origin, since) = rest;
        let (configuration, exempt) = of;
        Published {
            host,
            matching,
            except,
            include_subdomains,
            scope,
            port,
            pins,
            lifetime,
            origin,
            since,
            configuration,
            exempt,
            tlsa: None,
        }
    })
}

/// TLSA records of any kind that a zone may have; many of them are equivalent to pins.
fn tlsa() -> impl Strategy<Value = Published> {
    let record = (0_u8..5, 0_u8..3, 0_u8..4, prop::collection::vec(any::<u8>(), 1..70))
        .prop_map(|(usage, selector, matching, data)| Tlsa { usage, selector, matching, data });
    let pin = (2_u8..4, any::<[u8; 32]>()).prop_map(|(usage, data)| Tlsa {
        usage,
        selector: 1,
        matching: 1,
        data: data.to_vec(),
    });
    let protocols = vec![None, Some(Protocol::Tcp), Some(Protocol::Udp), Some(Protocol::Sctp)];
    let records = prop::collection::vec(prop_oneof![record, pin], 1..4);
    let ports = prop::collection::vec(1_u16.., 0..3);
    let set = (prop::sample::select(protocols), prop::option::of(any::<u32>()), records, ports)
        .prop_map(|(protocol, ttl, records, ports)| {
            Rrset::new(protocol, ttl, records).unwrap().without_ports(ports)
        });
    let lifetimes = prop_oneof![times().prop_map(Lifetime::ExpiresAt), Just(Lifetime::Open)];
    (published(), set, lifetimes).prop_map(|(published, set, lifetime)| {
        let (except, include_subdomains) = (Vec::new(), false);
        Published { except, include_subdomains, lifetime, ..published }.with_tlsa(set)
    })
}

fn fingerprints() -> impl Strategy<Value = Fingerprint> {
    any::<[u8; 4]>().prop_map(|bytes| Fingerprint::of([&bytes[..]]))
}

fn presented() -> impl Strategy<Value = Presented> {
    let pin = || prop::option::of(any::<[u8; 32]>().prop_map(Pin::from_bytes));
    let node = (pin(), any::<bool>(), any::<bool>(), prop::collection::vec(0_usize..3, 0..3));
    let node = node.prop_map(|(pin, served, end, issuers)| KeyNode { pin, served, end, issuers });
    let nodes = prop::collection::vec(node, 3..6);
    let slots =
        prop::sample::select(vec![None, Some(Slot::Rsa), Some(Slot::Ec), Some(Slot::Ed448)]);
    let authorities = prop::collection::vec(fingerprints(), 0..3);
    let identity = (slots, fingerprints(), authorities, prop::option::of(fingerprints()));
    let identity = identity.prop_map(|(slot, issuer, authorities, leaf)| CertificateIdentity {
        slot,
        issuer,
        authorities,
        leaf,
    });
    (prop::collection::vec(pin(), 0..4), nodes, prop::option::of(identity)).prop_map(
        |(served, nodes, identity)| Presented {
            served,
            keys: KeyGraph::new(nodes).unwrap(),
            identity,
        },
    )
}

fn sights() -> impl Strategy<Value = Sight> {
    ("[a-z0-9][a-z0-9._-]{0,9}", prop::option::of(text()), any::<u64>()).prop_map(
        |(writer, instance, seq)| Sight { writer: writer.parse().unwrap(), instance, seq },
    )
}

fn bodies() -> impl Strategy<Value = Body> {
    let whys = prop_oneof![Just(Why::Replaced), Just(Why::Stopped), text().prop_map(Why::Other)];
    let presents = (
        hosts(),
        matchings(),
        prop::collection::vec(1_u16.., 0..3),
        prop::collection::vec(presented(), 0..3),
        any::<bool>(),
        (any::<bool>(), prop::collection::vec(text(), 0..3)),
    );
    prop_oneof![
        (text(), text())
            .prop_map(|(instance, machine)| Body::Writer(Identity { instance, machine })),
        published().prop_map(Body::Published),
        tlsa().prop_map(Body::Published),
        presents.prop_map(|(host, matching, ports, certificates, aside, more)| {
            let (nameless, addresses) = more;
            Body::Presents(Presents {
                host,
                matching,
                ports,
                certificates,
                aside,
                nameless,
                addresses,
            })
        }),
        (ids(), whys, prop::option::of(times())).prop_map(|(ids, why, when)| Body::Ended(Ended {
            ids,
            why,
            when
        })),
        (ids(), text(), text()).prop_map(|(ids, who, why)| Body::Waived(Waived { ids, who, why })),
        (any::<[u8; 32]>(), text()).prop_map(|(pin, why)| {
            Body::Compromised(Compromised { pin: Pin::from_bytes(pin), why })
        }),
        (hosts(), matchings(), any::<bool>(), pins()).prop_map(
            |(host, matching, include_subdomains, pins)| Body::Withheld(Withheld {
                host,
                matching,
                include_subdomains,
                pins
            })
        ),
        (sights(), text(), prop::option::of(times())).prop_map(|(sight, why, when)| {
            let Sight { writer: of, instance, seq: upto } = sight;
            Body::Gone(Gone { of, instance, upto, why, when })
        }),
        (ids(), ids()).prop_map(|(ids, except)| Body::Again(Again { ids, except })),
        (prop::collection::vec(sights(), 0..4), ids())
            .prop_map(|(of, succeeded)| Body::Seen(Seen { of, succeeded })),
    ]
}

proptest! {
    #[test]
    fn every_written_event_is_read_back(body in bodies(), at in times(), seq in any::<u64>()) {
        let event = Event::new(at, seq, "web-1".parse().unwrap(), body);
        prop_assert!(!event.line().contains('\n'));
        prop_assert_eq!(Event::from_line(event.line().as_bytes()), Ok(event));
    }

    #[test]
    fn a_line_that_lacks_something_is_no_record(body in bodies(), cut in any::<prop::sample::Index>()) {
        let event = Event::new(0, 1, "web-1".parse().unwrap(), body);
        let line = event.line().as_bytes();
        let cut = cut.index(line.len());
        prop_assert!(Event::from_line(&line[..cut]).is_err());
        let mut without = line.to_vec();
        without.remove(cut);
        prop_assert!(Event::from_line(&without).is_err());
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = file::read(&bytes);
    }
}

fn compromised(seq: u64) -> Event {
    let body =
        Body::Compromised(Compromised { pin: Pin::from_bytes([7; 32]), why: "stolen".to_owned() });
    Event::new(1_800_000_000, seq, "web-1".parse::<WriterName>().unwrap(), body)
}

/// An object with a valid id, as a line.
fn sealed(members: &str) -> String {
    match Event::from_line(format!("{{{members}}}").as_bytes()) {
        Err(LineError::Id(id)) => format!("{{{members},\"id\":\"{id}\"}}"),
        other => panic!("{members}: {other:?}"),
    }
}

const HEAD: &str = r#""v":1,"at":"2026-11-21T10:00:00Z","seq":1,"writer":"web-1""#;

fn published_line(host: &str, rest: &str) -> String {
    let pin = "sha256/d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=";
    sealed(&format!(
        r#"{HEAD},"event":"published","host":"{host}","match":"exact","include_subdomains":false,"scope":"chain","pins":["{pin}"],"origin":"header"{rest}"#
    ))
}

#[track_caller]
fn is_mistaken(line: &str, error: LineError) {
    match (Event::from_line(line.as_bytes()), error) {
        // The expected id does not matter here.
        (Err(LineError::Id(_)), LineError::Id(_)) => {}
        (result, error) => assert_eq!(result, Err(error), "{line:.200}"),
    }
}

#[test]
fn each_mistake_has_its_own_error() {
    assert!(
        Event::from_line(published_line("www.example.com", r#","max_age":1"#).as_bytes()).is_ok()
    );
    assert_eq!(Event::from_line(b"\xff"), Err(LineError::NotUtf8));
    for (line, error) in [
        (" ".repeat(MAX_LINE + 1), LineError::TooLong),
        ("[".repeat(MAX_DEPTH + 1), LineError::TooDeep),
        (String::new(), LineError::NotJson),
        ("[]".into(), LineError::NotJson),
        ("{}".into(), LineError::Wrong("v", "the number of a version")),
        (r#"{"v":3}"#.into(), LineError::Version(3)),
        (r#"{"v":2,"v":2}"#.into(), LineError::Duplicate),
        (r#"{"v":2,"\u0076":2}"#.into(), LineError::Duplicate),
        (r#"{"v":2,"x":[{"a":1,"a":":"}]}"#.into(), LineError::Duplicate),
        // Events of version 2 in one of version 1.
        (sealed(&format!(r#"{HEAD},"event":"again","ids":[]"#)), LineError::Event("again".into())),
        (sealed(&format!(r#"{HEAD},"event":"tlsa""#)), LineError::Event("tlsa".into())),
        (sealed(r#""v":1"#), LineError::Missing("at")),
        (sealed(&format!(r#"{HEAD},"event":"moved""#)), LineError::Event("moved".into())),
        (sealed(HEAD), LineError::Missing("event")),
    ] {
        is_mistaken(&line, error);
    }
}

#[test]
fn each_mistake_in_a_member_has_its_own_error() {
    let many = vec!["\"0123456789abcdef0123456789abcdef\""; MAX_ENTRIES + 1].join(",");
    let host = "a host name in A-labels and lower case, without a last dot";
    for (line, error) in [
        (published_line("WWW.example.com", ""), LineError::Wrong("host", host)),
        (published_line("www.example.com.", ""), LineError::Wrong("host", host)),
        (published_line("192.0.2.1", ""), LineError::Wrong("host", host)),
        (published_line("a", r#","port":0"#), LineError::Wrong("port", "a port")),
        (published_line("a", r#","port":65536"#), LineError::Wrong("port", "a port")),
        (
            published_line("a", r#","max_age":2147483648"#),
            LineError::Wrong("max_age", "a number of seconds below 2^31"),
        ),
        (
            published_line("a", r#","max_age":1,"expires_at":"2026-11-21T10:00:00Z""#),
            LineError::Wrong("expires_at", "absent beside max_age"),
        ),
        (
            published_line("a", r#","expires_at":"tomorrow""#),
            LineError::Wrong("expires_at", "a time (RFC 3339)"),
        ),
        (
            published_line("a", "").replace("header", "Header"),
            LineError::Id("9c6ac4f67afb6df0eab82a4b1adca0ae".parse().unwrap()),
        ),
        (
            sealed(&format!(r#"{HEAD},"event":"compromised","pin":"sha1/x","why":"" "#)),
            LineError::Wrong("pin", "sha256/ and the base64 of a SHA-256"),
        ),
        (
            sealed(&format!(r#"{HEAD},"event":"ended","ids":[{many}],"why":"" "#)),
            LineError::TooMuch("ids"),
        ),
        (
            sealed(&format!(
                r#"{HEAD},"event":"presents","host":"a","match":"exact","ports":[],"certificates":[{{"served":[],"keys":[]}}]"#
            )),
            LineError::Wrong("certificates", "an array of certificates"),
        ),
    ] {
        is_mistaken(&line, error);
    }
}

#[test]
fn members_of_a_later_version_are_kept() {
    let line = sealed(&format!(
        r#"{HEAD},"later":{{"z":[1,2.5,null],"a":"\u00e9\n"}},"event":"ended","ids":[],"why":"stopped""#
    ));
    let event = Event::from_line(line.as_bytes()).unwrap();
    assert_eq!(event.line(), line);
}

#[test]
fn an_incomplete_last_line_is_skipped_and_an_invalid_line_is_refused() {
    let (one, two) = (compromised(1), compromised(2));
    let whole = format!("{}\n{}\n", one.line(), two.line());
    assert_eq!(file::read(whole.as_bytes()).unwrap().events, [one.clone(), two.clone()]);
    for cut in 1..=two.line().len() + 1 {
        let contents = file::read(&whole.as_bytes()[..whole.len() - cut]).unwrap();
        assert_eq!(contents.events, std::slice::from_ref(&one), "{cut}");
        assert_eq!(contents.torn, two.line().len() + 1 - cut);
    }
    let broken = format!("{}\n{}\n{}\n", one.line(), &two.line()[1..], two.line());
    let error = file::read(broken.as_bytes()).unwrap_err();
    assert_eq!(error, FileError::Line { line: 2, error: LineError::NotJson });
    assert_eq!(file::read(b"").unwrap(), file::Contents::default());
}

#[test]
fn an_oversized_last_line_is_refused() {
    let line = compromised(1);
    let mut bytes = format!("{}\n", line.line()).into_bytes();
    bytes.resize(bytes.len() + MAX_LINE + 1, 0);
    let error = file::read(&bytes).unwrap_err();
    assert_eq!(error, FileError::Line { line: 2, error: LineError::TooLong });
}

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records").join(folder);
    let mut files: Vec<PathBuf> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// An event that was read is written as the same line, except for the version and the id computed from it: nothing is
/// lost.
#[test]
fn every_fixture_is_read() {
    for (path, version) in fixtures("v1")
        .into_iter()
        .map(|path| (path, 1))
        .chain(fixtures("v2").into_iter().map(|path| (path, 2)))
    {
        let file = path.display();
        let text = std::fs::read_to_string(&path).unwrap();
        let contents = file::read(text.as_bytes()).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!((contents.events.len(), contents.torn), (text.lines().count(), 0), "{file}");
        for (event, line) in contents.events.iter().zip(text.lines()) {
            assert!(
                line.contains(&format!("\"v\":{version}")) || file.to_string().contains("foreign")
            );
            let body = event.body().clone();
            let written = Event::new(event.at(), event.seq(), event.writer().clone(), body);
            assert_eq!(event.line(), line);
            let of_today = line
                .replace("\"v\":1,", "\"v\":2,")
                .replace(&event.id().to_string(), &written.id().to_string());
            if file.to_string().contains("foreign") {
                assert_ne!(written.line(), of_today, "{file} is there to differ");
            } else {
                assert_eq!(written.line(), of_today, "{file}");
            }
        }
    }
}

/// The fixtures of this version have every kind of event.
#[test]
fn every_event_has_a_fixture() {
    let mut kinds = std::collections::BTreeSet::new();
    for path in fixtures("v2") {
        let contents = file::read(&std::fs::read(&path).unwrap()).unwrap();
        kinds.extend(contents.events.iter().map(|event| match event.body() {
            Body::Writer(_) => "writer",
            Body::Published(one) if one.tlsa.is_some() && one.scope == Scope::Chain => "tlsa",
            Body::Published(_) => "published",
            Body::Presents(_) => "presents",
            Body::Ended(_) => "ended",
            Body::Waived(_) => "waived",
            Body::Compromised(_) => "compromised",
            Body::Withheld(_) => "withheld",
            Body::Gone(_) => "gone",
            Body::Again(_) => "again",
            Body::Seen(_) => "seen",
        }));
    }
    assert_eq!(kinds.len(), 11, "{kinds:?}");
}

/// Files that no version may accept; the name of each has the line at which it fails.
#[test]
fn every_broken_fixture_is_refused() {
    for path in fixtures("broken") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let line: usize = name.rsplit('-').next().unwrap().parse().unwrap();
        let error = file::read(&std::fs::read(&path).unwrap()).unwrap_err();
        assert!(matches!(error, FileError::Line { line: at, .. } if at == line), "{name}: {error}");
    }
}
