//! `hpkp published why HOST --cert`: runs the check of a server on real certificates.

use std::path::Path;

use hpkp_tests::pki::{P256, Pki, leaf_extensions, openssl};
use serde_json::{Value, json};

use crate::Outcome;
use crate::records::{Records, id, pin};

const HOST: &str = "www.example.com";

/// Records, and beside them a root `root`, an intermediate `ca`, and certificates `old` and `new`.
fn site() -> (Records, Pki) {
    let records = Records::new();
    let pki = Pki::new(records.0.path());
    pki.ca("root");
    pki.intermediate("ca", "root");
    pki.leaf("old", HOST, "ca");
    pki.leaf("new", HOST, "ca");
    for name in ["old", "new"] {
        pki.bundle(&format!("{name}.chain"), &[&format!("{name}.pem"), "ca.pem"]);
    }
    (records, pki)
}

/// Records that an app has these pins.
fn app(records: &Records, host: &str, pins: &[&str], more: &[&str]) -> Value {
    let mut arguments = vec!["add", host, "--origin", "app 4.2"];
    arguments.extend(more);
    for pin in pins {
        arguments.extend(["--pin", *pin]);
    }
    records.recorded(&arguments)
}

fn why(records: &Records, more: &[&str]) -> Outcome {
    records.run(&[&["why", HOST, "--trusted-certificate", "root.pem"], more].concat())
}

/// The codes of the findings.
fn codes(records: &Records, more: &[&str]) -> Vec<String> {
    let json = why(records, &[more, &["--json"]].concat());
    let json = json.json();
    let findings = json["findings"].as_array().expect("findings");
    findings.iter().map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect()
}

#[test]
fn a_new_key_locks_out_and_the_old_one_does_not() {
    let (records, pki) = site();
    let record = app(&records, HOST, &[&pin(&pki.pin("old.pem"))], &[]);
    let fine = why(&records, &["--cert", "old.chain"]).fine();
    assert!(fine.starts_with("yes: "), "{fine}");
    let locked = why(&records, &["--cert", "new.chain"]);
    assert_eq!((locked.code, locked.err.as_str()), (Some(1), ""), "{locked:?}");
    assert!(
        locked
            .out
            .starts_with("no: this certificate locks out clients of www.example.com (1 record)"),
        "{locked:?}"
    );
    let log = why(&records, &["--cert", "new.chain", "--log"]).out;
    assert!(log.contains("\nhpkp: [published-pins-unmet] www.example.com: "), "{log}");
    assert!(locked.out.contains(&format!(" end {} --why", id(&record))));
    let json = why(&records, &["--cert", "new.chain", "--json"]);
    assert_eq!(json.code, Some(1));
    let json = json.json();
    assert_eq!(json["findings"][0]["class"], "lockout");
    assert_eq!(json["published"][0]["id"], record["id"]);

    // If a server has two certificates, each must satisfy the pins.
    let both = ["--cert", "old.chain", "--cert", "new.chain"];
    assert_eq!(codes(&records, &both), ["published-pins-unmet"]);
    // These pins do not apply to other hosts.
    records
        .run(&["why", "a.example.com", "--cert", "new.chain"])
        .failed(0, "no recorded pins apply");

    // The command that the finding proposes works.
    records.run(&["end", id(&record), "--why", "nobody uses it"]).fine();
    assert_eq!(why(&records, &["--cert", "new.chain"]).code, Some(0));
}

/// Runs a printed command in another directory than that of the command that printed it.
fn pasted(line: &str) -> Option<i32> {
    let (_, words) = line.split_once("hpkp ").expect("a command");
    let mut shell = std::process::Command::new("sh");
    let script = format!("exec {} {words}", env!("CARGO_BIN_EXE_hpkp"));
    shell.args(["-c", &script]).current_dir("/");
    hpkp_tests::output(&mut shell).status.code()
}

