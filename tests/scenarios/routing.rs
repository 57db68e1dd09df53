//! Which certificate a client gets is asked of the real servers, with blocks whose names and addresses chance puts
//! together, and must be the one with which the check compares the pins that clients hold.
//!
//! `HPKP_ROUTING_SEED` and `HPKP_ROUTING_COUNT` say which configurations, and how many.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::TcpStream;

use hpkp_core::published::{Body, Event, Published, Scope};
use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Module, Mpm};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::outcome::Outcome;
use hpkp_tests::pki::{P256, Pki};
use hpkp_tests::recorded;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

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
const HARMLESS: [&str; 6] =
    ["hpkp: [", "conflicting server name", "AH01909", "AH00548", "AH00549", "AH02292"];

/// Numbers that a seed determines (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one_of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A server of either kind.
enum Real {
    Nginx(Nginx),
    Httpd(Httpd),
}

impl Real {
    fn new(is_nginx: bool) -> Self {
        let mut real = if is_nginx {
            Self::Nginx(Nginx::new())
        } else {
            Self::Httpd(Httpd::with(Module::Shipped, Mpm::Event))
        };
        match &mut real {
            Self::Nginx(nginx) => nginx.expect_in_log(&HARMLESS),
            Self::Httpd(httpd) => httpd.expect_in_log(&HARMLESS),
        }
        let pki = real.pki();
        pki.records("records");
        let names: Vec<String> = HOSTS.iter().map(|host| format!("DNS:{host}")).collect();
        for block in 0..=BLOCKS {
            let name = format!("k{block}");
            let names = format!("subjectAltName={},DNS:*.example.com", names.join(","));
            pki.key(&name, P256);
            pki.self_signed(
                &name,
                &format!("/CN={name}"),
                &["basicConstraints=critical,CA:FALSE", &names],
            );
        }
        real
    }

    fn pki(&self) -> Pki {
        match self {
            Self::Nginx(nginx) => nginx.pki(),
            Self::Httpd(httpd) => httpd.pki(),
        }
    }

    fn configure(&self, text: &str) {
        match self {
            Self::Nginx(nginx) => nginx.configure(text),
            Self::Httpd(httpd) => httpd.configure(text),
        }
    }

    fn test(&self) -> Outcome {
        match self {
            Self::Nginx(nginx) => nginx.test(),
            Self::Httpd(httpd) => httpd.test(),
        }
    }

    fn start(&mut self) {
        match self {
            Self::Nginx(nginx) => nginx.start(),
            Self::Httpd(httpd) => httpd.start(),
        }
    }

    fn stop(&mut self) {
        match self {
            Self::Nginx(nginx) => nginx.stop(),
            Self::Httpd(httpd) => httpd.stop(),
        }
    }
}

