//! Extracts the value of a `Public-Key-Pins` field from configuration text.
//!
//! Operators copy the value from a configuration: with the directive around it, in quotation marks, with
//! the escapes of that configuration, over several lines. A message lists what was removed.

use std::fmt;

use hpkp_core::pin::Pin;

use super::residue;

/// The field that clients enforce.
const FIELD: &str = "public-key-pins";

/// The suffix of the field name that clients do not enforce but only report.
const REPORT_ONLY: &str = "-report-only";

/// The value of a field, and what was removed around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwrapped {
    /// The value as a server sends it.
    pub value: String,
    /// What was removed, in this order; empty if nothing was.
    pub taken_off: Vec<Wrapping>,
}

/// A kind of text around a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// Line ends: a value over several lines, or one at its end.
    Lines,
    /// XML's escapes, such as `&quot;`.
    Entities,
    /// The name of the field, and the directive in front of it.
    Name,
    /// Quotation marks around the whole value.
    Quotes,
    /// Backslashes in front of quotation marks and blanks.
    Backslashes,
}

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lines => "line ends",
            Self::Entities => "the escapes of XML (&quot;)",
            Self::Name => "the name of the field and the directive around it",
            Self::Quotes => "quotation marks around the whole value",
            Self::Backslashes => "backslashes of a configuration",
        })
    }
}

/// Why a text contains no value that clients enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderTextError {
    /// The field is `Public-Key-Pins-Report-Only`.
    #[error(
        "this is Public-Key-Pins-Report-Only: clients report by it and refuse nothing, so there is nothing to \
        record"
    )]
    ReportOnly,
    /// The text has several fields.
    #[error("there is more than one Public-Key-Pins field here; record each by itself")]
    SeveralFields,
}

/// Extracts the value from `text`.
///
/// # Errors
/// See [`HeaderTextError`].
pub fn unwrap(text: &str) -> Result<Unwrapped, HeaderTextError> {
    let mut taken_off = Vec::new();
    let mut note = |wrapping: Wrapping, before: &str, after: &str| {
        if before.trim() != after.trim() {
            taken_off.push(wrapping);
        }
    };
    let one_line = joined(text);
    note(Wrapping::Lines, text.trim_matches(' '), &one_line);
    let mut value = match named(&without_comments(text))? {
        Some(rest) => {
            note(Wrapping::Name, text, &rest);
            joined(&rest)
        }
        None => one_line,
    };
    // Escaped quotation marks are recognised only after the escapes are removed.
    for _ in 0..2 {
        let inner = quoted(&value).to_owned();
        note(Wrapping::Quotes, &value, &inner);
        value = inner;
        let plain = entities(&value);
        note(Wrapping::Entities, &value, &plain);
        if plain == value {
            break;
        }
        value = plain;
    }
    let plain = unescaped(&value);
    note(Wrapping::Backslashes, &value, &plain);
    taken_off.dedup();
    Ok(Unwrapped { value: plain.trim().trim_end_matches(';').trim_end().to_owned(), taken_off })
}

/// The pins in a text, without those in comments and in report-only fields.
#[must_use]
pub fn pins_in(text: &str) -> Vec<Pin> {
    let text = without_comments(text);
    let reports = format!("{FIELD}{REPORT_ONLY}");
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.to_ascii_lowercase().contains(&reports)).collect();
    residue::pins_in(&lines.join("\n"))
}

/// Joins the lines of a text.
fn joined(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim();
        // A line that ends with one backslash continues; two backslashes are an escaped one.
        let goes_on = line.ends_with('\\') && !line.ends_with("\\\\");
        line.strip_suffix('\\').filter(|_| goes_on).map_or(line, str::trim_end)
    });
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

/// Removes comment lines from a text of several lines.
fn without_comments(text: &str) -> String {
    let lines = text.lines();
    let lines = lines.filter(|line| {
        !line.trim_start().starts_with(['#']) && !line.trim_start().starts_with("//")
    });
    match text.trim().contains('\n') {
        true => lines.collect::<Vec<_>>().join("\n"),
        false => text.to_owned(),
    }
}

