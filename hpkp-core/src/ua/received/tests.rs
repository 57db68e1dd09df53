use super::*;

const PIN: &str = "E9CZ9INDbd+2eRQozYqqbQ2yXLVKB9+xcprMF+44U1g=";

fn one(body: &str) -> Received {
    let mut all = read(body.as_bytes()).expect("a report").reports;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn plain() -> String {
    format!(r#"{{"hostname":"www.example.com","known-pins":["pin-sha256=\"{PIN}\""]}}"#)
}

#[test]
fn trustkit_is_distinguished_from_rfc_7469() {
    assert_eq!(one(&plain()).format, Format::Rfc7469);
    let body = plain().replacen('{', r#"{"app-bundle-id":"com.example","app-platform":"IOS","enforce-pinning":true,"validation-result":1,"#, 1);
    let report = one(&body);
    assert_eq!(report.format, Format::TrustKit);
    assert_eq!(report.enforced, Some(true));
    assert_eq!(report.app.as_deref(), Some("com.example"));
    assert_eq!(report.result.as_deref(), Some("1"));
}

#[test]
fn react_native_sends_pins_alone() {
    let body = format!(
        r#"{{"hostname":"api.example.com","enforced":false,"known-pins":["{PIN}","sha256/{PIN}"],
            "served-pins":["sha256/{PIN}"],"message":"x","date-time":"2026-01-02T03:04:05Z"}}"#
    );
    let report = one(&body);
    assert_eq!(report.format, Format::ReactNative);
    assert_eq!((report.served_pins.len(), report.report.known_pins.len()), (1, 2));
    assert_eq!(report.enforced, Some(false));
    assert!(report.report.date_time.is_some());
}

#[test]
fn reports_are_read_from_envelopes() {
    let item = format!(
        r#"{{"type":"pkp","age":1500,"url":"https://www.example.com/","body":{}}}"#,
        plain()
    );
    assert_eq!(one(&item).age, Some(1500));
    let other = r#"{"type":"csp-violation","body":{"document-uri":"https://x/"}}"#;
    assert_eq!(one(&format!("[{other},{item}]")).host.as_str(), "www.example.com");
    assert_eq!(read(format!("[{other}]").as_bytes()), Err(Refusal::OtherKinds(1)));
    let mixed = read(format!("[{other},{item},{other},1,null]").as_bytes()).expect("a report");
    assert_eq!((mixed.reports.len(), mixed.passed_over), (1, 2));
    // An array without envelopes is not the Reporting API's format, nor any other.
    assert_eq!(read(format!("[{}]", plain()).as_bytes()), Err(Refusal::NotAReport));
    let many = format!("[{}]", vec![item; MAX_REPORTS + 1].join(","));
    assert_eq!(read(many.as_bytes()), Err(Refusal::TooManyReports));
}

#[test]
fn network_errors_about_pins_are_read_and_others_ignored() {
    let item = |url: &str, error: &str| {
        format!(
            r#"{{"type":"network-error","age":12,"url":"{url}","user_agent":"x","body":{{"sampling_fraction":1.0,
            "server_ip":"192.0.2.1","protocol":"http/1.1","method":"GET","status_code":0,"elapsed_time":9,
            "phase":"connection","type":"{error}"}}}}"#
        )
    };
    const PINS: &str = "tls.cert.pinned_key_not_in_cert_chain";
    let report = one(&item("https://www.example.com/a?b#c", PINS));
    assert_eq!((report.format, report.host.as_str()), (Format::NetworkError, "www.example.com"));
    assert_eq!(
        (report.report.port, report.age, report.enforced),
        (Some(443), Some(12), Some(true))
    );
    assert_eq!(one(&item("https://[2001:DB8::1]:8443/", PINS)).host.as_str(), "2001:db8::1");
    assert_eq!(one(&item("https://www.example.com:8443", PINS)).report.port, Some(8443));
    // The kept text can be read again.
    assert_eq!(one(&report.text).host, report.host);
    for (url, error) in [
        ("https://www.example.com/", "tls.cert.name_invalid"),
        ("https://www.example.com/", "dns.name_not_resolved"),
        ("http://www.example.com/", PINS),
        ("https:///", PINS),
        ("https://a b/", PINS),
        ("https://www.example.com:x/", PINS),
        ("", PINS),
    ] {
        let refusal = read(item(url, error).as_bytes());
        assert_eq!(refusal, Err(Refusal::OtherKinds(1)), "{url} {error}");
    }
}

