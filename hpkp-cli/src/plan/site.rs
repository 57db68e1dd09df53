//! The present state: the configuration, the records, the certificates in use, and the arguments.

use std::ffi::OsString;

use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::{HostName, WriterName};
use hpkp_core::spki;

use super::certificates::{self, InUseToday};
use super::configuration;
use super::configured;
use super::future::Future;
use super::model::{InUse, Key, Policy};
use super::today::{Today, absolute};
use crate::arguments::{Goal, PlanArguments};
use crate::failure::Failure;
use crate::key;
use crate::keys::next_keys::{self, NextKey, kind_of};
use crate::published::opened;
use crate::renew_check::public_key;

/// The present state.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) host: HostName,
    /// The time, in seconds since 1970 UTC.
    pub(super) now: i64,
    /// The records, with those that the configuration adds when it is loaded.
    pub(super) future: Future,
    pub(super) writers: Vec<WriterName>,
    /// The policy that the servers publish together; `None` if no server sends a header.
    pub(super) policy: Option<Policy>,
    /// The name of the policy in the configuration.
    pub(super) policy_name: String,
    /// The certificates that the plan is about, one for each kind of key.
    pub(super) certificates: Vec<InUse>,
    /// The position of the certificate that was given with `--cert`, if it was the only one.
    pub(super) named: Option<usize>,
    /// The pins of all leaves in use.
    pub(super) leaves: Vec<Pin>,
    /// The directories with records, for commands.
    pub(super) directories: Vec<String>,
    /// The configuration and its policy, if its contents are not on record yet.
    pub(super) not_loaded: Option<(String, Option<Policy>)>,
    /// Notes about the configuration.
    pub(super) notes: Vec<String>,
    /// The keys to which the plan leads.
    pub(super) pins: Vec<Key>,
    pub(super) backups: Vec<Pin>,
    /// The next keys of the host, which wait until clients know them (`hpkp key next`).
    pub(super) next_keys: Vec<NextKey>,
    pub(super) max_age: Option<MaxAge>,
}

impl Site {
    pub(super) fn read(arguments: &PlanArguments) -> Result<Self, Failure> {
        let host = arguments.host.clone();
        let mut pins = arguments.pins.iter().map(wanted).collect::<Result<Vec<_>, _>>()?;
        let backups = arguments.backups.iter().map(|text| key::pin(text, None).map(|(pin, _)| pin));
        let backups = backups.collect::<Result<Vec<_>, _>>()?;
        let today = match &arguments.configuration.config {
            Some(file) => configured::read(arguments, file, &host)?,
            None => recorded(arguments, &host)?,
        };
        let InUseToday { certificates, named, leaves } =
            certificates::in_use(arguments, &today, &host)?;
        let Today { future, now, directories, .. } = today;
        let writers = future.writers();
        let next_keys = next_keys(directories.first(), &host, &leaves)?;
        if pins.is_empty() && arguments.to == Goal::NewKey {
            pins = next_keys
                .iter()
                .map(|key| Key { pin: key.pin, kind: kind_of(&key.kind) })
                .collect();
        }
        Ok(Self {
            next_keys,
            policy: future.policy(&writers),
            policy_name: today.policy_name.unwrap_or_else(|| configuration::NAME.to_owned()),
            host,
            now,
            future,
            writers,
            certificates,
            named,
            leaves,
            directories,
            not_loaded: today.not_loaded,
            notes: today.notes,
            pins,
            backups,
            max_age: arguments.max_age,
        })
    }

    /// The keys of all certificates in use.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.certificates.iter().map(|one| one.leaf).collect()
    }

    /// The pins of the certificates above the leaves.
    pub(super) fn above(&self) -> impl Iterator<Item = Pin> + '_ {
        let nodes = self.certificates.iter().flat_map(|one| one.keys.nodes().iter().skip(1));
        nodes.filter_map(|node| node.pin)
    }

    /// Whether a pin is of a key that is in use today.
    pub(super) fn is_in_use(&self, pin: Pin) -> bool {
        self.leaves.contains(&pin) || self.above().any(|above| above == pin)
    }
}

/// The next keys of the host that are not in use.
fn next_keys(
    directory: Option<&String>,
    host: &HostName,
    leaves: &[Pin],
) -> Result<Vec<NextKey>, Failure> {
    let Some(directory) = directory else { return Ok(Vec::new()) };
    let all = next_keys::read(directory.as_ref())
        .map_err(|error| Failure::undetermined(error.to_string()))?;
    let waits = |key: &NextKey| key.host == *host && !leaves.contains(&key.pin);
    Ok(all.into_iter().filter(waits).collect())
}

/// The present state according to the records alone.
fn recorded(arguments: &PlanArguments, host: &HostName) -> Result<Today, Failure> {
    let directories = arguments.records.directories();
    let (state, now) = opened(&directories)?;
    Ok(Today {
        future: Future::new(state, host.clone()),
        now,
        directories: directories.iter().map(|path| absolute(path)).collect(),
        presented: None,
        policy_name: None,
        not_loaded: None,
        notes: Vec::new(),
    })
}

/// A key to which the plan leads. The kind of a key is unknown if only its pin was given.
fn wanted(text: &OsString) -> Result<Key, Failure> {
    let (pin, origin) = key::pin(text, None)?;
    let kind = match origin {
        key::Origin::Argument => None,
        key::Origin::File => {
            let spki = public_key(text).ok();
            spki.and_then(|spki| spki::slot(&spki))
        }
    };
    Ok(Key { pin, kind })
}
