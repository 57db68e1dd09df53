//! `hpkp find`: keys in every form, and directories with odd files.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::process::Command;

use hpkp_tests::pki::{ED448, ED25519, P256, P521, Pki, RSA, RSA_PSS, openssl, pki};
use hpkp_tests::succeed;

use crate::run;

/// The pin of a file's key. Removes openssl's temporary files, because `hpkp find` would find them.
fn pin_of(pki: &Pki, file: &str) -> String {
    let pin = pki.pin(file);
    for left in ["pin.pub.tmp", "pin.der.tmp", "pin.hash.tmp"] {
        std::fs::remove_file(pki.path(left)).expect("a file");
    }
    pin
}

fn lines(out: &str) -> BTreeSet<&str> {
    out.lines().collect()
}

/// Runs openssl in the directory of `pki`.
fn openssl_in(pki: &Pki, arguments: &[&str]) {
    succeed(Command::new("openssl").current_dir(pki.path("")).args(arguments));
}

#[test]
fn keys_of_every_kind_and_form_are_found() {
    let (dir, pki) = pki();
    for (name, kind) in [
        ("rsa", RSA),
        ("rsa-pss", RSA_PSS),
        ("p256", P256),
        ("p521", P521),
        ("ed25519", ED25519),
        ("ed448", ED448),
    ] {
        let key = format!("{name}.key");
        pki.key(name, kind);
        let pin = format!("sha256/{}", pin_of(&pki, &key));
        openssl_in(
            &pki,
            &["pkcs8", "-topk8", "-nocrypt", "-in", &key, "-outform", "der", "-out", "k8"],
        );
        let mut expected = vec![format!("private key: ./{key}"), "private key: ./k8".to_owned()];
        if matches!(name, "rsa" | "p256" | "p521") {
            for (form, file) in [("pem", "old.pem"), ("der", "old.der")] {
                let arguments =
                    ["pkey", "-in", &key, "-traditional", "-outform", form, "-out", file];
                openssl_in(&pki, &arguments);
                expected.push(format!("private key: ./{file}"));
            }
        }
        let out = run(dir.path(), &["find", &pin]).fine();
        assert_eq!(lines(&out), expected.iter().map(String::as_str).collect(), "{name}");
    }
}

#[test]
fn all_files_with_the_key_of_a_certificate_are_found() {
    let (dir, pki) = pki();
    pki.ca("ca");
    pki.leaf("leaf", "localhost", "ca");
    pki.leaf("other", "localhost", "ca");
    std::fs::create_dir(pki.path("sub")).expect("a directory");
    std::fs::rename(pki.path("leaf.key"), pki.path("sub/k")).expect("moved");
    pki.bundle("haproxy.pem", &["leaf.pem", "ca.pem", "sub/k"]);
    let certificate = pki.path("leaf.pem");
    let public =
        openssl(&["x509", "-in", certificate.to_str().expect("UTF-8"), "-pubkey", "-noout"]);
    pki.write("public", public);
    pki.bundle("chain.pem", &["leaf.pem", "ca.pem"]);
    let all = [
        "private key: ./sub/k",
        "private key: ./haproxy.pem",
        "certificate: ./haproxy.pem",
        "certificate: ./leaf.pem",
        "certificate: ./chain.pem",
        "certificate signing request: ./leaf.csr",
        "public key: ./public",
    ];
    let expected: BTreeSet<&str> = all.into_iter().collect();
    // In a bundle the first key counts. The argument may also be a private key.
    for wanted in ["leaf.pem", "leaf.csr", "public", "chain.pem", "sub/k", "haproxy.pem"] {
        let out = run(dir.path(), &["find", wanted]).fine();
        assert_eq!(lines(&out), expected, "{wanted}");
        assert_eq!(out.lines().count(), expected.len());
    }
    let pin = format!("sha256/{}", pin_of(&pki, "leaf.pem"));
    let outcome = run(dir.path(), &["find", "--json", &pin, "sub"]);
    let json = outcome.json();
    assert_eq!(json["pin"], pin);
    assert_eq!(json["found"], serde_json::json!([{"path": "sub/k", "holds": "private-key"}]));
    assert_eq!(json["not_looked_into"], serde_json::json!([]));

    // The command searches for a private key, so certificates alone are a failure.
    std::fs::remove_file(pki.path("sub/k")).expect("removed");
    std::fs::remove_file(pki.path("haproxy.pem")).expect("removed");
    let outcome = run(dir.path(), &["find", &pin]);
    let next = format!("to search the whole machine: hpkp find {pin} /");
    outcome.failed(1, &next);
    assert!(outcome.err.contains(&format!("no private key found for {pin} in . (")), "{outcome:?}");
    assert!(outcome.out.contains("certificate: ./leaf.pem"));
}

#[test]
fn an_encrypted_key_leaves_the_answer_open() {
    let (dir, pki) = pki();
    pki.key("key", P256);
    pki.request("key", "/CN=x");
    pki.self_signed("key", "/CN=x", &[]);
    let pin = pin_of(&pki, "key.key");
    let secret = ["-passout", "pass:secret"];
    for (file, arguments) in [
        ("new.pem", &["pkcs8", "-topk8", "-in", "key.key", "-out", "new.pem"][..]),
        ("new.der", &["pkcs8", "-topk8", "-in", "key.key", "-outform", "der", "-out", "new.der"]),
        ("old.pem", &["pkey", "-in", "key.key", "-traditional", "-aes128", "-out", "old.pem"]),
        (
            "store.p12",
            &["pkcs12", "-export", "-inkey", "key.key", "-in", "key.pem", "-out", "store.p12"],
        ),
    ] {
        openssl_in(&pki, &[arguments, &secret].concat());
        std::fs::create_dir_all(pki.path("only")).expect("a directory");
        std::fs::rename(pki.path(file), pki.path("only").join(file)).expect("moved");
        let outcome = run(dir.path(), &["find", &pin, "only"]);
        outcome.failed(3, &format!("only/{file}: the private key is encrypted"));
        assert_eq!(outcome.out, "");
        let json = run(dir.path(), &["find", "--json", &pin, "only"]).json();
        assert_eq!(json["not_looked_into"][0]["path"], format!("only/{file}"));
        // If the key is found elsewhere, the encrypted file does not leave the answer open.
        let outcome = run(dir.path(), &["find", &pin]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.err.contains("encrypted"), "{outcome:?}");
        std::fs::remove_dir_all(pki.path("only")).expect("removed");
    }
}

