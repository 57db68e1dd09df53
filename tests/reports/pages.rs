//! The pages: access control, and escaping of foreign text.

use crate::collector::{Collector, now, report, request, small};

const HOST: &str = "www.example.com";

#[test]
fn pages_list_groups_and_escape_foreign_text() {
    let collector = Collector::start(&[HOST], "", "");
    let empty = collector.get("/");
    assert!(empty.body.contains("proves nothing"), "{}", empty.body);
    let pin = hpkp_core::pin::Pin::of_spki(b"x");
    let hostile = format!(
        "{{\"hostname\":\"{HOST}\",\"enforced\":true,\"known-pins\":[],\"served-pins\":[\"sha256/{pin}\"],\
         \"message\":\"</code><script>alert(1)</script>\\u001b[31m\\u202e&\"}}"
    );
    assert_eq!(collector.post(&hostile), 204);
    assert_eq!(collector.post(report(HOST, &now(), &[])), 204);
    let overview = collector.get("/");
    assert_eq!(overview.status, 200);
    let policy = overview.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(overview.body.contains("<svg") && overview.body.contains(HOST));
    for group in collector.groups() {
        let page = collector.get(&format!("/group/{}", group["id"].as_str().unwrap()));
        assert_eq!(page.status, 200);
        assert!(page.body.contains("Is this an attack, a proxy, or our own mistake?"));
        for part in ["<script", "\u{1b}", "\u{202e}", " style="] {
            assert!(!page.body.contains(part), "{part:?} in {}", page.body);
        }
        let raw = collector.get(&format!("/group/{}/raw", group["id"].as_str().unwrap()));
        assert_eq!(raw.field("content-type"), Some("text/plain; charset=utf-8"));
        assert!(raw.field("content-disposition").unwrap().starts_with("attachment"));
    }
    for query in [
        "/?q=%3Cscript%3E&from=x&to=9999-99-99",
        "/?q=unknown-key",
        "/?from=2100-01-01&to=1970-01-01",
        "/host/www.example.com?page=7",
        "/host/%3Cscript%3E?q=%25_%5C",
    ] {
        let page = collector.get(query);
        assert_eq!(page.status, 200, "{query}");
        assert!(!page.body.contains("<script"), "{query}: {}", page.body);
    }
    assert!(collector.get("/?q=report-unknown-key").body.contains("1 in 1 group"));
    assert!(!collector.get("/?q=no-such-thing").body.contains("1 in 1 group"));
    assert!(!collector.get("/?q=%25").body.contains("1 in 1 group"), "a wildcard of SQL");
    assert_eq!(collector.get("/group/none").status, 404);
    assert_eq!(collector.get("/none").status, 404);
    assert_eq!(collector.get("/healthz").status, 200);
}

#[test]
fn with_a_token_only_signed_in_readers_get_pages() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123\n").unwrap();
    let pages = format!("[pages]\ntoken_file = {file:?}\n");
    let collector = Collector::start_in(dir, &[HOST], "", &pages);
    let get = |path: &str, fields: &[(&str, &str)]| {
        request(collector.pages, "GET", path, fields, b"").unwrap()
    };
    for (path, form) in [
        ("/", "/login"),
        ("/host/x?q=1", "/login?to=%2Fhost%2Fx%3Fq%3D1"),
        ("/group/x", "/login?to=%2Fgroup%2Fx"),
    ] {
        let answer = get(path, &[]);
        assert_eq!((answer.status, answer.field("location")), (303, Some(form)), "{path}");
    }
    assert_eq!(get("/metrics", &[]).status, 401);
    assert_eq!(get("/", &[("authorization", "Bearer wrong")]).status, 401);
    let bearer = [("authorization", "Bearer 0123456789abcdef0123")];
    assert_eq!(get("/", &bearer).status, 200);
    assert_eq!(get("/metrics", &bearer).status, 200);
    assert_eq!(get("/healthz", &[]).status, 200);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let wrong = request(collector.pages, "POST", "/login", &form, b"token=x").unwrap();
    assert_eq!((wrong.status, wrong.field("set-cookie")), (403, None));
    let body = b"token=0123456789abcdef0123";
    let right = request(collector.pages, "POST", "/login", &form, body).unwrap();
    let cookie = right.field("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("0123456789abcdef0123"));
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(get("/", &[("cookie", &format!("a=b; {cookie}"))]).status, 200);
    assert_eq!(get("/", &[("cookie", "hpkp-reports=00")]).status, 303);
    // Signing in leads to the wanted page, as for a link in an alarm, but never to another site.
    for (to, location) in [
        ("%2Fgroup%2Fx", "/group/x"),
        ("https%3A%2F%2Fstranger.example%2F", "/"),
        ("%2F%2Fstranger.example%2Fhost%2F", "/"),
        ("%2Fhost%2F%5Cx%0d%0aset-cookie:a", "/"),
    ] {
        let body = format!("token=0123456789abcdef0123&to={to}");
        let answer = request(collector.pages, "POST", "/login", &form, body.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.field("location")), (303, Some(location)), "{to}");
        assert!(!get(&format!("/login?to={to}"), &[]).body.contains("stranger.example"), "{to}");
    }
    // Each page has a button to sign out, which deletes the cookie.
    let page = get("/", &[("cookie", cookie)]).body;
    assert!(page.contains("action=\"/logout\""), "{page}");
    let out = request(collector.pages, "POST", "/logout", &form, b"").unwrap();
    assert!(out.field("set-cookie").unwrap().contains("Max-Age=0"), "{}", out.head);
    assert_eq!(get("/logout", &[]).status, 405);
}

