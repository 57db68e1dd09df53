//! Bad input ends in a clear refusal that names file and line, never in a crash.

use std::fs;
use std::path::Path;
use std::process::Command;

use hpkp_tests::nginx::{Nginx, Said, tls_server};
use hpkp_tests::pki::{ED448, P256, RSA, leaf_extensions, openssl};
use hpkp_tests::{free_port, succeed};

use hpkp_tests::site::{A, B, prepared};

/// The line of the policy in the configurations of this file.
const POLICY: usize = Nginx::FIRST_LINE;
/// The line of the server.
const SERVER: usize = POLICY + 1;

/// What `nginx -t` says of a policy with this body, used by a server with the certificate `live`.
fn test_policy(nginx: &Nginx, body: &str) -> Said {
    nginx.configure(&format!(
        "hpkp_policy site {{ {body} }}\n{}",
        tls_server(free_port(), "localhost", "live", "hpkp site;")
    ));
    nginx.test()
}

/// A policy that is sound but for `more`, which stands in it.
fn test_with(nginx: &Nginx, more: &str) -> Said {
    let live = nginx.pki().pin("live.pem");
    test_policy(nginx, &format!("pin sha256/{live}; max_age 1d; {more}"))
}

#[test]
fn a_sound_configuration_passes_in_silence() {
    let nginx = prepared();
    test_with(&nginx, "pin file:backup.csr;").accepted(&[]);
}