/// The value after the name of the field, if the text contains the name.
fn named(text: &str) -> Result<Option<String>, HeaderTextError> {
    let lower = text.to_ascii_lowercase();
    let names = lower.match_indices(FIELD).map(|(start, _)| (start, start + FIELD.len()));
    let (reporting, enforced): (Vec<_>, Vec<_>) =
        names.partition(|(_, end)| lower[*end..].starts_with(REPORT_ONLY));
    let mut values: Vec<String> =
        enforced.into_iter().map(|(start, end)| value_behind(text, start, end)).collect();
    // A directive that removes or empties the field has no pins.
    if values.iter().any(|value| value.contains("pin-sha256")) {
        values.retain(|value| value.contains("pin-sha256"));
    }
    // Servers may set the same value twice, for two kinds of responses.
    values.dedup();
    match (values.pop(), values.is_empty()) {
        (Some(value), true) => Ok(Some(value)),
        (Some(_), false) => Err(HeaderTextError::SeveralFields),
        (None, _) if reporting.is_empty() => Ok(None),
        (None, _) => Err(HeaderTextError::ReportOnly),
    }
}

/// The value after the field name at `start..end`.
fn value_behind(text: &str, start: usize, end: usize) -> String {
    let rest = &text[end..];
    // Skips the quotation mark of the name, and the separator of name and value: a colon, blanks (HAProxy
    // escapes them with a backslash), an arrow of Apple's or PHP's syntax, an XML attribute.
    let before = text[..start].chars().next_back().filter(|c| is_quote(*c));
    let in_quotes = before.and_then(|quote| rest.strip_prefix(quote));
    let mut rest = in_quotes.unwrap_or(rest).trim_start_matches([' ', '\t']);
    loop {
        let next = rest.trim_start_matches([':', ',', ' ', '\t', ']', '=']);
        // The value may be on the next line.
        let below = next.trim_start();
        let next = if below.starts_with(is_quote) { below } else { next };
        let next = next.strip_prefix("\\ ").unwrap_or(next);
        let next = next.strip_prefix("\\\n").unwrap_or(next);
        let next = next.strip_prefix('>').filter(|_| rest.starts_with('=')).unwrap_or(next);
        let next = VALUE.iter().find_map(|a| next.strip_prefix(a)).unwrap_or(next);
        // The value may be the only element of a list, or text over several lines in parentheses.
        let opened = next.strip_prefix(['[', '(', '{']).map(str::trim_start);
        let next = opened.filter(|inner| inner.starts_with(is_quote)).unwrap_or(next);
        if next.len() == rest.len() {
            break;
        }
        rest = next;
    }
    // Name and value may share one pair of quotation marks: header('Public-Key-Pins: ...').
    let quoted = |rest: &str, quote: char| Some((quote, end_of_quoted(rest, quote)?));
    let around = before.filter(|_| in_quotes.is_none());
    if let Some((quote, end)) = around.and_then(|quote| quoted(rest, quote)) {
        let whole = literals(&format!("{quote}{rest}"), quote, end + 1);
        return whole[1..whole.len() - 1].to_owned();
    }
    let first = rest.chars().next().filter(|c| is_quote(*c));
    if let Some((quote, end)) = first.and_then(|quote| quoted(&rest[1..], quote)) {
        return literals(rest, quote, end + 1);
    }
    plain(rest)
}

/// The keys of a value in formats that have name and value as separate members.
const VALUE: [&str; 5] = ["value=", "content=", "\"value\":", "'value':", "value:"];

/// The directives of a value, in lower case.
const DIRECTIVES: [&str; 4] = ["pin-sha256", "max-age", "includesubdomains", "report-uri"];

/// The literal that ends at `end`, with the literals that are concatenated to it: `"..." . "..."`, also on
/// the next line.
fn literals(text: &str, quote: char, end: usize) -> String {
    let mut value = text[..=end].to_owned();
    let mut rest = &text[end + 1..];
    loop {
        let next = rest.trim_start_matches([' ', '\t', '\r', '\n', '+', '.', '\\']);
        let Some(inner) = next.strip_prefix(quote) else { return value };
        let Some(end) = end_of_quoted(inner, quote) else { return value };
        let lower = inner[..end].to_ascii_lowercase();
        if !DIRECTIVES.iter().any(|directive| lower.contains(directive)) {
            return value;
        }
        value.truncate(value.len() - quote.len_utf8());
        value.push_str(&inner[..=end]);
        rest = &inner[end + 1..];
    }
}

