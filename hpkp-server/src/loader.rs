//! Loads certificates and trust anchors for the core's check. Each file and each certificate is read once.

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::Arc;

use hpkp_core::certificate::{Certificate, CertificateError};
use hpkp_core::check::{Certificates, Deployment, TrustSetting, Verdict, check};
use hpkp_core::finding::{Code, Location, Text};
use hpkp_core::path::{CertificateFile, Chain, Trust, VerifySignature};
use hpkp_core::policy::{Policy, PolicySpec};
use hpkp_core::spki;
use hpkp_core::text::Excerpt;

use crate::openssl::{ChainSource, ChainStore, NameAddress, OpenSsl, OpenSslError, SslCtx};
use crate::{file, trust};

/// Reads certificates and trust anchors.
#[derive(Debug)]
pub struct Loader<'a> {
    openssl: Result<&'a OpenSsl, &'a OpenSslError>,
    certificates: HashMap<Vec<u8>, Result<Arc<Certificate>, CertificateError>>,
    /// Trust anchors, by the file that the configuration adds.
    trust: HashMap<Option<String>, Arc<TrustSetting>>,
    /// Stores for chains, by their sources. Most servers share them.
    chain_stores: HashMap<Vec<ChainSource>, Result<ChainStore<'a>, ChainSource>>,
    names: Option<Names>,
}

/// A chain in DER, the leaf first, and the file of the leaf.
pub type NamedChain = (Vec<Vec<u8>>, Option<Arc<CertificateFile>>);

/// The data that a server attaches to a certificate to remember its file.
#[derive(Debug)]
pub struct Names {
    /// The index of the data.
    pub index: c_int,
    /// The files, by the data.
    pub files: HashMap<NameAddress, Arc<CertificateFile>>,
}

impl<'a> Loader<'a> {
    /// `openssl` is the server's own.
    #[must_use]
    pub fn new(openssl: Result<&'a OpenSsl, &'a OpenSslError>) -> Self {
        let (certificates, trust) = (HashMap::new(), HashMap::new());
        Self { openssl, certificates, trust, chain_stores: HashMap::new(), names: None }
    }

    /// The same, for a server that attaches the file names to its certificates.
    #[must_use]
    pub fn with_names(self, names: Names) -> Self {
        Self { names: Some(names), ..self }
    }

    /// The certificates of a context.
    ///
    /// # Safety
    /// `context` is a live `SSL_CTX` of the OpenSSL that the loader was made with, and no other
    /// thread changes it meanwhile.
    pub unsafe fn loaded(&mut self, context: *mut SslCtx) -> Certificates {
        let openssl = match self.openssl {
            Ok(openssl) => openssl,
            Err(error) => {
                let text = Text::new(error.to_string());
                return Certificates::Unusable(Code::UnsupportedOpenssl, text);
            }
        };
        let index = self.names.as_ref().map(|names| names.index);
        // SAFETY: by the caller's promise.
        let chains = unsafe { openssl.chains(context, index) };
        let file =
            |name: Option<NameAddress>| Some(self.names.as_ref()?.files.get(&name?)?.clone());
        let chains = chains.into_iter().map(|chain| (chain.certificates, file(chain.name)));
        self.chains(chains.collect())
    }

    /// Parses chains.
    pub fn chains(&mut self, chains: Vec<NamedChain>) -> Certificates {
        let chain = |(chain, file)| Ok(self.chain(chain)?.with_file(file));
        let chains: Result<Vec<Chain>, (Code, Text)> = chains.into_iter().map(chain).collect();
        match chains {
            Ok(chains) => Certificates::Loaded(chains),
            Err((code, text)) => Certificates::Unusable(code, text),
        }
    }

    /// The chain that OpenSSL will build and send for `leaf`, in DER, from these sources of certificates.
    ///
    /// # Errors
    /// A source cannot be read, or OpenSSL cannot be used.
    pub fn completed(
        &mut self,
        leaf: &[u8],
        sources: Vec<ChainSource>,
    ) -> Result<Vec<Vec<u8>>, (Code, Text)> {
        let openssl = self
            .openssl
            .map_err(|error| (Code::UnsupportedOpenssl, Text::new(error.to_string())))?;
        let read = |sources: &Vec<ChainSource>| openssl.chain_store(sources);
        match self.chain_stores.entry(sources).or_insert_with_key(read) {
            Ok(store) => Ok(store.chain_of(leaf)),
            Err(source) => {
                let path = Excerpt::new(source.path());
                let text = format!("OpenSSL cannot read the certificates in \"{path}\"");
                Err((Code::UnreadableCertificate, Text::new(text)))
            }
        }
    }

