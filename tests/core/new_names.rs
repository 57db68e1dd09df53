//! Names that are new on a server, with pins that match on some certificate paths only. The test expects that clients
//! take the same path as for the same chain elsewhere.

use std::sync::Arc;

use hpkp_core::check::{Certificates, Deployment, TrustSetting, check};
use hpkp_core::finding::{Class, Code};
use hpkp_core::path::{Anchor, Anchors, Chain, Trust};
use hpkp_core::published::{Matching, Scope};

use crate::answering::crossed;
use crate::published::{BLOCK, Block, LOCKOUT, Never, World, codes};

const PARTLY: (Code, Class) = (Code::PublishedPinsPartlyMet, Class::Warning);
const UNMET: (Code, Class) = (Code::PublishedPinsUnmet, LOCKOUT);
const WWW: &str = "www.example.com";
const API: &str = "api.example.com";
/// Chains with paths to both roots.
const CHAIN: &[&str] = &["leaf", "inter", "cross"];
const OTHER_ORDER: &[&str] = &["leaf", "cross", "inter"];

/// One block for each name, which sends this chain.
fn blocks(world: &World, all: &[(&str, &[&str])]) -> Deployment {
    let names: Vec<[&str; 1]> = all.iter().map(|(name, _)| [*name]).collect();
    let named = names.iter().zip(all);
    let all_blocks: Vec<Block<'_>> =
        named.map(|(names, (_, chain))| Block { names, certificate: chain[0], ..BLOCK }).collect();
    let mut deployment = world.deployment(&all_blocks);
    let anchor = |file| Anchor { certificate: world.certificate(file), origin: "store".into() };
    let trust = Trust { system: Arc::new(Anchors::new(["ca", "other"].map(anchor))), added: None };
    let trust = Arc::new(TrustSetting { trust, ..TrustSetting::default() });
    for (context, (_, chain)) in deployment.contexts.iter_mut().zip(all) {
        let chain = chain.iter().map(|file| world.certificate(file)).collect();
        let chain = Chain::new(chain).expect("a chain");
        context.certificates = Certificates::Loaded(vec![chain]);
        context.trust = trust.clone();
    }
    deployment
}

fn found(world: &World, all: &[(&str, &[&str])]) -> Vec<(Code, Class)> {
    codes(&check(&blocks(world, all), world.now, &Never))
}

/// A server of another name, and an app that pins the root `other` for this name.
fn beside(matching: Matching) -> World {
    let mut world = crossed();
    world.pki.leaf("first", "first.test", "ca");
    world.pki.leaf("api", API, "inter");
    world.accept_deployment(&blocks(&world, &[("first.test", &["first"])]));
    let host = if matching == Matching::Exact { WWW } else { "example.com" };
    world.import(host, matching, Scope::Chain, "other");
    world
}

#[test]
fn a_name_presented_by_no_server_is_refused_for_a_path_without_its_pins() {
    let world = beside(Matching::Exact);
    let first: (&str, &[&str]) = ("first.test", &["first"]);
    assert_eq!(found(&world, &[first, (WWW, CHAIN)]), [UNMET]);
    // The pins match on all paths of this chain.
    assert_eq!(found(&world, &[first, (WWW, &["leaf", "cross"])]), []);
    // A server without an earlier configuration may have presented this chain all along.
    let mut world = crossed();
    world.import(WWW, Matching::Exact, Scope::Chain, "other");
    assert_eq!(found(&world, &[(WWW, CHAIN)]), [PARTLY]);
}

#[test]
fn a_name_that_moves_here_with_the_chain_of_another_server_is_safe() {
    let first: (&str, &[&str]) = ("first.test", &["first"]);
    for (there, expected) in [(CHAIN, PARTLY), (OTHER_ORDER, UNMET), (&["leaf", "cross"], UNMET)] {
        let mut world = beside(Matching::Exact);
        world.writer = Some("web-2");
        world.accept_deployment(&blocks(&world, &[(WWW, there)]));
        world.writer = Some("web-1");
        assert_eq!(found(&world, &[first, (WWW, CHAIN)]), [expected], "{there:?}");
    }
}

#[test]
fn a_name_beside_another_of_the_same_pins_and_the_same_path_is_safe() {
    let mut world = beside(Matching::AnyDepth);
    let first: (&str, &[&str]) = ("first.test", &["first"]);
    let www: (&str, &[&str]) = (WWW, CHAIN);
    world.accept_deployment(&blocks(&world, &[first, www]));
    let api: &[&str] = &["api", "inter", "cross"];
    let all = found(&world, &[first, www, (API, api)]);
    assert!(all.iter().all(|found| *found == PARTLY), "{all:?}");
    let other: &[&str] = &["api", "cross", "inter"];
    assert!(found(&world, &[first, www, (API, other)]).contains(&UNMET));
}

#[test]
fn another_port_of_a_name_with_the_same_path_is_safe() {
    let mut world = beside(Matching::Exact);
    world.accept_deployment(&blocks(&world, &[(WWW, CHAIN)]));
    let on_both = |chain: &[&str]| {
        let mut deployment = blocks(&world, &[(WWW, CHAIN), (WWW, chain)]);
        let mut listener = deployment.listeners[0].clone();
        deployment.listeners[0].hosts = vec![0];
        (listener.port, listener.hosts, listener.default) = (8443, vec![1], 1);
        deployment.listeners.push(listener);
        codes(&check(&deployment, world.now, &Never))
    };
    assert!(!on_both(CHAIN).contains(&UNMET), "{:?}", on_both(CHAIN));
    assert!(on_both(OTHER_ORDER).contains(&UNMET));
}
