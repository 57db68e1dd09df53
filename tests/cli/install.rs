//! `hpkp install`: a certificate and its key are replaced together, or the old pair stays.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hpkp_tests::clock::{Clock, DAY};
use hpkp_tests::output;
use hpkp_tests::pki::{P256, Pki, RSA, leaf_extensions, openssl};
use serde_json::Value;

use crate::freshness::{heard, now, presents};
use crate::records::{Records, pin};
use crate::{Outcome, hpkp, outcome, run};

const HOST: &str = "www.example.com";

/// A CA, a server's directory `live` with a pair, a client's directory `new` with another.
struct Place {
    records: Records,
    pki: Pki,
}

impl Place {
    fn new() -> Self {
        let records = Records::new();
        let pki = Pki::new(records.0.path());
        pki.ca("root");
        pki.intermediate("ca", "root");
        let place = Self { records, pki };
        place.issue("old", HOST, P256);
        place.issue("next", HOST, P256);
        place.lay("live", "old");
        place.pki.write("live/dh.pem", "other");
        place.lay("new", "next");
        place
    }

    fn path(&self, file: &str) -> PathBuf {
        self.records.0.path().join(file)
    }

    /// Makes `NAME.chain` and `NAME.key`.
    fn issue(&self, name: &str, host: &str, kind: &[&str]) {
        self.pki.key(name, kind);
        self.pki.sign(name, &format!("/CN={host}"), "ca", &leaf_extensions(host));
        self.pki.bundle(&format!("{name}.chain"), &[&format!("{name}.pem"), "ca.pem"]);
    }

    /// Puts a pair into a directory as certbot names its files.
    fn lay(&self, directory: &str, name: &str) {
        fs::create_dir_all(self.path(directory)).expect("a directory");
        self.copy(&format!("{name}.chain"), &format!("{directory}/fullchain.pem"));
        self.copy(&format!("{name}.key"), &format!("{directory}/privkey.pem"));
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).expect("a copy");
    }

    fn arguments<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let usual =
            ["install", "--to", "live", "-d", "records", "--trusted-certificate", "root.pem"];
        [&usual, more].concat()
    }

    /// Installs `new`. Unless `more` has other commands, the test appends `t` to the file `ran`, and the reload `r`.
    fn install(&self, more: &[&str]) -> Outcome {
        let mut all = self.arguments(more);
        let has = |name| more.iter().any(|one: &&str| one.split('=').next() == Some(name));
        for (name, arguments) in [
            ("--from", ["--from", "new"]),
            ("--test", ["--test", "echo t >> ran"]),
            ("--reload", ["--reload", "echo r >> ran"]),
        ] {
            if !has(name) {
                all.extend(arguments);
            }
        }
        let outcome = run(self.records.0.path(), &all);
        for key in ["old.key", "next.key"] {
            let key = String::from_utf8(self.pki.read(key)).expect("PEM");
            let secret = key.lines().nth(1).expect("base64");
            assert!(!outcome.out.contains(secret) && !outcome.err.contains(secret), "{outcome:?}");
        }
        outcome
    }

    /// The letters of the commands that ran since the last call.
    fn ran(&self) -> String {
        let ran = fs::read_to_string(self.path("ran")).unwrap_or_default();
        let _ = fs::remove_file(self.path("ran"));
        ran.replace('\n', "")
    }

    /// The name of the pair in a directory; fails if certificate and key are of different pairs.
    #[track_caller]
    fn pair_in(&self, directory: &str, names: [&str; 2]) -> String {
        let read = |file: &str| fs::read(self.path(directory).join(file)).expect(file);
        let [certificate, key] = names.map(read);
        let is_it = |name: &&str| {
            certificate == self.pki.read(&format!("{name}.chain"))
                && key == self.pki.read(&format!("{name}.key"))
        };
        let name = ["old", "next"].into_iter().find(is_it);
        name.expect("the old pair or the new one, whole").to_owned()
    }

    #[track_caller]
    fn live(&self) -> String {
        self.pair_in("live", ["fullchain.pem", "privkey.pem"])
    }

    /// The entries of the state directory beside the server's directory, without the lock.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path(".live.hpkp")).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().expect("UTF-8"));
        names.filter(|name| name != "lock").collect()
    }

    fn pin_of_old(&self) {
        let old = pin(&self.pki.pin("old.pem"));
        self.records.recorded(&["add", HOST, "--origin", "app 4.2", "--pin", &old]);
    }
}

fn codes<'a>(json: &'a Value, list: &str) -> Vec<&'a str> {
    let list = json[list].as_array().expect("a list");
    list.iter().map(|one| one["code"].as_str().expect("a code")).collect()
}

