//! The certificates that servers present: those in the configured files, or those of `--cert` in their
//! place.

use std::cell::Cell;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::check::Certificates;
use hpkp_core::finding::{Code, Text};
use hpkp_core::path::{CertificateFile, Chain};
use hpkp_core::published::HostName;
use hpkp_core::text::Excerpt;
use hpkp_server::certificate_file::{certificates_in, certificates_of};
use hpkp_server::file::directory_of_keys;
use hpkp_server::loader::{Loader, NamedChain};

use crate::chains;
use crate::failure::Failure;

/// A certificate with its chain, from `--cert`.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) file: String,
    /// The certificates in DER, the leaf first.
    chain: Vec<Vec<u8>>,
    leaf: Arc<Certificate>,
    is_used: Cell<bool>,
}

impl Given {
    /// Reads a file.
    pub(super) fn read(file: &str) -> Result<Self, Failure> {
        let certificates = chains::of_file(file)?;
        let chain = certificates.iter().map(|one| one.der().to_vec()).collect();
        let leaf = Arc::clone(&certificates[0]);
        Ok(Self { file: file.to_owned(), chain, leaf, is_used: Cell::new(false) })
    }

    /// The names in the certificate for which clients accept it.
    pub(super) fn names(&self) -> &[String] {
        self.leaf.accepted_names()
    }

    /// Whether one of its names is that of a host. The common name of a CA is not, such as `Example CA 2.0`.
    pub(super) fn has_host(&self) -> bool {
        let is_host = |name: &String| {
            name.parse::<HostName>()
                .is_ok_and(|host| host.as_str().contains('.') || host.as_str() == "localhost")
        };
        !self.leaf.dns_names().is_empty() || self.names().iter().any(is_host)
    }

    /// Whether a server presents the certificate.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.get()
    }

    fn named_chain(&self) -> NamedChain {
        self.is_used.set(true);
        let keys = directory_of_keys(&self.file);
        (self.chain.clone(), Some(Arc::new(CertificateFile { path: self.file.clone(), keys })))
    }

    /// Whether the certificate is for a name in a server's configuration.
    fn is_for(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let plain = name.strip_prefix('.').unwrap_or(&name);
        self.names().iter().map(|own| own.to_ascii_lowercase()).any(|own| {
            own == plain
                || own.strip_prefix("*.").is_some_and(|domain| {
                    plain.split_once('.').is_some_and(|(_, rest)| rest == domain)
                })
        })
    }
}

/// All certificates of `--cert`.
#[derive(Debug, Default)]
pub(super) struct AllGiven(pub(super) Vec<Given>);

impl AllGiven {
    /// The certificates that a server with these names presents, if its configured ones are `own`. A
    /// certificate of `--cert` replaces the configured one. If several are configured, it replaces the one
    /// with the same key type.
    pub(super) fn in_place_of(
        &self,
        names: &[String],
        own: Certificates,
        loader: &mut Loader<'_>,
    ) -> Certificates {
        let chains: &[Chain] = match &own {
            Certificates::Loaded(chains) => chains,
            _ => &[],
        };
        let is_host = |name: &&String| name.contains('.') && !name.starts_with('~');
        // A server without a name is identified by the names in its certificate.
        let certified: Vec<String> = match names.iter().any(|name| is_host(&name)) {
            true => Vec::new(),
            false => chains.iter().flat_map(|chain| chain.leaf().dns_names().to_vec()).collect(),
        };
        let is_meant =
            |given: &&Given| names.iter().chain(&certified).any(|name| given.is_for(name));
        let given: Vec<&Given> = self.0.iter().filter(is_meant).collect();
        if given.is_empty() {
            return own;
        }
        let is_replaced = |chain: &Chain| {
            let algorithm = chain.leaf().key_algorithm();
            given.iter().any(|given| given.leaf.key_algorithm() == algorithm)
        };
        let stays = |chain: &&Chain| !is_replaced(chain);
        let mut presented: Vec<(Rank, NamedChain)> = Vec::new();
        if chains.iter().any(is_replaced) {
            presented.extend(chains.iter().filter(stays).map(|chain| {
                let certificates = chain.certificates().iter().map(|one| one.der().to_vec());
                let named = (certificates.collect(), chain.file().cloned());
                (Rank::of(chain.leaf().der()), named)
            }));
        }
        let given = given.iter().map(|given| (Rank::of(given.leaf.der()), given.named_chain()));
        presented.extend(given);
        presented.sort_by(|(one, _), (other, _)| one.cmp(other));
        loader.chains(presented.into_iter().map(|(_, chain)| chain).collect())
    }

