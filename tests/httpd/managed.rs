//! Vhosts whose certificates mod_md manages. No authority is asked: what it would have brought is
//! laid into mod_md's store by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Module, Mpm, Reload, Restart, codes, listen};
use hpkp_tests::instance::without_leaks;
use hpkp_tests::site::B;

use crate::policy;

/// A managed domain `localhost` with nothing in its store, and certificates `next` and `other` of
/// new keys, besides `live`.
fn managed(module: Module) -> (Httpd, u16) {
    let mut httpd = Httpd::furnished(module, Mpm::Event);
    httpd.load(&["md", "dir"]);
    let pki = httpd.pki();
    pki.leaf("next", "localhost", "ca");
    pki.leaf("other", "localhost", "ca");
    pki.write("html/index.html", "x");
    // mod_ssl's remark where there is no certificate yet.
    httpd.expect_in_log(&["AH10085: Init: localhost:"]);
    (httpd, free_port())
}

fn configuration(port: u16, pins: &[&str], vhost: &str) -> String {
    format!(
        "{}MDStoreDir md\nMDRenewMode manual\nMDCertificateAgreement accepted\n\
         MDContactEmail x@example.com\nMDPortMap https:{port}\nMDomain localhost\n{}\
         <VirtualHost 127.0.0.1:{port}>\nServerName localhost\nSSLEngine on\n{vhost}\n</VirtualHost>\n",
        listen(&[port]),
        if pins.is_empty() { String::new() } else { policy("site", pins) },
    )
}

/// Puts a certificate and its key into a folder of the store.
fn put(httpd: &Httpd, name: &str, folder: &str) {
    let folder = httpd.path("md").join(folder).join("localhost");
    fs::create_dir_all(&folder).expect("a directory");
    for (from, to) in [("pem", "pubcert.pem"), ("key", "privkey.pem")] {
        fs::copy(httpd.path(&format!("{name}.{from}")), folder.join(to)).expect("a copy");
    }
}

/// Stages a certificate as mod_md does when it has got one: besides, its description of the domain,
/// with the authority that issued it.
fn stage(httpd: &Httpd, name: &str) {
    put(httpd, name, "staging");
    let domain = fs::read_to_string(httpd.path("md/domains/localhost/md.json"));
    let domain = domain.expect("the domain").replace(
        "\"proto\": \"ACME\",",
        "\"proto\": \"ACME\", \"url\": \"https://acme.invalid/directory\",",
    );
    let staging = httpd.path("md/staging/localhost");
    fs::write(staging.join("md.json"), domain).expect("a file");
    fs::write(staging.join("job.json"), r#"{"name":"localhost","finished":true}"#).expect("a file");
}

/// Whether the server presents the certificate of this name, and how many pins it sends.
fn presents(httpd: &Httpd, port: u16, name: &str) -> (bool, usize) {
    let url = format!("https://localhost:{port}/");
    let pin = format!("sha256//{}", httpd.pki().pin(&format!("{name}.pem")));
    let curl = Curl::new(&httpd.path("ca.pem")).with(&["--pinnedpubkey", &pin]);
    match curl.exit_code(&url) {
        Some(0) => (true, curl.get(&url).pins().len()),
        _ => (false, 0),
    }
}

/// That the store made by hand is one that mod_md takes: without our module.
#[test]
fn what_is_staged_is_what_the_next_restart_serves() {
    let (mut httpd, port) = managed(Module::None);
    httpd.configure(&configuration(port, &[], ""));
    httpd.start();
    put(&httpd, "live", "domains");
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "live"), (true, 0));
    stage(&httpd, "next");
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "next"), (true, 0));
    assert!(!httpd.path("md/staging/localhost/pubcert.pem").exists());
    httpd.stop();
}

#[test]
fn a_fallback_certificate_is_never_fatal() {
    let (mut httpd, port) = managed(Module::Shipped);
    let live = httpd.pki().pin("live.pem");
    httpd.configure(&format!(
        "HPKPOnStart refuse\n{}",
        configuration(port, &[&live, B], "HPKPUse site")
    ));
    assert_eq!(httpd.test().code, Some(0));
    httpd.expect_in_log(&["hpkp: "]);
    httpd.start();
    // What it answers until there is a certificate, with nothing that would bind a client.
    let curl = Curl::new(&httpd.path("ca.pem")).with(&["-k"]);
    let response = curl.get(&format!("https://localhost:{port}/"));
    assert_eq!((response.status, response.pins().len()), (503, 0));
    for signal in [libc::SIGUSR1, libc::SIGHUP] {
        assert!(matches!(httpd.restart(signal), Restart::Served(_)));
    }
    assert_eq!(httpd.graceful(), Reload::Accepted);
    // Then the first certificate comes.
    stage(&httpd, "live");
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "live"), (true, 1));
    httpd.stop();
}

