//! The last good certificates: which are kept, and when nginx presents a kept certificate in place of the
//! configured one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use hpkp_core::published::{Body, Compromised, Event};
use hpkp_tests::client::Curl;
use hpkp_tests::clock::{Clock, DAY};
use hpkp_tests::free_port;
use hpkp_tests::nginx::{Nginx, Reload, codes, load_modules, tls_server, without_leaks};
use hpkp_tests::pki::{RSA, leaf_extensions, openssl};
use hpkp_tests::recorded::held_on_port;
use hpkp_tests::site::{B, prepared};

const SERVED: &str = "kept-certificate-served";
const NOT_USED: &str = "kept-certificate-not-used";

/// A server that keeps its certificates, with further directives in `http` and `server`.
struct Site {
    nginx: Nginx,
    port: u16,
    pin: String,
}

impl Site {
    fn new() -> Self {
        let nginx = prepared();
        let pki = nginx.pki();
        pki.records("records");
        make_directory(&nginx, 0o700);
        pki.leaf("other", "localhost", "ca");
        pki.sign("backup", "/CN=localhost", "ca", &leaf_extensions("localhost"));
        let pin = pki.pin("live.pem");
        let site = Self { nginx, port: free_port(), pin };
        site.configure("", "");
        site
    }

    fn configure(&self, http: &str, server: &str) {
        let Self { port, pin, .. } = self;
        self.nginx.configure(&format!(
            "hpkp_published_pins records writer=web-1; hpkp_keep_certificates kept;\n\
             hpkp_policy site {{ pin {pin}; pin file:backup.csr; pin {B}; max_age 1d; }}\n{http}\n{}",
            tls_server(*port, "localhost", "live", &format!("hpkp site; {server} return 200 x;"))
        ));
    }

    /// A stopped server that has kept its certificate.
    fn kept() -> Self {
        let mut site = Self::new();
        site.nginx.start();
        site.nginx.stop();
        assert_eq!(site.files().len(), 1, "one certificate is kept");
        site
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/", self.port)
    }

    fn presents(&self, pin: &str) -> bool {
        let curl = Curl::new(&self.nginx.path("ca.pem"));
        curl.with(&["--pinnedpubkey", &format!("sha256//{pin}")]).exit_code(&self.url()) == Some(0)
    }

    fn headers(&self) -> usize {
        Curl::new(&self.nginx.path("ca.pem")).get(&self.url()).pins().len()
    }

    /// The files of the kept certificates.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.nginx.path("kept/web-1")).expect("a directory");
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "pem"));
        files
    }

    /// Starts the server; returns the log from then on.
    fn started(&mut self) -> String {
        let before = self.nginx.log().len();
        self.nginx.start();
        self.nginx.log().split_off(before)
    }
}

