//! The form in which a last good certificate is kept, in memory and in a file.

use std::fmt::Write as _;

use hpkp_core::published::Fingerprint;
use zeroize::Zeroizing;

use super::given::{MAX, PairText};
use super::store::Kept;
use crate::kept::index::HostPort;

/// The first line of an entry.
const HEAD: &str = "hpkp-guarded 1";

/// The head of an entry, before its certificate.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The description that a store lists.
    pub kept: Kept,
    /// The offset at which the certificate begins.
    start: usize,
    /// The lengths of the certificate and the key.
    lengths: [usize; 2],
}

impl Entry {
    /// The entry of a certificate.
    #[must_use]
    pub fn text(kept: &Kept, pair: &PairText) -> Zeroizing<Vec<u8>> {
        let mut head = format!("{HEAD}\nid {}\naccepted {}\n", kept.id, kept.accepted);
        let place = if kept.in_memory { "memory" } else { "file" };
        let lengths = [pair.certificate.len(), pair.key.len()];
        // Writing to a String cannot fail.
        let _ = writeln!(head, "in {place}\nbytes {} {}\nhosts{}", lengths[0], lengths[1], {
            kept.hosts.iter().map(|host| format!(" {}", host.escaped())).collect::<String>()
        });
        head.push('\n');
        // The buffer has its full size from the start: one that grows leaves a copy of the key in memory.
        let mut text = Zeroizing::new(Vec::with_capacity(head.len() + lengths[0] + lengths[1]));
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(&pair.certificate);
        text.extend_from_slice(&pair.key);
        text
    }

    /// Reads the head of an entry. None if the text is not an entry, or not complete.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let start = text.windows(2).position(|end| end == b"\n\n")? + 2;
        let mut lines = std::str::from_utf8(&text[..start]).ok()?.lines();
        if lines.next() != Some(HEAD) {
            return None;
        }
        let mut value = |name: &str| lines.next()?.strip_prefix(name);
        let id: Fingerprint = value("id ")?.parse().ok()?;
        let accepted = value("accepted ")?.parse().ok()?;
        let in_memory = match value("in ")? {
            "memory" => true,
            "file" => false,
            _ => return None,
        };
        let (certificate, key) = value("bytes ")?.split_once(' ')?;
        let lengths: [usize; 2] = [certificate.parse().ok()?, key.parse().ok()?];
        let hosts = value("hosts")?.split(' ').filter(|host| !host.is_empty());
        let hosts = hosts.map(HostPort::unescaped).collect::<Option<Vec<HostPort>>>()?;
        let is_whole = lengths.iter().all(|length| *length <= MAX)
            && start + lengths[0] + lengths[1] == text.len();
        let kept = Kept { id, hosts, accepted, in_memory };
        is_whole.then_some(Self { kept, start, lengths })
    }

    /// The certificate and the key of the entry whose head this is; `text` is the whole entry.
    #[must_use]
    pub fn pair(&self, text: &[u8]) -> Option<PairText> {
        let [certificate, key] = self.lengths;
        let (_, rest) = text.split_at_checked(self.start)?;
        let (certificate, key) = (rest.get(..certificate)?, rest.get(certificate..)?.get(..key)?);
        let copy = |value: &[u8]| Zeroizing::new(value.to_vec());
        Some(PairText { certificate: copy(certificate), key: copy(key) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(hosts: &[&str]) -> Kept {
        let host = |name: &&str| HostPort { name: (*name).to_owned(), port: 443 };
        let id = Fingerprint::of([&b"x"[..]]);
        let hosts = hosts.iter().map(host).collect();
        Kept { id, hosts, accepted: 1_790_000_000, in_memory: false }
    }

    fn pair() -> PairText {
        let text = |text: &[u8]| Zeroizing::new(text.to_vec());
        PairText { certificate: text(b"data:one\n\ntwo"), key: text(b"data:key\n") }
    }

    #[test]
    fn a_written_entry_is_read_back() {
        for hosts in [&[][..], &["a.example", "*.b.example", "", "odd %\n name"]] {
            let text = Entry::text(&kept(hosts), &pair());
            assert_eq!(text.capacity(), text.len());
            let entry = Entry::parse(&text).unwrap();
            assert_eq!(entry.kept.hosts, kept(hosts).hosts);
            assert_eq!((entry.kept.id, entry.kept.accepted), (kept(hosts).id, 1_790_000_000));
            let read = entry.pair(&text).unwrap();
            assert_eq!(*read.certificate, *pair().certificate);
            assert_eq!(*read.key, *pair().key);
        }
    }

    #[test]
    fn an_incomplete_entry_is_refused() {
        let text = Entry::text(&kept(&["a.example"]), &pair());
        for end in 0..text.len() {
            assert!(Entry::parse(&text[..end]).is_none(), "{end}");
        }
        let longer = [&text[..], b"x"].concat();
        assert!(Entry::parse(&longer).is_none());
    }
}
