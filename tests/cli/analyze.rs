//! `hpkp analyze` against real sockets: correct servers, faulty servers, and resolvers.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hpkp_tests::clock::{Clock, DAY};
use hpkp_tests::free_port;
use hpkp_tests::pki::{P256, Pki, RSA, leaf_extensions};
use hpkp_tests::site::{A, B};
use serde_json::Value;

use crate::outside::{
    Data, Manner, listen, plain, redirect, resolver, response, script, serve, starttls, tls,
    tls_with,
};
use crate::{Outcome, run, run_with};

const HOST: &str = "www.example.com";

/// A CA, an intermediate, a certificate with its chain, and a backup key.
fn pki() -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = Pki::new(dir.path());
    pki.ca("ca");
    pki.intermediate("middle", "ca");
    pki.leaf("live", HOST, "middle");
    pki.bundle("site.pem", &["live.pem", "middle.pem"]);
    std::fs::copy(pki.path("live.key"), pki.path("site.key")).expect("a copy");
    pki.key("backup", P256);
    (dir, pki)
}

fn pins(pins: &[&str], more: &str) -> String {
    let pins = pins.iter().map(|pin| format!("pin-sha256=\"{pin}\"; "));
    format!("{}{more}", pins.collect::<String>())
}

fn good(pki: &Pki) -> String {
    pins(&[&pki.pin("live.key"), &pki.pin("backup.key")], "max-age=86400")
}

fn pkp(value: &str) -> String {
    response(&[("Public-Key-Pins", value)])
}

/// Analyzes the host at a port of loopback, with the CA of the test as trust anchor.
fn analyze(pki: &Pki, port: u16, more: &[&str]) -> Outcome {
    let connect = format!("127.0.0.1:{port}");
    let ca = pki.path("ca.pem");
    let arguments = ["analyze", "--json", "--connect", &connect, "--ca-file"];
    let ca = ca.to_str().expect("UTF-8");
    let target = [HOST];
    run(Path::new("/"), &[&arguments[..], &[ca], more, &target].concat())
}

