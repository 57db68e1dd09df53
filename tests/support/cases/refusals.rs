//! Bad input: each mistake ends in a clear refusal that names file and line, never in a crash.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Server;
use super::configuration::{
    Directive, Part, host, include, max_age, pin, policy, policy_here, report_uri, trusts, uses,
    uses_report_only,
};
use crate::outcome::Kind;
use crate::pki::{ED448, P256, Pki, RSA, leaf_extensions, openssl};
use crate::site::{A, B};
use crate::{free_port, succeed};

/// Makes a test of each case for a server.
#[macro_export]
macro_rules! refusals {
    ($server:ty) => {
        $crate::refusals!($server:
            a_sound_configuration_passes_in_silence
            invalid_pin_literals_are_refused
            every_form_of_a_pin_literal_is_accepted
            files_without_a_pin_are_refused
            keys_in_every_format_are_accepted
            unknown_and_duplicate_policies_are_refused
            a_policy_may_be_used_before_it_is_defined
            too_few_and_too_many_pins
            invalid_max_ages_are_refused
            invalid_report_uris_are_refused
            an_ecdsa_certificate_beside_the_pinned_rsa_one
            unusable_trusted_certificates_are_refused
            a_subject_of_60_kilobytes_with_control_characters
            an_intermediate_without_a_pin_passes_but_is_no_pin_source
            keys_of_every_kind_are_pinned
            control_characters_in_names_are_escaped
            words_with_invalid_utf_8_are_refused
            policies_may_include_files
            warnings_do_not_refuse
            many_hosts_are_reported_in_one_finding
            report_only_policies
            a_self_signed_leaf_and_a_private_ca_need_no_store
        );
    };
    ($server:ty: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::cases::refusals::$case::<$server>();
            }
        )*
    };
}

/// A policy with these settings, used by a host with the certificate `live`.
fn site(settings: impl IntoIterator<Item = Directive>) -> [Part; 2] {
    [policy("site", settings), host("localhost", free_port(), &["live"], [uses("site")])]
}

/// A valid policy plus the directives `more`.
fn sound_with(server: &impl Server, more: impl IntoIterator<Item = Directive>) -> [Part; 2] {
    let live = server.pki().pin("live.pem");
    site([pin(format!("sha256/{live}")), max_age("1d")].into_iter().chain(more))
}

/// A server's message for an invalid value: httpd itself takes an empty value for a missing one.
fn reason<S: Server>(value: &str, code: &str) -> String {
    match S::KIND {
        Kind::Httpd if value.is_empty() => "takes one argument".to_owned(),
        _ => format!("hpkp: [{code}]"),
    }
}

pub fn a_sound_configuration_passes_in_silence<S: Server>() {
    let server = S::prepared();
    server.accepts(&sound_with(&server, [pin("file:backup.csr")]), &[]);
}

