//! `hpkp published why HOST --cert FILE`: runs a server's check on certificate files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Freshness, Host, Listener, Records, Skipped,
    TrustSetting, check,
};
use hpkp_core::date;
use hpkp_core::finding::{Class, Code, Finding, Location};
use hpkp_core::path::{Anchors, Chain, Trust, VerifySignature};
use hpkp_core::published::state::Record;
use hpkp_core::published::{Body, Event, EventId, HostName, Published, State};
use hpkp_core::text::Excerpt;
use hpkp_server::published::Directory;
use hpkp_server::trust::{SystemStore, read_added};
use openssl::x509::X509;
use serde::Serialize;

use super::advice;
use super::store::{Store, shown};
use crate::arguments::WhyArguments;
use crate::chains;
use crate::encoded;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// The port of HTTPS, which is always checked.
const HTTPS: u16 = 443;

/// Whether clients accept the certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    Yes,
    No,
    Unknown,
}

/// The result of the check.
#[derive(Debug, Serialize)]
pub(super) struct Replay {
    pub(super) answer: Answer,
    /// The ids of the records that the certificates do not satisfy, including waived ones.
    pub(super) locks_out: Vec<String>,
    findings: Vec<FindingView>,
    /// Pins on record that are hashes of whole certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificate_hashes: Vec<String>,
    /// Faults for which clients may refuse the certificates, apart from pins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificate_warnings: Vec<String>,
    #[serde(skip)]
    found: Vec<Finding>,
    #[serde(skip)]
    refusing: Vec<EventId>,
    #[serde(skip)]
    leaves: Vec<Arc<Certificate>>,
    #[serde(skip)]
    host: HostName,
}

/// The files of `WhyArguments`, read.
pub(super) struct Files {
    /// The certificates in each file of `--cert`.
    pub(super) own: Vec<Vec<Arc<Certificate>>>,
    /// Those of all files of `--chain`.
    behind: Vec<Arc<Certificate>>,
    trust: Arc<TrustSetting>,
}