    /// Groups the certificates: those with the same names belong to one server.
    pub(super) fn groups(&self) -> Vec<Vec<&Given>> {
        let mut groups: Vec<(Vec<String>, Vec<&Given>)> = Vec::new();
        for given in &self.0 {
            let mut names = given.names().to_vec();
            names.sort();
            match groups.iter_mut().find(|(known, _)| *known == names) {
                Some((_, group)) => group.push(given),
                None => groups.push((names, vec![given])),
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

/// The certificates that the server of a group presents.
pub(super) fn of_group(loader: &mut Loader<'_>, group: &[&Given]) -> Certificates {
    loader.chains(group.iter().map(|given| given.named_chain()).collect())
}

/// The certificates that a server presents if it loads these files, and the files of their keys, as nginx
/// does.
pub(super) fn of_files(
    loader: &mut Loader<'_>,
    files: &[String],
    keys: &[String],
    names: &[String],
    given: &AllGiven,
) -> Certificates {
    let own = loaded(loader, files, keys);
    given.in_place_of(names, own, loader)
}

/// The certificates of these files.
fn loaded(loader: &mut Loader<'_>, files: &[String], keys: &[String]) -> Certificates {
    let mut by_type: Vec<(Rank, NamedChain)> = Vec::new();
    for (index, path) in files.iter().enumerate() {
        let chain = match read(path) {
            Ok(chain) if chain.is_empty() => {
                let text = format!("the file \"{}\" contains no certificate", Excerpt::new(path));
                return Certificates::Unusable(Code::UnreadableCertificate, Text::new(text));
            }
            Ok(chain) => chain,
            Err(Certificates::Unusable(code, text)) => {
                let elsewhere = "if the certificate is not on this machine, give it with --cert";
                return Certificates::Unusable(code, text.fix(elsewhere));
            }
            Err(other) => return other,
        };
        // Of several certificates with the same key type, OpenSSL uses the last one.
        let rank = Rank::of(&chain[0]);
        by_type.retain(|(earlier, _)| *earlier != rank);
        let key = keys.get(index).unwrap_or(path);
        let keys = directory_of_keys(key).or_else(|| directory_of_keys(path));
        by_type.push((rank, (chain, Some(Arc::new(CertificateFile { path: path.clone(), keys })))));
    }
    by_type.sort_by(|(one, _), (other, _)| one.cmp(other));
    loader.chains(by_type.into_iter().map(|(_, chain)| chain).collect())
}

/// The certificates of a file, or of the text after `data:`.
fn read(path: &str) -> Result<Vec<Vec<u8>>, Certificates> {
    let Some(text) = path.strip_prefix("data:") else { return certificates_in(path) };
    certificates_of(text.as_bytes()).map_err(|why| {
        let text = Text::new(format!("cannot use the certificates after \"data:\": {why}"));
        Certificates::Unusable(Code::UnreadableCertificate, text)
    })
}

/// The position of a key type in OpenSSL's order of certificates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u8, Vec<u8>);

impl Rank {
    fn of(leaf: &[u8]) -> Self {
        // RSA and RSA-PSS first, then elliptic curves. The object identifiers are those of RFC 3279 and RFC
        // 4055.
        const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
        const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        let Ok(leaf) = Certificate::from_der(leaf) else { return Self(9, leaf.to_vec()) };
        let algorithm = leaf.key_algorithm();
        let has = |part: &[u8]| algorithm.windows(part.len()).any(|window| window == part);
        let rank = if has(RSA) {
            0
        } else if has(EC) {
            1
        } else {
            2
        };
        Self(rank, algorithm.to_vec())
    }
}
