//! Converts names of hosts and in certificates to the form in which people write them.

use hpkp_core::certificate::Certificate;

use crate::output;

/// The most characters of all names of a chain together.
const MAX: usize = 1000;

/// The most host names of a certificate.
const MAX_HOSTS: usize = 20;

/// Decodes letters in names of certificates: the core writes letters beyond ASCII as `\xd7\x90`, for logs.
pub(crate) fn readable(text: &str) -> String {
    let mut readable = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find("\\x") {
        readable.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let mut bytes = Vec::new();
        while let Some(byte) = escaped_byte(&rest[bytes.len() * 4..]) {
            bytes.push(byte);
        }
        let taken = (bytes.len() * 4).max(2);
        match String::from_utf8(bytes) {
            Ok(letters) if !letters.is_empty() => readable.push_str(&letters),
            _ => readable.push_str(&rest[..taken]),
        }
        rest = &rest[taken..];
    }
    readable.push_str(rest);
    readable
}

/// The byte of an escape such as `\xd7` at the beginning of a text, if it is beyond ASCII.
fn escaped_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("\\x")?.get(..2)?;
    u8::from_str_radix(digits, 16).ok().filter(|byte| *byte >= 0x80)
}

/// The Unicode form of an internationalized name; none for other names.
pub(crate) fn unicode(host: &str) -> Option<String> {
    let (unicode, result) = idna::domain_to_unicode(host);
    (result.is_ok() && unicode != host).then_some(unicode)
}

/// Additional text for searches: the Unicode form of the host, and the names in the certificates, with host names in
/// both forms. In lower case.
pub(crate) fn searched(host: &str, chain: &[Certificate]) -> String {
    let mut found: Vec<String> = unicode(host).into_iter().collect();
    let names = chain.iter().flat_map(|one| [one.subject(), one.issuer()]);
    found.extend(names.map(readable));
    for name in chain.iter().flat_map(|one| one.dns_names().iter().take(MAX_HOSTS)) {
        found.extend(unicode(name));
        found.push(name.clone());
    }
    let mut text = String::new();
    let mut known = std::collections::HashSet::new();
    for name in &found {
        let name = output::printable(name).to_lowercase();
        if known.insert(name.clone()) {
            text.push_str(&name);
            text.push('\n');
        }
    }
    text.chars().take(MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_letters_are_decoded_and_invalid_ones_kept() {
        assert_eq!(readable("CN=\\xd7\\xa9\\xd7\\x9c b"), "CN=\u{5e9}\u{5dc} b");
        for text in ["", "\\x", "\\x4", "\\x41", "\\xff", "a\\xd7", "\\xd7\u{5e9}", "\\\\x"] {
            assert_eq!(readable(text), text);
        }
    }

    #[test]
    fn the_search_text_has_the_unicode_form_of_a_host() {
        assert_eq!(searched("xn--bcher-kva.example", &[]), "b\u{fc}cher.example\n");
        assert_eq!(searched("www.example.com", &[]), "");
    }
}
