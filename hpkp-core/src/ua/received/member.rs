//! Reads single members of a JSON object that is kept as text.

use serde_json::Value;

use crate::ua::report_reader;

/// The value of a member of a JSON object.
pub(super) fn value(text: &str, name: &str) -> Option<Value> {
    serde_json::from_str(report_reader::member(text, name)?.get()).ok()
}

/// The text of a member; a number counts as its text.
pub(super) fn text_of(text: &str, name: &str) -> Option<String> {
    match value(text, name)? {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether a member is true; none where it is neither true nor false.
pub(super) fn flag(text: &str, name: &str) -> Option<bool> {
    value(text, name)?.as_bool()
}
