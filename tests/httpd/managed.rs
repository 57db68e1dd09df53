//! Vhosts whose certificates mod_md manages. The tests contact no CA: they write the certificates that it would issue
//! into mod_md's store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use hpkp_core::published::{Body, Event};
use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Module, Mpm, Reload, Restart, codes, listen};
use hpkp_tests::instance::without_leaks;
use hpkp_tests::recorded;
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
    // mod_ssl warns of a vhost that has no certificate yet.
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

/// Stages a certificate as mod_md does when a CA has issued one: with a description of the domain that names the CA.
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

/// Whether the server presents the certificate `name`, and how many pin fields it sends.
fn presents(httpd: &Httpd, port: u16, name: &str) -> (bool, usize) {
    let url = format!("https://localhost:{port}/");
    let pin = format!("sha256//{}", httpd.pki().pin(&format!("{name}.pem")));
    let curl = Curl::new(&httpd.path("ca.pem")).with(&["--pinnedpubkey", &pin]);
    match curl.exit_code(&url) {
        Some(0) => (true, curl.get(&url).pins().len()),
        _ => (false, 0),
    }
}

/// Proves, without our module, that mod_md accepts the store that these tests write.
#[test]
fn the_next_restart_serves_the_staged_certificate() {
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
    // mod_md answers 503 until there is a certificate, without a field that would bind a client.
    let curl = Curl::new(&httpd.path("ca.pem")).with(&["-k"]);
    let response = curl.get(&format!("https://localhost:{port}/"));
    assert_eq!((response.status, response.pins().len()), (503, 0));
    for signal in [libc::SIGUSR1, libc::SIGHUP] {
        assert!(matches!(httpd.restart(signal), Restart::Served(_)));
    }
    assert_eq!(httpd.graceful(), Reload::Accepted);
    // The first certificate is staged.
    stage(&httpd, "live");
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "live"), (true, 1));
    httpd.stop();
}

/// The server has recorded nothing yet, because its only host had no certificate.
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

/// Without its certificate, mod_md presents one that it made itself, which locks out everybody. Where it never had
/// another, a test refuses nothing.
#[test]
fn a_change_that_leaves_mod_md_without_its_certificate_is_refused() {
    const UNKNOWN: &str = "certificate-not-known-at-load";
    const UNMET: &str = "published-pins-unmet";
    let (mut httpd, port) = managed(Module::Shipped);
    let pki = httpd.pki();
    pki.records("records");
    let body =
        Body::Published(recorded::held("localhost", vec![pki.pin("live.pem").parse().unwrap()]));
    let event = Event::new(1_700_000_000, 1, "apps".parse().unwrap(), body);
    pki.write("records/apps.jsonl", format!("{}\n", event.line()));
    let site = format!("HPKPPublishedPins records writer=web-1\n{}", configuration(port, &[], ""));
    httpd.configure(&site);
    httpd.expect_in_log(&["hpkp: "]);
    httpd.start();
    assert_eq!((httpd.test().code, httpd.test().codes()), (Some(0), vec![UNKNOWN]));
    put(&httpd, "live", "domains");
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "live"), (true, 0));
    // Another store has no certificate.
    httpd.configure(&site.replace("MDStoreDir md", "MDStoreDir md2"));
    let outcome = httpd.test();
    assert_eq!(outcome.code, Some(1), "{}", outcome.text);
    assert!(outcome.codes().contains(&UNMET), "{}", outcome.text);
    assert!(
        outcome.text.contains("the server has no certificate for this host any more"),
        "{}",
        outcome.text
    );
    assert!(matches!(httpd.graceful(), Reload::Refused(_)));
    assert_eq!(presents(&httpd, port, "live"), (true, 0));
    // Once it serves nevertheless, nothing is left to protect.
    let Restart::Served(log) = httpd.restart(libc::SIGUSR1) else { panic!("ended") };
    assert!(codes(&log).contains(&UNMET), "{log}");
    assert_eq!((httpd.test().code, httpd.test().codes()), (Some(0), vec![UNKNOWN]));
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
    // As long as nothing is staged, the certificate in `domains` counts.
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

    // A certificate for the backup key is accepted, and mod_md removes it from `staging`.
    fs::remove_dir_all(httpd.path("md/staging/localhost")).expect("a directory");
    stage(&httpd, "next");
    httpd.test().accepted(&[]);
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&httpd, port, "next"), (true, 1));
    assert!(!httpd.path("md/staging/localhost/pubcert.pem").exists());

    // A signal without a config test before it: mod_md activates the certificate, and the site continues without the
    // header.
    stage(&httpd, "other");
    let Restart::Served(log) = httpd.restart(libc::SIGUSR1) else { panic!("ended") };
    assert!(codes(&log).contains(&"no-pin-in-chain"), "{log}");
    assert_eq!(presents(&httpd, port, "other"), (true, 0));
    httpd.stop();
}

