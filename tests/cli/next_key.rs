//! `hpkp key next`: a new key that is used once clients hold its pin, and not before.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hpkp_core::date;
use hpkp_tests::clock::Clock;
use hpkp_tests::nginx::{Nginx, Reload, tls_server};
use hpkp_tests::pki::{P256, Pki, leaf_extensions};
use hpkp_tests::{free_port, output};
use serde_json::Value;

use crate::records::{Records, pin};
use crate::{Outcome, hpkp, outcome, run};

const HOST: &str = "www.example.com";

/// nginx with a pinned host and records; nginx and the command share a clock that the test moves.
struct Site {
    nginx: Nginx,
    port: u16,
    clock: Clock,
}

impl Site {
    fn new() -> Self {
        let mut nginx = Nginx::new();
        let pki = nginx.pki();
        pki.ca("ca");
        pki.leaf("live", HOST, "ca");
        pki.key("backup", P256);
        pki.request("backup", "/CN=backup");
        run(&nginx.path(""), &["published", "init", "records"]).fine();
        let clock = Clock::new(&nginx.path(""));
        clock.environment().iter().for_each(|(name, value)| nginx.set_environment(name, value));
        Self { nginx, port: free_port(), clock }
    }

    fn configure(&self, certificate: &str, pins: &[&str]) {
        let pins: String = pins.iter().map(|pin| format!("pin sha256/{pin}; ")).collect();
        let server = tls_server(self.port, HOST, certificate, "hpkp site;");
        self.nginx.configure(&format!(
            "hpkp_published_pins records writer=web-1; hpkp_trusted_certificate ca.pem;\n\
             hpkp_policy site {{ {pins} max_age 1d; }}\n{server}"
        ));
    }

    fn hpkp(&self, arguments: &[&str]) -> Outcome {
        let mut command = hpkp();
        command.envs(self.clock.environment());
        command.args(arguments).args(["-d", "records"]).stdin(Stdio::null());
        outcome(output(command.current_dir(self.nginx.path(""))))
    }

    fn next(&self, arguments: &[&str]) -> Outcome {
        self.hpkp(&[&["key", "next", HOST], arguments].concat())
    }

    fn state(&self) -> Value {
        self.next(&["--json"]).json()["keys"][0].clone()
    }
}

fn time(value: &Value) -> i64 {
    date::parse(value.as_str().expect("a time")).expect("a time")
}

/// Makes the next key of a site with these pins and checks what the command prints for it; returns its pin.
fn made(site: &Site, [live, backup]: [&str; 2]) -> String {
    let pki = site.nginx.pki();
    let made = site.next(&["--key", "next.key"]).fine();
    let next = pki.pin("next.key");
    let mode = fs::metadata(site.nginx.path("next.key")).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(made.contains(&format!("pin sha256/{next};")), "{made}");
    assert!(made.contains(&format!("HPKPPin sha256/{next}")), "{made}");
    assert!(made.contains(&format!("_443._tcp.{HOST}. IN TLSA 3 1 1 ")), "{made}");
    let state = site.state();
    assert_eq!((&state["state"], &state["pin"]), (&"not-published".into(), &pin(&next).into()));
    site.next(&["--csr", "early.csr"]).failed(1, "is not published");
    // The plan knows the key.
    let plan = site.hpkp(&["plan", HOST, "--to", "new-key", "--json"]).json();
    assert_eq!(plan["steps"][1]["key"], pin(&next).as_str(), "{plan}");
    let app = site.next(&["--export", "okhttp"]).fine();
    assert!([live, backup, &next].iter().all(|pin| app.contains(pin)), "{app}");
    next
}

