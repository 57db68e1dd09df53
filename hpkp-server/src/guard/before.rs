//! Certificates that were kept for a host while its certificate was still loaded with the configuration. They are the
//! first last good certificates of a guard.

use std::collections::BTreeSet;

use hpkp_core::published::WriterName;
use zeroize::Zeroizing;

use super::entry::Entry;
use super::given::{DATA, PairText, id};
use super::store::Kept;
use crate::kept::Directory;
use crate::kept::index::HostPort;
use crate::setting::KeepSetting;

/// The line with which the key in a file begins.
const KEY: &[u8] = b"-----BEGIN PRIVATE KEY-----";

/// The entries of certificates that the directory now has for these hosts. They are older than all certificates that a
/// guard has accepted.
#[must_use]
pub fn kept_before(
    setting: &KeepSetting,
    writer: &WriterName,
    hosts: &BTreeSet<HostPort>,
) -> Vec<Zeroizing<Vec<u8>>> {
    // A directory that cannot be used has been reported already.
    let Ok(directory) = Directory::open(&setting.path, writer) else { return Vec::new() };
    let Ok(index) = directory.index() else { return Vec::new() };
    let mut texts = Vec::new();
    for entry in index.candidates(hosts) {
        let is_named = |host: &&HostPort| entry.hosts.iter().any(|kept| kept.name == host.name);
        let hosts: Vec<HostPort> = hosts.iter().filter(is_named).cloned().collect();
        for pair in entry.files.iter().filter_map(|file| pair(&directory.text(file)?)) {
            let id = id(&pair.certificate, &pair.key);
            let kept = Kept { id, hosts: hosts.clone(), accepted: 0, in_memory: false };
            texts.push(Entry::text(&kept, &pair));
        }
    }
    texts
}

fn pair(text: &[u8]) -> Option<PairText> {
    let start = text.windows(KEY.len()).position(|part| part == KEY)?;
    let (certificate, key) = text.split_at(start);
    let with_data = |part: &[u8]| {
        // The buffer has its full size from the start: one that grows leaves a copy of the key in memory.
        let mut text = Zeroizing::new(Vec::with_capacity(DATA.len() + part.len()));
        text.extend_from_slice(DATA);
        text.extend_from_slice(part);
        text
    };
    Some(PairText { certificate: with_data(certificate), key: with_data(key) })
}
