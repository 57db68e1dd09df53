//! `hpkp pin`, against openssl's pins and real servers.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hpkp_tests::free_port;
use hpkp_tests::nginx::{Module, Nginx, tls_server, wait};
use hpkp_tests::pki::{ED25519, KINDS, Pki, RSA, leaf_extensions, openssl, pki};
use serde_json::Value;

use crate::{Outcome, run, run_with};

/// The first word of each line.
fn pins(out: &str) -> Vec<&str> {
    out.lines().filter_map(|line| line.split(' ').next()).collect()
}

fn pinned(pki: &Pki, files: &[&str]) -> Vec<String> {
    files.iter().map(|file| format!("sha256/{}", pki.pin(file))).collect()
}

#[test]
fn every_kind_of_key_has_the_pin_that_openssl_computes() {
    let (dir, pki) = pki();
    for (name, kind) in KINDS {
        pki.key(name, kind);
        pki.request(name, "/CN=x");
        pki.self_signed(name, "/CN=x", &[]);
        let certificate = pki.path(&format!("{name}.pem"));
        let der = pki.path(&format!("{name}.der"));
        let [certificate, der] = [&certificate, &der].map(|path| path.to_str().expect("UTF-8"));
        openssl(&["x509", "-in", certificate, "-outform", "der", "-out", der]);
        let public = openssl(&["x509", "-in", certificate, "-pubkey", "-noout"]);
        pki.write(&format!("{name}.pub"), public);
        let expected = format!("sha256/{}", pki.pin(&format!("{name}.key")));
        for extension in ["pem", "csr", "der", "pub"] {
            let outcome = run(dir.path(), &["pin", &format!("{name}.{extension}")]);
            assert_eq!(pins(&outcome.fine()), [&expected], "{name}.{extension}");
        }
    }
}

#[test]
fn a_bundle_is_listed_key_by_key() {
    let (dir, pki) = pki();
    pki.ca("ca");
    pki.intermediate("middle", "ca");
    pki.leaf("leaf", "www.example.com", "middle");
    pki.request("leaf", "/CN=next");
    pki.bundle("all.pem", &["leaf.pem", "leaf.csr", "middle.pem", "ca.pem"]);
    let files = ["leaf.pem", "leaf.csr", "middle.pem", "ca.pem"];

    let out = run(dir.path(), &["pin", "all.pem"]).fine();
    assert_eq!(pins(&out), pinned(&pki, &files));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].contains("  certificate CN=www.example.com, issued by CN=middle, expires 2"));
    assert!(lines[1].ends_with("  certificate signing request"));
    assert!(lines[2].contains("CN=middle, issued by CN=ca"));
    assert!(lines[3].contains("CN=ca, self-issued"));

    let outcome = run_with(&pki.read("all.pem"), &["pin", "-", "--json"]);
    let json = outcome.json();
    let source = &json["sources"][0];
    assert_eq!((&source["source"], &source["kind"]), (&"-".into(), &"standard-input".into()));
    let keys = source["chains"][0].as_array().expect("keys");
    let found: Vec<&str> = keys.iter().filter_map(|key| key["pin"].as_str()).collect();
    assert_eq!(found, pinned(&pki, &files));
    assert_eq!(keys[0]["found_in"], "certificate");
    assert_eq!(keys[0]["subject"], "CN=www.example.com");
    assert_eq!(keys[0]["issuer"], "CN=middle");
    assert_eq!(keys[1]["found_in"], "certificate signing request");
    assert_eq!(keys[1]["subject"], Value::Null);
    // openssl prints the same date.
    let certificate = pki.path("leaf.pem");
    let arguments = ["x509", "-enddate", "-dateopt", "iso_8601", "-noout", "-in"];
    let certificate = certificate.to_str().expect("UTF-8");
    let end = String::from_utf8(openssl(&[&arguments[..], &[certificate]].concat())).expect("text");
    let end = end.trim().trim_start_matches("notAfter=").replace(' ', "T");
    assert_eq!(keys[0]["not_after"], end);
}

#[test]
fn a_source_without_a_pin_is_reported_beside_the_pins_of_others() {
    let (dir, pki) = pki();
    pki.ca("ca");
    let ca = pinned(&pki, &["ca.pem"]);
    pki.write("empty", "");
    pki.write("large", vec![b'\n'; (1 << 20) + 1]);
    for (file, code, text) in [
        ("ca.key", 1, "private key"),
        ("empty", 1, "empty"),
        ("large", 1, "larger than 1 MiB"),
        ("missing", 3, "no such file"),
        (".", 3, "directory"),
    ] {
        let outcome = run(dir.path(), &["pin", file, "ca.pem"]);
        outcome.failed(code, &format!("{file}: "));
        outcome.failed(code, text);
        assert_eq!(pins(&outcome.out), ca, "{file}");
        let outcome = run(dir.path(), &["pin", "--json", file]);
        let json = outcome.json();
        assert_eq!(json["sources"][0]["chains"], Value::Array(vec![]), "{file}");
        assert!(json["sources"][0]["errors"][0].as_str().is_some_and(|error| error.contains(text)));
    }
    // The exit code of invalid input, 1, takes precedence over that of an unreadable file, 3.
    run(dir.path(), &["pin", "missing", "ca.key"]).failed(1, "missing: ");
    let key = String::from_utf8(pki.read("ca.key")).expect("PEM");
    let outcome = run_with(key.as_bytes(), &["pin", "-"]);
    outcome.failed(1, "private key");
    assert_eq!(outcome.out, "");
    run_with(&vec![b'\n'; 2 << 20], &["pin", "-"]).failed(1, "larger");
}