#[test]
fn the_user_header_is_trusted_only_from_the_proxy() {
    let top = "trusted_proxies = [\"127.0.0.1\"]";
    let pages = "[pages]\nuser_header = \"X-Remote-User\"\n";
    let collector = Collector::start(&[HOST], top, pages);
    let get =
        |fields: &[(&str, &str)]| request(collector.pages, "GET", "/", fields, b"").unwrap().status;
    assert_eq!(get(&[]), 403);
    assert_eq!(get(&[("x-remote-user", "")]), 403);
    assert_eq!(get(&[("x-remote-user", "anna")]), 200);
    // With two values, one may come from the client.
    assert_eq!(get(&[("x-remote-user", "anna"), ("x-remote-user", "eve")]), 403);
    // The header is ignored if the request does not come from a trusted proxy.
    let elsewhere = Collector::start(&[HOST], "trusted_proxies = [\"192.0.2.1\"]", pages);
    let forged = [("x-remote-user", "anna"), ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(request(elsewhere.pages, "GET", "/", &forged, b"").unwrap().status, 403);
    // Without token and header, a website whose DNS name points to loopback gets no page.
    let collector = Collector::start(&[HOST], "", "");
    let rebound = [("host", "attacker.example:80")];
    assert_eq!(request(collector.pages, "GET", "/", &rebound, b"").unwrap().status, 403);
    assert_eq!(
        request(collector.pages, "GET", "/", &[("host", "[::1]:1")], b"").unwrap().status,
        200
    );
}

#[test]
fn with_an_https_url_the_cookie_is_secure() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123\n").unwrap();
    let pages = format!("[pages]\ntoken_file = {file:?}\nurl = \"https://reports.example.net\"\n");
    let collector = Collector::start_in(dir, &[HOST], "", &pages);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = b"token=0123456789abcdef0123";
    let answer = request(collector.pages, "POST", "/login", &form, body).unwrap();
    let cookie = answer.field("set-cookie").unwrap();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
}

#[test]
fn internationalized_hosts_are_listed_and_found_in_both_forms() {
    let hosts = ["xn--bcher-kva.example", "www.xn--4db.example"];
    let collector = Collector::start(&hosts, "", "");
    for host in hosts {
        assert_eq!(collector.post(small(host, 1)), 204);
    }
    let page = collector.get("/").body;
    assert!(page.contains("<bdi>xn--bcher-kva.example</bdi>"), "{page}");
    assert!(page.contains("<bdi>b\u{fc}cher.example</bdi>"), "{page}");
    // A search finds both forms.
    for query in ["b%C3%BCcher.example", "B%C3%9CCHER.example", "xn--bcher"] {
        let page = collector.get(&format!("/?q={query}")).body;
        assert!(page.contains("cher.example</bdi>") && !page.contains("4db"), "{query}: {page}");
    }
    // A search finds parts of the name too.
    for query in ["b%C3%BCch", "%D7%90.example"] {
        let page = collector.get(&format!("/?q={query}")).body;
        assert!(page.matches("class=\"card\"").count() == 1, "{query}: {page}");
    }
    let page = collector.get("/host/www.xn--4db.example").body;
    assert!(page.contains("<bdi>www.\u{5d0}.example</bdi>"), "{page}");
}