/// The codes of all findings, each once.
#[track_caller]
fn codes(outcome: &Outcome) -> Vec<String> {
    let json = outcome.json();
    let target = &json["targets"][0];
    let sites = target["sites"].as_array().expect("sites");
    let all = sites.iter().map(|site| &site["findings"]).chain([&target["findings"]]);
    let all = all.flat_map(|findings| findings.as_array().expect("findings").clone());
    let mut codes: Vec<String> =
        all.map(|one| one["code"].as_str().expect("a code").to_owned()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(target["exit"], outcome.code.expect("a code"));
    codes
}

#[track_caller]
fn found(outcome: &Outcome, code: i32, expected: &[&str]) {
    assert_eq!(
        (outcome.code, codes(outcome)),
        (Some(code), expected.iter().map(|c| (*c).to_owned()).collect()),
        "{outcome:?}"
    );
}

fn first_site(outcome: &Outcome) -> Value {
    outcome.json()["targets"][0]["sites"][0].clone()
}

#[test]
fn a_correct_site_has_no_findings() {
    let (_dir, pki) = pki();
    let port = tls(&pki, "site", pkp(&good(&pki)));
    let outcome = analyze(&pki, port, &[]);
    found(&outcome, 0, &[]);
    let site = first_site(&outcome);
    let address = &site["addresses"][0];
    assert_eq!(address["tls"], serde_json::json!(["TLSv1.3", "TLSv1.2"]));
    let chain = &address["chains"][0];
    assert_eq!(chain["accepted"], true);
    let certificates = chain["certificates"].as_array().expect("certificates");
    let roles: Vec<&str> = certificates.iter().filter_map(|one| one["role"].as_str()).collect();
    assert_eq!(roles, ["leaf", "intermediate", "root"]);
    assert_eq!(certificates[2]["sent"], false);
    assert_eq!(certificates[2]["trusted"], true);
    assert_eq!(certificates[0]["issuers"], serde_json::json!([1]));
    let header = &site["headers"][0];
    for client in ["chromium", "firefox", "wget2"] {
        assert_eq!(header["clients"][client]["verdict"], "note", "{client}");
    }
    let roles = header["pin_roles"].as_array().expect("roles");
    let roles: Vec<_> =
        roles.iter().map(|one| (one["role"].clone(), one["backup"].clone())).collect();
    assert_eq!(roles, [("leaf".into(), false.into()), ("backup".into(), true.into())]);
    assert_eq!(site["renewal"]["outcome"], "same-key");
    // The text output has the same facts.
    let connect = format!("127.0.0.1:{port}");
    let ca = pki.path("ca.pem");
    let ca = ca.to_str().expect("UTF-8");
    let text =
        run(Path::new("/"), &["analyze", "--connect", &connect, "--ca-file", ca, HOST]).fine();
    for part in
        ["└─ leaf: CN=www.example.com", "   └─ intermediate: CN=middle", "wget2     notes the host"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn each_pin_gets_its_role() {
    let (_dir, pki) = pki();
    // YE1 of the table of CA keys.
    let known = "brzvtCELCIZUo4sD/qPX0ccRtPsd3DY6RfmxpOU9oB4=";
    let all = [&pki.pin("live.pem"), &pki.pin("middle.pem"), &pki.pin("ca.pem"), known, B];
    let port = tls(&pki, "site", pkp(&pins(&all, "max-age=60")));
    let outcome = analyze(&pki, port, &[]);
    found(&outcome, 0, &[]);
    let site = first_site(&outcome);
    let roles = site["headers"][0]["pin_roles"].as_array().expect("roles");
    let words: Vec<&str> = roles.iter().filter_map(|one| one["role"].as_str()).collect();
    assert_eq!(words, ["leaf", "intermediate", "root", "known-ca", "backup"]);
    assert_eq!(roles[3]["name"], "YE1 (Let's Encrypt)");
    assert_eq!(site["renewal"]["outcome"], "safe");
}

/// The table of CA keys lists the test's intermediate as one of several, so the next one may be another.
#[test]
fn the_forecast_of_the_next_renewal_depends_on_the_pins() {
    let (_dir, pki) = pki();
    let key = |pin: &str, name: &str, status: &str| {
        serde_json::json!({
            "pin": format!("sha256/{pin}"), "name": name, "ca": "Test", "role": "intermediate",
            "rotation": "test", "status": status, "source": "https://x/",
        })
    };
    let (live, backup) = (pki.pin("live.key"), pki.pin("backup.key"));
    let (middle, root) = (pki.pin("middle.key"), pki.pin("ca.key"));
    let table = serde_json::json!({
        "format": "hpkp-ca-table", "v": 1, "date": "2099-01-01",
        "rotations": [{
            "id": "test", "ca": "Test", "text": "by turns", "complete": true, "source": "https://x/",
        }],
        "keys": [key(&middle, "One", "active"), key(A, "Two", "standby"), key(B, "Old", "retired")],
    });
    let table = pki.write("table.json", table.to_string());
    let table = table.to_str().expect("UTF-8");
    let renewal = |keys: &[&str], more: &[&str]| {
        let port = tls(&pki, "site", pkp(&pins(keys, "max-age=60")));
        let outcome = analyze(&pki, port, &[&["--requests", "1"], more].concat());
        (first_site(&outcome)["renewal"].clone(), codes(&outcome))
    };
    let known = ["--ca-table", table];
    let (answer, found) = renewal(&[&middle, &backup], &known);
    assert_eq!(found, ["intermediate-in-rotation"]);
    assert_eq!(answer["outcome"], "may-lock-out");
    assert_eq!(answer["missing"], serde_json::json!([format!("sha256/{A}")]));
    for (keys, table, outcome) in [
        (&[&*middle, A, &*backup][..], &known[..], "safe"),
        (&[&middle, &live, &backup], &known, "same-key"),
        (&[&live, &backup], &known, "same-key"),
        (&[&root, &backup], &known, "safe"),
        (&[&middle, &backup], &[], "depends"),
        (&[A, B], &[], "may-lock-out"),
    ] {
        assert_eq!(renewal(keys, table).0["outcome"], outcome, "{keys:?}");
    }
}

#[test]
fn ecdsa_and_rsa_certificates_of_a_server_are_both_checked() {
    let (_dir, pki) = pki();
    pki.key("rsa", RSA);
    pki.sign("rsa", "/CN=rsa", "ca", &leaf_extensions(HOST));
    let mut nginx = hpkp_tests::nginx::Nginx::with_module(hpkp_tests::nginx::Module::None);
    for file in ["site.pem", "site.key", "rsa.pem", "rsa.key"] {
        std::fs::copy(pki.path(file), nginx.pki().path(file)).expect("a copy");
    }
    let port = free_port();
    let header = good(&pki).replace('"', "\\\"");
    let more = format!(
        "ssl_certificate rsa.pem; ssl_certificate_key rsa.key; add_header Public-Key-Pins \"{header}\" always; location / {{ return 204; }}"
    );
    nginx.configure(&hpkp_tests::nginx::tls_server(port, HOST, "site", &more));
    nginx.start();
    let outcome = analyze(&pki, port, &[]);
    found(&outcome, 1, &["no-pin-in-chain"]);
    assert_eq!(first_site(&outcome)["addresses"][0]["chains"].as_array().map(Vec::len), Some(2));
}

#[test]
fn header_findings_of_a_site_with_a_valid_certificate() {
    let (_dir, pki) = pki();
    let good = good(&pki);
    // Two fields.
    let two = response(&[("Public-Key-Pins", &good), ("public-key-pins", "x")]);
    found(&analyze(&pki, tls(&pki, "site", two), &[]), 0, &["repeated-header"]);
    // A report host that is the pinned host.
    let own = format!("{good}; report-uri=\"https://{HOST}/r\"");
    found(&analyze(&pki, tls(&pki, "site", pkp(&own)), &[]), 0, &["report-uri-on-pinned-host"]);
    // Over plain HTTP.
    let http = plain(pkp(&good));
    let port = tls(&pki, "site", pkp(&good));
    let outcome = analyze(&pki, port, &["--http-port", &http.to_string()]);
    found(&outcome, 0, &["header-over-plain-http"]);
    // A closed port is no fault.
    let outcome = analyze(&pki, port, &["--http-port", &free_port().to_string()]);
    found(&outcome, 0, &[]);
    // Another field in every second response, or none.
    let other = pins(&[&pki.pin("live.key"), B], "max-age=60");
    for second in [pkp(&other), response(&[])] {
        let first = pkp(&good);
        let respond = move |_: &str, n: usize| [&first, &second][n % 2].clone();
        let port = tls_with(&pki, "site", Arc::new(respond));
        found(&analyze(&pki, port, &[]), 0, &["header-differs"]);
    }
    // The same pins in another order are no difference.
    let turned = pins(&[&pki.pin("backup.key"), &pki.pin("live.key")], "max-age=\"86400\"");
    let respond = move |_: &str, n: usize| pkp([&good, &turned][n % 2]);
    found(&analyze(&pki, tls_with(&pki, "site", Arc::new(respond)), &[]), 0, &[]);
}

/// Header values with mistakes, each with the findings that it must have.
#[test]
fn each_bad_header_value_has_its_findings() {
    let (_dir, pki) = pki();
    let (live, backup) = (pki.pin("live.key"), pki.pin("backup.key"));
    let (live, backup) = (live.as_str(), backup.as_str());
    let whole = {
        let der = hpkp_tests::pki::openssl(&[
            "x509",
            "-in",
            pki.path("live.pem").to_str().expect("UTF-8"),
            "-outform",
            "der",
        ]);
        openssl::base64::encode_block(&openssl::sha::sha256(&der))
    };
    let both = pins(&[live, backup], "");
    let many: Vec<String> = (0..22_u8).map(|n| openssl::base64::encode_block(&[n; 32])).collect();
    let many: Vec<&str> = [live].into_iter().chain(many.iter().map(String::as_str)).collect();
    let cases: [(String, i32, &[&str]); 22] = [
        (pins(&[A, B], "max-age=60"), 1, &["no-pin-in-chain"]),
        (pins(&[live], "max-age=60"), 1, &["too-few-pins"]),
        (pins(&[live, &pki.pin("middle.pem")], "max-age=60"), 1, &["no-backup-pin"]),
        (pins(&[live, &whole], "max-age=60"), 1, &["no-backup-pin", "pin-not-spki-hash"]),
        (format!("{both}max-age=31536000"), 0, &["max-age-too-long"]),
        (both.trim_end_matches("; ").to_owned(), 1, &["missing-max-age"]),
        (format!("{both}max-age=1d"), 1, &["invalid-max-age"]),
        (format!("{both}max-age=-1"), 1, &["invalid-max-age"]),
        (format!("{both}max-age=60; max-age=60"), 1, &["invalid-header"]),
        (format!("{both}; max-age=60"), 1, &["invalid-header"]),
        (format!("{both}max-age=60; includeSubDomains=true"), 1, &["invalid-header"]),
        (format!("{both}max-age=60; report-uri=https://r.example/"), 1, &["invalid-header"]),
        (format!("{both}max-age=60; report-uri=\"/r\""), 1, &["invalid-report-uri"]),
        (format!("{both}max-age=60; report-uri=\"ftp://r.example/\""), 1, &["invalid-report-uri"]),
        (both.replace('"', "'") + "max-age=60", 1, &["invalid-header"]),
        (both.replace('"', "") + "max-age=60", 1, &["invalid-header"]),
        (pins(&[&format!("sha256/{live}"), backup], "max-age=60"), 1, &["malformed-pin"]),
        (
            pins(&[live, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="], "max-age=60"),
            1,
            &["empty-input-pin"],
        ),
        (pins(&[live, live, backup], "max-age=60"), 0, &["duplicate-pin"]),
        (pins(&many, "max-age=60"), 1, &["too-many-pins"]),
        (format!("{both}max-age=60, pin-sha256=\"{A}\""), 1, &["invalid-header"]),
        (String::new(), 1, &["missing-max-age"]),
    ];
    for (value, exit, expected) in cases {
        let outcome = analyze(&pki, tls(&pki, "site", pkp(&value)), &["--requests", "1"]);
        let codes = codes(&outcome);
        let has_all = expected.iter().all(|code| codes.iter().any(|found| found == code));
        assert!(has_all, "{value}: {codes:?}, not {expected:?}");
        assert_eq!(outcome.code, Some(exit), "{value}: {codes:?}");
    }
    // The report-only header is checked too, but locks no client out.
    let value = pins(&[A, B], "report-uri=\"https://r.example/\"");
    let answer = response(&[("Public-Key-Pins-Report-Only", &value)]);
    found(&analyze(&pki, tls(&pki, "site", answer), &[]), 0, &["no-pin-in-chain"]);
    let answer =
        response(&[("Public-Key-Pins-Report-Only", pins(&[live, B], "").trim_end_matches("; "))]);
    let outcome = analyze(&pki, tls(&pki, "site", answer), &[]);
    found(&outcome, 1, &["report-only-without-report-uri"]);
}

#[test]
fn certificates_that_clients_reject_are_reported() {
    let (dir, pki) = pki();
    pki.key("own", P256);
    pki.self_signed("own", &format!("/CN={HOST}"), &[&format!("subjectAltName=DNS:{HOST}")]);
    pki.leaf("other", "other.example.com", "ca");
    let port = tls(&pki, "own", pkp(&pins(&[&pki.pin("own.key"), B], "max-age=60")));
    let outcome = analyze(&pki, port, &[]);
    found(&outcome, 1, &["certificate-untrusted"]);
    // The chain is in the output, and no client notes the host.
    let site = first_site(&outcome);
    assert_eq!(site["addresses"][0]["chains"][0]["accepted"], false);
    assert_eq!(site["headers"][0]["clients"]["chromium"]["verdict"], "ignore");
    found(
        &analyze(&pki, tls(&pki, "other", response(&[])), &[]),
        1,
        &["certificate-name-mismatch"],
    );
    // `--servername` sets the name in SNI and the name that the certificate must have.
    let outcome =
        analyze(&pki, tls(&pki, "other", response(&[])), &["--servername", "other.example.com"]);
    found(&outcome, 0, &[]);
    // The same certificate later and earlier.
    let port = tls(&pki, "site", response(&[]));
    for (years, code) in [(14, "certificate-expired"), (-14, "certificate-not-yet-valid")] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hpkp"));
        command.envs(Clock::ahead(dir.path(), years * 365 * DAY).environment());
        command.args(["analyze", "--json", "--connect"]);
        command.arg(format!("127.0.0.1:{port}")).arg("--ca-file").arg(pki.path("ca.pem"));
        command.args(["--requests", "1", HOST]);
        let outcome = crate::outcome(hpkp_tests::output(&mut command));
        assert!(codes(&outcome).contains(&code.to_owned()), "{outcome:?}");
        assert_eq!(outcome.code, Some(1));
    }
}

#[test]
fn each_connection_failure_has_its_code() {
    let (_dir, pki) = pki();
    let short = ["--timeout", "1", "--requests", "1"];
    // Refuses.
    found(&analyze(&pki, free_port(), &short), 3, &["server-not-reached"]);
    // Hangs: before TLS, and before HTTP.
    let start = Instant::now();
    let silent = script(|stream| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(60));
            drop(stream);
        });
    });
    let connect = format!("127.0.0.1:{silent}");
    let quick = ["analyze", "--json", "--timeout", "1", "--connect", &connect, HOST];
    found(&run(Path::new("/"), &quick), 3, &["server-not-reached"]);
    assert!(start.elapsed() < Duration::from_secs(60));
    let late = Arc::new(|_: &str, _| {
        std::thread::sleep(Duration::from_secs(3));
        response(&[])
    });
    let connect = format!("127.0.0.1:{}", tls_with(&pki, "site", late));
    let quick = ["analyze", "--json", "--timeout", "1", "--connect", &connect, HOST];
    let outcome = run(Path::new("/"), &quick);
    assert!(codes(&outcome).contains(&"no-http-response".to_owned()), "{outcome:?}");
    // Speaks no TLS.
    let port = script(|mut stream| {
        let _ = stream.write_all(b"220 mail ready\r\n");
    });
    let outcome = analyze(&pki, port, &[]);
    found(&outcome, 3, &["tls-handshake-failed"]);
    assert!(outcome.out.contains("does not speak TLS"), "{outcome:?}");
    // Closes at once.
    found(&analyze(&pki, script(drop), &[]), 3, &["tls-handshake-failed"]);
    // Speaks TLS and something else, or half of HTTP.
    for answer in
        ["220 mail ready\r\n", "", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/9.9 200 OK\r\n\r\n"]
    {
        let port = tls(&pki, "site", answer.to_owned());
        found(&analyze(&pki, port, &[]), 3, &["no-http-response"]);
    }
    // 1 MB of headers.
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    found(&analyze(&pki, tls(&pki, "site", large), &[]), 3, &["oversized-input"]);
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(20_000));
    found(&analyze(&pki, tls(&pki, "site", many), &[]), 3, &["oversized-input"]);
    // Without an HTTP response the certificates are in the output all the same.
    let port = tls(&pki, "site", String::new());
    let site = first_site(&analyze(&pki, port, &[]));
    assert_eq!(site["addresses"][0]["chains"][0]["accepted"], true);
    // Without a response the header is unknown, so the next renewal has no forecast.
    assert_eq!(site["renewal"], Value::Null);
    // `--no-http` sends no request, so no response is missing.
    found(&analyze(&pki, port, &["--no-http"]), 0, &[]);
    // Does not resolve.
    let outcome = run(Path::new("/"), &["analyze", "--json", "no-such-host.invalid"]);
    found(&outcome, 3, &["name-not-resolved"]);
}