pub fn invalid_pin_literals_are_refused<S: Server>() {
    let server = S::prepared();
    let long = "A".repeat(600);
    for (literal, code) in [
        ("", "malformed-pin"),
        ("abc123", "malformed-pin"),
        ("sha1/d6qzRu9zOECb90Uez27xWltNsj0=", "malformed-pin"),
        ("77aab346ef7338409bf7451ecf6ef15a5b4db23d1ed4c77b1a4618915a195a63", "malformed-pin"),
        ("d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM", "malformed-pin"),
        ("d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmN=", "malformed-pin"),
        ("-6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=", "malformed-pin"),
        ("“d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=”", "malformed-pin"),
        (&long, "malformed-pin"),
        ("file:", "malformed-pin"),
        ("leaf", "keyword-pin-without-published-pins"),
        ("Leaf", "malformed-pin"),
        ("sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "empty-input-pin"),
    ] {
        let parts = sound_with(&server, [pin(literal).here()]);
        server.refuses_for(&parts, &reason::<S>(literal, code));
    }
}

pub fn every_form_of_a_pin_literal_is_accepted<S: Server>() {
    let server = S::prepared();
    for literal in
        [format!("sha256/{A}"), format!("sha256//{A}"), A.to_owned(), format!("pin-sha256=\"{A}\"")]
    {
        server.accepts(&sound_with(&server, [pin(literal)]), &[]);
    }
}

fn write_files_without_a_pin(pki: &Pki) {
    fs::create_dir(pki.path("directory")).expect("a directory");
    succeed(Command::new("mkfifo").arg(pki.path("fifo")));
    pki.write("empty", "");
    pki.write("blank", "\n \n");
    pki.write("text", "this is no key");
    // The module checks only the size of this file, so it may be sparse.
    let large = fs::File::create(pki.path("large")).expect("a file");
    large.set_len(100 << 20).expect("a sparse file");

    let live = pki.read("live.pem");
    pki.write("half.pem", &live[..live.len() / 2]);
    let der = pki.path("live.der");
    openssl(&["x509", "-in", path(&pki.path("live.pem")), "-outform", "der", "-out", path(&der)]);
    let der = pki.read("live.der");
    pki.write("half.der", &der[..der.len() / 2]);
    pki.write("trailing.der", [&der[..], b"xyz"].concat());
    pki.write("damaged.pem", String::from_utf8_lossy(&live).replace("MII", "M!I"));

    pki.bundle("both.pem", &["backup.key", "backup.csr"]);
    let backup = pki.path("backup.key");
    let convert = |command: &str, options: &[&str], file: &str| {
        let out = pki.path(file);
        openssl(&[&[command, "-in", path(&backup)], options, &["-out", path(&out)]].concat());
    };
    convert("pkey", &["-outform", "der"], "key.der");
    convert("ec", &[], "sec1.key");
    convert("pkey", &["-aes128", "-passout", "pass:x"], "encrypted.key");
    let rsa = pki.key("rsa", RSA);
    let convert = |options: &[&str], file: &str| {
        let out = pki.path(file);
        openssl(&[&["rsa", "-in", path(&rsa)], options, &["-out", path(&out)]].concat());
    };
    convert(&["-RSAPublicKey_out"], "pkcs1.pub");
    convert(&["-traditional"], "pkcs1.key");
    pki.write("dsa.pub", DSA_WITHOUT_PARAMETERS);
}

pub fn files_without_a_pin_are_refused<S: Server>() {
    let server = S::prepared();
    write_files_without_a_pin(&server.pki());
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
        let source = pin(format!("file:{file}")).here();
        let outcome = server.refuses(&sound_with(&server, [source]), code);
        assert!(outcome.text.contains(file), "{}", outcome.text);
    }
}

/// A DSA key whose parameters are those of its issuer: the algorithm identifier has none.
const DSA_WITHOUT_PARAMETERS: &str = "-----BEGIN PUBLIC KEY-----\n\
    MBMwCQYHKoZIzjgEAQMGAAIBBQEB\n-----END PUBLIC KEY-----\n";

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

pub fn keys_in_every_format_are_accepted<S: Server>() {
    let server = S::prepared();
    let pki = server.pki();
    let convert = |from: &str, command: &str, options: &[&str], file: &str| {
        let (from, out) = (pki.path(from), pki.path(file));
        openssl(&[&[command, "-in", path(&from)], options, &["-out", path(&out)]].concat());
    };
    convert("live.pem", "x509", &["-outform", "der"], "live.der.x");
    convert("live.pem", "x509", &["-outform", "pem"], "live.pem.x");
    convert("backup.csr", "req", &["-outform", "der"], "backup.csr.der");
    convert("backup.csr", "req", &["-pubkey", "-noout"], "backup.pub");
    let source = |file: &str| pin(format!("file:{file}"));
    for file in ["backup.csr", "backup.csr.der", "backup.pub"] {
        server.accepts(&sound_with(&server, [source(file)]), &[]);
    }
    // The key in use, read from its certificate, is the same pin as the literal.
    for file in ["live.der.x", "live.pem.x", "live.pem"] {
        let twice = sound_with(&server, [source(file), source("backup.csr")]);
        server.accepts(&twice, &["duplicate-pin"]);
    }
}