#[test]
fn names_in_certificates_are_found_in_unicode() {
    let dir = tempfile::tempdir().unwrap();
    let pki = hpkp_tests::pki::Pki::new(dir.path());
    pki.key("ca", hpkp_tests::pki::P256);
    pki.key("leaf", hpkp_tests::pki::P256);
    let path = |file: &str| pki.path(file).to_str().unwrap().to_owned();
    let make = |name: &str, subject: &str, more: &[&str]| {
        let (key, out) = (path(&format!("{name}.key")), path(&format!("{name}.pem")));
        let begin = ["req", "-x509", "-utf8", "-subj", subject, "-key", &key, "-out", &out];
        hpkp_tests::pki::openssl(&[&begin, more].concat());
    };
    make("ca", "/O=B\u{fc}rgerb\u{fc}ro \u{d6}st/CN=\u{6771}\u{4eac} CA", &[]);
    let (certificate, key) = (path("ca.pem"), path("ca.key"));
    let names = "subjectAltName=DNS:www.example.com,DNS:xn--bcher-kva.example";
    let more = ["-CA", &certificate, "-CAkey", &key, "-addext", names];
    make("leaf", "/CN=Gr\u{fc}\u{df}e", &more);
    let chain = |name: &str| String::from_utf8(pki.read(&format!("{name}.pem"))).unwrap();
    let body = report(HOST, &now(), &[chain("leaf"), chain("ca")]);
    let collector = Collector::start_in(dir, &[HOST, "other.example"], "", "");
    assert_eq!(collector.post(body), 204);
    assert_eq!(collector.post(small("other.example", 1)), 204);
    for query in [
        "b%C3%BCrgerb%C3%BCro",
        "B%C3%9CRGERB%C3%9CRO%20%C3%96ST",
        "%E6%9D%B1%E4%BA%AC",
        "b%C3%BCcher.example",
        "xn--bcher-kva",
        "gr%C3%BC%C3%9Fe",
    ] {
        let page = collector.get(&format!("/?q={query}")).body;
        assert!(page.contains(HOST) && !page.contains("other.example"), "{query}: {page}");
        let page = collector.get(&format!("/host/{HOST}?q={query}")).body;
        assert_eq!(page.matches("href=\"/group/").count(), 1, "{query}: {page}");
    }
    for query in ["b%C3%BCro%20west", "%E6%9D%B1%E4%BA%AD"] {
        assert!(!collector.get(&format!("/?q={query}")).body.contains("class=\"card\""), "{query}");
    }
}

#[test]
fn many_hosts_and_groups_are_paged_with_urgent_ones_first() {
    let dir = tempfile::tempdir().unwrap();
    let pki = hpkp_tests::pki::Pki::new(dir.path());
    pki.ca("public");
    pki.leaf("ours", HOST, "public");
    let chain = |name: &str| String::from_utf8(pki.read(&format!("{name}.pem"))).unwrap();
    let chain = [chain("ours"), chain("public")];
    let tables = format!(
        "{}[policies.\"{HOST}\"]\npins = [\"sha256/{}\"]\n",
        crate::durable::NO_LIMITS,
        pki.pin("ours.pem")
    );
    let collector = Collector::start_in(dir, &["*.example.com"], "", &tables);
    assert_eq!(collector.post(report(HOST, &now(), &chain)), 204);
    for n in 0..150 {
        assert_eq!(collector.post(small(HOST, n)), 204);
        assert_eq!(collector.post(small(&format!("h{n}.example.com"), n)), 204);
    }
    let first = collector.get("/").body;
    assert!(first.contains("151 hosts") && first.contains("Page 1 of 3"), "{first}");
    let urgent = first.find("Clients refuse a key of ours").unwrap();
    assert!(urgent < first.find("h1.example.com").unwrap());
    let cards = |path: &str| collector.get(path).body.matches("class=\"card\"").count();
    let counts = ["/?page=1", "/?page=2", "/?page=3", "/?page=99", "/?page=x"].map(cards);
    assert_eq!(counts, [60, 60, 31, 31, 60]);
    let page = collector.get(&format!("/host/{HOST}")).body;
    assert!(page.contains("Page 1 of 2") && page.contains("150 in 150 groups"), "{page}");
    assert!(page.contains("report-own-key"), "the oldest, and on the first page");
    let second = collector.get(&format!("/host/{HOST}?page=2")).body;
    assert_eq!(second.matches("href=\"/group/").count(), 51);
}

