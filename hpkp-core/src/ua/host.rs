//! Host names in the form under which Known Pinned Hosts are kept (RFC 7469 section 2.3.3).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use unicode_normalization::UnicodeNormalization as _;

pub use crate::published::HostName;

/// The host of a URI: a name that can be pinned, or an IP address, which never is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name.
    Name(HostName),
    /// An IP address, v4 or v6, as it was written.
    Address(String),
}

impl Host {
    /// The longest text that is read, in bytes: more than any spelling of a name needs.
    pub const MAX: usize = 1024;

    /// Reads a host from a URI or a command line, without a port.
    ///
    /// # Errors
    /// Why the text is not a host.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.len() > Self::MAX {
            return Err(HostError::TooLong);
        }
        // Names contain no colon and no bracket, so such a text is an IPv6 address or invalid.
        if text.contains([':', '[', ']']) {
            return match is_ipv6(text) {
                true => Ok(Self::Address(text.to_owned())),
                false => Err(HostError::Character),
            };
        }
        let name = canonical(text)?;
        if is_address(&name) {
            return Ok(Self::Address(text.to_owned()));
        }
        // "_" is the conventional name of servers without a name.
        name.parse().map(Self::Name).map_err(|_| HostError::Character)
    }

    /// The host in canonical form. An IPv6 address loses brackets, upper case, superfluous zeros and its zone, which
    /// has a meaning only on the sender's machine.
    #[must_use]
    pub fn canonical(self) -> Self {
        let Self::Address(text) = &self else { return self };
        let inner = text.trim_start_matches('[').trim_end_matches(']');
        let inner = inner.split('%').next().unwrap_or_default();
        let address = inner.parse::<std::net::IpAddr>();
        address.map_or(self, |address| Self::Address(address.to_string()))
    }

    /// The name in its canonical form, or the address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(name) => name.as_str(),
            Self::Address(text) => text,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// IPv6, in brackets or not, with a zone or without (RFC 6874).
fn is_ipv6(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let text = inner.unwrap_or(text);
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && !zone.contains(['[', ']'])
}

/// Whether a URL parser takes `name` for an IPv4 address: all do if it is four decimal numbers, and browsers also if
/// its last label is a number.
fn is_address(name: &str) -> bool {
    if name.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x");
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The most bytes of a label.
const MAX_LABEL: usize = 63;

/// The name in A-labels and lower case, without a root dot (RFC 6797 section 10).
fn canonical(text: &str) -> Result<String, HostError> {
    let mut name = String::with_capacity(text.len());
    // RFC 3490 section 3.1 names the other dots, which input methods produce.
    let mut labels = text.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']).peekable();
    while let Some(label) = labels.next() {
        if label.is_empty() {
            // An empty last label is the root, which must not be the only label.
            if labels.peek().is_none() && !name.is_empty() {
                break;
            }
            return Err(HostError::EmptyLabel);
        }
        if !name.is_empty() {
            name.push('.');
        }
        push_label(&mut name, label)?;
    }
    if name.len() > HostName::MAX {
        return Err(HostError::TooLong);
    }
    Ok(name)
}

/// Appends a label in its canonical form.
///
/// For labels outside ASCII this is the part of UTS 46 that names in use need: NFKC, lower case,
/// Punycode; deviation characters (sharp s) are kept as IDNA 2008 has them. It does not judge which
/// code points a registry allows.
fn push_label(name: &mut String, label: &str) -> Result<(), HostError> {
    let start = name.len();
    if label.is_ascii() {
        name.push_str(label);
    } else {
        let folded: String = label.nfkc().flat_map(char::to_lowercase).collect();
        let folded: String = folded.nfkc().collect();
        if folded.is_ascii() {
            name.push_str(&folded);
        } else if folded.chars().any(is_never_in_a_label) {
            return Err(HostError::Character);
        } else {
            name.push_str("xn--");
            punycode(name, &folded).ok_or(HostError::TooLong)?;
        }
    }
    name[start..].make_ascii_lowercase();
    let label = &name[start..];
    if label.len() > MAX_LABEL {
        return Err(HostError::TooLong);
    }
    // Existing names contain underscores, although strict host names do not.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if label.is_empty() || !label.bytes().all(plain) {
        return Err(HostError::Character);
    }
    Ok(())
}

fn is_never_in_a_label(c: char) -> bool {
    let outside = c.is_ascii() && !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_');
    outside || c.is_control() || c.is_whitespace() || c == char::REPLACEMENT_CHARACTER
}