impl Files {
    pub(super) fn read(arguments: &WhyArguments) -> Result<Self, Failure> {
        Ok(Self {
            own: chains::of_files(&arguments.cert)?,
            behind: chains::of_files(&arguments.chain)?.concat(),
            trust: Arc::new(trust(arguments.trusted_certificate.as_deref())?),
        })
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct FindingView {
    code: &'static str,
    class: &'static str,
    pub(crate) summary: String,
    details: Vec<String>,
}

impl From<&Finding> for FindingView {
    fn from(finding: &Finding) -> Self {
        Self {
            code: finding.code.as_str(),
            class: finding.class.as_str(),
            summary: finding.text.what.clone(),
            details: finding.further_lines().collect(),
        }
    }
}

impl Replay {
    /// The result for the files of `arguments`, which are in `files`.
    pub(super) fn new(
        store: &Store,
        host: &HostName,
        arguments: &WhyArguments,
        files: &Files,
    ) -> Result<Self, Failure> {
        let certificates = (files.own.clone(), &files.behind[..]);
        Self::of(store, host, certificates, arguments, Arc::clone(&files.trust), &OpenSsl)
    }

    /// The result for parsed certificates: those of each file in `arguments`, and the certificates that are
    /// sent after each of them.
    pub(super) fn of(
        store: &Store,
        host: &HostName,
        (own, behind): (Vec<Vec<Arc<Certificate>>>, &[Arc<Certificate>]),
        arguments: &WhyArguments,
        trust: Arc<TrustSetting>,
        verify: &dyn VerifySignature,
    ) -> Result<Self, Failure> {
        let certificate_hashes = whole(store, host, own.iter().flatten().chain(behind));
        let leaves: Vec<Arc<Certificate>> =
            own.iter().filter_map(|chain| chain.first().cloned()).collect();
        let chains = chains(own, behind, arguments)?;
        let freshness = arguments.max_staleness.map(|most| freshness(store, most));
        let freshness = freshness.unwrap_or_default();
        let (found, refusing) =
            judge(store, host, chains, trust, (arguments.port, verify, freshness));
        let warnings = leaves.iter().flat_map(|leaf| warnings(leaf, host, store.now)).collect();
        Ok(Self {
            answer: Answer::of(&found),
            locks_out: refusing.iter().map(ToString::to_string).collect(),
            findings: found.iter().map(Into::into).collect(),
            certificate_hashes,
            certificate_warnings: warnings,
            found,
            refusing,
            leaves,
            host: host.clone(),
        })
    }

    /// The exit code.
    pub(super) fn exit(&self, deny_warnings: bool) -> Exit {
        let has_warnings = !self.found.is_empty() || !self.certificate_warnings.is_empty();
        match self.answer {
            Answer::No => Exit::No,
            Answer::Unknown => Exit::Undetermined,
            Answer::Yes if deny_warnings && has_warnings => Exit::No,
            Answer::Yes => Exit::Fine,
        }
    }

    /// The answer yes or no, then the locked-out clients, their pins and the expiry, and what to do. `keys`
    /// is the directory of the keys in use; if it is `None`, that of the certificates.
    pub(super) fn lines(
        &self,
        store: &Store,
        arguments: &WhyArguments,
        keys: Option<&str>,
    ) -> Vec<String> {
        let records: Vec<&Record<Published>> =
            self.refusing.iter().filter_map(|id| store.state.published_by(*id)).collect();
        let (waived, refusing): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| store.state.waiver(record.id).is_some());
        let mut lines = vec![self.first_line(&refusing)];
        let certificates = self.leaves.iter().zip(&arguments.cert);
        lines.extend(certificates.map(|(leaf, file)| certificate(leaf, file)));
        let warnings = self.certificate_warnings.iter();
        lines.extend(
            warnings.map(|text| format!("{} {text}", output::accent(output::NOTE, "warning:"))),
        );
        for record in &refusing {
            lines.extend(advice::held("locked out", store, record));
        }
        for record in &waived {
            lines.extend(advice::held("locked out, but waived", store, record));
        }
        lines.extend(self.certificate_hashes.iter().map(|hash| {
            format!(
                "invalid record: {hash} is the hash of a whole certificate, not of its key; no certificate \
                 can match it"
            )
        }));
        if self.answer == Answer::No {
            let beside = || advice::directory_of_keys(arguments.cert.first());
            let keys = keys.map_or_else(beside, super::store::absolute);
            lines.extend(advice::remedies(store, &refusing, &keys));
        }
        // Findings that the lines above already contain are omitted.
        let is_in_lines = |code| match code {
            Code::PublishedPinsUnmet | Code::SuperdomainPinsUnmet => !refusing.is_empty(),
            Code::Waived => !waived.is_empty(),
            _ => false,
        };
        let rest = self.found.iter().filter(|finding| arguments.log || !is_in_lines(finding.code));
        lines.extend(rest.flat_map(Finding::lines));
        lines
    }

    fn first_line(&self, refusing: &[&Record<Published>]) -> String {
        let host = &self.host;
        match self.answer {
            Answer::Yes if self.found.iter().any(|finding| finding.code == Code::Waived) => {
                let yes = output::accent(output::NOTE, "yes:");
                format!(
                    "{yes} only clients that were given up (waived) refuse this certificate for {host}"
                )
            }
            Answer::Yes => {
                let yes = output::accent(output::GOOD, "yes:");
                format!("{yes} clients with recorded pins for {host} accept this certificate")
            }
            Answer::No => {
                let no = output::accent(output::BAD, "no:");
                let records = output::counted(refusing.len(), "record");
                format!("{no} this certificate locks out clients of {host} ({records})")
            }
            Answer::Unknown => {
                let unknown = output::accent(output::NOTE, "unknown:");
                format!("{unknown} cannot tell whether clients of {host} accept this certificate")
            }
        }
    }
}

impl Answer {
    fn of(found: &[Finding]) -> Self {
        let has = |class| found.iter().any(|finding| finding.class == class);
        if has(Class::Lockout) || has(Class::Invalid) {
            Self::No
        } else if has(Class::Unsure) {
            Self::Unknown
        } else {
            Self::Yes
        }
    }
}

/// The findings of the check if `chains` are presented for a host, and the records that refuse them,
/// including waived ones.
pub(crate) fn judge(
    store: &Store,
    host: &HostName,
    chains: Vec<Chain>,
    trust: Arc<TrustSetting>,
    (port, verify, freshness): (Option<u16>, &dyn VerifySignature, Vec<Freshness>),
) -> (Vec<Finding>, Vec<EventId>) {
    let mut deployment = deployment(store, host, chains, trust, port);
    if let Some(records) = &mut deployment.records {
        records.freshness = freshness;
    }
    let found = checked(&deployment, store.now, verify);
    let mut refusing = Vec::new();
    for group in groups(store, host) {
        deployment.records = Some(records(store, alone(store, &group)));
        let findings = checked(&deployment, store.now, verify);
        if findings.iter().any(|finding| finding.class == Class::Lockout) {
            let binding = group.into_iter().filter(|record| record.body.binds(host));
            refusing.extend(binding.map(|record| record.id));
        }
    }
    (found, refusing)
}

/// How long other machines may be silent, and when they were last heard from. The checked certificate
/// counts as a new one.
fn freshness(store: &Store, max_staleness: i64) -> Vec<Freshness> {
    let of = |directory: &Directory| Freshness {
        max_staleness,
        at: Location { file: "--max-staleness".into(), line: 0 },
        file: directory.heard_path(),
        heard: directory.heard(),
        peers: directory.peers().unwrap_or_default(),
        at_handshake: true,
    };
    store.directories().iter().map(of).collect()
}

/// The chains in the named files.
fn chains(
    own: Vec<Vec<Arc<Certificate>>>,
    behind: &[Arc<Certificate>],
    arguments: &WhyArguments,
) -> Result<Vec<Chain>, Failure> {
    let chains = own.into_iter().zip(&arguments.cert).map(|(own, file)| {
        let certificates = own.into_iter().chain(behind.iter().cloned());
        Chain::new(certificates.collect()).ok_or_else(|| {
            let most = Chain::MAX;
            Failure::no(format!("{}: more than {most} certificates in the chain", shown(file)))
        })
    });
    chains.collect()
}

/// A server that presents the certificates for the host, and nothing for other names.
fn deployment(
    store: &Store,
    host: &HostName,
    chains: Vec<Chain>,
    trust: Arc<TrustSetting>,
    port: Option<u16>,
) -> Deployment {
    Deployment {
        contexts: vec![Context { certificates: Certificates::Loaded(chains), trust }],
        // Only this name is checked, and not the other names in the certificate. For those, a default
        // server presents nothing.
        hosts: vec![block(Some(host)), block(None)],
        listeners: ports(store, host, port)
            .into_iter()
            .map(|port| Listener::new(port, Choice::Nginx, vec![0], 1))
            .collect(),
        records: Some(records(store, store.state.clone())),
        ..Deployment::default()
    }
}

/// The findings for a deployment.
fn checked(deployment: &Deployment, now: i64, verify: &dyn VerifySignature) -> Vec<Finding> {
    let mut found = check(deployment, now, verify).findings;
    // The findings about ports do not apply, because one port was given, or all ports are checked.
    found.retain(|finding| {
        !matches!(finding.code, Code::PublishedPinsPortNotServed | Code::PinnedPortClosed)
    });
    found
}

pub(crate) fn records(store: &Store, state: State) -> Records {
    Records {
        state,
        writer: None,
        directories: store.absolute_paths(),
        at: Location { file: store.paths().into(), line: 0 },
        problems: Vec::new(),
        unrecorded: None,
        freshness: Vec::new(),
    }
}

/// The records that apply to `host` and that clients may hold. Records of one configuration form a group,
/// because a certificate that satisfies one of them may be enough.
fn groups<'a>(store: &'a Store, host: &HostName) -> Vec<Vec<&'a Record<Published>>> {
    let live = || store.state.live(store.now).map(|live| live.record);
    let mut seen = BTreeSet::new();
    let mut groups = Vec::new();
    for record in live().filter(|record| record.body.binds(host)) {
        if seen.contains(&record.id) {
            continue;
        }
        let group: Vec<_> = match record.body.configuration {
            None => vec![record],
            configuration => {
                live().filter(|other| other.body.configuration == configuration).collect()
            }
        };
        seen.extend(group.iter().map(|record| record.id));
        groups.push(group);
    }
    groups
}

