//! Which certificate a client gets is asked of the real servers, with blocks whose names and addresses chance puts
//! together, and must be the one with which the check compares the pins that clients hold.
//!
//! `HPKP_ROUTING_SEED` and `HPKP_ROUTING_COUNT` say which configurations, and how many.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::TcpStream;

use hpkp_core::pin::Pin;
use hpkp_core::published::{Published, Scope};
use hpkp_tests::free_port;
use hpkp_tests::httpd::Httpd;
use hpkp_tests::layout::Site;
use hpkp_tests::nginx::Nginx;
use hpkp_tests::pki::{P256, Pki};
use hpkp_tests::random::Random;
use hpkp_tests::recorded;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

super::scenarios! {
    the_certificate_presented_is_the_one_compared
}

/// Whom clients ask for, where, and the blocks among which a server chooses.
const HOSTS: [&str; 6] = [
    "a.example.com",
    "b.example.com",
    "c.a.example.com",
    "example.com",
    "www.example.org",
    "z.test",
];
const ADDRESSES: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"];
const BLOCKS: usize = 5;

/// What is not about the certificates: names that two blocks have, and a certificate without the name of its block.
const HARMLESS: [&str; 7] =
    ["hpkp: [", "conflicting server name", "AH01909", "AH00548", "AH00549", "AH02292", "AH10510"];

/// A server whose blocks chance puts together.
trait Routed: Site {
    fn write_blocks(&self, random: &mut Random, ports: [u16; 2]) -> String;
}

impl Routed for Nginx {
    fn write_blocks(&self, random: &mut Random, ports: [u16; 2]) -> String {
        let text = nginx_blocks(random, ports);
        self.configure(&text);
        text
    }
}

impl Routed for Httpd {
    fn write_blocks(&self, random: &mut Random, ports: [u16; 2]) -> String {
        let text = httpd_blocks(random, ports);
        self.configure(&text);
        text
    }
}

fn nginx_blocks(random: &mut Random, [p, q]: [u16; 2]) -> String {
    let mut text = "hpkp_published_pins records writer=web-1; hpkp_check warn;\n".to_owned();
    if random.chance(15) {
        let _ = writeln!(text, "ssl_certificate k{BLOCKS}.pem; ssl_certificate_key k{BLOCKS}.key;");
    }
    let places = [
        format!("127.0.0.1:{p}"),
        format!("{p}"),
        format!("127.0.0.2:{p}"),
        format!("127.0.0.1:{q}"),
        format!("{q}"),
        format!("[::1]:{p}"),
        format!("[::]:{q}"),
    ];
    let mut defaults = BTreeSet::new();
    for block in 0..=random.below(BLOCKS) {
        text.push_str("server {\n");
        let chosen: BTreeSet<usize> =
            (0..=random.below(2)).map(|_| random.below(places.len())).collect();
        for place in chosen {
            let ssl = if random.chance(92) { " ssl" } else { "" };
            let is_default = random.chance(20) && defaults.insert(place);
            let default = if is_default { " default_server" } else { "" };
            let _ = writeln!(text, "listen {}{ssl}{default};", places[place]);
        }
        let names = random.one_of(&[
            "a.example.com",
            "b.example.com",
            "example.com",
            "*.example.com",
            ".example.com",
            "~^a\\.",
            "www.*",
            "\"\"",
            "_",
            "c.a.example.com a.example.com",
            "*.a.example.com",
            "\"~^(?<n>.+)\\.example\\.com$\"",
            "www.example.org example.com",
            "A.EXAMPLE.com",
            "*.com",
            "a.example.*",
            "example.*",
        ]);
        let _ = writeln!(text, "server_name {names};");
        match random.below(20) {
            0 => text.push_str("ssl_reject_handshake on;\n"),
            1 => {}
            _ => {
                let _ = writeln!(
                    text,
                    "ssl_certificate k{block}.pem; ssl_certificate_key k{block}.key;"
                );
            }
        }
        text.push_str("return 200 x;\n}\n");
    }
    text
}

/// The addresses of virtual hosts, the first one twice, so that hosts meet there.
fn httpd_places([p, q]: [u16; 2]) -> [String; 13] {
    [
        format!("127.0.0.1:{p}"),
        format!("127.0.0.1:{p}"),
        format!("*:{p}"),
        format!("127.0.0.2:{p}"),
        format!("127.0.0.1:{q}"),
        format!("*:{q}"),
        "*:*".to_owned(),
        "127.0.0.1:*".to_owned(),
        format!("_default_:{p}"),
        "_default_:*".to_owned(),
        format!("[::1]:{p}"),
        format!("0.0.0.0:{p}"),
        format!("[::]:{q}"),
    ]
}

