//! Presents a last good certificate in place of one that would lock clients out.

use std::collections::BTreeSet;
use std::path::PathBuf;

use hpkp_core::certificate::Certificate;
use hpkp_core::check::{Alarm, Certificates, Deployment, Records, Verdict};
use hpkp_core::finding::{Check, Class, Code, Finding, Text};
use hpkp_core::path::Chain;
use hpkp_core::published::State;
use hpkp_core::text::Excerpt;

use super::index::{Entry, HostPort, Index};
use super::{Directory, Keeping, hosts_of, pair, users};
use crate::journal;
use crate::loader::{Loader, now};
use crate::openssl::OpenSsl;

/// The most sets of kept certificates that are tried for one server.
const MAX_CANDIDATES: usize = 8;

/// The most lines of one kind in a finding.
const MAX_DETAILS: usize = 8;

/// Why nothing is presented, if there is no other reason.
pub(super) const NONE_KEPT: &str = "none was kept for this host";

/// Kept certificates of one server, one for each kind of key.
#[derive(Debug)]
pub struct Replacement {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// The chains in DER, each with the leaf first.
    pub chains: Vec<Vec<Vec<u8>>>,
    leaves: Vec<Certificate>,
}

impl Replacement {
    /// Reads the kept certificates of an entry.
    ///
    /// # Errors
    /// Why they must not be presented.
    pub(super) fn read(
        directory: &Directory,
        entry: &Entry,
        state: Option<&State>,
        now: i64,
    ) -> Result<Self, String> {
        let mut found = Self { paths: Vec::new(), chains: Vec::new(), leaves: Vec::new() };
        for file in &entry.files {
            let chain = directory.chain(file)?;
            let path = directory.path_of(file);
            let shown = path.to_string_lossy().into_owned();
            let parsed: Result<Vec<Certificate>, _> =
                chain.iter().map(|der| Certificate::from_der(der)).collect();
            let parsed = parsed
                .map_err(|error| format!("cannot use \"{}\": {error}", Excerpt::new(&shown)))?;
            if let Some(why) = pair::why_not(&parsed, state, now) {
                return Err(why);
            }
            found.leaves.extend(parsed.into_iter().next());
            found.paths.push(path);
            found.chains.push(chain);
        }
        Ok(found)
    }

    /// The leaves, in DER.
    #[must_use]
    pub fn leaves(&self) -> Vec<&[u8]> {
        self.leaves.iter().map(Certificate::der).collect()
    }

    /// Tests whether OpenSSL can load the files, in a context that no server uses.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn try_files(&self, openssl: &OpenSsl) -> Result<(), String> {
        self.paths.iter().try_for_each(|path| {
            openssl.try_pair(path, path).map_err(|error| {
                format!("cannot use \"{}\": {error}", Excerpt::new(&*path.to_string_lossy()))
            })
        })
    }

    /// When the first of its certificates expires.
    #[must_use]
    pub(super) fn expires(&self) -> &str {
        let first = self.leaves.iter().min_by_key(|leaf| leaf.not_after());
        first.map_or("", Certificate::not_after_text)
    }

    /// Adds the certificates to a finding, and the advice to record a key as compromised if others may have it.
    /// Otherwise a key that was replaced for that reason would be presented again.
    pub(super) fn described(&self, text: Text, records: &str) -> Text {
        let pins = self.leaves.iter().filter_map(Certificate::pin);
        let pins: Vec<String> = pins.map(|pin| format!("sha256/{pin}")).collect();
        let text = pins.iter().fold(text, |text, pin| {
            text.fix(format!(
                "if the key {pin} was replaced because others may have it, record that, then restart: \
                 hpkp published {records} compromised {pin} --why REASON"
            ))
        });
        let served = self.leaves.iter().zip(&self.paths).map(|(leaf, path)| {
            let pin = leaf.pin().map(|pin| format!(", key sha256/{pin}")).unwrap_or_default();
            format!(
                "presented: {}{pin}, expires {}, kept in \"{}\"",
                leaf.subject(),
                leaf.not_after_text(),
                Excerpt::new(&*path.to_string_lossy())
            )
        });
        text.details(served)
    }

    fn certificates(&self, loader: &mut Loader<'_>) -> Certificates {
        loader.chains(self.chains.iter().map(|chain| (chain.clone(), None)).collect())
    }

    /// Whether these certificates, including their chains, are already loaded.
    fn is_loaded(&self, loaded: &Certificates) -> bool {
        let Certificates::Loaded(chains) = loaded else { return false };
        let own: BTreeSet<Vec<&[u8]>> =
            self.chains.iter().map(|chain| chain.iter().map(Vec::as_slice).collect()).collect();
        let all = chains.iter().map(|chain| {
            chain.certificates().iter().map(|certificate| certificate.der()).collect()
        });
        all.collect::<BTreeSet<Vec<&[u8]>>>() == own
    }
}

