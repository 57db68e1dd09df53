//! The names for which a server answers, and which changes leave them unchanged.

use std::sync::Arc;

use hpkp_core::accepted::accepted;
use hpkp_core::check::digest;
use hpkp_core::check::{Certificates, Deployment, NotServedHere, TrustSetting, Verdict, check};
use hpkp_core::finding::{Class, Code};
use hpkp_core::path::{Anchor, Anchors, Chain, Trust};
use hpkp_core::published::{Body, Event, Matching, Origin, Presents, Published, Scope, State};
use hpkp_tests::pki::{CA_EXTENSIONS, leaf_extensions};
use hpkp_tests::recorded::held;

use crate::published::{BLOCK, Block, DAY, LOCKOUT, Never, World, at, codes, published};

const WARNING: Class = Class::Warning;
const UNMET: (Code, Class) = (Code::PublishedPinsUnmet, LOCKOUT);
const UNMET_UNCHANGED: (Code, Class) = (Code::PublishedPinsUnmet, WARNING);
const WILDCARD: (Code, Class) = (Code::WildcardHostPinsUnmet, WARNING);

/// Two roots that are trusted; the key of the intermediate `inter` is certified by both.
pub(crate) fn crossed() -> World {
    let world = World::new(&[]);
    world.pki.ca("other");
    world.pki.intermediate("inter", "ca");
    world.pki.sign_as("cross", "inter", "/CN=inter", "other", CA_EXTENSIONS);
    world.pki.leaf("leaf", "www.example.com", "inter");
    world
}

/// The deployment of one block that sends `chain`, whose policy has `pins`.
pub(crate) fn sending(world: &World, chain: &[&str], pins: &[&str]) -> Deployment {
    let names: &[&str] = &["www.example.com"];
    let mut deployment = world.deployment(&[Block { names, certificate: chain[0], pins, ..BLOCK }]);
    let chain = chain.iter().map(|file| world.certificate(file)).collect();
    let chain = Chain::new(chain).expect("a chain");
    deployment.contexts[0].certificates = Certificates::Loaded(vec![chain]);
    let anchor = |file| Anchor { certificate: world.certificate(file), origin: "store".into() };
    let anchors = ["ca", "other"].map(anchor);
    let trust = Trust { system: Arc::new(Anchors::new(anchors)), added: None };
    deployment.contexts[0].trust = Arc::new(TrustSetting { trust, ..TrustSetting::default() });
    deployment
}

pub(crate) fn codes_of(world: &World, deployment: &Deployment) -> Vec<(Code, Class)> {
    codes(&check(deployment, world.now, &Never))
}

#[test]
fn another_certificate_of_the_same_ca_key_is_no_unchanged_path() {
    let [old, new] = [&["leaf", "cross"][..], &["leaf", "inter"]];
    // Pins of a header.
    let mut world = crossed();
    world.accept_deployment(&sending(&world, old, &["other", "backup"]));
    assert!(!codes_of(&world, &sending(&world, old, &["other", "backup"])).contains(&UNMET));
    for pins in [&["ca", "backup"][..], &[]] {
        assert!(codes_of(&world, &sending(&world, new, pins)).contains(&UNMET));
    }
    // Pins of an app.
    let mut world = crossed();
    world.import("www.example.com", Matching::Exact, Scope::Chain, "other");
    world.accept_deployment(&sending(&world, old, &[]));
    assert_eq!(codes_of(&world, &sending(&world, old, &[])), []);
    assert_eq!(codes_of(&world, &sending(&world, new, &[])), [UNMET]);
}

