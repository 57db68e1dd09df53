//! `hpkp parse`: `--json` agrees with the library for each header of the corpus, and the text output marks
//! each departure from RFC 7469.

use hpkp_core::pin::Pin;
use hpkp_core::ua::field::{Asks, Field, Reading};
use hpkp_core::ua::host::Host;
use hpkp_core::ua::{FieldKind, Response, Verdict, chromium, firefox, wget2};
use hpkp_tests::site::{A, B};
use serde_json::{Value, json};

use crate::{Outcome, run, run_with};

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// The values of a case, or `None` if lines of a response cannot have them.
fn values(case: &Value) -> Option<Vec<Vec<u8>>> {
    let values: Vec<&str> = match &case["fields"] {
        Value::Null => vec![text(&case["header"])],
        fields => fields.as_array().expect("fields").iter().map(text).collect(),
    };
    let values: Option<Vec<Vec<u8>>> = values
        .into_iter()
        .map(|value| value.chars().map(|c| u8::try_from(c).ok()).collect())
        .collect();
    values.filter(|all| {
        all.iter().all(|value| !value.contains(&b'\n') && value.trim_ascii() == value.as_slice())
    })
}

fn action(verdict: Verdict) -> Value {
    let mut action = json!({ "verdict": verdict.to_string() });
    match verdict {
        Verdict::Note { max_age, include_subdomains }
        | Verdict::NoteThenRefuse { max_age, include_subdomains } => {
            action["noted_for"] = json!(max_age);
            action["noted_with_subdomains"] = json!(include_subdomains);
        }
        Verdict::Evaluate { report } => action["report"] = json!(report),
        _ => {}
    }
    action
}

/// The library's verdict on a field under RFC 7469, in the members of `--json`.
fn judgement(
    kind: FieldKind,
    field: Option<&Field>,
    host: &Host,
    chain: &[Pin],
    secure: bool,
) -> Value {
    let Some(field) = field else {
        return json!({
            "valid": false, "verdict": "ignore", "pins": [], "include_subdomains": false,
        });
    };
    let verdict = match (host, kind) {
        _ if !secure => Verdict::Ignore,
        (Host::Address(_), _) => Verdict::Ignore,
        (_, FieldKind::ReportOnly) => Verdict::Evaluate { report: field.report_due(chain) },
        (_, FieldKind::Enforced) => match field.asks(chain) {
            Asks::Note => Verdict::Note {
                max_age: field.max_age.expect("a max-age"),
                include_subdomains: field.include_subdomains,
            },
            Asks::Forget => Verdict::Delete,
            Asks::NothingNoLivePin | Asks::NothingNoBackupPin => Verdict::Ignore,
        },
    };
    let mut all = action(verdict);
    all["valid"] = json!(true);
    all["pins"] = field.pins.iter().map(|pin| format!("sha256/{pin}")).collect();
    all["include_subdomains"] = json!(field.include_subdomains);
    if let Some(age) = field.max_age {
        all["max_age"] = json!(age);
    }
    if let Some(uri) = &field.report_uri {
        all["report_uri"] = json!(uri.as_str());
    }
    all
}

/// The verdict without its explanation, which is prose.
fn without_reason(value: &Value) -> Value {
    let mut value = value.clone();
    value.as_object_mut().expect("an object").remove("because");
    value
}

/// Runs the command with the fields of a case, whose chain has these pins.
fn parsed(case: &Value, kind: FieldKind, values: &[Vec<u8>], chain: &[Pin]) -> Outcome {
    let mut lines = b"HTTP/1.1 200 OK\r\n".to_vec();
    for value in values {
        lines.extend([kind.name().as_bytes(), b": ", value, b"\r\n"].concat());
    }
    let mut arguments = vec!["parse", "--json", "--host", text(&case["host"])];
    let pins: Vec<String> = chain.iter().map(|pin| format!("sha256/{pin}")).collect();
    pins.iter().for_each(|pin| arguments.extend(["--chain", pin]));
    let other = format!("sha256/{}", Pin::from_bytes([0x5a; 32]));
    if chain.is_empty() {
        // A chain of one key that no case pins stands for an empty chain.
        arguments.extend(["--chain", &other]);
    }
    if case["over_tls_ok"] != true {
        arguments.push("--no-tls");
    }
    run_with(&lines, &arguments)
}

