//! Rare combinations of configurations and pins: names in every spelling, clients that ignore names, several entries
//! of one client's configuration, one name in several blocks.

use hpkp_core::check::{Certificates, Deployment, check};
use hpkp_core::finding::{Class, Code};
use hpkp_core::path::Chain;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::state::Standing;
use hpkp_core::published::{
    Body, Client, Configuration, Event, Exempt, Fingerprint, Lifetime, Matching, Origin, Published,
    Scope, Waived,
};
use hpkp_tests::pki::leaf_extensions;
use hpkp_tests::recorded::held;

use crate::answering::{by_port, codes_of, crossed, sending};
use crate::published::{BLOCK, Block, DAY, LOCKOUT, Never, World, at, codes, published};

const WARNING: Class = Class::Warning;
const UNMET: (Code, Class) = (Code::PublishedPinsUnmet, LOCKOUT);
const UNMET_UNCHANGED: (Code, Class) = (Code::PublishedPinsUnmet, WARNING);
const REMOVED: (Code, Class) = (Code::RemovedHostPinsUnmet, WARNING);
const HOST: &str = "a.example.com";
const WWW: &str = "www.example.com";

fn named<'a>(names: &'a [&'a str], certificate: &'a str) -> Block<'a> {
    Block { names, certificate, ..BLOCK }
}

fn a(certificate: &str) -> Block<'_> {
    named(&[HOST], certificate)
}

fn entry(world: &World, host: &str, matching: Matching, keys: &[&str]) -> Published {
    let pins = keys.iter().map(|key| world.pin(key)).collect();
    Published { matching, ..held(host, pins) }
}

fn of(client: Client) -> Option<Configuration> {
    Some(Configuration { client, id: Fingerprint::of([&b"one"[..]]) })
}

/// Records a pin of a client that compares only the leaf's key on port 443, like `curl -k --pinnedpubkey`.
fn on_443(world: &mut World, host: &str, key: &str) {
    let published = entry(world, host, Matching::Exact, &[key]);
    let body = Body::Published(Published { scope: Scope::Leaf, port: Some(443), ..published });
    world.add("ops", body);
}

#[test]
fn all_spellings_of_a_name_are_equal() {
    let mut world = World::new(&[("a", HOST), ("b", HOST)]);
    world.import("A.Example.COM.", Matching::Exact, Scope::Leaf, "a");
    world.accept(&[named(&["A.example.com."], "a")]);
    assert_eq!(world.codes(&[named(&["a.EXAMPLE.com"], "a")]), []);
    assert_eq!(world.codes(&[named(&["a.EXAMPLE.com"], "b")]), [UNMET]);
    let idn = "xn--bcher-kva.example";
    let mut world = World::new(&[("a", idn), ("b", idn)]);
    world.import(idn, Matching::Exact, Scope::Leaf, "a");
    world.accept(&[named(&["XN--BCHER-kva.example"], "a")]);
    for name in [idn, "b\u{fc}cher.example", "192.0.2.1", "_", ".example"] {
        assert_eq!(world.codes(&[named(&[name], "b")]), [UNMET], "{name}");
    }
}

#[test]
fn clients_that_ignore_names_are_compared_with_the_certificate_they_get() {
    for names in [&["_"][..], &[], &["other.test"]] {
        let mut world = World::new(&[("a", "other.test"), ("b", "other.test")]);
        world.accept(&[named(names, "a")]);
        on_443(&mut world, WWW, "a");
        assert_eq!(world.codes(&[named(names, "a")]), [], "{names:?}");
        assert_eq!(world.codes(&[named(names, "b")]), [UNMET], "{names:?}");
        world.accept(&[named(names, "b")]);
        assert_eq!(world.codes(&[named(names, "b")]), [], "{names:?}: it is what is served");
    }
    // A block with another certificate is removed; the default server keeps its certificate.
    let mut world = World::new(&[("a", "other.test"), ("b", "first.test")]);
    world.accept(&[named(&["first.test"], "b"), named(&["other.test"], "a")]);
    on_443(&mut world, WWW, "a");
    assert_eq!(world.codes(&[named(&["first.test"], "b")]), []);
    // Clients that reached the default server never got the certificate of the other block.
    let mut world = World::new(&[("a", "other.test"), ("b", "first.test"), ("c", "first.test")]);
    let other = || named(&["other.test"], "a");
    world.accept(&[named(&["_"], "b"), other()]);
    on_443(&mut world, WWW, "a");
    for certificate in ["b", "c"] {
        assert_eq!(world.codes(&[named(&["_"], certificate), other()]), [], "{certificate}");
    }
}

