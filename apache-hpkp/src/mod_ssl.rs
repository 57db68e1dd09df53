//! What `-t` sees: no certificate is loaded there, so the files that mod_ssl is going to load are
//! read. Its directives are found in the tree that httpd made of the configuration, where they stand
//! with all macros, variables and included files in their places.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::c_char;
use std::fs;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::check::Certificates;
use hpkp_core::finding::{Code, Location, Text};
use hpkp_core::path::{CertificateFile, Chain};
use hpkp_core::pem;
use hpkp_core::published::Fingerprint;
use hpkp_core::text::Excerpt;
use hpkp_server::file;
use hpkp_server::loader::{Loader, NamedChain};
use hpkp_server::openssl::ChainSource;

use crate::bindings::{ap_conftree, ap_directive_t, apr_pool_t};
use crate::cstr;
use crate::httpd;
use crate::mod_md::ManagedDomains;
use crate::vhost::Server;

/// The largest file of certificates, in octets. mod_ssl has no such limit; the longest chain that is
/// accepted takes a hundredth of it.
const MAX_FILE: usize = 32 << 20;

/// What the directives of mod_ssl say in one place.
#[derive(Clone, Debug, Default)]
struct Tls {
    engine: Option<bool>,
    certificates: Vec<String>,
    /// The files of their keys, in the same order; a certificate without one has the key in its file.
    keys: Vec<String>,
    chain: Option<String>,
    /// Trusted for client certificates; OpenSSL takes a missing chain from there too.
    authorities: Option<String>,
    directory_of_authorities: Option<String>,
    /// What is said in OpenSSL's own terms, in order.
    commands: Vec<Command>,
}

/// An `SSLOpenSSLConfCmd` that changes which certificates are sent.
#[derive(Clone, Debug)]
enum Command {
    /// A file with a leaf and its chain, loaded behind all others.
    Certificate(String),
    /// Where a missing chain is taken from, in place of the authorities.
    Chain(ChainSource),
    /// The same, from where we cannot look; its name and where it stands.
    Unseen(String, Location),
}

/// A virtual host by its directive: the address of the file's name, of which httpd makes one each
/// time it opens the file, and the line.
type Place = (*const c_char, u32);

/// The directives of mod_ssl and mod_md in the whole configuration.
pub(crate) struct TlsDirectives {
    main: Tls,
    hosts: HashMap<Place, Tls>,
    managed: ManagedDomains,
    pool: *mut apr_pool_t,
}

impl TlsDirectives {
    /// # Safety
    /// The configuration has just been read, and `pool` is live as long as the result.
    pub(crate) unsafe fn read(pool: *mut apr_pool_t) -> Self {
        let mut this = Self {
            main: Tls::default(),
            hosts: HashMap::new(),
            managed: ManagedDomains::default(),
            pool,
        };
        // SAFETY: by the caller's promise; the tree lives as long as the configuration.
        unsafe {
            for directive in httpd::siblings(ap_conftree) {
                let name = cstr::text(directive.directive);
                if name.eq_ignore_ascii_case("<VirtualHost") {
                    let place = (directive.filename, directive.line_num as u32);
                    let tls = this.hosts.entry(place).or_default();
                    for inner in httpd::siblings(directive.first_child) {
                        tls.read(inner, pool);
                        this.managed.read(inner, pool);
                    }
                } else {
                    this.main.read(directive, pool);
                    this.managed.read(directive, pool);
                }
            }
        }
        this
    }

    fn of(&self, server: &Server) -> Tls {
        // SAFETY: the server is one of the configuration just read.
        let place = unsafe { ((*server.record).defn_name, (*server.record).defn_line_number) };
        match self.hosts.get(&place) {
            Some(own) => own.merged(&self.main),
            None => self.main.clone(),
        }
    }

