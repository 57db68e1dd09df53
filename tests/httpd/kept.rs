//! The last good certificates: httpd presents them in place of the configured ones at a start, at a bare signal, and
//! with `HPKPCheck keep` at a reload.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Module, Mpm, Reload, Restart, codes, listen, tls_vhost};
use hpkp_tests::pki::{leaf_extensions, openssl};
use hpkp_tests::site::B;

use crate::policy;

const SERVED: &str = "kept-certificate-served";

struct Site {
    httpd: Httpd,
    port: u16,
    pin: String,
}

impl Site {
    fn new() -> Self {
        let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
        httpd.load(&["dir"]);
        let pki = httpd.pki();
        pki.write("html/index.html", "x");
        pki.records("records");
        pki.leaf("other", "localhost", "ca");
        pki.sign("backup", "/CN=localhost", "ca", &leaf_extensions("localhost"));
        let kept = httpd.path("kept");
        fs::create_dir(&kept).expect("a directory");
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o700)).expect("a mode");
        let pin = pki.pin("live.pem");
        let site = Self { httpd, port: free_port(), pin };
        site.configure("", "");
        site
    }

    fn configure(&self, server: &str, vhost: &str) {
        self.httpd.configure(&format!(
            "{}HPKPPublishedPins records writer=web-1\nHPKPKeepCertificates kept\n{}{server}\n{}",
            listen(&[self.port]),
            policy("site", &[&self.pin, "file:backup.csr", B]),
            tls_vhost(self.port, "localhost", "live", &format!("HPKPUse site\n{vhost}")),
        ));
    }

    /// A running server that has kept its certificate.
    fn running() -> Self {
        let mut site = Self::new();
        site.httpd.start();
        site.httpd.expect_in_log(&[SERVED]);
        site
    }

    fn presents(&self, pin: &str) -> bool {
        let curl = Curl::new(&self.httpd.path("ca.pem"));
        let pinned = curl.with(&["--pinnedpubkey", &format!("sha256//{pin}")]);
        pinned.exit_code(&format!("https://localhost:{}/", self.port)) == Some(0)
    }

    fn headers(&self) -> usize {
        let curl = Curl::new(&self.httpd.path("ca.pem"));
        curl.get(&format!("https://localhost:{}/", self.port)).pins().len()
    }

    #[track_caller]
    fn presents_what_was_kept(&self, log: &str, what: &str) {
        assert_eq!(codes(log), [SERVED], "{what}");
        assert!(self.presents(&self.pin), "{what}");
        assert_eq!(self.headers(), 1, "{what}");
    }

    /// Sends a signal without a config test before it; returns the new lines of the log.
    #[track_caller]
    fn signalled(&mut self, signal: libc::c_int) -> String {
        match self.httpd.restart(signal) {
            Restart::Served(log) => log,
            Restart::Ended(log) => panic!("the site has ended:\n{log}"),
        }
    }
}

#[test]
fn a_bare_signal_presents_the_last_good_certificate() {
    let mut site = Site::running();
    fs::write(site.httpd.path("broken.pem"), "no certificate").expect("a file");
    fs::write(site.httpd.path("broken.key"), "no key").expect("a file");
    fs::copy(site.httpd.path("live.pem"), site.httpd.path("old.pem")).expect("a copy");
    fs::copy(site.httpd.path("live.key"), site.httpd.path("old.key")).expect("a copy");
    // The last two have a certificate that clients accept, with a broken key or another key.
    for (certificate, key) in [
        ("other", "other"),
        ("broken", "old"),
        ("other", "broken"),
        ("other", "old"),
        ("old", "broken"),
        ("old", "other"),
    ] {
        site.httpd.install(certificate, key);
        for signal in [libc::SIGUSR1, libc::SIGHUP] {
            let log = site.signalled(signal);
            assert_eq!(codes(&log), [SERVED], "{certificate} {key}");
            assert!(log.contains("hpkp:alert"), "{log}");
            assert!(site.presents(&site.pin), "{certificate} {key}");
            assert_eq!(site.headers(), 1);
        }
    }
    // A config test still refuses the new certificate.
    site.httpd.install("other", "other");
    site.httpd.test().refused("no-pin-in-chain", site.httpd.line("HPKPUse site"));
    assert!(matches!(site.httpd.graceful(), Reload::Refused(_)));
    // A start presents the kept certificate as well.
    site.httpd.stop();
    let before = site.httpd.log().len();
    site.httpd.start();
    assert_eq!(codes(&site.httpd.log()[before..]), [SERVED]);
    assert!(site.presents(&site.pin));
    // A certificate that clients accept takes its place.
    site.httpd.install("backup", "backup");
    assert_eq!(codes(&site.signalled(libc::SIGUSR1)), [""; 0]);
    assert!(site.presents(&site.httpd.pki().pin("backup.csr")));
    site.httpd.install("other", "other");
    assert_eq!(codes(&site.signalled(libc::SIGUSR1)), [SERVED]);
    assert!(site.presents(&site.httpd.pki().pin("backup.csr")));
    let outcome = site.httpd.log() + &site.httpd.terminal_output();
    assert!(!outcome.contains("PRIVATE KEY"));
    for name in ["old.key", "backup.key", "other.key"] {
        let key = fs::read_to_string(site.httpd.path(name)).expect("a key");
        let mut lines = key.lines().filter(|line| line.len() > 16 && !line.starts_with('-'));
        assert!(!lines.any(|line| outcome.contains(line)), "{name}");
    }
    site.httpd.stop();
}

