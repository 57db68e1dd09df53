//! The files that mod_ssl will load, according to its directives.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::check::Certificates;
use hpkp_core::finding::{Code, Location, Text};
use hpkp_core::path::{CertificateFile, Chain};
use hpkp_core::published::Fingerprint;
use hpkp_core::text::Excerpt;

use super::{ManagedDomains, OtherTls, Server};
use crate::certificate_file::certificates_in;
use crate::file;
use crate::kept::KeptContext;
use crate::loader::{Loader, NamedChain};
use crate::openssl::{ChainSource, OpenSsl, PairError};

/// The directives of mod_ssl in one place.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    engine: Option<bool>,
    certificates: Vec<String>,
    /// The key files, in the same order. A certificate without a key file has the key in its own file.
    keys: Vec<String>,
    chain: Option<String>,
    /// The authorities for client certificates. OpenSSL also takes a missing chain from there.
    authorities: Option<String>,
    directory_of_authorities: Option<String>,
    /// The `SSLOpenSSLConfCmd` directives, in order.
    commands: Vec<Command>,
}

/// An `SSLOpenSSLConfCmd` that changes which certificates are sent.
#[derive(Clone, Debug)]
enum Command {
    /// A file with a leaf and its chain, loaded after all others.
    Certificate(String),
    /// The source of a missing chain, in place of the authorities.
    Chain(ChainSource),
    /// A source of a missing chain that cannot be read here; the name of the command and its place.
    Unreadable(String, Location),
    /// A file with a key, loaded after all others.
    Key,
}

/// The directives of mod_ssl and mod_md in the whole configuration. A `P` is the place of a virtual host.
#[derive(Debug)]
pub struct TlsDirectives<P> {
    /// The directives outside all virtual hosts.
    pub main: Tls,
    /// The directives of virtual hosts.
    pub hosts: HashMap<P, Tls>,
    /// The directives of mod_md.
    pub managed: ManagedDomains,
    /// Servers that have TLS from another module.
    pub others: OtherTls,
}

/// Whether mod_ssl accepts the file that a directive names: when it reads the directive, it refuses a file that does
/// not exist or is empty.
#[must_use]
pub fn is_file_with_content(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() != 0)
}

impl<P: Eq + Hash> TlsDirectives<P> {
    /// No directives yet.
    #[must_use]
    pub fn new(managed: ManagedDomains) -> Self {
        Self { main: Tls::default(), hosts: HashMap::new(), managed, others: OtherTls::default() }
    }

    fn of(&self, place: &P) -> Tls {
        match self.hosts.get(place) {
            Some(own) => own.merged(&self.main),
            None => self.main.clone(),
        }
    }

    /// Adds the file names to the certificates that mod_ssl has loaded for a server: the file of a chain is the one
    /// that begins with its leaf. A file that was replaced since then is not named. `leaves` caches the leaves that
    /// were read.
    #[must_use]
    pub fn named<H>(
        &self,
        server: &Server<H>,
        place: &P,
        loaded: Certificates,
        leaves: &mut HashMap<String, Option<Fingerprint>>,
    ) -> Certificates {
        let Certificates::Loaded(chains) = loaded else { return loaded };
        let tls = self.of(place);
        let own = tls.certificates.iter().enumerate();
        let mut files: Vec<(String, String)> = own
            .map(|(index, path)| (path.clone(), tls.keys.get(index).unwrap_or(path).clone()))
            .collect();
        let managed = self.managed.files(server).and_then(Result::ok);
        let commanded = tls.commands.into_iter().filter_map(|command| match command {
            Command::Certificate(path) => Some(path),
            _ => None,
        });
        let others = managed.into_iter().flatten().chain(commanded);
        files.extend(others.map(|path| (path.clone(), path)));
        let chain = |chain: Chain| {
            let leaf = Some(chain.leaf().fingerprint());
            let found = files.iter().find(|(path, _)| {
                *leaves.entry(path.clone()).or_insert_with(|| leaf_in(path)) == leaf
            });
            let file = found.map(|(path, key)| {
                let keys = file::directory_of_keys(key);
                Arc::new(CertificateFile { path: path.clone(), keys })
            });
            chain.with_file(file)
        };
        Certificates::Loaded(chains.into_iter().map(chain).collect())
    }