    fn chain(&mut self, chain: Vec<Vec<u8>>) -> Result<Chain, (Code, Text)> {
        let certificates: Result<Vec<Arc<Certificate>>, CertificateError> =
            chain.into_iter().map(|der| self.certificate(der)).collect();
        let certificates = certificates.map_err(|error| {
            let code = match error {
                CertificateError::TooLarge => Code::OversizedInput,
                CertificateError::Malformed => Code::UnreadableCertificate,
            };
            let text = format!("{error}, so the loaded certificates cannot be compared with pins");
            (code, Text::new(text))
        })?;
        Chain::new(certificates).ok_or_else(|| {
            let text = format!("the certificate chain has more than {} certificates", Chain::MAX);
            (Code::OversizedInput, Text::new(text))
        })
    }

    fn certificate(&mut self, der: Vec<u8>) -> Result<Arc<Certificate>, CertificateError> {
        self.certificates
            .entry(der)
            .or_insert_with_key(|der| Certificate::from_der(der).map(Arc::new))
            .clone()
    }

    /// The system's store, if it has been read.
    #[must_use]
    pub fn system(&self) -> Option<Arc<TrustSetting>> {
        self.trust.get(&None).cloned()
    }

    /// Uses the system's store that another loader has just read.
    pub fn adopt_system(&mut self, system: Arc<TrustSetting>) {
        self.trust.insert(None, system);
    }

    /// The anchors of the system's store and those in the file that the configuration adds, with
    /// the place of its directive.
    pub fn trust(&mut self, added: Option<&(String, Location)>) -> Arc<TrustSetting> {
        let path = added.map(|(path, _)| path.clone());
        if let Some(trust) = self.trust.get(&path) {
            return trust.clone();
        }
        let (system, skipped) = match (added, self.openssl) {
            (Some(_), _) => {
                let system = self.trust(None);
                (system.trust.system.clone(), system.skipped.clone())
            }
            (None, Ok(openssl)) => {
                let (anchors, skipped) = openssl.system_store().read();
                (Arc::new(anchors), skipped.into_iter().collect())
            }
            (None, Err(_)) => Default::default(),
        };
        let mut setting =
            TrustSetting { trust: Trust { system, added: None }, problem: None, skipped };
        if let Some((path, at)) = added {
            match trust::read_added(path, Some(at)) {
                Ok((added, skipped)) => {
                    setting.trust.added = Some(Arc::new(added));
                    setting.skipped.extend(skipped);
                }
                Err((code, text)) => setting.problem = Some((code, text, at.clone())),
            }
        }
        let setting = Arc::new(setting);
        self.trust.insert(path, setting.clone());
        setting
    }

    /// Replaces the keywords of `deployment`, and checks it at the present time.
    #[must_use]
    pub fn check(&self, deployment: &mut Deployment) -> Verdict {
        deployment.bind_keywords();
        match self.openssl {
            Ok(openssl) => check(deployment, now(), openssl),
            Err(_) => check(deployment, now(), &NoSignatures),
        }
    }
}

/// Reads the files that the policies name.
#[must_use]
pub fn resolve(policies: &[PolicySpec]) -> Vec<Policy> {
    let read = |path: &str| file::read(path, spki::MAX_FILE).map_err(|error| error.to_string());
    policies.iter().map(|policy| policy.clone().resolve(read)).collect()
}

/// Seconds since 1970 UTC; 0 if the clock is before that, so that nothing has expired.
pub(crate) fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok().and_then(|now| i64::try_from(now.as_secs()).ok()).unwrap_or(0)
}

/// Verifies no signature, for the case that OpenSSL cannot be used. No certificate is loaded then either.
struct NoSignatures;

impl VerifySignature for NoSignatures {
    fn is_signed_by(&self, _: &Certificate, _: &Certificate) -> bool {
        false
    }
}