/// If any client notes the header, the next certificate must satisfy its pins, even where RFC 7469 ignores it.
#[test]
fn the_next_renewal_counts_each_client() {
    let (_dir, pki) = pki();
    let (live, backup) = (pki.pin("live.key"), pki.pin("backup.key"));
    for (more, outcome) in [
        ("max-age=60", "same-key"),
        ("report-uri=\"/here\"; max-age=60", "same-key"),
        ("max-age=60, x", "same-key"),
        // Clients forget the host.
        ("max-age=0", "no-pins"),
    ] {
        let port = tls(&pki, "site", pkp(&pins(&[&live, &backup], more)));
        let site = first_site(&analyze(&pki, port, &[]));
        assert_eq!(site["renewal"]["outcome"], outcome, "{more}: {site:#}");
    }
}

#[test]
fn redirects_are_followed_within_limits() {
    let (_dir, pki) = pki();
    let good = good(&pki);
    // On the same host, to a page that has the header.
    let page = pkp(&good);
    let respond = move |path: &str, _| if path == "/new" { page.clone() } else { redirect("/new") };
    let outcome = analyze(&pki, tls_with(&pki, "site", Arc::new(respond)), &[]);
    found(&outcome, 0, &[]);
    let hops = outcome.json()["targets"][0]["hops"].clone();
    assert_eq!(hops[0]["location"], "/new");
    assert_eq!(hops[1]["url"], format!("https://{HOST}/new"));
    assert_eq!(first_site(&outcome)["headers"][0]["rfc7469"]["verdict"], "note");
    // In a loop.
    let outcome = analyze(&pki, tls(&pki, "site", redirect("/again")), &[]);
    found(&outcome, 3, &["too-many-redirects"]);
    assert_eq!(outcome.json()["targets"][0]["hops"].as_array().map(Vec::len), Some(11));
    let outcome = analyze(&pki, tls(&pki, "site", redirect("/again")), &["--max-redirects", "0"]);
    found(&outcome, 0, &[]);
    // To URLs that are not HTTP.
    found(&analyze(&pki, tls(&pki, "site", redirect("mailto:x@y")), &[]), 3, &["no-http-response"]);
    for odd in ["https://www.example.com/\x1b[2J", "https://a:b@www.example.com/"] {
        found(&analyze(&pki, tls(&pki, "site", redirect(odd)), &[]), 3, &["no-http-response"]);
    }
    // To another host, which is analyzed too, through plain HTTP; that response has the header.
    pki.leaf("second", "second.example.com", "ca");
    let second = tls(&pki, "second", pkp(&pins(&[A, B], "max-age=60")));
    let there = redirect(&format!("https://second.example.com:{second}/x"));
    let there = there.replace("\r\n\r\n", &format!("\r\nPublic-Key-Pins: {good}\r\n\r\n"));
    let middle = plain(there);
    let first = tls(&pki, "site", redirect(&format!("http://{HOST}:{middle}/")));
    let names = [HOST, "second.example.com"];
    let zone = names.map(|name| (name.to_owned(), Data::Address("127.0.0.1")));
    let resolver = resolver(zone.to_vec(), Manner::default());
    let ca = pki.path("ca.pem");
    let ca = ca.to_str().expect("UTF-8");
    let target = format!("https://{HOST}:{first}/");
    let outcome = run(
        Path::new("/"),
        &["analyze", "--json", "--resolver", &resolver, "--ca-file", ca, &target],
    );
    found(&outcome, 1, &["header-over-plain-http", "no-pin-in-chain"]);
    let json = outcome.json();
    let sites = json["targets"][0]["sites"].as_array().expect("sites");
    let hosts: Vec<&str> = sites.iter().filter_map(|site| site["host"].as_str()).collect();
    assert_eq!(hosts, [HOST, HOST, "second.example.com"]);
    assert_eq!(sites[2]["findings"][0]["code"], "no-pin-in-chain");
}

