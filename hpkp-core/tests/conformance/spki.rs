//! spki.jsonl: keys and their pins.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hpkp_core::pin::{Pin, PinError};
use hpkp_core::spki;
use serde_json::Value;

use super::{pin, string};

pub(super) fn check(directory: &Path, case: &Value) -> Result<(), String> {
    let expected = pin(&case["pin"]);
    let text = string(&case["pin"]);
    match text.parse::<Pin>() {
        Ok(pin) if pin == expected => {}
        // Operators may not pin the hash of empty input, though it is the SHA-256 that the case expects.
        Err(PinError::OfNothing) if expected == Pin::OF_NOTHING => {}
        other => return Err(format!("as a literal: {other:?}")),
    }
    if expected.to_string() != text {
        return Err(format!("written as {expected}"));
    }
    let input = &case["input"];
    if let Some(file) = input["file"].as_str() {
        check_file(&directory.join(file), expected)?;
    }
    let spki = if let Some(base64) = input["spki_base64"].as_str() {
        STANDARD.decode(base64).unwrap()
    } else if let Some(bytes) = input["octets_utf8"].as_str() {
        bytes.as_bytes().to_vec()
    } else {
        return Ok(());
    };
    match Pin::of_spki(&spki) {
        actual if actual == expected => Ok(()),
        actual => Err(format!("computed as {actual}")),
    }
}

/// Checks a file as a policy may name it. The system's certificates are not on every machine.
fn check_file(path: &Path, expected: Pin) -> Result<(), String> {
    let file = match std::fs::read(path) {
        Ok(file) => file,
        Err(_) if path.starts_with("/usr/share") => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    match spki::read(&file) {
        Ok(keys) if keys[0].pin == expected => Ok(()),
        other => Err(format!("from {}: {other:?}", path.display())),
    }
}
