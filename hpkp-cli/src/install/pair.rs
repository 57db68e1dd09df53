//! A certificate with its chain and its private key, and the faults that make them unusable.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::date;
use hpkp_core::path::VerifySignature as _;
use hpkp_core::text::Excerpt;
use openssl::pkey::{Id, PKey, Private};
use openssl::x509::X509;

use super::pem_file::{Bytes, KeyState, PemFile, fits};
use super::report::Stop;
use crate::der;
use crate::output;
use crate::published::OpenSsl;

/// The contents of a file of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// The certificate and the chain that is sent after it.
    Full,
    /// The certificate alone.
    Leaf,
    /// The chain alone.
    Chain,
    /// The private key.
    Key,
    /// The certificate, its chain and the key in one file, as HAProxy reads them.
    Combined,
}

/// A certificate, the chain that is sent after it, and the key.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The file of the certificate.
    pub(crate) certificate: PathBuf,
    /// The file of the key.
    pub(crate) key_file: PathBuf,
    /// The leaf first; never empty.
    pub(crate) chain: Vec<Arc<Certificate>>,
    /// The content of a file with each role.
    texts: BTreeMap<Role, Bytes>,
    /// The file names and their roles: as the client has them, or as the operator wants them in the
    /// server's directory.
    pub(crate) names: BTreeMap<String, Role>,
    /// Whether the operator named the files.
    pub(crate) is_named: bool,
    key: PKey<Private>,
}

/// The files of a pair in the client's directory.
#[derive(Debug, Default)]
pub(crate) struct Parts<'a> {
    pub(crate) certificate: Option<&'a PemFile>,
    pub(crate) key: Option<&'a PemFile>,
    /// The files with the chain, or with the leaf alone.
    pub(crate) others: Vec<&'a PemFile>,
    pub(crate) names: BTreeMap<String, Role>,
    pub(crate) is_named: bool,
}

impl Pair {
    /// Builds a pair from its parts.
    ///
    /// # Errors
    /// A part is missing, damaged or encrypted.
    pub(crate) fn new(parts: Parts<'_>) -> Result<Self, Stop> {
        let (Some(certificate), Some(key_file)) = (parts.certificate, parts.key) else {
            return Err(Stop::usage("a certificate or its key is missing"));
        };
        let shown = output::path(&certificate.path);
        if let Some(damage) = &certificate.damage {
            return Err(Stop::refused("certificate-damaged", format!("{shown}: {damage}")));
        }
        let key = usable_key(key_file)?;
        let mut chain = certificate.certificates.clone();
        let Some(leaf) = chain.first().cloned() else {
            return Err(Stop::refused("certificate-missing", format!("{shown}: no certificate")));
        };
        if chain.len() == 1 {
            chain.extend(chain_after(&leaf, &parts.others));
        }
        let mut pair = Self {
            certificate: certificate.path.clone(),
            key_file: key_file.path.clone(),
            texts: BTreeMap::new(),
            chain,
            names: parts.names,
            is_named: parts.is_named,
            key,
        };
        pair.texts = pair.composed(certificate, key_file, &parts.others);
        Ok(pair)
    }

    /// The content of a file with each role. A file of the client with this content is copied verbatim.
    fn composed(
        &self,
        certificate: &PemFile,
        key_file: &PemFile,
        others: &[&PemFile],
    ) -> BTreeMap<Role, Bytes> {
        let plain = |file: &PemFile| !file.has_key() && file.other_text().is_empty();
        let verbatim = |wanted: &[Arc<Certificate>]| {
            let all = std::iter::once(certificate).chain(others.iter().copied());
            let same = |file: &&PemFile| {
                plain(file)
                    && file.certificates.len() == wanted.len()
                    && file.certificates.iter().zip(wanted).all(|(a, b)| a.der() == b.der())
            };
            let found = all.filter(|file| file.damage.is_none()).find(same);
            found.map_or_else(|| text_of(wanted), |file| file.bytes.clone())
        };
        let full: Bytes = verbatim(&self.chain);
        let key = match key_file.certificates.is_empty() && key_file.other_text().is_empty() {
            true => key_file.bytes.clone(),
            false => key_file.key_text(),
        };
        let mut combined = with_newline(&full);
        combined.extend_from_slice(&with_newline(&key));
        BTreeMap::from([
            (Role::Full, full),
            (Role::Leaf, verbatim(&self.chain[..1])),
            (Role::Chain, verbatim(&self.chain[1..])),
            (Role::Key, key),
            (Role::Combined, combined),
        ])
    }