#[test]
fn a_pair_is_installed_as_a_whole_and_once() {
    let place = Place::new();
    fs::set_permissions(place.path("live/privkey.pem"), fs::Permissions::from_mode(0o640))
        .expect("a mode");
    fs::set_permissions(place.path("live"), fs::Permissions::from_mode(0o750)).expect("a mode");
    let dry = place.install(&["--dry-run", "--json"]);
    assert_eq!((dry.code, dry.json()["outcome"].as_str()), (Some(0), Some("would-install")));
    assert_eq!((place.live().as_str(), place.ran().as_str()), ("old", ""));
    assert!(!place.path(".live.hpkp").exists());

    let outcome = place.install(&["--json"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let json = outcome.json();
    assert_eq!(json["outcome"], "installed");
    assert_eq!(json["pairs"][0]["files"], serde_json::json!(["fullchain.pem", "privkey.pem"]));
    // No server listens for the certificate's name.
    assert_eq!(codes(&json, "warnings"), ["not-looked"]);
    assert_eq!((place.live().as_str(), place.ran().as_str()), ("next", "tr"));
    assert_eq!(fs::read(place.path("live/dh.pem")).expect("kept"), b"other");
    let mode = |file| fs::metadata(place.path(file)).expect("a file").mode() & 0o777;
    assert_eq!((mode("live"), mode("live/privkey.pem")), (0o750, 0o640));
    assert_eq!(place.left(), [""; 0]);

    let again = place.install(&["--json"]);
    assert_eq!((again.code, again.json()["outcome"].as_str()), (Some(0), Some("unchanged")));
    assert_eq!(place.ran(), "");
}

#[test]
fn a_lockout_is_refused_before_anything_is_changed() {
    let place = Place::new();
    place.pin_of_old();
    let before = fs::metadata(place.path("live")).expect("a directory").ino();
    let outcome = place.install(&["--json"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let json = outcome.json();
    assert_eq!(
        (json["outcome"].as_str(), codes(&json, "problems")),
        (Some("refused"), vec!["lockout"])
    );
    assert_eq!(json["hosts"][HOST]["answer"], "no");
    assert_eq!((place.live().as_str(), place.ran().as_str()), ("old", ""));
    assert_eq!(fs::metadata(place.path("live")).expect("a directory").ino(), before);
    assert!(
        outcome.err.contains("hpkp: no: this certificate locks out clients of "),
        "{outcome:?}"
    );
    // The pinned key is in the server's directory, so the printed command searches there.
    let live = place.path("live").canonicalize().expect("a directory");
    let find = format!("hpkp find {} {}\n", pin(&place.pki.pin("old.pem")), live.display());
    assert!(outcome.err.contains(&find), "{outcome:?}");
    // A backup key passes, because clients hold its pin.
    place.records.recorded(&["add", HOST, "--header", &header(&place), "--until", "now"]);
    let ids = place.records.json(&["list"]);
    let app = ids["published"].as_array().expect("records");
    let app = app.iter().find(|one| one["origin"] == "app 4.2").expect("the app");
    place.records.run(&["end", app["id"].as_str().expect("an id"), "--why", "withdrawn"]).fine();
    let outcome = place.install(&[]);
    assert_eq!((outcome.code, place.live().as_str()), (Some(0), "next"), "{outcome:?}");
}

fn header(place: &Place) -> String {
    let [old, next] = ["old.pem", "next.pem"].map(|file| place.pki.pin(file));
    format!("pin-sha256=\"{old}\"; pin-sha256=\"{next}\"; max-age=60")
}

#[test]
fn pins_below_a_wildcard_are_compared() {
    let place = Place::new();
    for name in ["old", "next"] {
        place.issue(name, "*.example.com", P256);
    }
    place.lay("live", "old");
    place.lay("new", "next");
    place.pin_of_old();
    let outcome = place.install(&["--json"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.json()["hosts"][HOST]["answer"], "no");
    // Pins for all hosts below the domain are compared too.
    let id = place.records.json(&["list"])["published"][0]["id"].clone();
    place.records.run(&["end", id.as_str().expect("an id"), "--why", "x"]).fine();
    let old = pin(&place.pki.pin("old.pem"));
    place.records.recorded(&["add", "*.example.com", "--origin", "app 5", "--pin", &old]);
    let outcome = place.install(&["--json"]);
    assert_eq!((outcome.code, place.live().as_str()), (Some(1), "old"), "{outcome:?}");
    assert_eq!(outcome.json()["hosts"]["*.example.com"]["answer"], "no");
}

/// Another machine with the host may have published pins since it was last heard from.
#[test]
fn a_new_key_waits_for_a_silent_machine() {
    let place = Place::new();
    presents(&place.pki, HOST);
    heard(&place.pki, now() - 7_000);
    let outcome = place.install(&["--max-staleness", "1h", "--json"]);
    assert_eq!((outcome.code, codes(&outcome.json(), "problems")), (Some(3), vec!["undetermined"]));
    assert!(
        outcome.err.contains("[peer-silent]") && outcome.err.contains("hpkp sync"),
        "{outcome:?}"
    );
    assert_eq!((place.live().as_str(), place.ran().as_str(), place.left()), ("old", "", vec![]));
    // A new certificate with the present key changes nothing for clients.
    place.copy("old.key", "again.key");
    place.pki.sign("again", &format!("/CN={HOST}"), "ca", &leaf_extensions(HOST));
    place.pki.bundle("again.chain", &["again.pem", "ca.pem"]);
    place.lay("new", "again");
    let outcome = place.install(&["--max-staleness", "1h", "--json"]);
    assert_eq!((outcome.code, outcome.json()["outcome"].as_str()), (Some(0), Some("installed")));
    // A stolen key can be replaced by the backup key that clients hold.
    let [old, next] = ["old.pem", "next.pem"].map(|file| place.pki.pin(file));
    let header = format!("pin-sha256=\"{old}\"; pin-sha256=\"{next}\"; max-age=86400");
    place.lay("live", "old");
    place.lay("new", "next");
    place.records.recorded(&["add", HOST, "--header", &header]);
    let outcome = place.install(&["--max-staleness", "1h", "--json"]);
    assert_eq!((outcome.code, place.live().as_str()), (Some(0), "next"), "{outcome:?}");
    assert!(outcome.err.contains("[peer-silent]"), "{outcome:?}");
}

/// The peer was heard from within the limit, or there is no limit.
#[test]
fn a_new_key_passes_while_peers_are_heard_from() {
    for more in [&["--max-staleness", "2h"][..], &[]] {
        let place = Place::new();
        presents(&place.pki, HOST);
        heard(&place.pki, now() - 7_000);
        let outcome = place.install(more);
        assert_eq!((outcome.code, place.live().as_str()), (Some(0), "next"), "{outcome:?}");
        assert!(!outcome.err.contains("peer-silent"), "{outcome:?}");
    }
    let place = Place::new();
    for wrong in [&["--max-staleness", "0"][..], &["--max-staleness", "1h", "--no-records"]] {
        let arguments =
            ["install", "--to", "live", "--from", "new", "--test", "true", "--reload", "true"];
        let outcome = run(place.records.0.path(), &[&arguments, wrong].concat());
        assert_eq!((outcome.code, place.live().as_str()), (Some(2), "old"), "{outcome:?}");
    }
}

#[test]
fn unusable_certificates_and_keys_are_refused() {
    let place = Place::new();
    let refused = |code: &str| {
        let outcome = place.install(&["--json"]);
        assert_eq!(outcome.code, Some(1), "{code}: {outcome:?}");
        assert_eq!(codes(&outcome.json(), "problems")[0], code);
        assert_eq!((place.live().as_str(), place.ran().as_str()), ("old", ""));
        place.lay("new", "next");
    };
    place.copy("old.key", "new/privkey.pem");
    refused("key-does-not-fit");
    place.pki.bundle("new/fullchain.pem", &["ca.pem", "next.pem"]);
    refused("key-does-not-fit");
    place.pki.bundle("new/fullchain.pem", &["next.pem", "root.pem", "ca.pem"]);
    refused("chain-order");
    place.pki.bundle("new/fullchain.pem", &["next.pem", "old.pem"]);
    refused("chain-order");
    place
        .pki
        .write("new/privkey.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    refused("key-unusable");
    fs::remove_file(place.path("new/privkey.pem")).expect("removed");
    refused("source-missing");
    let cut = String::from_utf8(place.pki.read("next.chain")).expect("PEM");
    place.pki.write("new/fullchain.pem", &cut[..cut.len() / 3]);
    refused("certificate-damaged");
    place.issue("other", "mail.example.com", P256);
    place.lay("new", "other");
    refused("name-not-covered");

    // A key that needs a passphrase cannot be compared.
    let encrypted = openssl(&[
        "pkcs8",
        "-topk8",
        "-passout",
        "pass:secret",
        "-in",
        place.path("next.key").to_str().expect("UTF-8"),
    ]);
    place.pki.write("new/privkey.pem", encrypted);
    let outcome = place.install(&["--json"]);
    assert_eq!(
        (outcome.code, codes(&outcome.json(), "problems")),
        (Some(3), vec!["key-encrypted"])
    );
    assert_eq!(place.live(), "old");
}

#[test]
fn an_expired_or_future_certificate_is_refused() {
    let place = Place::new();
    for (days, code) in [(25, "certificate-expired"), (-2, "certificate-not-yet-valid")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp"));
        command.envs(Clock::ahead(place.records.0.path(), days * DAY).environment());
        command.args(
            place.arguments(&["--from", "new", "--test", "true", "--reload", "true", "--json"]),
        );
        let outcome = outcome(output(command.current_dir(place.records.0.path())));
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(codes(&outcome.json(), "problems").contains(&code), "{outcome:?}");
        assert_eq!(place.live(), "old");
    }
}

#[test]
fn the_names_of_the_server_must_be_covered() {
    let place = Place::new();
    place.issue("other", "mail.example.com", P256);
    place.lay("new", "other");
    let outcome = place.install(&["--host", "mail.example.com"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let outcome = place.install(&["--host", HOST, "--json"]);
    assert_eq!(
        (outcome.code, codes(&outcome.json(), "problems")),
        (Some(1), vec!["name-not-covered"])
    );
}

#[test]
fn a_failed_test_or_reload_puts_the_old_pair_back() {
    let place = Place::new();
    let outcome = place.install(&["--test", "echo broken at line 7; exit 9", "--json"]);
    let json = outcome.json();
    assert_eq!(
        (outcome.code, json["outcome"].as_str()),
        (Some(3), Some("rolled-back")),
        "{outcome:?}"
    );
    assert_eq!(codes(&json, "problems"), ["test-failed"]);
    assert_eq!(
        (&json["steps"][0]["exit"], &json["steps"][0]["output"]),
        (&9.into(), &"broken at line 7".into())
    );
    assert!(outcome.err.contains("hpkp: test: broken at line 7\n"), "{outcome:?}");
    // The server has not loaded the new pair, so the rollback needs no reload.
    assert_eq!((place.live().as_str(), place.ran().as_str()), ("old", ""));

    // The test and the first reload use the new files; after the failed reload, a second one loads the old files.
    let reload =
        "cmp -s live/fullchain.pem new/fullchain.pem && { echo n >> ran; exit 1; }; echo o >> ran";
    let outcome = place.install(&["--reload", reload, "--json"]);
    let json = outcome.json();
    assert_eq!(
        (outcome.code, json["outcome"].as_str()),
        (Some(3), Some("rolled-back")),
        "{outcome:?}"
    );
    assert_eq!((place.live().as_str(), place.ran().as_str()), ("old", "tno"));

    let outcome = place.install(&["--reload", "false", "--json"]);
    assert_eq!(
        (outcome.code, outcome.json()["outcome"].as_str()),
        (Some(3), Some("failed")),
        "{outcome:?}"
    );
    assert_eq!((place.live(), place.left()), ("old".to_owned(), vec![]));

    // A command that prints a key, and one that hangs.
    let outcome = place.install(&["--test", "cat new/privkey.pem live/privkey.pem; exit 1"]);
    assert!(outcome.code == Some(3) && outcome.err.contains("not shown"), "{outcome:?}");
    let begin = Instant::now();
    let outcome = place.install(&["--test", "sleep 600", "--timeout", "1"]);
    outcome.failed(3, "did not end within 1 second");
    assert!(begin.elapsed() < Duration::from_secs(600));
    assert_eq!(place.live(), "old");
}

#[test]
fn unreadable_records_stop_the_install() {
    let place = Place::new();
    fs::remove_dir_all(place.path("records")).expect("removed");
    let outcome = place.install(&["--json"]);
    assert_eq!(
        (outcome.code, codes(&outcome.json(), "problems")),
        (Some(3), vec!["records-unreadable"])
    );
    assert_eq!(place.live(), "old");
    let arguments = [
        "install",
        "--from",
        "new",
        "--to",
        "live",
        "--test",
        "true",
        "--reload",
        "true",
        "--no-records",
        "--json",
    ];
    let outcome = run(place.records.0.path(), &arguments);
    assert_eq!((outcome.code, place.live().as_str()), (Some(0), "next"), "{outcome:?}");
    assert!(codes(&outcome.json(), "warnings").contains(&"records-not-read"));
}

#[test]
fn wrong_usage_ends_with_2() {
    let place = Place::new();
    fs::create_dir(place.path("live/sub")).expect("a directory");
    symlink("next.pem", place.path("file")).expect("a link");
    for to in ["/", "missing/live", "file", "next.pem", "new", "live"] {
        let all = [
            "install", "--from", "new", "--test", "true", "--reload", "true", "-d", "records",
            "--to", to,
        ];
        let outcome = run(place.records.0.path(), &all);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""), "{to}: {outcome:?}");
    }
    fs::remove_dir(place.path("live/sub")).expect("removed");
    for arguments in [
        &["--cert-name", "fullchain.pem"][..],
        &["--cert-name", "fullchain.pem=../x", "--key-name", "privkey.pem"],
        &["--served", "host:port:1"],
    ] {
        let outcome = place.install(arguments);
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (Some(2), ""),
            "{arguments:?}: {outcome:?}"
        );
    }
    assert_eq!(run(place.records.0.path(), &["install", "--to", "live"]).code, Some(2));
}

#[test]
fn a_link_gets_a_new_directory_as_its_target() {
    let place = Place::new();
    fs::rename(place.path("live"), place.path("first")).expect("renamed");
    symlink("first", place.path("live")).expect("a link");
    let outcome =
        place.install(&["--test", "test -L live && cmp live/fullchain.pem new/fullchain.pem"]);
    assert_eq!((outcome.code, place.live().as_str()), (Some(0), "next"), "{outcome:?}");
    // The operator's own directory stays.
    assert_eq!(place.pair_in("first", ["fullchain.pem", "privkey.pem"]), "old");
    assert_eq!(place.left(), ["generation-1"]);
    place.lay("new", "old");
    assert_eq!(place.install(&["--test", "false"]).code, Some(3));
    assert_eq!((place.live(), place.left()), ("next".to_owned(), vec!["generation-1".to_owned()]));
    assert_eq!(place.install(&[]).code, Some(0));
    assert_eq!((place.live(), place.left().len()), ("old".to_owned(), 1));
}

#[test]
fn a_first_install_makes_the_directory() {
    let place = Place::new();
    fs::remove_dir_all(place.path("live")).expect("removed");
    assert_eq!(place.install(&["--test", "false"]).code, Some(3));
    assert!(!place.path("live").exists());
    let outcome = place.install(&[]);
    assert_eq!((outcome.code, place.live().as_str()), (Some(0), "next"), "{outcome:?}");
    let mode = |file| fs::metadata(place.path(file)).expect("a file").mode() & 0o777;
    assert_eq!((mode("live/privkey.pem"), mode("live/fullchain.pem")), (0o600, 0o644));
}

/// Helpers for ACME clients whose files have other names than those of the server.
impl Place {
    /// Makes a server's directory with these file names.
    fn server(&self, chain: &str, key: &str) {
        let _ = fs::remove_dir_all(self.path("live"));
        fs::create_dir(self.path("live")).expect("a directory");
        self.copy("old.chain", &format!("live/{chain}"));
        self.copy("old.key", &format!("live/{key}"));
    }

    fn client(&self, files: &[(&str, &str)]) {
        let _ = fs::remove_dir_all(self.path("client"));
        for (from, to) in files {
            let to = self.path("client").join(to);
            fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
            fs::copy(self.path(from), to).expect("a copy");
        }
    }

    #[track_caller]
    fn installed(&self, more: &[&str]) {
        self.server("site.crt", "site.key");
        let outcome = self.install(more);
        assert_eq!(outcome.code, Some(0), "{more:?}: {outcome:?}");
        assert_eq!(self.pair_in("live", ["site.crt", "site.key"]), "next", "{more:?}");
        assert_eq!(fs::read_dir(self.path("live")).expect("a directory").count(), 2, "{more:?}");
    }
}

#[test]
fn files_of_certbot_are_found() {
    let place = Place::new();
    place.client(&[
        ("next.pem", "a/cert1.pem"),
        ("ca.pem", "a/chain1.pem"),
        ("next.chain", "a/fullchain1.pem"),
        ("next.key", "a/privkey1.pem"),
    ]);
    fs::create_dir(place.path("client/live")).expect("a directory");
    for name in ["cert", "chain", "fullchain", "privkey"] {
        symlink(format!("../a/{name}1.pem"), place.path(&format!("client/live/{name}.pem")))
            .expect("a link");
    }
    place.pki.write("client/live/README", "x");
    place.installed(&["--from", "client/live"]);
}

#[test]
fn files_of_lego_are_found() {
    let place = Place::new();
    place.issue("stranger", "mail.example.com", P256);
    // With other certificates beside it.
    place.client(&[
        ("next.chain", "www.example.com.crt"),
        ("next.key", "www.example.com.key"),
        ("ca.pem", "www.example.com.issuer.crt"),
        ("stranger.chain", "mail.example.com.crt"),
        ("stranger.key", "mail.example.com.key"),
        ("ca.pem", "mail.example.com.issuer.crt"),
    ]);
    place.installed(&["--from", "client", "--name", HOST]);
    assert_eq!(place.install(&["--from", "client"]).code, Some(2));
    // Without a bundle.
    place.client(&[
        ("next.pem", "www.example.com.crt"),
        ("next.key", "www.example.com.key"),
        ("ca.pem", "www.example.com.issuer.crt"),
    ]);
    place.installed(&["--from", "client"]);
}

#[test]
fn files_of_other_clients_are_found() {
    let place = Place::new();
    place.issue("stranger", "mail.example.com", P256);
    // acme.sh, with the key of the next renewal.
    place.client(&[
        ("next.pem", "www.example.com.cer"),
        ("ca.pem", "ca.cer"),
        ("next.chain", "fullchain.cer"),
        ("next.key", "www.example.com.key"),
        ("old.key", "www.example.com.key.next"),
    ]);
    place.installed(&["--from", "client"]);
    // dehydrated, whose directory also has an older pair.
    place.client(&[
        ("old.chain", "fullchain-1.pem"),
        ("old.key", "privkey-1.pem"),
        ("next.chain", "fullchain.pem"),
        ("next.key", "privkey.pem"),
        ("old.key", "privkey.roll.pem"),
    ]);
    place.installed(&["--from", "client"]);
    // uacme.
    place.client(&[
        ("next.chain", "www.example.com/cert.pem"),
        ("next.key", "private/www.example.com/key.pem"),
    ]);
    place.installed(&["--from", "client/www.example.com"]);
    // By name.
    place.client(&[
        ("next.chain", "x.crt"),
        ("next.key", "x.key"),
        ("stranger.chain", "y.crt"),
        ("stranger.key", "y.key"),
    ]);
    place.installed(&[
        "--from",
        "client",
        "--cert-name",
        "x.crt=site.crt",
        "--key-name",
        "x.key=site.key",
    ]);
}

#[test]
fn chain_files_and_combined_files_are_updated_too() {
    let place = Place::new();
    fs::remove_dir_all(place.path("live")).expect("removed");
    fs::create_dir(place.path("live")).expect("a directory");
    // A new intermediate.
    place.pki.intermediate("ca2", "root");
    place.pki.sign("next", &format!("/CN={HOST}"), "ca2", &leaf_extensions(HOST));
    place.pki.bundle("new/fullchain.pem", &["next.pem", "ca2.pem"]);
    for (from, to) in [("old.pem", "cert.crt"), ("ca.pem", "chain.crt"), ("old.key", "the.key")] {
        place.copy(from, &format!("live/{to}"));
    }
    place.pki.bundle("live/all.pem", &["old.chain", "old.key"]);
    let outcome = place.install(&[]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let read = |file: &str| String::from_utf8(place.pki.read(file)).expect("PEM");
    assert_eq!(read("live/cert.crt"), read("next.pem"));
    assert_eq!(read("live/chain.crt"), read("ca2.pem"));
    assert_eq!(read("live/the.key"), read("next.key"));
    assert_eq!(read("live/all.pem"), read("new/fullchain.pem") + &read("next.key"));
}

#[test]
fn rsa_and_ecdsa_pairs_are_installed_side_by_side() {
    let place = Place::new();
    place.issue("rsa-old", HOST, RSA);
    place.issue("rsa-next", HOST, RSA);
    place.copy("rsa-old.chain", "live/rsa.crt");
    place.copy("rsa-old.key", "live/rsa.key");
    place.lay("new-rsa", "rsa-next");
    // One of them alone.
    let outcome = place.install(&["--from", "new-rsa"]);
    assert_eq!((outcome.code, place.live().as_str()), (Some(0), "old"), "{outcome:?}");
    assert_eq!(place.pki.read("live/rsa.key"), place.pki.read("rsa-next.key"));
    // Both; their order does not matter.
    let outcome = place.install(&["--from", "new-rsa", "--from", "new"]);
    assert_eq!((outcome.code, place.live().as_str()), (Some(0), "next"), "{outcome:?}");
    assert_eq!(place.pki.read("live/rsa.crt"), place.pki.read("rsa-next.chain"));
    // Into an empty directory: both sources have the same file names, so the second pair gets others.
    fs::remove_dir_all(place.path("live")).expect("removed");
    let outcome = place.install(&["--from", "new-rsa", "--from", "new", "--json"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let files: Vec<Value> = outcome.json()["pairs"]
        .as_array()
        .expect("pairs")
        .iter()
        .map(|p| p["files"].clone())
        .collect();
    assert_eq!(
        files,
        [
            serde_json::json!(["fullchain.pem", "privkey.pem"]),
            serde_json::json!(["fullchain-ecdsa.pem", "privkey-ecdsa.pem"])
        ]
    );
}

#[test]
fn other_sites_in_the_directory_are_left_alone() {
    let place = Place::new();
    place.issue("stranger", "mail.example.com", P256);
    place.copy("stranger.chain", "live/mail.crt");
    place.copy("stranger.key", "live/mail.key");
    let outcome = place.install(&[]);
    assert_eq!((outcome.code, place.live().as_str()), (Some(0), "next"), "{outcome:?}");
    assert_eq!(place.pki.read("live/mail.crt"), place.pki.read("stranger.chain"));
    assert_eq!(place.pki.read("live/mail.key"), place.pki.read("stranger.key"));
}

#[test]
fn a_second_install_waits_for_the_first() {
    let place = Place::new();
    let start = |arguments: &[&str]| {
        let mut command = hpkp();
        command.args(place.arguments(&[&["--from", "new"], arguments].concat()));
        command.current_dir(place.records.0.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command")
    };
    // Runs until the file `go` exists, or the directory is gone.
    let test = "touch begun; while [ -e begun ] && [ ! -e go ]; do sleep 0.01; done";
    let mut first = start(&["--test", test, "--reload", "true", "--timeout", "600"]);
    while !place.path("begun").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let met = place.install(&["--timeout", "1", "--json"]);
    assert_eq!((met.code, codes(&met.json(), "problems")), (Some(3), vec!["locked"]), "{met:?}");
    // A run that waits longer finds nothing left to do.
    let second = start(&["--test", "true", "--reload", "true", "--timeout", "600", "--json"]);
    fs::write(place.path("go"), "").expect("a file");
    let second = outcome(second.wait_with_output().expect("its end"));
    assert_eq!(
        (second.code, second.json()["outcome"].as_str()),
        (Some(0), Some("unchanged")),
        "{second:?}"
    );
    assert!(first.wait().expect("its end").success());
}

#[test]
fn a_signal_puts_the_old_pair_back() {
    let place = Place::new();
    for (test, reload) in
        [("touch begun; sleep 30", "true"), ("true", "[ -e begun ] || { touch begun; sleep 30; }")]
    {
        let mut command = hpkp();
        command.args(place.arguments(&["--from", "new", "--test", test, "--reload", reload]));
        command.current_dir(place.records.0.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the command");
        while !place.path("begun").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(place.live(), "next");
        signal(child.id(), libc::SIGTERM);
        let outcome = outcome(child.wait_with_output().expect("its end"));
        outcome.failed(3, "interrupted");
        assert_eq!((place.live(), place.left()), ("old".to_owned(), vec![]));
        fs::remove_file(place.path("begun")).expect("removed");
    }
}

fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: kill takes only numbers; `pid` is a child of this test that has not been waited for.
    assert_eq!(unsafe { libc::kill(libc::pid_t::try_from(pid).expect("a pid"), signal) }, 0);
}

/// Before, the link led the server to the client's directory.
#[test]
fn a_link_to_the_client_s_directory_gets_another_target() {
    let place = Place::new();
    fs::remove_dir_all(place.path("live")).expect("removed");
    symlink("new", place.path("live")).expect("a link");
    let outcome = place.install(&["--json"]);
    assert_eq!(
        (outcome.code, outcome.json()["outcome"].as_str()),
        (Some(0), Some("installed")),
        "{outcome:?}"
    );
    place.lay("new", "old");
    assert_eq!(place.live(), "next");
}

#[test]
fn a_certificate_without_alternative_names_is_for_its_common_name() {
    let place = Place::new();
    for name in ["old", "next"] {
        place.pki.self_signed(name, &format!("/CN={HOST}"), &[]);
        place.copy(&format!("{name}.pem"), &format!("{name}.chain"));
    }
    fs::remove_dir_all(place.path("live")).expect("removed");
    fs::create_dir(place.path("live")).expect("a directory");
    place.copy("old.chain", "live/site.crt");
    place.copy("old.key", "live/site.key");
    place.lay("new", "next");
    place.pin_of_old();
    assert_eq!(place.install(&[]).code, Some(1));
    let id = place.records.json(&["list"])["published"][0]["id"].clone();
    place.records.run(&["end", id.as_str().expect("an id"), "--why", "x"]).fine();
    let outcome = place.install(&[]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(place.pair_in("live", ["site.crt", "site.key"]), "next");
}

#[test]
fn damaged_files_of_the_server_are_replaced() {
    let place = Place::new();
    for damage in ["certificate", "key", "both"] {
        fs::remove_dir_all(place.path("live")).expect("removed");
        fs::create_dir(place.path("live")).expect("a directory");
        for (file, name, end) in
            [("old.chain", "site.crt", "key"), ("old.key", "site.key", "certificate")]
        {
            let text = String::from_utf8(place.pki.read(file)).expect("PEM");
            let length = if damage == end { text.len() } else { 100 };
            place.pki.write(&format!("live/{name}"), &text[..length]);
        }
        let outcome = place.install(&[]);
        assert_eq!(outcome.code, Some(0), "{damage}: {outcome:?}");
        assert_eq!(place.pair_in("live", ["site.crt", "site.key"]), "next", "{damage}");
    }
}

/// The test command or the reload command kills `hpkp install`.
#[test]
fn an_interrupted_install_is_undone_by_recover_or_the_next_install() {
    let place = Place::new();
    let kill = "kill -9 $PPID; sleep 1";
    for (test, reload, is_reloaded) in
        [(kill, "true", ""), ("true", "echo k >> ran; kill -9 $PPID", "r")]
    {
        let all = place.arguments(&["--from", "new", "--test", test, "--reload", reload]);
        assert_eq!(run(place.records.0.path(), &all).code, None);
        // The pair is whole.
        assert_eq!(place.live(), "next");
        place.ran();
        let recover =
            ["install", "--recover", "--to", "live", "--reload", "echo r >> ran", "--json"];
        let outcome = run(place.records.0.path(), &recover);
        assert_eq!(
            (outcome.code, outcome.json()["outcome"].as_str()),
            (Some(0), Some("recovered")),
            "{outcome:?}"
        );
        assert_eq!((place.live().as_str(), place.ran().as_str()), ("old", is_reloaded));
        assert_eq!(place.left(), [""; 0]);
        let outcome = run(place.records.0.path(), &recover);
        assert_eq!(outcome.json()["outcome"], "nothing-to-recover");
    }
    // The next install undoes the interrupted one and continues.
    let all = place.arguments(&["--from", "new", "--test", kill, "--reload", "true"]);
    assert_eq!(run(place.records.0.path(), &all).code, None);
    let outcome = place.install(&["--json"]);
    assert_eq!(
        (outcome.code, outcome.json()["outcome"].as_str()),
        (Some(0), Some("installed")),
        "{outcome:?}"
    );
    assert!(codes(&outcome.json(), "warnings").contains(&"interrupted"), "{outcome:?}");
    assert_eq!((place.live(), place.left()), ("next".to_owned(), vec![]));
}

/// The arguments of the command that is killed.
const KILLED: [&str; 10] = [
    "install",
    "--from",
    "new",
    "--to",
    "live",
    "--no-records",
    "--test",
    "true",
    "--reload",
    "true",
];

impl Place {
    /// Starts the command and kills it after `lives`. If `late`, that time begins when the command changes
    /// something, or when `whole`, its usual run time, has passed.
    fn killed(&self, lives: Duration, whole: Duration, late: bool) {
        let before = self.left();
        let mut command = hpkp();
        command.args(KILLED).current_dir(self.records.0.path());
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command");
        let begun = Instant::now();
        while late && self.left() == before && begun.elapsed() < whole {
            std::thread::yield_now();
        }
        std::thread::sleep(lives);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Kills 200 runs at random moments: 100 with a directory, then 100 with a link.
#[test]
fn a_kill_at_any_moment_leaves_the_old_pair_or_the_new_one() {
    let place = Place::new();
    let mut random = 12_345_u64;
    let mut counts = [0; 2];
    let begun = Instant::now();
    place.install(&[]);
    // The longest time before a kill. It shrinks after a run that was done in time and grows after one that was not,
    // because the machine is busier at one time than at another.
    let mut whole = begun.elapsed();
    for round in 0..200 {
        if round == 100 {
            fs::rename(place.path("live"), place.path("first")).expect("renamed");
            symlink("first", place.path("live")).expect("a link");
        }
        let goal = if place.live() == "old" { "next" } else { "old" };
        place.lay("new", goal);
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lives = whole.mul_f64((random >> 40) as f64 / f64::from(1 << 24));
        // Most of a run passes before its first change, so half of the rounds count the time from there.
        place.killed(lives, whole, round % 4 < 2);
        let is_done = place.live() == goal;
        counts[usize::from(is_done)] += 1;
        whole = whole.mul_f64(if is_done { 0.8 } else { 1.25 });
        check_rest(&place);
        let outcome = match round % 2 {
            0 => run(place.records.0.path(), &["install", "--recover", "--to", "live"]),
            _ => run(place.records.0.path(), &KILLED),
        };
        assert_eq!(outcome.code, Some(0), "round {round}: {outcome:?}");
        place.live();
        check_rest(&place);
        assert!(
            place.left().iter().all(|name| name.starts_with("generation-")),
            "{:?}",
            place.left()
        );
        assert!(place.left().len() <= 1, "{:?}", place.left());
        if round % 2 == 1 {
            assert_eq!(place.live(), goal);
        }
    }
    assert!(counts[0] > 20 && counts[1] > 20, "killed too early or too late: {counts:?}");
}

#[track_caller]
fn check_rest(place: &Place) {
    assert_eq!(fs::read(place.path("live/dh.pem")).expect("the other file"), b"other");
}

#[test]
fn a_full_disk_changes_nothing() {
    let place = Place::new();
    let limited = |bytes: &str| {
        let mut command = Command::new("sh");
        let script = format!(
            "ulimit -f {bytes}; trap '' XFSZ; exec {} install --from new --to live -d records --test true --reload true",
            env!("CARGO_BIN_EXE_hpkp")
        );
        outcome(output(command.args(["-c", &script]).current_dir(place.records.0.path())))
    };
    let outcome = limited("0");
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_eq!((place.live(), place.left()), ("old".to_owned(), vec![]));
}

#[test]
fn a_state_directory_that_others_can_write_is_refused() {
    let place = Place::new();
    fs::create_dir(place.path(".live.hpkp")).expect("a directory");
    fs::set_permissions(place.path(".live.hpkp"), fs::Permissions::from_mode(0o777))
        .expect("a mode");
    let outcome = place.install(&["--json"]);
    assert_eq!((outcome.code, codes(&outcome.json(), "problems")), (Some(3), vec!["state-unsafe"]));
}

#[test]
fn renew_check_predicts_a_refused_renewal() {
    let place = Place::new();
    let check = |more: &[&str]| {
        let all = [
            "renew-check",
            "--cert",
            "old.chain",
            "-d",
            "records",
            "--trusted-certificate",
            "root.pem",
        ];
        run(place.records.0.path(), &[&all, more].concat())
    };
    assert_eq!(check(&[]).code, Some(0));
    place.pin_of_old();
    let outcome = check(&[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome
            .out
            .starts_with("no: a renewal with a new key locks out clients of www.example.com"),
        "{outcome:?}"
    );
    for file in ["old.key", "old.pem"] {
        let outcome = check(&["--key", file]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
    let outcome = check(&["--key", "next.key", "--json"]);
    assert_eq!(
        (outcome.code, outcome.json()["answer"].as_str()),
        (Some(1), Some("no")),
        "{outcome:?}"
    );
    // Hosts without pins pass; a missing file is an error.
    assert_eq!(check(&["mail.example.com"]).code, Some(0));
    assert_eq!(check(&["--key", "missing"]).code, Some(3));
    assert_eq!(run(place.records.0.path(), &["renew-check", "--cert", "missing"]).code, Some(3));
}

/// Clients that pin the issuer accept any key that it certifies.
#[test]
fn a_renewal_under_a_pinned_issuer_may_have_a_new_key() {
    let place = Place::new();
    let ca = pin(&place.pki.pin("ca.pem"));
    place.records.recorded(&["add", HOST, "--origin", "app 4.2", "--pin", &ca]);
    let all = [
        "renew-check",
        "--cert",
        "old.chain",
        "-d",
        "records",
        "--trusted-certificate",
        "root.pem",
        "--json",
    ];
    let outcome = run(place.records.0.path(), &all);
    assert_eq!(
        (outcome.code, outcome.json()["answer"].as_str()),
        (Some(0), Some("yes")),
        "{outcome:?}"
    );
    let outcome = run(
        place.records.0.path(),
        &all.map(|one| if one == "old.chain" { "old.pem" } else { one }),
    );
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
}