    /// The settings for keeping the certificates of a server.
    #[must_use]
    pub fn kept<H>(&self, server: &Server<H>, place: &P) -> KeptContext {
        let tls = self.of(place);
        let obstacle = tls.is_commanded().then(|| {
            "SSLOpenSSLConfCmd Certificate and PrivateKey are loaded after all others, so that nothing can \
             take their place; use SSLCertificateFile and SSLCertificateKeyFile"
                .to_owned()
        });
        let own = tls.pairs().map(|(_, key)| key);
        let keys = own.chain(self.managed.keys(server)).cloned().collect();
        let managed = self.managed.files(server);
        let is_awaited =
            tls.certificates.is_empty() && matches!(managed, Some(Ok(files)) if files.is_empty());
        KeptContext { is_kept: server.settings.keep.unwrap_or(true), is_awaited, keys, obstacle }
    }

    /// Why mod_ssl will fail to load a certificate and key of a server, from its own directives or from mod_md.
    #[must_use]
    pub fn broken<H>(
        &self,
        server: &Server<H>,
        place: &P,
        openssl: &OpenSsl,
    ) -> Option<Certificates> {
        let tls = self.of(place);
        let managed = self.managed.pairs(server);
        let managed = managed.iter().map(|(certificate, key)| (certificate, key));
        tls.pairs().chain(managed).find_map(|(certificate, key)| {
            // A FIFO would make OpenSSL wait, and keys in a token cannot be tested. OpenSSL reports missing files.
            let is_other = |path: &String| fs::metadata(path).is_ok_and(|found| !found.is_file());
            if [certificate, key].iter().any(|path| path.starts_with("pkcs11:") || is_other(path)) {
                return None;
            }
            let why = openssl.try_pair(Path::new(certificate), Path::new(key)).err();
            let why = why.filter(|why| *why != PairError::PassPhrase)?;
            let text = format!(
                "cannot use the certificate in \"{}\" with the key in \"{}\": {why}",
                Excerpt::new(certificate),
                Excerpt::new(key)
            );
            Some(Certificates::Unusable(Code::UnreadableCertificate, Text::new(text)))
        })
    }

    /// The files of certificates and of keys that the directives name for a server.
    #[must_use]
    pub fn files(&self, place: &P) -> (Vec<String>, Vec<String>) {
        let tls = self.of(place);
        (tls.certificates, tls.keys)
    }

    /// The message of mod_ssl about the first of these files that does not exist or is empty, and the resulting state
    /// of the certificates.
    #[must_use]
    pub fn missing(&self, place: &P) -> Option<(String, Certificates)> {
        let (certificates, keys) = self.files(place);
        let all = (certificates.iter().map(|file| ("SSLCertificateFile", file)))
            .chain(keys.iter().map(|file| ("SSLCertificateKeyFile", file)));
        let is_there = |path: &str| path.starts_with("pkcs11:") || is_file_with_content(path);
        let (directive, file) = all.into_iter().find(|(_, file)| !is_there(file))?;
        let why = format!("the file \"{}\" does not exist or is empty", Excerpt::new(file));
        let unusable = Certificates::Unusable(Code::UnreadableCertificate, Text::new(why.clone()));
        Some((format!("{directive}: {why}"), unusable))
    }

    /// The certificates that mod_ssl will load for a server; none if the server is not on TLS. `listens_on_https` says
    /// whether a `Listen` directive sets the protocol `https` for a server without `SSLEngine`.
    pub fn certificates<H>(
        &self,
        server: &Server<H>,
        place: &P,
        listens_on_https: impl FnOnce() -> bool,
        loader: &mut Loader<'_>,
    ) -> Option<Certificates> {
        let tls = self.of(place);
        let is_tls =
            tls.engine.unwrap_or_else(|| !tls.certificates.is_empty() && listens_on_https());
        if !is_tls {
            return None;
        }
        let mut files = tls.certificates.clone();
        let mut chain = tls.chain.as_deref();
        if let Some(managed) = self.managed.files(server) {
            match managed {
                // If mod_md has no certificate yet, it presents a temporary one of its own.
                Ok(managed) if managed.is_empty() && files.is_empty() => {
                    return Some(NOT_YET);
                }
                Ok(managed) => {
                    chain = chain.filter(|_| managed.is_empty());
                    files.extend(managed);
                }
                Err(text) => {
                    let text = Text::new(text);
                    return Some(Certificates::Unusable(Code::UnreadableCertificate, text));
                }
            }
        }
        // mod_ssl does not start then, unless a module that is not known here has a certificate.
        if files.is_empty() && !tls.is_commanded() {
            return Some(Certificates::Later("no file has its certificate".to_owned()));
        }
        if let Some(token) = files.iter().find(|file| file.starts_with("pkcs11:")) {
            let what = format!("certificate \"{}\" is not in a file", Excerpt::new(token));
            return Some(Certificates::Later(what));
        }
        Some(match chains(&files, chain, &tls, loader) {
            Ok(chains) => loader.chains(chains),
            Err(unusable) => unusable,
        })
    }
}

