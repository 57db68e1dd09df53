//! Keeps the certificates of a configuration that has been accepted and recorded.

use std::collections::BTreeSet;

use hpkp_core::check::{Certificates, Deployment, Verdict};
use hpkp_core::finding::{Class, Code, Finding, Text};

use super::directory::NewFile;
use super::index::{Entry, HostPort, file_of};
use super::{Directory, Keeping, held, hosts_of, is_pinned, pair, users};
use crate::openssl::LoadedPair;

/// The files and the list to write.
#[derive(Default)]
struct Wanted {
    files: Vec<NewFile>,
    entries: Vec<Entry>,
    /// Hosts with a lock-out or an unsure answer: their earlier entries stay.
    withheld: BTreeSet<HostPort>,
    /// The hosts whose certificates cannot be kept, and why.
    not_kept: Vec<(String, String)>,
    /// The presented certificates of hosts whose certificates cannot be kept: an earlier entry stays if it has the same
    /// certificates.
    presented: Vec<Entry>,
}

impl Keeping {
    /// Keeps the certificates of hosts without a lock-out, and forgets the earlier ones. `pairs` returns the
    /// certificates and keys that a context has loaded. Returns findings about certificates that cannot be kept.
    #[must_use]
    pub fn keep(
        &self,
        deployment: &Deployment,
        verdict: &Verdict,
        pairs: impl FnMut(usize) -> Vec<LoadedPair>,
    ) -> Vec<Finding> {
        let Some(writer) = &self.writer else { return Vec::new() };
        let wanted = self.accepted(deployment, verdict, pairs);
        let mut findings: Vec<Finding> = Vec::new();
        for (host, why) in &wanted.not_kept {
            let text = Text::new(format!("the last good certificate is not kept: {why}"));
            let mut finding = self.finding(Code::CertificateNotKept, text);
            finding.add_host(host);
            findings.push(finding);
        }
        // A directory that cannot be used has been reported already.
        let Ok(mut directory) = Directory::open(&self.setting.path, writer) else {
            return findings;
        };
        let Wanted { files, mut entries, withheld, presented, .. } = wanted;
        let written = directory.write(&files, |before| {
            let there = before.files();
            let is_there = |entry: &Entry| entry.files.iter().all(|file| there.contains(&**file));
            entries.extend(presented.into_iter().filter(is_there));
            before.followed_by(entries, &withheld)
        });
        if let Err(error) = written {
            let text = Text::new(format!(
                "the last good certificates could not be kept: {error}; those that were kept before are \
                 still there"
            ))
            .fix("make room or mend the file system, then reload");
            findings.push(self.finding(Code::CertificateNotKept, text));
        }
        findings
    }

    fn accepted(
        &self,
        deployment: &Deployment,
        verdict: &Verdict,
        mut pairs: impl FnMut(usize) -> Vec<LoadedPair>,
    ) -> Wanted {
        let mut wanted = Wanted::default();
        let (users, held) = (users(deployment), held(deployment));
        for (context, loaded) in deployment.contexts.iter().enumerate() {
            if !self.is_kept(context) {
                continue;
            }
            let (mut good, mut label) = (BTreeSet::new(), None);
            for &position in &users[context] {
                let verdict = &verdict.hosts[position];
                if !is_pinned(&deployment.hosts[position], verdict, &held) {
                    continue;
                }
                let hosts = hosts_of(deployment, position);
                if verdict.alarms.is_empty() {
                    label.get_or_insert(&deployment.hosts[position].label);
                    good.extend(hosts);
                } else {
                    wanted.withheld.extend(hosts);
                }
            }
            let is_loaded = matches!(loaded.certificates, Certificates::Loaded(_));
            if good.is_empty() || !is_loaded {
                continue;
            }
            // The obstacle has been reported already.
            if self.obstacle(context).is_some() {
                let files: Vec<String> =
                    pairs(context).iter().map(|pair| file_of(&pair.chain)).collect();
                if !files.is_empty() {
                    wanted.presented.push(Entry { files, hosts: good });
                }
                continue;
            }
            match files(pairs(context)) {
                Ok(files) => {
                    let names = files.iter().map(|(name, _)| name.clone()).collect();
                    wanted.entries.push(Entry { files: names, hosts: good });
                    wanted.files.extend(files);
                }
                Err(why) => {
                    let label = label.cloned().unwrap_or_default();
                    wanted.not_kept.push((label, why));
                }
            }
        }
        wanted.files.sort_by(|(one, _), (other, _)| one.cmp(other));
        wanted.files.dedup_by(|(one, _), (other, _)| one == other);
        wanted
    }

    /// Findings about pinned hosts whose certificates cannot be kept, by their directives.
    pub(super) fn obstacles(&self, deployment: &Deployment, verdict: &Verdict) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        let held = held(deployment);
        for (context, users) in users(deployment).into_iter().enumerate() {
            let is_pinned = |position: &usize| {
                is_pinned(&deployment.hosts[*position], &verdict.hosts[*position], &held)
            };
            let Some(position) = users.into_iter().find(is_pinned) else { continue };
            let Some(why) = self.obstacle(context) else { continue };
            let text = Text::new(format!("the last good certificate cannot be kept: {why}"))
                .fix(format!("to keep none for this server, add to it: {} off", self.directive));
            let mut finding = self.finding(Code::CertificateCannotBeKept, text);
            finding.check = deployment.hosts[position].check;
            debug_assert_eq!(finding.class, Class::Unsure);
            finding.add_host(&deployment.hosts[position].label);
            findings.push(finding);
        }
        findings
    }
}

/// The files for the pairs of a context: their names and texts.
fn files(pairs: Vec<LoadedPair>) -> Result<Vec<NewFile>, String> {
    let file = |loaded: LoadedPair| {
        let key = loaded.key.ok_or("OpenSSL does not export its private key")?;
        if loaded.chain.first().is_some_and(|leaf| pair::demands_staple(leaf)) {
            return Err("it demands a stapled OCSP response, which cannot be kept");
        }
        Ok((file_of(&loaded.chain), pair::text(&loaded.chain, &key)))
    };
    pairs.into_iter().map(|pair| file(pair).map_err(str::to_owned)).collect()
}
