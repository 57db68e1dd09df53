//! Finds the `SubjectPublicKeyInfo` in a certificate without a full parse.
//!
//! A pin needs nothing else of a certificate, and a full parse takes ten times as long as the hash. The walk checks the
//! whole structure (RFC 5280 section 4.1) and allocates nothing. It only knows the usual forms in strict DER: the full
//! parse decides about whatever it refuses, and accepts whatever it accepts, with the same key.

/// The part of a certificate that a pin needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located<'a> {
    /// The bytes of the `SubjectPublicKeyInfo` in the certificate.
    pub(crate) spki: &'a [u8],
    /// The object identifier of the key's algorithm, its content alone.
    pub(crate) algorithm: &'a [u8],
    /// The number of the tag of the algorithm's parameters, if there are any.
    pub(crate) parameters: Option<u8>,
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// The key of the certificate `der`, or `None` if a full parse must decide.
pub(crate) fn locate(der: &[u8]) -> Option<Located<'_>> {
    let mut file = Elements(der);
    let mut certificate = file.inside(SEQUENCE)?;
    file.end()?;
    let mut tbs = certificate.inside(SEQUENCE)?;
    algorithm(&mut certificate)?;
    bit_string(&mut certificate)?;
    certificate.end()?;

    if tbs.0.first() == Some(&VERSION) {
        let mut version = tbs.inside(VERSION)?;
        matches!(version.content(INTEGER)?, [0..=2]).then_some(())?;
        version.end()?;
    }
    (!tbs.content(INTEGER)?.is_empty()).then_some(())?;
    algorithm(&mut tbs)?;
    name(&mut tbs)?;
    let mut validity = tbs.inside(SEQUENCE)?;
    time(&mut validity)?;
    time(&mut validity)?;
    validity.end()?;
    name(&mut tbs)?;
    let key = public_key(&mut tbs)?;
    if !tbs.0.is_empty() {
        extensions(tbs.inside(EXTENSIONS)?)?;
    }
    tbs.end()?;
    Some(key)
}

fn public_key<'a>(tbs: &mut Elements<'a>) -> Option<Located<'a>> {
    let from = tbs.0;
    let mut key = tbs.inside(SEQUENCE)?;
    let spki = from.get(..from.len() - tbs.0.len())?;
    let (algorithm, parameters) = algorithm(&mut key)?;
    bit_string(&mut key)?;
    key.end()?;
    Some(Located { spki, algorithm, parameters })
}

/// `AlgorithmIdentifier`: its object identifier, and the number of its parameters' tag.
fn algorithm<'a>(within: &mut Elements<'a>) -> Option<(&'a [u8], Option<u8>)> {
    let mut algorithm = within.inside(SEQUENCE)?;
    let oid = algorithm.content(OID)?;
    let parameters = match algorithm.0 {
        [] => None,
        _ => Some(algorithm.any()? & TAG_NUMBER),
    };
    algorithm.end()?;
    (!oid.is_empty()).then_some((oid, parameters))
}

/// A bit string of whole bytes, as in keys and signatures.
fn bit_string(within: &mut Elements<'_>) -> Option<()> {
    matches!(within.content(BIT_STRING)?, [0, _, ..]).then_some(())
}

fn name(within: &mut Elements<'_>) -> Option<()> {
    let mut name = within.inside(SEQUENCE)?;
    while !name.0.is_empty() {
        let mut rdn = name.inside(SET)?;
        loop {
            let mut attribute = rdn.inside(SEQUENCE)?;
            (!attribute.content(OID)?.is_empty()).then_some(())?;
            attribute.any()?;
            attribute.end()?;
            if rdn.0.is_empty() {
                break;
            }
        }
    }
    Some(())
}