#[test]
fn parse_agrees_with_the_library_on_the_headers_of_the_corpus() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/headers.jsonl");
    let corpus = std::fs::read_to_string(path).expect("the corpus");
    let mut expressed = 0;
    for line in corpus.lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let chain: Vec<Pin> = case["chain_pins"]
            .as_array()
            .expect("pins")
            .iter()
            .map(|pin| Pin::from_base64(text(pin)).expect("a pin"))
            .collect();
        let (Some(values), Ok(host)) = (values(&case), Host::parse(text(&case["host"]))) else {
            continue;
        };
        expressed += 1;
        let secure = case["over_tls_ok"] == true;
        let kind = match text(&case["kind"]) {
            "pkp" => FieldKind::Enforced,
            _ => FieldKind::ReportOnly,
        };
        let outcome = parsed(&case, kind, &values, &chain);
        let (id, json) = (&case["id"], outcome.json());
        let header = &json["headers"][0];
        let reading = Reading::of(kind, &values[0]).expect("a reading");
        let expected = judgement(kind, reading.strict(), &host, &chain, secure);
        assert_eq!(without_reason(&header["rfc7469"]), expected, "{id}");
        let expected = judgement(kind, reading.tolerant(), &host, &chain, secure);
        assert_eq!(without_reason(&header["tolerant"]), expected, "{id}");
        let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let response = Response::new(kind, &slices, &host, secure, &chain).expect("a response");
        let clients = json!({
            "chromium": action(chromium::verdict(&response)),
            "firefox": action(firefox::verdict(&response)),
            "wget2": action(wget2::verdict(&response)),
        });
        assert_eq!(header["clients"], clients, "{id}");
        let places: Vec<(usize, usize)> =
            reading.deviations().iter().map(|one| (one.at.start, one.at.end)).collect();
        let found = header["deviations"].as_array().expect("deviations").iter();
        let found: Vec<(usize, usize)> = found
            .map(|one| serde_json::from_value(json!([one["start"], one["end"]])).expect("a place"))
            .collect();
        assert_eq!(found, places, "{id}");
        assert_eq!(outcome.code, Some(i32::from(reading.strict().is_none())), "{id}");
    }
    // Of the 271 cases, 13 have line ends in a value or blanks around one, which lines of a response cannot have.
    assert_eq!(expressed, 258);
}

/// Headers that the emitters of the corpus must send: the command and the library agree on their validity.
#[test]
fn parse_agrees_with_the_library_on_the_emitted_headers_of_the_corpus() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/emit.jsonl");
    let corpus = std::fs::read_to_string(path).expect("the corpus");
    let mut expressed = 0;
    for line in corpus.lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let expect = &case["expect"];
        let (Some(value), Some(name)) = (expect["value"].as_str(), expect["name"].as_str()) else {
            continue;
        };
        if value.contains('\n') || value.trim() != value {
            continue;
        }
        expressed += 1;
        let kind = match name {
            "Public-Key-Pins" => FieldKind::Enforced,
            _ => FieldKind::ReportOnly,
        };
        let outcome = run_with(format!("{name}: {value}\r\n").as_bytes(), &["parse", "--json"]);
        let reading = Reading::of(kind, value.as_bytes()).expect("a reading");
        let header = &outcome.json()["headers"][0];
        assert_eq!(header["name"], name, "{}", case["id"]);
        assert_eq!(header["rfc7469"]["valid"], reading.strict().is_some(), "{}", case["id"]);
        let pins = reading.tolerant().map(|field| field.pins.len()).unwrap_or_default();
        assert_eq!(
            header["tolerant"]["pins"].as_array().map(Vec::len),
            Some(pins),
            "{}",
            case["id"]
        );
    }
    assert_eq!(expressed, 28);
}