#[test]
fn a_next_key_is_handed_over_from_its_date_on_and_not_before() {
    let mut site = Site::new();
    let pki = site.nginx.pki();
    let (live, backup) = (pki.pin("live.pem"), pki.pin("backup.csr"));
    site.configure("live", &[&live, &backup]);
    site.nginx.start();

    let next = made(&site, [&live, &backup]);

    // Once its pin is published, the key waits.
    site.configure("live", &[&live, &backup, &next]);
    assert!(matches!(site.nginx.reload(), Reload::Accepted));
    let state = site.state();
    assert_eq!(state["state"], "waiting");
    let (since, from) = (time(&state["published_since"]), time(&state["usable_from"]));
    assert!((0..120).contains(&(from - since - 2 * 86_400)), "{state}");
    let status = site.hpkp(&["status", "--offline"]).fine();
    let from = date::format(from);
    let since = date::format(since);
    let line = format!(
        "next key of {HOST}: sha256/{next}, published since {since}, may be used from {from}"
    );
    assert!(status.contains(&line), "{status}");
    assert!(!status.contains("publish the new pin now"), "{status}");

    // An hour before its date the command refuses to hand the key over, and nginx refuses its certificate.
    site.clock.advance(47 * 3_600);
    for out in [["--csr", "early.csr"], ["--to", "early.key"]] {
        site.next(&out)
            .failed(1, &format!("not yet: the next key of {HOST} may be used from {from}"));
        assert!(!site.nginx.path(out[1]).exists());
    }
    pki.sign("next", &format!("/CN={HOST}"), "ca", &leaf_extensions(HOST));
    site.configure("next", &[&live, &backup, &next]);
    let refused = site.nginx.run(&["-t"]);
    assert!(
        refused.code != Some(0) && refused.text.contains("[published-pins-unmet]"),
        "{refused:?}"
    );

    // An hour after its date both accept it.
    site.clock.advance(2 * 3_600);
    assert_eq!(site.state()["state"], "usable");
    let out = site.next(&["--csr", "next-2.csr"]).fine();
    assert!(out.contains(&format!("next-2.csr ({HOST})")), "{out}");
    assert_eq!(pki.pin("next-2.csr"), next);
    site.next(&["--csr", "next-2.csr"]).failed(1, "nothing is overwritten");
    pki.write("client.key", "the key of before");
    site.next(&["--to", "client.key"]).fine();
    assert_eq!(pki.pin("client.key"), next);
    let kept = fs::read_dir(site.nginx.path("")).expect("files").flatten();
    let kept = kept.filter(|file| file.file_name().to_string_lossy().starts_with("client.key."));
    let kept: Vec<_> = kept.map(|file| fs::read(file.path()).expect("a file")).collect();
    assert_eq!(kept, [b"the key of before".to_vec()]);
    assert!(matches!(site.nginx.reload(), Reload::Accepted));
    // The key is in use, so it is no longer the next key.
    let status = site.hpkp(&["status", "--offline"]).fine();
    assert!(!status.contains("next key of"), "{status}");
    site.next(&["--to", "client.key"]).failed(1, "has no next key");
    site.nginx.stop();
}

/// An empty directory of records, and a certificate `live` with its chain.
fn pinned() -> (Records, Pki) {
    let records = Records::new();
    let pki = Pki::new(records.0.path());
    pki.ca("root");
    pki.key("live", P256);
    pki.sign("live", &format!("/CN={HOST}"), "root", &leaf_extensions(HOST));
    pki.bundle("live.chain", &["live.pem", "root.pem"]);
    (records, pki)
}

fn publish(records: &Records, pins: &[&str]) {
    let pins: Vec<String> = pins.iter().map(|one| pin(one)).collect();
    let mut add = vec!["add", HOST, "--origin", "app 1"];
    pins.iter().for_each(|pin| add.extend(["--pin", pin]));
    records.recorded(&add);
}

fn next(records: &Records, arguments: &[&str]) -> Outcome {
    let all = [&["key", "next", HOST, "-d", "records"], arguments].concat();
    run(records.0.path(), &all)
}

#[test]
fn each_acme_client_gets_the_next_key_in_its_own_file() {
    let (records, pki) = pinned();
    pki.key("next", P256);
    let (live, waiting) = (pki.pin("live.key"), pki.pin("next.key"));
    publish(&records, &[&live, &waiting]);
    let lay = |from: &str, to: &str| {
        let to = records.0.path().join(to);
        fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        fs::write(to, pki.read(from)).expect("a file");
    };
    next(&records, &["--take", "next.key"]).fine();
    for (client, certificate, key, (file, text)) in [
        ("lego", "certificates/www.example.com.crt", "certificates/www.example.com.key", ("x", "")),
        ("uacme", "www.example.com/cert.pem", "private/www.example.com/key.pem", ("x", "")),
        (
            "acme.sh",
            "www.example.com_ecc/fullchain.cer",
            "www.example.com_ecc/www.example.com.key",
            ("www.example.com_ecc/www.example.com.conf", "Le_Domain='www.example.com'\n"),
        ),
        (
            "dehydrated",
            "certs/www.example.com/fullchain.pem",
            "certs/www.example.com/privkey-1.pem",
            ("config", "PRIVATE_KEY_RENEW=\"no\"\n"),
        ),
        (
            "certbot",
            "live/www.example.com/fullchain.pem",
            "archive/www.example.com/privkey1.pem",
            ("renewal/www.example.com.conf", "[renewalparams]\nreuse_key = True\n"),
        ),
    ] {
        lay("live.chain", &format!("{client}/{certificate}"));
        lay("live.key", &format!("{client}/{key}"));
        let path = |file: &str| records.0.path().join(client).join(file);
        fs::create_dir_all(path(file).parent().expect("a directory")).expect("a directory");
        fs::write(path(file), text).expect("settings");
        let link = |link: &str, to: &str| {
            fs::create_dir_all(path(link).parent().expect("one")).expect("a directory");
            std::os::unix::fs::symlink(to, path(link)).expect("a link");
        };
        match client {
            "dehydrated" => link("certs/www.example.com/privkey.pem", "privkey-1.pem"),
            "certbot" => link(
                "live/www.example.com/privkey.pem",
                "../../archive/www.example.com/privkey1.pem",
            ),
            "acme.sh" => fs::write(path("account.conf"), "").expect("settings"),
            _ => {}
        }
        let outcome = next(&records, &["--client", "--acme", client]);
        assert_eq!(outcome.code, Some(0), "{client}: {outcome:?}");
        assert_eq!(pki.read(&format!("{client}/{key}")), pki.read("next.key"), "{client}");
        let again = next(&records, &["--client", "--acme", client]);
        assert!(again.out.contains("has it already"), "{again:?}");
    }
    // A client whose settings make a new key anyway is refused, with the setting to change.
    fs::write(records.0.path().join("dehydrated/config"), "").expect("settings");
    next(&records, &["--client", "--acme", "dehydrated"]).failed(1, "PRIVATE_KEY_RENEW=\"no\"");
    next(&records, &["--client", "--acme", "records"]).failed(1, "no ACME client");
}

