//! Writes lines of JSON, each with one complete set.

use super::item::{Item, Refusal};
use crate::import::json::Line;

pub(super) fn write(items: &[Item]) -> Result<String, Refusal> {
    let mut text = String::new();
    for item in items {
        match serde_json::to_string(&Line::new(&item.set, item.max_age, item.tlsa.as_ref())) {
            Ok(line) => text.push_str(&line),
            Err(_) => return item.refuse("this set"),
        }
        text.push('\n');
    }
    Ok(text)
}
