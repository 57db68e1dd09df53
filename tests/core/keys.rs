//! Pins of keys in files of every format, compared with the pins that the openssl command computes.

use hpkp_core::certificate::Certificate;
use hpkp_core::pem;
use hpkp_core::pin::Pin;
use hpkp_core::spki::{self, Kind, SpkiError};
use hpkp_tests::pki::{KINDS, P256, RSA, openssl, pki};

/// The keys of a file, as pairs of the kind of object and the pin's text.
fn read(file: &[u8]) -> Result<Vec<(Kind, String)>, SpkiError> {
    spki::read(file).map(|keys| keys.iter().map(|k| (k.kind, k.pin.to_string())).collect())
}

#[test]
fn every_kind_of_key_in_every_form() {
    let (_dir, pki) = pki();
    for (name, kind) in KINDS {
        pki.key(name, kind);
        pki.request(name, "/CN=x");
        pki.self_signed(name, "/CN=x", &[]);
        let file = |extension: &str| {
            let path = pki.path(&format!("{name}.{extension}"));
            path.to_str().expect("a path in UTF-8").to_owned()
        };
        openssl(&["pkey", "-in", &file("key"), "-pubout", "-out", &file("pub")]);
        let expected = pki.pin(&format!("{name}.key"));
        for (command, input, extension, kind) in [
            ("x509", "pem", "x", Kind::Certificate),
            ("req", "csr", "y", Kind::Request),
            ("pkey", "pub", "z", Kind::PublicKey),
        ] {
            let public: &[&str] = if command == "pkey" { &["-pubin"] } else { &[] };
            let (input, output) = (file(input), file(extension));
            openssl(
                &[&[command, "-in", &input, "-outform", "der", "-out", &output], public].concat(),
            );
            let pem = std::fs::read(&input).expect("a file");
            let der = std::fs::read(&output).expect("a file");
            let found = Ok(vec![(kind, expected.clone())]);
            assert_eq!(read(&pem), found, "{name} {kind} in PEM");
            assert_eq!(read(&der), found, "{name} {kind} in DER");
            // With the line ends of another system, and with text around the PEM block.
            let crlf = String::from_utf8_lossy(&pem).replace('\n', "\r\n");
            assert_eq!(read(crlf.as_bytes()), found);
            let commented = format!("subject=x\n\n{crlf}\nand so on");
            assert_eq!(read(commented.as_bytes()), found);
            // A file that is cut off at any byte gives an error, not another pin or a panic.
            for cut in 0..der.len() {
                assert!(read(&der[..cut]).is_err(), "{name} {kind} cut at {cut}");
            }
            let trailing = read(&[&der[..], b"\0"].concat());
            assert_eq!(trailing, Err(SpkiError::TrailingBytes { kind, count: 1 }));
        }
        let private = std::fs::read(file("key")).expect("a file");
        assert_eq!(read(&private), Err(SpkiError::PrivateKey), "{name}");
        openssl(&["pkey", "-in", &file("key"), "-outform", "der", "-out", &file("k")]);
        let private = std::fs::read(file("k")).expect("a file");
        assert_eq!(read(&private), Err(SpkiError::PrivateKey), "{name} in DER");
    }
}

#[test]
fn several_objects_in_one_file() {
    let (_dir, pki) = pki();
    pki.ca("ca");
    pki.leaf("leaf", "localhost", "ca");
    pki.key("next", P256);
    pki.request("next", "/CN=next");
    let parameters = openssl(&["ecparam", "-name", "prime256v1"]);
    pki.write("parameters", parameters);
    pki.bundle("all", &["parameters", "leaf.pem", "ca.pem", "next.csr"]);
    assert_eq!(
        read(&pki.read("all")),
        Ok(vec![
            (Kind::Certificate, pki.pin("leaf.pem")),
            (Kind::Certificate, pki.pin("ca.pem")),
            (Kind::Request, pki.pin("next.csr")),
        ])
    );
    assert_eq!(
        read(&pki.read("parameters")),
        Err(SpkiError::NoKey { label: "EC PARAMETERS".into() })
    );
    pki.bundle("with-key", &["leaf.pem", "next.key"]);
    assert_eq!(read(&pki.read("with-key")), Err(SpkiError::PrivateKey));
}

#[test]
fn openssl_s_other_labels() {
    let (_dir, pki) = pki();
    pki.ca("ca");
    let (pin, path) = (pki.pin("ca.pem"), pki.path("ca.pem"));
    let path = path.to_str().expect("a path in UTF-8");
    // OpenSSL's own format: the certificate followed by its trust settings.
    let trusted = openssl(&["x509", "-in", path, "-trustout", "-addtrust", "serverAuth"]);
    assert!(trusted.starts_with(b"-----BEGIN TRUSTED CERTIFICATE-----"));
    assert_eq!(read(&trusted), Ok(vec![(Kind::Certificate, pin.clone())]));
    let block = pem::blocks(&trusted).next().expect("a block").expect("whole");
    let certificate = Certificate::from_der(&block.decode().expect("base64")).expect("parsed");
    assert_eq!(certificate.pin().map(|pin| pin.to_string()), Some(pin.clone()));

    let old = String::from_utf8(pki.read("ca.pem")).expect("PEM");
    let old = old.replace("CERTIFICATE", "X509 CERTIFICATE");
    assert_eq!(read(old.as_bytes()), Ok(vec![(Kind::Certificate, pin)]));
}

#[test]
fn a_pin_is_the_hash_of_the_key_s_bytes() {
    let (_dir, pki) = pki();
    pki.key("key", RSA);
    let der = openssl(&[
        "pkey",
        "-in",
        pki.path("key.key").to_str().expect("UTF-8"),
        "-pubout",
        "-outform",
        "der",
    ]);
    assert_eq!(Pin::of_spki(&der).to_string(), pki.pin("key.key"));
    assert_eq!(Pin::of_spki(b""), Pin::OF_NOTHING);
}