/// A value without quotation marks: its line, and continuation lines.
fn plain(text: &str) -> String {
    let mut lines = text.split('\n');
    let mut value = lines.next().unwrap_or_default().trim_end().to_owned();
    for line in lines {
        let lower = line.trim_start().to_ascii_lowercase();
        let is_folded = line.starts_with([' ', '\t'])
            && DIRECTIVES.iter().any(|directive| lower.starts_with(directive));
        if !is_folded && !value.ends_with('\\') {
            break;
        }
        value.push('\n');
        value.push_str(line.trim_end());
    }
    // In HAProxy's syntax, an unescaped blank ends the value; a condition such as `if { ssl_fc }` may
    // follow.
    if value.contains("\\ ") {
        let mut before = ' ';
        let end = value.char_indices().find(|(_, c)| {
            let ends = *c == ' ' && before != '\\';
            before = *c;
            ends
        });
        if let Some((end, _)) = end {
            value.truncate(end);
        }
    }
    value
}

fn is_quote(c: char) -> bool {
    matches!(c, '\'' | '"' | '`')
}

/// The position of the closing quotation mark: the first one that is not escaped and not followed by a pin
/// or a value.
fn end_of_quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    let ends = text.char_indices().filter(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    let ends: Vec<usize> = ends.map(|(at, _)| at).collect();
    // If the quotation marks inside a value are not escaped, the last one on the line closes the value.
    match &ends[..] {
        [] => None,
        [only] => Some(*only),
        [first, ..] => {
            let inner = &text[..*first];
            let line = text.find('\n').unwrap_or(text.len());
            let last = ends.iter().rev().find(|end| **end < line).unwrap_or(first);
            Some(if inner.trim_end().ends_with('=') { *last } else { *first })
        }
    }
}

/// The value without quotation marks around the whole of it.
fn quoted(text: &str) -> &str {
    let text = text.trim();
    let Some(quote) = text.chars().next().filter(|c| is_quote(*c)) else { return text };
    let inner = &text[quote.len_utf8()..];
    match end_of_quoted(inner, quote) {
        Some(end) => &inner[..end],
        None => text,
    }
}

/// Replaces XML escapes.
fn entities(text: &str) -> String {
    let mut plain = text.to_owned();
    let escapes = [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#x22;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    for (escape, meaning) in escapes {
        plain = plain.replace(escape, meaning);
    }
    plain
}

