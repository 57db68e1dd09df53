//! Certificates that are chosen during the handshake: finds the keys on their candidate paths. A worker does this once
//! for each chain.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hpkp_core::certificate::Certificate;
use hpkp_core::check::TrustSetting;
use hpkp_core::path::{Chain, Paths};
use hpkp_core::pin::Pin;
use hpkp_core::published::Fingerprint;

use crate::openssl::OpenSsl;
use crate::presented::{Origin, Presented};

/// The most chains that a worker remembers, since a server presents only a few. Beyond that it forgets all of them.
const MAX_KNOWN: usize = 256;

/// How long a worker remembers a chain, in seconds: a certificate that expires may change the paths.
const TTL: i64 = 3600;

/// Finds the keys of the certificates that are chosen for one context.
#[derive(Debug)]
pub struct ChosenCertificates {
    trust: Arc<TrustSetting>,
    known: Mutex<HashMap<Fingerprint, (Presented, i64)>>,
}

impl ChosenCertificates {
    /// For a server whose clients trust these anchors.
    #[must_use]
    pub fn new(trust: Arc<TrustSetting>) -> Self {
        Self { trust, known: Mutex::default() }
    }

    /// The data about a chain that the TLS session keeps. The chain is in DER, its leaf first; `now` is in seconds
    /// since 1970 UTC.
    pub(crate) fn presented(&self, chain: &[Vec<u8>], openssl: &OpenSsl, now: i64) -> Presented {
        let id = Fingerprint::of(chain.iter().map(Vec::as_slice));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |at: i64| (0..TTL).contains(&now.saturating_sub(at));
        if let Some((presented, _)) = known.get(&id).filter(|(_, at)| is_fresh(*at)) {
            return presented.clone();
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let pins = self.pins(chain, openssl, now);
        let presented = Presented::new(Origin::Chosen, &pins);
        known.insert(id, (presented.clone(), now));
        presented
    }

    /// The keys on the candidate paths of a chain, the leaf's first; none if a certificate cannot be read.
    fn pins(&self, chain: &[Vec<u8>], openssl: &OpenSsl, now: i64) -> Vec<Pin> {
        let read = |der: &Vec<u8>| Certificate::from_der(der).ok().map(Arc::new);
        let certificates: Option<Vec<Arc<Certificate>>> = chain.iter().map(read).collect();
        let Some(chain) = certificates.and_then(Chain::new) else { return Vec::new() };
        let paths = Paths::new(&chain, &self.trust.trust, openssl, now);
        let on_path = paths.certificates().into_iter().filter(|one| one.on_path);
        on_path.filter_map(|one| one.certificate.pin()).collect()
    }
}
