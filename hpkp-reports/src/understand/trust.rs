//! The public CAs that this machine trusts, and whether a chain leads to one of them at a given time.

use std::path::Path;

use hpkp_core::pem;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The largest file of trusted certificates, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// The most files in a directory.
const MAX_FILES: usize = 10_000;

/// Limits for the certificates above a leaf: in total, with the same name, and for the paths that they can form. Each
/// path needs signatures verified, and a stranger chooses the certificates. Real chains have up to five, and two of the
/// same name if they are cross-signed.
const MAX_CHAIN: usize = 8;
const MAX_OF_A_NAME: usize = 2;
const MAX_PATHS: usize = 4;

/// Debian's directory for certificates that the administrator of this machine adds, for instance of a company's proxy.
/// These are not public CAs.
const LOCAL: &str = "/usr/local/share/ca-certificates";

/// The public CAs.
#[derive(Clone, Debug, Default)]
pub struct PublicRoots {
    anchors: Vec<TrustAnchor<'static>>,
    /// The files that could not be read.
    pub problems: Vec<String>,
}

/// Where a chain leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Led {
    /// To a public CA.
    ToPublic,
    /// To a public CA, but not at that time.
    ToPublicNotThen,
    /// To an issuer that is not a public CA.
    Elsewhere,
    /// The chain names a public CA, but an intermediate is missing or a signature is wrong.
    Broken,
}

impl PublicRoots {
    /// Reads a directory of certificates, or one file.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let mut roots = Self::default();
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            match std::fs::read_dir(path) {
                Ok(entries) => {
                    files = entries.flatten().map(|entry| entry.path()).take(MAX_FILES).collect();
                    files.sort();
                }
                Err(error) => roots.fail(path, &crate::output::os(&error)),
            }
        }
        let mut known = std::collections::HashSet::new();
        let mut local = Vec::new();
        for file in files {
            // Debian has one file with all certificates, one file for each, and two links to each of those.
            let Ok(real) = file.canonicalize() else { continue };
            if !real.is_file() || !known.insert(real.clone()) {
                continue;
            }
            match anchors(&real) {
                Ok(found) if real.starts_with(LOCAL) => local.extend(found),
                Ok(found) => roots.anchors.extend(found),
                Err(error) => roots.fail(&file, &error),
            }
        }
        // Local certificates are also in the file with all certificates.
        roots.anchors.retain(|anchor| !local.iter().any(|one| key(one) == key(anchor)));
        roots.anchors.sort_by(|a, b| key(a).cmp(&key(b)));
        roots.anchors.dedup_by(|a, b| key(a) == key(b));
        if roots.anchors.is_empty() {
            roots.fail(
                path,
                "there are no trusted certificates, so the chain of a proxy looks like any other chain",
            );
        }
        roots
    }

    /// The number of public CAs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether no public CA is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    fn fail(&mut self, path: &Path, text: &str) {
        self.problems.push(format!("{}: {text}", path.display()));
    }

    /// Where `chain` (DER, the leaf first) leads at one of `times`, in seconds since 1970 UTC. `between` is a time at
    /// which its certificates are valid. It distinguishes expired chains from chains that never lead to a public CA.
    #[must_use]
    pub fn judge(&self, chain: &[&[u8]], times: &[i64], between: i64) -> Led {
        let mut best = Led::Elsewhere;
        for at in times {
            match self.judge_at(chain, *at) {
                Led::ToPublic => return Led::ToPublic,
                Led::Elsewhere => {}
                led => best = led,
            }
        }
        match best {
            Led::ToPublicNotThen => match self.judge_at(chain, between) {
                Led::ToPublic | Led::ToPublicNotThen => Led::ToPublicNotThen,
                led => led,
            },
            led => led,
        }
    }

    fn judge_at(&self, chain: &[&[u8]], at: i64) -> Led {
        match verify(chain, &self.anchors, at) {
            None => Led::Broken,
            Some(Ok(())) => Led::ToPublic,
            Some(Err(Error::CertExpired { .. } | Error::CertNotValidYet { .. })) => {
                Led::ToPublicNotThen
            }
            Some(Err(Error::UnknownIssuer)) => Led::Elsewhere,
            Some(Err(_)) => Led::Broken,
        }
    }

    /// Whether a certificate names a public CA as its issuer.
    #[must_use]
    pub fn names_issuer_of(&self, der: &[u8]) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
        let name = certificate.issuer().as_raw();
        // An anchor contains the name without the header of the SEQUENCE.
        let is_it = |subject: &[u8]| {
            name.len().checked_sub(subject.len()).is_some_and(|header| (2..=4).contains(&header))
                && name.ends_with(subject)
        };
        self.anchors.iter().any(|anchor| is_it(anchor.subject.as_ref()))
    }
}

