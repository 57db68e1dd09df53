//! Pins as curl and wget2 use them against `openssl s_server`: the command must record the same pins.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hpkp_cli::import::format::Format;
use hpkp_cli::import::{Certificates, Imported, Scope};
use hpkp_core::pin::Pin;
use hpkp_tests::client::Wget2;
use hpkp_tests::pki::Pki;

use crate::records::Records;

pub(crate) const HOST: &str = "www.example.com";

/// `openssl s_server`, which ends with the test.
pub(crate) struct Server(Child, pub(crate) u16);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Sends `leaf`, followed by the certificates of the file `chain`.
    pub(crate) fn start(pki: &Pki, chain: &str) -> Self {
        Self::answering(pki, chain, "-www")
    }

    /// The same with `kind`, the option for responses: `-www`, or `-HTTP` for whole responses in files of `pki`.
    fn answering(pki: &Pki, chain: &str, kind: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", kind, "-accept", &format!("127.0.0.1:{port}")])
            .current_dir(pki.path("."))
            .arg("-cert")
            .arg(pki.path("leaf.pem"))
            .arg("-key")
            .arg(pki.path("leaf.key"))
            .arg("-cert_chain")
            .arg(pki.path(chain))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let server = Self(child, port);
        let begun = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed().as_secs() < 30, "the server does not start");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        server
    }
}

/// A root, an intermediate and a leaf for [`HOST`].
pub(crate) fn chain(directory: &Path) -> Pki {
    let pki = Pki::new(directory);
    pki.ca("root");
    pki.intermediate("inter", "root");
    pki.leaf("leaf", HOST, "inter");
    pki
}

fn of_key(pki: &Pki, name: &str) -> Pin {
    pki.pin(&format!("{name}.pem")).parse().expect("a pin")
}

/// The pins that an import records for a scope.
fn recorded(imported: &Imported, scope: Scope) -> Vec<Pin> {
    let sets = imported.sets.iter().filter(|set| set.scope == scope);
    sets.flat_map(|set| set.pins.clone()).collect()
}

#[test]
fn pins_of_curl_are_read_as_curl_reads_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = chain(directory.path());
    let server = Server::start(&pki, "inter.pem");
    let leaf = of_key(&pki, "leaf");
    let (right, wrong) = (leaf.to_string(), Pin::from_bytes([7; 32]).to_string());
    let unpadded = right.trim_end_matches('=');
    for value in [
        format!("sha256//{right}"),
        format!("sha256//{wrong}"),
        format!("sha256//{wrong};sha256//{right}"),
        format!("sha256//{right};sha256//{wrong}"),
        format!("sha256//{wrong}; sha256//{right}"),
        format!("sha256//{right}; sha256//{wrong}"),
        format!("sha256//{wrong};sha256//{right};"),
        format!("sha256//{unpadded};sha256//{wrong}"),
        format!("sha256//{unpadded}"),
        format!("sha256//{}", of_key(&pki, "inter")),
    ] {
        let url = format!("https://{HOST}:{}/", server.1);
        let ran = Command::new("curl")
            .args([
                "-sS",
                "-o",
                "/dev/null",
                "--noproxy",
                "*",
                "--pinnedpubkey",
                &value,
                "--cacert",
            ])
            .arg(pki.path("root.pem"))
            .args(["--resolve", &format!("{HOST}:{}:127.0.0.1", server.1), &url])
            .output()
            .expect("curl");
        let accepted = match ran.status.code() {
            Some(0) => true,
            Some(90) => false,
            other => panic!("{value}: {other:?} {}", String::from_utf8_lossy(&ran.stderr)),
        };
        let text = format!("curl --pinnedpubkey '{value}' {url}\n");
        let read = Format::Curl.read(text.as_bytes(), &Certificates::default());
        let binds_right =
            read.as_ref().is_ok_and(|read| recorded(read, Scope::Leaf).contains(&leaf));
        // Before curl 8.18, text after a pin other than the next pin makes that pin invalid, so the outcome depends
        // on the version. The import records such pins only if the value has no other pin.
        let spoilt = value.ends_with(';') || value.starts_with(&format!("sha256//{right}; "));
        if !spoilt {
            assert_eq!(accepted, binds_right, "{value}: {read:?}");
        }
        if read.is_err() {
            assert!(!accepted, "{value}: {read:?}");
        }
    }
}

/// wget2 has no option for pins; it stores those of a header.
#[test]
fn headers_are_recorded_as_wget2_reads_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = Pki::new(directory.path());
    pki.ca("root");
    pki.intermediate("inter", "root");
    pki.leaf("leaf", "localhost", "inter");
    let server = Server::answering(&pki, "inter.pem", "-HTTP");
    let (leaf, backup) = (of_key(&pki, "leaf"), Pin::from_bytes([7; 32]));
    let mut noted = 0;
    for value in [
        format!("pin-sha256=\"{leaf}\"; pin-sha256=\"{backup}\"; max-age=1000"),
        format!("max-age=1000;pin-sha256=\"{backup}\";pin-sha256=\"{leaf}\";includeSubDomains"),
        format!("PIN-SHA256=\"{leaf}\" ; pin-SHA256=\"{backup}\" ; Max-Age=\"1000\""),
        format!("pin-sha256={leaf}; pin-sha256={backup}; max-age=1000"),
        format!("pin-sha256=\"{leaf}\"; max-age=1000"),
        format!("pin-sha256=\"{leaf}\"; pin-sha256=\"{backup}\""),
        format!("pin-sha256=\"{leaf}\"; pin-sha256=\"{backup}\"; max-age=0"),
        format!("pin-sha1=\"x\"; pin-sha256=\"{leaf}\"; pin-sha256=\"{backup}\"; max-age=9; x=y"),
    ] {
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nPublic-Key-Pins: {value}\r\n\r\nok"
        );
        pki.write("page", response);
        let store = tempfile::tempdir().expect("a directory");
        let client = Wget2::new(&pki.path("root.pem"), store.path().join("store"));
        assert_eq!(client.get(&format!("https://localhost:{}/page", server.1)), Some(0), "{value}");
        let mut held = client.pins();
        held.sort();
        let records = Records::new();
        let outcome = records.run(&["--json", "add", "www.example.com", "--header", &value]);
        let mut recorded: Vec<String> = match outcome.code {
            Some(0) => {
                let pins = outcome.json()["recorded"][0]["pins"].as_array().expect("pins").clone();
                let base64 = |pin: &serde_json::Value| {
                    pin.as_str().expect("a pin").trim_start_matches("sha256/").to_owned()
                };
                pins.iter().map(base64).collect()
            }
            _ => Vec::new(),
        };
        recorded.sort();
        // Other clients may note headers that wget2 does not. A refused value must have a message: from values
        // without quotation marks wget2 stores only the beginnings of pins.
        let is_named = outcome.code == Some(1) && !outcome.err.is_empty();
        assert!(held.is_empty() || held == recorded || is_named, "{value}: {held:?} {outcome:?}");
        noted += usize::from(!held.is_empty());
    }
    assert!(noted >= 3, "{noted}");
}