/// A server that has recorded nothing yet, since its only host had no certificate.
#[test]
fn the_first_certificate_comes_where_records_are_kept() {
    let (mut httpd, port) = managed(Module::Shipped);
    let live = httpd.pki().pin("live.pem");
    httpd.pki().records("records");
    httpd.configure(&format!(
        "HPKPPublishedPins records writer=web-1\n{}",
        configuration(port, &[&live, B], "HPKPUse site")
    ));
    httpd.expect_in_log(&["hpkp: "]);
    httpd.start();
    assert_eq!(httpd.graceful(), Reload::Accepted);
    stage(&httpd, "live");
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "live"), (true, 1));
    httpd.stop();
}

#[test]
fn a_staged_key_that_would_lock_out_is_refused() {
    let (mut httpd, port) = managed(Module::Shipped);
    let pki = httpd.pki();
    let (live, next, other) = (pki.pin("live.pem"), pki.pin("next.pem"), pki.pin("other.pem"));
    httpd.configure(&configuration(port, &[&live, &next], "HPKPUse site"));
    httpd.expect_in_log(&["hpkp: "]);
    httpd.start();
    // What lies in `domains` counts as long as nothing is staged.
    put(&httpd, "other", "domains");
    httpd.test().refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    put(&httpd, "live", "domains");
    httpd.test().accepted(&[]);
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "live"), (true, 1));

    stage(&httpd, "other");
    let outcome = httpd.test();
    outcome.refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    assert!(outcome.text.contains(&other), "{}", outcome.text);
    let Reload::Refused(outcome) = httpd.graceful() else { panic!("accepted") };
    assert_eq!(codes(&outcome), ["no-pin-in-chain"]);
    assert_eq!(presents(&httpd, port, "live"), (true, 1));

    // The backup key goes through, and nothing is left of it in `staging`.
    fs::remove_dir_all(httpd.path("md/staging/localhost")).expect("a directory");
    stage(&httpd, "next");
    httpd.test().accepted(&[]);
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "next"), (true, 1));
    assert!(!httpd.path("md/staging/localhost/pubcert.pem").exists());

    // A signal that no test comes before: mod_md activates it, and the site goes on without the
    // header.
    stage(&httpd, "other");
    let Restart::Served(log) = httpd.restart(libc::SIGUSR1) else { panic!("ended") };
    assert!(codes(&log).contains(&"no-pin-in-chain"), "{log}");
    assert_eq!(presents(&httpd, port, "other"), (true, 0));
    httpd.stop();
}

/// While mod_md waits for its authority, its folder has no certificate yet.
#[test]
fn what_is_staged_in_part_does_not_count() {
    let (mut httpd, port) = managed(Module::Shipped);
    let live = httpd.pki().pin("live.pem");
    httpd.configure(&configuration(port, &[&live, B], "HPKPUse site"));
    httpd.expect_in_log(&["hpkp: "]);
    httpd.start();
    put(&httpd, "live", "domains");
    stage(&httpd, "other");
    fs::remove_file(httpd.path("md/staging/localhost/pubcert.pem")).expect("a file");
    httpd.test().accepted(&[]);
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "live"), (true, 1));
    httpd.stop();
}

/// Certificates of other key types have files named after them, one beside the other.
#[test]
fn every_staged_certificate_counts() {
    let (mut httpd, port) = managed(Module::Shipped);
    // Of this server LeakSanitizer (LLVM 14) ends by a fault of its own before it has looked.
    if let Some((name, value)) = without_leaks() {
        httpd.set_environment(name, &value);
    }
    let pki = httpd.pki();
    pki.key("rsa", hpkp_tests::pki::RSA);
    pki.sign("rsa", "/CN=localhost", "ca", &hpkp_tests::pki::leaf_extensions("localhost"));
    let (rsa, next) = (pki.pin("rsa.pem"), pki.pin("next.pem"));
    let with = |pins: &[&str]| {
        format!("MDPrivateKeys RSA P-256\n{}", configuration(port, pins, "HPKPUse site"))
    };
    httpd.configure(&with(&[&rsa, &next, B]));
    httpd.expect_in_log(&["hpkp: "]);
    httpd.start();
    stage(&httpd, "rsa");
    let staging = httpd.path("md/staging/localhost");
    for (from, to) in [("next.pem", "pubcert.p-256.pem"), ("next.key", "privkey.p-256.pem")] {
        fs::copy(httpd.path(from), staging.join(to)).expect("a copy");
    }
    httpd.configure(&with(&[&rsa, B]));
    let outcome = httpd.test();
    outcome.refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    assert!(outcome.text.contains(&next), "{}", outcome.text);
    httpd.configure(&with(&[&rsa, &next, B]));
    httpd.test().accepted(&[]);
    assert_eq!(httpd.graceful(), Reload::Accepted);
    // One of the two is served, and both have been loaded.
    let served = ["rsa", "next"].map(|name| presents(&httpd, port, name));
    assert!(served.contains(&(true, 1)), "{served:?}");
    httpd.stop();
}