/// A context whose certificates would lock clients out.
struct Wanted {
    context: usize,
    /// The hosts that present it.
    users: Vec<usize>,
    /// Whether it has no certificate yet.
    is_awaited: bool,
    /// The loaded certificates, while a kept one is tried or presented in their place.
    loaded: Option<Certificates>,
    candidates: Vec<Replacement>,
    /// The position of the candidate that is tried; the number of candidates if all have failed.
    tried: usize,
    /// Why the other candidates were not presented.
    reasons: Vec<String>,
}

impl Keeping {
    /// Checks `deployment` again with kept certificates in place of those that would lock clients out, and adds
    /// findings about them to the verdict. `put` makes a context present a replacement.
    #[must_use]
    pub fn replace(
        &self,
        deployment: &mut Deployment,
        verdict: Verdict,
        loader: &mut Loader<'_>,
        check: impl Fn(&mut Deployment, &Loader<'_>) -> Verdict,
        mut put: impl FnMut(usize, &Replacement) -> Result<(), String>,
    ) -> Verdict {
        let mut findings = self.obstacles(deployment, &verdict);
        let opened = self.open().and_then(|directory| {
            let index = directory.index().map_err(|error| {
                let finding = self.finding(Code::KeptCertificatesUnusable, error.text());
                Box::new(Finding { check: self.check, ..finding })
            })?;
            Ok((directory, index))
        });
        let before = verdict;
        let mut verdict = match opened {
            Err(finding) => {
                findings.push(*finding);
                None
            }
            Ok((directory, index)) => {
                let mut wanted = self.wanted(deployment, &before, (&directory, &index));
                self.read_more(deployment, &wanted);
                let verdict = (!wanted.is_empty())
                    .then(|| try_all(deployment, &before, loader, &check, &mut wanted));
                let verdict = verdict.map(|verdict| {
                    let failed = self.put_all(deployment, &mut wanted, &mut put);
                    if failed { check(deployment, loader) } else { verdict }
                });
                findings.extend(self.results(deployment, &before, &wanted));
                verdict
            }
        }
        .unwrap_or(before);
        verdict.findings.extend(findings);
        verdict.findings.sort_by_key(|finding| finding.class);
        verdict
    }

    /// Reads the records again if kept certificates have names whose records may not have been read.
    fn read_more(&self, deployment: &mut Deployment, wanted: &[Wanted]) {
        let read = journal::concern_of_kept(deployment);
        let mut needed = read.clone();
        let candidates = wanted.iter().flat_map(|one| &one.candidates);
        for name in candidates.flat_map(|found| &found.leaves).flat_map(Certificate::accepted_names)
        {
            needed.add_name(name, true);
        }
        if !read.covers(&needed) && deployment.records.is_some() {
            // What was found of the server's own file stays: only the first reading looks for rivals.
            let more = journal::read(&self.published, needed, &[]).0;
            deployment.records = deployment.records.take().zip(more).map(|(mut before, more)| {
                let new = more.problems.into_iter().filter(|one| !before.problems.contains(one));
                let new: Vec<_> = new.collect();
                before.problems.extend(new);
                Records { state: more.state, ..before }
            });
        }
    }

    /// Whether the certificates of a host may be replaced.
    fn may_replace(&self, host: usize) -> bool {
        match self.checks.get(host).copied().unwrap_or_default() {
            Check::Warn => false,
            Check::Keep => true,
            Check::Refuse => self.is_start,
        }
    }

    /// The hosts of a context with an alarm and whose certificates may be replaced. If the context has no certificate
    /// yet, all of them count as alarmed: no client accepts the server's temporary certificate.
    fn alarmed(&self, verdict: &Verdict, context: usize, users: &[usize]) -> Vec<usize> {
        let is_awaited = self.is_awaited(context);
        let is_alarmed = |position: &usize| {
            (is_awaited || !verdict.hosts[*position].alarms.is_empty())
                && self.may_replace(*position)
        };
        users.iter().copied().filter(is_alarmed).collect()
    }

    fn wanted(
        &self,
        deployment: &Deployment,
        verdict: &Verdict,
        (directory, index): (&Directory, &Index),
    ) -> Vec<Wanted> {
        let mut all = Vec::new();
        for (context, users) in users(deployment).into_iter().enumerate() {
            let alarmed = self.alarmed(verdict, context, &users);
            let is_awaited = self.is_awaited(context);
            let is_known = match deployment.contexts[context].certificates {
                Certificates::Loaded(_) | Certificates::Unusable(..) => true,
                Certificates::NotKnown { .. }
                | Certificates::Temporary { .. }
                | Certificates::Later(_) => is_awaited,
            };
            if alarmed.is_empty() || !is_known || !self.is_kept(context) {
                continue;
            }
            let hosts: BTreeSet<HostPort> =
                alarmed.iter().flat_map(|position| hosts_of(deployment, *position)).collect();
            let state = deployment.records.as_ref().map(|records| &records.state);
            let (mut candidates, mut reasons) = (Vec::new(), Vec::new());
            let mut is_same = false;
            for entry in index.candidates(&hosts).into_iter().take(MAX_CANDIDATES) {
                match Replacement::read(directory, entry, state, now()) {
                    Ok(found) if found.is_loaded(&deployment.contexts[context].certificates) => {
                        is_same = true;
                    }
                    Ok(found) => candidates.push(found),
                    Err(why) => reasons.push(why),
                }
            }
            // If the configured certificate is the kept one, or nothing was kept before the first certificate arrived,
            // there is nothing to report.
            let is_settled = is_same || is_awaited;
            if is_settled && candidates.is_empty() && reasons.is_empty() {
                continue;
            }
            all.push(Wanted {
                context,
                users,
                is_awaited,
                loaded: None,
                candidates,
                tried: 0,
                reasons,
            });
        }
        all
    }

    /// Makes the server present the candidates that have passed. Returns whether one could not be presented.
    fn put_all(
        &self,
        deployment: &mut Deployment,
        wanted: &mut [Wanted],
        put: &mut impl FnMut(usize, &Replacement) -> Result<(), String>,
    ) -> bool {
        let mut failed = false;
        for one in wanted {
            let Some(found) = one.candidates.get(one.tried) else { continue };
            if let Err(why) = put(one.context, found) {
                one.reasons.push(why);
                one.tried = one.candidates.len();
                restore(deployment, one);
                failed = true;
            }
        }
        failed
    }

    /// A finding for each context: which certificate is presented, or why none is.
    fn results(
        &self,
        deployment: &Deployment,
        before: &Verdict,
        wanted: &[Wanted],
    ) -> Vec<Finding> {
        let records = deployment.records.as_ref().map(Records::options).unwrap_or_default();
        let one = |one: &Wanted| {
            let alarmed = self.alarmed(before, one.context, &one.users);
            let labels: BTreeSet<&str> =
                alarmed.iter().map(|position| deployment.hosts[*position].label.as_str()).collect();
            let (code, text) = match one.candidates.get(one.tried) {
                Some(found) => {
                    let text = served(one, found, &reasons(before, &labels));
                    (Code::KeptCertificateServed, found.described(text, &records))
                }
                None => (Code::KeptCertificateNotUsed, not_used(one)),
            };
            let mut finding = self.finding(code, text);
            labels.iter().for_each(|label| finding.add_host(label));
            finding
        };
        wanted.iter().map(one).collect()
    }
}

/// Tries candidates for all contexts at once, until each remaining one helps a host and harms none.
fn try_all(
    deployment: &mut Deployment,
    before: &Verdict,
    loader: &mut Loader<'_>,
    check: &impl Fn(&mut Deployment, &Loader<'_>) -> Verdict,
    wanted: &mut [Wanted],
) -> Verdict {
    for one in wanted.iter_mut() {
        let place = &mut deployment.contexts[one.context].certificates;
        one.loaded = Some(std::mem::replace(place, Certificates::Loaded(Vec::new())));
    }
    loop {
        for one in wanted.iter_mut() {
            match one.candidates.get(one.tried) {
                Some(found) => {
                    deployment.contexts[one.context].certificates = found.certificates(loader);
                }
                None => restore(deployment, one),
            }
        }
        let verdict = check(deployment, loader);
        let mut all_fit = true;
        for one in wanted.iter_mut() {
            if one.tried >= one.candidates.len() || helps((before, &verdict), one) {
                continue;
            }
            one.reasons
                .push("clients would be locked out by the last good certificate, too".to_owned());
            one.tried += 1;
            all_fit = false;
        }
        if all_fit {
            return verdict;
        }
    }
}

/// Restores the loaded certificates of a context.
fn restore(deployment: &mut Deployment, one: &mut Wanted) {
    if let Some(loaded) = one.loaded.take() {
        deployment.contexts[one.context].certificates = loaded;
    }
}

/// Whether the candidate of a context removes the lock-out of a host, or gives it its first certificate, and causes no
/// new lock-out.
fn helps((before, after): (&Verdict, &Verdict), one: &Wanted) -> bool {
    let mut helps = one.is_awaited;
    for position in &one.users {
        let before: &[Alarm] = &before.hosts[*position].alarms;
        let after = &after.hosts[*position];
        if after.alarms.iter().any(|alarm| !before.contains(alarm)) {
            return false;
        }
        helps |= !before.is_empty() && after.alarms.is_empty();
    }
    helps
}

/// Why the configured certificate is not presented, one line for each finding about these hosts.
fn reasons(before: &Verdict, labels: &BTreeSet<&str>) -> Vec<String> {
    let grave = before.findings.iter().filter(|finding| {
        matches!(finding.class, Class::Lockout | Class::Unsure)
            && (finding.host_count > finding.hosts.len()
                || finding.hosts.iter().any(|host| labels.contains(host.as_str())))
    });
    grave
        .take(MAX_DETAILS)
        .map(|finding| format!("not presented: [{}] {}", finding.code, finding.text.what))
        .collect()
}

fn served(one: &Wanted, found: &Replacement, reasons: &[String]) -> Text {
    let problem = match &one.loaded {
        _ if one.is_awaited => "there is no certificate for this host yet",
        Some(Certificates::Unusable(..)) => "the certificate that is configured cannot be used",
        _ => "the certificate that is configured would lock clients out",
    };
    let text = Text::new(format!(
        "{problem}, so the last good certificate is presented in its place until it expires at {}",
        found.expires()
    ))
    .fix("install a certificate for a key whose pin clients hold, then reload")
    .details(reasons.iter().cloned());
    match &one.loaded {
        Some(Certificates::Loaded(chains)) => {
            text.details(chains.iter().take(MAX_DETAILS).map(configured))
        }
        _ => text,
    }
}

fn configured(chain: &Chain) -> String {
    let leaf = chain.leaf();
    let file = chain.file().map(|file| format!(" in \"{}\"", Excerpt::new(&file.path)));
    let pin = leaf.pin().map(|pin| format!(", key sha256/{pin}")).unwrap_or_default();
    format!(
        "configured: {}{pin}, expires {}{}",
        leaf.subject(),
        leaf.not_after_text(),
        file.unwrap_or_default()
    )
}

fn not_used(one: &Wanted) -> Text {
    let why = match one.reasons.first() {
        Some(why) => why.as_str(),
        None => NONE_KEPT,
    };
    let problem = match one.is_awaited {
        true => "there is no certificate for this host yet",
        false => "clients would refuse the certificate that is configured",
    };
    let text = Text::new(format!(
        "{problem}, and no last good certificate is presented in its place: {why}"
    ));
    text.details(one.reasons.iter().skip(1).take(MAX_DETAILS).cloned())
}