    /// What mod_ssl has loaded for a server, with the files that it is from: those that begin with the
    /// very leaf. One that has been replaced since then is not named. `leaves` are those read so far.
    pub(crate) fn named(
        &self,
        server: &Server,
        loaded: Certificates,
        leaves: &mut HashMap<String, Option<Fingerprint>>,
    ) -> Certificates {
        let Certificates::Loaded(chains) = loaded else { return loaded };
        let tls = self.of(server);
        let own = tls.certificates.iter().enumerate();
        let mut files: Vec<(String, String)> = own
            .map(|(index, path)| (path.clone(), tls.keys.get(index).unwrap_or(path).clone()))
            .collect();
        let managed = self.managed.files(server, self.pool).and_then(Result::ok);
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

    /// What mod_ssl is going to load for a server; none where it is not on TLS.
    pub(crate) fn certificates(
        &self,
        server: &Server,
        loader: &mut Loader<'_>,
    ) -> Option<Certificates> {
        let tls = self.of(server);
        let is_tls =
            tls.engine.unwrap_or_else(|| !tls.certificates.is_empty() && server.listens_on_https());
        if !is_tls {
            return None;
        }
        let mut files = tls.certificates.clone();
        let mut chain = tls.chain.as_deref();
        if let Some(managed) = self.managed.files(server, self.pool) {
            match managed {
                // A directory of mod_md may have none yet, then it has one of its own for a while.
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
            // A chain file that is the certificate's own begins with the leaf.
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
    // With a chain file mod_ssl takes the leaf alone from a certificate's own.
    let all: Vec<(&String, bool)> =
        files.iter().map(|path| (path, chain_file.is_some())).chain(by_command).collect();
    // Of several certificates of one type of key, OpenSSL has the last.
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
            // What cannot be parsed is said later.
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

/// What OpenSSL will send of a leaf for which no chain is configured: what it finds above it among the
/// certificates that are there for chains or, without such, among the authorities for client
/// certificates.
fn completed(
    leaf: &[u8],
    tls: &Tls,
    loader: &mut Loader<'_>,
) -> Result<Vec<Vec<u8>>, Certificates> {
    let mut sources = Vec::new();
    for command in &tls.commands {
        match command {
            Command::Chain(source) => sources.push(source.clone()),
            Command::Unseen(name, at) => {
                let what = format!(
                    "only mod_ssl can read \"SSLOpenSSLConfCmd {name}\" (configured at {at})"
                );
                return Err(Certificates::Later(what));
            }
            Command::Certificate(_) => {}
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

/// Said where mod_md has no certificate yet, at a test as at a start.
pub(crate) const NOT_YET: Certificates = Certificates::NotKnown {
    why: Cow::Borrowed("mod_md has no certificate for this host yet"),
    remedy: "reload once it has one; the certificate is checked then",
};

impl Tls {
    /// # Safety
    /// As for [`words`].
    unsafe fn read(&mut self, directive: &ap_directive_t, pool: *mut apr_pool_t) {
        // SAFETY: by the caller's promise.
        unsafe {
            let name = cstr::text(directive.directive).to_ascii_lowercase();
            if !name.starts_with("ssl") {
                return;
            }
            let words = httpd::words(pool, directive.args);
            let Some(first) = words.first() else { return };
            let path = || httpd::full_path(pool, first);
            match name.as_str() {
                "sslengine" => self.engine = Some(!first.eq_ignore_ascii_case("off")),
                "sslcertificatefile" if first.starts_with("pkcs11:") => {
                    self.certificates.push(first.clone());
                }
                "sslcertificatefile" => self.certificates.push(path()),
                "sslcertificatekeyfile" => self.keys.push(path()),
                "sslcertificatechainfile" => self.chain = Some(path()),
                "sslcacertificatefile" => self.authorities = Some(path()),
                "sslcacertificatepath" => self.directory_of_authorities = Some(path()),
                "sslopensslconfcmd" => {
                    let Some(value) = words.get(1) else { return };
                    let path = httpd::full_path(pool, value);
                    // OpenSSL does not tell upper from lower case here.
                    self.commands.extend(match first.to_ascii_lowercase().as_str() {
                        "certificate" => Some(Command::Certificate(path)),
                        "chaincafile" => Some(Command::Chain(ChainSource::File(path))),
                        "chaincapath" => Some(Command::Chain(ChainSource::Directory(path))),
                        other if other.starts_with("chainca") => {
                            Some(Command::Unseen(first.clone(), httpd::location(directive)))
                        }
                        _ => None,
                    });
                }
                _ => {}
            }
        }
    }

    /// A virtual host's directives and, where it says nothing, the main server's. Of certificates,
    /// each takes the place of the main server's of the same number; mod_ssl knows 256 places.
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
            // The main server's come first.
            commands: main.commands.iter().chain(&self.commands).cloned().collect(),
        }
    }
}

/// The certificate with which a file begins, where it can be read.
fn leaf_in(path: &str) -> Option<Fingerprint> {
    let certificates = certificates_in(path).ok()?;
    Some(Certificate::from_der(certificates.first()?).ok()?.fingerprint())
}

/// The certificates in a PEM file, in DER. Other objects in it are passed over, as OpenSSL does.
fn certificates_in(path: &str) -> Result<Vec<Vec<u8>>, Certificates> {
    let excerpt = Excerpt::new(path);
    let unusable = |code, what: &str| {
        let text = format!("cannot use the certificates in \"{excerpt}\": {what}");
        Certificates::Unusable(code, Text::new(text))
    };
    let unreadable = |what: &str| unusable(Code::UnreadableCertificate, what);
    let octets = file::read(path, MAX_FILE).map_err(|error| unreadable(&error.to_string()))?;
    if octets.len() > MAX_FILE {
        let what = format!("larger than {MAX_FILE} bytes");
        return Err(unusable(Code::OversizedInput, &what));
    }
    let mut certificates = Vec::new();
    for block in pem::blocks(&octets) {
        let block = block.map_err(|_| unreadable("truncated"))?;
        if matches!(block.label, b"CERTIFICATE" | b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE") {
            let der = block.decode().map_err(|_| unreadable("invalid base64"))?;
            certificates.push(der);
        }
    }
    Ok(certificates)
}