/// Removes the backslashes that escape characters in configurations.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let escapes = |next: &char| matches!(next, '"' | '\'' | ' ' | ';' | '\\' | '`' | ',' | ':');
        match chars.next_if(|next| c == '\\' && escapes(next)) {
            Some(next) => plain.push(next),
            None => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "pin-sha256=\"YLh1dUR9y6Kja30RrAn7JKnbQG/uEtLMkBgFF2Fuihg=\"; \
        pin-sha256=\"klO23nT2ehFDXCfx3eHTDRESMz3asj1muO+4aIdjiuY=\"; max-age=2592000; \
        includeSubDomains";

    fn value(text: &str) -> String {
        unwrap(text).unwrap().value
    }

    #[test]
    fn a_value_without_wrapping_is_unchanged() {
        assert_eq!(unwrap(VALUE), Ok(Unwrapped { value: VALUE.into(), taken_off: vec![] }));
    }

    #[test]
    fn values_in_server_configurations_are_extracted() {
        let escaped = VALUE.replace('"', "\\\"");
        let xml = VALUE.replace('"', "&quot;");
        for text in [
            format!("'{VALUE}'"),
            format!("\"{VALUE}\""),
            format!("`{VALUE}`"),
            format!("\"{escaped}\""),
            escaped.clone(),
            xml.clone(),
            VALUE.replace("; ", ";\\ "),
            escaped.replace("; ", ";\\ "),
            VALUE.replace("; ", ";\n    "),
            VALUE.replace("; ", "; \\\n    "),
            format!("Public-Key-Pins: {VALUE}\r\n"),
            format!("public-key-pins:{VALUE}"),
            format!("add_header Public-Key-Pins '{VALUE}' always;"),
            format!("add_header Public-Key-Pins \"{escaped}\";"),
            format!("more_set_headers 'Public-Key-Pins: {VALUE}';"),
            format!("Header always set Public-Key-Pins \"{escaped}\""),
            format!("Header set Public-Key-Pins \"{escaped}\" env=HTTPS"),
            format!("Header always set Public-Key-Pins '{VALUE}' \"expr=%{{HTTPS}} == 'on'\""),
            format!("rspadd Public-Key-Pins:\\ {}", escaped.replace("; ", ";\\ ")),
            format!("http-response set-header Public-Key-Pins \"{escaped}\""),
            format!("http-response set-header Public-Key-Pins {}", escaped.replace("; ", ";\\ ")),
            format!("setenv.add-response-header = ( \"Public-Key-Pins\" => \"{escaped}\" )"),
            format!("\"Public-Key-Pins\" => \"{escaped}\","),
            format!("<add name=\"Public-Key-Pins\" value=\"{xml}\" />"),
            format!("header Public-Key-Pins `{VALUE}`"),
            format!("add-response-header=Public-Key-Pins: {VALUE}"),
            format!("header('Public-Key-Pins: {VALUE}');"),
            format!("header(\"Public-Key-Pins: {escaped}\");"),
            format!("response.headers['Public-Key-Pins'] = '{VALUE}'"),
            format!("response.headers['Public-Key-Pins'] = (\n  '{VALUE}'\n)"),
            format!("{{\"set\": {{\"Public-Key-Pins\": [\"{escaped}\"]}}}}"),
            format!("set resp.http.Public-Key-Pins = {{\"{VALUE}\"}};"),
            format!("{{\"key\": \"Public-Key-Pins\",\n \"value\": \"{escaped}\"}}"),
        ] {
            assert_eq!(value(&text), VALUE, "{text}");
            assert!(!unwrap(&text).unwrap().taken_off.is_empty(), "{text}");
        }
    }

    #[test]
    fn values_in_configuration_files_are_extracted() {
        let escaped = VALUE.replace('"', "\\\"");
        let blanks = escaped.replace("; ", ";\\ ");
        let xml = VALUE.replace('"', "&quot;");
        let (first, second) = VALUE.split_at(VALUE.find(" pin-sha256=\"klO").unwrap() + 1);
        for text in [
            format!("server {{\n listen 443;\n add_header Public-Key-Pins '{VALUE}';\n}}\n"),
            format!(
                "a=b,443\nadd-response-header=X: y\nadd-response-header=Public-Key-Pins: \
                {VALUE}\nadd-response-header=Z: z\n"
            ),
            format!("HTTP/1.1 200 OK\r\nPublic-Key-Pins: {VALUE}\r\nServer: x\r\n\r\n"),
            format!(
                "<a>\n<add name=\"X\" value=\"b\" />\n<add name=\"Public-Key-Pins\" \
                value=\"{xml}\" />\n<add name=\"Y\" value=\"d\" /></a>"
            ),
            format!("rspadd Public-Key-Pins:\\ {blanks} if {{ ssl_fc }}\n"),
            format!("add_header Public-Key-Pins '{first}'\n  '{second}';\n"),
            format!("header('Public-Key-Pins: {first}' . '{second}');").replace("' . '", ""),
            format!(
                "# add_header Public-Key-Pins 'max-age=1';\nadd_header Public-Key-Pins '{VALUE}';"
            ),
            format!(
                "add_header Public-Key-Pins-Report-Only 'x';\nadd_header Public-Key-Pins '{VALUE}';"
            ),
            format!("Public-Key-Pins: {VALUE}\nPublic-Key-Pins: {VALUE}\n"),
            format!(
                "<Files x>\nHeader set Public-Key-Pins \"{escaped}\"\nHeader set X \"y\"\n</Files>"
            ),
        ] {
            assert_eq!(value(&text), VALUE, "{text}");
        }
    }

    #[test]
    fn report_only_and_repeated_fields_are_errors() {
        let text = format!("Public-Key-Pins-Report-Only: {VALUE}");
        assert_eq!(unwrap(&text), Err(HeaderTextError::ReportOnly));
        let text =
            format!("Public-Key-Pins: {VALUE}\nPublic-Key-Pins: pin-sha256=\"x\"; max-age=1");
        assert_eq!(unwrap(&text), Err(HeaderTextError::SeveralFields));
    }
}