#[test]
fn a_next_key_that_the_acme_client_has_made_is_used() {
    let (records, pki) = pinned();
    publish(&records, &[&pki.pin("live.key")]);
    let folder = records.0.path().join("dehydrated/certs/www.example.com");
    fs::create_dir_all(&folder).expect("a directory");
    let settings = "PRIVATE_KEY_ROLLOVER=\"yes\"\nPRIVATE_KEY_RENEW=\"yes\"\n";
    fs::write(records.0.path().join("dehydrated/config"), settings).expect("settings");
    fs::copy(records.0.path().join("live.chain"), folder.join("fullchain.pem")).expect("a file");
    fs::copy(pki.key("rolled", P256), folder.join("privkey.roll.pem")).expect("a file");
    let outcome = next(&records, &["--acme", "dehydrated", "--json"]);
    assert!(outcome.err.contains("dehydrated has made the next key already"), "{outcome:?}");
    let key = outcome.json()["keys"][0].clone();
    assert_eq!(key["pin"], pin(&pki.pin("rolled.key")).as_str());
    assert!(key["file"].as_str().is_some_and(|file| file.ends_with("privkey.roll.pem")), "{key}");
    // An app has pins that do not expire, and this key's is not among them.
    assert_eq!(key["state"], "blocked");
    next(&records, &["--client", "--acme", "dehydrated"]).failed(1, "do not expire");
    next(&records, &["--key", "other.key"]).failed(1, "has a next key already");
    let forgotten = next(&records, &["--forget"]).fine();
    assert!(forgotten.contains("its file is still there"), "{forgotten}");
    next(&records, &["--key", "other.key"]).fine();
}

#[test]
fn a_missing_next_key_or_record_is_reported() {
    let (records, pki) = pinned();
    next(&records, &["--csr", "x.csr"]).failed(1, "has no next key");
    let unknown = next(&records, &["--key", "next.key"]).fine();
    assert!(unknown.contains("no pins of this host are on record"), "{unknown}");
    next(&records, &["--csr", "x.csr"]).failed(3, "nobody can tell");
    publish(&records, &[&pki.pin("next.key"), &pki.pin("live.key")]);
    // If the file has another key, or is missing, nothing is handed over.
    fs::write(records.0.path().join("next.key"), pki.read("live.key")).expect("a file");
    next(&records, &["--csr", "x.csr"]).failed(1, "does not have the next key");
    fs::remove_file(records.0.path().join("next.key")).expect("removed");
    let outcome = next(&records, &["--json"]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let status = run(records.0.path(), &["status", "--offline", "-d", "records"]);
    assert_eq!(status.code, Some(3), "{status:?}");
    assert!(status.err.contains("the file of its next key"), "{status:?}");
    next(&records, &["--forget"]).fine();

    for (take, text) in [("live.pem", "not a private key"), ("none.key", "no such file")] {
        let outcome = next(&records, &["--take", take]);
        assert!(matches!(outcome.code, Some(1 | 3)) && outcome.err.contains(text), "{outcome:?}");
    }
    run(records.0.path(), &["key", "next", "no host", "-d", "records"]).failed(2, "HOST");
    fs::write(records.0.path().join("records/hpkp-next-keys"), "nonsense\n").expect("a file");
    next(&records, &[]).failed(3, "not the record of a next key");
}

#[test]
fn the_key_must_be_usable_for_every_name_of_the_certificate() {
    let (records, pki) = pinned();
    pki.key("next", P256);
    publish(&records, &[&pki.pin("next.key"), &pki.pin("live.key")]);
    let live = pin(&pki.pin("live.key"));
    let add = ["add", "api.example.com", "--origin", "app 2", "--pin", &live];
    records.recorded(&add);
    next(&records, &["--take", "next.key"]).fine();
    let both = ["--csr", "x.csr", "--name", HOST, "--name", "api.example.com"];
    next(&records, &both).failed(1, "pins of api.example.com do not expire");
    let all = ["--csr", "x.csr", "--name", HOST, "--name", "*.example.com"];
    next(&records, &all).failed(1, "pins of api.example.com do not expire");
    next(&records, &["--csr", "x.csr"]).fine();
    // With an ACME client, the names of the certificate that it renews count without `--name`.
    let folder = records.0.path().join("lego/certificates");
    fs::create_dir_all(&folder).expect("a directory");
    let names = "subjectAltName=DNS:www.example.com,DNS:api.example.com";
    pki.sign("both", &format!("/CN={HOST}"), "root", names_of(&pki, names));
    fs::write(folder.join("both.crt"), pki.read("both.pem")).expect("a certificate");
    let client = ["--client", "--acme", "lego"];
    next(&records, &client).failed(1, "pins of api.example.com do not expire");
    assert!(!folder.join("both.key").exists());
}

/// Makes a key `both`, and returns the extensions for its certificate.
fn names_of<'a>(pki: &Pki, names: &'a str) -> &'a str {
    pki.key("both", P256);
    names
}

