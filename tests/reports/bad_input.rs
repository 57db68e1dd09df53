//! Invalid, oversized and unusual bodies and requests.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::collector::{Collector, now, read_answer, report, request, small};

const HOST: &str = "www.example.com";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bodies_are_limited_before_and_after_gzip() {
    let collector = Collector::start(&[HOST], "", "[limits]\nbody = \"64k\"\n");
    let packed = gzip(small(HOST, 1).as_bytes());
    let type_json = ("content-type", "application/json");
    let is_gzip = ("content-encoding", "gzip");
    assert_eq!(collector.post_with(&packed, &[type_json, is_gzip]).status, 204);
    let tlsrpt = [("content-type", "application/tlsrpt+gzip")];
    assert_eq!(collector.post_with(&packed, &tlsrpt).status, 204);
    // Gzip bombs.
    let bomb = gzip(&vec![b' '; 100 << 20]);
    assert!(bomb.len() > 64 << 10, "refused by its size");
    assert_eq!(collector.post_with(&bomb, &[type_json, is_gzip]).status, 413);
    let bomb = gzip(&vec![b' '; 10 << 20]);
    assert!(bomb.len() < 64 << 10, "refused by what is in it");
    assert_eq!(collector.post_with(&bomb, &[type_json, is_gzip]).status, 413);
    // A body is unpacked only once.
    let twice = gzip(&gzip(&vec![b' '; 50 << 20]));
    assert_eq!(collector.post_with(&twice, &[type_json, is_gzip]).status, 400);
    assert_eq!(collector.post_with(&packed[..20], &[type_json, is_gzip]).status, 400);
    assert_eq!(collector.post_with(&packed, &[type_json, ("content-encoding", "br")]).status, 415);
    assert_eq!(collector.post_with("x", &[("content-type", "image/png")]).status, 415);
    // A body with a content-length of a gigabyte, and a large body without a content-length.
    let huge = format!("POST /r/ HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 1 << 30);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, collector.port)).unwrap();
    stream.write_all(huge.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().status, 413);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, collector.port)).unwrap();
    let head = "POST /r/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..20 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    assert_eq!(read_answer(&mut stream).unwrap().status, 413);
    assert_eq!(collector.total(), 2);
    let memory = std::fs::read_to_string(format!("/proc/{}/status", collector.pid())).unwrap();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    assert!(peak < 200 << 10, "{peak} kB");
}

#[test]
fn bodies_that_are_not_reports_get_400() {
    let collector = Collector::start(&[HOST], "", "");
    let deep = "[".repeat(100_000);
    for body in [
        String::new(),
        deep.clone(),
        format!("{deep}{}", "]".repeat(100_000)),
        "{\"a\":".repeat(50_000),
        "null".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        format!("[{}]", small(HOST, 1)),
        "{\"hostname\":\"www.example.com\"}".to_owned(),
        "\u{0}".to_owned(),
        format!("{}{}", "{\"type\":1,\"body\":".repeat(10_000), "}".repeat(10_000)),
    ] {
        let status = collector.post(&body);
        assert_eq!(status, 400, "{}", body.chars().take(40).collect::<String>());
    }
    // The same status as for a listed host, so that strangers do not learn the list.
    assert_eq!(collector.post(small("www.example.org", 1)), 204);
    assert_eq!(collector.total(), 0);
}

