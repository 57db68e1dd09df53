//! Servers with one certificate for each kind of key: a client gets one of them, so each is compared by itself.

use hpkp_core::accepted::accepted;
use hpkp_core::check::{Certificates, Choice, Deployment, check};
use hpkp_core::finding::{Check, Class, Code};
use hpkp_core::path::Chain;
use hpkp_core::published::{Body, Event, Lifetime, Matching, Published, Scope};
use hpkp_tests::pki::leaf_extensions;
use hpkp_tests::recorded::held;

use crate::answering::{crossed, sending};
use crate::published::{BLOCK, Block, DAY, LOCKOUT, Never, World, codes};

const WWW: &str = "www.example.com";
const WARNING: Class = Class::Warning;
const UNMET: (Code, Class) = (Code::PublishedPinsUnmet, LOCKOUT);
const UNMET_UNCHANGED: (Code, Class) = (Code::PublishedPinsUnmet, WARNING);
const REMOVED: (Code, Class) = (Code::RemovedHostPinsUnmet, WARNING);

/// Certificates for `host`; the prefix of each name gives the kind of its key.
fn with(host: &str, names: &[&str]) -> World {
    let world = World::new(&[]);
    for name in names {
        let kind: &[&str] = match name.split('-').next() {
            Some("rsa") => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            Some("ed") => &["-algorithm", "ED25519"],
            Some("p384") => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            Some("p521") => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
            _ => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        };
        world.pki.key(name, kind);
        world.pki.sign(name, &format!("/CN={host}"), "ca", &leaf_extensions(host));
    }
    world
}

/// One block for `WWW` that loads all of these.
fn loading(world: &World, certificates: &[&str], pins: &[&str]) -> Deployment {
    let blocks = [Block { names: &[WWW], certificate: certificates[0], pins, ..BLOCK }];
    let mut deployment = world.deployment(&blocks);
    load(world, &mut deployment, 0, certificates);
    deployment
}

fn load(world: &World, deployment: &mut Deployment, context: usize, certificates: &[&str]) {
    let chain = |name: &&str| Chain::new(vec![world.certificate(name)]).expect("a chain");
    let chains = certificates.iter().map(chain).collect();
    deployment.contexts[context].certificates = Certificates::Loaded(chains);
}

/// Records an app that pins these keys.
fn app(world: &mut World, host: &str, keys: &[&str]) {
    let pins = keys.iter().map(|key| world.pin(key)).collect();
    let lifetime = Lifetime::ExpiresAt(world.now + 30 * DAY);
    let body = Body::Published(Published { lifetime, ..held(host, pins) });
    world.add("apps", body);
}

fn codes_of(world: &World, deployment: &Deployment) -> Vec<(Code, Class)> {
    codes(&check(deployment, world.now, &Never))
}

/// Checks the findings after a change from the certificates `before` to `after`; an app pins those named `good`.
#[track_caller]
fn assert_change(before: &[&str], after: &[&str], expected: &[(Code, Class)]) {
    let all = [before, after].concat();
    let mut world = with(WWW, &all);
    let good: Vec<&str> = all.iter().filter(|name| name.ends_with("good")).copied().collect();
    app(&mut world, WWW, &good);
    world.accept_deployment(&loading(&world, before, &[]));
    let found = codes_of(&world, &loading(&world, after, &[]));
    assert_eq!(found, expected, "{before:?} {after:?}");
}

#[test]
fn an_unchanged_certificate_lets_one_of_another_kind_change() {
    assert_change(&["rsa-old", "ec-good"], &["rsa-old", "ec-2-good"], &[UNMET_UNCHANGED]);
    assert_change(&["rsa-old", "ec-good"], &["rsa-old", "p384-good"], &[UNMET_UNCHANGED]);
    assert_change(&["rsa-old", "ec-good"], &["rsa-old", "ec-new"], &[UNMET]);
    assert_change(&["rsa-old", "ec-good"], &["rsa-new", "ec-good"], &[UNMET]);
    assert_change(&["rsa-good", "ec-good"], &["rsa-good", "ec-2-good"], &[]);
}

#[test]
fn a_certificate_of_a_kind_that_is_new_is_judged() {
    assert_change(&["rsa-good"], &["rsa-good", "ec-new"], &[UNMET]);
    assert_change(&["rsa-old"], &["rsa-old", "ec-good"], &[UNMET_UNCHANGED]);
}