/// While mod_md waits for the CA, its staging folder has no certificate yet.
#[test]
fn a_partly_staged_certificate_does_not_count() {
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

/// mod_md stages one certificate for each key type, in files named after the type.
#[test]
fn every_staged_certificate_counts() {
    let (mut httpd, port) = managed(Module::Shipped);
    // LeakSanitizer (LLVM 14) crashes on this server by a fault of its own, before it has checked.
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
    // A client gets one of the two; both are loaded.
    let served = ["rsa", "next"].map(|name| presents(&httpd, port, name));
    assert!(served.contains(&(true, 1)), "{served:?}");
    httpd.stop();
}

/// A managed domain whose certificate comes from files.
#[test]
fn a_managed_domain_with_files_of_its_own() {
    // The section has two names.
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
    // The config test does not see these files, but the start compares them.
    httpd.configure(&with(&httpd.pki().pin("other.pem")));
    httpd.start();
    assert_eq!(presents(&httpd, port, "live"), (true, 0));
    httpd.stop();
}

/// A test finds the certificate of a domain where mod_md adds it to a server, and only there. A server without it
/// presents its own.
#[test]
fn a_domain_is_that_of_the_servers_to_which_mod_md_adds_it() {
    let host = "<VirtualHost 127.0.0.1:PORT>\nServerName www.site.localhost\nServerAlias alias.localhost\n";
    let main = "ServerName www.site.localhost\n";
    let pattern_before_name = "MDMatchNames servernames\n<MDomainSet *.site.localhost>\nMDRenewMode manual\n\
                               MDCertificateFile other.pem\nMDCertificateKeyFile other.key\n</MDomainSet>";
    for (settings, domain, server, is_added) in [
        (pattern_before_name, "www.site.localhost", host, true),
        ("", "alias.localhost", host, true),
        ("", "*.site.localhost", host, true),
        ("", "*.localhost", host, false),
        ("MDMatchNames servernames", "alias.localhost", host, false),
        ("MDMatchNames servernames", "*.site.localhost", host, true),
        ("MDBaseServer on", "www.site.localhost", main, true),
        ("", "www.site.localhost", main, false),
    ] {
        let (mut httpd, port) = managed(Module::Shipped);
        httpd.expect_in_log(&["AH10085", "AH10164", "AH01909", "AH02292", "md:warn", "md:error"]);
        let end = if server == host { "</VirtualHost>\n" } else { "" };
        let with = |pin: &str| {
            format!(
                "{}MDStoreDir md\n{settings}\n<MDomainSet {domain}>\nMDRenewMode manual\n\
                 MDCertificateFile next.pem\nMDCertificateKeyFile next.key\n</MDomainSet>\n{}{}\
                 SSLEngine on\nSSLCertificateFile live.pem\nSSLCertificateKeyFile live.key\nHPKPUse site\n{end}",
                listen(&[port]),
                policy("site", &[pin, B]),
                server.replace("PORT", &port.to_string()),
            )
        };
        let (added, other) = if is_added { ("next", "live") } else { ("live", "next") };
        let pin = |name: &str| httpd.pki().pin(&format!("{name}.pem"));
        let case = format!("{settings} {domain}");
        httpd.configure(&with(&pin(other)));
        let outcome = httpd.test();
        assert_eq!((outcome.code, outcome.codes()), (Some(1), vec!["no-pin-in-chain"]), "{case}");
        httpd.configure(&with(&pin(added)));
        let outcome = httpd.test();
        assert_eq!((outcome.code, outcome.codes()), (Some(0), vec![]), "{case}: {}", outcome.text);
        httpd.start();
        assert_eq!(presents(&httpd, port, added), (true, 1), "{case}");
        httpd.stop();
    }
}

/// The types of keys of a domain in mod_md's description of it.
const RSA_AND_P256: &str = r#"[{"type":"RSA"},{"type":"EC","curve":"P-256"}]"#;

/// Puts certificates into a folder of the store, each in the files of a type of key.
fn put_all(httpd: &Httpd, folder: &str, certificates: &[(&str, &str)], description: Option<&str>) {
    let folder = httpd.path("md").join(folder);
    fs::create_dir_all(&folder).expect("a directory");
    for (name, kind) in certificates {
        for (from, to) in [("pem", "pubcert"), ("key", "privkey")] {
            let to = folder.join(format!("{to}{kind}.pem"));
            fs::copy(httpd.path(&format!("{name}.{from}")), to).expect("a copy");
        }
    }
    if let Some(keys) = description {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let names = r#"["www.localhost","localhost"]"#;
        let ca = r#"{"proto":"ACME","url":"https://acme.invalid/directory"}"#;
        let text = format!(
            r#"{{"name":"{name}","domains":{names},"ca":{ca},"privkey":{keys},"state":2}}"#
        );
        fs::write(folder.join("md.json"), text).expect("a file");
    }
}

/// A store of mod_md, and what it makes of it.
struct Store {
    settings: &'static str,
    domain: &'static str,
    fill: fn(&Httpd),
    /// The certificates that mod_md loads.
    loaded: &'static [&'static str],
    /// One that it does not load.
    not_loaded: &'static str,
}

