//! An import reads the same pins that were exported; pins that a format cannot express are refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use hpkp_cli::export::{self, Format, Item, comparable};
use hpkp_cli::import::format::Format as Of;
use hpkp_cli::import::{Certificates, Except, Matching, PinSet, Scope, header};
use hpkp_core::date;
use hpkp_core::pin::Pin;
use hpkp_core::published::Client;
use hpkp_core::ua::FieldKind;
use hpkp_core::ua::field::Reading;
use hpkp_core::ua::host::{Host, HostName};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const FORMATS: [Format; 10] = [
    Format::Android,
    Format::Curl,
    Format::Haproxy,
    Format::Httpd,
    Format::Ios,
    Format::Json,
    Format::Nginx,
    Format::Okhttp,
    Format::Tlsa,
    Format::Trustkit,
];

fn name(text: &str) -> HostName {
    match Host::parse(text) {
        Ok(Host::Name(name)) => name,
        other => panic!("{text}: {other:?}"),
    }
}

fn hosts() -> impl Strategy<Value = HostName> {
    select(
        &[
            "example.com",
            "a.example.com",
            "b.a.example.com",
            "example.net",
            "xn--bcher-kva.example",
        ][..],
    )
    .prop_map(name)
}

fn items() -> impl Strategy<Value = Item> {
    let pins = prop::collection::btree_set(0_u8..5, 1..4).prop_map(|numbers| {
        numbers.into_iter().map(|number| Pin::from_bytes(openssl::sha::sha256(&[number]))).collect()
    });
    let except = prop::collection::vec((hosts(), any::<bool>()), 0..3);
    let times = [
        date::parse("2030-02-03T12:00:00Z").unwrap(),
        date::parse("2031-02-03T12:00:01Z").unwrap(),
    ];
    let shape = (
        hosts(),
        select(&[Matching::Exact, Matching::Exact, Matching::OneLabel, Matching::AnyDepth][..]),
        any::<bool>(),
        prop_oneof![3 => Just(Vec::new()), 1 => except],
        select(
            &[Scope::Chain, Scope::Chain, Scope::Chain, Scope::Leaf, Scope::PathCa, Scope::SentCa]
                [..],
        ),
    );
    let rest = (
        option::weighted(0.3, select(&[25_u16, 443, 853, 8443][..])),
        pins,
        option::weighted(0.2, select(times.to_vec())),
        select(&[Client::Android, Client::Apple, Client::Dane, Client::OkHttp][..]),
        0_usize..2,
        option::of(select(&[1_u32, 5_184_000][..])),
    );
    (shape, rest).prop_map(|(shape, rest)| {
        let (host, matching, include_subdomains, except, scope) = shape;
        let (port, pins, expires_at, client, group, max_age) = rest;
        let include_subdomains = include_subdomains && matching != Matching::AnyDepth;
        let mut except: Vec<Except> = except
            .into_iter()
            .filter(|(other, _)| *other != host && other.is_within(&host))
            .map(|(host, with_subdomains)| Except { host, with_subdomains })
            .collect();
        except.sort();
        except.dedup_by(|one, other| one.host == other.host);
        let set = PinSet {
            host,
            matching,
            include_subdomains,
            except,
            scope,
            port,
            pins,
            expires_at,
            origin: String::new(),
            client,
            group,
        };
        Item { set, max_age, tlsa: None }
    })
}