#[test]
fn odd_files_do_not_stop_a_search() {
    let (dir, pki) = pki();
    pki.key("key", P256);
    pki.key("other", P256);
    let pin = pin_of(&pki, "key.key");
    std::fs::create_dir(pki.path("live")).expect("a directory");
    symlink("../key.key", pki.path("live/privkey.pem")).expect("a link");
    // Links to the parent directory, to itself, to a missing file and to the root directory.
    symlink("..", pki.path("live/up")).expect("a link");
    symlink("self", pki.path("live/self")).expect("a link");
    symlink("nowhere", pki.path("live/dangling")).expect("a link");
    symlink("/", pki.path("live/root")).expect("a link");
    succeed(Command::new("mkfifo").arg(pki.path("live/fifo")));
    let _socket =
        std::os::unix::net::UnixListener::bind(pki.path("live/socket")).expect("a socket");
    // Larger than any file with a key.
    let huge = std::fs::File::create(pki.path("live/huge")).expect("a file");
    huge.set_len(1 << 40).expect("a hole");
    pki.write("live/binary", [0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x02, 0x01]);
    pki.write("live/damaged", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    pki.write("live/torn", "-----BEGIN PRIVATE KEY-----\nMIG");
    pki.write(
        "live/ssh",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    );
    let outcome = run(dir.path(), &["find", &pin]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.out, "private key: ./key.key\nprivate key: ./live/privkey.pem\n");
    assert_eq!(outcome.err, "hpkp: ./live/damaged: cannot read the private key\n");
    // No part of a key is printed.
    let key = String::from_utf8(pki.read("key.key")).expect("PEM");
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!outcome.out.contains(line) && !outcome.err.contains(line));
    }
}

#[test]
fn the_hash_of_a_whole_certificate_is_no_pin() {
    let (dir, pki) = pki();
    pki.ca("ca");
    let hash = {
        openssl_in(&pki, &["x509", "-in", "ca.pem", "-outform", "der", "-out", "ca.der"]);
        openssl_in(&pki, &["dgst", "-sha256", "-binary", "-out", "hash", "ca.der"]);
        let hash = pki.path("hash");
        let base64 = openssl(&["base64", "-in", hash.to_str().expect("UTF-8")]);
        String::from_utf8(base64).expect("base64").trim().to_owned()
    };
    let outcome = run(dir.path(), &["find", "--json", &hash]);
    for file in ["ca.pem", "ca.der"] {
        outcome.failed(
            1,
            &format!("./{file}: the hash is that of the whole certificate in this file"),
        );
    }
    let json = outcome.json();
    assert_eq!(json["certificate_hash_of"], serde_json::json!(["./ca.der", "./ca.pem"]));
    assert_eq!(json["found"], serde_json::json!([]));
    std::fs::create_dir(pki.path("the ca")).expect("a directory");
    std::fs::copy(pki.path("ca.pem"), pki.path("the ca/ca.pem")).expect("a copy");
    let outcome = run(dir.path(), &["find", &hash, "the ca"]);
    outcome.failed(1, "the ca/ca.pem: the hash is that");
    let printed = outcome.err.split_once("for the pin: ").expect("a command").1;
    assert_eq!(printed.lines().next(), Some("hpkp pin 'the ca/ca.pem'"));
}

#[test]
fn unreadable_files_leave_the_answer_open() {
    let (dir, pki) = pki();
    pki.key("key", P256);
    let pin = pin_of(&pki, "key.key");
    run(dir.path(), &["find", &pin, "missing"]).failed(3, "missing: no such file");
    // A file in place of a directory is searched alone.
    assert_eq!(run(dir.path(), &["find", &pin, "key.key"]).fine(), "private key: key.key\n");
    let mut large = vec![b'#'; 1 << 20];
    large.push(b'\n');
    large.extend(pki.read("key.key"));
    std::fs::create_dir(pki.path("large")).expect("a directory");
    pki.write("large/key.pem", large);
    run(dir.path(), &["find", &pin, "large/key.pem"]).failed(3, "larger than 1 MiB");
    run(dir.path(), &["find", &pin, "large"]).failed(1, "no private key found");
    let mut deep = pki.path("deep");
    for _ in 0..130 {
        deep.push("d");
    }
    std::fs::create_dir_all(&deep).expect("directories");
    run(dir.path(), &["find", &pin, "deep"]).failed(3, "more than 128 nested directories");
    // A link whose target cannot be opened, though it may exist.
    std::fs::create_dir(pki.path("links")).expect("a directory");
    symlink("x".repeat(300), pki.path("links/k")).expect("a link");
    run(dir.path(), &["find", &pin, "links"]).failed(3, "links/k: file name too long");
    let nothing = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    run(dir.path(), &["find", nothing]).failed(1, "the SHA-256 hash of empty input");
}