fn rsa_and_p256(httpd: &Httpd) {
    put_all(httpd, "domains/localhost", &[("rsa", ""), ("next", ".p-256")], None);
}

fn stores() -> [Store; 7] {
    const RSA: &str = r#"{"type":"RSA"}"#;
    const STAGED: &str = "staging/localhost";
    let store = |settings, domain, fill, loaded, not_loaded| Store {
        settings,
        domain,
        fill,
        loaded,
        not_loaded,
    };
    let renamed = "localhost www.localhost";
    [
        // A type of key that is not configured any more.
        store("MDPrivateKeys P-256", "localhost", rsa_and_p256, &["next"], "rsa"),
        store("MDPrivateKeys rsa 3072", "localhost", rsa_and_p256, &["rsa"], "next"),
        // mod_md still waits for the second certificate.
        store(
            "MDPrivateKeys RSA2048 P-256",
            "localhost",
            |httpd| {
                rsa_and_p256(httpd);
                put_all(httpd, STAGED, &[("other", "")], Some(RSA_AND_P256));
            },
            &["rsa", "next"],
            "other",
        ),
        // A certificate that mod_md has not staged itself.
        store(
            "",
            "localhost",
            |httpd| {
                put_all(httpd, "domains/localhost", &[("live", "")], None);
                put_all(httpd, STAGED, &[("other", "")], None);
            },
            &["live"],
            "other",
        ),
        // The staged set replaces all certificates.
        store(
            "MDPrivateKeys RSA P-256",
            "localhost",
            |httpd| {
                rsa_and_p256(httpd);
                put_all(httpd, STAGED, &[("other", "")], Some(RSA));
            },
            &["other"],
            "next",
        ),
        // Another name is the first one now.
        store(
            "",
            renamed,
            |httpd| put_all(httpd, "domains/www.localhost", &[("live", "")], Some(RSA)),
            &["live"],
            "other",
        ),
        store(
            "",
            renamed,
            |httpd| {
                put_all(httpd, "domains/www.localhost", &[("live", "")], Some(RSA));
                put_all(httpd, "staging/www.localhost", &[("other", "")], Some(RSA));
            },
            &["other"],
            "live",
        ),
    ]
}

