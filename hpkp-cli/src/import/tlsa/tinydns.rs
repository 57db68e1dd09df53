//! Reads tinydns' data: `:NAME:52:DATA:TTL` with octal escapes in the data, and `CNAME:TARGET:TTL` with a C
//! as prefix.

use super::super::{ImportError, Problem};
use super::zone::{self, Record};

/// The type number of TLSA.
const TLSA: &str = "52";

/// Whether a text has a TLSA record in this notation.
pub(super) fn is_tinydns(text: &str) -> bool {
    text.lines().any(|line| generic(line).is_some())
}

/// The parts of a line with a TLSA record: name, escaped data, time to live.
fn generic(line: &str) -> Option<(&str, &str, &str)> {
    let mut parts = line.strip_prefix(':')?.split(':');
    let (name, kind, data) = (parts.next()?, parts.next()?, parts.next()?);
    (kind.trim() == TLSA).then(|| (name, data, parts.next().unwrap_or_default()))
}

/// Calls `found` with the position and the data of each TLSA record, for the check of pins that were not
/// read.
pub(super) fn data(text: &str, mut found: impl FnMut(usize, Vec<u8>)) {
    let mut start = 0;
    for line in text.split('\n') {
        let read = generic(line).and_then(|(name, data, _)| Some((name, unescaped(data)?)));
        if let Some((name, [_, _, _, rest @ ..])) =
            read.as_ref().map(|(name, data)| (name, &data[..]))
        {
            found(start + name.len() + TLSA.len() + 3, rest.to_vec());
        }
        start += line.len() + 1;
    }
}

/// The records of a text.
///
/// # Errors
/// The data of a TLSA record are invalid.
pub(super) fn records(text: &str) -> Result<Vec<Record>, ImportError> {
    let mut records = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        if let Some(alias) = content.strip_prefix('C') {
            let mut parts = alias.split(':');
            let (Some(name), Some(target)) = (parts.next(), parts.next()) else { continue };
            let target = format!("{}.", target.trim_end_matches('.'));
            let ttl = parts.next().and_then(zone::time);
            records.push(Record::alias(line, name.trim_end_matches('.').to_owned(), ttl, target));
            continue;
        }
        let Some((name, data, ttl)) = generic(content) else { continue };
        let wrong = || {
            let wanted = "the data of a TLSA record: three bytes and those that are matched";
            Problem::unexpected(data, wanted).at(line)
        };
        let bytes = unescaped(data).ok_or_else(wrong)?;
        let (parameters, data) = bytes.split_first_chunk::<3>().ok_or_else(wrong)?;
        let mut words: Vec<String> = parameters.iter().map(ToString::to_string).collect();
        words.push(data.iter().map(|byte| format!("{byte:02x}")).collect());
        let (name, ttl) = (name.trim_end_matches('.').to_owned(), zone::time(ttl.trim()));
        records.push(Record::tlsa(line, name, ttl, words));
    }
    Ok(records)
}

/// Decodes data in which `\ooo` stands for a byte.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.trim_end_matches('\r').as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<3>()?;
        let mut value = 0_u16;
        for digit in digits {
            value = value * 8 + u16::try_from(char::from(*digit).to_digit(8)?).ok()?;
        }
        bytes.push(u8::try_from(value).ok()?);
        rest = after;
    }
    Some(bytes)
}
