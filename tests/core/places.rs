//! Clients that ignore the certificate's names: which certificate a pattern or a default server gives them, on each
//! address of a port.

use hpkp_core::check::{Deployment, Listener};
use hpkp_core::finding::{Class, Code};
use hpkp_core::published::{Body, Event, Matching, Published, Scope};
use hpkp_tests::recorded::held;

use crate::answering::{codes_of, on_port};
use crate::published::{BLOCK, Block, LOCKOUT, World};

const WARNING: Class = Class::Warning;
const UNMET: (Code, Class) = (Code::PublishedPinsUnmet, LOCKOUT);
const UNMET_UNCHANGED: (Code, Class) = (Code::PublishedPinsUnmet, WARNING);
const NEVER_MET: (Code, Class) = (Code::WildcardHostPinsUnmet, WARNING);
const HOST: &str = "www.example.com";
const OTHER: [(&str, &str); 4] =
    [("f", "first.test"), ("a", "other.test"), ("b", "other.test"), ("c", "other.test")];

fn named<'a>(names: &'a [&'a str], certificate: &'a str) -> Block<'a> {
    Block { names, certificate, ..BLOCK }
}

/// A default server for another host, and a server with a pattern whose certificate is for another host.
fn pattern<'a>(names: &'a [&'a str], certificate: &'a str) -> [Block<'a>; 2] {
    [named(&["first.test"], "f"), named(names, certificate)]
}

#[test]
fn a_pattern_with_another_hosts_certificate_counts_for_clients_that_ignore_names() {
    let names: [&[&str]; 3] = [&["*.example.com"], &[".example.com"], &["www.*"]];
    for names in names {
        let mut world = World::new(&OTHER);
        world.accept(&pattern(names, "a"));
        on_port(&mut world, HOST, 443, "a");
        assert_eq!(world.codes(&pattern(names, "a")), [], "{names:?}");
        assert_eq!(world.codes(&pattern(names, "b")), [UNMET], "{names:?}");
        // The certificate `b` is served now, and never matched the pins.
        world.accept(&pattern(names, "b"));
        for certificate in ["b", "c"] {
            let found = world.codes(&pattern(names, certificate));
            assert_eq!(found, [NEVER_MET], "{names:?} {certificate}");
        }
        assert_eq!(world.codes(&pattern(names, "a")), [], "{names:?}");
    }
}

#[test]
fn a_pattern_spans_several_labels_for_clients_that_ignore_names() {
    let mut world = World::new(&OTHER);
    let names: &[&str] = &["*.example.com"];
    world.accept(&pattern(names, "a"));
    on_port(&mut world, "x.y.example.com", 443, "a");
    assert_eq!(world.codes(&pattern(names, "a")), []);
    assert_eq!(world.codes(&pattern(names, "b")), [UNMET]);
}

#[test]
fn clients_of_a_pattern_reach_the_server_of_the_pattern_above() {
    let mut world = World::new(&OTHER);
    let names: &[&str] = &["*.example.com"];
    world.accept(&pattern(names, "a"));
    // The default server has the pinned key, but these clients never reached it.
    let body = Published {
        matching: Matching::OneLabel,
        scope: Scope::Leaf,
        port: Some(443),
        ..held("y.example.com", vec![world.pin("f")])
    };
    world.add("dns", Body::Published(body));
    assert_eq!(world.codes(&pattern(names, "a")), [NEVER_MET]);
}

#[test]
fn clients_that_check_names_ignore_a_certificate_for_other_names() {
    let mut world = World::new(&OTHER);
    let names: &[&str] = &["*.example.com"];
    world.accept(&pattern(names, "a"));
    world.import(HOST, Matching::Exact, Scope::Leaf, "a");
    for certificate in ["a", "b"] {
        assert_eq!(world.codes(&pattern(names, certificate)), [], "{certificate}");
    }
}

#[test]
fn another_default_server_locks_out_clients_that_ignore_names() {
    let mut world = World::new(&OTHER);
    let (first, other) = (|| named(&["first.test"], "f"), || named(&["other.test"], "a"));
    world.accept(&[first(), other()]);
    on_port(&mut world, HOST, 443, "f");
    assert_eq!(world.codes(&[first(), other()]), []);
    assert_eq!(world.codes(&[other(), first()]), [UNMET]);
    // Pins for a host of another machine match neither server.
    on_port(&mut world, "elsewhere.test", 443, "ca");
    assert_eq!(world.codes(&[first(), other()]), []);
    assert_eq!(world.codes(&[first(), named(&["other.test"], "b")]), []);
}