fn make_directory(nginx: &Nginx, mode: u32) {
    let kept = nginx.path("kept");
    fs::create_dir_all(&kept).expect("a directory");
    fs::set_permissions(&kept, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// The base64 of a private key in a PEM file.
fn key_lines(text: &str) -> Vec<&str> {
    let inside = text.split("PRIVATE KEY-----").nth(1).expect("a key");
    inside.lines().filter(|line| line.len() > 16 && !line.starts_with('-')).collect()
}

/// The config test that a unit runs before a start, with `HPKP_CHECK=warn`. nginx does not free its memory after a
/// successful test, so leak detection is off.
fn lenient_test(nginx: &Nginx) -> Output {
    let mut command = nginx.command();
    command.arg("-t").env("HPKP_CHECK", "warn").envs(without_leaks());
    command.output().expect("nginx")
}

#[test]
fn a_start_presents_the_last_good_certificate() {
    let mut site = Site::kept();
    for file in site.files() {
        let mode = fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{}", file.display());
    }
    site.nginx.install("other", "other");
    site.nginx.test().refused("no-pin-in-chain", Nginx::FIRST_LINE + 3);
    site.nginx.expect_in_log(&[SERVED, "hpkp: [no-pin-in-chain]", "hpkp: [published-pins-unmet]"]);
    let log = site.started();
    assert_eq!(codes(&log), [SERVED]);
    assert!(log.contains("[alert] "), "{log}");
    assert!(log.contains("until it expires at 2"), "{log}");
    assert!(
        log.contains(&format!(
            "hpkp published -d {} compromised sha256/{} --why REASON",
            site.nginx.path("records").display(),
            site.pin
        )),
        "{log}"
    );
    assert!(
        log.contains(&format!(
            "configured: CN=localhost, key sha256/{}",
            site.nginx.pki().pin("other.pem")
        )),
        "{log}"
    );
    assert!(site.presents(&site.pin));
    assert_eq!(site.headers(), 1);

    // A reload is still refused: there is an operator who sees it.
    assert!(matches!(site.nginx.reload(), Reload::Refused(_)));
    assert!(site.presents(&site.pin));
    // Clients accept the backup key: its certificate is presented, and kept in place of the other.
    site.nginx.install("backup", "backup");
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    assert!(site.presents(&site.nginx.pki().pin("backup.csr")));
    let files = site.files();
    let text = fs::read_to_string(&files[0]).expect("a file");
    let key = fs::read_to_string(site.nginx.path("backup.key")).expect("a key");
    assert_eq!(files.len(), 1);
    assert!(key_lines(&key).iter().all(|line| text.contains(line)), "another key is kept");
    // The log and the terminal output contain no part of a key.
    let outcome = site.nginx.log() + &site.nginx.terminal_output();
    for name in ["live.key", "backup.key", "other.key"] {
        let key = fs::read_to_string(site.nginx.path(name)).expect("a key");
        assert!(!key_lines(&key).iter().any(|line| outcome.contains(line)), "{name}");
    }
    assert!(!outcome.contains("PRIVATE KEY"));
    site.nginx.stop();
}

/// Neither a unit's config test before the start nor nginx's own start fails over a file that nginx cannot load.
#[test]
fn a_certificate_that_nginx_cannot_load_is_replaced_at_a_start() {
    let mut site = Site::kept();
    site.nginx.expect_in_log(&[SERVED]);
    fs::write(site.nginx.path("broken.pem"), "no certificate").expect("a file");
    fs::write(site.nginx.path("broken.key"), "no key").expect("a file");
    fs::copy(site.nginx.path("live.key"), site.nginx.path("old.key")).expect("a copy");
    for (certificate, key) in [("broken", "old"), ("other", "broken"), ("other", "old")] {
        site.nginx.install(certificate, key);
        assert_ne!(site.nginx.run(&["-t"]).code, Some(0), "{certificate} {key}");
        let outcome = lenient_test(&site.nginx);
        let text = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert_eq!((outcome.status.code(), codes(&text)), (Some(0), vec![SERVED]), "{text}");
        let log = site.started();
        assert_eq!(codes(&log), [SERVED]);
        assert!(log.contains("cannot be loaded"), "{log}");
        assert!(site.presents(&site.pin));
        assert_eq!(site.headers(), 1);
        site.nginx.stop();
    }
    fs::remove_file(site.nginx.path("live.pem")).expect("removed");
    assert_eq!(codes(&site.started()), [SERVED]);
    site.nginx.stop();
    // With `hpkp_check warn` nginx serves the configured certificate or does not start.
    site.configure("hpkp_check warn;", "");
    assert_ne!(site.nginx.run(&["-g", "daemon off;"]).code, Some(0));
}

/// A directory in place of a file, and a key whose pass phrase is missing: at boot there is no terminal to ask for
/// it.
#[test]
fn a_directory_in_place_of_a_file_and_an_encrypted_key_are_replaced_at_a_start() {
    let mut site = Site::kept();
    site.nginx.expect_in_log(&["hpkp: ["]);
    let directory = site.nginx.path("");
    let path = |name: &str| directory.join(name).to_str().expect("a path").to_owned();
    for (name, saved) in [("live.pem", "saved.pem"), ("live.key", "saved.key")] {
        fs::rename(path(name), path(saved)).expect("moved");
        fs::create_dir(path(name)).expect("a directory");
        assert!(lenient_test(&site.nginx).status.success());
        let before = site.nginx.log().len();
        site.nginx.start();
        assert_eq!(codes(&site.nginx.log()[before..]), [SERVED]);
        assert!(site.presents(&site.pin));
        site.nginx.stop();
        fs::remove_dir(path(name)).expect("removed");
        fs::rename(path(saved), path(name)).expect("moved");
    }
    // A key with a pass phrase: without one, with a wrong one, and with the right one.
    fs::copy(path("other.pem"), path("live.pem")).expect("a copy");
    let to = path("live.key");
    openssl(&["ec", "-aes128", "-in", &path("other.key"), "-out", &to, "-passout", "pass:secret"]);
    fs::write(path("pass"), "secret\n").expect("a file");
    fs::write(path("wrong"), "guess\nagain\n").expect("a file");
    for server in ["", "ssl_password_file wrong;", "ssl_password_file pass;"] {
        site.configure("", server);
        // The presented certificate stays kept, though the configured one cannot be kept.
        for _ in 0..2 {
            let before = site.nginx.log().len();
            site.nginx.start();
            let log = site.nginx.log().split_off(before);
            assert!(codes(&log).contains(&SERVED), "{server}: {log}");
            assert!(site.presents(&site.pin), "{server}");
            site.nginx.stop();
            assert_eq!(site.files().len(), 1, "{server}");
        }
    }
}

#[test]
fn check_keep_presents_the_kept_certificate_at_a_reload_and_check_warn_never() {
    let mut site = Site::kept();
    let other = site.nginx.pki().pin("other.pem");
    site.nginx.start();
    site.nginx.install("other", "other");
    site.configure("hpkp_check keep;", "");
    site.nginx.expect_in_log(&[SERVED, "hpkp: [no-pin-in-chain]", "hpkp: [published-pins-unmet]"]);
    site.nginx.test().accepted(&[SERVED]);
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    assert!(site.presents(&site.pin));
    assert_eq!(site.headers(), 1);
    site.configure("hpkp_check warn;", "");
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    assert!(site.presents(&other));
    site.nginx.stop();
    // The certificate that `hpkp_check warn` let through was not kept.
    site.configure("", "");
    site.nginx.install("live", "live");
    assert_eq!(site.files().len(), 1);
    assert_eq!(codes(&site.started()), [SERVED]);
    assert!(site.presents(&site.pin));
    site.nginx.stop();
}

/// The leaf is the same, but the pinned intermediate is not sent any more.
#[test]
fn a_chain_without_its_pinned_intermediate_is_replaced_at_a_start() {
    let mut site = Site::new();
    let pki = site.nginx.pki();
    pki.intermediate("above", "ca");
    pki.leaf("chained", "localhost", "above");
    site.nginx.install("chained", "chained");
    pki.bundle("live.pem", &["chained.pem", "above.pem"]);
    let above = pki.pin("above.pem");
    site.nginx.configure(&format!(
        "hpkp_published_pins records writer=web-1; hpkp_keep_certificates kept;\n\
         hpkp_policy site {{ pin {above}; pin {B}; max_age 1d; }}\n{}",
        tls_server(site.port, "localhost", "live", "hpkp site; return 200 x;")
    ));
    site.nginx.start();
    site.nginx.stop();
    assert_eq!(site.files().len(), 1);
    site.nginx.expect_in_log(&[SERVED]);
    pki.bundle("live.pem", &["chained.pem"]);
    assert_eq!(codes(&site.started()), [SERVED]);
    // The client has only the root, so the kept intermediate was sent.
    assert!(site.presents(&pki.pin("chained.pem")));
    assert_eq!(site.headers(), 1);
    site.nginx.stop();
}

/// A new certificate of another key type beside the kept one would lock out clients that prefer that type.
#[test]
fn a_new_key_type_is_not_presented_beside_a_kept_certificate() {
    let mut site = Site::new();
    let pki = site.nginx.pki();
    pki.key("rsa", RSA);
    pki.sign("rsa", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    let rsa = pki.pin("rsa.pem");
    let both = "ssl_certificate rsa.pem; ssl_certificate_key rsa.key;";
    let pins = format!("hpkp_policy both {{ pin {}; pin {rsa}; pin {B}; max_age 1d; }}", site.pin);
    let configure = |site: &Site, server: &str| {
        let server = tls_server(
            site.port,
            "localhost",
            "live",
            &format!("hpkp both; {server} return 200 x;"),
        );
        site.nginx.configure(&format!(
            "hpkp_published_pins records writer=web-1; hpkp_keep_certificates kept;\n{pins}\n{server}"
        ));
    };
    configure(&site, both);
    site.nginx.start();
    site.nginx.stop();
    assert_eq!(site.files().len(), 2);
    site.nginx.expect_in_log(&[SERVED]);
    let curl = |site: &Site, kind: &str| {
        Curl::new(&site.nginx.path("ca.pem"))
            .with(&["--tls-max", "1.2", "--ciphers", &format!("ECDHE-{kind}-AES128-GCM-SHA256")])
            .exit_code(&site.url())
    };
    // Both certificates were good; one has been replaced.
    site.nginx.install("other", "other");
    assert_eq!(codes(&site.started()), [SERVED]);
    assert_eq!((curl(&site, "RSA"), curl(&site, "ECDSA")), (Some(0), Some(0)));
    assert!(site.presents(&site.pin) || site.presents(&rsa));
    site.nginx.stop();
    // Only the RSA certificate was good; ECDSA is new.
    fs::copy(site.nginx.path("rsa.pem"), site.nginx.path("live.pem")).expect("a copy");
    fs::copy(site.nginx.path("rsa.key"), site.nginx.path("live.key")).expect("a copy");
    configure(&site, "");
    site.nginx.start();
    site.nginx.stop();
    assert_eq!(site.files().len(), 1);
    site.nginx.install("other", "other");
    assert_eq!(codes(&site.started()), [SERVED]);
    assert_eq!(curl(&site, "RSA"), Some(0));
    assert_ne!(curl(&site, "ECDSA"), Some(0));
    assert!(site.presents(&rsa));
    site.nginx.stop();
}

#[test]
fn a_compromised_or_expired_kept_certificate_is_not_presented() {
    let mut site = Site::kept();
    site.nginx.expect_in_log(&["hpkp: ["]);
    let other = site.nginx.pki().pin("other.pem");
    site.nginx.install("other", "other");
    // The kept key is recorded as compromised.
    let records = site.nginx.path("records");
    let pin = site.pin.parse().expect("a pin");
    let body = Body::Compromised(Compromised { pin, why: "stolen".into() });
    let event = Event::new(1_790_000_000, 1, "w".parse().expect("a name"), body);
    fs::write(records.join("w.jsonl"), format!("{}\n", event.line())).expect("a file");
    let log = site.started();
    assert!(codes(&log).contains(&NOT_USED), "{log}");
    assert!(log.contains("is recorded as compromised (stolen)"), "{log}");
    assert!(site.presents(&other));
    site.nginx.stop();
    fs::remove_file(records.join("w.jsonl")).expect("removed");

    // The kept certificate has expired.
    let mut site = Site::kept();
    site.nginx.expect_in_log(&["hpkp: ["]);
    site.nginx.install("other", "other");
    let clock = Clock::ahead(&site.nginx.path(""), 25 * DAY);
    clock.environment().iter().for_each(|(name, value)| site.nginx.set_environment(name, value));
    let outcome = site.nginx.run(&["-t"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let outcome = lenient_test(&site.nginx);
    let text = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(text.contains("has expired") && text.contains(NOT_USED), "{text}");
}

/// Clients of such a certificate wait for a staple (RFC 7633), and none is kept.
#[test]
fn a_certificate_that_demands_a_staple_is_not_kept() {
    let mut site = Site::new();
    let extensions = format!("{}tlsfeature=status_request\n", leaf_extensions("localhost"));
    site.nginx.pki().sign("live", "/CN=localhost", "ca", &extensions);
    site.nginx.expect_in_log(&["hpkp: ["]);
    let log = site.started();
    assert_eq!(codes(&log), ["certificate-not-kept"], "{log}");
    assert!(log.contains("demands a stapled OCSP response"), "{log}");
    site.nginx.stop();
    site.nginx.install("other", "other");
    let log = site.started();
    assert!(codes(&log).contains(&NOT_USED), "{log}");
    assert!(site.presents(&site.nginx.pki().pin("other.pem")));
    assert_eq!(site.headers(), 0);
    site.nginx.stop();
}

#[test]
fn a_directory_that_others_may_use_is_refused() {
    let mut site = Site::kept();
    for mode in [0o755, 0o710, 0o701, 0o777, 0o740] {
        make_directory(&site.nginx, mode);
        let outcome = site.nginx.test();
        assert_eq!(
            (outcome.code, outcome.codes()),
            (Some(1), vec!["kept-certificates-unusable"]),
            "{mode:o}"
        );
        assert!(outcome.text.contains("to fix: chmod 0700 "), "{}", outcome.text);
        paste(&outcome.text, "chmod 0700 ");
        site.nginx.test().accepted(&[]);
    }
    make_directory(&site.nginx, 0o700);
    site.nginx.test().accepted(&[]);
    // Nor may others use the files.
    let file = site.files().remove(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
    site.nginx.install("other", "other");
    site.nginx.expect_in_log(&["hpkp: ["]);
    let log = site.started();
    assert!(log.contains("others than root may use the file"), "{log}");
    assert!(codes(&log).contains(&NOT_USED), "{log}");
    site.nginx.stop();
    fs::rename(site.nginx.path("kept"), site.nginx.path("elsewhere")).expect("renamed");
    let outcome = site.nginx.test();
    assert!(outcome.codes().contains(&"kept-certificates-unusable"), "{}", outcome.text);
    assert!(outcome.text.contains("make it: install -d -m 0700 "), "{}", outcome.text);
    paste(&outcome.text, "install -d -m 0700 ");
    let outcome = site.nginx.test();
    assert!(!outcome.codes().contains(&"kept-certificates-unusable"), "{}", outcome.text);
}

/// Runs the command that begins with `words` in a server's output, as it is printed.
fn paste(outcome: &str, words: &str) {
    let line = outcome.lines().find(|line| line.contains(words)).expect("a command");
    let command = &line[line.find(words).expect("a command")..];
    hpkp_tests::succeed(Command::new("sh").args(["-c", command]));
}

/// The command that the finding prints repairs the directory.
#[test]
fn a_list_that_is_damaged() {
    let mut site = Site::kept();
    let index = site.nginx.path("kept/web-1/index");
    fs::write(&index, "hpkp-kept 1\nx\n").expect("a file");
    let outcome = site.nginx.test();
    assert_eq!((outcome.code, outcome.codes()), (Some(1), vec!["kept-certificates-unusable"]));
    let (_, command) =
        outcome.text.split_once("the next reload writes it anew: ").expect("a command");
    let command = command.lines().next().expect("a line");
    let done = std::process::Command::new("sh").args(["-c", command]).status().expect("sh");
    assert!(done.success() && !index.exists(), "{command}");
    site.nginx.test().accepted(&[]);
    site.nginx.start();
    assert_eq!(site.files().len(), 1);
    assert!(index.exists());
    site.nginx.stop();
}

#[test]
fn an_encrypted_key_is_refused_unless_keeping_is_off() {
    let site = Site::new();
    let key = site.nginx.path("live.key");
    let plain = site.nginx.path("plain.key");
    fs::copy(&key, &plain).expect("a copy");
    let (from, to) = (plain.to_str().expect("a path"), key.to_str().expect("a path"));
    fs::write(site.nginx.path("pass"), "secret").expect("a file");
    for form in [&["pkcs8", "-topk8", "-v2", "aes-256-cbc"][..], &["ec", "-aes128"][..]] {
        openssl(&[form, &["-in", from, "-out", to, "-passout", "pass:secret"]].concat());
        site.configure("", "ssl_password_file pass;");
        let outcome = site.nginx.test();
        assert_eq!(
            (outcome.code, outcome.codes()),
            (Some(1), vec!["certificate-cannot-be-kept"]),
            "{}",
            outcome.text
        );
        site.configure("", "ssl_password_file pass; hpkp_keep_certificates off;");
        site.nginx.test().accepted(&[]);
    }
    site.configure("", "hpkp_keep_certificates elsewhere;");
    let outcome = site.nginx.test();
    assert!(outcome.text.contains("within a server, only \"off\" is allowed"), "{}", outcome.text);
    // Without records nothing is kept.
    site.nginx.configure(&format!(
        "hpkp_keep_certificates kept;\nhpkp_policy site {{ pin {}; pin {B}; max_age 1d; }}\n{}",
        site.pin,
        tls_server(site.port, "localhost", "plain", "hpkp site; return 200 x;"),
    ));
    fs::copy(site.nginx.path("live.pem"), site.nginx.path("plain.pem")).expect("a copy");
    let outcome = site.nginx.test();
    assert_eq!(
        (outcome.code, outcome.codes()),
        (Some(1), vec!["kept-certificates-unusable"]),
        "{}",
        outcome.text
    );
}

/// Whenever the machine stops, a whole kept certificate is left to present.
#[test]
fn a_kill_while_keeping_leaves_a_certificate_to_present() {
    let mut site = Site::kept();
    for name in ["live", "backup"] {
        for kind in ["pem", "key"] {
            let copy = site.nginx.path(&format!("first-{name}.{kind}"));
            fs::copy(site.nginx.path(&format!("{name}.{kind}")), copy).expect("a copy");
        }
    }
    site.nginx.expect_in_log(&["hpkp: ["]);
    let good = [site.pin.clone(), site.nginx.pki().pin("backup.csr")];
    for round in 0..20_u64 {
        let name = if round % 2 == 0 { "first-backup" } else { "first-live" };
        site.nginx.start();
        site.nginx.install(name, name);
        site.nginx.signal(libc::SIGHUP);
        thread::sleep(Duration::from_millis(round * 4));
        site.nginx.kill_all();
        let _ = fs::remove_file(site.nginx.path("nginx.pid"));
        site.nginx.install("other", "other");
        let log = site.started();
        assert_eq!(codes(&log), [SERVED], "{log}");
        assert!(good.iter().any(|pin| site.presents(pin)), "round {round}");
        site.nginx.stop();
        // No unfinished file is left.
        assert_eq!(site.files().len(), 1, "round {round}");
    }
}

#[test]
fn a_full_disk_keeps_the_earlier_certificate() {
    let mut site = Site::kept();
    site.nginx.expect_in_log(&["hpkp: ["]);
    // The chain makes its file the largest that the server writes, so the limit concerns it alone.
    let pki = site.nginx.pki();
    fs::copy(site.nginx.path("live.pem"), site.nginx.path("old.pem")).expect("a copy");
    fs::copy(site.nginx.path("live.key"), site.nginx.path("old.key")).expect("a copy");
    pki.large_bundle("large.pem", "backup.pem");
    fs::copy(site.nginx.path("backup.key"), site.nginx.path("large.key")).expect("a copy");
    site.nginx.start();
    let before = site.files();
    let largest = fs::metadata(site.nginx.path("records/web-1.jsonl")).expect("a file").len();
    let limit = largest.max(site.nginx.log().len() as u64) + 24_000;
    assert!(fs::metadata(site.nginx.path("large.pem")).expect("a file").len() > limit);
    let limits = libc::rlimit { rlim_cur: limit, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: prlimit only reads `limits`, and accepts null for the former ones; the server is a child of this test.
    let done = unsafe {
        libc::prlimit(site.nginx.pid(), libc::RLIMIT_FSIZE, &raw const limits, std::ptr::null_mut())
    };
    assert_eq!(done, 0);
    site.nginx.install("large", "large");
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    assert!(site.presents(&pki.pin("backup.csr")), "the server goes on");
    assert!(codes(&site.nginx.log()).contains(&"certificate-not-kept"), "{}", site.nginx.log());
    assert_eq!(site.files(), before, "what was kept is there, and nothing else");
    site.nginx.stop();
    site.nginx.install("other", "other");
    assert_eq!(codes(&site.started()), [SERVED]);
    assert!(site.presents(&site.pin));
    site.nginx.stop();
}

/// Clients hold pins, without any header, for a server in a block behind `http`.
#[test]
fn a_server_outside_http() {
    let port = free_port();
    let tls = "ssl_certificate live.pem; ssl_certificate_key live.key;";
    for block in [
        format!("stream {{ server {{ listen 127.0.0.1:{port} ssl; {tls} return x; }} }}"),
        format!(
            "mail {{ auth_http 127.0.0.1:1/; server_name localhost; \
             server {{ listen 127.0.0.1:{port} ssl; protocol imap; {tls} }} }}"
        ),
    ] {
        outside_http(port, &block);
    }
}

fn outside_http(port: u16, block: &str) {
    let modules = load_modules(&["stream", "mail"]);
    let mut site = Site::new();
    held_on_port(&site.nginx.path("records/apps.jsonl"), "localhost", port, &site.pin);
    site.nginx.configure_around(
        &format!("{modules} worker_processes 1;"),
        "hpkp_published_pins records writer=web-1; hpkp_keep_certificates kept;",
        block,
    );
    site.port = port;
    site.nginx.start();
    site.nginx.stop();
    assert_eq!(site.files().len(), 1);
    site.nginx.install("other", "other");
    site.nginx.expect_in_log(&[SERVED]);
    assert_eq!(codes(&site.started()), [SERVED]);
    let port = port.to_string();
    let presented = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl");
    let certificate = String::from_utf8_lossy(&presented.stdout).into_owned();
    site.nginx.pki().write("presented.pem", certificate);
    assert_eq!(site.nginx.pki().pin("presented.pem"), site.pin);
    site.nginx.stop();
}
