//! `hpkp acme doctor`: which ACME client will make a new key. tests/acme has directories of real clients.

use std::fs;

use hpkp_tests::pki::{P256, Pki, leaf_extensions};
use serde_json::Value;

use crate::records::{Records, pin};
use crate::{Outcome, run};

const HOST: &str = "www.example.com";

struct Machine {
    records: Records,
    pki: Pki,
}

impl Machine {
    /// A pinned certificate `live.chain` with `live.key`, and another key `next.key`.
    fn new() -> Self {
        let records = Records::new();
        let pki = Pki::new(records.0.path());
        pki.ca("root");
        pki.key("live", P256);
        pki.key("next", P256);
        pki.sign("live", &format!("/CN={HOST}"), "root", &leaf_extensions(HOST));
        pki.bundle("live.chain", &["live.pem", "root.pem"]);
        let live = pin(&pki.pin("live.pem"));
        records.recorded(&["add", HOST, "--origin", "app 1", "--pin", &live]);
        Self { records, pki }
    }

    /// Writes a client's files: copies of files of the PKI, and files with a text.
    fn lay(&self, copies: &[(&str, &str)], files: &[(&str, &str)]) {
        for (from, to) in copies {
            self.write(to, &self.pki.read(from));
        }
        for (to, text) in files {
            self.write(to, text.as_bytes());
        }
    }

    fn write(&self, to: &str, bytes: &[u8]) {
        let to = self.records.0.path().join(to);
        fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        fs::write(to, bytes).expect("a file");
    }

    fn doctor(&self, directory: &str) -> Outcome {
        let all = [
            "acme",
            "doctor",
            "-d",
            "records",
            "--trusted-certificate",
            "root.pem",
            "--json",
            "--acme",
            directory,
        ];
        run(self.records.0.path(), &all)
    }

    /// The exit code, and the client, the next key and the answer of the only certificate.
    #[track_caller]
    fn diagnosis(&self, directory: &str) -> (Option<i32>, [Value; 3]) {
        let outcome = self.doctor(directory);
        let json = outcome.json();
        let all = json["certificates"].as_array().expect("certificates");
        assert_eq!(all.len(), 1, "{outcome:?}");
        assert_eq!(all[0]["answer"] == "yes", all[0]["fix"].is_null());
        (outcome.code, ["client", "next_key", "answer"].map(|name| all[0][name].clone()))
    }
}

fn diagnosis(code: i32, client: &str, key: &str, answer: &str) -> (Option<i32>, [Value; 3]) {
    (Some(code), [client, key, answer].map(Into::into))
}

#[test]
fn doctor_names_certbots_next_key() {
    let machine = Machine::new();
    let live = format!("a/live/{HOST}");
    let copies = [
        ("live.chain", format!("{live}/fullchain.pem")),
        ("live.key", format!("{live}/privkey.pem")),
    ];
    let copies = copies.each_ref().map(|(from, to)| (*from, to.as_str()));
    let conf = format!("a/renewal/{HOST}.conf");
    machine.lay(&copies, &[(&conf, "version = 2\n[renewalparams]\nreuse_key = False\n")]);
    assert_eq!(machine.diagnosis("a"), diagnosis(1, "certbot", "new", "no"));
    machine.lay(&[], &[(&conf, "[renewalparams]\nreuse_key = True\n")]);
    assert_eq!(machine.diagnosis("a"), diagnosis(0, "certbot", "kept", "yes"));
    machine.lay(&[], &[(&conf, ""), ("a/cli.ini", "reuse-key = true\n")]);
    assert_eq!(machine.diagnosis("a"), diagnosis(0, "certbot", "kept", "yes"));
}

