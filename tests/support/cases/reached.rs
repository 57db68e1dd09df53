//! How clients reach a server: the public port behind a mapping, and names that another machine serves.

use super::Server;
use super::configuration::{Directive, Part, host, not_served_here, public_port, published_pins};
use crate::free_port;
use crate::recorded::held_on_port;
use crate::site::B;

/// Makes a test of each case for a server.
#[macro_export]
macro_rules! reached {
    ($server:ty) => {
        $crate::reached!($server:
            held_pins_are_compared_on_the_public_port
            invalid_parameters_of_a_public_port_are_refused
            invalid_hosts_that_are_not_served_here_are_refused
            hosts_that_are_not_served_here_are_not_compared
        );
    };
    ($server:ty: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::cases::reached::$case::<$server>();
            }
        )*
    };
}

/// A TLS server for localhost on `port`, with records and these directives.
fn with(port: u16, directives: impl IntoIterator<Item = Directive>) -> Vec<Part> {
    let records = [published_pins(&["records"])];
    let all = records.into_iter().chain(directives).map(Part::All);
    all.chain([host("localhost", port, &["live"], [])]).collect()
}

/// A server in a container listens on another port than the one that clients use and that TLSA records name.
pub fn held_pins_are_compared_on_the_public_port<S: Server>() {
    let server = S::prepared();
    let pki = server.pki();
    let (port, other) = (free_port(), free_port());
    pki.records("records");
    let holders = server.path("records/dns.jsonl");
    let listen = port.to_string();
    let own = || public_port(&[&listen, &listen]);
    let public = || public_port(&[&listen, "443"]);
    let refused = |declared: &Vec<_>| {
        let outcome = server.says(&with(port, declared.clone()));
        let codes = vec!["published-pins-unmet"];
        assert_eq!((outcome.code, outcome.codes()), (Some(1), codes), "{declared:?}");
    };
    for declared in [vec![public()], vec![public(), own()], vec![own(), public()]] {
        held_on_port(&holders, "localhost", 443, B);
        refused(&declared);
        held_on_port(&holders, "localhost", 443, &pki.pin("live.pem"));
        server.accepts(&with(port, declared), &[]);
    }
    // If the listening port is declared as another public port, no client connects to the listening port.
    held_on_port(&holders, "localhost", port, B);
    assert_eq!(server.says(&with(port, [public()])).code, Some(0));
    for declared in [vec![], vec![own()], vec![public(), own()]] {
        refused(&declared);
    }
    // A declared port on which no server listens is a mistake.
    held_on_port(&holders, "localhost", 443, &pki.pin("live.pem"));
    let unused = public_port(&[&other.to_string(), "443"]);
    let outcome = server.accepts(&with(port, [public(), unused]), &["public-port-unused"]);
    assert!(
        outcome.text.contains(&format!("hpkp: [public-port-unused] port {other}: ")),
        "{outcome:?}"
    );
}

pub fn invalid_parameters_of_a_public_port_are_refused<S: Server>() {
    let server = S::prepared();
    server.pki().records("records");
    let port = free_port();
    for (words, text) in [
        (["0", "443"], "invalid port \"0\", expected 1 to 65535"),
        (["65536", "443"], "invalid port \"65536\""),
        (["-1", "443"], "invalid port \"-1\""),
        (["8443", "0"], "invalid port \"0\""),
        (["8443", "https"], "invalid port \"https\""),
        (["unix:", "443"], "invalid port \"unix:\""),
        (["127.0.0.1:8443", "443"], "invalid port \"127.0.0.1:8443\""),
    ] {
        server.refuses_for(&with(port, [public_port(&words).here()]), text);
    }
    let twice = [public_port(&["8443", "443"]), public_port(&["8443", "443"]).here()];
    server.refuses_for(&with(port, twice), "duplicate public port 443, first configured at ");
    for words in [&["8443"][..], &["8443", "443", "443"]] {
        assert_eq!(server.says(&with(port, [public_port(words)])).code, Some(1), "{words:?}");
    }
}

pub fn invalid_hosts_that_are_not_served_here_are_refused<S: Server>() {
    let server = S::prepared();
    server.pki().records("records");
    let port = free_port();
    for (words, text) in [
        (&["a b.example"][..], "invalid host name in \"a b.example\""),
        (&["192.0.2.1"], "invalid host name in \"192.0.2.1\""),
        (&["www.example.com", "*"], "invalid host name in \"*\""),
        (&["www.*.example.com"], "invalid host name in \"www.*.example.com\""),
        (&["www.example.com:0"], "invalid port \"0\""),
        (&["www.example.com:"], "invalid port \"\""),
        (&["www.example.com", "WWW.example.com."], "duplicate host \"WWW.example.com.\""),
    ] {
        server.refuses_for(&with(port, [not_served_here(words).here()]), text);
    }
    for words in [
        &["www.example.com"][..],
        &["www.example.com", "www.example.com:853", "*.example.org", "*.example.net:25"],
    ] {
        assert_eq!(server.says(&with(port, [not_served_here(words)])).code, Some(0), "{words:?}");
    }
    assert_eq!(server.says(&with(port, [not_served_here(&[])])).code, Some(1));
}

/// The only server on an address answers for every name in its certificate, unless another machine serves that name.
pub fn hosts_that_are_not_served_here_are_not_compared<S: Server>() {
    let server = S::prepared();
    let pki = server.pki();
    let port = free_port();
    pki.records("records");
    pki.leaf("api", "api.example.com", "ca");
    held_on_port(&server.path("records/apps.jsonl"), "api.example.com", port, B);
    let says = |words: &[&str]| {
        let named = (!words.is_empty()).then(|| not_served_here(words));
        let all = [published_pins(&["records"])].into_iter().chain(named).map(Part::All);
        let parts = all.chain([host("www.example.org", port, &["api"], [])]).collect::<Vec<_>>();
        let outcome = server.says(&parts);
        let codes: Vec<String> = outcome.codes().iter().map(ToString::to_string).collect();
        (outcome.code, codes)
    };
    let own = format!("api.example.com:{port}");
    let below = format!("*.example.com:{port}");
    for words in [&["api.example.com"][..], &["*.example.com"], &[&own], &[&below]] {
        assert_eq!(says(words), (Some(0), vec!["not-served-here".to_owned()]), "{words:?}");
    }
    for words in [
        &[][..],
        &["*.api.example.com"],
        &["example.com"],
        &["*.com"],
        &["*.example.org"],
        &["api.example.com:1"],
        &["*.example.com:1"],
    ] {
        let (code, codes) = says(words);
        assert_eq!(code, Some(1), "{words:?}");
        assert!(codes.iter().any(|code| code == "published-pins-unmet"), "{words:?}: {codes:?}");
    }
    let (code, codes) = says(&["www.example.org"]);
    assert_eq!(code, Some(1));
    assert!(codes.iter().any(|code| code == "not-served-here-conflict"), "{codes:?}");
}