#[test]
fn another_order_of_the_same_certificates_may_be_another_path() {
    let [one, other] = [&["leaf", "inter", "cross"][..], &["leaf", "cross", "inter"]];
    let partly = (Code::PublishedPinsPartlyMet, WARNING);
    let mut world = crossed();
    world.import("www.example.com", Matching::Exact, Scope::Chain, "other");
    assert_eq!(codes_of(&world, &sending(&world, one, &[])), [partly], "nothing is known");
    world.accept_deployment(&sending(&world, one, &[]));
    assert_eq!(codes_of(&world, &sending(&world, one, &[])), [partly]);
    assert_eq!(codes_of(&world, &sending(&world, other, &[])), [UNMET]);
    // With another leaf key, clients build the same path as before.
    world.pki.leaf("renewed", "www.example.com", "inter");
    let renewed = sending(&world, &["renewed", "inter", "cross"], &[]);
    assert_eq!(codes_of(&world, &renewed), [partly]);
    // A second path beside the only one that clients took so far.
    let mut world = crossed();
    world.import("www.example.com", Matching::Exact, Scope::Chain, "other");
    world.accept_deployment(&sending(&world, &["leaf", "cross"], &[]));
    assert_eq!(codes_of(&world, &sending(&world, one, &[])), [UNMET]);
}

#[test]
fn a_renewal_of_the_same_key_by_the_same_ca_is_unchanged() {
    let mut world = crossed();
    world.import("www.example.com", Matching::Exact, Scope::Leaf, "ca");
    world.accept_deployment(&sending(&world, &["leaf", "inter"], &[]));
    let extensions = leaf_extensions("www.example.com");
    world.pki.sign_as("again", "leaf", "/CN=www.example.com", "inter", &extensions);
    let renewed = |world: &World| sending(world, &["again", "inter"], &[]);
    assert_eq!(codes_of(&world, &renewed(&world)), [UNMET_UNCHANGED]);
    world.pki.sign_as("elsewhere", "leaf", "/CN=www.example.com", "ca", &extensions);
    assert_eq!(codes_of(&world, &sending(&world, &["elsewhere", "inter"], &[])), [UNMET]);
}

/// The records of `world` as an earlier version would have written them.
fn in_format_1(world: &World, events: &[Event]) -> State {
    let mut state = State::default();
    for event in events {
        let mut body = event.body().clone();
        if let Body::Presents(Presents { certificates, .. }) = &mut body {
            certificates.iter_mut().for_each(|one| one.identity = None);
        }
        state.add(&Event::new(event.at(), event.seq(), event.writer().clone(), body));
    }
    let imported = world.state.published().filter(|record| record.body.origin != Origin::Header);
    for record in imported {
        let body = Body::Published(record.body.clone());
        state.add(&Event::new(record.at, record.seq, record.writer.clone(), body));
    }
    state
}

#[test]
fn records_of_format_1_are_compared_by_their_keys_and_rewritten_once() {
    let mut world = crossed();
    world.import("www.example.com", Matching::Exact, Scope::Leaf, "ca");
    let deployment = sending(&world, &["leaf", "inter"], &[]);
    let events = world.accept_deployment(&deployment);
    world.state = in_format_1(&world, &events);
    let earlier = (Code::RecordsEarlierFormat, WARNING);
    let deployment = sending(&world, &["leaf", "inter"], &[]);
    assert_eq!(codes_of(&world, &deployment), [earlier, UNMET_UNCHANGED]);
    // Another key still counts as a change.
    world.pki.leaf("new", "www.example.com", "inter");
    let changed = sending(&world, &["new", "inter"], &[]);
    assert_eq!(codes_of(&world, &changed), [UNMET, earlier]);

    let events = world.accept_deployment(&deployment);
    let is_presents = |event: &&Event| matches!(event.body(), Body::Presents(_));
    assert_eq!(events.iter().filter(is_presents).count(), 1, "{events:#?}");
    let deployment = sending(&world, &["leaf", "inter"], &[]);
    assert_eq!(codes_of(&world, &deployment), [UNMET_UNCHANGED]);
    assert_eq!(world.accept_deployment(&deployment), []);
}

fn named<'a>(names: &'a [&'a str], certificate: &'a str) -> Block<'a> {
    Block { names, certificate, ..BLOCK }
}