#[test]
fn a_default_certificate_without_any_name_is_recorded() {
    let mut world = World::new(&[]);
    for name in ["a", "b"] {
        world.pki.key(name, hpkp_tests::pki::P256);
        world.pki.sign(name, "/CN=resolver", "ca", "subjectKeyIdentifier=hash\n");
    }
    world.accept(&[named(&["_"], "a")]);
    on_443(&mut world, WWW, "a");
    assert_eq!(world.codes(&[named(&["_"], "a")]), []);
    assert_eq!(world.codes(&[named(&["_"], "b")]), [UNMET]);
    assert_eq!(world.codes(&[]), [(Code::PinnedPortClosed, WARNING)]);
}

#[test]
fn a_certificate_without_alternative_names_is_for_its_common_name() {
    for names in [&["_"][..], &[WWW], &["*.example.com"]] {
        let mut world = World::new(&[]);
        for name in ["a", "b"] {
            world.pki.key(name, hpkp_tests::pki::P256);
            world.pki.sign(name, &format!("/CN={WWW}"), "ca", "subjectKeyIdentifier=hash\n");
        }
        let pins: &[&str] = &["a", "backup"];
        let events = world.accept(&[Block { pins, ..named(names, "a") }]);
        assert_eq!(published(&events), [(WWW, Matching::Exact)], "{names:?}");
        assert_eq!(world.codes(&[named(names, "a")]), [], "{names:?}");
        assert_eq!(world.codes(&[named(names, "b")]), [UNMET], "{names:?}");
    }
}

#[test]
fn a_socket_without_a_port_is_not_the_port_beside_it() {
    let mut world = World::new(&[("a", HOST), ("b", HOST)]);
    world.import(HOST, Matching::Exact, Scope::Leaf, "b");
    let socket = |certificate| Block { port: 0, ..a(certificate) };
    world.accept(&[a("a"), socket("b")]);
    assert_eq!(world.codes(&[a("a"), socket("b")]), [UNMET_UNCHANGED]);
    assert_eq!(world.codes(&[a("a"), socket("a")]), [UNMET, UNMET_UNCHANGED]);
    assert_eq!(world.codes(&[a("b"), socket("a")]), [UNMET]);
}

#[test]
fn all_patterns_of_okhttp_that_fit_a_host_unite() {
    let names = [("w1", "*.example.com"), ("w2", "*.example.com"), ("w3", "*.example.com")];
    let mut world = World::new(&names);
    world.accept(&[named(&["*.example.com"], "w1")]);
    for (host, matching, key) in [
        ("api.example.com", Matching::Exact, "w3"),
        ("example.com", Matching::OneLabel, "w1"),
        ("example.com", Matching::AnyDepth, "w2"),
    ] {
        let published = entry(&world, host, matching, &[key]);
        world.add(
            "apps",
            Body::Published(Published { configuration: of(Client::OkHttp), ..published }),
        );
    }
    for (certificate, is_met) in [("w1", true), ("w2", true), ("w3", false)] {
        let found = world.codes(&[named(&["*.example.com"], certificate)]);
        assert_eq!(found.is_empty(), is_met, "{certificate}: {found:?}");
    }
    let found = world.codes(&[named(&["y.x.example.com"], "w1")]);
    assert_eq!(found, [UNMET], "two labels below, only the deep pattern fits");
}

#[test]
fn the_nearest_domain_of_an_android_configuration_counts_alone() {
    let all = "www.example.com,DNS:api.example.com,DNS:v1.api.example.com,DNS:x.api.example.com";
    let mut world = World::new(&[("f", "first.test")]);
    for key in ["p", "c"] {
        world.pki.key(key, hpkp_tests::pki::P256);
        world.pki.sign(key, "/CN=app", "ca", &leaf_extensions(all));
    }
    let exempt = |host: &str, include_subdomains| Exempt {
        host: host.parse().expect("a name"),
        include_subdomains,
    };
    world.accept(&[named(&["first.test"], "f")]);
    for (host, key, exempt) in [
        ("example.com", "p", exempt("api.example.com", true)),
        ("api.example.com", "c", exempt("x.api.example.com", false)),
    ] {
        let published = Published {
            configuration: of(Client::Android),
            include_subdomains: true,
            exempt: vec![exempt],
            ..entry(&world, host, Matching::Exact, &[key])
        };
        world.add("apps", Body::Published(published));
    }
    for (name, good, bad) in
        [(WWW, "p", "c"), ("api.example.com", "c", "p"), ("v1.api.example.com", "c", "p")]
    {
        let names = [name];
        let found = |key| world.codes(&[named(&["first.test"], "f"), named(&names, key)]);
        assert_eq!(found(good), [], "{name}");
        assert_eq!(found(bad).len(), 1, "{name}");
    }
    let free = world.codes(&[named(&["first.test"], "f"), named(&["x.api.example.com"], "p")]);
    assert_eq!(free, []);
}

