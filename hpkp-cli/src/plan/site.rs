//! What holds today: the records, the certificate in use, and what the arguments add.

use std::ffi::OsString;

use hpkp_core::max_age::MaxAge;
use hpkp_core::path::{Chain, Paths};
use hpkp_core::pin::Pin;
use hpkp_core::published::{HostName, KeyGraph, Lifetime, Matching, Presents, WriterName};
use hpkp_core::text::Excerpt;

use super::future::Future;
use super::model::Policy;
use crate::arguments::PlanArguments;
use crate::chains::{self, OfServer};
use crate::failure::Failure;
use crate::key;
use crate::published::{OpenSsl, opened, trust};

/// What holds today.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) host: HostName,
    /// In seconds since 1970 UTC.
    pub(super) now: i64,
    pub(super) future: Future,
    pub(super) writers: Vec<WriterName>,
    /// What the servers publish, together; none where no server sends a header.
    pub(super) policy: Option<Policy>,
    /// The keys of the certificate that the plan is about.
    pub(super) present: KeyGraph,
    /// Its own key.
    pub(super) leaf: Pin,
    /// The pins of all leaves in use.
    pub(super) leaves: Vec<Pin>,
    /// The directory with records, for commands.
    pub(super) directory: String,
    pub(super) pin: Option<Pin>,
    pub(super) backup: Option<Pin>,
    pub(super) max_age: Option<MaxAge>,
}

impl Site {
    pub(super) fn read(arguments: &PlanArguments) -> Result<Self, Failure> {
        let host: HostName = arguments.host.parse().map_err(|error| {
            Failure::usage(format!("{}: {error}", Excerpt::new(&arguments.host)))
        })?;
        let directories = arguments.records.directories();
        let (state, now) = opened(&directories)?;
        let future = Future { state, host: host.clone() };
        let recorded = presented(&future);
        let given = given(arguments, now)?;
        let present = the_only(given.unwrap_or_else(|| recorded.clone()), &host)?;
        let leaf = present.nodes().first().and_then(|node| node.pin);
        let leaf =
            leaf.ok_or_else(|| Failure::undetermined("no pin can be formed of the key in use"))?;
        let mut leaves: Vec<Pin> = recorded.iter().filter_map(|keys| keys.nodes()[0].pin).collect();
        leaves.push(leaf);
        let writers = future.writers();
        Ok(Self {
            policy: policy(&future, &writers),
            host,
            now,
            future,
            writers,
            present,
            leaf,
            leaves,
            directory: directories.first().map(|path| absolute(path)).unwrap_or_default(),
            pin: arguments.pin.as_ref().map(pin).transpose()?,
            backup: arguments.backup.as_ref().map(pin).transpose()?,
            max_age: arguments.max_age,
        })
    }

    /// The pins of the certificates above the leaf.
    pub(super) fn above(&self) -> impl Iterator<Item = Pin> + '_ {
        self.present.nodes().iter().skip(1).filter_map(|node| node.pin)
    }

    /// Whether a pin is of a key that is in use today.
    pub(super) fn is_in_use(&self, pin: Pin) -> bool {
        self.leaves.contains(&pin) || self.above().any(|above| above == pin)
    }
}

/// A path that works wherever a command with it is pasted.
fn absolute(path: &str) -> String {
    let full = std::path::absolute(path);
    full.map_or_else(|_| path.to_owned(), |full| full.to_string_lossy().into_owned())
}

fn pin(text: &OsString) -> Result<Pin, Failure> {
    key::pin(text, None).map(|(pin, _)| pin)
}

/// The keys of what the records say is presented for the host.
fn presented(future: &Future) -> Vec<KeyGraph> {
    let is_of_host = |body: &Presents| match body.matching {
        Matching::Exact => body.host == future.host,
        _ => future.host.parents().next() == Some(body.host.as_str()),
    };
    let all = future.state.presents();
    let all = all.filter(|record| is_of_host(&record.body) && future.state.is_presented(record));
    let mut keys: Vec<KeyGraph> =
        all.flat_map(|record| &record.body.certificates).map(|one| one.keys.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn the_only(keys: Vec<KeyGraph>, host: &HostName) -> Result<KeyGraph, Failure> {
    match <[KeyGraph; 1]>::try_from(keys) {
        Ok([one]) => Ok(one),
        Err(none) if none.is_empty() => Err(Failure::usage(format!(
            "the records do not say which certificate is presented for {host}; give it with --cert FILE"
        ))),
        Err(_) => Err(Failure::usage(format!(
            "several certificates are presented for {host}; give the one that is to change with --cert FILE"
        ))),
    }
}

/// The keys of the certificates that are given, or that the named server presents.
fn given(arguments: &PlanArguments, now: i64) -> Result<Option<Vec<KeyGraph>>, Failure> {
    let chains = match (&arguments.cert, &arguments.server) {
        (Some(file), _) => vec![(file.clone(), chains::of_file(file)?)],
        (None, Some(server)) => {
            let OfServer { chains, unknown } = chains::of_server(server, Some(&arguments.host))?;
            // A plan for one certificate says nothing of another that the server may have.
            if let [first, ..] = &unknown[..] {
                return Err(Failure::undetermined(first));
            }
            chains
        }
        (None, None) => return Ok(None),
    };
    let trust = trust(arguments.trusted_certificate.as_deref())?;
    let mut all = Vec::new();
    for (source, chain) in chains {
        let shown = crate::output::path(std::path::Path::new(&source));
        let chain = Chain::new(chain).ok_or_else(|| {
            let most = Chain::MAX;
            Failure::undetermined(format!("{shown}: more than {most} certificates in the chain"))
        })?;
        let keys = Paths::new(&chain, &trust.trust, &OpenSsl, now).keys();
        all.push(keys.ok_or_else(|| {
            Failure::undetermined(format!("{shown}: too many keys on the paths of the certificate"))
        })?);
    }
    Ok(Some(all))
}

/// What all servers together publish.
fn policy(future: &Future, writers: &[WriterName]) -> Option<Policy> {
    let mut all: Option<Policy> = None;
    for record in writers.iter().flat_map(|writer| future.current(writer)) {
        let Lifetime::MaxAge(max_age) = record.body.lifetime else { continue };
        let one = Policy {
            pins: record.body.pins.clone(),
            max_age,
            include_subdomains: record.body.include_subdomains,
        };
        all = Some(match all {
            None => one.with([]),
            Some(all) => Policy {
                max_age: all.max_age.max(max_age),
                include_subdomains: all.include_subdomains || one.include_subdomains,
                ..all.with(one.pins)
            },
        });
    }
    all
}