/// A certificate from files, in a managed domain.
#[test]
fn a_managed_domain_with_files_of_its_own() {
    // The block has a short name too.
    with_files_of_its_own("MDomainSet");
    with_files_of_its_own("MDomain");
}

fn with_files_of_its_own(block: &str) {
    let (mut httpd, port) = managed(Module::Shipped);
    let live = httpd.pki().pin("live.pem");
    let with = |pin: &str| {
        let configuration = configuration(port, &[pin, B], "HPKPUse site");
        let files = format!(
            "<{block} localhost>\nMDCertificateFile live.pem\nMDCertificateKeyFile live.key\n\
             </{block}>"
        );
        configuration.replace("MDomain localhost", &files)
    };
    httpd.expect_in_log(&["hpkp: "]);
    httpd.configure(&with(&live));
    assert_eq!(httpd.test().code, Some(0));
    httpd.start();
    assert_eq!(presents(&httpd, port, "live"), (true, 1));
    httpd.stop();
    // Where the test does not see them, the start does.
    httpd.configure(&with(&httpd.pki().pin("other.pem")));
    httpd.start();
    assert_eq!(presents(&httpd, port, "live"), (true, 0));
    httpd.stop();
}

/// A bare signal activates what is staged, and a start presents mod_md's own certificate where it has none.
#[test]
fn the_last_good_certificate_in_the_place_of_what_is_activated() {
    const SERVED: &str = "kept-certificate-served";
    let (mut httpd, port) = managed(Module::Shipped);
    let live = httpd.pki().pin("live.pem");
    httpd.pki().records("records");
    let kept = httpd.path("kept");
    fs::create_dir(&kept).expect("a directory");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o700)).expect("a mode");
    httpd.configure(&format!(
        "HPKPPublishedPins records writer=web-1\nHPKPKeepCertificates kept\n{}",
        configuration(port, &[&live, B], "HPKPUse site")
    ));
    httpd.expect_in_log(&["hpkp: "]);
    httpd.start();
    // Before the first certificate nothing is kept, and nothing is presented in its place.
    assert!(!httpd.log().contains(SERVED));
    stage(&httpd, "live");
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "live"), (true, 1));
    for signal in [libc::SIGUSR1, libc::SIGHUP] {
        stage(&httpd, "other");
        let Restart::Served(log) = httpd.restart(signal) else { panic!("ended") };
        assert!(codes(&log).contains(&SERVED), "{log}");
        assert_eq!(presents(&httpd, port, "live"), (true, 1));
        assert!(!httpd.path("md/staging/localhost/pubcert.pem").exists(), "it was activated");
    }
    // A key that does not fit, that is none, or that is not there.
    let key = httpd.path("md/domains/localhost/privkey.pem");
    for broken in ["other.key", "ca.pem", "nothing"] {
        put(&httpd, "live", "domains");
        fs::remove_file(&key).expect("removed");
        if broken != "nothing" {
            fs::copy(httpd.path(broken), &key).expect("a copy");
        }
        let Restart::Served(log) = httpd.restart(libc::SIGUSR1) else { panic!("ended: {broken}") };
        assert!(codes(&log).contains(&SERVED), "{broken}: {log}");
        assert_eq!(presents(&httpd, port, "live"), (true, 1), "{broken}");
    }
    // What mod_md has is gone: it answers with a certificate of its own until it has another one.
    httpd.stop();
    fs::remove_dir_all(httpd.path("md/domains/localhost")).expect("a directory");
    let before = httpd.log().len();
    httpd.start();
    let log = httpd.log().split_off(before);
    assert!(codes(&log).contains(&SERVED), "{log}");
    assert_eq!(presents(&httpd, port, "live"), (true, 1));
    httpd.stop();
}