/// nginx with a CA, an intermediate and a certificate `live` for localhost.
fn nginx() -> (Nginx, Pki) {
    let nginx = Nginx::with_module(Module::None);
    let pki = nginx.pki();
    pki.ca("ca");
    pki.intermediate("middle", "ca");
    pki.leaf("live", "localhost", "middle");
    pki.bundle("chain.pem", &["live.pem", "middle.pem"]);
    std::fs::copy(pki.path("live.key"), pki.path("chain.key")).expect("a copy");
    (nginx, pki)
}

fn pin(arguments: &[&str]) -> Outcome {
    run(Path::new("/"), &[&["pin"], arguments].concat())
}

#[test]
fn the_chain_of_a_server_is_printed_as_sent() {
    let (mut nginx, pki) = nginx();
    let port = free_port();
    nginx.configure(&tls_server(port, "localhost", "chain", ""));
    nginx.start();
    let address = format!("localhost:{port}");
    let out = pin(&[&address]).fine();
    assert_eq!(pins(&out), pinned(&pki, &["live.pem", "middle.pem"]));
    assert!(out.starts_with(&format!(
        "sha256/{}  certificate CN=localhost, issued by",
        pki.pin("live.key")
    )));
    let json = pin(&["--json", &address]).json();
    assert_eq!(json["sources"][0]["kind"], "server");
    assert_eq!(json["sources"][0]["chains"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_server_s_chains_of_each_kind_of_key_are_read() {
    let (mut nginx, pki) = nginx();
    for (name, kind) in [("rsa", RSA), ("ed", ED25519)] {
        pki.key(name, kind);
        pki.sign(name, "/CN=localhost", "ca", &leaf_extensions("localhost"));
    }
    let port = free_port();
    let more = |name| format!("ssl_certificate {name}.pem; ssl_certificate_key {name}.key;");
    let more = [more("rsa"), more("ed"), "ssl_protocols TLSv1.2 TLSv1.3;".to_owned()].concat();
    nginx.configure(&tls_server(port, "localhost", "chain", &more));
    nginx.start();
    let out = pin(&[&format!("127.0.0.1:{port}")]).fine();
    let mut found = pins(&out);
    found.sort_unstable();
    let mut expected = pinned(&pki, &["live.pem", "middle.pem", "rsa.pem", "ed.pem"]);
    expected.sort_unstable();
    assert_eq!(found, expected, "{out}");
    for chain in 1..=3 {
        assert!(out.contains(&format!("(127.0.0.1:{port}, chain {chain})")), "{out}");
    }
}

#[test]
fn servername_chooses_the_certificate() {
    let (mut nginx, pki) = nginx();
    pki.leaf("other", "other.example.com", "ca");
    let port = free_port();
    let servers = [
        tls_server(port, "localhost", "chain", ""),
        tls_server(port, "other.example.com", "other", ""),
    ];
    nginx.configure(&servers.concat());
    nginx.start();
    let address = format!("localhost:{port}");
    let out = pin(&[&address, "--servername", "Other.Example.com"]).fine();
    assert_eq!(pins(&out), pinned(&pki, &["other.pem"]));
    assert_eq!(pins(&pin(&[&address]).fine()), pinned(&pki, &["live.pem", "middle.pem"]));
}

/// `openssl s_server`, which ends with the test.
struct Server(Child);

impl Server {
    fn start(pki: &Pki, port: u16, arguments: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        let accept = format!("127.0.0.1:{port}");
        command.args(["s_server", "-quiet", "-accept", &accept, "-cert"]).arg(pki.path("live.pem"));
        command.arg("-key").arg(pki.path("live.key")).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(command.spawn().expect("openssl"));
        let up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        assert!(wait(up), "openssl s_server did not start");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn keys_are_read_from_servers_with_old_tls_or_client_certificates() {
    let (_dir, pki) = pki();
    pki.ca("ca");
    pki.leaf("live", "localhost", "ca");
    let old = ["-tls1", "-cipher", "ALL:@SECLEVEL=0"];
    let client_certificate = ["-tls1_2", "-Verify", "1"];
    for arguments in [&old[..], &client_certificate] {
        let port = free_port();
        let _server = Server::start(&pki, port, arguments);
        let out = pin(&[&format!("127.0.0.1:{port}")]).fine();
        assert_eq!(pins(&out), pinned(&pki, &["live.pem"]), "{arguments:?}");
    }
}

#[test]
fn an_unreachable_or_silent_server_exits_with_3() {
    // Accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let silent = silent.local_addr().expect("an address").to_string();
    let start = Instant::now();
    let outcome = pin(&["--timeout", "1", &silent]);
    outcome.failed(3, &format!("{silent}: no answer within the time limit"));
    // Without its time limit the command would wait for ever, so even a slow run on a busy machine shows the limit.
    assert!(start.elapsed() < Duration::from_secs(180));
    assert_eq!(outcome.out, "");

    pin(&[&format!("127.0.0.1:{}", free_port())]).failed(3, "cannot connect: connection refused");

    let mut nginx = Nginx::with_module(Module::None);
    let port = free_port();
    nginx.configure(&format!("server {{ listen 127.0.0.1:{port}; }}"));
    nginx.start();
    pin(&[&format!("127.0.0.1:{port}")]).failed(3, "the server does not speak TLS on this port");
}

#[test]
fn a_file_that_looks_like_an_address_is_a_file() {
    let (dir, pki) = pki();
    pki.ca("ca");
    std::fs::copy(pki.path("ca.pem"), pki.path("localhost:443")).expect("a copy");
    assert_eq!(pins(&run(dir.path(), &["pin", "localhost:443"]).fine()), pinned(&pki, &["ca.pem"]));
}
