//! Free ports for tests, which run in parallel and start programs all the time.

use std::net::TcpListener;

use hpkp_tests::{bound, free_port};

#[test]
fn a_bound_port_can_be_listened_on_and_a_port_in_use_is_not_free() {
    let port = free_port();
    // A process forked meanwhile may still hold the bound socket.
    let held = bound(port).expect("nobody listens");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    drop(held);
    assert!(bound(port).is_none());
    drop(listener);
    assert!(bound(port).is_some());
}