/// Every client accepts the headers of the nginx and httpd modules.
#[test]
fn headers_of_both_modules_have_no_findings() {
    use hpkp_tests::httpd::{self, Httpd};
    use hpkp_tests::site::{furnish, prepared};

    let check = |pki: &Pki, port: u16| {
        let outcome = analyze(pki, port, &[]);
        found(&outcome, 0, &[]);
        let site = first_site(&outcome);
        let headers = site["headers"].as_array().expect("headers");
        assert_eq!(headers.len(), 2);
        for client in ["chromium", "firefox", "wget2"] {
            assert_eq!(headers[0]["clients"][client]["verdict"], "note", "{client}");
        }
        assert_eq!(
            headers[1]["clients"]["chromium"],
            serde_json::json!({
                "verdict": "evaluate", "report": false,
            })
        );
        // wget2 itself notes the pins that the analysis predicts.
        let wget2 = hpkp_tests::client::Wget2::new(&pki.path("ca.pem"), pki.path("known"));
        assert_eq!(wget2.get(&format!("https://localhost:{port}/")), Some(0));
        let noted: std::collections::BTreeSet<String> = wget2.pins().into_iter().collect();
        let outcome = headers[0]["rfc7469"]["pins"].as_array().expect("pins").iter();
        let outcome =
            outcome.filter_map(|pin| pin.as_str()?.strip_prefix("sha256/").map(str::to_owned));
        assert_eq!(noted, outcome.collect());
    };
    // Firefox noted no host without a dot, and wget2 has to find the host.
    let certify = |pki: &Pki| {
        pki.key("both", P256);
        pki.sign("both", "/CN=both", "ca", &leaf_extensions(&format!("{HOST},DNS:localhost")));
        pki.pin("both.pem")
    };
    let mut nginx = prepared();
    let pki = nginx.pki();
    let live = certify(&pki);
    let port = free_port();
    let site = "hpkp site; hpkp_report_only tried; location / { return 200 x; }";
    nginx.configure(&format!(
        "hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}\n\
         hpkp_policy tried {{ pin {live}; pin {A}; report_uri https://r.example/; }}\n{}",
        hpkp_tests::nginx::tls_server(port, &format!("{HOST} localhost"), "both", site)
    ));
    nginx.start();
    check(&pki, port);

    let mut httpd = Httpd::new();
    let pki = httpd.pki();
    furnish(&pki);
    let live = certify(&pki);
    let port = free_port();
    let site = "ServerAlias localhost\nHPKPUse site\nHPKPUseReportOnly tried\nRedirect 204 /";
    httpd.configure(&format!(
        "{}<HPKPPolicy site>\nHPKPPin {live}\nHPKPPin {B}\nHPKPMaxAge 1d\n</HPKPPolicy>\n\
         <HPKPPolicy tried>\nHPKPPin {live}\nHPKPPin {A}\nHPKPReportURI https://r.example/\n</HPKPPolicy>\n{}",
        httpd::listen(&[port]),
        httpd::tls_vhost(port, HOST, "both", site)
    ));
    httpd.start();
    check(&pki, port);
}

