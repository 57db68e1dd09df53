//! The pages: who may read them, and that foreign text stays text.

use crate::collector::{Collector, now, report, request, small};

const HOST: &str = "www.example.com";

#[test]
fn pages_have_the_groups_and_run_nothing() {
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
fn a_token_is_needed_where_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "0123456789abcdef0123\n").unwrap();
    let pages = format!("[pages]\ntoken_file = {file:?}\n");
    let collector = Collector::start_in(dir, &[HOST], "", &pages);
    let get = |path: &str, fields: &[(&str, &str)]| {
        request(collector.pages, "GET", path, fields, b"").unwrap()
    };
    for path in ["/", "/host/x", "/group/x", "/group/x/raw"] {
        let answer = get(path, &[]);
        assert_eq!((answer.status, answer.field("location")), (303, Some("/login")), "{path}");
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
}

#[test]
fn a_proxys_header_is_believed_of_the_proxy() {
    let top = "trusted_proxies = [\"127.0.0.1\"]";
    let pages = "[pages]\nuser_header = \"X-Remote-User\"\n";
    let collector = Collector::start(&[HOST], top, pages);
    let get =
        |fields: &[(&str, &str)]| request(collector.pages, "GET", "/", fields, b"").unwrap().status;
    assert_eq!(get(&[]), 403);
    assert_eq!(get(&[("x-remote-user", "")]), 403);
    assert_eq!(get(&[("x-remote-user", "anna")]), 200);
    // Without either, a stranger's page whose name was led to loopback may not read.
    let collector = Collector::start(&[HOST], "", "");
    let rebound = [("host", "attacker.example:80")];
    assert_eq!(request(collector.pages, "GET", "/", &rebound, b"").unwrap().status, 403);
    assert_eq!(
        request(collector.pages, "GET", "/", &[("host", "[::1]:1")], b"").unwrap().status,
        200
    );
}

#[test]
fn exports_and_metrics() {
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
