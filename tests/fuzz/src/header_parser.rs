//! Fuzzes field values: parts that the grammar calls insignificant must not change the verdict, and a
//! rendered header must be read back as it was.

use std::sync::Arc;

use hpkp_core::finding::Location;
use hpkp_core::header::{Header, Kind};
use hpkp_core::max_age::MaxAge;
use hpkp_core::policy::{MAX_PINS, PinSetting, PinSource, PolicySpec};
use hpkp_core::ua::field::{Field, Reading};
use hpkp_core::ua::host::Host;
use hpkp_core::ua::{FieldKind, MAX_FIELD, Response, chromium, firefox, wget2};

/// The first byte chooses the field: `0` the enforced one, `1` the report-only one. The rest is its value.
pub fn run(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let kind = if choice & 1 == 0 { FieldKind::Enforced } else { FieldKind::ReportOnly };
    let Ok(reading) = Reading::of(kind, text) else {
        assert!(text.len() > MAX_FIELD);
        return;
    };
    for deviation in reading.deviations() {
        assert!(deviation.at.start <= deviation.at.end && deviation.at.end <= text.len());
        assert!(!deviation.to_string().chars().any(char::is_control), "{deviation}");
    }
    let strict = reading.strict();
    if strict.is_some() {
        assert_eq!(reading.tolerant(), strict);
    }
    variations(kind, text, strict);
    user_agents(kind, text, strict);
    if let Some(field) = strict {
        rendered(kind, field);
    }
}

/// The strict verdict does not depend on the blanks around `;`, on the order of the directives or on
/// the case of their names.
fn variations(kind: FieldKind, text: &[u8], strict: Option<&Field>) {
    let Split { parts, closed } = Split::of(text);
    for separator in [";", "; ", " ;\t", "\t \t;  "] {
        same(kind, &join(&parts, separator), strict);
    }
    let padded = [&b" \t"[..], &join(&parts, ";"), b" "].concat();
    same(kind, &padded, strict);

    // An unclosed quotation mark takes in all text after it, so the order of the directives matters then.
    if closed {
        let reversed: Vec<&[u8]> = parts.iter().rev().copied().collect();
        same(kind, &join(&reversed, "; "), strict);
        let (head, tail) = parts.split_at(parts.len() / 2);
        same(kind, &join(&[tail, head].concat(), "; "), strict);
    }
    for change in [<[u8]>::to_ascii_uppercase, <[u8]>::to_ascii_lowercase, swapped_case] {
        let changed: Vec<Vec<u8>> = parts.iter().map(|part| rename(part, change)).collect();
        same(kind, &join(&changed, "; "), strict);
    }
    if strict.is_some() {
        for spelling in [age_as_token, age_as_quoted_string, age_as_quoted_pairs, age_with_zeros] {
            let changed: Vec<Vec<u8>> = parts.iter().map(|part| respell(part, spelling)).collect();
            same(kind, &join(&changed, "; "), strict);
        }
    }
}

fn same(kind: FieldKind, text: &[u8], expected: Option<&Field>) {
    // With more blanks the text may exceed the limit of the reader.
    let Ok(reading) = Reading::of(kind, text) else {
        return;
    };
    let sorted = |field: &Field| {
        let mut field = field.clone();
        field.pins.sort_unstable();
        field
    };
    assert_eq!(reading.strict().map(sorted), expected.map(sorted), "{}", text.escape_ascii());
}

/// Directives, split independently of the core.
struct Split<'a> {
    /// The text between the `;` outside quoted strings, without the blanks around it.
    parts: Vec<&'a [u8]>,
    /// Whether every quoted string ends.
    closed: bool,
}

impl<'a> Split<'a> {
    fn of(text: &'a [u8]) -> Self {
        let mut parts = Vec::new();
        let (mut start, mut quoted, mut escaped) = (0, false, false);
        for (position, byte) in text.iter().copied().enumerate() {
            if escaped {
                escaped = false;
            } else if byte == b'"' {
                quoted = !quoted;
            } else if quoted {
                escaped = byte == b'\\';
            } else if byte == b';' {
                parts.push(trim(&text[start..position]));
                start = position + 1;
            }
        }
        parts.push(trim(&text[start..]));
        Self { parts, closed: !quoted }
    }
}

fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().take_while(|byte| is_blank(byte)).count();
    let end = text[start..].iter().rev().take_while(|byte| is_blank(byte)).count();
    &text[start..text.len() - end]
}