    /// The content of a file with this role.
    pub(crate) fn text(&self, role: Role) -> Bytes {
        self.texts.get(&role).cloned().unwrap_or_default()
    }

    pub(crate) fn leaf(&self) -> &Arc<Certificate> {
        &self.chain[0]
    }

    /// The kind of the key. A server has one certificate of each kind.
    pub(crate) fn kind(&self) -> &'static str {
        kind(&self.key)
    }

    /// The faults that make the pair unusable for any server, regardless of pins.
    pub(crate) fn faults(&self, now: i64) -> Vec<(&'static str, String)> {
        let file = output::path(&self.certificate);
        let mut faults = Vec::new();
        if !fits(self.leaf(), &self.key) {
            faults.push((
                "key-does-not-fit",
                format!(
                    "{file}: the first certificate is not for the key in {}",
                    output::path(&self.key_file)
                ),
            ));
        }
        if self.leaf().not_after() <= now {
            let at = date::format(self.leaf().not_after());
            faults
                .push(("certificate-expired", format!("{file}: the certificate expired at {at}")));
        }
        if self.leaf().not_before() > now {
            faults.push((
                "certificate-not-yet-valid",
                format!(
                    "{file}: the certificate is not valid yet; check the clock of this machine"
                ),
            ));
        }
        faults.extend(self.order().map(|text| ("chain-order", format!("{file}: {text}"))));
        faults.extend(self.chain[1..].iter().filter(|one| one.not_after() <= now).map(|one| {
            let subject = Excerpt::new(one.subject());
            let at = date::format(one.not_after());
            ("chain-expired", format!("{file}: the CA certificate {subject} expired at {at}"))
        }));
        faults
    }

    /// Reports the first certificate that has issued none of the certificates before it.
    fn order(&self) -> Option<String> {
        let certifies = |place: usize| {
            let issuer = &self.chain[place];
            self.chain[..place]
                .iter()
                .any(|one| one.may_be_issued_by(issuer) && OpenSsl.is_signed_by(one, issuer))
        };
        let place = (1..self.chain.len()).find(|place| !certifies(*place))?;
        Some(format!(
            "certificate {} of {} ({}) has issued none of those before it; the chain must follow the \
             certificate in order",
            place + 1,
            self.chain.len(),
            Excerpt::new(self.chain[place].subject())
        ))
    }
}

/// The kind of a key, as a word for file names.
pub(crate) fn kind(key: &PKey<Private>) -> &'static str {
    kind_of_id(key.id())
}

/// The kind of a certificate's key.
pub(crate) fn kind_of_public(certificate: &X509) -> &'static str {
    certificate.public_key().map_or("other", |key| kind_of_id(key.id()))
}

fn kind_of_id(id: Id) -> &'static str {
    match id {
        Id::RSA => "rsa",
        Id::RSA_PSS => "rsa-pss",
        Id::EC => "ecdsa",
        Id::ED25519 => "ed25519",
        Id::ED448 => "ed448",
        _ => "other",
    }
}

fn usable_key(file: &PemFile) -> Result<PKey<Private>, Stop> {
    let shown = output::path(&file.path);
    match &file.key {
        KeyState::One(key) => Ok(key.clone()),
        KeyState::None => {
            Err(Stop::refused("key-missing", format!("{shown}: contains no private key")))
        }
        KeyState::Encrypted => Err(Stop::undetermined(
            "key-encrypted",
            format!("{shown}: the private key is encrypted, so nobody can tell whether it fits"),
        )),
        KeyState::Unusable => Err(Stop::refused(
            "key-unusable",
            format!("{shown}: cannot read the private key, or there are several"),
        )),
    }
}

/// The chain from a separate file.
fn chain_after(leaf: &Certificate, others: &[&PemFile]) -> Vec<Arc<Certificate>> {
    let chains = others.iter().map(|file| &file.certificates);
    // A self-signed certificate is not its own chain.
    let mut fitting = chains.filter(|chain| {
        chain.first().is_some_and(|first| leaf.may_be_issued_by(first) && first.der() != leaf.der())
    });
    fitting.next().cloned().unwrap_or_default()
}

/// Certificates in PEM, concatenated.
fn text_of(certificates: &[Arc<Certificate>]) -> Bytes {
    let texts = certificates.iter().map(|one| der::pem("CERTIFICATE", one.der()));
    Bytes::new(texts.flat_map(|text| text.as_bytes().to_vec()).collect())
}

fn with_newline(text: &[u8]) -> Bytes {
    let mut text = Bytes::new(text.to_vec());
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text
}