/// Whether a format can express everything about one set.
fn is_expressible(format: Format, item: &Item) -> bool {
    let Item { set, max_age, .. } = item;
    let below = set.include_subdomains || set.matching == Matching::AnyDepth;
    let apple_below = set.client == Client::Apple && below;
    let day = set.expires_at.is_none_or(|time| date::format(time).ends_with("T12:00:00Z"));
    let bare = set.port.is_none() && set.scope == Scope::Chain;
    let plain = bare && set.expires_at.is_none() && set.except.is_empty();
    let exact = set.matching == Matching::Exact;
    let has_age = matches!(format, Format::Haproxy | Format::Httpd | Format::Json | Format::Nginx);
    if max_age.is_some() && !has_age {
        return false;
    }
    match format {
        Format::Json => true,
        Format::Okhttp => {
            plain && !apple_below && !(set.matching == Matching::OneLabel && set.include_subdomains)
        }
        Format::Android | Format::Trustkit => {
            let exempt = set.except.is_empty() || below;
            let backup = format == Format::Android || set.pins.len() > 1;
            let one_label = set.matching == Matching::OneLabel;
            bare && day && !apple_below && exempt && backup && !one_label
        }
        Format::Ios => {
            let scope = matches!(set.scope, Scope::Leaf | Scope::PathCa);
            let depth = !below || set.client == Client::Apple;
            let plain = set.port.is_none() && set.expires_at.is_none() && set.except.is_empty();
            plain && scope && depth && exact
        }
        Format::Curl => {
            let plain = set.expires_at.is_none() && set.except.is_empty();
            plain && exact && !below && set.scope == Scope::Leaf && set.port.is_some()
        }
        Format::Tlsa => {
            let plain = set.expires_at.is_none() && set.except.is_empty();
            let pattern = set.matching == Matching::AnyDepth && set.port.is_none();
            let one = exact && !set.include_subdomains || pattern;
            plain && one && set.scope != Scope::Chain && !(apple_below)
        }
        Format::Nginx | Format::Httpd | Format::Haproxy => {
            plain && exact && max_age.is_some() && set.pins.len() > 1
        }
    }
}

fn reader(format: Format) -> Option<Of> {
    Some(match format {
        Format::Android => Of::Android,
        Format::Curl => Of::Curl,
        Format::Ios => Of::Ios,
        Format::Json => Of::Json,
        Format::Okhttp => Of::Okhttp,
        Format::Tlsa => Of::Tlsa,
        Format::Trustkit => Of::Trustkit,
        Format::Haproxy | Format::Httpd | Format::Nginx => return None,
    })
}

/// The records of a zone, each with its owner name.
fn records(text: &str) -> Vec<String> {
    let read = Of::Tlsa.read(text.as_bytes(), &Certificates::default()).unwrap();
    assert_eq!(read.notes, [], "{text}");
    let sets = read.sets.iter().enumerate();
    let of = |(at, set): (usize, &PinSet)| -> Vec<String> {
        let records = read.tlsa[&at].records().iter();
        let place = format!("{} {:?} {:?}", set.host.as_str(), set.matching, set.port);
        records.map(|record| format!("{place} {record}")).collect()
    };
    let mut all: Vec<String> = sets.flat_map(of).collect();
    all.sort();
    all
}

/// The TLSA records that are equivalent to these pins.
fn as_records(items: &[Item]) -> Vec<String> {
    let of = |Item { set, .. }: &Item| -> Vec<String> {
        let usage = match set.scope {
            Scope::Leaf => 3,
            Scope::SentCa => 2,
            _ => 0,
        };
        let hex = |pin: &Pin| pin.bytes().iter().map(|o| format!("{o:02x}")).collect::<String>();
        let place = format!("{} {:?} {:?}", set.host.as_str(), set.matching, set.port);
        set.pins.iter().map(|pin| format!("{place} {usage} 1 1 {}", hex(pin))).collect()
    };
    let mut all: Vec<String> = items.iter().flat_map(of).collect();
    all.sort();
    all
}

/// The sets of a text, in a form that can be compared.
fn read(format: Format, text: &str) -> Vec<String> {
    if format == Format::Tlsa {
        assert_eq!(Of::of(text.as_bytes()), Some(Of::Tlsa), "{text}");
        return records(text);
    }
    let mut found: Vec<String> = match reader(format) {
        Some(format) => {
            assert_eq!(Of::of(text.as_bytes()), Some(format), "{text}");
            let read = format.read(text.as_bytes(), &Certificates::default()).unwrap();
            assert!(read.notes.is_empty() || text.contains("max_age"), "{text}");
            read.sets.into_iter().map(|set| format!("{:?}", comparable(set))).collect()
        }
        None => text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let value = header::unwrap(line).unwrap().value;
                let reading = Reading::of(FieldKind::Enforced, value.as_bytes()).unwrap();
                let field = reading.strict().unwrap();
                format!("{:?} {} {:?}", field.pins, field.include_subdomains, field.max_age)
            })
            .collect(),
    };
    found.sort();
    found
}