/// Analyzes the host; a resolver that serves `zone` resolves its name.
fn resolved(
    pki: &Pki,
    zone: Vec<(String, Data)>,
    manner: Manner,
    port: u16,
    more: &[&str],
) -> Outcome {
    let resolver = resolver(zone, manner);
    let ca = pki.path("ca.pem");
    let ca = ca.to_str().expect("UTF-8");
    let target = format!("{HOST}:{port}");
    // Only with a resolver whose answers are ignored does the command wait for the whole timeout.
    let timeout = if manner.other_id || manner.other_question { "2" } else { "600" };
    let arguments =
        ["analyze", "--json", "--timeout", timeout, "--resolver", &resolver, "--ca-file", ca];
    run(Path::new("/"), &[&arguments[..], more, &[&target]].concat())
}

fn zone(addresses: &[&'static str]) -> Vec<(String, Data)> {
    addresses.iter().map(|address| (HOST.to_owned(), Data::Address(address))).collect()
}

#[test]
fn every_address_of_a_name_is_analyzed() {
    let (_dir, pki) = pki();
    pki.leaf("twin", HOST, "ca");
    let port = free_port();
    let header = pkp(&good(&pki));
    let all: Vec<std::net::IpAddr> = ["127.0.0.1", "127.0.0.2", "::1"]
        .iter()
        .map(|one| one.parse().expect("an address"))
        .collect();
    for (address, name) in all.iter().zip(["site", "twin", "site"]) {
        let header = header.clone();
        // The server with the other certificate sends no header.
        let answer = if name == "twin" { response(&[]) } else { header };
        let listener = listen(*address, port);
        serve(&pki, name, listener, Arc::new(move |_, _| answer.clone()));
    }
    let outcome =
        resolved(&pki, zone(&["127.0.0.1", "127.0.0.2", "::1"]), Manner::default(), port, &[]);
    found(&outcome, 1, &["header-differs", "peer-server-pin-mismatch"]);
    let site = first_site(&outcome);
    assert_eq!(site["addresses"].as_array().map(Vec::len), Some(3));
    let findings = site["findings"].as_array().expect("findings");
    let mismatch =
        findings.iter().find(|one| one["code"] == "peer-server-pin-mismatch").expect("it");
    assert_eq!(mismatch["addresses"], serde_json::json!([format!("127.0.0.2:{port}")]));
    // One of them is down.
    let outcome = resolved(&pki, zone(&["127.0.0.1", "127.0.0.3"]), Manner::default(), port, &[]);
    found(&outcome, 3, &["server-not-reached"]);
}

/// The SHA-256 hash of a file's public key, as TLSA records with selector 1 and matching type 1 have it.
fn key_hash(pki: &Pki, file: &str) -> Vec<u8> {
    openssl::base64::decode_block(&pki.pin(file)).expect("base64")
}

#[test]
fn tlsa_records() {
    let (_dir, pki) = pki();
    let port = tls(&pki, "site", response(&[]));
    let owner = format!("_{port}._tcp.{HOST}");
    let with = |records: &[(u8, u8, u8, Vec<u8>)], manner| {
        let mut zone = zone(&["127.0.0.1"]);
        let records = records.iter().cloned();
        zone.extend(records.map(|(u, s, m, data)| (owner.clone(), Data::Tlsa(u, s, m, data))));
        resolved(&pki, zone, manner, port, &[])
    };
    let authentic = Manner { authentic: true, ..Manner::default() };
    let (live, middle) = (key_hash(&pki, "live.key"), key_hash(&pki, "middle.key"));
    let backup = key_hash(&pki, "backup.key");
    let outcome = with(&[(3, 1, 1, live.clone()), (3, 1, 1, backup.clone())], authentic);
    found(&outcome, 0, &[]);
    let tlsa = &first_site(&outcome)["tlsa"];
    assert_eq!((&tlsa["dnssec"], &tlsa["ttl"]), (&"validated".into(), &300.into()));
    let matches = [true, false].map(Value::Bool);
    let mut results: Vec<Value> = tlsa["records"]
        .as_array()
        .expect("records")
        .iter()
        .map(|one| one["matches"].clone())
        .collect();
    results.sort_by_key(|one| *one == Value::Bool(false));
    assert_eq!(results, matches);
    // Without the AD bit of the resolver, the records count as not validated.
    let outcome = with(&[(3, 1, 1, live.clone())], Manner::default());
    found(&outcome, 0, &["tlsa-not-validated"]);
    assert_eq!(first_site(&outcome)["tlsa"]["dnssec"], "not-validated");
    found(&with(&[(3, 1, 1, backup.clone())], authentic), 1, &["published-pins-unmet"]);
    found(&with(&[(2, 1, 1, middle.clone())], authentic), 0, &[]);
    found(&with(&[(0, 1, 1, key_hash(&pki, "ca.key"))], authentic), 0, &[]);
    // Usage 2 (DANE-TA) needs a certificate that the server sends, and it does not send the root.
    found(&with(&[(2, 1, 1, key_hash(&pki, "ca.key"))], authentic), 1, &["published-pins-unmet"]);
    let outcome = with(&[(3, 1, 1, live), (2, 1, 1, backup)], authentic);
    found(&outcome, 0, &["tlsa-combination-unmet"]);
    found(&with(&[(3, 1, 1, vec![1, 2, 3])], authentic), 0, &["tlsa-not-usable"]);
    found(&with(&[], authentic), 0, &[]);
}

#[test]
fn failures_of_the_resolver_are_reported() {
    let (_dir, pki) = pki();
    let port = tls(&pki, "site", response(&[]));
    let ask = |manner| resolved(&pki, zone(&["127.0.0.1"]), manner, port, &["--requests", "1"]);
    found(&ask(Manner { truncates: true, ..Manner::default() }), 0, &[]);
    for manner in [
        Manner { other_id: true, ..Manner::default() },
        Manner { other_question: true, ..Manner::default() },
        Manner { garbage: true, ..Manner::default() },
        Manner { code: Some(ResponseCode::ServFail), ..Manner::default() },
        Manner { code: Some(ResponseCode::Refused), ..Manner::default() },
    ] {
        let outcome = ask(manner);
        found(&outcome, 3, &["resolver-failed"]);
    }
    let outcome = ask(Manner { code: Some(ResponseCode::NXDomain), ..Manner::default() });
    // The response has both the code NXDOMAIN and an address, so the command may use either.
    assert!(matches!(outcome.code, Some(0 | 3)), "{outcome:?}");
    let nothing = resolved(&pki, vec![], Manner::default(), port, &[]);
    found(&nothing, 3, &["name-not-resolved"]);
    // A socket that never answers, and a port without a resolver.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for server in [silent.local_addr().expect("an address").port(), free_port()] {
        let server = format!("127.0.0.1:{server}");
        let outcome = run(
            Path::new("/"),
            &["analyze", "--json", "--timeout", "1", "--resolver", &server, HOST],
        );
        found(&outcome, 3, &["resolver-failed"]);
    }
    // Aliases: one, and a circle.
    let alias = |from: &str, to| (from.to_owned(), Data::Alias(to));
    let mut zone = zone(&[]);
    zone.push(alias(HOST, "cdn.example.net."));
    zone.push(("cdn.example.net".to_owned(), Data::Address("127.0.0.1")));
    found(&resolved(&pki, zone, Manner::default(), port, &[]), 0, &[]);
    let circle = vec![alias(HOST, "b.example."), alias("b.example", "www.example.com.")];
    found(&resolved(&pki, circle, Manner::default(), port, &[]), 3, &["resolver-failed"]);
}