/// A test compares the certificates that mod_md loads next: those of the configured types of keys, from a staged set
/// that is complete, in the directory of a domain that had another first name.
#[test]
fn a_test_looks_at_what_mod_md_will_load() {
    for (number, store) in stores().into_iter().enumerate() {
        let (mut httpd, port) = managed(Module::Shipped);
        httpd.expect_in_log(&["md:error", "md:warn"]);
        let pki = httpd.pki();
        pki.key("rsa", hpkp_tests::pki::RSA);
        pki.sign("rsa", "/CN=localhost", "ca", &hpkp_tests::pki::leaf_extensions("localhost"));
        let with = |names: &[&str]| {
            let pins = names.iter().map(|name| httpd.pki().pin(&format!("{name}.pem")));
            let pins: Vec<String> = pins.chain([B.to_owned()]).collect();
            let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
            let domain = format!("{}\nMDomain {}\n", store.settings, store.domain);
            configuration(port, &pins, "HPKPUse site").replace("MDomain localhost\n", &domain)
        };
        (store.fill)(&httpd);
        httpd.configure(&with(&[store.not_loaded]));
        let outcome = httpd.test();
        assert_eq!(outcome.codes(), ["no-pin-in-chain"], "{number}: {}", outcome.text);
        assert_eq!(outcome.code, Some(1), "{number}");
        httpd.configure(&with(store.loaded));
        let outcome = httpd.test();
        assert_eq!(
            (outcome.code, outcome.codes()),
            (Some(0), vec![]),
            "{number}: {}",
            outcome.text
        );
        httpd.start();
        let served = store.loaded.iter().filter(|name| presents(&httpd, port, name) == (true, 1));
        assert_ne!(served.count(), 0, "{number}");
        assert_eq!(presents(&httpd, port, store.not_loaded), (false, 0), "{number}");
        httpd.stop();
    }
}

/// The folder of a domain has its name in lower case.
#[test]
fn a_domain_in_capitals() {
    let (mut httpd, port) = managed(Module::Shipped);
    let (live, other) = (httpd.pki().pin("live.pem"), httpd.pki().pin("other.pem"));
    let with = |pin: &str| {
        let configuration = configuration(port, &[pin, B], "HPKPUse site");
        configuration.replace("MDomain localhost", "MDomain LocalHost")
    };
    put(&httpd, "live", "domains");
    httpd.configure(&with(&other));
    httpd.test().refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    httpd.configure(&with(&live));
    httpd.test().accepted(&[]);
    httpd.start();
    assert_eq!(presents(&httpd, port, "live"), (true, 1));
    httpd.stop();
}

/// A bare signal activates the staged certificate. At a start without a certificate, mod_md presents a fallback of its
/// own.
#[test]
fn the_last_good_certificate_is_presented_in_place_of_an_activated_one() {
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
    // Before the first certificate, none is kept or presented in place of another.
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
    // A key that does not fit, that is not a key, or that is missing.
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
    // Without its store, mod_md would present a fallback certificate until the CA issues another one.
    httpd.stop();
    fs::remove_dir_all(httpd.path("md/domains/localhost")).expect("a directory");
    let before = httpd.log().len();
    httpd.start();
    let log = httpd.log().split_off(before);
    assert!(codes(&log).contains(&SERVED), "{log}");
    assert_eq!(presents(&httpd, port, "live"), (true, 1));
    httpd.stop();
}
