//! emit.jsonl from the receiving side: the field that each emitter sends, parsed by a user agent.

use std::path::Path;

use hpkp_core::ua::FieldKind;
use hpkp_core::ua::field::Reading;
use serde_json::{Value, json};

use super::{bytes, compare, pin_set, string};

/// Whether the case sends a field.
pub(super) fn applies(case: &Value) -> bool {
    case["expect"]["result"] == "emit" && case["expect"].get("rfc_parse").is_some()
}

pub(super) fn check(_: &Path, case: &Value) -> Result<(), String> {
    let expected = &case["expect"];
    let name = string(&expected["name"]);
    let kind = if name.eq_ignore_ascii_case(FieldKind::ReportOnly.name()) {
        FieldKind::ReportOnly
    } else {
        FieldKind::Enforced
    };
    let reading =
        Reading::of(kind, &bytes(&expected["value"])).map_err(|error| error.to_string())?;
    let field = reading.strict();
    let parse = json!(if field.is_some() { "ok" } else { "error" });
    compare("parse", &parse, &expected["rfc_parse"], &case["acceptable"])?;
    match field {
        Some(field) if expected.get("rfc_pins").is_some() => {
            let pins: std::collections::BTreeSet<_> = field.pins.iter().copied().collect();
            if pins == pin_set(&expected["rfc_pins"]) {
                Ok(())
            } else {
                Err(format!("pins: {:?}", field.pins))
            }
        }
        _ => Ok(()),
    }
}