#[test]
fn expect_ct_needs_a_chain() {
    let hollow = r#"{"expect-ct-report":{"hostname":"www.example.com","port":443}}"#;
    assert_eq!(read(hollow.as_bytes()), Err(Refusal::NotAReport));
    let csp = r#"{"csp-report":{"document-uri":"https://www.example.com/"}}"#;
    assert_eq!(read(csp.as_bytes()), Err(Refusal::NotAReport));
    assert_eq!(one(&format!(r#"{{"pkp-report":{}}}"#, plain())).format, Format::Rfc7469);
}

#[test]
fn an_smtp_tls_body_gives_one_report_for_each_failure() {
    let body = r#"{"organization-name":"Example Mail","date-range":{"start-datetime":"2026-01-01T00:00:00Z",
        "end-datetime":"2026-01-01T23:59:59Z"},"report-id":"1","policies":[
        {"policy":{"policy-type":"tlsa","policy-domain":"example.com"},
         "summary":{"total-successful-session-count":10,"total-failure-session-count":3},
         "failure-details":[{"result-type":"validation-failure","failed-session-count":3,
           "receiving-mx-hostname":"mx.example.com"}]},
        {"policy":{"policy-type":"sts","policy-domain":"example.org"},
         "summary":{"total-successful-session-count":7,"total-failure-session-count":0}}]}"#;
    let all = read(body.as_bytes()).expect("reports").reports;
    let summaries: Vec<_> = all
        .iter()
        .map(|one| (one.host.as_str(), one.result.as_deref(), one.policy.as_deref(), one.count))
        .collect();
    assert_eq!(
        summaries,
        [
            ("example.com", Some("validation-failure"), Some("tlsa"), 3),
            ("example.org", Some("success"), Some("sts"), 7)
        ]
    );
    assert_eq!(all[0].server.as_deref(), Some("mx.example.com"));
}

#[test]
fn smtp_failures_are_counted_by_kind_with_or_without_details() {
    let failure = |ip: u32, count: &str| {
        format!(
            r#"{{"result-type":"Certificate-Expired","sending-mta-ip":"192.0.2.{ip}",
            "receiving-mx-hostname":"MX.example.com","failed-session-count":{count}}}"#
        )
    };
    let of = |summary: &str, details: &str| {
        format!(
            r#"{{"date-range":{{}},"report-id":"1","policies":{{"policy":{{"policy-type":"STS",
            "policy-domain":"Example.COM."}},"summary":{summary},"failure-details":{details}}}}}"#
        )
    };
    let many: Vec<String> = (0..200).map(|ip| failure(ip, "2")).collect();
    let report = one(&of("{}", &format!("[{}]", many.join(","))));
    assert_eq!((report.count, report.host.as_str()), (400, "example.com"));
    assert_eq!(report.result.as_deref(), Some("certificate-expired"));
    assert_eq!(report.policy.as_deref(), Some("sts"));
    assert_eq!(report.server.as_deref(), Some("mx.example.com"));
    // Numbers as strings, and a single item without its array.
    assert_eq!(one(&of("{}", &failure(1, "\"7\""))).count, 7);
    // Failures beyond those in the details are failures as well.
    let failed = r#"{"total-successful-session-count":10,"total-failure-session-count":5}"#;
    let report = one(&of(failed, "[]"));
    assert_eq!((report.count, report.result), (5, None));
    let all = read(of(failed, &failure(1, "2")).as_bytes()).expect("reports").reports;
    assert_eq!(all.iter().map(|one| one.count).collect::<Vec<_>>(), [2, 3]);
    let nothing = one(&of("{}", "[]"));
    assert_eq!((nothing.count, nothing.result.as_deref()), (1, Some(SUCCESS)));
}

#[test]
fn a_body_with_hundreds_of_reports_and_a_byte_order_mark_is_read() {
    let item = format!(r#"{{"type":"pkp","body":{}}}"#, plain());
    let other = r#"{"type":"deprecation","body":{"id":"x"}}"#;
    let items: Vec<&str> = [&*item, other].into_iter().cycle().take(700).collect();
    let body = format!("\u{feff}[{}]", items.join(","));
    assert_eq!(read(body.as_bytes()).expect("reports").reports.len(), 350);
}

#[test]
fn an_ip_address_becomes_canonical() {
    for text in ["2001:db8::1", "[2001:DB8::1]", "2001:0db8:0:0:0:0:0:1", "2001:db8::1%25eth0"] {
        let body = plain().replace("www.example.com", text);
        assert_eq!(one(&body).host.as_str(), "2001:db8::1", "{text}");
    }
}

#[test]
fn deep_nesting_is_refused_or_ignored() {
    let deep = "[".repeat(100_000);
    assert!(read(deep.as_bytes()).is_err());
    let closed = format!("{deep}{}", "]".repeat(100_000));
    assert!(read(closed.as_bytes()).is_err());
    let inside = plain().replacen('{', &format!("{{\"x\":{closed},"), 1);
    assert_eq!(one(&inside).host.as_str(), "www.example.com");
    let pins = plain().replace("\"known-pins\":[", &format!("\"known-pins\":[{closed},"));
    assert!(read(pins.as_bytes()).is_err());
}

#[test]
fn an_envelope_in_an_envelope_is_refused() {
    let mut body = plain();
    for _ in 0..20_000 {
        body = format!("{{\"type\":\"x\",\"body\":{body}}}");
        if body.len() > 600_000 {
            break;
        }
    }
    assert_eq!(read(body.as_bytes()), Err(Refusal::OtherKinds(1)));
}
