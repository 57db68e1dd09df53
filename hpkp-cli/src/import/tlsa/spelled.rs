//! Finds the data of TLSA records in any text: a zone, calls of dnscontrol, YAML of octoDNS, JSON of an
//! interface. For the check of pins that no reader has accounted for.

use data_encoding::HEXLOWER_PERMISSIVE;
use hpkp_core::pin::Pin;

/// Calls `found` with the position of each text that looks like the data of a TLSA record, and with the pin
/// that represents it: the 32 bytes themselves, or a hash of longer data.
pub(in super::super) fn candidates(text: &str, mut found: impl FnMut(usize, Pin)) {
    let lower = text.to_ascii_lowercase();
    let has = ["tlsa", "type52", "_tcp", "_udp"].iter().any(|mark| lower.contains(mark));
    super::tinydns::data(text, |at, data| found(at, stand_in(&data)));
    if !has {
        return;
    }
    let bytes = text.as_bytes();
    let mut run: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    let mut end_of_last = 0;
    loop {
        // Only blanks and parentheses may separate the words of a run.
        while at < bytes.len() && !is_of_word(bytes[at]) {
            at += 1;
        }
        let begin = at;
        while at < bytes.len() && is_of_word(bytes[at]) {
            at += 1;
        }
        let word = &bytes[begin..at];
        let is_hex =
            !word.is_empty() && word.len() % 2 == 0 && word.iter().all(u8::is_ascii_hexdigit);
        let apart = bytes[end_of_last..begin].iter().any(|c| !b" \t\r\n()".contains(c));
        if !is_hex || apart {
            data(bytes, &lower, &run, &mut found);
            run.clear();
        }
        if word.is_empty() {
            return;
        }
        if is_hex {
            run.push((begin, at));
        }
        end_of_last = at;
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Finds the data in a run of hexadecimal words, which may contain other words before and after the data.
fn data(bytes: &[u8], lower: &str, run: &[(usize, usize)], found: &mut impl FnMut(usize, Pin)) {
    let mut first = 0;
    while let Some((begin, _)) = run.get(first).copied() {
        let announced = announced(&bytes[begin.saturating_sub(64)..begin], lower, begin);
        let mut digits = Vec::new();
        let mut next = first + 1;
        for (at, (start, end)) in run.iter().enumerate().skip(first) {
            digits.extend(&bytes[*start..*end]);
            let data = match (digits.len(), announced) {
                (64, Some(MatchingType::Sha256 | MatchingType::Any))
                | (128, Some(MatchingType::Sha512 | MatchingType::Any)) => Some(&digits[..]),
                (70 | 134, _) if is_generic(&digits[..6]) => Some(&digits[6..]),
                (..134, _) => continue,
                _ => None,
            };
            if let Some(data) = data.and_then(|digits| HEXLOWER_PERMISSIVE.decode(digits).ok()) {
                found(begin, stand_in(&data));
                next = at + 1;
            }
            break;
        }
        first = next;
    }
}

/// Whether the digits are the three parameters of a record in the notation for unknown types.
fn is_generic(digits: &[u8]) -> bool {
    digits.chunks(2).all(|one| one[0] == b'0' && matches!(one[1], b'0'..=b'3'))
}

/// The matching type that precedes the data.
#[derive(Clone, Copy)]
enum MatchingType {
    Any,
    Sha256,
    Sha512,
}

/// The matching type, if the three parameters of a record or the name of the data precede.
fn announced(before: &[u8], lower: &str, at: usize) -> Option<MatchingType> {
    let name = &lower.as_bytes()[at.saturating_sub(48)..at];
    let name = String::from_utf8_lossy(name);
    let name = name.rsplit('\n').next().unwrap_or_default();
    let key = name.trim_end_matches(|c: char| !c.is_alphanumeric());
    if name.contains("association") || key.ends_with("certificate") || key.ends_with("tlsa") {
        return Some(MatchingType::Any);
    }
    let mut numbers =
        before.rsplit(|byte| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut next = |allowed: &[u8]| {
        let word = numbers.next().filter(|word| word.len() == 1)?;
        allowed.contains(&word[0]).then_some(word[0])
    };
    let matching = next(b"012")?;
    next(b"01").zip(next(b"0123"))?;
    Some(match matching {
        b'1' => MatchingType::Sha256,
        b'2' => MatchingType::Sha512,
        _ => MatchingType::Any,
    })
}

/// The pin that represents the data of a record in the account of pins: the data themselves if they have
/// the length of a pin, else their hash.
pub(in super::super) fn stand_in(data: &[u8]) -> Pin {
    let bytes = <[u8; Pin::BYTES]>::try_from(data);
    Pin::from_bytes(bytes.unwrap_or_else(|_| openssl::sha::sha256(data)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tlsa_data_are_found_in_texts() {
        let hash = "d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971";
        let (first, second) = hash.split_at(56);
        let count = |text: &str| {
            let mut count = 0;
            candidates(text, |_, _| count += 1);
            count
        };
        for text in [
            format!("_443._tcp.a. IN TLSA 3 1 1 {hash}"),
            format!("_443._tcp.a. IN TLSA 3 1 1 ( {first}\n  {second} )"),
            format!("_443._tcp.a. TYPE52 \\# 35 030101{hash}"),
            format!("TLSA(\"_443._tcp\", 3, 1, 1, \"{hash}\")"),
            format!("type: TLSA\nvalue:\n  certificate_association_data: {hash}"),
            format!("{{\"type\":\"TLSA\",\"data\":{{\"certificate\":\"{hash}\"}}}}"),
            format!("TLSA 3 1 2 {hash}{hash}"),
        ] {
            assert_eq!(count(&text), 1, "{text}");
        }
        for text in [
            format!("_443._tcp.a. TLSA 3 1 1 00\na. DS 12345 13 2 {hash}"),
            format!("_443._tcp.a. TLSA 3 1 1 00\na. SSHFP 4 2 {hash}"),
            format!("3 1 1 {hash}"),
        ] {
            assert_eq!(count(&text), 0, "{text}");
        }
    }
}