fn nginx_blocks(dice: &mut Random, [p, q]: [u16; 2]) -> String {
    let mut text = "hpkp_published_pins records writer=web-1; hpkp_check warn;\n".to_owned();
    if dice.percent(15) {
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
    for block in 0..=dice.below(BLOCKS) {
        text.push_str("server {\n");
        let chosen: BTreeSet<usize> =
            (0..=dice.below(2)).map(|_| dice.below(places.len())).collect();
        for place in chosen {
            let ssl = if dice.percent(92) { " ssl" } else { "" };
            let is_default = dice.percent(20) && defaults.insert(place);
            let default = if is_default { " default_server" } else { "" };
            let _ = writeln!(text, "listen {}{ssl}{default};", places[place]);
        }
        let names = dice.one_of(&[
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
        match dice.below(20) {
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

fn httpd_blocks(dice: &mut Random, [p, q]: [u16; 2]) -> String {
    let mut text = match dice.below(3) {
        0 => format!("Listen {p}\nListen {q}\n"),
        1 => format!("Listen 127.0.0.1:{p}\nListen 127.0.0.2:{p}\nListen 127.0.0.1:{q}\n"),
        _ => format!("Listen 127.0.0.1:{p}\nListen {q}\n"),
    };
    text.push_str("HPKPPublishedPins records writer=web-1\nHPKPCheck warn\n");
    let on = |key: usize| {
        format!("SSLEngine on\nSSLCertificateFile k{key}.pem\nSSLCertificateKeyFile k{key}.key\n")
    };
    if dice.percent(20) {
        text.push_str(&on(BLOCKS));
    }
    let places = [
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
    ];
    for block in 0..=dice.below(BLOCKS) {
        let chosen: BTreeSet<&str> =
            (0..=dice.below(2)).map(|_| places[dice.below(places.len())].as_str()).collect();
        let chosen: Vec<&str> = chosen.into_iter().collect();
        let (name, aliases) = match dice.below(10) {
            0 | 1 => ("a.example.com".to_owned(), ""),
            2 => ("b.example.com".to_owned(), ""),
            3 => ("example.com".to_owned(), "www.example.org"),
            4 => ("c.a.example.com".to_owned(), "a.example.com"),
            5 => ("A.EXAMPLE.com".to_owned(), ""),
            6 => ("b.example.com:8443".to_owned(), ""),
            _ => {
                let aliases = dice.one_of(&[
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
        match dice.below(12) {
            0 => text.push_str("SSLEngine off\n"),
            1 => {}
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

fn agrees(is_nginx: bool) {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let seed = number("HPKP_ROUTING_SEED", 1);
    let mut real = Real::new(is_nginx);
    let pki = real.pki();
    let pins: Vec<String> = (0..=BLOCKS).map(|key| pki.pin(&format!("k{key}.pem"))).collect();
    let (mut taken, mut asked, mut wrong) = (0, 0, Vec::new());
    for at in seed.. {
        if taken == number("HPKP_ROUTING_COUNT", 8) {
            break;
        }
        let ports = [free_port(), free_port()];
        let mut dice = Random(at);
        let text =
            if is_nginx { nginx_blocks(&mut dice, ports) } else { httpd_blocks(&mut dice, ports) };
        real.configure(&text);
        let before = real.test();
        // Chance makes some that a server does not take.
        if before.code != Some(0) || before.text.contains("no \"ssl_certificate\"") {
            assert!(!before.text.contains("hpkp: "), "{}\n{text}", before.text);
            continue;
        }
        taken += 1;
        real.start();
        let mut check = |held: &[(&str, u16, Vec<&str>)], is_met: bool| {
            hold(&pki, held);
            let outcome = real.test();
            let has = outcome.codes().contains(&"published-pins-unmet");
            if has == is_met {
                wrong.push(format!("{at}: {held:?} met: {is_met}\n{text}\n{}", outcome.text));
            }
        };
        for port in ports {
            for host in HOSTS {
                let got: BTreeSet<usize> =
                    ADDRESSES.iter().filter_map(|address| answer(address, port, host)).collect();
                if got.is_empty() {
                    continue;
                }
                asked += 1;
                let pins_of = |is_held: &dyn Fn(usize) -> bool| -> Vec<&str> {
                    (0..=BLOCKS).filter(|key| is_held(*key)).map(|key| pins[key].as_str()).collect()
                };
                check(&[(host, port, pins_of(&|key| got.contains(&key)))], true);
                for one in &got {
                    check(&[(host, port, pins_of(&|key| key != *one))], false);
                }
            }
        }
        real.stop();
        // Where nobody answered there is none.
        let _ = std::fs::remove_file(pki.path("records/apps.jsonl"));
    }
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked >= 50, "only {asked}");
}

/// Pins that an app's clients hold for a host on a port.
fn hold(pki: &Pki, held: &[(&str, u16, Vec<&str>)]) {
    let mut text = String::new();
    for (number, (host, port, pins)) in held.iter().enumerate() {
        let pins = pins.iter().map(|pin| pin.parse().expect("a pin")).collect();
        let body =
            Published { scope: Scope::Chain, port: Some(*port), ..recorded::held(host, pins) };
        let writer = "apps".parse().expect("a writer");
        let event = Event::new(1_790_000_000, number as u64 + 1, writer, Body::Published(body));
        let _ = writeln!(text, "{}", event.line());
    }
    pki.write("records/apps.jsonl", text);
}

#[test]
fn nginx_presents_what_is_compared() {
    agrees(true);
}

#[test]
fn httpd_presents_what_is_compared() {
    agrees(false);
}