fn httpd_blocks(random: &mut Random, [p, q]: [u16; 2]) -> String {
    let mut text = match random.below(3) {
        0 => format!("Listen {p}\nListen {q}\n"),
        1 => format!("Listen 127.0.0.1:{p}\nListen 127.0.0.2:{p}\nListen 127.0.0.1:{q}\n"),
        _ => format!("Listen 127.0.0.1:{p}\nListen {q}\n"),
    };
    text.push_str("HPKPPublishedPins records writer=web-1\nHPKPCheck warn\n");
    let on = |key: usize| {
        format!("SSLEngine on\nSSLCertificateFile k{key}.pem\nSSLCertificateKeyFile k{key}.key\n")
    };
    if random.chance(20) {
        text.push_str(&on(BLOCKS));
    }
    let places = httpd_places([p, q]);
    for block in 0..=random.below(BLOCKS) {
        let chosen: BTreeSet<&str> =
            (0..=random.below(2)).map(|_| places[random.below(places.len())].as_str()).collect();
        let chosen: Vec<&str> = chosen.into_iter().collect();
        let (name, aliases) = match random.below(10) {
            0 | 1 => ("a.example.com".to_owned(), ""),
            2 => ("b.example.com".to_owned(), ""),
            3 => ("example.com".to_owned(), "www.example.org"),
            4 => ("c.a.example.com".to_owned(), "a.example.com"),
            5 => ("A.EXAMPLE.com".to_owned(), ""),
            6 => ("b.example.com:8443".to_owned(), ""),
            _ => {
                let aliases = *random.one_of(&[
                    "*.example.com",
                    "*",
                    "a?example.com",
                    "*.com",
                    "?.example.com www.*",
                ]);
                (format!("p{block}.invalid"), aliases)
            }
        };
        let _ = writeln!(text, "<VirtualHost {}>\nServerName {name}", chosen.join(" "));
        if !aliases.is_empty() {
            let _ = writeln!(text, "ServerAlias {aliases}");
        }
        match random.below(14) {
            0 => text.push_str("SSLEngine off\n"),
            1 => {}
            2 => text.push_str(&on(block).replace("SSLEngine on", "SSLEngine optional")),
            _ => text.push_str(&on(block)),
        }
        text.push_str("</VirtualHost>\n");
    }
    text
}

/// The key that a client gets.
fn answer(address: &str, port: u16, host: &str) -> Option<usize> {
    let stream = TcpStream::connect((address, port)).ok()?;
    let mut connector = SslConnector::builder(SslMethod::tls()).expect("a client");
    connector.set_verify(SslVerifyMode::NONE);
    let connector = connector.build().configure().expect("a client").verify_hostname(false);
    let tls = connector.connect(host, stream).ok()?;
    let leaf = tls.ssl().peer_certificate().expect("a certificate");
    let subject = leaf.subject_name().entries().next().expect("a name");
    let name = String::from_utf8_lossy(subject.data().as_slice());
    Some(name.trim_start_matches('k').parse().expect("a number"))
}

/// Makes a self-signed certificate for all hosts with each key.
fn certify(pki: &Pki) {
    let names: Vec<String> = HOSTS.iter().map(|host| format!("DNS:{host}")).collect();
    let names = format!("subjectAltName={},DNS:*.example.com", names.join(","));
    for key in 0..=BLOCKS {
        let name = format!("k{key}");
        pki.key(&name, P256);
        let extensions = ["basicConstraints=critical,CA:FALSE", names.as_str()];
        pki.self_signed(&name, &format!("/CN={name}"), &extensions);
    }
}

fn the_certificate_presented_is_the_one_compared<S: Routed>() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let seed = number("HPKP_ROUTING_SEED", 1);
    let mut site = S::with_records();
    site.expect_in_log(&HARMLESS);
    let pki = site.pki();
    certify(&pki);
    let pins: Vec<Pin> =
        (0..=BLOCKS).map(|key| pki.pin(&format!("k{key}.pem")).parse().expect("a pin")).collect();
    let apps = pki.path("records/apps.jsonl");
    let (mut taken, mut asked, mut wrong) = (0, 0, Vec::new());
    for at in seed.. {
        if taken == number("HPKP_ROUTING_COUNT", 8) {
            break;
        }
        let ports = [free_port(), free_port()];
        let text = site.write_blocks(&mut Random::new(at), ports);
        let before = site.test();
        // Chance makes some that a server does not take.
        if before.code != Some(0) || before.text.contains("no \"ssl_certificate\"") {
            assert!(!before.text.contains("hpkp: "), "{}\n{text}", before.text);
            continue;
        }
        taken += 1;
        site.up();
        // An app holds the pins of these keys for the host at the port.
        let mut check = |host: &str, port: u16, keys: Vec<usize>, is_met: bool| {
            let pins = keys.iter().map(|key| pins[*key]).collect();
            let app = recorded::held(host, pins);
            recorded::hold(&apps, Published { scope: Scope::Chain, port: Some(port), ..app });
            let outcome = site.test();
            if outcome.codes().contains(&"published-pins-unmet") == is_met {
                let outcome = outcome.text;
                wrong
                    .push(format!("{at}: {host}:{port} {keys:?} met: {is_met}\n{text}\n{outcome}"));
            }
        };
        for (port, host) in ports.iter().flat_map(|port| HOSTS.map(|host| (*port, host))) {
            let got: BTreeSet<usize> =
                ADDRESSES.iter().filter_map(|address| answer(address, port, host)).collect();
            if got.is_empty() {
                continue;
            }
            asked += 1;
            check(host, port, got.iter().copied().collect(), true);
            for one in &got {
                check(host, port, (0..=BLOCKS).filter(|key| key != one).collect(), false);
            }
        }
        site.down();
        // Where nobody answered there is none.
        let _ = std::fs::remove_file(&apps);
    }
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked >= 50, "only {asked}");
}
