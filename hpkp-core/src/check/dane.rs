//! Compares TLSA records with the presented certificates as OpenSSL does (`dane_verify`, `build_chain`).
//!
//! Records that match the leaf come first; one of usage 3 needs neither a name nor a path. For all other records the
//! certificate must be valid for the name. A client with records of usage 0 or 1 searches its trust store before the
//! sent certificates, and does not match usage 2 against a certificate from its store.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Certificates, Context, Deployment, Host};
use crate::certificate::Certificate;
use crate::path::{Paths, Trust, Verified};
use crate::published::tlsa::{matching, selector, usage};
use crate::published::{Fingerprint, HostName, KeyGraph, PinValidation, Presented, Rrset, Tlsa};

/// One chain that a server sends, with the paths that a client may build from it.
pub(super) struct Evidence {
    /// The certificates of the paths, the leaf first.
    certificates: Vec<Node>,
    /// Their keys, in the same order, and who issued whom.
    keys: KeyGraph,
}

struct Node {
    certificate: Arc<Certificate>,
    /// Whether it has the name and key of a trust anchor.
    is_trusted: bool,
    /// The trust anchors in TLSA records that have signed it, and whether each is also in the client's store.
    signers: Vec<(Arc<Signer>, bool)>,
}

/// A trust anchor that a TLSA record contains in full, so that the server need not send it
/// (RFC 7671 section 5.2.2).
pub(super) struct Signer {
    data: Vec<u8>,
    selector: u8,
    certificate: Arc<Certificate>,
}

/// The trust anchors that TLSA records contain in full.
pub(super) fn anchors(sets: &[&Rrset]) -> Vec<Arc<Signer>> {
    let records = sets.iter().flat_map(|set| set.counted());
    let whole = records.filter(|one| (one.usage, one.matching) == (usage::DANE_TA, matching::FULL));
    let whole: BTreeSet<&Tlsa> = whole.collect();
    let signer = |record: &Tlsa| {
        let der = match record.selector {
            selector::CERTIFICATE => record.data.clone(),
            _ => carrying(&record.data),
        };
        let certificate = Arc::new(Certificate::from_der(&der).ok()?);
        Some(Arc::new(Signer { data: record.data.clone(), selector: record.selector, certificate }))
    };
    whole.into_iter().filter_map(signer).collect()
}

/// The chains that a host presents.
pub(super) fn evidence(
    deployment: &Deployment,
    paths: &[Vec<Paths>],
    host: &Host,
    signers: &[Arc<Signer>],
    verified: &Verified<'_>,
) -> Vec<Evidence> {
    let mut all = Vec::new();
    for &context in &host.contexts {
        let Context { certificates: Certificates::Loaded(_), trust } =
            &deployment.contexts[context]
        else {
            continue;
        };
        let paths = paths[context].iter();
        all.extend(paths.filter_map(|paths| of_chain(paths, &trust.trust, signers, verified)));
    }
    all
}

fn of_chain(
    paths: &Paths,
    trust: &Trust,
    signers: &[Arc<Signer>],
    verified: &Verified<'_>,
) -> Option<Evidence> {
    let keys = paths.keys()?;
    let node = |(certificate, is_trusted): (&Arc<Certificate>, bool)| {
        let signs = |signer: &&Arc<Signer>| {
            let is_named = signer.selector == selector::KEY
                || signer.certificate.subject_name() == certificate.issuer_name();
            is_named && verified.is_signed_by(certificate, &signer.certificate)
        };
        let is_stored = |signer: &Signer| {
            let mut named = trust.named(signer.certificate.subject_name());
            named.any(|anchor| anchor.certificate.same_subject_and_key(&signer.certificate))
        };
        let signers = signers.iter().filter(signs).map(|one| (one.clone(), is_stored(one)));
        Node { certificate: certificate.clone(), is_trusted, signers: signers.collect() }
    };
    Some(Evidence { certificates: paths.usable().map(node).collect(), keys })
}

/// The validation of a host by the chain that matches the records worst: the client chooses the chain.
pub(super) fn meet<'a>(
    set: &Rrset,
    host: &HostName,
    evidence: impl Iterator<Item = &'a Evidence>,
) -> PinValidation {
    evidence.map(|one| one.meet(set, host)).min().unwrap_or(PinValidation::Succeeds)
}

impl Evidence {
    /// Whether the chain is the one that a host presents as `one`. Chains with the same leaf and the same keys are
    /// judged together.
    pub(super) fn is_of(&self, one: &Presented) -> bool {
        let leaf = self.certificates.first().map(|leaf| leaf.certificate.fingerprint());
        let is_leaf = one.identity.as_ref().is_none_or(|identity| identity.leaf == leaf);
        is_leaf && self.keys == one.keys
    }

    /// Whether its leaf is valid for the host name.
    pub(super) fn is_for(&self, host: &HostName) -> bool {
        self.certificates.first().is_none_or(|leaf| leaf.certificate.is_for(host.as_str()))
    }

    fn meet(&self, set: &Rrset, host: &HostName) -> PinValidation {
        let counted = set.counted();
        // A client that can use none of the records connects without DANE.
        let (Some(leaf), false) = (self.certificates.first(), counted.is_empty()) else {
            return PinValidation::Succeeds;
        };
        let is_leaf = |usage: u8| {
            let mut of = counted.iter().filter(|one| one.usage == usage);
            of.any(|one| one.is_of(&leaf.certificate))
        };
        if is_leaf(usage::DANE_EE) {
            return PinValidation::Succeeds;
        }
        if !leaf.certificate.is_for(host.as_str()) {
            return PinValidation::Fails;
        }
        if is_leaf(usage::PKIX_EE) {
            return PinValidation::Succeeds;
        }
        self.meet_sent(&counted).max(self.meet_on_path(&counted))
    }