pub fn unknown_and_duplicate_policies_are_refused<S: Server>() {
    let server = S::prepared();
    let unknown = host("localhost", free_port(), &["live"], [uses("site").here()]);
    server.refuses(&[unknown], "unknown-policy");

    let body = || [pin(A), pin(B), max_age("1d")];
    let outcome = server
        .refuses_for(&[policy("x", body()), policy_here("x", body())], "duplicate policy \"x\"");
    // The message also names the place of the first policy.
    let first = server.write(super::Written::new(&[policy_here("x", body())], S::KIND));
    let first = format!("{}:{}", S::KIND.file(), first.expect("a marked line"));
    assert!(outcome.text.contains(&first), "{first}: {}", outcome.text);

    let no_name = match S::KIND {
        Kind::Nginx => "invalid policy name",
        Kind::Httpd => "takes one name",
    };
    server.refuses_for(&[policy_here("", body())], no_name);
    // "off" is reserved in upper and lower case, because httpd ignores case when a policy is used.
    for off in ["off", "Off", "OFF"] {
        server.refuses_for(&[policy_here(off, body())], &format!("invalid policy name \"{off}\""));
    }
}

pub fn a_policy_may_be_used_before_it_is_defined<S: Server>() {
    let server = S::prepared();
    let [policy, host] = sound_with(&server, [pin(B)]);
    server.accepts(&[host, policy], &[]);
}

pub fn too_few_and_too_many_pins<S: Server>() {
    let server = S::prepared();
    let live = server.pki().pin("live.pem");
    let refused = |pins: &[&str], code: &str| {
        let settings = pins.iter().copied().map(pin).chain([max_age("1d")]);
        let user = host("localhost", free_port(), &["live"], [uses("site")]);
        server.refuses(&[policy_here("site", settings), user], code);
    };
    refused(&[], "too-few-pins");
    refused(&[&live], "too-few-pins");
    refused(&[&live, &live], "too-few-pins");

    let others: Vec<String> =
        (1..23).map(|n| hpkp_core::pin::Pin::from_bytes([n; 32]).to_string()).collect();
    let mut pins: Vec<&str> = others.iter().map(String::as_str).collect();
    server.accepts(&sound_with(&server, pins[1..].iter().copied().map(pin)), &[]);
    pins.push(&live);
    refused(&pins, "too-many-pins");
}

pub fn invalid_max_ages_are_refused<S: Server>() {
    let server = S::prepared();
    let live = server.pki().pin("live.pem");
    let pins = || [pin(&live), pin(B)];
    let user = || host("localhost", free_port(), &["live"], [uses("site")]);
    server.refuses(&[policy_here("site", pins()), user()], "missing-max-age");
    for age in ["-1", "1.5", "1,5", "18446744073709551616", "2147483648", "", "1y", "forever"] {
        let settings = pins().into_iter().chain([max_age(age).here()]);
        server.refuses_for(&site(settings), &reason::<S>(age, "invalid-max-age"));
    }
    server.accepts(&site(pins().into_iter().chain([max_age("61d")])), &["max-age-too-long"]);
}