fn written(format: Format, items: &[Item]) -> Vec<String> {
    if format == Format::Tlsa {
        return as_records(items);
    }
    let of = |item: &Item| match reader(format) {
        Some(_) => format!("{:?}", comparable(item.set.clone())),
        None => {
            let age = item.max_age.map(u64::from);
            format!("{:?} {} {age:?}", item.set.pins, item.set.include_subdomains)
        }
    };
    let mut all: Vec<String> = items.iter().map(of).collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_set_is_exported_if_the_format_can_express_it(item in items()) {
        for format in FORMATS {
            let text = export::write(format, std::slice::from_ref(&item));
            prop_assert_eq!(
                text.is_ok(), is_expressible(format, &item), "{} {:?} {:?}", format, item, text
            );
            if let Ok(text) = text {
                let items = std::slice::from_ref(&item);
                prop_assert_eq!(read(format, &text), written(format, items), "{}", text);
            }
        }
    }

    #[test]
    fn an_import_reads_the_exported_sets(items in prop::collection::vec(items(), 1..5)) {
        for format in FORMATS {
            let text = export::write(format, &items);
            if let Ok(text) = text {
                prop_assert_eq!(read(format, &text), written(format, &items), "{} {}", format, text);
            } else {
                // JSON can express everything.
                prop_assert!(format != Format::Json, "{:?}", text);
            }
        }
    }
}

/// Zones with any names, times to live and records.
fn zones() -> impl Strategy<Value = String> {
    let names = [
        "_443._tcp.example.com",
        "_25._tcp.example.com",
        "_443._udp.example.com",
        "*._tcp.example.com",
        "*._udp.a.example.com",
        "*.example.com",
        "*.a.example.com",
        "_25._tcp.mail.example.net",
        "_853._sctp.mail.example.net",
    ];
    let bytes = prop_oneof![Just(32_usize), Just(64), Just(32), Just(5)];
    let data = bytes.prop_flat_map(|count| prop::collection::vec(any::<u8>(), count));
    let record = (0_u8..5, 0_u8..3, 0_u8..4, data).prop_map(|(usage, selector, matching, data)| {
        let data: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{usage} {selector} {matching} {data}")
    });
    let pin = (0_u8..4, prop::collection::vec(any::<u8>(), 32)).prop_map(|(usage, data)| {
        let data: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{usage} 1 1 {data}")
    });
    let records = prop::collection::vec(prop_oneof![record, pin], 1..4);
    let owner = (select(names.to_vec()), option::of(1_u32..9_999_999), records);
    prop::collection::vec(owner, 1..6).prop_map(|owners| {
        // A record without a time to live has that of the record before it.
        let mut lines: Vec<(bool, String)> = Vec::new();
        for (name, ttl, records) in owners {
            let stated = ttl.map_or_else(String::new, |ttl| format!("{ttl} "));
            let records = records.iter();
            lines.extend(
                records.map(|one| (ttl.is_some(), format!("{name}. {stated}IN TLSA {one}\n"))),
            );
        }
        lines.sort_by_key(|(is_timed, _)| *is_timed);
        lines.into_iter().map(|(_, line)| line).collect()
    })
}