    /// Validation by a CA (usage 2) that the server sends or that a record contains in full.
    fn meet_sent(&self, counted: &[&Tlsa]) -> PinValidation {
        let has_pkix = counted.iter().any(|one| one.usage <= usage::PKIX_EE);
        let records: Vec<&&Tlsa> =
            counted.iter().filter(|one| one.usage == usage::DANE_TA).collect();
        let nodes = self.keys.nodes();
        let is_last = |at: usize| !nodes[at].issuers.iter().any(|issuer| nodes[*issuer].served);
        self.keys.meet_at(true, |at| {
            let node = &self.certificates[at];
            let is_here = at > 0 && !(has_pkix && node.is_trusted);
            let is_sent = is_here && records.iter().any(|one| one.is_of(&node.certificate));
            let is_signed = |(signer, is_stored): &(Arc<Signer>, bool)| {
                let is_named = records.iter().any(|one| {
                    (one.matching, one.selector) == (matching::FULL, signer.selector)
                        && one.data == signer.data
                });
                // A client that searches its trust store takes an anchor from there, not from a record. It tries a
                // record with only a key where no certificate continues the path.
                let continues = match signer.selector {
                    selector::CERTIFICATE => !(has_pkix && *is_stored),
                    _ => has_pkix || is_last(at),
                };
                is_named && continues
            };
            is_sent || node.signers.iter().any(is_signed)
        })
    }

    /// Validation by a CA (usage 0) on the path that the client validates.
    fn meet_on_path(&self, counted: &[&Tlsa]) -> PinValidation {
        let records: Vec<&&Tlsa> =
            counted.iter().filter(|one| one.usage == usage::PKIX_TA).collect();
        self.keys.meet_at(false, |at| {
            at > 0 && records.iter().any(|one| one.is_of(&self.certificates[at].certificate))
        })
    }
}

/// The validation of recorded certificates against TLSA records. A record of presented certificates has the pins of
/// the keys and this software's own hashes of the certificates, not the certificates. A TLSA record that cannot be
/// compared with those counts as matching on some paths.
pub(super) fn meet_recorded(set: &Rrset, certificates: &[Presented]) -> PinValidation {
    certificates.iter().map(|one| meet_presented(set, one)).min().unwrap_or(PinValidation::Succeeds)
}

fn meet_presented(set: &Rrset, one: &Presented) -> PinValidation {
    let counted = set.counted();
    if counted.is_empty() {
        return PinValidation::Succeeds;
    }
    let nodes = one.keys.nodes();
    let leaf = one.identity.as_ref().and_then(|identity| identity.leaf);
    // Whether a TLSA record matches the node; `None` if that cannot be told.
    let is_of = |record: &Tlsa, at: usize| match (record.pin(), record.matching) {
        (Some(pin), _) => Some(nodes[at].pin == Some(pin)),
        (None, matching::FULL) if at == 0 => {
            leaf.map(|leaf| leaf == Fingerprint::of([&record.data[..]]))
        }
        _ => None,
    };
    let mut met = PinValidation::Fails;
    for record in counted {
        let of = match record.usage {
            usage::PKIX_EE | usage::DANE_EE => match is_of(record, 0) {
                Some(true) => PinValidation::Succeeds,
                Some(false) => PinValidation::Fails,
                None => PinValidation::DependsOnPath,
            },
            // The record may contain an anchor that the server does not send.
            usage::DANE_TA if record.matching == matching::FULL => PinValidation::DependsOnPath,
            of => {
                let served_only = of == usage::DANE_TA;
                let is_any = |at: usize| is_of(record, at).unwrap_or(true);
                let sure =
                    one.keys.meet_at(served_only, |at| at > 0 && is_of(record, at) == Some(true));
                let perhaps = one.keys.meet_at(served_only, |at| at > 0 && is_any(at));
                sure.max(perhaps.min(PinValidation::DependsOnPath))
            }
        };
        met = met.max(of);
    }
    met
}

/// A certificate in DER with this key and empty names. A TLSA record may contain only a key, but libraries verify a
/// signature with the key of a certificate.
fn carrying(spki: &[u8]) -> Vec<u8> {
    // sha256WithRSAEncryption. Nothing reads it, but the syntax requires an algorithm.
    const ALGORITHM: &[u8] = b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";
    const TIME: &[u8] = b"\x17\x0d700101000000Z";
    let validity = sequence(&[TIME, TIME].concat());
    let body = [b"\x02\x01\x01", ALGORITHM, b"\x30\x00", &validity, b"\x30\x00", spki].concat();
    sequence(&[&sequence(&body)[..], ALGORITHM, b"\x03\x02\x00\x00"].concat())
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut der = match length {
        0..=0x7f => vec![0x30, length.to_be_bytes()[7]],
        _ => {
            let bytes = length.to_be_bytes();
            let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
            let count = (bytes.len() - first).to_be_bytes();
            [&[0x30, 0x80 | count[count.len() - 1]][..], &bytes[first..]].concat()
        }
    };
    der.extend(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_key_is_wrapped_in_a_certificate() {
        // A P-256 key: its header, and bytes that need not be a point on the curve.
        let header =
            b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\
            \x03\x01\x07\x03\x42\x00\x04";
        let spki = [&header[..], &[7; 64]].concat();
        let certificate = Certificate::from_der(&carrying(&spki)).unwrap();
        assert_eq!(certificate.spki(), spki);
    }
}
