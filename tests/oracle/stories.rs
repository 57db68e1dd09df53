//! Regression tests: minimised histories in which the oracle once found an error.

use crate::core::Core;
use crate::history::{Lie, Step, run};
use crate::world::{
    Block, CA_CERTS, Config, Key, Kind, LeafCert, Matching, Outside, Policy, Scope, Sent,
};

/// A chain that a server sends: a leaf issued by `inter0`, and these CA certificates.
fn sent(key: Key, names: &[&'static str], cas: &[usize]) -> Sent {
    let leaf = LeafCert { key, issuer: Some(2), names: names.to_vec(), edition: 0 };
    Sent { leaf, cas: cas.iter().map(|ca| CA_CERTS[*ca]).collect() }
}

fn block(names: &[&'static str], sent: Sent) -> Block {
    let names = names.to_vec();
    Block { names, ports: vec![443], slots: vec![sent], policy: None, is_default: false }
}

fn policy(pins: &[Key]) -> Option<Policy> {
    Some(Policy { pins: pins.to_vec(), days: 30, include_subdomains: false })
}

fn deploy(blocks: Vec<Block>) -> Step {
    Step::Deploy { config: config(blocks), is_unwritable: false, drains: 0 }
}

fn config(blocks: Vec<Block>) -> Config {
    Config { kind: Kind::Nginx, blocks, not_served_here: vec![] }
}

fn app(host: &'static str, pin: Key) -> Step {
    Step::Import(Outside {
        host,
        matching: Matching::Exact,
        include_subdomains: false,
        scope: Scope::Chain,
        port: None,
        pins: vec![pin],
        days: None,
    })
}

/// Fails unless oracle and check agree at every step, and `refused` configurations are refused.
#[track_caller]
fn agree(steps: &[Step], refused: usize) {
    let (run, disagreement) = run(Core::new(), steps);
    assert!(disagreement.is_none(), "{disagreement:#?}");
    assert_eq!(run.refused, refused);
}

const A: &[&str] = &["a.example.com"];
const ROOT0: &[usize] = &[2];
const ROOT1: &[usize] = &[4];

#[test]
fn the_same_keys_on_a_path_to_another_root_are_refused() {
    let mut old = block(A, sent(Key::Leaf(0), A, ROOT0));
    old.policy = policy(&[Key::Ca(0), Key::Spare(0)]);
    let mut new = block(A, sent(Key::Leaf(0), A, ROOT1));
    new.policy = policy(&[Key::Leaf(0), Key::Spare(0)]);
    agree(&[deploy(vec![old]), deploy(vec![new])], 1);
}

#[test]
fn a_name_that_falls_to_a_wildcard_with_another_key_is_refused() {
    let own = block(A, sent(Key::Leaf(0), A, ROOT0));
    let wild = &["*.example.com"];
    let other = block(wild, sent(Key::Leaf(1), wild, ROOT0));
    let both = deploy(vec![own, other.clone()]);
    let steps = [both, app("a.example.com", Key::Leaf(0)), deploy(vec![other])];
    agree(&steps, 1);
}

#[test]
fn events_of_a_peer_about_our_pins_have_no_effect() {
    for lie in [Lie::Ends, Lie::Waives] {
        let mut old = block(A, sent(Key::Leaf(0), A, ROOT0));
        old.policy = policy(&[Key::Leaf(0), Key::Spare(0)]);
        let new = block(A, sent(Key::Leaf(1), A, ROOT0));
        agree(&[deploy(vec![old]), Step::Lie(lie), deploy(vec![new])], 1);
    }
}

#[test]
fn a_client_accepted_by_one_of_two_certificates_is_locked_out_by_another_key() {
    let wild = &["*.example.com"];
    let mut old = block(&["b.example.com"], sent(Key::Leaf(0), wild, ROOT0));
    old.slots.push(sent(Key::Rsa(0), wild, ROOT0));
    let new = block(&["c.example.com"], sent(Key::Leaf(1), wild, ROOT0));
    let pinned = app("a.example.com", Key::Leaf(0));
    agree(&[deploy(vec![old]), pinned, deploy(vec![new])], 1);
}

#[test]
fn a_withheld_header_lets_no_other_lock_out_pass() {
    let wild = &["*.example.com"];
    let mut own = block(A, sent(Key::Leaf(0), A, ROOT0));
    own.policy = policy(&[Key::Leaf(0), Key::Spare(0)]);
    let first = deploy(vec![own.clone()]);
    own.policy = None;
    let mut other = block(wild, sent(Key::Leaf(1), wild, ROOT0));
    other.policy = policy(&[Key::Leaf(1), Key::Spare(1)]);
    let fallen = deploy(vec![other.clone()]);
    // The block's own header is withheld, because its clients would refuse the key on the other port.
    other.ports = vec![443, 8443];
    let forced = Step::Force(config(vec![own, other]));
    agree(&[first, forced, fallen], 1);
}

#[test]
fn a_withheld_header_is_not_sent_while_records_cannot_be_written() {
    let mut own = block(A, sent(Key::Leaf(0), A, ROOT0));
    own.policy = policy(&[Key::Leaf(0), Key::Spare(0)]);
    let mut other = block(A, sent(Key::Leaf(1), A, ROOT0));
    other.ports = vec![8443];
    let all = config(vec![own, other.clone()]);
    other.names.push("b.example.com");
    let mut more = all.clone();
    more.blocks[1] = other;
    let steps = [
        Step::Force(all),
        Step::Deploy { config: more.clone(), is_unwritable: true, drains: 0 },
        Step::Deploy { config: more, is_unwritable: false, drains: 0 },
    ];
    agree(&steps, 0);
}