#[test]
fn both_kinds_of_pins_of_an_apple_configuration_must_hold_and_one_of_dns_over_tls() {
    let mut world = World::new(&[("a", HOST), ("b", HOST)]);
    world.accept(&[a("a")]);
    for (scope, key) in [(Scope::Leaf, "a"), (Scope::PathCa, "ca")] {
        let published = entry(&world, HOST, Matching::Exact, &[key]);
        let configuration = of(Client::Apple);
        world.add("apps", Body::Published(Published { scope, configuration, ..published }));
    }
    assert_eq!(world.codes(&[a("a")]), []);
    assert_eq!(world.codes(&[a("b")]), [UNMET]);

    let mut world = World::new(&[("a", HOST), ("b", HOST)]);
    let dot = |world: &World, sent: &[&str]| {
        let block = Block { port: 853, certificate: sent[0], ..BLOCK };
        let mut deployment = by_port(world, &[block], 0);
        let chain = sent.iter().map(|file| world.certificate(file)).collect();
        let chain = Chain::new(chain).expect("a chain");
        deployment.contexts[0].certificates = Certificates::Loaded(vec![chain]);
        deployment
    };
    let before = dot(&world, &["a"]);
    world.accept_deployment(&before);
    for (scope, key) in [(Scope::Leaf, "a"), (Scope::SentCa, "ca")] {
        let published = entry(&world, HOST, Matching::Exact, &[key]);
        let configuration = of(Client::DnsOverTls);
        let published = Published { scope, configuration, port: Some(853), ..published };
        world.add("apps", Body::Published(published));
    }
    assert_eq!(codes_of(&world, &dot(&world, &["a"])), []);
    assert_eq!(codes_of(&world, &dot(&world, &["b"])), [UNMET], "its CA is not sent");
    assert_eq!(codes_of(&world, &dot(&world, &["b", "ca"])), []);
}

#[test]
fn pins_end_at_the_very_second() {
    let mut world = World::new(&[("a", HOST), ("b", HOST)]);
    world.accept(&[a("a")]);
    let lifetime = Lifetime::ExpiresAt(world.now + 5);
    let published = Published { lifetime, ..entry(&world, HOST, Matching::Exact, &["a"]) };
    world.add("apps", Body::Published(published));
    world.now += 4;
    assert_eq!(world.codes(&[a("b")]), [UNMET]);
    world.now += 1;
    assert_eq!(world.codes(&[a("b")]), []);
}

/// A block whose policy lasts for `age`.
fn lasting(world: &World, certificate: &str, age: &str) -> Deployment {
    let mut deployment =
        world.deployment(&[Block { pins: &[certificate, "backup"], ..a(certificate) }]);
    let mut spec = PolicySpec::new("policy-0".into(), at());
    let setting = |key: &str| PinSetting { source: PinSource::Literal(world.pin(key)), at: at() };
    spec.pins = [certificate, "backup"].map(setting).into();
    spec.max_age = Some(age.parse().expect("an age"));
    deployment.policies[0] = spec.resolve(|_| Err(String::new()));
    deployment
}

#[test]
fn clients_that_miss_max_age_0_hold_their_pins() {
    let mut world = World::new(&[("a", HOST), ("b", HOST)]);
    for age in ["30d", "0"] {
        let deployment = lasting(&world, "a", age);
        assert_eq!(codes_of(&world, &deployment), [], "{age}");
        world.accept_deployment(&deployment);
    }
    world.now += 31 * DAY - 1;
    assert_eq!(codes_of(&world, &lasting(&world, "b", "0")), [UNMET]);
    world.now += 1;
    for age in ["0", "30d"] {
        let deployment = lasting(&world, "b", age);
        assert_eq!(codes_of(&world, &deployment), [], "{age}");
        world.accept_deployment(&deployment);
    }
}

#[test]
fn a_name_that_moves_between_blocks_while_keys_change() {
    let mut world = World::new(&[("w", "*.example.com"), ("w2", "*.example.com"), ("a", HOST)]);
    world.import(HOST, Matching::Exact, Scope::Leaf, "a");
    let pattern = |certificate| named(&["*.example.com"], certificate);
    world.accept(&[pattern("w"), a("a")]);
    assert_eq!(world.codes(&[pattern("w2")]), [UNMET]);
    assert_eq!(world.codes(&[pattern("a")]), []);
    assert_eq!(world.codes(&[pattern("w2"), a("w2")]), [UNMET]);
    assert_eq!(world.codes(&[pattern("w2"), a("a")]), []);
}

