//! What curl, wget2 and OpenSSL's DANE make of pins, against a server of OpenSSL: an import says the same.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hpkp_cli::import::format::Format;
use hpkp_cli::import::{Certificates, Imported, Scope};
use hpkp_core::pin::Pin;
use hpkp_tests::pki::{Pki, openssl};

const HOST: &str = "www.example.com";

/// A server of OpenSSL, which ends with the test.
struct Server(Child, u16);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Sends `leaf` and below it the intermediate.
    fn start(pki: &Pki) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}")])
            .arg("-cert")
            .arg(pki.path("leaf.pem"))
            .arg("-key")
            .arg(pki.path("leaf.key"))
            .arg("-cert_chain")
            .arg(pki.path("inter.pem"))
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
fn chain(directory: &Path) -> Pki {
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
    let server = Server::start(&pki);
    let leaf = of_key(&pki, "leaf");
    let (right, wrong) = (leaf.to_string(), Pin::from_octets([7; 32]).to_string());
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
        // Before 8.18, what stands behind a pin and is no other one spoils it: such pins count where no
        // curl takes another.
        let spoilt = value.ends_with(';') || value.starts_with(&format!("sha256//{right}; "));
        if !spoilt {
            assert_eq!(accepted, binds_right, "{value}: {read:?}");
        }
        if read.is_err() {
            assert!(!accepted, "{value}: {read:?}");
        }
    }
}

/// The data of a TLSA record in hexadecimal digits.
fn association(pki: &Pki, name: &str, selector: u8, matching: u8) -> String {
    let file = pki.path(&format!("{name}.pem"));
    let file = file.to_str().expect("UTF-8");
    let der = match selector {
        0 => openssl(&["x509", "-in", file, "-outform", "der"]),
        _ => {
            let key = pki.write("key.pub", openssl(&["x509", "-in", file, "-pubkey", "-noout"]));
            openssl(&["pkey", "-pubin", "-in", key.to_str().expect("UTF-8"), "-outform", "der"])
        }
    };
    let der = pki.write("data.der", der);
    let der = der.to_str().expect("UTF-8");
    let data = match matching {
        0 => pki.read("data.der"),
        1 => openssl(&["dgst", "-sha256", "-binary", der]),
        _ => openssl(&["dgst", "-sha512", "-binary", der]),
    };
    data.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn records_of_dane_are_met_where_openssl_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = chain(directory.path());
    let server = Server::start(&pki);
    let mut seen = [0; 3];
    for usage in 0..4_u8 {
        for selector in 0..2_u8 {
            for matching in 0..3_u8 {
                for name in ["leaf", "inter", "root"] {
                    let data = association(&pki, name, selector, matching);
                    let record = format!("{usage} {selector} {matching} {data}");
                    let accepted = openssl_accepts(&pki, &server, &record);
                    let text = format!("_443._tcp.{HOST}. IN TLSA {record}\n");
                    let read = Format::Tlsa.read(text.as_bytes(), &Certificates::default());
                    let Ok(read) = read else {
                        // Named, and nothing is recorded: no key can be held against it.
                        assert!(selector == 0 || matching == 2, "{record}: {read:?}");
                        seen[2] += 1;
                        continue;
                    };
                    let key = |name| of_key(&pki, name);
                    let met = recorded(&read, Scope::Leaf).contains(&key("leaf"))
                        || recorded(&read, Scope::SentCa).contains(&key("inter"))
                        || recorded(&read, Scope::PathCa)
                            .iter()
                            .any(|pin| [key("inter"), key("root")].contains(pin));
                    // The whole key of an anchor that is not sent is enough for OpenSSL alone: other
                    // clients need not know it (RFC 7671 section 5.2.2), so it does not count here.
                    let of_openssl_alone = (usage, matching, name) == (2, 0, "root");
                    assert!(met == accepted || of_openssl_alone && !met, "{record}");
                    seen[usize::from(met)] += 1;
                }
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 3), "{seen:?}");
}

fn openssl_accepts(pki: &Pki, server: &Server, record: &str) -> bool {
    let ran = Command::new("openssl")
        .args(["s_client", "-brief", "-connect", &format!("127.0.0.1:{}", server.1)])
        .args(["-servername", HOST, "-dane_tlsa_domain", HOST, "-dane_tlsa_rrdata", record])
        .args(["-verify_return_error", "-no-CApath", "-no-CAstore", "-CAfile"])
        .arg(pki.path("root.pem"))
        .stdin(Stdio::null())
        .output()
        .expect("openssl");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!said.contains("unusable"), "{record}: {said}");
    ran.status.success() && said.contains("Verification: OK")
}