/// A time in the only two forms that RFC 5280 allows. The 29th of February is left to the full parse.
fn time(within: &mut Elements<'_>) -> Option<()> {
    let (tag, text) = within.next()?;
    let digits = match (tag, text) {
        (UTC_TIME, [digits @ .., b'Z']) if digits.len() == 12 => digits,
        (GENERALIZED_TIME, [century @ .., b'Z']) if century.len() == 14 => {
            let (century, digits) = century.split_at_checked(2)?;
            two_digits(century)?;
            digits
        }
        _ => return None,
    };
    let mut pairs = digits.chunks_exact(2).map(two_digits);
    let mut pair = || pairs.next().flatten();
    let (_, month, day, hour, minute, second) =
        (pair()?, pair()?, pair()?, pair()?, pair()?, pair()?);
    let last = match month {
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    ((1..=last).contains(&day) && hour < 24 && minute < 60 && second < 60).then_some(())
}

fn two_digits(text: &[u8]) -> Option<u8> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some((tens - b'0') * 10 + (ones - b'0')),
        _ => None,
    }
}

fn extensions(mut explicit: Elements<'_>) -> Option<()> {
    let mut list = explicit.inside(SEQUENCE)?;
    explicit.end()?;
    loop {
        let mut extension = list.inside(SEQUENCE)?;
        (!extension.content(OID)?.is_empty()).then_some(())?;
        if extension.0.first() == Some(&BOOLEAN) {
            (extension.content(BOOLEAN)? == [0xff]).then_some(())?;
        }
        extension.content(OCTET_STRING)?;
        extension.end()?;
        if list.0.is_empty() {
            return Some(());
        }
    }
}

/// The bits of a tag that hold its number.
const TAG_NUMBER: u8 = 0x1f;

/// The elements that are still to be read.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The tag and the content of the next element: a tag of one byte, and the shortest form of a length.
    #[inline]
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => {
                let (&length, rest) = rest.split_first()?;
                (length >= 0x80).then_some((usize::from(length), rest))?
            }
            0x82 => {
                let (&length, rest) = rest.split_first_chunk()?;
                let length = u16::from_be_bytes(length);
                (length >= 0x100).then_some((usize::from(length), rest))?
            }
            0x83 => {
                let (&[high, middle, low], rest) = rest.split_first_chunk()?;
                let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                (length >= 0x1_0000).then_some((length, rest))?
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which must have this tag.
    #[inline]
    fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().and_then(|(found, content)| (found == tag).then_some(content))
    }

    /// The elements inside the next one.
    #[inline]
    fn inside(&mut self, tag: u8) -> Option<Self> {
        self.content(tag).map(Elements)
    }

    /// The tag of the next element, whatever it is.
    #[inline]
    fn any(&mut self) -> Option<u8> {
        self.next().and_then(|(tag, _)| (tag & TAG_NUMBER != TAG_NUMBER).then_some(tag))
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_their_shortest_form() {
        let long = [&[4, 0x81, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(Elements(&long).next(), Some((4, &[7; 0x80][..])));
        assert_eq!(Elements(&[4, 1, 7, 9]).next(), Some((4, &[7][..])));
        for wrong in [
            &[][..],
            &[4],
            &[4, 2, 7],
            &[4, 0x80, 7],
            &[4, 0x81, 1, 7],
            &[4, 0x82, 0, 1, 7],
            &[4, 0x84, 0, 0, 0, 1, 7],
        ] {
            assert_eq!(Elements(wrong).next(), None, "{wrong:?}");
        }
    }

    #[test]
    fn invalid_days_are_left_to_the_full_parse() {
        let time = |tag, text: &str| {
            time(&mut Elements(&[&[tag, text.len() as u8], text.as_bytes()].concat()))
        };
        assert_eq!(time(UTC_TIME, "270530100000Z"), Some(()));
        assert_eq!(time(GENERALIZED_TIME, "20270530100000Z"), Some(()));
        for text in [
            "270431100000Z",
            "280229100000Z",
            "271330100000Z",
            "270530240000Z",
            "2705301000Z",
            "27053010000 Z",
            "270530100000+",
        ] {
            assert_eq!(time(UTC_TIME, text), None, "{text}");
        }
    }
}
