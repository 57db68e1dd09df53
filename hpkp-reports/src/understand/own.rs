//! Which keys are ours: the records of published pins, and what the configuration adds.

use std::collections::HashSet;
use std::path::Path;

use hpkp_core::pin::Pin;
use hpkp_core::published::{HostName, State};
use hpkp_core::ua::host::Host;
use hpkp_server::published::{Contents, Directory};

use crate::configuration::{Configuration, HostPattern, Mode, OwnPolicy};

/// The keys that are ours.
#[derive(Debug, Default)]
pub struct Own {
    state: State,
    /// The leaf keys that our servers present or presented, whatever the host: a key of another
    /// host is no stranger's either.
    leaves: HashSet<Pin>,
    policies: Vec<(HostPattern, OwnPolicy)>,
    /// What could not be read. Without it a report may be judged wrongly, so that pages say it.
    pub problems: Vec<String>,
}

/// A pin of ours for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPinOf {
    /// The pin.
    pub pin: Pin,
    /// Where it is from.
    pub origin: String,
}

impl Own {
    /// Reads the records; what cannot be read is a problem, and the rest counts.
    #[must_use]
    pub fn read(configuration: &Configuration) -> Self {
        let mut contents = Contents::default();
        let mut problems = Vec::new();
        for path in &configuration.records {
            problems.extend(read_directory(path, &mut contents));
        }
        let state = contents.state;
        let served = state.presents().flat_map(|record| &record.body.certificates);
        let leaves = served.filter_map(|one| one.served.first().copied().flatten()).collect();
        let policies = configuration.policies.clone().into_iter().collect();
        Self { state, leaves, policies, problems }
    }

    /// Whether the key is that of a certificate of ours.
    #[must_use]
    pub fn is_leaf(&self, pin: Pin) -> bool {
        self.leaves.contains(&pin)
    }

    /// Whether it is known which leaf keys we have.
    #[must_use]
    pub fn knows_leaves(&self) -> bool {
        !self.leaves.is_empty()
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
            for record in self.state.published().filter(|record| record.body.binds(&name)) {
                let origin =
                    format!("{}, recorded by {}", record.body.origin.as_str(), record.writer);
                record.body.pins.iter().for_each(|pin| add(*pin, &origin));
            }
        }
        found
    }

    /// How clients treat a violation, as far as the configuration or a record says it.
    #[must_use]
    pub fn mode(&self, host: &Host) -> Option<Mode> {
        let policy = self.policies.iter().find(|(pattern, _)| pattern.matches(host));
        let configured = policy.map(|(_, policy)| policy.mode);
        configured.or_else(|| {
            let name = host.as_str().parse::<HostName>().ok()?;
            let is_bound = self.state.published().any(|record| record.body.binds(&name));
            is_bound.then_some(Mode::Enforced)
        })
    }
}

fn read_directory(path: &Path, contents: &mut Contents) -> Vec<String> {
    let Some(text) = path.to_str() else {
        return vec![format!("{}: the path is not UTF-8", path.display())];
    };
    match Directory::open(text) {
        Err(error) => vec![error.text(text).what],
        Ok(directory) => {
            directory.read_each(contents).iter().map(|error| error.text(text).what).collect()
        }
    }
}