#[test]
fn certificates_are_read_after_starttls() {
    let (_dir, pki) = pki();
    const SMTP: &[&str] =
        &["220-mx\r\n220 ready\r\n", "250-mx\r\n250-SIZE 1\r\n250 starttls\r\n", "220 go\r\n"];
    const IMAP: &[&str] = &["* OK ready\r\n", "* CAPABILITY x\r\na OK go\r\n"];
    const POP3: &[&str] = &["+OK ready\r\n", "+OK go\r\n"];
    const XMPP: &[&str] = &[
        "",
        "",
        "<?xml version='1.0'?><stream:stream><stream:features><starttls \
         xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    ];
    // The server answers the client's XML declaration and stream header together, so one empty answer is left out.
    for (protocol, lines) in [
        ("smtp", SMTP),
        ("imap", IMAP),
        ("pop3", POP3),
        ("xmpp", &XMPP[1..]),
        ("xmpp-server", &XMPP[1..]),
    ] {
        let port = starttls(&pki, "site", lines);
        let outcome = analyze(&pki, port, &["--starttls", protocol]);
        found(&outcome, 0, &[]);
        let site = first_site(&outcome);
        assert_eq!(site["protocol"], protocol);
        assert_eq!(site["addresses"][0]["chains"][0]["accepted"], true);
    }
    for (protocol, lines, text) in [
        ("smtp", &["220 mx\r\n", "250 mx\r\n"][..], "does not offer STARTTLS"),
        ("smtp", &["554 go away\r\n"], "554 go away"),
        ("imap", &["* BYE\r\n"], "* BYE"),
        ("imap", &["* OK x\r\n", "a NO\r\n"], "a NO"),
        ("pop3", &["+OK x\r\n", "-ERR no\r\n"], "-ERR no"),
        (
            "xmpp",
            &["", "<stream:stream><stream:features></stream:features>"],
            "does not offer STARTTLS",
        ),
    ] {
        let lines: &'static [&'static str] = lines;
        let outcome = analyze(&pki, starttls(&pki, "site", lines), &["--starttls", protocol]);
        found(&outcome, 3, &["tls-handshake-failed"]);
        assert!(outcome.out.contains(text), "{outcome:?}");
    }
    // Mail servers do not verify certificates, so an untrusted one does not fail the analysis.
    let port = starttls(&pki, "live", SMTP);
    let connect = format!("127.0.0.1:{port}");
    let arguments = ["analyze", "--json", "--starttls", "smtp", "--connect", &connect, HOST];
    found(&run(Path::new("/"), &arguments), 0, &["certificate-untrusted"]);
}

