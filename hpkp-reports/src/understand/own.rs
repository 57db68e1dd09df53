//! Our keys: from the records of published pins, and from the configuration.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hpkp_core::pin::Pin;
use hpkp_core::published::{HostName, Published, State, WriterName};
use hpkp_core::ua::host::Host;
use hpkp_server::published::{Contents, Directory};

use crate::configuration::{Configuration, HostPattern, Mode, OwnPolicy};

/// Our keys.
#[derive(Debug, Default)]
pub struct Own {
    sources: Vec<Arc<Source>>,
    policies: Vec<(HostPattern, OwnPolicy)>,
    /// Records that could not be read. Verdicts may be wrong without them, so the pages list them.
    pub problems: Vec<String>,
}

/// A directory with records.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    state: State,
    /// The leaf keys that our servers present or presented, for any host: the key of another host of ours is not a
    /// stranger's key either.
    leaves: HashSet<Pin>,
}

/// A pin of ours for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPinOf {
    /// The pin.
    pub pin: Pin,
    /// The source of the pin.
    pub origin: String,
}

impl Own {
    /// Reads the records. Files that cannot be read are listed as problems, and the others are used. For a directory
    /// that cannot be opened, the records that were read `before` are used, so that our keys do not look like a
    /// stranger's while a file system is not mounted.
    #[must_use]
    pub fn read(configuration: &Configuration, before: Option<&Self>) -> Self {
        let mut own = Self {
            policies: configuration.policies.clone().into_iter().collect(),
            ..Self::default()
        };
        for path in &configuration.records {
            let (source, problems) = Source::read(path);
            own.problems.extend(problems);
            let known = || before?.sources.iter().find(|one| one.path == *path).cloned();
            own.sources.extend(source.map(Arc::new).or_else(known));
        }
        own
    }

    /// Whether the key belongs to a certificate of ours.
    #[must_use]
    pub fn is_leaf(&self, pin: Pin) -> bool {
        self.sources.iter().any(|source| source.leaves.contains(&pin))
    }

    /// Whether the key is recorded as compromised.
    #[must_use]
    pub fn is_compromised(&self, pin: Pin) -> bool {
        self.sources.iter().any(|source| source.state.is_compromised(pin))
    }

    /// Whether our leaf keys are known.
    #[must_use]
    pub fn knows_leaves(&self) -> bool {
        self.sources.iter().any(|source| !source.leaves.is_empty())
    }

    /// Whether neither records nor the configuration name keys of ours.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.sources.iter().all(|source| source.state.is_empty())
    }

    /// The published pins, each with the writer that recorded it.
    fn published(&self) -> impl Iterator<Item = (&Published, &WriterName)> {
        let records = self.sources.iter().flat_map(|source| source.state.published());
        records.map(|record| (&record.body, &record.writer))
    }

    /// The source of the pins of a client, if we published them for the host: exactly the pins of one record, or pins
    /// that are all in one policy of the configuration.
    #[must_use]
    pub fn origin_of(&self, host: &Host, pins: &[Pin]) -> Option<String> {
        let claimed: BTreeSet<Pin> = pins.iter().copied().collect();
        let mut policies = self.policies.iter().filter(|(pattern, _)| pattern.matches(host));
        let has_all = |policy: &OwnPolicy| {
            claimed.iter().all(|pin| policy.pins.iter().any(|own| own.0 == *pin))
        };
        if let Some((pattern, _)) = policies.find(|(_, policy)| has_all(policy)) {
            return Some(format!("configuration, {pattern}"));
        }
        let name = host.as_str().parse::<HostName>().ok()?;
        let mut records = self.published();
        let found = records
            .find(|(record, _)| record.binds(&name) && claimed.iter().eq(record.pins.iter()));
        found.map(|(record, writer)| origin(record, writer))
    }

    /// The pins that are published for a host, each once.
    #[must_use]
    pub fn pins(&self, host: &Host) -> Vec<OwnPinOf> {
        let mut found: Vec<OwnPinOf> = Vec::new();
        let mut add = |pin: Pin, origin: &str| {
            if !found.iter().any(|one| one.pin == pin) {
                found.push(OwnPinOf { pin, origin: origin.to_owned() });
            }
        };
        for (pattern, policy) in self.policies.iter().filter(|(pattern, _)| pattern.matches(host)) {
            policy.pins.iter().for_each(|pin| add(pin.0, &format!("configuration, {pattern}")));
        }
        if let Ok(name) = host.as_str().parse::<HostName>() {
            for (record, writer) in self.published().filter(|(record, _)| record.binds(&name)) {
                let origin = origin(record, writer);
                record.pins.iter().for_each(|pin| add(*pin, &origin));
            }
        }
        found
    }

    /// How clients treat a violation, if the configuration or a record says it.
    #[must_use]
    pub fn mode(&self, host: &Host) -> Option<Mode> {
        let policy = self.policies.iter().find(|(pattern, _)| pattern.matches(host));
        let configured = policy.map(|(_, policy)| policy.mode);
        configured.or_else(|| {
            let name = host.as_str().parse::<HostName>().ok()?;
            let is_bound = self.published().any(|(record, _)| record.binds(&name));
            is_bound.then_some(Mode::Enforced)
        })
    }
}

fn origin(record: &Published, writer: &WriterName) -> String {
    format!("{}, recorded by {writer}", record.origin.as_str())
}

impl Source {
    /// Reads a directory; none if it cannot be opened. Also returns the problems.
    fn read(path: &Path) -> (Option<Self>, Vec<String>) {
        let Some(text) = path.to_str() else {
            return (None, vec![format!("{}: the path is not UTF-8", path.display())]);
        };
        let directory = match Directory::open(text) {
            Ok(directory) => directory,
            Err(error) => return (None, vec![error.text(text).what]),
        };
        let mut contents = Contents::default();
        let problems = directory.read_each(&mut contents);
        let problems = problems.iter().map(|error| error.text(text).what).collect();
        let state = contents.state;
        let served = state.presents().flat_map(|record| &record.body.certificates);
        let leaves = served.filter_map(|one| one.served.first().copied().flatten()).collect();
        (Some(Self { path: path.to_owned(), state, leaves }), problems)
    }
}