/// The chains of a list of files, as mod_ssl loads them.
fn chains(
    files: &[String],
    chain_file: Option<&str>,
    tls: &Tls,
    loader: &mut Loader<'_>,
) -> Result<Vec<NamedChain>, Certificates> {
    let extra = match chain_file {
        Some(path) => {
            let mut extra = certificates_in(path)?;
            // If the chain file is also the certificate file, it begins with the leaf.
            if files.iter().any(|file| file == path) && !extra.is_empty() {
                extra.remove(0);
            }
            extra
        }
        None => Vec::new(),
    };
    let by_command = tls.commands.iter().filter_map(|command| match command {
        Command::Certificate(path) => Some((path, false)),
        _ => None,
    });
    // With a chain file, mod_ssl takes only the leaf from the certificate file.
    let all: Vec<(&String, bool)> =
        files.iter().map(|path| (path, chain_file.is_some())).chain(by_command).collect();
    // Of several certificates with the same type of key, OpenSSL uses the last.
    let mut by_type: Vec<(Vec<u8>, NamedChain)> = Vec::new();
    for (index, &(path, leaf_alone)) in all.iter().enumerate() {
        let mut chain = certificates_in(path)?;
        if chain.is_empty() {
            let text = format!("the file \"{}\" contains no certificate", Excerpt::new(path));
            return Err(Certificates::Unusable(Code::UnreadableCertificate, Text::new(text)));
        }
        if leaf_alone {
            chain.truncate(1);
        }
        if chain.len() == 1 {
            chain.extend(extra.iter().cloned());
        }
        if chain.len() == 1 {
            chain = completed(&chain[0], tls, loader)?;
        }
        let key_type = match all.len() {
            1 => Vec::new(),
            // A certificate that cannot be parsed is reported later.
            _ => Certificate::from_der(&chain[0])
                .map_or_else(|_| chain[0].clone(), |leaf| leaf.key_algorithm().to_vec()),
        };
        by_type.retain(|(earlier, _)| *earlier != key_type);
        let key = tls.keys.get(index).filter(|_| index < tls.certificates.len());
        let keys = file::directory_of_keys(key.unwrap_or(path));
        let file = CertificateFile { path: path.clone(), keys };
        by_type.push((key_type, (chain, Some(Arc::new(file)))));
    }
    Ok(by_type.into_iter().map(|(_, chain)| chain).collect())
}

/// The chain that OpenSSL will send for a leaf without a configured chain. OpenSSL builds it from the certificates for
/// chains or, if there are none, from the authorities for client certificates.
fn completed(
    leaf: &[u8],
    tls: &Tls,
    loader: &mut Loader<'_>,
) -> Result<Vec<Vec<u8>>, Certificates> {
    let mut sources = Vec::new();
    for command in &tls.commands {
        match command {
            Command::Chain(source) => sources.push(source.clone()),
            Command::Unreadable(name, at) => {
                let what = format!(
                    "only mod_ssl can read \"SSLOpenSSLConfCmd {name}\" (configured at {at})"
                );
                return Err(Certificates::Later(what));
            }
            Command::Certificate(_) | Command::Key => {}
        }
    }
    if sources.is_empty() {
        sources.extend(tls.authorities.clone().map(ChainSource::File));
        sources.extend(tls.directory_of_authorities.clone().map(ChainSource::Directory));
    }
    if sources.is_empty() {
        return Ok(vec![leaf.to_vec()]);
    }
    for source in &sources {
        // A FIFO would make OpenSSL wait.
        let is_there = fs::metadata(source.path()).is_ok_and(|found| match source {
            ChainSource::File(_) => found.is_file(),
            ChainSource::Directory(_) => found.is_dir(),
        });
        if !is_there {
            let path = Excerpt::new(source.path());
            let text = format!("cannot read \"{path}\", from which OpenSSL completes the chain");
            return Err(Certificates::Unusable(Code::UnreadableCertificate, Text::new(text)));
        }
    }
    loader.completed(leaf, sources).map_err(|(code, text)| Certificates::Unusable(code, text))
}