/// Appends the Punycode of `label` (RFC 3492 section 6.3); `None` if it is far too long.
fn punycode(out: &mut String, label: &str) -> Option<()> {
    const BASE: u32 = 36;
    const T_MIN: u32 = 1;
    const T_MAX: u32 = 26;
    const SKEW: u32 = 38;
    const DAMP: u32 = 700;

    // A label's Punycode has at least one byte for each code point. The limit also keeps the
    // rounds below, one for each different code point, few.
    let points: Vec<u32> = label.chars().map(u32::from).collect();
    if points.len() > MAX_LABEL {
        return None;
    }
    let basic: String = label.chars().filter(char::is_ascii).collect();
    out.push_str(&basic);
    if !basic.is_empty() {
        out.push('-');
    }
    let mut handled = u32::try_from(basic.len()).ok()?;
    let first_length = handled;
    let (mut code, mut delta, mut bias) = (128, 0_u32, 72);
    while let Some(next) = points.iter().copied().filter(|point| *point >= code).min() {
        delta = delta.checked_add((next - code).checked_mul(handled + 1)?)?;
        code = next;
        for point in &points {
            if *point < code {
                delta = delta.checked_add(1)?;
            }
            if *point != code {
                continue;
            }
            let mut rest = delta;
            let mut k = BASE;
            loop {
                let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
                if rest < threshold {
                    break;
                }
                out.push(digit(threshold + (rest - threshold) % (BASE - threshold)));
                rest = (rest - threshold) / (BASE - threshold);
                k += BASE;
            }
            out.push(digit(rest));
            let damped = delta / if handled == first_length { DAMP } else { 2 };
            delta = damped + damped / (handled + 1);
            k = 0;
            while delta > ((BASE - T_MIN) * T_MAX) / 2 {
                delta /= BASE - T_MIN;
                k += BASE;
            }
            bias = k + (BASE - T_MIN + 1) * delta / (delta + SKEW);
            delta = 0;
            handled += 1;
        }
        delta = delta.checked_add(1)?;
        code += 1;
    }
    Some(())
}

fn digit(value: u32) -> char {
    char::from_digit(value, 36).map_or('0', |c| {
        // Punycode counts letters first; `from_digit` counts digits first.
        match c {
            '0'..='9' => char::from(b'a' + c as u8 - b'0'),
            'a'..='p' => char::from(b'a' + 10 + c as u8 - b'a'),
            _ => char::from(b'0' + c as u8 - b'q'),
        }
    })
}

/// Why a text is not a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HostError {
    /// A name or one of its labels is too long.
    #[error("a host name has at most 253 bytes, and 63 in a label")]
    TooLong,
    /// A label is empty.
    #[error("a label of the host name is empty")]
    EmptyLabel,
    /// A character that no host name contains.
    #[error("the host name contains an invalid character")]
    Character,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        match Host::parse(text) {
            Ok(Host::Name(name)) => name,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn all_spellings_of_a_host_have_one_canonical_form() {
        for (text, canonical) in [
            ("WWW.Example.COM", "www.example.com"),
            ("www.example.com.", "www.example.com"),
            ("_dmarc.example.com", "_dmarc.example.com"),
            ("localhost", "localhost"),
            ("1.2.3.4.example.com", "1.2.3.4.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER。EXAMPLE", "xn--bcher-kva.example"),
            ("bu\u{308}cher.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("faß.example", "xn--fa-hia.example"),
            ("ｅｘａｍｐｌｅ.com", "example.com"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"),
            ("☃.net", "xn--n3h.net"),
        ] {
            assert_eq!(name(text).as_str(), canonical, "{text}");
        }
    }

    #[test]
    fn the_samples_of_rfc_3492_are_encoded() {
        // RFC 3492 section 7.1 (A), (B), (D), (I), (L).
        for (label, punycode) in [
            ("ليهمابتكلموشعربي؟", "xn--egbpdaj6bu4bxfgehfvwxn"),
            ("他们为什么不说中文", "xn--ihqwcrb4cv8a8dqg056pqjye"),
            ("pročprostěnemluvíčesky", "xn--proprostnemluvesky-uyb24dma41a"),
            ("почемужеонинеговорятпорусски", "xn--b1abfaaepdrnnbgefbadotcwatmq2g4l"),
            ("3年b組金八先生", "xn--3b-ww4c5e180e575a65lsy2b"),
        ] {
            assert_eq!(name(label).as_str(), punycode);
        }
    }

    #[test]
    fn ip_addresses_are_not_names() {
        for text in [
            "192.0.2.1",
            "192.0.2.1.",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "２.1.1.1",
            "::1",
            "[::1]",
            "fe80::1%eth0",
            "[::ffff:192.0.2.1]",
        ] {
            assert!(matches!(Host::parse(text), Ok(Host::Address(_))), "{text}");
        }
    }

    #[test]
    fn invalid_hosts_are_refused() {
        for (text, error) in [
            (String::new(), HostError::EmptyLabel),
            (".".into(), HostError::EmptyLabel),
            (".example.com".into(), HostError::EmptyLabel),
            ("www..example.com".into(), HostError::EmptyLabel),
            ("www.example.com..".into(), HostError::EmptyLabel),
            ("a b".into(), HostError::Character),
            ("example.com:443".into(), HostError::Character),
            ("[::1".into(), HostError::Character),
            ("[::1]]".into(), HostError::Character),
            ("[v1.x]".into(), HostError::Character),
            ("*.example.com".into(), HostError::Character),
            ("_".into(), HostError::Character),
            ("<script>".into(), HostError::Character),
            ("é b".into(), HostError::Character),
            ("a".repeat(64), HostError::TooLong),
            ("ü".repeat(64), HostError::TooLong),
            (vec!["a"; 128].join("."), HostError::TooLong),
            ("a".repeat(2000), HostError::TooLong),
        ] {
            assert_eq!(Host::parse(&text), Err(error), "{text}");
        }
    }
}
