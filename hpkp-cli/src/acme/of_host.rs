//! The certificates of one host that ACME clients renew.

use std::path::PathBuf;

use super::clients::{self, NextKey};
use crate::chains;

/// A certificate of the host that a client renews.
#[derive(Debug)]
pub(crate) struct OfHost {
    pub(crate) client: &'static str,
    pub(crate) names: Vec<String>,
    /// The file from which the client takes its key. `None` if the client always makes the key itself.
    pub(crate) key: Option<PathBuf>,
    /// The file with the key that the client has already made for the next renewal.
    pub(crate) waiting: Option<PathBuf>,
    /// How to make the client keep its key, if the client would make a new one.
    pub(crate) makes_new: Option<String>,
    /// Whether options of the client's command decide if it makes a new key.
    pub(crate) is_uncertain: bool,
}

/// The certificates of the host in these directories, or in the default ones, and the files that could not
/// be read.
pub(crate) fn of_host(directories: &[PathBuf], host: &str) -> (Vec<OfHost>, Vec<String>) {
    let usual = clients::usual();
    let places = if directories.is_empty() { &usual } else { directories };
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    for found in places.iter().filter_map(|place| clients::in_directory(place)) {
        unread.extend(found.unread);
        for managed in found.managed {
            let file = managed.certificate.to_string_lossy().into_owned();
            let leaf = match chains::of_file(&file) {
                Ok(chain) => chain[0].clone(),
                Err(failure) => {
                    unread.push(failure.text);
                    continue;
                }
            };
            if !leaf.is_for(host) {
                continue;
            }
            all.push(OfHost {
                client: managed.client,
                names: leaf.dns_names().to_vec(),
                key: managed.key,
                waiting: managed.waiting,
                makes_new: match managed.next_key {
                    NextKey::Kept(_) => None,
                    NextKey::New | NextKey::Unknown => Some(managed.fix),
                },
                is_uncertain: managed.next_key == NextKey::Unknown,
            });
        }
    }
    (all, unread)
}