#[test]
fn each_target_of_a_list_has_its_result() {
    let (_dir, pki) = pki();
    let header = pkp(&good(&pki));
    let slow = move |_: &str, _| {
        std::thread::sleep(Duration::from_millis(100));
        header.clone()
    };
    let port = tls_with(&pki, "site", Arc::new(slow));
    let closed = free_port();
    let list =
        format!("# hosts\n\n127.0.0.1:{closed}\n  https://localhost:{port}/x  \nnot a host\n");
    let arguments = ["analyze", "--json", "--requests", "1", "--timeout", "600", "-"];
    let outcome = run_with(list.as_bytes(), &arguments);
    let json = outcome.json();
    let targets = json["targets"].as_array().expect("targets");
    let names: Vec<&str> = targets.iter().filter_map(|one| one["target"].as_str()).collect();
    let second = format!("https://localhost:{port}/x");
    assert_eq!(names, [&format!("127.0.0.1:{closed}"), second.as_str(), "not a host"]);
    let exits: Vec<Option<i64>> = targets.iter().map(|one| one["exit"].as_i64()).collect();
    assert_eq!((exits, outcome.code), (vec![Some(3), Some(1), Some(3)], Some(1)), "{outcome:?}");
    run_with(b"# nothing\n", &["analyze", "-"]).failed(1, "no targets");
}

