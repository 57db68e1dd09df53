//! reports.jsonl: bodies of violation reports.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hpkp_core::ua::report_reader::Examined;
use serde_json::{Value, json};

use super::{compare, items, string};

pub(super) fn check(_: &Path, case: &Value) -> Result<(), String> {
    let body = match case.get("body_base64").and_then(Value::as_str) {
        Some(base64) => STANDARD.decode(base64).unwrap(),
        None => string(&case["body"]).as_bytes().to_vec(),
    };
    let expected = &case["expect"];
    let acceptable = &case["acceptable"];
    let examined = Examined::of(&body).map_err(|error| error.to_string())?;
    let mut actual: Vec<String> = examined.problems().iter().map(ToString::to_string).collect();
    actual.sort_unstable();
    let valid = json!(actual.is_empty());
    compare("valid", &valid, &expected["valid"], acceptable)?;
    let collector = match examined.acceptable() {
        Some(_) => "accept",
        None => "reject",
    };
    compare("collector", &json!(collector), &expected["collector"], acceptable)?;
    // If another verdict is acceptable, another reason is acceptable too.
    if valid == expected["valid"] {
        let mut problems: Vec<&str> = items(&expected["problems"]).iter().map(string).collect();
        problems.sort_unstable();
        if actual != problems {
            return Err(format!("problems: {actual:?} where {problems:?} are expected"));
        }
    }
    Ok(())
}