#[test]
fn literals_that_are_no_pins() {
    let nginx = prepared();
    let long = "A".repeat(600);
    for (pin, code) in [
        ("\"\"", "malformed-pin"),
        ("abc123", "malformed-pin"),
        ("sha1/d6qzRu9zOECb90Uez27xWltNsj0=", "malformed-pin"),
        ("77aab346ef7338409bf7451ecf6ef15a5b4db23d1ed4c77b1a4618915a195a63", "malformed-pin"),
        ("d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM", "malformed-pin"),
        ("d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmN=", "malformed-pin"),
        ("-6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=", "malformed-pin"),
        ("“d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=”", "malformed-pin"),
        (&long, "malformed-pin"),
        ("file:", "malformed-pin"),
        ("leaf", "malformed-pin"),
        ("sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "empty-input-pin"),
    ] {
        test_with(&nginx, &format!("pin {pin};")).refused(code, POLICY);
    }
}

#[test]
fn every_spelling_of_a_literal_is_taken() {
    let nginx = prepared();
    for pin in [format!("sha256/{A}"), format!("sha256//{A}"), A.to_owned()] {
        test_with(&nginx, &format!("pin {pin};")).accepted(&[]);
    }
    test_with(&nginx, &format!("pin 'pin-sha256=\"{A}\"';")).accepted(&[]);
}

#[test]
fn files_that_no_pin_can_be_read_from() {
    let nginx = prepared();
    let pki = nginx.pki();
    fs::create_dir(pki.path("directory")).expect("a directory");
    succeed(Command::new("mkfifo").arg(pki.path("fifo")));
    pki.write("empty", "");
    pki.write("blank", "\n \n");
    pki.write("text", "this is no key");
    // Only its size is looked at, so it need not take room on the disk.
    let large = fs::File::create(pki.path("large")).expect("a file");
    large.set_len(100 << 20).expect("a sparse file");

    let live = pki.read("live.pem");
    pki.write("half.pem", &live[..live.len() / 2]);
    openssl(&[
        "x509",
        "-in",
        path(&pki.path("live.pem")),
        "-outform",
        "der",
        "-out",
        path(&pki.path("live.der")),
    ]);
    let der = pki.read("live.der");
    pki.write("half.der", &der[..der.len() / 2]);
    pki.write("trailing.der", [&der[..], b"xyz"].concat());
    pki.write("damaged.pem", String::from_utf8_lossy(&live).replace("MII", "M!I"));

    pki.bundle("both.pem", &["backup.key", "backup.csr"]);
    openssl(&[
        "pkey",
        "-in",
        path(&pki.path("backup.key")),
        "-outform",
        "der",
        "-out",
        path(&pki.path("key.der")),
    ]);
    openssl(&["ec", "-in", path(&pki.path("backup.key")), "-out", path(&pki.path("sec1.key"))]);
    openssl(&[
        "pkey",
        "-in",
        path(&pki.path("backup.key")),
        "-aes128",
        "-passout",
        "pass:x",
        "-out",
        path(&pki.path("encrypted.key")),
    ]);
    pki.key("rsa", RSA);
    openssl(&[
        "rsa",
        "-in",
        path(&pki.path("rsa.key")),
        "-RSAPublicKey_out",
        "-out",
        path(&pki.path("pkcs1.pub")),
    ]);
    openssl(&[
        "rsa",
        "-in",
        path(&pki.path("rsa.key")),
        "-traditional",
        "-out",
        path(&pki.path("pkcs1.key")),
    ]);
    pki.write("dsa.pub", DSA_WITHOUT_PARAMETERS);

    for (file, code) in [
        ("missing", "unreadable-pin-source"),
        ("directory", "unreadable-pin-source"),
        ("fifo", "unreadable-pin-source"),
        ("/dev/null", "unreadable-pin-source"),
        ("empty", "unreadable-pin-source"),
        ("blank", "unreadable-pin-source"),
        ("text", "unreadable-pin-source"),
        ("half.pem", "unreadable-pin-source"),
        ("half.der", "unreadable-pin-source"),
        ("trailing.der", "unreadable-pin-source"),
        ("damaged.pem", "unreadable-pin-source"),
        ("pkcs1.pub", "unreadable-pin-source"),
        ("large", "oversized-input"),
        ("backup.key", "private-key-as-pin-source"),
        ("both.pem", "private-key-as-pin-source"),
        ("key.der", "private-key-as-pin-source"),
        ("sec1.key", "private-key-as-pin-source"),
        ("encrypted.key", "private-key-as-pin-source"),
        ("pkcs1.key", "private-key-as-pin-source"),
        ("dsa.pub", "unpinnable-key"),
    ] {
        let said = test_with(&nginx, &format!("pin file:{file};"));
        said.refused(code, POLICY);
        assert!(said.text.contains(file), "{}", said.text);
    }
}

/// A DSA key whose parameters are those of its issuer: the algorithm identifier has none.
const DSA_WITHOUT_PARAMETERS: &str = "-----BEGIN PUBLIC KEY-----\n\
    MBMwCQYHKoZIzjgEAQMGAAIBBQEB\n-----END PUBLIC KEY-----\n";

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn files_that_hold_a_key_in_any_form() {
    let nginx = prepared();
    let pki = nginx.pki();
    for (option, form) in [("-outform", "der"), ("-outform", "pem")] {
        let out = pki.path(&format!("live.{form}.x"));
        openssl(&["x509", "-in", path(&pki.path("live.pem")), option, form, "-out", path(&out)]);
    }
    let request = pki.path("backup.csr");
    openssl(&[
        "req",
        "-in",
        path(&request),
        "-outform",
        "der",
        "-out",
        path(&pki.path("backup.csr.der")),
    ]);
    openssl(&[
        "req",
        "-in",
        path(&request),
        "-pubkey",
        "-noout",
        "-out",
        path(&pki.path("backup.pub")),
    ]);
    for file in ["backup.csr", "backup.csr.der", "backup.pub"] {
        test_with(&nginx, &format!("pin file:{file};")).accepted(&[]);
    }
    // The key in use, read from its certificate, is the same pin a second time.
    for file in ["live.der.x", "live.pem.x", "live.pem"] {
        test_with(&nginx, &format!("pin file:{file}; pin file:backup.csr;"))
            .accepted(&["duplicate-pin"]);
    }
}

#[test]
fn policies_that_are_not_there_or_there_twice() {
    let nginx = prepared();
    let server = tls_server(free_port(), "localhost", "live", "hpkp site;");
    nginx.configure(&server);
    nginx.test().refused("unknown-policy", Nginx::FIRST_LINE);

    let body = format!("pin {A}; pin {B}; max_age 1d;");
    nginx.configure(&format!("hpkp_policy x {{ {body} }}\nhpkp_policy x {{ {body} }}"));
    let said = nginx.test();
    assert_eq!(said.code, Some(1));
    assert!(said.text.contains("duplicate policy \"x\""), "{}", said.text);
    assert!(said.text.contains("nginx.conf:8 in "), "{}", said.text);
    assert!(said.text.contains("nginx.conf:9\n"), "{}", said.text);

    for name in ["off", "\"\""] {
        nginx.configure(&format!("hpkp_policy {name} {{ {body} }}"));
        let said = nginx.test();
        assert_eq!(said.code, Some(1));
        assert!(said.text.contains("is no name for a policy in "), "{}", said.text);
    }
}

#[test]
fn a_policy_may_be_used_before_it_is_defined() {
    let nginx = prepared();
    let live = nginx.pki().pin("live.pem");
    nginx.configure(&format!(
        "{}hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}",
        tls_server(free_port(), "localhost", "live", "hpkp site;")
    ));
    nginx.test().accepted(&[]);
}

#[test]
fn too_few_and_too_many_pins() {
    let nginx = prepared();
    let live = nginx.pki().pin("live.pem");
    test_policy(&nginx, "max_age 1d;").refused("too-few-pins", POLICY);
    test_policy(&nginx, &format!("max_age 1d; pin {live};")).refused("too-few-pins", POLICY);
    test_policy(&nginx, &format!("max_age 1d; pin {live}; pin {live};"))
        .refused("too-few-pins", POLICY);

    let pins = |count: u8| -> String {
        let pin = |n| hpkp_core::pin::Pin::from_octets([n; 32]);
        (1..count).map(|n| format!("pin {};", pin(n))).collect()
    };
    test_with(&nginx, &pins(22)).accepted(&[]);
    test_with(&nginx, &pins(23)).refused("too-many-pins", POLICY);
}

#[test]
fn times_that_are_no_max_age() {
    let nginx = prepared();
    let live = nginx.pki().pin("live.pem");
    let pins = format!("pin {live}; pin {B};");
    test_policy(&nginx, &pins).refused("missing-max-age", POLICY);
    for age in ["-1", "1.5", "1,5", "18446744073709551616", "2147483648", "\"\"", "1y", "forever"] {
        test_policy(&nginx, &format!("{pins} max_age {age};")).refused("invalid-max-age", POLICY);
    }
    test_policy(&nginx, &format!("{pins} max_age 61d;")).accepted(&["max-age-too-long"]);
}

#[test]
fn uris_that_are_no_report_uri() {
    let nginx = prepared();
    for uri in [
        "/report",
        "ftp://example.net/",
        "'https://example.net/\"x'",
        "\"https://example.net/\\r\\nSet-Cookie: a=b\"",
        "\"https://example.net/\\t\"",
        "https://example.net/\u{1}",
        "https://example.net/ü",
        "https://user:secret@example.net/",
        "https://example.net/#x",
        "'https://example.net/a b'",
        "\"\"",
    ] {
        let said = test_with(&nginx, &format!("pin {B}; report_uri {uri};"));
        said.refused("invalid-report-uri", POLICY);
        assert!(!said.text.contains('\r') && !said.text.contains('\u{1}'), "{:?}", said.text);
    }
    test_with(&nginx, &format!("pin {B}; report_uri https://localhost/r;"))
        .accepted(&["report-uri-on-pinned-host"]);
    test_with(&nginx, &format!("pin {B}; report_uri https://reports.example.net/r;")).accepted(&[]);
}

#[test]
fn an_ecdsa_certificate_beside_the_pinned_rsa_one() {
    let nginx = prepared();
    let pki = nginx.pki();
    pki.key("rsa", RSA);
    pki.sign("rsa", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    let both = "ssl_certificate rsa.pem; ssl_certificate_key rsa.key; hpkp site;";
    let test = |pins: &[&str]| {
        let pins: String = pins.iter().map(|pin| format!("pin {pin};")).collect();
        nginx.configure(&format!(
            "hpkp_policy site {{ {pins} max_age 1d; }}\n{}",
            tls_server(free_port(), "localhost", "live", both)
        ));
        nginx.test()
    };
    let (rsa, ecdsa) = (pki.pin("rsa.pem"), pki.pin("live.pem"));
    let said = test(&[&rsa, A]);
    said.refused("no-pin-in-chain", SERVER);
    assert!(said.text.contains(&ecdsa), "{}", said.text);
    test(&[&ecdsa, A]).refused("no-pin-in-chain", SERVER);
    test(&[&rsa, &ecdsa, A]).accepted(&[]);
    // Both keys are in use: neither is a backup.
    test(&[&rsa, &ecdsa]).accepted(&["no-backup-pin"]);
}

#[test]
fn trusted_certificates_that_cannot_be_used() {
    let nginx = prepared();
    let pki = nginx.pki();
    let live = pki.pin("live.pem");
    let ca = pki.read("ca.pem");
    pki.write("many.pem", ca.repeat(100_000));
    pki.write("fewer.pem", ca.repeat(10_001));
    pki.write("half.pem", &ca[..ca.len() / 2]);
    fs::create_dir(pki.path("directory")).expect("a directory");
    for (file, code) in [
        ("missing", "unreadable-trusted-certificate"),
        ("directory", "unreadable-trusted-certificate"),
        ("half.pem", "unreadable-trusted-certificate"),
        ("backup.csr", "unreadable-trusted-certificate"),
        ("many.pem", "oversized-input"),
        ("fewer.pem", "oversized-input"),
    ] {
        nginx.configure(&format!(
            "hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}\n{}",
            tls_server(
                free_port(),
                "localhost",
                "live",
                &format!("hpkp site; \n hpkp_trusted_certificate {file};")
            )
        ));
        nginx.test().refused(code, SERVER + 1);
    }
}

#[test]
fn a_subject_of_60_kilobytes_with_control_characters() {
    let nginx = prepared();
    let pki = nginx.pki();
    pki.key("huge", P256);
    let subject = format!("/1.2.3.4.5=\u{1b}[31m\u{7}{}/CN=localhost", "A".repeat(60_000));
    pki.sign("huge", &subject, "ca", &leaf_extensions("localhost"));
    nginx.configure(&format!(
        "hpkp_policy site {{ pin {A}; pin {B}; max_age 1d; }}\n{}",
        tls_server(free_port(), "localhost", "huge", "hpkp site;")
    ));
    let said = nginx.test();
    said.refused("no-pin-in-chain", SERVER);
    let longest = said.text.lines().map(str::len).max();
    assert!(longest.is_some_and(|longest| longest < 1024), "{longest:?}");
    assert!(!said.text.bytes().any(|b| b.is_ascii_control() && b != b'\n'), "{:?}", said.text);
}

#[test]
fn a_served_intermediate_of_which_no_pin_can_be_formed() {
    let mut nginx = prepared();
    let pki = nginx.pki();
    // OpenSSL itself takes such a certificate only where its own rules are lowered.
    let lowered = pki.write("openssl.cnf", LOWERED);
    nginx.set_environment("OPENSSL_CONF", path(&lowered));
    // A certificate whose DSA key has the parameters of its issuer, written out by hand.
    let conf = pki.write("dsa.cnf", DSA_CERTIFICATE);
    let der = pki.path("dsa.der");
    openssl(&["asn1parse", "-genconf", path(&conf), "-noout", "-out", path(&der)]);
    let base64 = openssl(&["base64", "-in", path(&der)]);
    let pem = [&b"-----BEGIN CERTIFICATE-----\n"[..], &base64, b"-----END CERTIFICATE-----\n"];
    pki.write("dsa.pem", pem.concat());
    pki.bundle("live+dsa.pem", &["live.pem", "dsa.pem"]);
    fs::copy(pki.path("live.key"), pki.path("live+dsa.key")).expect("a copy");
    let live = pki.pin("live.pem");
    nginx.configure(&format!(
        "hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}\n{}",
        tls_server(free_port(), "localhost", "live+dsa", "hpkp site;")
    ));
    nginx.test().accepted(&[]);
    test_with(&nginx, "pin file:dsa.pem;").refused("unpinnable-key", POLICY);
    // As a leaf, nginx itself refuses it, before anything is asked of us.
    fs::copy(pki.path("live.key"), pki.path("dsa.key")).expect("a copy");
    nginx.configure(&format!(
        "hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}\n{}",
        tls_server(free_port(), "localhost", "dsa", "hpkp site;")
    ));
    let said = nginx.test();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.text.contains("[emerg]") && said.codes().is_empty(), "{}", said.text);
}

const LOWERED: &str = "
openssl_conf = libraries
[libraries]
ssl_conf = ssl
[ssl]
system_default = system
[system]
CipherString = DEFAULT:@SECLEVEL=0
";

const DSA_CERTIFICATE: &str = "
asn1 = SEQUENCE:certificate
[certificate]
tbs = SEQUENCE:tbs
algorithm = SEQUENCE:signature
value = FORMAT:HEX,BITSTRING:3000
[signature]
oid = OID:1.2.840.10040.4.3
[tbs]
version = EXPLICIT:0,INTEGER:2
serial = INTEGER:7
signature = SEQUENCE:signature
issuer = SEQUENCE:name
validity = SEQUENCE:validity
subject = SEQUENCE:name
spki = SEQUENCE:spki
[name]
rdn = SET:rdn
[rdn]
attribute = SEQUENCE:attribute
[attribute]
type = OID:2.5.4.3
value = UTF8String:inherits
[validity]
from = UTCTIME:200101000000Z
to = UTCTIME:491231235959Z
[spki]
algorithm = SEQUENCE:dsa
key = FORMAT:HEX,BITSTRING:020105
[dsa]
oid = OID:1.2.840.10040.4.1
";

#[test]
fn keys_of_every_kind_are_pinned() {
    let nginx = prepared();
    let pki = nginx.pki();
    pki.key("other", ED448);
    pki.self_signed("other", "/CN=localhost", &["subjectAltName=DNS:localhost"]);
    let pin = pki.pin("other.pem");
    nginx.configure(&format!(
        "hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}\n{}",
        tls_server(free_port(), "localhost", "other", "hpkp site;")
    ));
    nginx.test().accepted(&[]);
}

#[test]
fn nginx_s_own_phrases() {
    let nginx = prepared();
    let policy = |body: &str| format!("hpkp_policy site {{ {body} }}");
    for (http, phrase) in [
        (policy("nonsense 1;"), "unknown directive \"nonsense\" in "),
        (policy("nonsense;"), "unknown directive \"nonsense\" in "),
        (policy("pin;"), "invalid number of arguments in \"pin\" directive in "),
        (policy("max_age 1d 2d;"), "invalid number of arguments in \"max_age\" directive in "),
        (policy("max_age 1d; max_age 1d;"), "\"max_age\" directive is duplicate in "),
        (
            policy("report_uri https://a.example/; report_uri https://b.example/;"),
            "\"report_uri\" directive is duplicate in ",
        ),
        (
            policy("include_subdomains on; include_subdomains off;"),
            "\"include_subdomains\" directive is duplicate in ",
        ),
        (
            policy("include_subdomains yes;"),
            "invalid value \"yes\" in \"include_subdomains\" directive, it must be \"on\" or \"off\" in ",
        ),
        ("hpkp_policy;".into(), "directive \"hpkp_policy\" has no opening \"{\" in "),
        ("hpkp_policy { }".into(), "invalid number of arguments in \"hpkp_policy\" directive in "),
        ("hpkp;".into(), "invalid number of arguments in \"hpkp\" directive in "),
        ("hpkp_policy x;".into(), "directive \"hpkp_policy\" has no opening \"{\" in "),
        ("hpkp a; hpkp b;".into(), "\"hpkp\" directive is duplicate in "),
        ("hpkp off; hpkp off;".into(), "\"hpkp\" directive is duplicate in "),
        ("hpkp a b;".into(), "invalid number of arguments in \"hpkp\" directive in "),
        (
            "hpkp_report_only a; hpkp_report_only a;".into(),
            "\"hpkp_report_only\" directive is duplicate in ",
        ),
        ("hpkp_check warn; hpkp_check warn;".into(), "\"hpkp_check\" directive is duplicate in "),
        ("hpkp_check maybe;".into(), "invalid value \"maybe\" in \"hpkp_check\" directive, "),
        ("hpkp_on_start on;".into(), "invalid value \"on\" in \"hpkp_on_start\" directive, "),
        (
            "server { hpkp_on_start warn; }".into(),
            "\"hpkp_on_start\" directive is not allowed here",
        ),
        ("server { hpkp_policy x { } }".into(), "\"hpkp_policy\" directive is not allowed here"),
        ("server { location / { hpkp x; } }".into(), "\"hpkp\" directive is not allowed here"),
        ("pin x;".into(), "unknown directive \"pin\" in "),
        ("hpkp_policy x { pin { } }".into(), "unexpected \"{\" in "),
        ("hpkp_policy x { pin }".into(), "unexpected \"}\" in "),
        (
            "hpkp_trusted_certificate a; hpkp_trusted_certificate b;".into(),
            "\"hpkp_trusted_certificate\" directive is duplicate in ",
        ),
    ] {
        nginx.configure(&http);
        let said = nginx.test();
        assert_eq!(said.code, Some(1), "{http}: {}", said.text);
        assert!(said.text.contains(phrase), "{http}: {}", said.text);
        assert!(said.text.contains("nginx.conf:8"), "{http}: {}", said.text);
    }
}

#[test]
fn names_that_would_forge_a_line() {
    let nginx = prepared();
    let server = tls_server(free_port(), "\"a\nb\u{1b}\"", "live", "hpkp \"x\ny\";");
    nginx.configure(&server);
    let said = nginx.test();
    let ours: Vec<&str> =
        said.text.lines().filter(|line| line.contains("unknown-policy")).collect();
    assert_eq!(ours.len(), 1, "{}", said.text);
    assert!(ours[0].contains(r"a\nb\x1b: the policy "), "{}", ours[0]);
    assert!(ours[0].contains(r#""x\ny" is not defined"#), "{}", ours[0]);
}

#[test]
fn words_that_are_not_utf_8() {
    let nginx = prepared();
    nginx.configure("hpkp_policy x { pin file:caf@; }");
    let configuration = fs::read(nginx.path("nginx.conf")).expect("a configuration");
    let configuration: Vec<u8> =
        configuration.iter().map(|octet| if *octet == b'@' { 0xe9 } else { *octet }).collect();
    fs::write(nginx.path("nginx.conf"), configuration).expect("a configuration");
    let said = nginx.test();
    assert_eq!(said.code, Some(1));
    assert!(said.text.contains("the directive is not UTF-8 in "), "{}", said.text);
}

#[test]
fn policies_may_include_files() {
    let nginx = prepared();
    let live = nginx.pki().pin("live.pem");
    nginx.pki().write("pins.conf", format!("pin {live};\npin {B};\n"));
    test_policy(&nginx, "include pins.conf; max_age 1d;").accepted(&[]);
    nginx.pki().write("pins.conf", format!("pin {live};\npin nonsense;\n"));
    let said = test_policy(&nginx, "include pins.conf; max_age 1d;");
    assert!(said.text.contains("[malformed-pin]"), "{}", said.text);
    assert!(said.text.contains("pins.conf:2"), "{}", said.text);
}

#[test]
fn warnings_do_not_refuse() {
    let nginx = prepared();
    let live = nginx.pki().pin("live.pem");
    let policy = format!("hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}\n");
    let port = free_port();
    for (servers, codes) in [
        (format!("server {{ listen 127.0.0.1:{port}; hpkp site; }}"), &["no-tls"][..]),
        (tls_server(port, "127.0.0.1", "live", "hpkp site;"), &["ip-address-host"]),
        // From the block around it, it is meant for the servers that are on TLS.
        (format!("hpkp site; server {{ listen 127.0.0.1:{port}; }}"), &[]),
    ] {
        nginx.configure(&format!("{policy}{servers}"));
        nginx.test().accepted(codes);
    }
}

#[test]
fn one_finding_for_many_hosts() {
    let nginx = prepared();
    let port = free_port();
    let servers: String =
        (0..40).map(|n| tls_server(port, &format!("h{n}.example"), "live", "")).collect();
    nginx.configure(&format!(
        "hpkp_policy site {{ pin {A}; pin {B}; max_age 1d; }}\nhpkp site;\n{servers}"
    ));
    let said = nginx.test();
    said.refused("no-pin-in-chain", SERVER);
    assert!(
        said.text.contains("40 hosts are concerned: h0.example, h1.example, h2.example, ..."),
        "{}",
        said.text
    );
    assert!(said.text.lines().count() < 20, "{}", said.text);
}

#[test]
fn report_only_policies() {
    let nginx = prepared();
    let live = nginx.pki().pin("live.pem");
    let test = |body: &str| {
        nginx.configure(&format!(
            "hpkp_policy site {{ {body} }}\n{}",
            tls_server(free_port(), "localhost", "live", "hpkp_report_only site;")
        ));
        nginx.test()
    };
    test(&format!("pin {live}; pin {B};")).refused("report-only-without-report-uri", POLICY);
    test("report_uri https://r.example/;").refused("too-few-pins", POLICY);
    // Neither max_age nor a backup is needed, and what is said of pins is a warning.
    test(&format!("pin {live}; report_uri https://r.example/;")).accepted(&[]);
    test(&format!("pin {A}; report_uri https://r.example/;")).accepted(&["no-pin-in-chain"]);
    test("pin file:missing; report_uri https://r.example/;")
        .refused("unreadable-pin-source", POLICY);
}