/// mod_ssl refuses a directive whose file does not exist or is empty, which would end the running parent.
#[test]
fn a_missing_certificate_or_key_is_replaced_by_the_kept_one() {
    let mut site = Site::running();
    for name in ["live.pem", "live.key"] {
        fs::copy(site.httpd.path(name), site.httpd.path(&format!("saved-{name}"))).expect("a copy");
    }
    for (name, is_empty) in
        [("live.pem", false), ("live.pem", true), ("live.key", false), ("live.key", true)]
    {
        let path = site.httpd.path(name);
        fs::remove_file(&path).expect("removed");
        if is_empty {
            fs::write(&path, "").expect("a file");
        }
        // A config test is still refused, by mod_ssl.
        let outcome = site.httpd.run(&["-t"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.text);
        assert!(outcome.text.contains("does not exist or is empty"), "{}", outcome.text);
        for signal in [libc::SIGUSR1, libc::SIGHUP] {
            let log = site.signalled(signal);
            site.presents_what_was_kept(&log, name);
            assert!(log.contains("does not exist or is empty"), "{log}");
        }
        site.httpd.stop();
        let mut lenient = site.httpd.command();
        let outcome = lenient.arg("-t").env("HPKP_CHECK", "warn").output().expect("httpd");
        let text = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert_eq!((outcome.status.code(), codes(&text)), (Some(0), vec![SERVED]), "{text}");
        let before = site.httpd.log().len();
        site.httpd.start();
        site.presents_what_was_kept(&site.httpd.log()[before..], name);
        site.configure("HPKPCheck keep", "");
        let outcome = site.httpd.run(&["-t"]);
        assert_eq!((outcome.code, outcome.codes()), (Some(0), vec![SERVED]), "{}", outcome.text);
        // With keeping off, mod_ssl refuses the file as without our module.
        site.configure("HPKPCheck keep", "HPKPKeepCertificates off");
        let outcome = site.httpd.run(&["-t"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.text);
        assert!(outcome.text.contains("does not exist or is empty"), "{}", outcome.text);
        site.configure("", "");
        fs::copy(site.httpd.path(&format!("saved-{name}")), &path).expect("a copy");
    }
    site.httpd.stop();
}

/// The missing file is named inside a macro. With keeping off, the start fails.
#[test]
fn a_missing_file_named_in_a_macro_is_replaced_by_the_kept_one() {
    let mut site = Site::running();
    site.httpd.stop();
    // A line made by a macro is in no file.
    site.httpd.load(&["macro"]);
    site.httpd.configure(&format!(
        "{}HPKPPublishedPins records writer=web-1\nHPKPKeepCertificates kept\n{}\
         <Macro Site $port>\n<VirtualHost 127.0.0.1:$port>\nServerName localhost\nSSLEngine on\n\
         SSLCertificateFile nowhere/live.pem\nSSLCertificateKeyFile live.key\nHPKPUse site\n</VirtualHost>\n\
         </Macro>\nUse Site {}\n",
        listen(&[site.port]),
        policy("site", &[&site.pin, "file:backup.csr", B]),
        site.port,
    ));
    let before = site.httpd.log().len();
    site.httpd.start();
    site.presents_what_was_kept(&site.httpd.log()[before..], "macro");
    site.httpd.stop();
    // mod_ssl itself reports the configured file.
    site.httpd.expect_in_log(&["AH02562", "SSL Library Error", "AH00016"]);
    site.configure("", "HPKPKeepCertificates off");
    fs::remove_file(site.httpd.path("live.pem")).expect("removed");
    let outcome = site.httpd.run(&["-DFOREGROUND"]);
    assert_ne!(outcome.code, Some(0));
    let name = site.httpd.path("live.pem");
    assert!(
        site.httpd.log().contains(&format!("check {}", name.display())),
        "{}",
        site.httpd.log()
    );
}

/// A key with a pass phrase cannot be kept; the certificate presented in its place stays kept.
#[test]
fn a_kept_certificate_stays_when_the_configured_one_cannot_be_kept() {
    let mut site = Site::running();
    site.httpd.expect_in_log(&["hpkp: [certificate-cannot-be-kept]"]);
    site.httpd.install("other", "other");
    let path = |name: &str| site.httpd.path(name).to_str().expect("a path").to_owned();
    let (from, to) = (path("other.key"), path("live.key"));
    openssl(&["ec", "-aes128", "-in", &from, "-out", &to, "-passout", "pass:secret"]);
    for signal in [libc::SIGUSR1, libc::SIGHUP, libc::SIGUSR1] {
        let log = site.signalled(signal);
        assert!(codes(&log).contains(&SERVED), "{log}");
        assert!(site.presents(&site.pin));
    }
    site.httpd.stop();
}

#[test]
fn check_keep_presents_the_kept_certificate_at_a_reload_and_check_warn_never() {
    let mut site = Site::running();
    site.httpd.expect_in_log(&["hpkp: [no-pin-in-chain]", "hpkp: [published-pins-unmet]"]);
    site.httpd.install("other", "other");
    site.configure("HPKPCheck keep", "");
    site.httpd.test().accepted(&[SERVED]);
    assert_eq!(site.httpd.graceful(), Reload::Accepted);
    assert!(site.presents(&site.pin));
    assert_eq!(site.headers(), 1);
    site.configure("HPKPCheck warn", "");
    assert!(!codes(&site.signalled(libc::SIGUSR1)).contains(&SERVED));
    assert!(site.presents(&site.httpd.pki().pin("other.pem")));
    site.configure("", "HPKPKeepCertificates off");
    assert!(!codes(&site.signalled(libc::SIGUSR1)).contains(&SERVED));
    assert!(site.presents(&site.httpd.pki().pin("other.pem")));
    site.httpd.stop();
}

/// The chain of the new certificate must not be sent with the kept one; a certificate's file may contain its key.
#[test]
fn chains_and_keys_in_other_files() {
    let mut site = Site::new();
    let pki = site.httpd.pki();
    pki.intermediate("above", "ca");
    pki.leaf("chained", "localhost", "above");
    site.pin = pki.pin("chained.pem");
    pki.bundle("both.pem", &["chained.pem", "chained.key"]);
    let configure = |site: &Site| {
        site.httpd.configure(&format!(
            "{}HPKPPublishedPins records writer=web-1\nHPKPKeepCertificates kept\n{}\
             <VirtualHost 127.0.0.1:{}>\nServerName localhost\nSSLEngine on\n\
             SSLCertificateFile both.pem\nSSLCertificateChainFile chain.pem\nHPKPUse site\n</VirtualHost>\n",
            listen(&[site.port]),
            policy("site", &[&site.pin, B]),
            site.port,
        ));
    };
    pki.bundle("chain.pem", &["above.pem"]);
    configure(&site);
    site.httpd.start();
    site.httpd.expect_in_log(&[SERVED]);
    assert!(site.presents(&site.pin));
    pki.bundle("both.pem", &["other.pem", "other.key"]);
    pki.bundle("chain.pem", &["ca.pem"]);
    assert_eq!(codes(&site.signalled(libc::SIGUSR1)), [SERVED]);
    // The client has only the root, so the kept chain was sent.
    assert!(site.presents(&site.pin));
    site.httpd.stop();
}

#[test]
fn a_key_that_cannot_be_kept_is_refused_with_its_reason() {
    let site = Site::new();
    let refused = |code: &str, reason: &str| {
        let outcome = site.httpd.test();
        assert_eq!((outcome.code, outcome.codes()), (Some(1), vec![code]), "{}", outcome.text);
        assert!(outcome.text.contains(reason), "{}", outcome.text);
    };
    const CANNOT: &str = "certificate-cannot-be-kept";
    site.configure(
        "",
        "SSLOpenSSLConfCmd Certificate backup.pem\nSSLOpenSSLConfCmd PrivateKey backup.key",
    );
    refused(CANNOT, "loaded after all others");
    let (plain, key) = (site.httpd.path("plain.key"), site.httpd.path("live.key"));
    fs::copy(&key, &plain).expect("a copy");
    let (plain, key) = (plain.to_str().expect("a path"), key.to_str().expect("a path"));
    openssl(&["ec", "-aes128", "-in", plain, "-out", key, "-passout", "pass:secret"]);
    site.configure("", "");
    refused(CANNOT, "has a pass phrase");
    site.configure("", "HPKPKeepCertificates off");
    site.httpd.test().accepted(&[]);
    fs::copy(plain, key).expect("a copy");
    site.configure("", "HPKPKeepCertificates kept");
    let outcome = site.httpd.test();
    assert!(outcome.text.contains("within a server, only \"off\" is allowed"), "{}", outcome.text);
    site.configure("", "");
    fs::set_permissions(site.httpd.path("kept"), fs::Permissions::from_mode(0o750))
        .expect("a mode");
    refused("kept-certificates-unusable", "chmod 0700");
    // A key in a PKCS#11 token cannot be copied.
    fs::set_permissions(site.httpd.path("kept"), fs::Permissions::from_mode(0o700))
        .expect("a mode");
    site.httpd.configure(&format!(
        "{}HPKPPublishedPins records writer=web-1\nHPKPKeepCertificates kept\n{}\
         <VirtualHost 127.0.0.1:{}>\nServerName localhost\nSSLEngine on\n\
         SSLCertificateFile live.pem\nSSLCertificateKeyFile pkcs11:token=x\nHPKPUse site\n</VirtualHost>\n",
        listen(&[site.port]),
        policy("site", &[&site.pin, B]),
        site.port,
    ));
    let outcome = site.httpd.test();
    assert_eq!(outcome.code, Some(1), "{}", outcome.text);
    assert!(
        outcome.codes().contains(&CANNOT) && outcome.text.contains("pkcs11:..."),
        "{}",
        outcome.text
    );
}