#[test]
fn a_request_that_takes_too_long_gets_408() {
    let collector = Collector::start(&[HOST], "", "[limits]\nseconds = 1\n");
    let begin = Instant::now();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, collector.port)).unwrap();
    stream.write_all(b"POST /r/ HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
    assert_eq!(read_answer(&mut stream).unwrap().status, 408);
    // A client that never ends its header gets no answer, or 408.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, collector.port)).unwrap();
    stream.write_all(b"POST /r/ HTTP/1.1\r\nhost: x\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let answer = read_answer(&mut stream);
    assert!(answer.is_err() || answer.unwrap().status == 408);
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn only_post_and_preflight_are_answered_and_unlisted_hosts_look_like_listed_ones() {
    let collector = Collector::start(&[HOST], "", "");
    let fields = [
        ("origin", "https://www.example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let answer = request(collector.port, "OPTIONS", "/r/x", &fields, b"").unwrap();
    assert!(matches!(answer.status, 200 | 204));
    assert_eq!(answer.field("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.field("access-control-allow-methods"), Some("POST"));
    let allowed = answer.field("access-control-allow-headers").unwrap();
    assert!(allowed.contains("content-type"), "{allowed}");
    for path in ["/r", "/r/", "/r/a", "/r/a/b?c"] {
        let status = request(collector.port, "POST", path, &[], small(HOST, 1).as_bytes());
        assert_eq!(status.unwrap().status, 204, "{path}");
    }
    // No pages on this address, and no difference between listed and unlisted hosts.
    assert_eq!(request(collector.port, "GET", "/r/", &[], b"").unwrap().status, 405);
    for path in ["/", "/metrics", "/host/www.example.com"] {
        let answer = request(collector.port, "GET", path, &[], b"").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (404, ""), "{path}");
    }
    let (listed, other) =
        (collector.post_with(small(HOST, 1), &[]), collector.post_with(small("x.example", 1), &[]));
    assert_eq!((other.status, other.body.as_str()), (204, ""));
    let fields = |head: &str| -> Vec<String> {
        head.lines().filter(|line| !line.starts_with("date:")).map(str::to_owned).collect()
    };
    assert_eq!(fields(&other.head), fields(&listed.head));
    // A counter and the log inform the operator.
    assert_eq!(collector.metric("hpkp_reports_refused_total{reason=\"host\"}"), 1);
    assert!(collector.log().contains("not in hosts: x.example"), "{}", collector.log());
}

#[test]
fn reports_with_any_date_count_for_the_day_of_receipt() {
    let hosts = [HOST, "2001:db8::1", "192.0.2.1", "xn--bcher-kva.example"];
    let collector = Collector::start(&hosts, "", "");
    for date in ["1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "0000-01-01T00:00:00Z"] {
        let status = collector.post(report(HOST, date, &[]));
        assert_eq!(status, 204, "{date}");
    }
    for host in ["2001:db8::1", "192.0.2.1", "xn--bcher-kva.example"] {
        assert_eq!(collector.post(report(host, &now(), &[])), 204, "{host}");
    }
    // The day of a group is the day of receipt.
    let today = now();
    for group in collector.groups() {
        assert_eq!(group["day"].as_str().unwrap(), today.split('T').next().unwrap(), "{group}");
        assert_eq!(collector.get(&format!("/group/{}", group["id"].as_str().unwrap())).status, 200);
    }
    assert_eq!(collector.get("/host/2001%3Adb8%3A%3A1").status, 200);
}

#[test]
fn a_flood_neither_fills_the_disk_nor_starves_other_hosts() {
    let limits = "[limits]\nclient_per_minute = 1000000\nhost_per_second = 50\ntotal_per_second = 80\n\
                  groups_per_day = 5\n";
    let collector = Collector::start(&[HOST, "other.example.com"], "", limits);
    // Reports for unlisted hosts use up no limit of listed ones.
    for n in 0..200 {
        let status = collector.post(small("stranger.example", n));
        assert!(matches!(status, 204 | 429), "{status}");
    }
    assert_eq!(collector.total(), 0);
    assert_eq!(collector.log().matches("not in hosts").count(), 1, "the log is bounded");
    let statuses: Vec<u16> = (0..200).map(|n| collector.post(small(HOST, n))).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    let taken = statuses.iter().filter(|status| **status == 204).count() as i64;
    assert!(taken >= 50);
    assert_eq!(collector.post(small("other.example.com", 1)), 204);
    assert_eq!(collector.total(), taken + 1);
    // Different chains beyond the limit are counted in one group.
    let groups = collector.groups();
    let of_host: Vec<_> = groups.iter().filter(|group| group["host"] == HOST).collect();
    assert_eq!(of_host.len(), 6);
    assert!(of_host.iter().any(|group| group["finding"] == "report-overflow"));
}

#[test]
fn a_client_beyond_its_limit_gets_429() {
    let collector = Collector::start(&[HOST], "", "[limits]\nclient_per_minute = 5\n");
    let answers: Vec<_> = (0..7).map(|_| collector.post_with(small(HOST, 1), &[])).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [204, 204, 204, 204, 204, 429, 429]);
    assert_eq!(answers[6].field("retry-after"), Some("60"));
    // X-Forwarded-For is trusted only from trusted proxies.
    let forged = collector.post_with(small(HOST, 1), &[("x-forwarded-for", "192.0.2.7")]);
    assert_eq!(forged.status, 429);
    let top = "trusted_proxies = [\"127.0.0.1\"]\nkeep_addresses = true";
    let collector = Collector::start(&[HOST], top, "[limits]\nclient_per_minute = 1\n");
    for (address, expected) in
        [("192.0.2.7", 204), ("192.0.2.8", 204), ("192.0.2.8", 429), ("2001:db8::1", 204)]
    {
        let forwarded = format!("203.0.113.9, {address}");
        let answer = collector.post_with(small(HOST, 1), &[("x-forwarded-for", &forwarded)]);
        assert_eq!(answer.status, expected, "{address}");
    }
    let group = &collector.groups()[0];
    assert_eq!((&group["count"], &group["clients"]), (&3.into(), &3.into()));
    let page = collector.get(&format!("/group/{}", group["id"].as_str().unwrap())).body;
    assert!(page.contains("192.0.2.7") && page.contains("2001:db8::1"));
}

#[test]
fn forwarded_addresses_are_trusted_from_proxy_networks() {
    let top = "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\", \"2001:db8:1::/48\"]\nkeep_addresses = true";
    let collector = Collector::start(&[HOST], top, "");
    for forwarded in [
        "203.0.113.9, 192.0.2.7",
        "192.0.2.7, 10.1.2.3",
        "192.0.2.7, 2001:db8:1:2::3, 127.0.0.9",
        "10.0.0.1, 192.0.2.7, ::ffff:10.4.5.6",
    ] {
        let answer = collector.post_with(small(HOST, 1), &[("x-forwarded-for", forwarded)]);
        assert_eq!(answer.status, 204, "{forwarded}");
    }
    let group = &collector.groups()[0];
    assert_eq!((&group["count"], &group["clients"]), (&4.into(), &1.into()));
    let page = collector.get(&format!("/group/{}", group["id"].as_str().unwrap())).body;
    assert!(page.contains("192.0.2.7") && !page.contains("203.0.113.9"), "{page}");
    // `check` and `serve` report an error of the list with its place.
    let text = std::fs::read_to_string(collector.config()).unwrap();
    let wrong = text.replace("\"10.0.0.0/8\", ", "\n  \"10.0.0.0/40\",\n  ");
    assert_ne!(wrong, text);
    let line = wrong.lines().position(|line| line.contains("/40")).unwrap() + 1;
    std::fs::write(collector.config(), wrong).unwrap();
    for command in ["check", "serve"] {
        let mut program = std::process::Command::new(crate::collector::PROGRAM);
        let output =
            hpkp_tests::output(program.args([command, "--config"]).arg(collector.config()));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        let place = format!(
            "reports.toml:{line}: trusted_proxies = \"10.0.0.0/40\": invalid address or network"
        );
        assert!(error.contains(&place), "{error}");
    }
}

#[test]
fn an_error_of_a_configured_file_has_the_key_and_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let pki = hpkp_tests::pki::Pki::new(dir.path());
    pki.ca("site");
    let (certificate, key) = (pki.path("site.pem"), pki.path("site.key"));
    let mail = "[alarms.mail]\nserver = \"smtp://127.0.0.1\"\nfrom = \"a@b.example\"\nto = [\"c@b.example\"]\nuser = \"x\"\n";
    for (text, code, error) in [
        (
            "[pages]\ntoken_file = \"/none\"\n",
            1,
            ":4: pages.token_file = \"/none\": /none: no such file or directory",
        ),
        (
            &*format!("[tls]\ncertificate = \"/none\"\nkey = {key:?}\n"),
            1,
            ":4: tls.certificate = \"/none\": /none: no such file or directory\n",
        ),
        (
            &format!("[tls]\ncertificate = {key:?}\nkey = {key:?}\n"),
            1,
            "site.key: no certificate\n",
        ),
        (
            &format!("[tls]\ncertificate = {certificate:?}\nkey = {certificate:?}\n"),
            1,
            "site.pem: no private key\n",
        ),
        (
            &format!("{mail}password_file = \"/none\"\n"),
            1,
            ":8: alarms.mail.password_file = \"/none\": /none: no such",
        ),
        ("private_roots = \"/none\"\n", 1, ":3: private_roots = \"/none\": /none: no such"),
        ("hosts = []\n", 1, ":3: hosts"),
        (
            "[alarms]\ncommand = [\"/none\", \"x\"]\n",
            0,
            "warning: alarms.command: /none: no such file or directory\n",
        ),
    ] {
        let file = dir.path().join("reports.toml");
        let begin = format!("store = \"/x/reports.sqlite\"\nhosts = [\"{HOST}\"]\n");
        std::fs::write(&file, format!("{begin}{text}")).unwrap();
        let mut program = std::process::Command::new(crate::collector::PROGRAM);
        let output = hpkp_tests::output(program.args(["check", "--config"]).arg(&file));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}: {errors}");
        assert!(errors.contains(error), "{text}: {errors}");
    }
}

#[test]
fn a_thousand_equal_reports_become_one_group() {
    let collector = Collector::start(
        &[HOST],
        "",
        "[limits]\nclient_per_minute = 100000\nhost_per_second=100000\n",
    );
    for _ in 0..1000 {
        assert_eq!(collector.post(small(HOST, 1)), 204);
    }
    assert_eq!(collector.groups().len(), 1);
    assert_eq!(collector.total(), 1000);
}

#[test]
fn known_types_and_encodings_are_accepted_and_others_get_415() {
    let collector = Collector::start(&[HOST], "", "");
    let body = small(HOST, 1);
    for (name, value, status) in [
        ("content-type", "application/json; charset=UTF-8", 204),
        ("content-type", "Application/JSON;q=1;x=\"a;b\"", 204),
        ("content-type", "application/vnd.example+json", 204),
        ("content-type", "", 204),
        ("content-type", "application/tlsrpt+gzip", 204),
        ("content-type", "application/x-gzip", 204),
        ("content-type", "application/zip", 415),
        ("content-type", "multipart/form-data", 415),
        ("content-encoding", "", 204),
        ("content-encoding", "Identity", 204),
        // As if a proxy had unpacked the body and kept the header field.
        ("content-encoding", "gzip", 204),
        ("content-encoding", "gzip, gzip", 415),
        ("content-encoding", "zstd", 415),
    ] {
        let answer = collector.post_with(&body, &[(name, value)]);
        assert_eq!(answer.status, status, "{name}: {value}");
    }
    let packed = gzip(body.as_bytes());
    for kind in ["application/json", "application/tlsrpt+gzip", "application/tlsrpt+json", ""] {
        assert_eq!(collector.post_with(&packed, &[("content-type", kind)]).status, 204, "{kind}");
    }
    assert_eq!(collector.post(format!("\u{feff}{body}")), 204);
    assert_eq!(collector.post("PK\u{3}\u{4}"), 400);
}

#[test]
fn spellings_of_a_host_become_one_group() {
    let collector = Collector::start(&["WWW.example.com.", "[2001:DB8::1]"], "", "");
    for host in ["www.EXAMPLE.com", "www.example.com."] {
        assert_eq!(collector.post(small(host, 1)), 204);
    }
    for host in ["2001:db8::1", "[2001:db8::1]", "2001:0DB8::0:1"] {
        assert_eq!(collector.post(report(host, &now(), &[])), 204);
    }
    let groups = collector.groups();
    let counts: Vec<_> = groups.iter().map(|group| (&group["host"], &group["count"])).collect();
    assert_eq!(counts.len(), 2, "{counts:?}");
    assert!(counts.contains(&(&HOST.into(), &2.into())), "{counts:?}");
    assert!(counts.contains(&(&"2001:db8::1".into(), &3.into())), "{counts:?}");
}

#[test]
fn a_preflight_allows_any_header_fields() {
    let collector = Collector::start(&[HOST], "", "");
    let fields = [
        ("origin", "null"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type, traceparent,x-requested-with"),
        ("access-control-request-private-network", "true"),
    ];
    let answer = request(collector.port, "OPTIONS", "/r/x", &fields, b"").unwrap();
    assert!(matches!(answer.status, 200 | 204));
    let allowed = answer.field("access-control-allow-headers").unwrap();
    for name in ["content-type", "traceparent", "x-requested-with"] {
        assert!(allowed.contains(name), "{allowed}");
    }
    assert_eq!(answer.field("access-control-allow-private-network"), Some("true"));
}

#[test]
fn an_idle_connection_is_closed() {
    let collector = Collector::start(&[HOST], "", "[limits]\nseconds = 1\n");
    let body = small(HOST, 1);
    let whole =
        format!("POST /r/ HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    // No data; the first byte of HTTP/2; HTTP/2 without a request; a request and then no more.
    let http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    for first in ["", "P", http2, &whole] {
        let begin = Instant::now();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, collector.port)).unwrap();
        stream.write_all(first.as_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        // The collector closes the connection.
        let ended = std::io::copy(&mut stream, &mut std::io::sink());
        assert!(ended.is_ok(), "{first:?}: {ended:?} after {:?}", begin.elapsed());
    }
}

#[test]
fn slow_bodies_do_not_delay_other_reports() {
    let limits = "[limits]\nseconds = 20\nclient_connections = 1000\n";
    let collector = Collector::start(&[HOST], "", limits);
    let head = b"POST /r/ HTTP/1.1\r\nhost: x\r\ncontent-length: 250000\r\n\r\n{";
    let slow: Vec<TcpStream> = (0..400)
        .map(|_| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, collector.port)).unwrap();
            stream.write_all(head).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let begin = Instant::now();
    assert_eq!(collector.post(small(HOST, 1)), 204);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop(slow);
}

#[test]
fn a_batch_larger_than_a_limit_is_accepted_and_uses_all_of_it() {
    let collector = Collector::start(&[HOST], "", "[limits]\nhost_per_second = 100\n");
    let item = format!("{{\"type\":\"pkp\",\"age\":1,\"body\":{}}}", small(HOST, 1));
    let other = "{\"type\":\"deprecation\",\"body\":{\"id\":1}}";
    let items: Vec<&str> = [&*item, other].into_iter().cycle().take(600).collect();
    let body = format!("[{}]", items.join(","));
    let kind = [("content-type", "application/reports+json")];
    assert_eq!(collector.post_with(&body, &kind).status, 204);
    assert_eq!(collector.total(), 300);
    // Reports of other kinds are counted, with and without accepted ones.
    assert_eq!(collector.metric("hpkp_reports_passed_over_total"), 300);
    assert_eq!(collector.post_with(format!("[{other}]"), &kind).status, 400);
    assert_eq!(collector.metric("hpkp_reports_passed_over_total"), 301);
    assert_eq!(collector.metric("hpkp_reports_refused_total{reason=\"other-kinds\"}"), 1);
    // The batch has used all of the limit.
    assert_eq!(collector.post_with(&body, &kind).status, 429);
}

#[test]
fn network_errors_about_pins_are_accepted_without_url_path_and_referrer() {
    let collector = Collector::start(&[HOST], "", "");
    let item = |error: &str| {
        format!(
            "{{\"type\":\"network-error\",\"age\":12,\"url\":\"https://{HOST}/private?token=1\",\"user_agent\":\"x\",\
             \"body\":{{\"referrer\":\"https://{HOST}/from\",\"sampling_fraction\":1.0,\"server_ip\":\"192.0.2.1\",\
             \"phase\":\"connection\",\"type\":\"{error}\"}}}}"
        )
    };
    let pins = item("tls.cert.pinned_key_not_in_cert_chain");
    let body = format!("[{},{pins}]", item("tls.cert.name_invalid"));
    let fields = [("content-type", "application/reports+json"), ("user-agent", "Chrome/140")];
    assert_eq!(collector.post_with(body, &fields).status, 204);
    let group = &collector.groups()[0];
    assert_eq!(group["finding"], "report-without-chain");
    assert_eq!((&group["format"], &group["client"]), (&"network-error".into(), &"Chromium".into()));
    assert_eq!((&group["mode"], &group["port"]), (&"enforced".into(), &443.into()));
    let raw = group["raw"].as_str().unwrap();
    assert!(
        raw.contains("pinned_key") && !raw.contains("token") && !raw.contains("/from"),
        "{raw}"
    );
    let page = collector.get(&format!("/group/{}", group["id"].as_str().unwrap()));
    assert_eq!(page.status, 200);
    assert_eq!(collector.metric("hpkp_reports_passed_over_total"), 1);
}

#[test]
fn a_flood_for_some_hosts_leaves_others_their_share() {
    let limits =
        "[limits]\nclient_per_minute = 1000000\nhost_per_second = 100\ntotal_per_second = 100\n";
    let hosts = ["a.example.com", "b.example.com", "c.example.com", HOST];
    let collector = Collector::start(&hosts, "", limits);
    for n in 0..300 {
        collector.post(small(hosts[n % 3], 1));
    }
    assert_eq!(collector.post(small(HOST, 1)), 204);
}

#[test]
fn device_ids_are_removed_in_any_format() {
    let collector = Collector::start(&[HOST], "", "");
    let body = small(HOST, 1).replacen('{', "{\"app-vendor-id\":\"599F9C00\",", 1);
    assert_eq!(collector.post(body), 204);
    let group = &collector.groups()[0];
    assert!(!group["raw"].as_str().unwrap().contains("599F9C00"), "{group}");
}
