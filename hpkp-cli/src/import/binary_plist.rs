//! Converts property lists in Apple's binary form to the XML that `plutil -convert xml1` writes.

use hpkp_core::date;

use super::MAX_TEXT;

/// The first bytes of a binary property list.
pub(super) const MARK: &[u8] = b"bplist00";

/// The most objects that are written. Several references may lead to one object, so that a small file can
/// expand to a large list.
const MAX_OBJECTS: usize = 200_000;

/// How deep collections may be nested.
const MAX_DEPTH: usize = 64;

/// The XML of the list; `None` if the list is invalid or larger than a text may be.
pub(super) fn xml(bytes: &[u8]) -> Option<String> {
    /// The size of the trailer: field sizes, the number of objects, the first object, and the position of
    /// the table.
    const TRAILER: usize = 32;
    let trailer = bytes.get(bytes.len().checked_sub(TRAILER)?..)?;
    let (offset_size, reference_size) = (usize::from(trailer[6]), usize::from(trailer[7]));
    let count = number(&trailer[8..16])?;
    let table = bytes.get(number(&trailer[24..32])?..)?;
    if !(1..=8).contains(&offset_size) || !(1..=8).contains(&reference_size) {
        return None;
    }
    let table = table.get(..count.checked_mul(offset_size)?)?;
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\">\n";
    let mut list =
        List { bytes, table, offset_size, reference_size, text: head.to_owned(), objects: 0 };
    list.object(number(&trailer[16..24])?, 0, false)?;
    list.text.push_str("</plist>\n");
    Some(list.text)
}

/// A big-endian number.
fn number(bytes: &[u8]) -> Option<usize> {
    let number = bytes
        .iter()
        .try_fold(0_u64, |number, byte| number.checked_mul(256)?.checked_add(u64::from(*byte)));
    number.and_then(|number| usize::try_from(number).ok())
}

struct List<'a> {
    bytes: &'a [u8],
    table: &'a [u8],
    offset_size: usize,
    reference_size: usize,
    text: String,
    objects: usize,
}

impl List<'_> {
    /// Writes the object with this index.
    fn object(&mut self, index: usize, depth: usize, is_key: bool) -> Option<()> {
        self.objects += 1;
        if self.objects > MAX_OBJECTS || depth > MAX_DEPTH || self.text.len() > MAX_TEXT {
            return None;
        }
        let entry = self.table.chunks_exact(self.offset_size).nth(index)?;
        let at = number(entry)?;
        let mark = *self.bytes.get(at)?;
        let (kind, low) = (mark >> 4, usize::from(mark & 15));
        if is_key && !matches!(kind, 5 | 6) {
            return None;
        }
        match kind {
            0 if mark == 8 => self.text.push_str("<false/>"),
            0 if mark == 9 => self.text.push_str("<true/>"),
            1 => {
                let value = number(self.bytes.get(at + 1..at + 1 + (1 << low.min(3)))?)?;
                element(&mut self.text, "integer", &value.to_string());
            }
            3 => {
                let bytes = self.bytes.get(at + 1..at + 9)?;
                let seconds = f64::from_be_bytes(bytes.try_into().ok()?);
                element(&mut self.text, "date", &date_of(seconds)?);
            }
            5 | 6 => {
                let name = if is_key { "key" } else { "string" };
                let value = self.string(at, kind, low)?;
                element(&mut self.text, name, &value);
            }
            10 | 12 => {
                let (count, begin) = self.count(at, low)?;
                let members = self.references(begin, count)?;
                self.text.push_str("<array>\n");
                members.into_iter().try_for_each(|one| self.object(one, depth + 1, false))?;
                self.text.push_str("</array>");
            }
            13 => {
                let (count, begin) = self.count(at, low)?;
                let all = self.references(begin, count.checked_mul(2)?)?;
                self.text.push_str("<dict>\n");
                for (key, value) in all[..count].iter().zip(&all[count..]) {
                    self.object(*key, depth + 1, true)?;
                    self.object(*value, depth + 1, false)?;
                }
                self.text.push_str("</dict>");
            }
            // Other types contain no pins, so their contents are omitted.
            _ => element(&mut self.text, "data", ""),
        }
        self.text.push('\n');
        Some(())
    }

    /// The string at `at`: kind 5 is ASCII, kind 6 is UTF-16.
    fn string(&self, at: usize, kind: u8, low: usize) -> Option<String> {
        let (count, begin) = self.count(at, low)?;
        if kind == 5 {
            let bytes = self.bytes.get(begin..begin.checked_add(count)?)?;
            return Some(String::from_utf8_lossy(bytes).into_owned());
        }
        let end = begin.checked_add(count.checked_mul(2)?)?;
        let units = self.bytes.get(begin..end)?.chunks_exact(2);
        let units: Vec<u16> = units.map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        Some(String::from_utf16_lossy(&units))
    }

    /// The number of members of the object at `at`, and the position of the first.
    fn count(&self, at: usize, low: usize) -> Option<(usize, usize)> {
        if low < 15 {
            return Some((low, at + 1));
        }
        let mark = *self.bytes.get(at + 1)?;
        let length = 1 << usize::from(mark & 3);
        (mark >> 4 == 1).then_some(())?;
        Some((number(self.bytes.get(at + 2..at + 2 + length)?)?, at + 2 + length))
    }

    fn references(&self, begin: usize, count: usize) -> Option<Vec<usize>> {
        let end = begin.checked_add(count.checked_mul(self.reference_size)?)?;
        self.bytes.get(begin..end)?.chunks_exact(self.reference_size).map(number).collect()
    }
}

