//! Checks a log against the schema of SARIF 2.1.0 (OASIS, appendix F), as far as `hpkp check` writes one: the
//! required and the allowed members of each object, and their values. The schema allows no other members.

use serde_json::{Map, Value};

/// Fails unless this is a log.
#[track_caller]
pub(crate) fn is_a_log(log: &Value) {
    let log = object(log, &["version", "runs"], &["$schema"]);
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().is_some_and(|uri| uri.starts_with("https://")));
    for run in array(&log["runs"]) {
        is_a_run(run);
    }
}

#[track_caller]
fn is_a_run(run: &Value) {
    let run = object(run, &["tool"], &["invocations", "results", "columnKind"]);
    let tool = object(&run["tool"], &["driver"], &[]);
    let driver = object(&tool["driver"], &["name"], &["semanticVersion", "rules"]);
    let is_version = |text: &str| text.split('.').count() == 3;
    assert!(driver["semanticVersion"].as_str().is_some_and(is_version));
    assert!(["utf16CodeUnits", "unicodeCodePoints"].map(Value::from).contains(&run["columnKind"]));
    for rule in array(&driver["rules"]) {
        let members = ["shortDescription", "help", "defaultConfiguration", "properties"];
        let rule = object(rule, &["id"], &members);
        for text in ["shortDescription", "help"] {
            has_text(&rule[text]);
        }
        is_a_level(&object(&rule["defaultConfiguration"], &[], &["level"])["level"]);
    }
    let ids: Vec<&Value> = array(&driver["rules"]).iter().map(|rule| &rule["id"]).collect();
    assert!(ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id)), "twice: {ids:?}");
    for invocation in array(&run["invocations"]) {
        let invocation = object(invocation, &["executionSuccessful"], &[]);
        assert!(invocation["executionSuccessful"].is_boolean());
    }
    for result in array(&run["results"]) {
        is_a_result(result, ids.len());
    }
}

#[track_caller]
fn is_a_result(result: &Value, rules: usize) {
    let members =
        ["ruleId", "ruleIndex", "level", "locations", "partialFingerprints", "properties"];
    let result = object(result, &["message"], &members);
    has_text(&result["message"]);
    assert!(result["ruleId"].is_string());
    assert!(result["ruleIndex"].as_u64().is_some_and(|at| at < rules as u64), "{result:?}");
    is_a_level(&result["level"]);
    let fingerprints = result["partialFingerprints"].as_object().expect("an object");
    assert!(fingerprints.values().all(Value::is_string));
    assert!(result["properties"].is_object());
    for location in array(&result["locations"]) {
        let location = object(location, &[], &["physicalLocation"]);
        let place = object(&location["physicalLocation"], &["artifactLocation"], &["region"]);
        let uri = object(&place["artifactLocation"], &[], &["uri"])["uri"].as_str();
        let is_uri = |uri: &str| uri.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(uri.is_some_and(is_uri), "{uri:?}");
        let line = object(&place["region"], &[], &["startLine"])["startLine"].as_u64();
        assert!(line.is_some_and(|line| line >= 1), "{line:?}");
    }
}

#[track_caller]
fn has_text(message: &Value) {
    let message = object(message, &["text"], &[]);
    assert!(message["text"].as_str().is_some_and(|text| !text.is_empty()));
}

#[track_caller]
fn is_a_level(level: &Value) {
    assert!(["none", "note", "warning", "error"].map(Value::from).contains(level), "{level}");
}

/// Fails unless the value is an object that has the `required` members, and no others but `more`.
#[track_caller]
fn object<'a>(value: &'a Value, required: &[&str], more: &[&str]) -> &'a Map<String, Value> {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    for name in required {
        assert!(object.contains_key(*name), "no {name}: {value}");
    }
    for name in object.keys() {
        let is_known = required.iter().chain(more).any(|known| known == name);
        assert!(is_known, "{name} is not allowed here: {value}");
    }
    object
}

#[track_caller]
fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no array: {value}"))
}