fn join<T: AsRef<[u8]>>(parts: &[T], separator: &str) -> Vec<u8> {
    let parts: Vec<&[u8]> = parts.iter().map(AsRef::as_ref).collect();
    parts.join(separator.as_bytes())
}

/// The name of a directive and what follows it.
fn name(part: &[u8]) -> (&[u8], &[u8]) {
    let is_of_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    part.split_at(part.iter().take_while(|byte| is_of_a_name(byte)).count())
}

fn rename(part: &[u8], change: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (name, rest) = name(part);
    [&change(name), rest].concat()
}

fn swapped_case(name: &[u8]) -> Vec<u8> {
    let swap = |byte: &u8| byte ^ if byte.is_ascii_alphabetic() { 0x20 } else { 0 };
    name.iter().map(swap).collect()
}

/// A `max-age` of digits, written in another way; everything else as it is.
fn respell(part: &[u8], spelling: fn(&str) -> String) -> Vec<u8> {
    let (name, rest) = name(part);
    let digits: Vec<u8> = rest.iter().copied().filter(u8::is_ascii_digit).collect();
    let is_plain = rest
        .strip_prefix(b"=")
        .is_some_and(|value| value == digits || value == [&b"\""[..], &digits, b"\""].concat());
    match String::from_utf8(digits) {
        Ok(digits) if is_plain && !digits.is_empty() && name.eq_ignore_ascii_case(b"max-age") => {
            format!("max-age={}", spelling(&digits)).into_bytes()
        }
        _ => part.to_vec(),
    }
}

fn age_as_token(digits: &str) -> String {
    digits.to_owned()
}

fn age_as_quoted_string(digits: &str) -> String {
    format!("\"{digits}\"")
}

fn age_as_quoted_pairs(digits: &str) -> String {
    format!("\"{}\"", digits.chars().map(|digit| format!("\\{digit}")).collect::<String>())
}

fn age_with_zeros(digits: &str) -> String {
    format!("000{digits}")
}

/// The models of user agents must not panic for any value.
fn user_agents(kind: FieldKind, text: &[u8], strict: Option<&Field>) {
    let chain = strict.and_then(|field| field.pins.first()).copied();
    let Ok(host) = Host::parse("www.example.com") else {
        return;
    };
    for fields in [&[text][..], &[text, text]] {
        let Ok(response) = Response::new(kind, fields, &host, true, chain.as_slice()) else {
            continue;
        };
        for verdict in [chromium::verdict, firefox::verdict, wget2::verdict] {
            let _ = verdict(&response);
        }
    }
}

/// Renders the policy of a field. If the renderer accepts the policy, its header must be read as the same field.
fn rendered(kind: FieldKind, field: &Field) {
    let at = Location { file: Arc::from("fuzz"), line: 1 };
    let mut spec = PolicySpec::new("fuzz".to_owned(), at.clone());
    spec.pins = field
        .pins
        .iter()
        .map(|pin| PinSetting { source: PinSource::Literal(*pin), at: at.clone() })
        .collect();
    spec.max_age = field.max_age.and_then(MaxAge::from_seconds);
    spec.include_subdomains = Some(field.include_subdomains);
    spec.report_uri = field.report_uri.as_ref().and_then(|uri| uri.as_str().parse().ok());

    let enforced = kind == FieldKind::Enforced;
    let renderable = field.pins.len() <= MAX_PINS
        && if enforced {
            field.pins.len() >= 2 && spec.max_age.is_some()
        } else {
            !field.pins.is_empty() && spec.report_uri.is_some()
        };
    let uri_is_kept = spec.report_uri.is_some() == field.report_uri.is_some();
    let policy = spec.resolve(|_| Err(String::new()));
    let header = Header::render(&policy, if enforced { Kind::Enforced } else { Kind::ReportOnly });
    assert_eq!(header.is_ok(), renderable, "{header:?}");
    let Some(header) = header.ok().filter(|_| uri_is_kept) else {
        return;
    };
    let expected = Field {
        unknown_algorithms: false,
        max_age: field.max_age.filter(|_| enforced),
        ..field.clone()
    };
    let reading = Reading::of(kind, header.value().as_bytes());
    assert_eq!(reading.as_ref().ok().and_then(Reading::strict), Some(&expected));
}
