//! Reads TLSA records outside of zone files: the calls of dnscontrol (`TLSA("_443._tcp", 3, 1, 1, "...")`),
//! and texts in which the name of a record precedes its data, as in interfaces and databases of name
//! servers and in unbound's `local-data`.

use super::super::literal::{self, Token};
use super::super::{ImportError, Problem};
use super::zone::{Record, is_for_tlsa};

/// Whether a text has one of these notations.
pub(super) fn is_elsewhere(text: &str) -> bool {
    ["\"TLSA\"", "'TLSA'", "local-data", "TLSA("].iter().any(|mark| text.contains(mark))
}

/// The records of a text that is no zone file.
///
/// # Errors
/// The name of a record is not certain.
pub(super) fn records(text: &str) -> Result<Vec<Record>, ImportError> {
    match text.contains("TLSA(") {
        true => calls(&literal::tokens(text)),
        false => words(text),
    }
}

/// Reads the calls `D("ZONE", ..., TLSA("NAME", USAGE, SELECTOR, MATCHING, "DATA"))`.
fn calls(tokens: &[Token<'_>]) -> Result<Vec<Record>, ImportError> {
    let text = |at: usize| tokens.get(at).and_then(Token::text);
    let is = |at: usize, mark: char| tokens.get(at).is_some_and(|token| token.is(mark));
    let mut zone = None;
    // The value of DefaultTTL(3600).
    let mut default = None;
    let mut records = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(name) = token.word().filter(|_| is(at + 1, '(')) else { continue };
        if name == "D" || name == "D_EXTEND" {
            zone = text(at + 2);
            default = None;
            continue;
        }
        if name == "DefaultTTL" {
            let stated = text(at + 2).or_else(|| tokens.get(at + 2).and_then(Token::word));
            default = stated.and_then(super::zone::time);
            continue;
        }
        if name != "TLSA" {
            continue;
        }
        let wrong = || {
            let wanted =
                "TLSA(\"NAME\", USAGE, SELECTOR, MATCHING, \"DATA\") within D(\"ZONE\", ...)";
            Problem::unexpected("TLSA", wanted).at(token.line())
        };
        let whole = (2..12).step_by(2).all(|part| {
            is(at + part + 1, if part < 10 { ',' } else { ')' })
                || part == 10 && is(at + part + 1, ',')
        });
        let stated = text(at + 2).filter(|_| whole).ok_or_else(wrong)?;
        let data = text(at + 10).ok_or_else(wrong)?;
        let mut words = Vec::new();
        for part in [4, 6, 8] {
            words.push(tokens.get(at + part).and_then(Token::word).ok_or_else(wrong)?.to_owned());
        }
        words.push(data.to_owned());
        let owner = match (stated.strip_suffix('.'), zone) {
            (Some(whole), _) => whole.to_owned(),
            (None, Some(zone)) if stated == "@" => zone.to_owned(),
            (None, Some(zone)) => format!("{stated}.{}", zone.trim_end_matches('.')),
            (None, None) => return Err(wrong()),
        };
        let of_modifier = |at: usize| text(at).or_else(|| tokens.get(at).and_then(Token::word));
        let mut modifiers =
            (at + 11..tokens.len()).take_while(|at| !is(*at, ')') || is(*at - 3, '('));
        let ttl = modifiers.find(|at| of_modifier(*at) == Some("TTL") && is(*at + 1, '('));
        let ttl = ttl.and_then(|at| of_modifier(at + 2)).and_then(super::zone::time);
        records.push(Record::tlsa(token.line(), owner, ttl.or(default), words));
    }
    Ok(records)
}

/// Reads records whose names precede their data.
fn words(text: &str) -> Result<Vec<Record>, ImportError> {
    let mut records = Vec::new();
    // The line and the text of the last name, and whether data followed it.
    let mut owner: Option<(usize, &str, bool)> = None;
    let mut numbers: Vec<&str> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let parted = |c: char| c.is_whitespace() || "\"'`,:;()[]{}<>=\\".contains(c);
        for word in content.split(parted).filter(|word| !word.is_empty()) {
            let is_hex = word.len() >= 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_for_tlsa(word) && word.matches('.').count() > 2 {
                if let Some((line, _, false)) = owner {
                    return Err(unclear(line));
                }
                owner = Some((line, word, false));
            } else if is_hex && numbers.len() == 3 {
                let (_, name, followed) = owner.as_mut().ok_or_else(|| unclear(line))?;
                *followed = true;
                let name = name.trim_end_matches('.').to_owned();
                let mut data: Vec<String> = numbers.iter().map(|one| (*one).to_owned()).collect();
                data.push(word.to_owned());
                records.push(Record::tlsa(line, name, None, data));
            }
            match word.len() == 1 && word.bytes().all(|byte| byte.is_ascii_digit()) {
                true if numbers.len() == 3 => {
                    numbers.remove(0);
                    numbers.push(word);
                }
                true => numbers.push(word),
                false => numbers.clear(),
            }
        }
    }
    match owner {
        Some((line, _, false)) if !records.is_empty() => Err(unclear(line)),
        _ => Ok(records),
    }
}

fn unclear(line: usize) -> ImportError {
    let wanted = "the name of each TLSA record in front of its data; import the zone as it is served \
        (dig AXFR), or the output of dig +noall +answer";
    Problem::unexpected("TLSA", wanted).at(line)
}