#[test]
fn exports_have_no_control_characters_and_no_formulas() {
    let collector = Collector::start(&[HOST], "", "");
    let tlsrpt = format!(
        "{{\"organization-name\":\"x\",\"date-range\":{{\"start-datetime\":\"{0}\",\"end-datetime\":\"{0}\"}},\
         \"contact-info\":\"x\",\"report-id\":\"\u{9b}31m\u{202e}\",\"policies\":[{{\"policy\":{{\"policy-type\":\"tlsa\",\
         \"policy-domain\":\"{HOST}\"}},\"summary\":{{\"total-successful-session-count\":0,\
         \"total-failure-session-count\":1}},\"failure-details\":[{{\"result-type\":\"=cmd|' /C calc'!A0\",\
         \"receiving-mx-hostname\":\"a\\\"b\\nc\",\"failed-session-count\":1}}]}}]}}",
        now()
    );
    assert_eq!(collector.post(&tlsrpt), 204);
    let output = collector.export(&["--format", "csv", "--raw"]);
    let csv = String::from_utf8(output.stdout).unwrap();
    assert!(csv.contains(",\"'=cmd|' /c calc'!a0, a\"\"b"), "{csv}");
    let json = String::from_utf8(collector.export(&["--raw"]).stdout).unwrap();
    for text in [&csv, &json] {
        assert!(!text.contains(['\u{9b}', '\u{202e}', '\u{1b}']), "{text}");
    }
    assert!(collector.groups()[0]["raw"].as_str().unwrap().contains("\u{9b}31m\u{202e}"));
    // A reader of RFC 4180 finds the same number of fields in each record.
    let mut script = "import csv,sys; rows = list(csv.reader(sys.stdin.read().splitlines(True))); \
                      assert [len(row) for row in rows] == [16, 16], rows"
        .to_owned();
    script.push_str("; assert rows[1][6].startswith(\"'=cmd\"), rows");
    let file = collector.path("export.csv");
    std::fs::write(&file, csv).unwrap();
    let mut command = std::process::Command::new("python3");
    command.args(["-c", &script]).stdin(std::fs::File::open(file).unwrap());
    hpkp_tests::succeed(&mut command);
}

#[test]
fn man_pages_and_completions_are_generated() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(crate::collector::PROGRAM);
        hpkp_tests::output(command.arg("generate").args(arguments))
    };
    assert!(run(&["man", dir.path().to_str().unwrap()]).status.success());
    for page in
        ["hpkp-reports.1", "hpkp-reports-serve.1", "hpkp-reports-export.1", "hpkp-reports-import.1"]
    {
        assert!(dir.path().join(page).is_file(), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("export"), "{shell}");
    }
    assert_eq!(run(&["man", "/nonexistent"]).status.code(), Some(3));
}

#[test]
fn exports_and_metrics_have_the_stored_reports() {
    let collector = Collector::start(&[HOST, "example.org"], "", "");
    assert_eq!(collector.post(small(HOST, 1)), 204);
    assert_eq!(collector.post(small("example.org", 1)), 204);
    assert_eq!(collector.metric("hpkp_reports_accepted_total"), 2);
    assert_eq!(collector.metric("hpkp_reports_store_up"), 1);
    let csv =
        String::from_utf8(collector.export(&["--format", "csv", "--host", HOST]).stdout).unwrap();
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(lines[0].starts_with("id,host,port,day,finding,class,"));
    assert!(lines[1].contains(",www.example.com,,") && lines[1].contains("report-unknown-key"));
    let line = &collector.groups()[0];
    for member in ["v", "id", "host", "day", "finding", "class", "count", "clients", "first_seen"] {
        assert!(!line[member].is_null(), "{member} of {line}");
    }
}
