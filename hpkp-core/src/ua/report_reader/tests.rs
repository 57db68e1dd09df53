use super::super::report::Report;
use super::*;

fn problems(body: &str) -> Vec<String> {
    let examined = Examined::of(body.as_bytes()).unwrap();
    examined.problems().iter().map(ToString::to_string).collect()
}

fn report() -> Report {
    Report {
        date_time: 1_500_000_000,
        hostname: "a.example.com".into(),
        port: 443,
        effective_expiration_date: 1_500_000_010,
        include_subdomains: true,
        noted_hostname: "example.com".into(),
        served_chain: vec![],
        validated_chain: vec![],
        known_pins: vec![Pin::from_bytes([7; Pin::BYTES])],
    }
}

/// The body of [`report`] with one value replaced.
fn with(key: &str, value: &str) -> String {
    let mut body: serde_json::Map<String, Value> =
        serde_json::from_str(&report().to_json()).unwrap();
    body.insert(key.into(), Value::String("HERE".into()));
    serde_json::to_string(&body).unwrap().replace("\"HERE\"", value)
}

#[test]
fn a_built_report_conforms_and_is_read_back() {
    let body = report().to_json();
    let examined = Examined::of(body.as_bytes()).unwrap();
    assert_eq!(examined.problems(), []);
    let read = examined.acceptable().unwrap();
    assert_eq!(read.date_time, Some(1_500_000_000));
    assert_eq!(read.effective_expiration_date, Some(1_500_000_010));
    assert_eq!(read.port, Some(443));
    assert_eq!(read.known_pins, report().known_pins);
}

#[test]
fn a_large_body_is_refused() {
    let body = vec![b' '; MAX_BODY + 1];
    let bytes = body.len();
    assert_eq!(Examined::of(&body), Err(TooLarge { bytes }));
}

#[test]
fn deep_nesting_is_a_problem_and_no_crash() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    assert_eq!(problems(&deep), ["not-an-object"]);
    assert_eq!(problems(&with("port", &deep)), ["bad:port"]);
    assert_eq!(problems(&with("x", &deep)), ["extra:x"]);
}

#[test]
fn a_bad_value_does_not_void_the_rest() {
    for (key, value, code) in [
        ("port", "1e999", "bad:port"),
        ("port", "443.0", "bad:port"),
        ("port", "true", "bad:port"),
        ("hostname", "\"\\ud800\"", "bad:hostname"),
        ("hostname", "\"b\\u00fccher.example\"", "bad:hostname"),
        ("hostname", "\"a.example.com:443\"", "bad:hostname"),
        ("known-pins", "[\"x\"]", "bad:known-pins"),
        ("known-pins", "\"x\"", "bad:known-pins"),
        ("noted-hostname", "\"b.example.com\"", "inconsistent:noted-hostname"),
        ("noted-hostname", "\"192.0.2.1\"", "inconsistent:noted-hostname"),
        ("include-subdomains", "false", "inconsistent:include-subdomains"),
    ] {
        assert_eq!(problems(&with(key, value)), [code], "{value}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_not_json() {
    let mut body = with("x", "\"?\"").into_bytes();
    for byte in &mut body {
        if *byte == b'?' {
            *byte = 0xff;
        }
    }
    let examined = Examined::of(&body).unwrap();
    assert_eq!(examined.problems(), [Problem::NotJson]);
}

#[test]
fn pins_in_other_spellings_are_legible() {
    let pin = Pin::from_bytes([9; Pin::BYTES]);
    let body = with("known-pins", &format!("[\"{pin}\"]"));
    let examined = Examined::of(body.as_bytes()).unwrap();
    assert_eq!(examined.problems(), [Problem::Bad(Key::KnownPins)]);
    assert_eq!(examined.report().known_pins, [pin]);
}

#[test]
fn port_0_is_read_as_an_unknown_port() {
    let examined = Examined::of(with("port", "0").as_bytes()).unwrap();
    assert_eq!(examined.problems(), [Problem::Bad(Key::Port)]);
    assert_eq!(examined.acceptable().unwrap().port, None);
}

#[test]
fn a_real_report_shows_a_pin_that_was_served_but_not_validated() {
    let body = include_bytes!("../../../../tests/conformance/fixtures/real-report.json");
    let examined = Examined::of(body).unwrap();
    assert_eq!(examined.problems(), []);
    let report = examined.report();
    let matches = |chain: &Option<Vec<Certificate>>| {
        let chain = chain.as_ref().unwrap();
        chain.iter().any(|c| report.known_pins.contains(&c.pin))
    };
    assert!(matches(&report.served_chain));
    assert!(!matches(&report.validated_chain));
}