/// Runs the command and kills it after this time.
fn killed(directory: &Path, arguments: &[&str], after: Duration) {
    let mut command: Command = hpkp();
    command.current_dir(directory).args(arguments);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command");
    std::thread::sleep(after);
    let _ = child.kill();
    child.wait().expect("its end");
}

#[test]
fn a_kill_at_any_moment_leaves_one_key_or_none_and_loses_none() {
    let (records, pki) = pinned();
    publish(&records, &[&pki.pin("live.key")]);
    let directory = records.0.path();
    let arguments =
        |file: &str| ["key", "next", HOST, "-d", "records", "--key", file].map(str::to_owned);
    for round in 0..40_u64 {
        let file = format!("next-{round}.key");
        let all = arguments(&file);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        killed(directory, &all, Duration::from_micros(round * 700));
        // If the killed run has made no next key, this run makes it.
        let outcome = next(&records, &["--key", &file, "--json"]);
        let is_there = outcome.code == Some(1) && outcome.err.contains("has a next key already");
        let outcome = if is_there { next(&records, &["--json"]) } else { outcome };
        let json = outcome.json();
        let keys = json["keys"].as_array().expect("keys");
        assert_eq!(keys.len(), 1, "round {round}: {json}");
        assert_eq!(keys[0]["pin"], pin(&pki.pin(&file)).as_str(), "round {round}");
        next(&records, &["--forget"]).fine();
    }
}

#[test]
fn of_several_concurrent_runs_one_makes_the_key() {
    let (records, pki) = pinned();
    publish(&records, &[&pki.pin("live.key")]);
    for round in 0..5 {
        let call = |number: u32| {
            let file = format!("next-{round}-{number}.key");
            let outcome = next(&records, &["--key", &file]);
            usize::from(outcome.code == Some(0))
        };
        let made: usize = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..6).map(|number| scope.spawn(move || call(number))).collect();
            calls.into_iter().map(|call| call.join().expect("a call")).sum()
        });
        assert_eq!(made, 1);
        next(&records, &["--forget"]).fine();
    }
}

#[test]
fn a_kill_at_the_hand_over_leaves_the_old_key_or_the_new_one_and_loses_none() {
    let (records, pki) = pinned();
    let directory = records.0.path();
    pki.key("planned", P256);
    publish(&records, &[&pki.pin("live.key"), &pki.pin("planned.key")]);
    next(&records, &["--take", "planned.key"]).fine();
    for round in 0..40_u64 {
        let old = pki.read("live.key");
        pki.write("client.key", &old);
        let all = ["key", "next", HOST, "-d", "records", "--to", "client.key"];
        killed(directory, &all, Duration::from_micros(round * 700));
        let content = pki.read("client.key");
        assert!(content == old || content == pki.read("planned.key"), "round {round}");
        next(&records, &["--to", "client.key"]).fine();
        assert_eq!(pki.read("client.key"), pki.read("planned.key"), "round {round}");
        let files = fs::read_dir(directory).expect("files").flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        let names: Vec<String> = names.filter(|name| name.contains("client.key")).collect();
        assert_eq!(names.len(), 2, "round {round}: {names:?}");
        let kept = names.iter().find(|name| *name != "client.key").expect("the old key");
        assert_eq!(pki.read(kept), old, "round {round}");
        fs::remove_file(directory.join(kept)).expect("removed");
    }
}
