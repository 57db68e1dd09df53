//! headers.jsonl: a field value and its verdicts.

use std::path::Path;

use hpkp_core::pin::Pin;
use hpkp_core::ua::field::{Asks, Field, Reading};
use hpkp_core::ua::host::Host;
use hpkp_core::ua::{FieldKind, Response, Verdict, chromium, firefox, wget2};
use serde_json::{Value, json};

use super::{bytes, compare, items, pin_set, pins, string};

struct Case<'a> {
    json: &'a Value,
    kind: FieldKind,
    fields: Vec<Vec<u8>>,
    host: Host,
    secure: bool,
    chain: Vec<Pin>,
}

impl<'a> Case<'a> {
    fn new(json: &'a Value) -> Self {
        let fields = match &json["fields"] {
            Value::Null => vec![bytes(&json["header"])],
            fields => items(fields).iter().map(bytes).collect(),
        };
        Self {
            json,
            kind: match string(&json["kind"]) {
                "pkp" => FieldKind::Enforced,
                "pkp-ro" => FieldKind::ReportOnly,
                other => panic!("kind {other}"),
            },
            fields,
            host: host(string(&json["host"])),
            secure: json["over_tls_ok"] == true,
            chain: pins(&json["chain_pins"]),
        }
    }

    /// What a client notes on its first connection to the host.
    fn note(&self, field: &Field) -> Value {
        if self.kind == FieldKind::ReportOnly {
            return Value::Null;
        }
        if !self.secure || !matches!(self.host, Host::Name(_)) {
            return json!(false);
        }
        match field.asks(&self.chain) {
            Asks::Note => json!(true),
            Asks::Forget => json!("delete"),
            Asks::NothingNoLivePin | Asks::NothingNoBackupPin => json!(false),
        }
    }

    fn check(&self, field: Option<&Field>, expected: &Value) -> Result<(), String> {
        let acceptable = &self.json["acceptable"];
        let enforced = self.kind == FieldKind::Enforced;
        let Some(field) = field else {
            compare("parse", &json!("error"), &expected["parse"], acceptable)?;
            if enforced {
                compare("note", &json!(false), &expected["note"], acceptable)?;
            } else if !expected["report_due"].is_null() {
                let due = &expected["report_due"];
                compare("report_due", &json!(false), due, acceptable)?;
            }
            return Ok(());
        };
        compare("parse", &json!("ok"), &expected["parse"], acceptable)?;
        compare("note", &self.note(field), &expected["note"], acceptable)?;
        if !enforced {
            let due = self.secure && field.report_due(&self.chain);
            compare("report_due", &json!(due), &expected["report_due"], acceptable)?;
        }
        if expected["parse"] != "ok" {
            return Ok(());
        }
        if field.pins.iter().copied().collect::<std::collections::BTreeSet<_>>()
            != pin_set(&expected["pins"])
        {
            return Err(format!("pins: {:?}", field.pins));
        }
        let saturates = self.json["max_age_saturates"] == true;
        if !(saturates && field.max_age.is_some_and(|age| age >= 1 << 31)) {
            let max_age = json!(field.max_age);
            compare("max_age", &max_age, &expected["max_age"], acceptable)?;
        }
        let include = json!(field.include_subdomains);
        let expected_include = &expected["include_subdomains"];
        compare("include_subdomains", &include, expected_include, acceptable)?;
        let uri = json!(field.report_uri.as_ref().map(ToString::to_string));
        compare("report_uri", &uri, &expected["report_uri"], acceptable)
    }

    fn check_ua(&self, name: &str, verdict: fn(&Response<'_>) -> Verdict) -> Result<(), String> {
        let expected = &self.json["ua"][name];
        if expected.is_null() {
            return Ok(());
        }
        let fields: Vec<&[u8]> = self.fields.iter().map(Vec::as_slice).collect();
        let response = Response::new(self.kind, &fields, &self.host, self.secure, &self.chain)
            .map_err(|error| error.to_string())?;
        let verdict = verdict(&response);
        let actual = json!(verdict.to_string());
        compare("verdict", &actual, &expected["verdict"], &Value::Null)?;
        let (keys, values) = match verdict {
            Verdict::Note { max_age, include_subdomains }
            | Verdict::NoteThenRefuse { max_age, include_subdomains } => (
                ["max_age", "include_subdomains"].as_slice(),
                vec![json!(max_age), json!(include_subdomains)],
            ),
            Verdict::Evaluate { report } => (["report"].as_slice(), vec![json!(report)]),
            _ => ([].as_slice(), vec![]),
        };
        for (key, actual) in keys.iter().zip(values) {
            compare(key, &actual, &expected[key], &Value::Null)?;
        }
        Ok(())
    }
}

/// A host of the corpus. A text that is not a host counts as an address, which is never noted.
pub(super) fn host(text: &str) -> Host {
    Host::parse(text).unwrap_or_else(|_| Host::Address(text.to_owned()))
}

pub(super) fn verdict_of_the_rfc(_: &Path, json: &Value) -> Result<(), String> {
    let case = Case::new(json);
    let reading = Reading::of(case.kind, &case.fields[0]).map_err(|error| error.to_string())?;
    case.check(reading.strict(), &json["expect"])?;
    let tolerant = match &json["expect_tolerant"] {
        Value::Null => &json["expect"],
        expected => expected,
    };
    case.check(reading.tolerant(), tolerant).map_err(|why| format!("read tolerantly: {why}"))
}

pub(super) fn verdict_of_chromium(_: &Path, json: &Value) -> Result<(), String> {
    Case::new(json).check_ua("chromium", chromium::verdict)
}

pub(super) fn verdict_of_firefox(_: &Path, json: &Value) -> Result<(), String> {
    Case::new(json).check_ua("firefox", firefox::verdict)
}

pub(super) fn verdict_of_wget2(_: &Path, json: &Value) -> Result<(), String> {
    Case::new(json).check_ua("wget2", wget2::verdict)
}