#[test]
fn doctor_names_acme_shs_next_key() {
    let machine = Machine::new();
    let folder = format!("s/{HOST}_ecc");
    let [full, key, next, conf] = [
        "fullchain.cer",
        &format!("{HOST}.key"),
        &format!("{HOST}.key.next"),
        &format!("{HOST}.conf"),
    ]
    .map(|name| format!("{folder}/{name}"));
    machine.lay(
        &[("live.chain", &full), ("live.key", &key)],
        &[("s/account.conf", ""), (&conf, "Le_Domain='x'\n")],
    );
    assert_eq!(machine.diagnosis("s"), diagnosis(0, "acme.sh", "kept", "yes"));
    machine.lay(&[], &[(&conf, "Le_ForceNewDomainKey='1'\nLe_NextRenewTime='1900000000'\n")]);
    assert_eq!(machine.diagnosis("s"), diagnosis(1, "acme.sh", "new", "no"));
    let json = machine.doctor("s").json();
    assert_eq!(json["certificates"][0]["renews"], "2030-03-17T17:46:40Z");
    machine.lay(&[("next.key", &next)], &[]);
    assert_eq!(machine.diagnosis("s"), diagnosis(1, "acme.sh", "kept", "no"));
}

#[test]
fn doctor_names_dehydrateds_next_key() {
    let machine = Machine::new();
    let folder = format!("d/certs/{HOST}");
    let [full, key, roll] =
        ["fullchain.pem", "privkey.pem", "privkey.roll.pem"].map(|name| format!("{folder}/{name}"));
    machine.lay(
        &[("live.chain", &full), ("live.key", &key)],
        &[("d/config", "#PRIVATE_KEY_RENEW=\"yes\"\n")],
    );
    assert_eq!(machine.diagnosis("d"), diagnosis(1, "dehydrated", "new", "no"));
    machine.lay(&[("next.key", &roll)], &[("d/config", "PRIVATE_KEY_ROLLOVER=\"yes\"\n")]);
    assert_eq!(machine.diagnosis("d"), diagnosis(1, "dehydrated", "kept", "no"));
    machine.lay(&[], &[(&format!("{folder}/config"), "PRIVATE_KEY_RENEW=\"no\"\n")]);
    assert_eq!(machine.diagnosis("d"), diagnosis(0, "dehydrated", "kept", "yes"));
}

#[test]
fn files_of_lego_uacme_and_mod_md_determine_the_next_key() {
    let machine = Machine::new();
    let file = format!("l/certificates/{HOST}.crt");
    machine.lay(
        &[("live.chain", &file), ("root.pem", &format!("l/certificates/{HOST}.issuer.crt"))],
        &[],
    );
    assert_eq!(machine.diagnosis("l"), diagnosis(3, "lego", "unknown", "unknown"));

    machine.lay(
        &[
            ("live.chain", &format!("u/{HOST}/cert.pem")),
            ("live.key", &format!("u/private/{HOST}/key.pem")),
        ],
        &[],
    );
    assert_eq!(machine.diagnosis("u"), diagnosis(0, "uacme", "kept", "yes"));

    machine.lay(&[("live.pem", &format!("m/domains/{HOST}/pubcert.pem"))], &[("m/accounts/x", "")]);
    assert_eq!(machine.diagnosis("m"), diagnosis(1, "mod_md", "new", "no"));

    // Without pins any key will do.
    let id = machine.records.json(&["list"])["published"][0]["id"].clone();
    machine.records.run(&["end", id.as_str().expect("an id"), "--why", "x"]).fine();
    assert_eq!(machine.diagnosis("m"), diagnosis(0, "mod_md", "new", "yes"));
}

#[test]
fn directories_that_doctor_cannot_use_are_reported() {
    let machine = Machine::new();
    fs::create_dir(machine.records.0.path().join("empty")).expect("a directory");
    let outcome = machine.doctor("empty");
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_eq!(outcome.json()["unknown"], serde_json::json!(["empty"]));
    machine.lay(&[], &[("a/renewal/x.conf", "")]);
    let outcome = machine.doctor("a");
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_eq!(outcome.json()["unread"].as_array().map(Vec::len), Some(1), "{outcome:?}");
}