#[test]
fn wrong_usage() {
    let here = Path::new("/");
    for arguments in [
        &["analyze"][..],
        &["analyze", "a b"],
        &["analyze", "ftp://x/"],
        &["analyze", "-", "-"],
        &["analyze", "--connect", "localhost", "x"],
        &["analyze", "--resolver", "x", "x"],
        &["analyze", "--requests", "0", "x"],
        &["analyze", "--servername", "a b", "x"],
        &["analyze", "--starttls", "ftp", "x"],
    ] {
        let outcome = run(here, arguments);
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (Some(2), ""),
            "{arguments:?}: {outcome:?}"
        );
    }
    run(here, &["analyze", "--ca-file", "/nowhere", "localhost:1"]).failed(3, "/nowhere");
    run(here, &["analyze", "--ca-table", "/nowhere", "localhost:1"]).failed(3, "/nowhere");
}

#[test]
fn a_test_report_fails_unless_the_collector_accepts_it() {
    let (_dir, pki) = pki();
    let good = good(&pki);
    let site = |uri: &str| tls(&pki, "site", pkp(&format!("{good}; report-uri=\"{uri}\"")));
    let answered = |status: &str| {
        let port = plain(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        format!("http://127.0.0.1:{port}/r/")
    };
    for (status, exit) in [("204 No Content", 0), ("403 Forbidden", 1)] {
        let uri = answered(status);
        let outcome = analyze(&pki, site(&uri), &["--test-report"]);
        assert_eq!(outcome.code, Some(exit), "{outcome:?}");
        let sent = &outcome.json()["targets"][0]["test_reports"][0];
        assert_eq!(sent["uri"], uri.as_str());
        assert_eq!(sent["status"].to_string(), status[..3]);
    }
    let outcome =
        analyze(&pki, site(&format!("http://127.0.0.1:{}/r/", free_port())), &["--test-report"]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.json()["targets"][0]["test_reports"][0]["error"].is_string());
    // No report URI.
    let outcome = analyze(&pki, tls(&pki, "site", pkp(&good)), &["--test-report"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.json()["targets"][0]["test_reports"], serde_json::json!([]));
    // Without `--test-report` no report is sent.
    assert!(
        analyze(&pki, site(&answered("204 x")), &[]).json()["targets"][0]["test_reports"].is_null()
    );
}