#[test]
fn the_advice_is_in_order_and_works_wherever_it_is_pasted() {
    let (records, pki) = site();
    let old = pki.pin("old.pem");
    let app_id = id(&app(&records, HOST, &[&pin(&old)], &[])).to_owned();
    let header =
        format!("pin-sha256=\"{old}\"; pin-sha256=\"{}\"; max-age=60", hpkp_tests::site::B);
    records.recorded(&["add", HOST, "--header", &header, "--until", "now"]);
    let outcome = why(&records, &["--cert", "new.chain"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert!(lines[0].ends_with(" (2 records)"), "{outcome:?}");
    assert!(lines[1].starts_with("certificate: new.chain: CN="), "{outcome:?}");
    let place = |text: &str| lines.iter().position(|line| line.contains(text)).expect(text);
    assert!(
        lines[place("clients of app 4.2")].ends_with("these pins do not expire"),
        "{outcome:?}"
    );
    assert!(place("locked out:") < place("to fix:"));
    assert!(place("to fix:") < place("to change the key:"));
    assert_eq!(place("last resort"), lines.len() - 2);
    // The first command finds the key whose pin both kinds of clients hold.
    let find = place("hpkp find ");
    assert!(lines[find].contains(&pin(&old)), "{outcome:?}");
    assert_eq!(pasted(lines[find]), Some(0), "{outcome:?}");
    let end = lines[place(" end ")];
    assert!(end.contains(&app_id), "{outcome:?}");
    assert_eq!(pasted(end), Some(0), "{outcome:?}");
    let after = why(&records, &["--cert", "new.chain"]);
    assert!(
        after.out.lines().next().is_some_and(|line| line.ends_with(" (1 record)")),
        "{after:?}"
    );
    // No set that is published now lacks the pin of the new key, so the advice is to wait.
    let wait = "to change the key: wait until the last of these pins expires on 20";
    assert!(after.out.contains(wait), "{after:?}");
    assert!(!after.out.contains("publish the new pin"), "{after:?}");
    assert_eq!(pasted(after.out.lines().last().expect("a line")), Some(0));
    assert_eq!(why(&records, &["--cert", "new.chain"]).code, Some(0));
}

/// In a fleet, the new pin must be published by each server.
#[test]
fn the_advice_names_the_servers_that_publish() {
    let (records, pki) = site();
    let old = pki.pin("old.pem");
    let publishes = |writer: &str, backup: &str| {
        let header = format!("pin-sha256=\"{old}\"; pin-sha256=\"{backup}\"; max-age=60");
        records.recorded(&["add", HOST, "--header", &header, "--writer", writer]);
    };
    publishes("web-1", hpkp_tests::site::A);
    let one = why(&records, &["--cert", "new.chain"]).out;
    assert!(one.contains("publish the new pin now; "), "{one}");
    publishes("web-2", hpkp_tests::site::B);
    let two = why(&records, &["--cert", "new.chain"]).out;
    assert!(two.contains("publish the new pin now on web-1, web-2; "), "{two}");
}

/// A certificate for several names, of which the question names one.
#[test]
fn the_other_names_of_a_certificate_are_judged_too() {
    let (records, pki) = site();
    let other = "api.example.com";
    let names = "www.example.com,DNS:api.example.com,DNS:*.example.org";
    pki.key("both", P256);
    pki.sign("both", "/CN=www.example.com", "ca", &leaf_extensions(names));
    pki.bundle("both.chain", &["both.pem", "ca.pem"]);
    let (old, both) = (pin(&pki.pin("old.pem")), pin(&pki.pin("both.pem")));
    app(&records, HOST, &[&both], &[]);
    app(&records, other, &[&old], &[]);
    app(&records, "a.example.org", &[&both], &[]);
    let asked = why(&records, &["--cert", "both.chain"]);
    // The exit code is the answer for the host that was asked about.
    assert_eq!(asked.code, Some(0), "{asked:?}");
    let lines: Vec<&str> = asked.out.lines().collect();
    assert!(
        lines[0].starts_with("yes: clients with recorded pins for www.example.com"),
        "{lines:?}"
    );
    assert_eq!(
        lines[2],
        "another name: this certificate locks out clients of api.example.com; ask for that name:"
    );
    assert_eq!((lines.len(), pasted(lines[3])), (4, Some(1)), "{lines:?}");
    let json = why(&records, &["--cert", "both.chain", "--json"]).json();
    assert_eq!(json["other_hosts"], json!([{"host": other, "answer": "no"}]));
    // The answer "no" has the other names before the advice.
    let locked =
        records.run(&["why", other, "--cert", "both.chain", "--trusted-certificate", "root.pem"]);
    assert_eq!(locked.code, Some(1), "{locked:?}");
    assert!(!locked.out.contains("another name"), "{locked:?}");
    app(&records, "*.example.org", &[&old], &[]);
    let pattern = why(&records, &["--cert", "both.chain"]).out;
    assert!(pattern.contains("locks out clients of *.example.org; ask"), "{pattern}");
    let line = pattern.lines().rfind(|line| line.starts_with("    hpkp "));
    assert_eq!(pasted(line.expect("a command")), Some(1), "{pattern}");
    assert!(!pattern.contains("hpkp-any"), "{pattern}");
}

/// As certbot has them: links in live/NAME to numbered files in archive/NAME.
#[test]
fn the_key_before_the_renewal_is_found_beside_the_links() {
    let (records, pki) = site();
    let old = pki.pin("old.pem");
    app(&records, HOST, &[&pin(hpkp_tests::site::B), &pin(&old)], &[]);
    for directory in ["live/a", "archive/a"] {
        std::fs::create_dir_all(records.0.path().join(directory)).expect("a directory");
    }
    for (number, name) in [(1, "old"), (2, "new")] {
        for (from, to) in [("chain", "fullchain"), ("key", "privkey")] {
            let to = format!("archive/a/{to}{number}.pem");
            std::fs::copy(pki.path(&format!("{name}.{from}")), pki.path(&to)).expect("a copy");
        }
    }
    let link = pki.path("live/a/fullchain.pem");
    std::os::unix::fs::symlink("../../archive/a/fullchain2.pem", link).expect("a link");
    std::fs::remove_file(pki.path("old.key")).expect("a key");
    let outcome = why(&records, &["--cert", "live/a/fullchain.pem"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let find = outcome.out.lines().find(|line| line.contains("hpkp find ") && line.contains(&old));
    assert_eq!(pasted(find.expect("a command")), Some(0), "{outcome:?}");
}

#[test]
fn entries_of_one_configuration_are_checked_together() {
    let (records, pki) = site();
    // OkHttp joins the pins of all patterns that match, so the pin of the CA is enough for the new leaf.
    let entry = |host: &str, matching: &str, file: &str| {
        let pins = [pin(&pki.pin(file))];
        json!({ "hpkp_pins": 1, "host": host, "match": matching, "include_subdomains": false,
            "scope": "chain", "pins": pins, "client": "okhttp", "configuration": 0 })
    };
    let domain = HOST.split_once('.').expect("a domain").1;
    let lines = [entry(HOST, "exact", "old.pem"), entry(domain, "one-label", "ca.pem")];
    let lines = lines.map(|line| line.to_string()).join("\n");
    std::fs::write(records.0.path().join("pins.jsonl"), lines).expect("a file");
    records.run(&["import", "--format", "json", "--origin", "app", "pins.jsonl"]).fine();
    assert_eq!(records.lines().len(), 2);
    let outcome = why(&records, &["--cert", "new.chain", "--json"]);
    assert_eq!((outcome.code, &outcome.json()["locks_out"]), (Some(0), &json!([])), "{outcome:?}");
    assert_eq!(outcome.json()["answer"], "yes");
}

#[test]
fn a_certificate_for_another_name_is_a_warning() {
    let (records, pki) = site();
    app(&records, "mail.example.com", &[&pin(&pki.pin("old.pem"))], &["--scope", "leaf"]);
    let why = ["why", "mail.example.com", "--cert", "old.chain"];
    let outcome = records.run(&why);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let warning =
        "warning: the certificate is not for mail.example.com (DNS names: www.example.com)";
    assert!(outcome.out.contains(warning), "{outcome:?}");
    assert_eq!(records.run(&[&why[..], &["--deny-warnings"]].concat()).code, Some(1));
}

#[test]
fn a_waived_lockout_is_a_warning() {
    let (records, pki) = site();
    let record = app(&records, HOST, &[&pin(&pki.pin("old.pem"))], &["--max-age", "60d"]);
    let locked = why(&records, &["--cert", "new.chain"]);
    assert!(locked.out.contains(&format!(" waive {} --who", id(&record))));
    records.run(&["waive", id(&record), "--who", "ops", "--why", "accepted"]).fine();
    let waived = why(&records, &["--cert", "new.chain"]);
    assert_eq!(waived.code, Some(0), "{waived:?}");
    assert!(waived.out.starts_with("yes: only clients that were given up (waived)"), "{waived:?}");
    let denied = why(&records, &["--cert", "new.chain", "--deny-warnings"]);
    assert_eq!(denied.code, Some(1), "{denied:?}");
}

#[test]
fn scope_and_port_choose_the_keys_that_are_compared() {
    let (records, pki) = site();
    let (old, ca) = (pin(&pki.pin("old.pem")), pin(&pki.pin("ca.pem")));
    // A record for a domain above the host pins the key of the CA.
    let above = app(&records, "**.example.com", &[&ca], &["--scope", "path-ca"]);
    assert_eq!(codes(&records, &["--cert", "new.chain"]), [] as [String; 0]);
    // Without the intermediate the path is the leaf alone; `--chain` adds the intermediate.
    assert_eq!(codes(&records, &["--cert", "new.pem"]), ["published-pins-unmet"]);
    let behind = ["--cert", "new.pem", "--chain", "ca.pem"];
    assert_eq!(codes(&records, &behind), [] as [String; 0]);
    records.run(&["end", id(&above), "--why", "gone"]).fine();

    let leaf = app(&records, HOST, &[&ca], &["--scope", "leaf"]);
    assert_eq!(codes(&records, &["--cert", "old.chain"]), ["published-pins-unmet"]);
    records.run(&["end", id(&leaf), "--why", "gone"]).fine();

    // Records of any port are compared, unless `--port` names another port.
    app(&records, HOST, &[&old], &["--port", "8443"]);
    assert_eq!(codes(&records, &["--cert", "new.chain"]), ["published-pins-unmet"]);
    let other = ["--cert", "new.chain", "--port", "443"];
    assert_eq!(codes(&records, &other), [] as [String; 0]);
}

#[test]
fn a_root_that_some_clients_do_not_reach_is_a_warning() {
    let (records, pki) = site();
    // The intermediate has a second certificate, by another root.
    pki.ca("other");
    pki.sign_as("cross", "ca", "/CN=ca", "other", hpkp_tests::pki::CA_EXTENSIONS);
    pki.bundle("roots", &["root.pem", "other.pem"]);
    pki.bundle("cross.chain", &["old.pem", "ca.pem", "cross.pem"]);
    app(&records, HOST, &[&pin(&pki.pin("root.pem"))], &[]);
    let both = ["why", HOST, "--trusted-certificate", "roots", "--cert", "cross.chain"];
    let outcome = records.run(&both);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.out.contains("[published-pins-partly-met]"), "{outcome:?}");
    let outcome = records.run(&[&both[..], &["--deny-warnings"]].concat());
    assert_eq!(outcome.code, Some(1));
    // Some client may trust the other root, even if this machine does not.
    assert_eq!(codes(&records, &["--cert", "cross.chain"]), ["published-pins-partly-met"]);
    assert_eq!(codes(&records, &["--cert", "old.chain"]), [] as [String; 0]);
    // Without trusted certificates the path is the served chain, which has no root.
    let outcome = records.run(&["why", HOST, "--cert", "old.chain"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
}

#[test]
fn signatures_are_verified() {
    let (records, pki) = site();
    // Another root of the same name, whose key has signed nothing.
    pki.key("impostor", P256);
    pki.self_signed("impostor", "/CN=root", &[]);
    app(&records, HOST, &[&pin(&pki.pin("impostor.pem"))], &[]);
    pki.bundle("roots", &["root.pem", "impostor.pem"]);
    let outcome =
        records.run(&["why", HOST, "--trusted-certificate", "roots", "--cert", "old.chain"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.out.starts_with("no: "), "{outcome:?}");
}

#[test]
fn the_hash_of_a_whole_certificate_is_reported() {
    let (records, pki) = site();
    let der = pki.path("old.der");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let pem = pki.path("old.pem");
    openssl(&["x509", "-in", &path(&pem), "-outform", "der", "-out", &path(&der)]);
    let hash = pki.path("hash");
    openssl(&["dgst", "-sha256", "-binary", "-out", &path(&hash), &path(&der)]);
    let base64 = openssl(&["base64", "-in", &path(&hash)]);
    let whole = pin(String::from_utf8(base64).expect("base64").trim());
    let add = ["add", HOST, "--pin", &whole, "--origin", "app 1", "--cert", "old.pem"];
    records.run(&add).failed(1, "the SHA-256 of the whole certificate of CN=www.example.com");
    assert_eq!(records.lines(), [] as [Value; 0]);
    app(&records, HOST, &[&whole], &[]);
    let outcome = why(&records, &["--cert", "old.der", "--chain", "ca.pem"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.out.contains(&format!("{whole} is the hash of a whole certificate")));
    let outcome = why(&records, &["--cert", "old.der", "--chain", "ca.pem", "--json"]);
    assert_eq!(outcome.json()["certificate_hashes"], json!([whole]));
}

#[test]
fn records_of_several_directories_count_together() {
    let (records, pki) = site();
    let here = records.0.path();
    let run = |arguments: &[&str]| crate::run(here, &[&["published"], arguments].concat());
    run(&["init", "releases"]).fine();
    let old = pin(&pki.pin("old.pem"));
    let add = ["-d", "releases", "--json", "add", HOST, "--pin", &old, "--origin", "app 1"];
    let record = run(&add).json()["recorded"][0].clone();
    let both = ["-d", "records", "-d", "releases"];
    let why = [&both[..], &["why", HOST, "--cert", "new.chain"]].concat();
    assert_eq!(run(&why).code, Some(1));
    assert_eq!(run(&["-d", "records", "why", HOST, "--cert", "new.chain"]).code, Some(0));
    // A record of the second directory is ended in the first.
    let end = [&both[..], &["end", id(&record), "--why", "gone"]].concat();
    run(&end).fine();
    assert_eq!(records.lines().len(), 1);
    assert_eq!(run(&why).code, Some(0));
    assert!(run(&[&both[..], &["verify"]].concat()).fine().starts_with("records, releases: 1 "));
}

#[test]
fn files_without_certificates_are_errors() {
    let (records, pki) = site();
    pki.sign_as("twin", "old", "/CN=x", "ca", &leaf_extensions(HOST));
    pki.write("cut", &pki.read("old.pem")[..300]);
    let old = pki.path("old.pem");
    let der = openssl(&["x509", "-in", old.to_str().expect("a path"), "-outform", "der"]);
    pki.write("two.der", [&der[..], &[0; 4]].concat());
    for (arguments, code, text) in [
        (&["--cert", "missing"][..], 3, "missing: no such file"),
        (&["--cert", "old.key"], 1, "old.key: contains no certificate"),
        (&["--cert", "cut"], 1, "cut: certificate 1: truncated PEM block"),
        (&["--cert", "two.der"], 1, "two.der: certificate 2: 4 bytes follow the first one"),
        (&["--cert", "old.pem", "--chain", "old.csr"], 1, "old.csr: contains no certificate"),
        (&["--chain", "ca.pem"], 2, "--cert"),
    ] {
        let outcome = records.run(&[&["why", HOST], arguments].concat());
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(code), ""), "{outcome:?}");
        assert!(outcome.err.contains(text), "{outcome:?}");
    }
    let trust = ["why", HOST, "--cert", "old.pem", "--trusted-certificate"];
    records
        .run(&[&trust[..], &["missing"]].concat())
        .failed(3, "cannot use the trusted certificates in \"missing\"");
    let many: Vec<&str> = std::iter::repeat_n("ca.pem", 256).collect();
    pki.bundle("long", &many);
    let long = ["why", HOST, "--cert", "old.pem", "--chain", "long"];
    records.run(&long).failed(1, "old.pem: more than 256 certificates in the chain");
}
