//! The list in a directory of last good certificates: which files a server presented for which hosts.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use hpkp_core::published::Fingerprint;

/// The first line of a list.
const HEAD: &str = "hpkp-kept 1";

/// The ending of the names of files with a certificate and its key.
const SUFFIX: &str = ".pem";

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Its entries, in the order in which they are written.
    pub entries: Vec<Entry>,
}

/// The certificates that one server presented.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The names of the files, one for each kind of key.
    pub files: Vec<String>,
    /// The hosts for which they were presented.
    pub hosts: BTreeSet<HostPort>,
}

/// A configured name of a server, and a port on which it answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// In lower case.
    pub name: String,
    /// 0 for a Unix socket.
    pub port: u16,
}

impl HostPort {
    /// The name and the port as one word.
    pub(crate) fn escaped(&self) -> String {
        format!("{}:{}", escaped(&self.name), self.port)
    }

    /// Reads such a word.
    pub(crate) fn unescaped(text: &str) -> Option<Self> {
        let (name, port) = text.rsplit_once(':')?;
        Some(Self { name: unescaped(name)?, port: port.parse().ok()? })
    }
}

/// The name of the file of a chain, in DER.
#[must_use]
pub fn file_of(chain: &[Vec<u8>]) -> String {
    format!("{}{SUFFIX}", Fingerprint::of(chain.iter().map(Vec::as_slice)))
}

/// Whether a name has the form of [`file_of`]. No other files are opened or removed.
#[must_use]
pub fn is_file(name: &str) -> bool {
    name.strip_suffix(SUFFIX).is_some_and(|name| name.parse::<Fingerprint>().is_ok())
}

impl Index {
    /// Reads a list.
    ///
    /// # Errors
    /// The number of the line that is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, usize> {
        let text = std::str::from_utf8(text).map_err(|_| 1_usize)?;
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) || !text.ends_with('\n') {
            return Err(1);
        }
        let entries = lines.enumerate().map(|(index, line)| entry(line).ok_or(index + 2));
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// The text of the list.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for entry in &self.entries {
            text.push_str(&entry.files.join(" "));
            text.push_str(" |");
            for host in &entry.hosts {
                // Writing to a String cannot fail.
                let _ = write!(text, " {}", host.escaped());
            }
            text.push('\n');
        }
        text
    }

    /// The entries with one of these hosts; those with the most of them come first. A name counts even if its port has
    /// changed.
    #[must_use]
    pub fn candidates(&self, hosts: &BTreeSet<HostPort>) -> Vec<&Entry> {
        let names: BTreeSet<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let likeness = |entry: &Entry| {
            let alike = entry.hosts.intersection(hosts).count();
            let named =
                entry.hosts.iter().filter(|host| names.contains(host.name.as_str())).count();
            (alike, named)
        };
        let mut all: Vec<_> = self.entries.iter().map(|entry| (likeness(entry), entry)).collect();
        all.retain(|((_, named), _)| *named > 0);
        all.sort_by(|(one, _), (other, _)| other.cmp(one));
        all.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The list after a configuration was accepted. `kept` are the certificates that its servers present now. The
    /// hosts in `withheld` keep their earlier entries, and all other hosts are removed.
    #[must_use]
    pub fn followed_by(&self, kept: Vec<Entry>, withheld: &BTreeSet<HostPort>) -> Self {
        let mut entries: Vec<Entry> =
            kept.into_iter().filter(|one| !one.hosts.is_empty()).collect();
        let now: BTreeSet<HostPort> =
            entries.iter().flat_map(|entry| &entry.hosts).cloned().collect();
        for earlier in &self.entries {
            let hosts: BTreeSet<HostPort> = earlier
                .hosts
                .intersection(withheld)
                .filter(|host| !now.contains(host))
                .cloned()
                .collect();
            if !hosts.is_empty() {
                entries.push(Entry { files: earlier.files.clone(), hosts });
            }
        }
        entries.sort();
        entries.dedup();
        Self { entries }
    }

    /// All files that it names.
    #[must_use]
    pub fn files(&self) -> BTreeSet<&str> {
        self.entries.iter().flat_map(|entry| &entry.files).map(String::as_str).collect()
    }
}

fn entry(line: &str) -> Option<Entry> {
    let (files, hosts) = line.split_once(" | ")?;
    let files: Vec<String> = files.split(' ').map(str::to_owned).collect();
    let hosts =
        hosts.split(' ').map(HostPort::unescaped).collect::<Option<BTreeSet<HostPort>>>()?;
    files.iter().all(|file| is_file(file)).then_some(Entry { files, hosts })
}

/// Escapes blanks and line ends in a name, which may be a regular expression.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'%' | 0..=b' ' | 0x7f.. => {
                // Writing to a String cannot fail.
                let _ = write!(text, "%{byte:02x}");
            }
            _ => text.push(char::from(byte)),
        }
    }
    text
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[(&str, u16)]) -> BTreeSet<HostPort> {
        names
            .iter()
            .map(|(name, port)| HostPort { name: (*name).to_owned(), port: *port })
            .collect()
    }

    fn of(number: u8, names: &[(&str, u16)]) -> Entry {
        Entry { files: vec![file_of(&[vec![number]])], hosts: hosts(names) }
    }

    #[test]
    fn a_written_list_is_read_back() {
        let odd = "~^(a b|100%\u{fc}\n)$";
        let index = Index {
            entries: vec![of(1, &[("a.example", 443), (odd, 0)]), of(2, &[("b.example", 8443)])],
        };
        assert_eq!(Index::parse(index.text().as_bytes()), Ok(index));
        assert_eq!(Index::parse(b"hpkp-kept 1\n"), Ok(Index::default()));
    }

    #[test]
    fn a_damaged_list_is_refused() {
        let whole = Index { entries: vec![of(1, &[("a.example", 443)])] }.text();
        for end in 0..whole.len() {
            let cut = Index::parse(&whole.as_bytes()[..end]);
            assert!(cut.is_err() || end == 12, "{end}: {cut:?}");
        }
        for text in ["hpkp-kept 2\n", "hpkp-kept 1\n../../x.pem | a:1\n", "hpkp-kept 1\nx | a\n"] {
            assert!(Index::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_is_found_by_its_name_and_first_with_its_port() {
        let index = Index {
            entries: vec![
                of(1, &[("a.example", 8443)]),
                of(2, &[("a.example", 443), ("b.example", 443)]),
                of(3, &[("c.example", 443)]),
            ],
        };
        let found = index.candidates(&hosts(&[("a.example", 443)]));
        assert_eq!(found, [&index.entries[1], &index.entries[0]]);
        assert!(index.candidates(&hosts(&[("d.example", 443)])).is_empty());
    }

    /// A stolen key that was replaced must not be presented again, nor the key of a removed host.
    #[test]
    fn replaced_entries_are_removed_and_those_of_withheld_hosts_stay() {
        let before = Index {
            entries: vec![
                of(1, &[("a.example", 443)]),
                of(2, &[("b.example", 443)]),
                of(3, &[("gone.example", 443)]),
            ],
        };
        let after =
            before.followed_by(vec![of(4, &[("a.example", 443)])], &hosts(&[("b.example", 443)]));
        let mut expected = vec![of(4, &[("a.example", 443)]), of(2, &[("b.example", 443)])];
        expected.sort();
        assert_eq!(after.entries, expected);
    }
}
