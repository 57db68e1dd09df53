//! The last good certificates: the certificate and key that each pinned host presented in the last accepted
//! configuration. The server presents them again if the certificate on disk would lock clients out.
//!
//! Data flow: when a configuration has been accepted and recorded, `keeping` writes the pairs of its contexts into a
//! `directory`, whose list is an `index`. If the check of a later configuration finds a lock-out, `replacing` checks
//! the kept certificates in place of the loaded ones, and the module puts those that pass into the server. `broken`
//! finds the kept certificate for a server whose certificate cannot be loaded. `pair` is the form of a file.

mod broken;
mod directory;
pub(crate) mod disk;
pub mod index;
mod keeping;
pub mod pair;
mod replacing;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use hpkp_core::check::{Deployment, Host, HostVerdict};
use hpkp_core::finding::{Check, Code, Finding, Text};
use hpkp_core::published::{Published, WriterName};
use hpkp_core::text::Excerpt;
use zeroize::Zeroizing;

use crate::loader::now;
use crate::setting::{KeepSetting, RecordsSetting};
use index::HostPort;

pub use broken::{broken_finding, in_place_of_broken, not_replaced_finding};
pub use directory::{Directory, Unusable};
pub use replacing::Replacement;

/// Whether the certificates of a context are kept, and why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptContext {
    /// Whether its server is configured to keep them.
    pub is_kept: bool,
    /// Whether it has no certificate yet, so that its server would present a temporary one: mod_md does this for a
    /// domain that is not in its store.
    pub is_awaited: bool,
    /// The keys that its directives name.
    pub keys: Vec<String>,
    /// Why they cannot be kept, according to its directives.
    pub obstacle: Option<String>,
}

/// The last good certificates of a configuration.
#[derive(Debug)]
pub struct Keeping {
    /// The directory.
    pub setting: KeepSetting,
    /// The name of the directive.
    pub directive: &'static str,
    /// The writer name of this server; none if it writes no records.
    pub writer: Option<WriterName>,
    /// The directories with records.
    pub published: Vec<RecordsSetting>,
    /// The settings for each context of the deployment.
    pub contexts: Vec<KeptContext>,
    /// For each host, the configured answer to a lock-out.
    pub checks: Vec<Check>,
    /// The answer to a directory that cannot be used.
    pub check: Check,
    /// Whether this is a start, or the test before one: then a certificate that would lock clients
    /// out is replaced. Otherwise the operator decides that ([`Check::Keep`]).
    pub is_start: bool,
}

impl Keeping {
    fn finding(&self, code: Code, text: Text) -> Finding {
        Finding::new(code, self.setting.at.clone(), text)
    }

    /// Opens the directory.
    fn open(&self) -> Result<Directory, Box<Finding>> {
        let unusable = |text: Text| {
            let finding = self.finding(Code::KeptCertificatesUnusable, text);
            Box::new(Finding { check: self.check, ..finding })
        };
        let Some(writer) = &self.writer else {
            return Err(unusable(
                Text::new(format!(
                    "{} needs records that this server writes, and there are none, so no last good \
                 certificate is kept or used",
                    self.directive
                ))
                .fix("name a directory for records without read_only"),
            ));
        };
        Directory::open(&self.setting.path, writer).map_err(|error| unusable(error.text()))
    }

    /// Why the certificates of a context cannot be kept; none if its server is not configured to keep them.
    fn obstacle(&self, context: usize) -> Option<String> {
        let context = self.contexts.get(context).filter(|context| context.is_kept)?;
        context.obstacle.clone().or_else(|| context.keys.iter().find_map(|key| obstacle_of(key)))
    }

    fn is_kept(&self, context: usize) -> bool {
        self.contexts.get(context).is_some_and(|context| context.is_kept)
    }

    fn is_awaited(&self, context: usize) -> bool {
        self.contexts.get(context).is_some_and(|context| context.is_awaited)
    }
}

/// Why a key, as its directive names it, cannot be kept.
fn obstacle_of(key: &str) -> Option<String> {
    let in_token = ["engine:", "store:", "pkcs11:"].iter().find(|scheme| key.starts_with(**scheme));
    if let Some(scheme) = in_token {
        return Some(format!(
            "its private key is not in a file ({scheme}...), and it cannot be copied from there"
        ));
    }
    is_encrypted(key).unwrap_or(false).then(|| {
        format!(
            "its private key in \"{}\" has a pass phrase, and a copy would have none",
            Excerpt::new(key)
        )
    })
}

/// The largest key file that is examined for a pass phrase, in bytes.
const MAX_KEY: u64 = 1 << 20;

fn is_encrypted(path: &str) -> Option<bool> {
    if !path.starts_with('/') || !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len().min(MAX_KEY);
    // The buffer has its full size from the start: one that grows leaves a copy of the key in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(length).ok()? + 1));
    file.take(length).read_to_end(&mut text).ok()?;
    let has = |mark: &[u8]| text.windows(mark.len()).any(|bytes| bytes == mark);
    Some(has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED"))
}

/// The names of a host and the ports on which it answers.
fn hosts_of(deployment: &Deployment, position: usize) -> BTreeSet<HostPort> {
    let host = &deployment.hosts[position];
    let mut ports: BTreeSet<u16> = deployment
        .listeners
        .iter()
        .filter(|listener| listener.hosts.contains(&position))
        .map(|listener| listener.port)
        .collect();
    if ports.is_empty() {
        ports.insert(0);
    }
    let own = (!host.names.is_empty()).then_some(&host.names);
    let label = [host.label.clone()];
    let names = own.map_or(&label[..], Vec::as_slice);
    let each = |name: &String| {
        let name = name.to_ascii_lowercase();
        ports
            .iter()
            .map(move |port| HostPort { name: name.clone(), port: *port })
            .collect::<Vec<_>>()
    };
    names.iter().flat_map(each).collect()
}

/// The pins that clients may hold, according to the records.
fn held(deployment: &Deployment) -> Vec<&Published> {
    let records = deployment.records.iter();
    records.flat_map(|records| records.state.live(now())).map(|live| &live.record.body).collect()
}

/// Whether clients may hold pins for a host, from its policies or from the records.
fn is_pinned(host: &Host, verdict: &HostVerdict, held: &[&Published]) -> bool {
    host.enforced.is_some()
        || host.report_only.is_some()
        || held.iter().any(|held| {
            verdict.names.iter().any(|name| {
                let is_on =
                    name.ports.is_empty() || name.ports.iter().any(|port| held.is_on(*port));
                let is_below = || held.host.parents().any(|parent| parent == name.host.as_str());
                let is_it = || held.binds(&name.host) || held.host == name.host || is_below();
                is_on && (held.ignores_names() || is_it())
            })
        })
}

/// The paths of files that OpenSSL and the servers load.
pub type Paths = Vec<PathBuf>;

/// For each context, the hosts (by position) that present it.
fn users(deployment: &Deployment) -> Vec<Vec<usize>> {
    let mut users = vec![Vec::new(); deployment.contexts.len()];
    for (position, host) in deployment.hosts.iter().enumerate().filter(|(_, host)| host.tls) {
        for context in &host.contexts {
            users[*context].push(position);
        }
    }
    users
}