/// The pins of all keys of the corpus, through `hpkp pin`.
#[test]
fn pin_agrees_with_the_library_on_the_keys_of_the_corpus() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/spki.jsonl");
    let corpus = std::fs::read_to_string(path).expect("the corpus");
    let mut expressed = 0;
    for line in corpus.lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let Some(base64) = case["input"]["spki_base64"].as_str() else { continue };
        let der = openssl::base64::decode_block(base64).expect("base64");
        let library: Vec<String> = match hpkp_core::spki::read(&der) {
            Ok(keys) => keys.iter().map(|key| format!("sha256/{}", key.pin)).collect(),
            Err(_) => Vec::new(),
        };
        let json = run_with(&der, &["pin", "--json", "-"]).json();
        let keys = json["sources"][0]["chains"][0].as_array().cloned().unwrap_or_default();
        let found: Vec<&str> = keys.iter().filter_map(|key| key["pin"].as_str()).collect();
        assert_eq!(found, library, "{}", case["id"]);
        if case["verified_by_computing"] == true && !found.is_empty() {
            assert_eq!(found, [format!("sha256/{}", text(&case["pin"]))], "{}", case["id"]);
        }
        expressed += 1;
    }
    assert!(expressed > 100, "{expressed}");
}

fn parse(arguments: &[&str]) -> Outcome {
    run(std::path::Path::new("/"), &[&["parse"], arguments].concat())
}

#[test]
fn the_text_output_marks_the_invalid_part() {
    let good = format!("pin-sha256=\"{A}\"; pin-sha256=\"{B}\"; max-age=5184000");
    let outcome = parse(&[&good]).fine();
    assert!(outcome.starts_with("Public-Key-Pins: valid (RFC 7469)\n"), "{outcome}");
    assert!(outcome.contains("    max-age 60 days\n"), "{outcome}");
    assert!(!outcome.contains("differs"), "{outcome}");
    // Known clients accept an empty directive; RFC 7469 does not.
    let outcome = parse(&[&format!("{good};; includeSubDomains")]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.out.contains("Public-Key-Pins: invalid"), "{outcome:?}");
    assert!(outcome.out.contains("RFC 7469  ignores the header\n"), "{outcome:?}");
    assert!(
        outcome.out.contains("Chromium  notes the host and its subdomains for 60 days  (differs"),
        "{outcome:?}"
    );
    // The mark is below the invalid text.
    let outcome = parse(&[&format!("{good}; foo=bar")]).out;
    let lines: Vec<&str> = outcome.lines().collect();
    let mark = lines.iter().position(|line| line.contains("^^^")).expect("a mark");
    let column = lines[mark].find('^').expect("a mark");
    assert_eq!(lines[mark - 1].get(column..), Some("foo=bar"), "{outcome}");
}

#[test]
fn a_header_is_read_from_any_form_of_input() {
    let value = format!("pin-sha256=\"{A}\"; pin-sha256=\"{B}\"; max-age=60");
    let name = |outcome: &Outcome| outcome.json()["headers"][0]["name"].clone();
    for given in [value.clone(), format!("public-key-pins: {value}"), format!("{value}\r\n")] {
        assert_eq!(name(&parse(&["--json", &given])), "Public-Key-Pins", "{given}");
        let outcome = run_with(given.as_bytes(), &["parse", "--json"]);
        assert_eq!((outcome.code, name(&outcome)), (Some(0), json!("Public-Key-Pins")), "{given}");
    }
    assert_eq!(name(&parse(&["--json", "--report-only", &value])), "Public-Key-Pins-Report-Only");
    let both = format!("Public-Key-Pins-Report-Only: {value}\nPublic-Key-Pins: {value}\nX: y\n");
    let json = run_with(both.as_bytes(), &["parse", "--json", "-"]).json();
    assert_eq!(json["headers"].as_array().map(Vec::len), Some(2));
    run_with(b"HTTP/1.1 200 OK\r\nServer: x\r\n", &["parse"])
        .failed(1, "no Public-Key-Pins header");
    run_with(&vec![b'x'; 300 << 10], &["parse"]).failed(1, "262144");
    run_with(&vec![b'x'; 2 << 20], &["parse"]).failed(1, "larger than");
    parse(&["--host", "a b", &value]).failed(2, "invalid host name");
}
