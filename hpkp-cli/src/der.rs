//! Elements in DER (X.690), read and written: as much as keys and certificates need.

use hpkp_core::pem;
use zeroize::Zeroizing;

/// The tag of a SEQUENCE.
pub(crate) const SEQUENCE: u8 = 0x30;

/// The tag, the content, and the rest after the element that `der` begins with. Only one-byte tags are
/// supported.
pub(crate) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The encoding of an element with this content.
pub(crate) fn written(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![tag];
    match (content.len(), u8::try_from(significant.len())) {
        (0..=0x7f, _) | (_, Err(_)) => der.push(content.len() as u8),
        (_, Ok(count)) => {
            der.push(0x80 | count);
            der.extend(significant);
        }
    }
    der.extend(content);
    der
}

/// The encoding of a SEQUENCE of these elements.
pub(crate) fn sequence(parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let content: Vec<u8> = parts.iter().flat_map(|part| part.as_ref()).copied().collect();
    written(SEQUENCE, &content)
}

/// A PEM block (RFC 7468), in a buffer that is wiped.
pub(crate) fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(Vec::with_capacity(pem::length(label, der.len())));
    pem::append(&mut text, label, der);
    // The text is ASCII. The conversion takes over the buffer without copying it.
    Zeroizing::new(String::from_utf8(std::mem::take(&mut *text)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_element_is_refused() {
        assert_eq!(element(&[4, 1, 7, 9]), Some((4, &[7][..], &[9][..])));
        assert_eq!(element(&[4, 0x81, 1, 7]), Some((4, &[7][..], &[][..])));
        for cut in [&[][..], &[4], &[4, 2, 7], &[4, 0x80, 7], &[4, 0x85, 0, 0, 0, 0, 1, 7]] {
            assert_eq!(element(cut), None);
        }
    }

    #[test]
    fn lengths_are_encoded_in_der() {
        assert_eq!(written(4, &[7; 3]), [4, 3, 7, 7, 7]);
        assert_eq!(written(4, &[7; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(written(4, &[7; 0x100])[..4], [4, 0x82, 1, 0]);
    }
}