/// The certificates of a host for which mod_md has no certificate yet, at a test and at a start.
pub const NOT_YET: Certificates = Certificates::Temporary {
    why: Cow::Borrowed("mod_md has no certificate for this host yet"),
    remedy: "reload once it has one; the certificate is checked then",
};

impl Tls {
    /// Whether an `SSLOpenSSLConfCmd` loads a certificate or a key.
    fn is_commanded(&self) -> bool {
        let loads = |command: &Command| matches!(command, Command::Certificate(_) | Command::Key);
        self.commands.iter().any(loads)
    }

    /// The files of certificates and of their keys.
    fn pairs(&self) -> impl Iterator<Item = (&String, &String)> {
        let all = self.certificates.iter().enumerate();
        all.map(|(index, certificate)| (certificate, self.keys.get(index).unwrap_or(certificate)))
    }

    /// Reads a directive, whose name is in lower case. Directives of other modules are ignored.
    pub fn read(
        &mut self,
        name: &str,
        words: &[String],
        at: &Location,
        full_path: &dyn Fn(&str) -> String,
    ) {
        let Some(first) = words.first() else { return };
        let path = || full_path(first);
        match name {
            // `optional` waits for an HTTP upgrade before TLS; from 2.4.64 on it means `off`.
            "sslengine" => self.engine = Some(first.eq_ignore_ascii_case("on")),
            "sslcertificatefile" if first.starts_with("pkcs11:") => {
                self.certificates.push(first.clone());
            }
            "sslcertificatefile" => self.certificates.push(path()),
            "sslcertificatekeyfile" if first.starts_with("pkcs11:") => {
                self.keys.push(first.clone())
            }
            "sslcertificatekeyfile" => self.keys.push(path()),
            "sslcertificatechainfile" => self.chain = Some(path()),
            "sslcacertificatefile" => self.authorities = Some(path()),
            "sslcacertificatepath" => self.directory_of_authorities = Some(path()),
            "sslopensslconfcmd" => {
                let Some(value) = words.get(1) else { return };
                let path = full_path(value);
                // OpenSSL ignores the case of these names.
                self.commands.extend(match first.to_ascii_lowercase().as_str() {
                    "certificate" => Some(Command::Certificate(path)),
                    "chaincafile" => Some(Command::Chain(ChainSource::File(path))),
                    "chaincapath" => Some(Command::Chain(ChainSource::Directory(path))),
                    other if other.starts_with("chainca") => {
                        Some(Command::Unreadable(first.clone(), at.clone()))
                    }
                    "privatekey" => Some(Command::Key),
                    _ => None,
                });
            }
            _ => {}
        }
    }

    /// The directives of a virtual host, completed by those of the main server. Each certificate replaces the main
    /// server's certificate with the same number; mod_ssl has 256 places.
    fn merged(&self, main: &Self) -> Self {
        let own = self.certificates.len();
        let inherited = main.certificates.iter().skip(own);
        Self {
            engine: self.engine.or(main.engine),
            certificates: self.certificates.iter().chain(inherited).cloned().collect(),
            keys: self.keys.iter().chain(main.keys.iter().skip(self.keys.len())).cloned().collect(),
            chain: self.chain.clone().or_else(|| main.chain.clone()),
            authorities: self.authorities.clone().or_else(|| main.authorities.clone()),
            directory_of_authorities: (self.directory_of_authorities.clone())
                .or_else(|| main.directory_of_authorities.clone()),
            // The commands of the main server come first.
            commands: main.commands.iter().chain(&self.commands).cloned().collect(),
        }
    }
}

/// The certificate with which a file begins, if it can be read.
fn leaf_in(path: &str) -> Option<Fingerprint> {
    let certificates = certificates_in(path).ok()?;
    Some(Certificate::from_der(certificates.first()?).ok()?.fingerprint())
}