#[test]
fn a_default_server_that_appears_vanishes_or_gets_another_certificate() {
    let mut world = World::new(&[("a", HOST), ("n", HOST), ("f", "first.test")]);
    world.import(HOST, Matching::Exact, Scope::Leaf, "a");
    let first = || named(&["first.test"], "f");
    let default = |certificate| named(&["_"], certificate);
    world.accept(&[default("a"), first()]);
    assert_eq!(world.codes(&[first()]), [REMOVED]);
    assert_eq!(world.codes(&[default("n"), first()]), [UNMET]);
    assert_eq!(world.codes(&[first(), default("a")]), [REMOVED]);
    assert_eq!(world.codes(&[first(), a("a")]), []);
}

#[test]
fn a_cross_sign_that_changes_with_the_key() {
    let mut world = crossed();
    world.pki.leaf("leaf2", WWW, "inter");
    let deployment = sending(&world, &["leaf", "cross"], &["other", "backup"]);
    world.accept_deployment(&deployment);
    let found = |chain: &[&str], pins: &[&str]| codes_of(&world, &sending(&world, chain, pins));
    assert!(!found(&["leaf2", "cross"], &["other", "backup"]).contains(&UNMET));
    assert!(found(&["leaf2", "inter"], &["ca", "backup"]).contains(&UNMET));
    let both = &["leaf2", "inter", "cross"];
    assert!(found(both, &["ca", "other", "backup"]).contains(&UNMET));
    assert!(found(both, &["other", "backup"]).contains(&UNMET));
}

#[test]
fn pins_of_a_domain_above_that_another_server_publishes_and_their_waiver() {
    let mut world = World::new(&[("a", HOST), ("b", HOST), ("p", "example.com")]);
    world.accept(&[a("a")]);
    let published = Published {
        include_subdomains: true,
        origin: Origin::Header,
        lifetime: Lifetime::MaxAge("1d".parse().expect("an age")),
        ..entry(&world, "example.com", Matching::Exact, &["p", "backup"])
    };
    // The peer's clock is years ahead.
    let writer = "web-9".parse().expect("a name");
    let event = Event::new(world.now + 4_000 * DAY, 1, writer, Body::Published(published));
    world.state.take(event.clone(), Standing::Peer);
    let above = |class| [(Code::SuperdomainPinsUnmet, class)];
    assert_eq!(world.codes(&[a("a")]), above(WARNING));
    assert_eq!(world.codes(&[a("b")]), above(LOCKOUT));
    let waived = Body::Waived(Waived { ids: vec![event.id()], who: "x".into(), why: "x".into() });
    let lie = Event::new(world.now, 1, "web-8".parse().expect("a name"), waived.clone());
    world.state.take(lie, Standing::Peer);
    assert_eq!(world.codes(&[a("b")]), above(LOCKOUT));
    world.add("ops", waived);
    assert_eq!(world.codes(&[a("b")]), [(Code::Waived, WARNING)]);
}

#[test]
fn a_withheld_policy_is_published_once_it_matches() {
    let mut world = World::new(&[("a", HOST), ("b", HOST)]);
    let block = |certificate| Block { pins: &["b", "backup"], ..a(certificate) };
    world.accept(&[block("a")]);
    let verdict = world.check(&[block("a")]);
    assert_eq!(codes(&verdict), [(Code::NoPinInChain, LOCKOUT)]);
    assert_eq!(verdict.findings[0].check, hpkp_core::finding::Check::Warn, "as before");
    assert_eq!(world.codes(&[block("b")]), []);
    assert_eq!(published(&world.accept(&[block("b")])), [(HOST, Matching::Exact)]);
    assert!(world.codes(&[block("a")]).contains(&UNMET));
}

#[test]
fn two_policies_of_one_name_on_two_ports() {
    let mut world = World::new(&[("a", HOST), ("b", HOST)]);
    let blocks = |first: &'static [&'static str]| {
        let second: &[&str] = &["b", "a"];
        [Block { pins: first, ..a("a") }, Block { pins: second, port: 8443, ..a("b") }]
    };
    world.accept(&blocks(&["a", "b"]));
    assert_eq!(world.codes(&blocks(&["a", "b"])), []);
    let narrow = world.deployment(&blocks(&["a", "backup"]));
    let found = codes(&check(&narrow, world.now, &Never));
    assert_eq!(found, [(Code::SameHostPinMismatch, LOCKOUT)]);
}
