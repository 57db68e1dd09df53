//! The present state of the host: its pins, keys and certificates.

use std::path::Path;

use hpkp_core::check::directory_options;
use hpkp_core::published::{HostName, Slot};

use super::super::kind::KeyKind;
use super::super::ledger::LedgerError;
use super::super::next_keys::{self, NextKey, kind_of};
use crate::acme::OfHost;
use crate::failure::Failure;
use crate::plan::{Planned, Usable, in_use, usable};
use crate::published::store::Store;

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self::undetermined(error.to_string())
    }
}

/// The present state of the host.
#[derive(Debug)]
pub(super) struct Today {
    pub(super) host: HostName,
    pub(super) store: Store,
    /// The directory with the record of next keys.
    pub(super) directory: String,
    /// The certificates of the host that ACME clients renew.
    pub(super) clients: Vec<OfHost>,
}

impl Today {
    /// The next keys of the host. Keys that were never written to a file do not count, since their pins
    /// were never printed.
    pub(super) fn waiting(&self) -> Result<Vec<NextKey>, Failure> {
        let all = next_keys::read(Path::new(&self.directory))?;
        let waits = |key: &NextKey| {
            let usable = self.usable(key);
            let is_lost = usable.published_since.is_none() && !key.file.exists();
            key.host == self.host && !usable.is_in_use && !is_lost
        };
        Ok(all.into_iter().filter(waits).collect())
    }

    /// When a key may be used, if its certificate has the names of the ACME client's certificate.
    pub(super) fn usable(&self, key: &NextKey) -> Usable {
        let names: Vec<String> =
            self.clients.iter().flat_map(|client| &client.names).cloned().collect();
        self.usable_for(key, &names)
    }

    /// When a key may be used, if its certificate has these names.
    pub(super) fn usable_for(&self, key: &NextKey, names: &[String]) -> Usable {
        let options = directory_options(&self.store.absolute_paths());
        let planned = Planned {
            host: &self.host,
            pin: key.pin,
            kind: kind_of(&key.kind),
            names,
            options: &options,
        };
        usable(&self.store.state, self.store.now, &planned)
    }

    /// The kind of the key in use, if there is one.
    pub(super) fn kind_in_use(&self) -> Option<KeyKind> {
        match &in_use(&self.store.state, &self.host)[..] {
            [Some(Slot::Rsa)] => Some(KeyKind::Rsa(3072)),
            [Some(Slot::Ed25519)] => Some(KeyKind::Ed25519),
            _ => None,
        }
    }
}