#[test]
fn a_host_is_new_to_the_block_that_it_has_fallen_to() {
    for fallen_to in [&["*.example.com"][..], &["_"], &["www.example.com"]] {
        let mut world = World::new(&[
            ("first", "first.test"),
            ("a", "a.example.com"),
            ("wild", "www.example.com,DNS:*.example.com"),
        ]);
        let others = || [named(&["first.test"], "first"), named(fallen_to, "wild")];
        // A block without a matching name answers only as the default server.
        let blocks = |with_a: bool| {
            let [first, wild] = others();
            let mut blocks = vec![wild];
            if fallen_to[0].starts_with('*') {
                blocks.insert(0, first);
            }
            blocks.extend(with_a.then(|| named(&["a.example.com"], "a")));
            blocks
        };
        world.accept(&blocks(true));
        // No other host below the domain is affected: the wildcard's certificate never matched these pins.
        world.import("example.com", Matching::AnyDepth, Scope::Leaf, "a");
        let codes = world.codes(&blocks(true));
        assert!(codes.iter().all(|(_, class)| *class == WARNING), "{fallen_to:?}: {codes:?}");
        let codes = world.codes(&blocks(false));
        assert!(codes.contains(&UNMET), "{fallen_to:?}: {codes:?}");
        // Once accepted in spite of the mismatch, the certificate counts as served.
        world.accept(&blocks(false));
        let codes = world.codes(&blocks(false));
        assert!(codes.iter().all(|(_, class)| *class == WARNING), "{fallen_to:?}: {codes:?}");
    }
}

#[test]
fn a_host_that_a_pattern_had_is_unchanged_beside_a_new_block() {
    let mut world =
        World::new(&[("b", "b.example.com"), ("c", "c.example.com"), ("wild", "*.example.com")]);
    let wild = || Block { port: 8443, ..named(&["*.example.com"], "wild") };
    let b = || named(&["b.example.com"], "b");
    world.accept(&[b(), wild()]);
    world.import("x.example.com", Matching::Exact, Scope::Leaf, "c");
    world.import("x.b.example.com", Matching::Exact, Scope::Leaf, "c");
    assert_eq!(world.codes(&[b(), wild()]), [UNMET_UNCHANGED]);
    for name in ["c.example.com", "y.a.example.com", "y.x.example.com"] {
        let names = [name];
        assert_eq!(world.codes(&[b(), wild(), named(&names, "c")]), [UNMET_UNCHANGED], "{name}");
    }
    // A block for the name itself, with a key that its clients accept.
    assert_eq!(world.codes(&[b(), wild(), named(&["x.example.com"], "c")]), [UNMET_UNCHANGED]);
    assert_eq!(
        world.codes(&[b(), wild(), named(&["x.example.com"], "b")]),
        [UNMET, UNMET_UNCHANGED]
    );
}

#[test]
fn a_header_is_new_to_a_host_that_falls_under_it() {
    let mut world =
        World::new(&[("x", "x.example.com"), ("y", "x.example.com"), ("wild", "*.example.com")]);
    world.writer = Some("web-2");
    world.accept(&[named(&["x.example.com"], "y")]);
    world.writer = Some("web-1");
    let wild = || Block { pins: &["wild", "backup"], ..named(&["*.example.com"], "wild") };
    let x = || named(&["x.example.com"], "x");
    assert_eq!(world.codes(&[x(), wild()]), []);
    world.accept(&[x(), wild()]);
    let refused = [(Code::PeerServerPinMismatch, LOCKOUT)];
    assert_eq!(world.codes(&[wild()]), refused);
    // A host that was below the pattern before stays unchanged.
    world.writer = Some("web-2");
    world.accept(&[named(&["x.example.com"], "y"), named(&["z.example.com"], "y")]);
    world.writer = Some("web-1");
    assert_eq!(world.codes(&[x(), wild()]), [(Code::PeerServerPinMismatch, WARNING)]);
}

fn sends_for(verdict: &Verdict, host: usize, name: &str) -> bool {
    let names = verdict.hosts[host].header_names.as_ref();
    names.is_none_or(|names| names.has(name.as_bytes()))
}