/// The sets of a text, sorted and without their lines.
fn outcome(format: Of, text: &str) -> Option<Vec<String>> {
    let read = format.read(text.as_bytes(), &Certificates::default()).ok()?;
    let set = |(at, set): (usize, &PinSet)| {
        let mut except = set.except.clone();
        except.sort();
        let place = (set.host.as_str(), set.matching, set.port, set.scope, except);
        format!("{place:?} {:?}", read.tlsa[&at])
    };
    let mut all: Vec<String> = read.sets.iter().enumerate().map(set).collect();
    all.sort();
    Some(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn sets_of_tlsa_records_are_unchanged_by_export_and_import(zone in zones()) {
        let Ok(read) = Of::Tlsa.read(zone.as_bytes(), &Certificates::default()) else {
            return Ok(());
        };
        let sets = read.sets.iter().enumerate();
        let items: Vec<Item> = sets
            .map(|(at, set)| Item {
                set: set.clone(),
                max_age: None,
                tlsa: Some(read.tlsa[&at].clone()),
            })
            .collect();
        for (format, of) in [(Format::Tlsa, Of::Tlsa), (Format::Json, Of::Json)] {
            let text = export::write(format, &items);
            prop_assert!(text.is_ok(), "{} {:?}\n{}", format, text, zone);
            prop_assert_eq!(outcome(of, &text.unwrap()), outcome(Of::Tlsa, &zone), "{}", zone);
        }
        // Formats for pins can express only records that are equivalent to pins.
        let is_pins = |item: &Item| item.tlsa.as_ref().is_some_and(|set| set.scope().is_some());
        if !items.iter().all(is_pins) {
            for format in FORMATS.into_iter().filter(|one| !matches!(one, Format::Tlsa | Format::Json)) {
                prop_assert!(export::write(format, &items).is_err(), "{} {}", format, zone);
            }
        }
    }
}

#[test]
fn sets_that_must_both_be_satisfied_are_not_merged() {
    let item = |host: &str, scope, client, group, number: u8| Item {
        set: PinSet {
            host: name(host),
            matching: Matching::Exact,
            include_subdomains: client == Client::Apple && host == "example.com",
            except: Vec::new(),
            scope,
            port: (client == Client::Dane).then_some(443),
            pins: vec![Pin::from_bytes(openssl::sha::sha256(&[number]))],
            expires_at: None,
            origin: String::new(),
            client,
            group,
        },
        max_age: None,
        tlsa: None,
    };
    for (same, fits) in [(0, true), (1, false)] {
        let dane = [
            item("example.com", Scope::Leaf, Client::Dane, 0, 1),
            item("example.com", Scope::SentCa, Client::Dane, same, 2),
        ];
        assert_eq!(export::write(Format::Tlsa, &dane).is_ok(), fits);
        let apple = [
            item("example.com", Scope::Leaf, Client::Apple, 0, 1),
            item("a.example.com", Scope::Leaf, Client::Apple, same, 2),
        ];
        assert_eq!(export::write(Format::Ios, &apple).is_ok(), fits);
    }
}

#[test]
fn exempt_hosts_are_unchanged_by_export_and_import() {
    let pins: Vec<Pin> = [1, 2].map(|n| Pin::from_bytes(openssl::sha::sha256(&[n]))).into();
    let item = |host: &str, include_subdomains, except: &[(&str, bool)]| Item {
        set: PinSet {
            host: name(host),
            matching: Matching::Exact,
            include_subdomains,
            except: except
                .iter()
                .map(|(host, with_subdomains)| Except {
                    host: name(host),
                    with_subdomains: *with_subdomains,
                })
                .collect(),
            scope: Scope::Chain,
            port: None,
            pins: pins.clone(),
            expires_at: None,
            origin: String::new(),
            client: Client::Android,
            group: 0,
        },
        max_age: None,
        tlsa: None,
    };
    let items = [
        item("example.com", true, &[("a.example.com", true), ("free.example.com", false)]),
        item("a.example.com", true, &[]),
    ];
    for format in [Format::Android, Format::Trustkit] {
        let text = export::write(format, &items).unwrap();
        assert_eq!(read(format, &text), written(format, &items), "{text}");
    }
    // In one file, the entry for the subdomain would hide the pins of the other configuration.
    let apart = [item("example.com", true, &[]), item("a.example.com", false, &[])];
    for format in [Format::Android, Format::Trustkit] {
        assert_eq!(export::write(format, &apart).unwrap_err().name, "example.com");
    }
}