#[test]
fn a_pattern_that_falls_away_leads_to_the_default_server() {
    let mut world = World::new(&OTHER);
    let names: &[&str] = &["*.example.com"];
    world.accept(&pattern(names, "a"));
    on_port(&mut world, HOST, 443, "a");
    assert_eq!(world.codes(&[named(&["first.test"], "f")]), [UNMET]);
    assert_eq!(world.codes(&[named(&["first.test"], "a")]), []);
}

/// Two blocks on one port, each on an address of its own.
fn on_addresses(world: &World, blocks: &[Block<'_>], addresses: &[&str]) -> Deployment {
    let mut deployment = world.deployment(blocks);
    let one = deployment.listeners[0].clone();
    let listener = |(host, address): (usize, &&str)| Listener {
        address: Some((*address).to_owned()),
        hosts: vec![host],
        default: host,
        ..one.clone()
    };
    deployment.listeners = addresses.iter().enumerate().map(listener).collect();
    deployment
}

const TWO: [&str; 2] = ["127.0.0.1:443", "127.0.0.2:443"];

fn recorded_addresses(events: &[Event]) -> Vec<&[String]> {
    let presents = events.iter().filter_map(|event| match event.body() {
        Body::Presents(presents) => Some(&presents.addresses[..]),
        _ => None,
    });
    presents.collect()
}

#[test]
fn two_addresses_of_a_port_that_swap_their_certificates_lock_clients_out() {
    let names: [&[&str]; 3] = [&[HOST], &["_"], &["*.example.com"]];
    for names in names {
        let mut world = World::new(&[("a", HOST), ("b", HOST), ("c", HOST)]);
        world.import(HOST, Matching::Exact, Scope::Leaf, "a");
        let of = |world: &World, first, second| {
            on_addresses(world, &[named(names, first), named(names, second)], &TWO)
        };
        let before = of(&world, "a", "b");
        let events = world.accept_deployment(&before);
        assert!(recorded_addresses(&events).iter().all(|all| !all.is_empty()), "{names:?}");
        assert_eq!(codes_of(&world, &of(&world, "a", "b")), [UNMET_UNCHANGED], "{names:?}");
        assert_eq!(codes_of(&world, &of(&world, "b", "a")), [UNMET], "{names:?}");
        assert_eq!(codes_of(&world, &of(&world, "c", "b")), [UNMET, UNMET_UNCHANGED], "{names:?}");
        assert_eq!(codes_of(&world, &of(&world, "a", "a")), [], "{names:?}");
        assert_eq!(
            codes_of(&world, &of(&world, "a", "c")),
            [UNMET],
            "{names:?}: it may be met there"
        );
    }
}

#[test]
fn swapped_default_servers_of_two_addresses_lock_out_clients_that_ignore_names() {
    let mut world = World::new(&OTHER);
    let of = |world: &World, first, second| {
        let blocks = [named(&["first.test"], first), named(&["other.test"], second)];
        on_addresses(world, &blocks, &TWO)
    };
    let before = of(&world, "f", "a");
    world.accept_deployment(&before);
    on_port(&mut world, HOST, 443, "a");
    assert_eq!(codes_of(&world, &of(&world, "f", "a")), []);
    assert_eq!(codes_of(&world, &of(&world, "a", "f")), [UNMET]);
}

#[test]
fn an_address_of_all_interfaces_takes_the_places_of_others() {
    let mut world = World::new(&[("a", HOST), ("b", HOST)]);
    world.import(HOST, Matching::Exact, Scope::Leaf, "a");
    let of = |world: &World, certificates: [&str; 2], addresses: &[&str]| {
        let blocks = certificates.map(|certificate| named(&[HOST], certificate));
        on_addresses(world, &blocks[..addresses.len()], addresses)
    };
    let before = of(&world, ["a", "b"], &TWO);
    world.accept_deployment(&before);
    // Clients of the first address get the certificate of all interfaces, and the other way round.
    let all = &["0.0.0.0:443", TWO[1]];
    assert_eq!(codes_of(&world, &of(&world, ["a", "b"], all)), [UNMET_UNCHANGED]);
    assert_eq!(codes_of(&world, &of(&world, ["b", "a"], all)), [UNMET]);
    assert_eq!(codes_of(&world, &of(&world, ["b", "b"], &["0.0.0.0:443"])), [UNMET]);
    // The change back: a new address was covered by all interfaces before.
    let before = of(&world, ["a", "b"], all);
    world.accept_deployment(&before);
    assert_eq!(codes_of(&world, &of(&world, ["b", "b"], &TWO)), [UNMET, UNMET_UNCHANGED]);
    assert_eq!(codes_of(&world, &of(&world, ["a", "b"], &TWO)), [UNMET_UNCHANGED]);
}

/// A default server on all addresses, and a block with the name `HOST` on the first `named_on` of them.
fn on_some(
    world: &World,
    certificates: [&str; 2],
    addresses: &[&str],
    named_on: usize,
) -> Deployment {
    let names: [&[&str]; 2] = [&["first.test"], &[HOST]];
    let blocks = [named(names[0], certificates[0]), named(names[1], certificates[1])];
    let mut deployment = world.deployment(&blocks);
    let one = deployment.listeners[0].clone();
    let listener = |(number, address): (usize, &&str)| Listener {
        address: Some((*address).to_owned()),
        hosts: if number < named_on { vec![0, 1] } else { vec![0] },
        default: 0,
        ..one.clone()
    };
    deployment.listeners = addresses.iter().enumerate().map(listener).collect();
    deployment
}

const DUAL: [&str; 2] = ["0.0.0.0:443", "[::]:443"];

#[test]
fn a_name_removed_from_one_address_locks_clients_out_there() {
    let mut world = World::new(&[("f", "first.test"), ("a", HOST), ("w", "*.example.com")]);
    let both = on_some(&world, ["f", "a"], &DUAL, 2);
    let events = world.accept_deployment(&both);
    // The record of a name is the same for all addresses; the record of the default server lists them.
    assert_eq!(recorded_addresses(&events).iter().filter(|all| !all.is_empty()).count(), 1);
    on_port(&mut world, HOST, 443, "a");
    assert_eq!(codes_of(&world, &on_some(&world, ["f", "a"], &DUAL, 2)), []);
    // The default server has another certificate: clients that check names reject it anyway, and the others are locked
    // out by their pins.
    assert_eq!(codes_of(&world, &on_some(&world, ["f", "a"], &DUAL, 1)), [UNMET]);
    assert_eq!(codes_of(&world, &on_some(&world, ["a", "a"], &DUAL, 1)), []);
    // A new address locks no client out.
    let one = on_some(&world, ["f", "a"], &DUAL[..1], 1);
    world.accept_deployment(&one);
    assert_eq!(codes_of(&world, &on_some(&world, ["f", "a"], &DUAL[..1], 1)), []);
    assert_eq!(codes_of(&world, &on_some(&world, ["f", "a"], &DUAL, 1)), []);
    assert_eq!(
        codes_of(&world, &on_some(&world, ["f", "a"], &["0.0.0.0:443", "0.0.0.0:443/udp"], 1)),
        []
    );
}

#[test]
fn a_name_on_some_addresses_alone_is_unchanged_there() {
    let mut world = World::new(&[("f", "first.test"), ("g", "first.test"), ("a", HOST)]);
    on_port(&mut world, HOST, 443, "a");
    let some = on_some(&world, ["f", "a"], &DUAL, 1);
    let events = world.accept_deployment(&some);
    assert!(recorded_addresses(&events).contains(&&["0.0.0.0:443".to_owned()][..]));
    assert_eq!(codes_of(&world, &on_some(&world, ["f", "a"], &DUAL, 1)), []);
    assert_eq!(codes_of(&world, &on_some(&world, ["g", "a"], &DUAL, 1)), []);
    assert_eq!(codes_of(&world, &on_some(&world, ["f", "a"], &DUAL, 2)), []);
    assert_eq!(codes_of(&world, &on_some(&world, ["f", "f"], &DUAL, 2)), [UNMET]);
}

#[test]
fn clients_of_a_header_are_compared_on_the_address_that_lost_the_name() {
    let mut world = World::new(&[("f", "first.test"), ("a", HOST), ("w", "*.example.com")]);
    let with = |world: &World, certificate, named_on| {
        let mut deployment = on_some(world, [certificate, "a"], &DUAL, named_on);
        let pinned = Block { pins: &["a", "backup"], ..named(&[HOST], "a") };
        let policies = world.deployment(&[pinned]);
        deployment.policies = policies.policies;
        deployment.hosts[1].enforced =
            policies.hosts.into_iter().next().and_then(|one| one.enforced);
        deployment
    };
    let both = with(&world, "f", 2);
    world.accept_deployment(&both);
    assert_eq!(codes_of(&world, &with(&world, "f", 2)), []);
    assert_eq!(codes_of(&world, &with(&world, "f", 1)), [(Code::RemovedHostPinsUnmet, WARNING)]);
    assert!(
        codes_of(&world, &with(&world, "w", 1)).contains(&UNMET),
        "its wildcard is for the name"
    );
}