/// A state that contains only these records, without waivers.
fn alone(store: &Store, group: &[&Record<Published>]) -> State {
    let mut state = State::default();
    for (seq, record) in (1..).zip(group) {
        let body = Body::Published(record.body.clone());
        state.add(&Event::new(store.now, seq, record.writer.clone(), body));
    }
    state
}

/// Faults for which clients may refuse the certificate, apart from pins. They do not affect the exit code.
fn warnings(leaf: &Certificate, host: &HostName, now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    if leaf.not_after() < now {
        let at = date::format(leaf.not_after());
        warnings
            .push(format!("the certificate expired at {at}; clients that check dates refuse it"));
    }
    if !leaf.is_for(host.as_str()) {
        let names = leaf.dns_names().iter().take(3).map(|name| Excerpt::new(name).to_string());
        let names = names.collect::<Vec<_>>().join(", ");
        warnings.push(format!(
            "the certificate is not for {host} (DNS names: {}); clients that check names refuse it",
            if names.is_empty() { "none" } else { &names }
        ));
    }
    warnings
}

fn certificate(leaf: &Certificate, file: &str) -> String {
    let pin = leaf.pin().map_or_else(|| "no pin".to_owned(), |pin| format!("key sha256/{pin}"));
    format!(
        "certificate: {}: {}, {pin}, expires {}",
        shown(file),
        leaf.subject(),
        date::format(leaf.not_after())
    )
}