pub fn invalid_report_uris_are_refused<S: Server>() {
    let server = S::prepared();
    for uri in [
        "/report",
        "ftp://example.net/",
        "https://example.net/\"x",
        "https://example.net/\rSet-Cookie: a=b",
        "https://example.net/\r\nSet-Cookie: a=b",
        "https://example.net/\t",
        "https://example.net/\u{1}",
        "https://example.net/ü",
        "https://user:secret@example.net/",
        "https://example.net/#x",
        "https://example.net/a b",
        "",
    ] {
        if S::KIND == Kind::Httpd && uri.contains('\n') {
            // A value cannot contain a line feed, which ends the line.
            continue;
        }
        let parts = sound_with(&server, [pin(B), report_uri(uri).here()]);
        let outcome = server.refuses_for(&parts, &reason::<S>(uri, "invalid-report-uri"));
        assert!(
            !outcome.text.contains('\r') && !outcome.text.contains('\u{1}'),
            "{:?}",
            outcome.text
        );
    }
    server.accepts(
        &sound_with(&server, [pin(B), report_uri("https://localhost/r")]),
        &["report-uri-on-pinned-host"],
    );
    let elsewhere = report_uri("https://reports.example.net/r");
    server.accepts(&sound_with(&server, [pin(B), elsewhere]), &[]);
}

pub fn an_ecdsa_certificate_beside_the_pinned_rsa_one<S: Server>() {
    let server = S::prepared();
    let pki = server.pki();
    pki.key("rsa", RSA);
    pki.sign("rsa", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    let both = |pins: &[&str]| {
        let settings = pins.iter().copied().map(pin).chain([max_age("1d")]);
        let certificates = ["live", "rsa"];
        [
            policy("site", settings),
            host("localhost", free_port(), &certificates, [uses("site").here()]),
        ]
    };
    let (rsa, ecdsa) = (pki.pin("rsa.pem"), pki.pin("live.pem"));
    let outcome = server.refuses(&both(&[&rsa, A]), "no-pin-in-chain");
    assert!(outcome.text.contains(&ecdsa), "{}", outcome.text);
    server.refuses(&both(&[&ecdsa, A]), "no-pin-in-chain");
    server.accepts(&both(&[&rsa, &ecdsa, A]), &[]);
    // Both keys are in use: neither is a backup.
    server.accepts(&both(&[&rsa, &ecdsa]), &["no-backup-pin"]);
}

pub fn unusable_trusted_certificates_are_refused<S: Server>() {
    let server = S::prepared();
    let pki = server.pki();
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
        let settings = [uses("site"), trusts(file).here()];
        server.refuses(
            &[
                policy("site", [pin(&live), pin(B), max_age("1d")]),
                host("localhost", free_port(), &["live"], settings),
            ],
            code,
        );
    }
}

pub fn a_subject_of_60_kilobytes_with_control_characters<S: Server>() {
    let server = S::prepared();
    let pki = server.pki();
    pki.key("huge", P256);
    let subject = format!("/1.2.3.4.5=\u{1b}[31m\u{7}{}/CN=localhost", "A".repeat(60_000));
    pki.sign("huge", &subject, "ca", &leaf_extensions("localhost"));
    let outcome = server.refuses(
        &[
            policy("site", [pin(A), pin(B), max_age("1d")]),
            host("localhost", free_port(), &["huge"], [uses("site").here()]),
        ],
        "no-pin-in-chain",
    );
    let longest = outcome.text.lines().map(str::len).max();
    assert!(longest.is_some_and(|longest| longest < 1024), "{longest:?}");
    assert!(
        !outcome.text.bytes().any(|b| b.is_ascii_control() && b != b'\n'),
        "{:?}",
        outcome.text
    );
}

pub fn an_intermediate_without_a_pin_passes_but_is_no_pin_source<S: Server>() {
    let mut server = S::prepared();
    let pki = server.pki();
    // OpenSSL accepts such a certificate only at security level 0.
    let lowered = pki.write("openssl.cnf", LOWERED);
    server.set_environment("OPENSSL_CONF", path(&lowered));
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
    let with = |certificate: &str| {
        [
            policy("site", [pin(&live), pin(B), max_age("1d")]),
            host("localhost", free_port(), &[certificate], [uses("site")]),
        ]
    };
    server.accepts(&with("live+dsa"), &[]);
    let source = pin("file:dsa.pem").here();
    server.refuses(&sound_with(&server, [source]), "unpinnable-key");
    // httpd loads no certificate in a test.
    if S::KIND == Kind::Nginx {
        // nginx itself refuses it as a leaf, before it calls our module.
        fs::copy(pki.path("live.key"), pki.path("dsa.key")).expect("a copy");
        let outcome = server.says(&with("dsa"));
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.text.contains("[emerg]") && outcome.codes().is_empty(), "{}", outcome.text);
    }
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