/// Formats a time, given in seconds since 2001.
fn date_of(seconds: f64) -> Option<String> {
    const SINCE_1970: i64 = 978_307_200;
    let whole = format!("{seconds:.0}").parse::<i64>().ok()?;
    let time = whole.checked_add(SINCE_1970).filter(|time| (0..253_402_300_800).contains(time))?;
    Some(date::format(time))
}

fn element(text: &mut String, name: &str, content: &str) {
    let content: String =
        content.chars().filter(|c| !c.is_control() || c.is_whitespace()).collect();
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    text.push_str(&format!("<{name}>{content}</{name}>"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::samples::{a, b, set, sets};
    use crate::import::{Certificates, PinSet, day, read_with, trustkit};

    /// The list as Apple's tools write it.
    const LIST: &str = "\
        62706c6973743030d2010203045e4f746865722026203c6d6f72653e5f101054534b436f6e666967\
        75726174696f6e1001d2050607125f101054534b50696e6e6564446f6d61696e7362006e00e9d108\
        0959612e6578616d706c65d30a0b0c0d0e0f5f101154534b45787069726174696f6e446174655f10\
        1454534b496e636c756465537562646f6d61696e735f101254534b5075626c69634b657948617368\
        65735a323033302d30312d303109a210115f102c6436717a5275397a4f454362393055657a323778\
        576c744e736a3065314d6437476b59596b566f5a576d4d3d5f102c4539435a39494e4462642b3265\
        52516f7a59717162513279584c564b42392b786370724d462b34345531673d234004000000000000\
        0008000d001c002f003100360049004e0051005b00620076008d00a200ad00ae00b100e0010f0000\
        000000000201000000000000001300000000000000000000000000000118";

    fn from_hex(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn a_binary_property_list_is_converted_to_xml() {
        let bytes = from_hex(LIST);
        let read = read_with(trustkit::read, &bytes, &Certificates::default()).unwrap();
        let wanted = PinSet {
            include_subdomains: true,
            expires_at: day("2030-01-01"),
            ..set("a.example", &[a(), b()])
        };
        assert_eq!(sets(&read), [wanted]);
        for length in 0..bytes.len() {
            let _ = xml(&bytes[..length]);
        }
        assert_eq!(date_of(0.0).as_deref(), Some("2001-01-01T00:00:00Z"));
    }

    #[test]
    fn a_small_file_cannot_expand_to_a_large_list() {
        // Each array contains the next one sixteen times.
        let mut bytes = b"bplist00".to_vec();
        let mut offsets = Vec::new();
        for level in 0..16_u8 {
            offsets.push(bytes.len());
            bytes.extend([0xaf, 0x10, 16]);
            bytes.extend([level + 1; 16]);
        }
        offsets.push(bytes.len());
        bytes.extend([0x51, b'x']);
        let table = bytes.len();
        for offset in &offsets {
            bytes.extend(u16::try_from(*offset).unwrap().to_be_bytes());
        }
        bytes.extend([0, 0, 0, 0, 0, 0, 2, 1]);
        bytes.extend(17_u64.to_be_bytes());
        bytes.extend(0_u64.to_be_bytes());
        bytes.extend(u64::try_from(table).unwrap().to_be_bytes());
        assert_eq!(xml(&bytes), None);
    }
}