/// The pins for `host` that are hashes of the checked certificates.
fn whole<'a>(
    store: &Store,
    host: &HostName,
    certificates: impl Iterator<Item = &'a Arc<Certificate>>,
) -> Vec<String> {
    let live = store.state.live(store.now).map(|live| &live.record.body);
    let pins = live.filter(|body| body.binds(host)).flat_map(|body| &body.pins);
    let pins: BTreeSet<_> = pins.copied().collect();
    let of = |one: &Arc<Certificate>| pins.iter().copied().find(|pin| encoded::is_whole(one, *pin));
    let found: BTreeSet<_> = certificates.filter_map(of).collect();
    found.into_iter().map(|pin| format!("sha256/{pin}")).collect()
}

/// A server block with the certificates for a host, or without a name and certificates.
pub(crate) fn block(host: Option<&HostName>) -> Host {
    Host {
        tls: host.is_some(),
        ..Host::new(
            host.map_or_else(String::new, ToString::to_string),
            host.iter().map(ToString::to_string).collect(),
            host.iter().map(|_| 0).collect(),
        )
    }
}

/// The ports to check, because a record may apply to one port only.
fn ports(store: &Store, host: &HostName, named: Option<u16>) -> BTreeSet<u16> {
    let live = store.state.live(store.now).map(|live| &live.record.body);
    match named {
        Some(port) => BTreeSet::from([port]),
        None => live
            .filter(|body| body.binds(host))
            .filter_map(|body| body.port)
            .chain([HTTPS])
            .collect(),
    }
}

/// The system's trust anchors, and those in the named file.
pub(crate) fn trust(added: Option<&str>) -> Result<TrustSetting, Failure> {
    let added = added.map(|path| read_added(path, None));
    let added = added.transpose().map_err(|(code, text)| match code {
        Code::OversizedInput => Failure::no(text.what),
        _ => Failure::undetermined(text.what),
    })?;
    let (system, skipped) = system();
    let mut skipped: Vec<Skipped> = skipped.into_iter().collect();
    let added = added.map(|(anchors, more)| {
        skipped.extend(more);
        Arc::new(anchors)
    });
    let trust = Trust { system: Arc::new(system), added };
    Ok(TrustSetting { trust, problem: None, skipped })
}

/// The trust store of OpenSSL, or the one in its environment variables.
fn system() -> (Anchors, Option<Skipped>) {
    // The text is such as: OPENSSLDIR: "/usr/lib/ssl"
    let built = openssl::version::dir().split('"').nth(1).map(PathBuf::from);
    let of = |variable: &str, name: &str| {
        let named = std::env::var_os(variable).map(PathBuf::from);
        named.or_else(|| built.as_ref().map(|built| built.join(name)))
    };
    let directories = of("SSL_CERT_DIR", "certs").into_iter();
    let directories = directories.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
    let store = SystemStore {
        file: of("SSL_CERT_FILE", "cert.pem"),
        is_named: std::env::var_os("SSL_CERT_FILE").is_some(),
        directories: directories.collect(),
    };
    store.read()
}

/// Verifies signatures with the OpenSSL that this program is linked with.
#[derive(Debug)]
pub(crate) struct OpenSsl;

impl VerifySignature for OpenSsl {
    fn is_signed_by(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        let key = X509::from_der(issuer.der()).and_then(|issuer| issuer.public_key());
        let certificate = X509::from_der(certificate.der());
        certificate.and_then(|certificate| certificate.verify(&*key?)).unwrap_or(false)
    }
}