#[test]
fn a_first_certificate_of_a_kind_is_a_new_path_for_clients_that_prefer_it() {
    let mut world = crossed();
    world.import(WWW, Matching::Exact, Scope::Chain, "other");
    world.pki.key("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    world.pki.sign("rsa", "/CN=www.example.com", "inter", &leaf_extensions(WWW));
    let with = |world: &World, more: &[&str]| {
        let mut deployment = sending(world, &["leaf", "cross"], &[]);
        let Certificates::Loaded(chains) = &mut deployment.contexts[0].certificates else {
            panic!("not loaded")
        };
        if !more.is_empty() {
            let more = more.iter().map(|file| world.certificate(file)).collect();
            chains.push(Chain::new(more).expect("a chain"));
        }
        deployment
    };
    world.accept_deployment(&with(&world, &[]));
    assert_eq!(codes_of(&world, &with(&world, &["rsa", "inter", "cross"])), [UNMET]);
    assert_eq!(codes_of(&world, &with(&world, &["rsa", "cross"])), []);
}

#[test]
fn clients_of_a_removed_certificate_get_one_of_the_others() {
    assert_change(&["rsa-old", "ec-good"], &["rsa-old"], &[UNMET]);
    assert_change(&["rsa-good", "ec-old"], &["ec-old"], &[UNMET]);
    // No client accepted the removed certificate.
    assert_change(&["rsa-old", "ec-old"], &["ec-old"], &[UNMET_UNCHANGED]);
    assert_change(&["rsa-good", "ec-good"], &["ec-good"], &[]);
    // A client that cannot use the new kind of key gets the other certificate.
    assert_change(&["rsa-old", "ec-good"], &["rsa-old", "ed-good"], &[UNMET]);
    assert_change(&["rsa-old", "ec-good"], &["rsa-old", "p521-good"], &[UNMET]);
}

#[test]
fn a_record_without_kinds_of_keys_exempts_an_unchanged_configuration_only() {
    let all = ["rsa-old", "ec-good", "ec-2-good"];
    let mut world = with(WWW, &all);
    app(&mut world, WWW, &["ec-good", "ec-2-good"]);
    let events = world.accept_deployment(&loading(&world, &["rsa-old", "ec-good"], &[]));
    let mut state = hpkp_core::published::State::default();
    let apps = world.state.published().next().expect("the app's");
    let body = Body::Published(apps.body.clone());
    state.add(&Event::new(apps.at, apps.seq, apps.writer.clone(), body));
    for event in &events {
        let mut body = event.body().clone();
        if let Body::Presents(presents) = &mut body {
            let identities = presents.certificates.iter_mut().flat_map(|one| &mut one.identity);
            identities.for_each(|identity| identity.slot = None);
        }
        state.add(&Event::new(event.at(), event.seq(), event.writer().clone(), body));
    }
    world.state = state;
    let found = |after: &[&str]| codes_of(&world, &loading(&world, after, &[]));
    assert_eq!(found(&["rsa-old", "ec-good"]), [UNMET_UNCHANGED]);
    // Its clients may have got the certificate of the other kind.
    assert_eq!(found(&["rsa-old", "ec-2-good"]), [UNMET]);
}

#[test]
fn a_policy_that_one_kind_never_satisfied_lets_the_other_change() {
    let mut world = with(WWW, &["rsa-old", "ec", "ec-2", "ec-new"]);
    let pins = &["ec", "ec-2"];
    world.accept_deployment(&loading(&world, &["rsa-old", "ec"], pins));
    let checks = |after: &[&str]| -> Vec<Check> {
        let verdict = check(&loading(&world, after, pins), world.now, &Never);
        let lockouts = verdict.findings.iter().filter(|finding| finding.class == LOCKOUT);
        lockouts.map(|finding| finding.check).collect()
    };
    assert_eq!(checks(&["rsa-old", "ec"]), [Check::Warn]);
    assert_eq!(checks(&["rsa-old", "ec-2"]), [Check::Warn]);
    assert_eq!(checks(&["rsa-old", "ec-new"]), [Check::Refuse]);
}

#[test]
fn pins_that_another_block_never_satisfied_let_its_other_certificate_change() {
    let mut world = with(WWW, &["rsa-old", "ec", "ec-2", "ec-new"]);
    let deployment = |world: &World, there: &[&str]| {
        let names: &[&str] = &[WWW];
        let mut deployment = world.deployment(&[
            Block { names, certificate: "ec", pins: &["ec", "ec-2"], ..BLOCK },
            Block { names, certificate: there[0], port: 8443, ..BLOCK },
        ]);
        load(world, &mut deployment, 1, there);
        deployment
    };
    // The header was sent before the other block had the RSA certificate.
    world.accept_deployment(&deployment(&world, &["ec"]));
    let forced = deployment(&world, &["rsa-old", "ec"]);
    let events = {
        let verdict = check(&forced, world.now, &Never);
        let writer = "web-1".parse().expect("a name");
        accepted(&forced, &verdict, &world.state, &writer, world.now)
    };
    events.iter().for_each(|event| world.state.add(event));
    let found = |there: &[&str]| codes_of(&world, &deployment(&world, there));
    let is_refused = |there: &[&str]| found(there).iter().any(|(_, class)| *class == LOCKOUT);
    assert!(!found(&["rsa-old", "ec-2"]).contains(&UNMET), "{:?}", found(&["rsa-old", "ec-2"]));
    assert!(found(&["rsa-old", "ec-new"]).contains(&UNMET), "{:?}", found(&["rsa-old", "ec-new"]));
    assert!(is_refused(&["rsa-old", "ec-new"]));
}

#[test]
fn a_certificate_for_another_name_is_not_compared_with_pins_of_this_name() {
    let mut world = with(WWW, &["ec-good"]);
    world.pki.key("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    world.pki.sign("rsa", "/CN=b.test", "ca", &leaf_extensions("b.test"));
    app(&mut world, WWW, &["ec-good"]);
    let blocks = [Block { names: &["b.test"], certificate: "rsa", ..BLOCK }];
    let mut deployment = world.deployment(&blocks);
    world.accept_deployment(&deployment);
    load(&world, &mut deployment, 0, &["ec-good", "rsa"]);
    assert_eq!(codes_of(&world, &deployment), []);
}

#[test]
fn a_removed_name_of_a_pattern_or_default_certificate_is_reported() {
    for names in [&["*.example.com"][..], &["first.test"], &["_"]] {
        let mut world = World::new(&[
            ("first", "first.test"),
            ("wild", "first.test,DNS:*.example.com"),
            ("other", "other.test"),
        ]);
        app(&mut world, "a.example.com", &["wild"]);
        let first = || Block { names: &["first.test"], certificate: "first", ..BLOCK };
        let wild = Block { names, certificate: "wild", ..BLOCK };
        match names[0].starts_with('*') {
            true => world.accept(&[first(), wild]),
            false => world.accept(&[wild]),
        };
        let after = Block { names: &["other.test"], certificate: "other", ..BLOCK };
        assert_eq!(world.codes(&[after]), [REMOVED], "{names:?}");
    }
}

#[test]
fn a_name_that_falls_to_a_certificate_without_it_is_reported() {
    let mut world = World::new(&[
        ("first", "first.test"),
        ("below", "*.a.example.com"),
        ("wild", "*.example.com"),
    ]);
    app(&mut world, "x.a.example.com", &["below"]);
    let first = || Block { names: &["first.test"], certificate: "first", ..BLOCK };
    let wild = || Block { names: &["*.example.com"], certificate: "wild", ..BLOCK };
    let below = Block { names: &["*.a.example.com"], certificate: "below", ..BLOCK };
    world.accept(&[first(), wild(), below]);
    assert_eq!(world.codes(&[first(), wild()]), [REMOVED]);
}

#[test]
fn an_unreachable_virtual_host_refuses_nothing() {
    let mut world = World::new(&[("wild", "*.example.com"), ("own", WWW)]);
    let deployment = |world: &World, certificate| {
        let mut deployment = world.deployment(&[
            Block { names: &["*.example.com"], certificate: "wild", ..BLOCK },
            Block { names: &[WWW], certificate, pins: &["backup", "ca-2"], ..BLOCK },
        ]);
        deployment.listeners[0].choice = Choice::Httpd;
        deployment
    };
    world.pki.ca("ca-2");
    let found = |world: &World| {
        let verdict = check(&deployment(world, "own"), world.now, &Never);
        let all = verdict.findings.iter();
        all.map(|finding| (finding.code, finding.check)).collect::<Vec<_>>()
    };
    assert_eq!(found(&world), [(Code::NoPinInChain, Check::Warn)]);
    world.accept_deployment(&deployment(&world, "own"));
    assert_eq!(found(&world), [(Code::NoPinInChain, Check::Warn)]);
    // If its name does lead to it, the mismatch is refused.
    let mut reached = deployment(&world, "own");
    reached.listeners[0].choice = Choice::Nginx;
    let verdict = check(&reached, world.now, &Never);
    assert_eq!(verdict.findings[0].check, Check::Refuse);
}

#[test]
fn pins_for_a_port_of_hosts_below_are_compared_with_nothing() {
    let mut world = World::new(&[("leaf", WWW)]);
    let body = Body::Published(Published {
        include_subdomains: true,
        port: Some(8443),
        ..held("example.com", vec![world.pin("leaf")])
    });
    world.add("apps", body);
    let verdict = world.check(&[Block { names: &[WWW], certificate: "leaf", ..BLOCK }]);
    assert_eq!(codes(&verdict), [(Code::PublishedPinsPortNotServed, WARNING)]);
    assert!(verdict.findings[0].text.what.contains("www.example.com:8443"));
}

#[test]
fn new_pins_are_compared_with_a_wildcard_of_a_named_default_server() {
    let mut world = World::new(&[("own", WWW), ("wild", "first.test,DNS:*.example.com")]);
    let other = Block { names: &["first.test"], certificate: "wild", port: 8443, ..BLOCK };
    let nameless = || Block { certificate: "own", pins: &["own", "backup"], ..BLOCK };
    assert_eq!(world.codes(&[nameless(), other]), [(Code::SameHostPinMismatch, WARNING)]);
    // A wildcard of another machine is reported by that machine.
    let other = || Block { names: &["first.test"], certificate: "wild", ..BLOCK };
    world.writer = Some("web-2");
    world.accept(&[other()]);
    world.writer = Some("web-1");
    assert_eq!(world.codes(&[nameless()]), []);
    world.accept(&[nameless()]);
    world.writer = Some("web-2");
    assert_eq!(world.codes(&[other()]), [(Code::WildcardHostPinsUnmet, WARNING)]);
}