#[test]
fn a_named_default_server_sends_no_header_for_names_of_its_wildcard() {
    let mut world = World::new(&[
        ("wild", "www.example.com,DNS:img.example.com,DNS:*.example.com"),
        ("d", "d.example.com"),
    ]);
    let pins: &[&str] = &["wild", "backup"];
    let www = || Block { pins, ..named(&["www.example.com"], "wild") };
    let verdict = world.check(&[www()]);
    for (name, sent) in [
        ("www.example.com", true),
        ("img.example.com", true),
        ("d.example.com", false),
        ("127.0.0.1", false),
        ("", false),
    ] {
        assert_eq!(sends_for(&verdict, 0, name), sent, "{name}");
    }
    let events = world.accept(&[www()]);
    let exact = |name| (name, Matching::Exact);
    assert_eq!(published(&events), [exact("img.example.com"), exact("www.example.com")]);
    assert_eq!(world.codes(&[www(), named(&["d.example.com"], "d")]), []);
    // The keys that it presents for these hosts bind no other server.
    world.writer = Some("web-2");
    let elsewhere = Block { pins: &["d", "backup"], ..named(&["d.example.com"], "d") };
    assert_eq!(world.codes(&[elsewhere]), []);
    world.writer = Some("web-1");
    // A default server without a name of its own sends the header for all names.
    let verdict = world.check(&[Block { pins, ..named(&["_"], "wild") }]);
    assert!(sends_for(&verdict, 0, "d.example.com"));
}

