//! Runs the check of `hpkp published why HOST --cert` for commands that act on its result.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use hpkp_core::check::TrustSetting;
use hpkp_core::path::VerifySignature;
use hpkp_core::published::{ANY_LABEL, HostName, Matching};
use serde_json::value::RawValue;

use super::replay::{OpenSsl, Replay, trust};
use super::store::Store;
use crate::arguments::WhyArguments;
use crate::chains::Chains;
use crate::exit::Exit;
use crate::failure::Failure;

/// The records, and the settings that are the same for each question.
#[derive(Debug)]
pub(crate) struct Judge {
    store: Store,
    arguments: WhyArguments,
    trust: OnceCell<Arc<TrustSetting>>,
    /// The directory of the keys in use, if it is not the directory of the certificates.
    keys: Option<String>,
}

/// The result for the certificates of one host.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// The host, or `*.DOMAIN`.
    pub(crate) host: String,
    /// Whether clients accept the certificates, refuse them, or this could not be determined.
    pub(crate) exit: Exit,
    /// Whether there are findings, even if the answer is yes.
    pub(crate) has_findings: bool,
    /// The ids of the records whose clients refuse the certificates.
    pub(crate) locks_out: Vec<String>,
    /// The output lines of `hpkp published why`.
    pub(crate) lines: Vec<String>,
    /// The JSON output.
    pub(crate) json: Box<RawValue>,
}

impl Judge {
    /// Opens the records in these directories.
    ///
    /// # Errors
    /// The records cannot be read.
    pub(crate) fn open(
        directories: &[String],
        trusted_certificate: Option<&str>,
    ) -> Result<Self, Failure> {
        let store = Store::open(directories)?;
        let arguments = WhyArguments {
            host: String::new(),
            cert: Vec::new(),
            chain: Vec::new(),
            trusted_certificate: trusted_certificate.map(str::to_owned),
            port: None,
            deny_warnings: false,
            max_staleness: None,
            log: false,
            records: crate::arguments::Records::default(),
        };
        Ok(Self { store, arguments, trust: OnceCell::new(), keys: None })
    }

    /// Sets the longest silence of another machine that has a host. If it is exceeded, a certificate must
    /// satisfy all pins on record.
    pub(crate) fn with_max_staleness(mut self, seconds: Option<i64>) -> Self {
        self.arguments.max_staleness = seconds;
        self
    }

    /// Whether the silence of other machines affects the result.
    pub(crate) fn heeds_silence(&self) -> bool {
        self.arguments.max_staleness.is_some()
    }

    /// Sets the directory of the keys in use, if it is not the directory of the certificates.
    pub(crate) fn with_keys_in(self, directory: Option<String>) -> Self {
        Self { keys: directory, ..self }
    }

    /// The hosts to check for certificates with these DNS names. `*.DOMAIN` stands for each matching host
    /// on record, and for one that represents all others.
    pub(crate) fn hosts<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<HostName> {
        hosts_on_record(&self.store, names).into_iter().collect()
    }

    /// Whether a record applies to `host`.
    pub(crate) fn binds(&self, host: &HostName) -> bool {
        self.store.state.live(self.store.now).any(|live| live.record.body.binds(host))
    }

    /// The ports on which servers have recorded that they present certificates for `host`.
    pub(crate) fn ports(&self, host: &str) -> BTreeSet<u16> {
        let state = &self.store.state;
        let ours = state
            .presents()
            .filter(|one| one.body.host.as_str() == host && state.end(one.id).is_none());
        ours.flat_map(|one| one.body.ports.iter().copied()).collect()
    }

    /// The trust anchors, which are read when the first host is checked.
    fn trust(&self) -> Result<Arc<TrustSetting>, Failure> {
        if let Some(trust) = self.trust.get() {
            return Ok(Arc::clone(trust));
        }
        let read = Arc::new(trust(self.arguments.trusted_certificate.as_deref())?);
        Ok(Arc::clone(self.trust.get_or_init(|| read)))
    }

    /// Whether clients of `host` accept these certificates. `verify` verifies the signatures in the chains.
    ///
    /// # Errors
    /// The check could not be run.
    pub(crate) fn ask(
        &self,
        host: &HostName,
        chains: &Chains,
        verify: Option<&dyn VerifySignature>,
    ) -> Result<Judgement, Failure> {
        let arguments = WhyArguments {
            host: host.to_string(),
            cert: chains.iter().map(|(file, _)| file.clone()).collect(),
            ..self.arguments.clone()
        };
        let own = chains.iter().map(|(_, chain)| chain.clone()).collect();
        let verify = verify.unwrap_or(&OpenSsl);
        let replay = Replay::of(&self.store, host, (own, &[]), &arguments, self.trust()?, verify)?;
        let shown = |text: &str| text.replace(ANY_LABEL, "*");
        let json = serde_json::to_string(&replay).map(|json| shown(&json));
        let json = json.and_then(RawValue::from_string);
        Ok(Judgement {
            host: shown(host.as_str()),
            exit: replay.exit(false),
            locks_out: replay.locks_out.clone(),
            has_findings: replay.exit(true) != Exit::Fine,
            lines: replay
                .lines(&self.store, &arguments, self.keys.as_deref())
                .iter()
                .map(|line| shown(line))
                .collect(),
            json: json.map_err(|error| Failure::undetermined(error.to_string()))?,
        })
    }
}

/// The hosts to check for certificates with these DNS names, with those on record for `*.DOMAIN`.
pub(super) fn hosts_on_record<'a>(
    store: &Store,
    names: impl Iterator<Item = &'a String>,
) -> BTreeSet<HostName> {
    let live = || store.state.live(store.now).map(|live| &live.record.body);
    let exact = || live().filter(|body| body.matching != Matching::OneLabel);
    hosts_of(names, || exact().map(|body| &body.host))
}

/// The hosts to which certificates with these DNS names apply. `*.DOMAIN` stands for each matching host in
/// `known`, and for one that represents all others.
pub(crate) fn hosts_of<'a, 'k, K: Iterator<Item = &'k HostName>>(
    names: impl Iterator<Item = &'a String>,
    known: impl Fn() -> K,
) -> BTreeSet<HostName> {
    let mut hosts = BTreeSet::new();
    for name in names {
        match name.strip_prefix("*.") {
            None => hosts.extend(name.parse().ok()),
            Some(domain) => {
                hosts.extend(domain.parse::<HostName>().ok().map(|domain| domain.any_below()));
                hosts.extend(known().filter(|host| host.parents().next() == Some(domain)).cloned());
            }
        }
    }
    hosts
}