/// The trust anchors in a file.
fn anchors(path: &Path) -> Result<Vec<TrustAnchor<'static>>, String> {
    let size = path.metadata().map_err(|error| crate::output::os(&error))?.len();
    if size > MAX_FILE {
        return Err(format!("larger than {MAX_FILE} bytes"));
    }
    let bytes = std::fs::read(path).map_err(|error| crate::output::os(&error))?;
    let mut found = Vec::new();
    for block in pem::blocks(&bytes) {
        let Ok(block) = block else { return Err("invalid PEM".to_owned()) };
        let Some(der) = block.decode().ok().filter(|_| block.is_certificate()) else {
            continue;
        };
        // A certificate that cannot be an anchor is ignored.
        if let Ok(anchor) = webpki::anchor_from_trusted_cert(&CertificateDer::from(der)) {
            found.push(anchor.to_owned());
        }
    }
    Ok(found)
}

/// Whether the signatures lead from the leaf of the chain to the key of `issuer` (DER) at one of `times`. The
/// certificate of a CA in a chain proves nothing by itself, since anybody can put it there.
#[must_use]
pub fn is_issued_below(chain: &[&[u8]], issuer: &[u8], times: &[i64]) -> bool {
    let issuer = CertificateDer::from(issuer);
    let Ok(anchor) = webpki::anchor_from_trusted_cert(&issuer) else { return false };
    let anchors = [anchor];
    times.iter().any(|at| matches!(verify(chain, &anchors, *at), Some(Ok(()))))
}

fn few_of_each_name<'a>(chain: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut names: Vec<&[u8]> = Vec::new();
    let mut few = Vec::new();
    let mut paths = 1;
    for der in chain {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { continue };
        let name = certificate.tbs_certificate.subject.as_raw();
        let known = names.iter().filter(|known| **known == name).count();
        // Each further certificate of a name adds one alternative to each path through that name.
        let more = paths / known.max(1) * (known + 1);
        if few.len() < MAX_CHAIN && known < MAX_OF_A_NAME && more <= MAX_PATHS {
            names.push(name);
            few.push(*der);
            paths = more;
        }
    }
    few
}

/// Verifies a chain at a time; none if the leaf cannot be parsed.
fn verify(chain: &[&[u8]], anchors: &[TrustAnchor<'_>], at: i64) -> Option<Result<(), Error>> {
    let (leaf, rest) = chain.split_first()?;
    let leaf = CertificateDer::from(*leaf);
    let rest: Vec<CertificateDer<'_>> =
        few_of_each_name(rest).into_iter().map(CertificateDer::from).collect();
    let seconds = u64::try_from(at).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let leaf = EndEntityCert::try_from(&leaf).ok()?;
    let usage = KeyUsage::server_auth();
    let verified =
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, anchors, &rest, at, usage, None, None);
    Some(verified.map(|_| ()))
}

fn key<'a>(anchor: &'a TrustAnchor<'static>) -> (&'a [u8], &'a [u8]) {
    (anchor.subject.as_ref(), anchor.subject_public_key_info.as_ref())
}