pub fn keys_of_every_kind_are_pinned<S: Server>() {
    let server = S::prepared();
    let pki = server.pki();
    pki.key("other", ED448);
    pki.self_signed("other", "/CN=localhost", &["subjectAltName=DNS:localhost"]);
    let settings = [pin(pki.pin("other.pem")), pin(B), max_age("1d")];
    let user = host("localhost", free_port(), &["other"], [uses("site")]);
    server.accepts(&[policy("site", settings), user], &[]);
}

pub fn control_characters_in_names_are_escaped<S: Server>() {
    let server = S::prepared();
    // A value in httpd's configuration cannot contain a line feed, which ends the line.
    let (name, policy, escaped_name, escaped_policy) = match S::KIND {
        Kind::Nginx => ("a\nb\u{1b}", "x\ny", r"a\nb\x1b: policy ", r#""x\ny" is not defined"#),
        Kind::Httpd => ("a\rb\u{1b}", "x\ry", r"a\rb\x1b: policy ", r#""x\ry" is not defined"#),
    };
    let outcome = server
        .refuses(&[host(name, free_port(), &["live"], [uses(policy).here()])], "unknown-policy");
    let ours: Vec<&str> =
        outcome.text.lines().filter(|line| line.contains("unknown-policy")).collect();
    // One line each for the error, its consequence and the remedy.
    assert_eq!(ours.len(), 3, "{}", outcome.text);
    assert!(ours[0].contains(escaped_name), "{}", ours[0]);
    assert!(ours[0].contains(escaped_policy), "{}", ours[0]);
}

pub fn words_with_invalid_utf_8_are_refused<S: Server>() {
    let server = S::prepared();
    let parts = [policy("x", [pin("file:caf@").here()])];
    let line = server.write(super::Written::new(&parts, S::KIND)).expect("a marked line");
    let file = server.path(S::KIND.file());
    let configuration = fs::read(&file).expect("a configuration");
    let configuration: Vec<u8> =
        configuration.iter().map(|byte| if *byte == b'@' { 0xe9 } else { *byte }).collect();
    fs::write(&file, configuration).expect("a configuration");
    server.test().refused_for("invalid UTF-8 in the directive", S::KIND.file(), line);
}

pub fn policies_may_include_files<S: Server>() {
    let server = S::prepared();
    let live = server.pki().pin("live.pem");
    let write = |pins: [&str; 2]| {
        let lines = pins.map(|value| pin(value).text(S::KIND) + "\n");
        server.pki().write("pins.conf", lines.concat());
    };
    write([&live, B]);
    let including = site([include("pins.conf"), max_age("1d")]);
    server.accepts(&including, &[]);
    write([&live, "nonsense"]);
    server.says(&including).refused_for("hpkp: [malformed-pin]", "pins.conf", 2);
}

pub fn warnings_do_not_refuse<S: Server>() {
    let server = S::prepared();
    let live = server.pki().pin("live.pem");
    let site = || policy("site", [pin(&live), pin(B), max_age("1d")]);
    let port = free_port();
    server.accepts(&[site(), host("localhost", port, &[], [uses("site")])], &["no-tls"]);
    let address = host("127.0.0.1", port, &["live"], [uses("site")]);
    server.accepts(&[site(), address], &["ip-address-host"]);
    // A policy inherited from the outer block is meant for the servers with TLS.
    server.accepts(&[site(), Part::All(uses("site")), host("localhost", port, &[], [])], &[]);
}

pub fn many_hosts_are_reported_in_one_finding<S: Server>() {
    let server = S::prepared();
    let port = free_port();
    let mut parts =
        vec![policy("site", [pin(A), pin(B), max_age("1d")]), Part::All(uses("site").here())];
    parts.extend((0..40).map(|n| host(&format!("h{n}.example"), port, &["live"], [])));
    let outcome = server.refuses(&parts, "no-pin-in-chain");
    assert!(
        outcome.text.contains("affects 40 hosts: h0.example, h1.example, h2.example, ..."),
        "{}",
        outcome.text
    );
    assert!(outcome.text.lines().count() < 20, "{}", outcome.text);
}

pub fn report_only_policies<S: Server>() {
    let server = S::prepared();
    let live = server.pki().pin("live.pem");
    let tried =
        |policy| [policy, host("localhost", free_port(), &["live"], [uses_report_only("x")])];
    let uri = || report_uri("https://r.example/");
    server
        .refuses(&tried(policy_here("x", [pin(&live), pin(B)])), "report-only-without-report-uri");
    server.refuses(&tried(policy_here("x", [uri()])), "too-few-pins");
    // A report-only policy needs neither max_age nor a backup, and findings about its pins are warnings.
    server.accepts(&tried(policy("x", [pin(&live), uri()])), &[]);
    server.accepts(&tried(policy("x", [pin(A), uri()])), &["no-pin-in-chain"]);
    server
        .refuses(&tried(policy("x", [pin("file:missing").here(), uri()])), "unreadable-pin-source");
}

pub fn a_self_signed_leaf_and_a_private_ca_need_no_store<S: Server>() {
    let server = S::prepared();
    let pki = server.pki();
    pki.key("own", P256);
    pki.self_signed("own", "/CN=localhost", &["subjectAltName=DNS:localhost"]);
    pki.intermediate("between", "ca");
    pki.leaf("below", "localhost", "between");
    pki.leaf("stray", "stray", "ca");
    // Three chains for one key: without the root, with the root, and with a certificate that is on no path.
    for (name, parts) in [
        ("chain", &["below.pem", "between.pem"][..]),
        ("whole", &["below.pem", "between.pem", "ca.pem"]),
        ("extra", &["below.pem", "between.pem", "stray.pem"]),
    ] {
        pki.bundle(&format!("{name}.pem"), parts);
        fs::copy(pki.path("below.key"), pki.path(&format!("{name}.key"))).expect("a copy");
    }
    let with = |certificate: &str, pins: &[&str], more: &[Directive]| {
        let pins: Vec<String> = pins.iter().map(|name| pki.pin(&format!("{name}.pem"))).collect();
        let settings = pins.into_iter().map(pin).chain([pin(B), max_age("1d")]);
        let user = [uses("site").here()].into_iter().chain(more.iter().cloned());
        [policy("site", settings), host("localhost", free_port(), &[certificate], user)]
    };
    server.accepts(&with("own", &["own"], &[]), &[]);
    server.accepts(&with("chain", &["below"], &[]), &[]);
    server.accepts(&with("chain", &["between"], &[]), &[]);
    server.accepts(&with("whole", &["ca"], &[]), &[]);
    // The root is neither sent nor in the system's store, so it is unknown until a directive names it.
    server.refuses(&with("chain", &["ca"], &[]), "no-pin-in-chain");
    let outcome =
        server.accepts(&with("chain", &["ca"], &[trusts("ca.pem")]), &["root-only-match"]);
    assert!(outcome.text.contains("not sent, trusted in"), "{}", outcome.text);
    // The pinned certificate is sent, but is on no path.
    server.refuses(&with("extra", &["stray"], &[]), "no-pin-in-chain");
    server.accepts(&with("extra", &["below", "stray"], &[]), &["superfluous-certificate-match"]);
}