#[test]
fn pins_of_a_host_below_a_wildcard_count_if_they_matched_before() {
    let mut world = World::new(&[
        ("wild", "www.example.com,DNS:*.example.com"),
        ("new", "www.example.com,DNS:*.example.com"),
    ]);
    let www = |certificate| named(&["www.example.com"], certificate);
    world.accept(&[www("wild")]);
    // Clients that hold these pins never accepted this server.
    let import = world.import("api.example.com", Matching::Exact, Scope::Leaf, "backup");
    assert_eq!(world.codes(&[www("wild")]), [WILDCARD]);
    assert_eq!(world.codes(&[www("new")]), [WILDCARD]);
    let text = world.check(&[www("new")]).findings[0].lines().collect::<Vec<_>>().join("\n");
    for part in ["api.example.com", "*.example.com", "hpkp_not_served_here api.example.com;"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let ids = vec![import.id()];
    let why = hpkp_core::published::Why::Other("over".into());
    world.add("apps", Body::Ended(hpkp_core::published::Ended { ids, why, when: None }));
    // Clients that hold this pin did accept it, though the pin was recorded after the server had started.
    world.import("api.example.com", Matching::Exact, Scope::Leaf, "wild");
    assert_eq!(world.codes(&[www("wild")]), []);
    assert_eq!(world.codes(&[www("new")]), [UNMET]);
    // Pins of an app for all hosts below the domain.
    let mut world = World::new(&[
        ("wild", "www.example.com,DNS:*.example.com"),
        ("new", "www.example.com,DNS:*.example.com"),
        ("site", "www.example.com"),
    ]);
    world.accept(&[www("wild")]);
    world.import("example.com", Matching::OneLabel, Scope::Leaf, "wild");
    assert_eq!(world.codes(&[www("wild")]), []);
    let site = named(&["www.example.com"], "site");
    assert!(world.codes(&[named(&["x.test"], "new"), site]).contains(&UNMET));
}

#[test]
fn a_finding_for_a_nameless_server_names_its_reason_and_remedy() {
    let mut world = World::new(&[("wild", "*.example.com"), ("api", "api.example.com")]);
    world.import("api.example.com", Matching::Exact, Scope::Leaf, "api");
    let catch_all = || named(&["_"], "wild");
    assert_eq!(world.codes(&[catch_all()]), [UNMET]);
    let text = world.check(&[catch_all()]).findings[0].lines().collect::<Vec<_>>().join("\n");
    for part in [
        "the default server of port 443",
        "*.example.com",
        "ssl_reject_handshake on",
        "a certificate without that name",
        "hpkp_not_served_here api.example.com;",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn a_name_that_is_not_served_here_is_not_compared() {
    let mut world = World::new(&[("wild", "*.example.com"), ("api", "api.example.com")]);
    world.import("api.example.com", Matching::Exact, Scope::Leaf, "api");
    let pins: &[&str] = &["wild", "backup"];
    let with = |world: &World, block, name: &str, port| {
        let mut deployment = world.deployment(&[block]);
        let host = name.parse().expect("a name");
        deployment.not_served_here.push(NotServedHere {
            host,
            matching: Matching::Exact,
            port,
            udp: false,
            at: at(),
        });
        deployment
    };
    let not_served = (Code::NotServedHere, WARNING);
    for block in [named(&["_"], "wild"), named(&["*.example.com"], "wild")] {
        let block = || Block { pins, ..named(block.names, "wild") };
        let deployment = with(&world, block(), "api.example.com", None);
        let verdict = check(&deployment, world.now, &Never);
        assert_eq!(codes(&verdict), [not_served]);
        assert!(!sends_for(&verdict, 0, "api.example.com"), "nothing is recorded of it");
        assert!(sends_for(&verdict, 0, "img.example.com"));
        let except = &verdict.hosts[0].names[0].except;
        assert_eq!(
            except.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
            ["api.example.com"]
        );
        // Declared for the served port, and for another port.
        let deployment = with(&world, block(), "api.example.com", Some(443));
        assert_eq!(codes_of(&world, &deployment), [not_served]);
        let deployment = with(&world, block(), "api.example.com", Some(8443));
        assert_eq!(codes_of(&world, &deployment), [UNMET, not_served]);
    }
    let has_it = with(&world, named(&["api.example.com"], "api"), "api.example.com", None);
    let conflict = (Code::NotServedHereConflict, Class::Invalid);
    assert_eq!(codes_of(&world, &has_it), [conflict, not_served]);
    let has_it = with(&world, named(&["api.example.com"], "api"), "api.example.com", Some(8443));
    assert_eq!(codes_of(&world, &has_it), [not_served]);
    // Another program may answer clients over UDP, unless this server listens for datagrams too.
    let mut over_udp =
        with(&world, named(&["api.example.com"], "api"), "api.example.com", Some(443));
    over_udp.not_served_here[0].udp = true;
    assert_eq!(codes_of(&world, &over_udp), [not_served]);
    over_udp.listeners[0].address = Some("*:443/udp".to_owned());
    assert_eq!(codes_of(&world, &over_udp), [conflict, not_served]);
    over_udp.not_served_here[0].port = Some(853);
    assert_eq!(codes_of(&world, &over_udp), [not_served]);
}

#[test]
fn a_removed_host_whose_certificate_is_gone_too_is_a_warning() {
    let mut world = World::new(&[("a", "a.example.com"), ("b", "b.example.com")]);
    let a = || named(&["a.example.com"], "a");
    let b = || Block { pins: &["b", "backup"], ..named(&["b.example.com"], "b") };
    world.accept(&[a(), b()]);
    let removed = [(Code::RemovedHostPinsUnmet, WARNING)];
    assert_eq!(world.codes(&[a()]), removed);
    let events = world.accept(&[a()]);
    let is_b = |event: &Event| matches!(event.body(), Body::Presents(one) if one.host.as_str() == "b.example.com");
    assert!(!events.iter().any(is_b), "the default server does not present it");
    assert_eq!(world.codes(&[a()]), removed, "as long as clients remember");
    world.now += 2 * DAY;
    assert_eq!(world.codes(&[a()]), []);
    // Pins of an app are reported when the block is removed.
    world.import("b.example.com", Matching::Exact, Scope::Leaf, "b");
    world.accept(&[a(), named(&["b.example.com"], "b")]);
    assert_eq!(world.codes(&[a()]), removed);
}

/// Pins of a client that compares the leaf's key on one port, as curl and TLSA 3 1 1 have them.
pub(crate) fn on_port(world: &mut World, host: &str, port: u16, key: &str) {
    let body = Body::Published(Published {
        scope: Scope::Leaf,
        port: Some(port),
        ..held(host, vec![world.pin(key)])
    });
    world.add("dns", body);
}

#[test]
fn pins_for_a_port_without_a_server_are_reported() {
    let mut world = World::new(&[("a", "a.example.com"), ("b", "b.example.com")]);
    on_port(&mut world, "a.example.com", 443, "b");
    on_port(&mut world, "elsewhere.example.com", 443, "b");
    let a = || Block { port: 8443, ..named(&["a.example.com"], "a") };
    let port_not_served = (Code::PublishedPinsPortNotServed, WARNING);
    assert_eq!(world.codes(&[a()]), [port_not_served]);
    let text = world.check(&[a()]).findings[0].text.what.clone();
    assert!(
        text.contains("a.example.com:443") && !text.contains("elsewhere.example.com"),
        "{text}"
    );
    // A server for another host on that port does not change this.
    assert_eq!(world.codes(&[a(), named(&["b.example.com"], "b")]), [port_not_served]);
    let mut deployment = world.deployment(&[a()]);
    let host = "a.example.com".parse().expect("a name");
    deployment.not_served_here.push(NotServedHere {
        host,
        matching: Matching::Exact,
        port: Some(443),
        udp: false,
        at: at(),
    });
    assert_eq!(codes_of(&world, &deployment), [(Code::NotServedHere, WARNING)]);
    // The host on the port itself, as with a port mapping.
    assert_eq!(world.codes(&[named(&["a.example.com"], "a")]), [UNMET]);
}

/// A deployment in which clients reach one block by its port alone.
pub(crate) fn by_port(world: &World, blocks: &[Block<'_>], position: usize) -> Deployment {
    let mut deployment = world.deployment(blocks);
    let port = blocks[position].port;
    let listener = deployment.listeners.iter_mut().find(|listener| listener.port == port);
    listener.expect("a listener").by_port_alone = true;
    deployment
}

#[test]
fn a_server_that_is_reached_by_its_port_is_checked_for_pins_of_that_port() {
    let mut world = World::new(&[
        ("web", "dns.example.com"),
        ("old", "dns.example.com"),
        ("new", "dns.example.com"),
        ("other", "other.example.com"),
    ]);
    let dot = |certificate| Block { names: &[], port: 853, certificate, ..BLOCK };
    let web = || Block { pins: &["web", "backup"], ..named(&["dns.example.com"], "web") };
    on_port(&mut world, "dns.example.com", 853, "old");
    let with = |world: &World, certificate| by_port(world, &[web(), dot(certificate)], 1);
    // The pins of the web server's header do not apply to it.
    assert_eq!(codes_of(&world, &with(&world, "old")), []);
    let events = world.accept_deployment(&with(&world, "old"));
    assert_eq!(published(&events), [("dns.example.com", Matching::Exact)]);
    assert_eq!(codes_of(&world, &with(&world, "new")), [UNMET]);
    assert_eq!(codes_of(&world, &with(&world, "other")), [UNMET], "names are ignored there");
    // Pins of another host for the same port never matched here: another machine serves that host.
    on_port(&mut world, "dns2.example.com", 853, "other");
    assert_eq!(codes_of(&world, &with(&world, "old")), [WILDCARD]);
    // The keys on this port do not bind the pins that other web servers publish.
    world.writer = Some("web-2");
    let elsewhere = Block { pins: &["web", "backup"], ..named(&["dns.example.com"], "web") };
    assert_eq!(world.codes(&[elsewhere]), [(Code::PublishedPinsPortNotServed, WARNING)]);
}

#[test]
fn a_certificate_without_names_is_known_by_its_port() {
    let mut world = World::new(&[]);
    for name in ["old", "new"] {
        world.pki.key(name, hpkp_tests::pki::P256);
        world.pki.sign(name, "/CN=resolver", "ca", "subjectKeyIdentifier=hash\n");
    }
    let dot = |certificate| Block { names: &[], port: 853, certificate, ..BLOCK };
    let with = |world: &World, certificate| by_port(world, &[dot(certificate)], 0);
    world.accept_deployment(&with(&world, "old"));
    on_port(&mut world, "dns.example.com", 853, "old");
    assert_eq!(codes_of(&world, &with(&world, "old")), []);
    assert_eq!(codes_of(&world, &with(&world, "new")), [UNMET]);
    world.accept_deployment(&with(&world, "new"));
    assert_eq!(codes_of(&world, &with(&world, "new")), [UNMET_UNCHANGED]);
}

#[test]
fn an_unrecorded_configuration_is_unchanged_only_if_it_is_the_same() {
    let mut world = World::new(&[("a", "www.example.com"), ("b", "www.example.com")]);
    let block = |certificate| named(&["www.example.com"], certificate);
    world.import("www.example.com", Matching::Exact, Scope::Leaf, "backup");
    world.accept(&[block("a")]);
    // The configuration with the key `b` could not be recorded.
    let served = world.deployment(&[block("b")]);
    let unrecorded = digest(&served, &check(&served, world.now, &Never).hosts);
    let with = |world: &World, certificate| {
        let mut deployment = world.deployment(&[block(certificate)]);
        deployment.records.as_mut().expect("records").unrecorded = Some(unrecorded);
        deployment
    };
    assert_eq!(codes_of(&world, &with(&world, "b")), [UNMET_UNCHANGED]);
    assert_eq!(codes_of(&world, &with(&world, "a")), [UNMET], "what is on record is not served");
    // Another policy changes the digest of the configuration; other trust anchors and records do not.
    let policy = world.deployment(&[Block { pins: &["b", "backup"], ..block("b") }]);
    assert_ne!(digest(&policy, &check(&policy, world.now, &Never).hosts), unrecorded);
    world.state = State::default();
    let mut same = world.deployment(&[block("b")]);
    same.contexts[0].trust = Arc::default();
    assert_eq!(digest(&same, &check(&same, world.now + 9, &Never).hosts), unrecorded);
}

#[test]
fn an_accepted_mismatch_covers_only_the_names_of_that_configuration() {
    let mut world = World::new(&[("wild", "*.example.com"), ("a", "a.example.com")]);
    world.import("example.com", Matching::OneLabel, Scope::Leaf, "a");
    world.writer = None;
    let wild = || named(&["*.example.com"], "wild");
    let a = || named(&["a.example.com"], "a");
    let running = world.check(&[wild(), a()]);
    assert_eq!(codes(&running), [UNMET]);
    let with = |world: &World, blocks: &[Block<'_>]| {
        let mut deployment = world.deployment(blocks);
        deployment.hosts[0].accepted = running.hosts[0].alarms.clone();
        check(&deployment, world.now, &Never).findings[0].check
    };
    assert_eq!(with(&world, &[wild(), a()]), hpkp_core::finding::Check::Warn);
    // An app pins b.example.com: the block is the same, but this mismatch was not accepted.
    world.import("b.example.com", Matching::Exact, Scope::Leaf, "a");
    assert_eq!(with(&world, &[wild(), a()]), hpkp_core::finding::Check::Refuse);
}

#[test]
fn unknown_certificates_are_recorded_as_unknown() {
    let mut world = World::new(&[("wild", "*.example.com")]);
    let blocks = || [named(&["*.example.com"], "wild"), named(&["a.example.com"], "wild")];
    let mut deployment = world.deployment(&blocks());
    deployment.contexts[1].certificates =
        Certificates::NotKnown { why: "it has a variable".into(), remedy: "name the file" };
    world.accept_deployment(&deployment);
    world.import("example.com", Matching::AnyDepth, Scope::Leaf, "backup");
    // The host's earlier certificate was not known, and its clients refuse the present one.
    let codes = world.codes(&blocks()[..1]);
    assert!(codes.contains(&UNMET), "{codes:?}");
    let writer = "web-1".parse().expect("a name");
    let verdict = check(&deployment, world.now, &Never);
    let mut events = accepted(&deployment, &verdict, &world.state, &writer, world.now);
    events.retain(|event| !matches!(event.body(), Body::Seen(_)));
    assert_eq!(events, []);
}

#[test]
fn a_finding_counts_a_host_once() {
    let world = World::new(&[("a", "www.example.com")]);
    let block = |port| Block { port, pins: &["a", "backup"], ..named(&["www.example.com"], "a") };
    let mut deployment = world.deployment(&[block(443), block(8443)]);
    // One block with two SSL_CTXs, and two blocks of one name.
    deployment.hosts[0].contexts.push(1);
    let enforced = deployment.hosts[0].enforced.clone();
    deployment.hosts[1].enforced = enforced;
    for context in &mut deployment.contexts {
        context.certificates =
            Certificates::NotKnown { why: "it has a variable".into(), remedy: "name the file" };
    }
    let verdict = check(&deployment, world.now, &Never);
    let code = Code::CertificateNotKnownAtLoad;
    let finding = verdict.findings.iter().find(|finding| finding.code == code).expect("a finding");
    assert_eq!((finding.host_count, &finding.hosts[..]), (1, &["www.example.com".to_owned()][..]));
}
