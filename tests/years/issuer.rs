//! A CA that issues at once: a root, two intermediates, and certificates of any key for any time.

use std::collections::HashMap;

use hpkp_core::pin::Pin;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Name};

use hpkp_tests::clock::DAY;

/// The pin of a key, worked out by OpenSSL.
pub fn pin<T: HasPublic>(key: &PKeyRef<T>) -> Pin {
    let der = key.public_key_to_der().expect("a key");
    let digest = hash(MessageDigest::sha256(), &der).expect("a hash");
    Pin::from_bytes(digest.as_ref().try_into().expect("32 bytes"))
}

pub fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

struct Ca {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate and its key, as the server gets them.
#[derive(Clone)]
pub struct Pair {
    /// The certificate and its intermediate, in PEM.
    pub certificates: Vec<u8>,
    pub key: Vec<u8>,
    pub serial: u32,
    /// The keys of the path, the leaf's first, the root's last.
    pub path: Vec<Pin>,
}

pub struct Issuer {
    root: Ca,
    intermediates: Vec<Ca>,
    keys: HashMap<Pin, PKey<Private>>,
    serial: u32,
}

impl Issuer {
    /// Makes a CA whose own certificates are valid from 30 days before `now` until `years` after it.
    pub fn new(now: i64, years: i64) -> Self {
        let (from, to) = (now - 30 * DAY, now + years * 366 * DAY);
        let key = new_key();
        let certificate = certify(&key, "root", None, None, (1, from, to));
        let root = Ca { certificate, key };
        let intermediates = (0..2).map(|number| {
            let key = new_key();
            let name = format!("intermediate {number}");
            let certificate = certify(&key, &name, Some(&root), None, (2 + number, from, to));
            Ca { certificate, key }
        });
        let intermediates = intermediates.collect();
        Self { root, intermediates, keys: HashMap::new(), serial: 1000 }
    }

    pub fn root(&self) -> &X509 {
        &self.root.certificate
    }

    /// Makes a key and keeps it; its pin.
    pub fn key(&mut self) -> Pin {
        let key = new_key();
        let pin = pin(&key);
        self.keys.insert(pin, key);
        pin
    }

    /// Issues a certificate for `host` and a key of [`Self::key`], valid from an hour before `now` on; `by`
    /// chooses the intermediate.
    pub fn issue(&mut self, host: &str, leaf: Pin, by: usize, now: i64, days: i64) -> Pair {
        let by = &self.intermediates[by % self.intermediates.len()];
        let key = &self.keys[&leaf];
        self.serial += 1;
        let times = (self.serial, now - 3600, now + days * DAY);
        let certificate = certify(key, host, Some(by), Some(host), times);
        let mut certificates = certificate.to_pem().expect("PEM");
        certificates.extend(by.certificate.to_pem().expect("PEM"));
        Pair {
            certificates,
            key: key.private_key_to_pem_pkcs8().expect("PEM"),
            serial: self.serial,
            path: vec![leaf, pin(&by.key), pin(&self.root.key)],
        }
    }
}

/// A CA's certificate, or a server's where there is a `host`; with its serial number and its times.
fn certify(
    key: &PKey<Private>,
    name: &str,
    issuer: Option<&Ca>,
    host: Option<&str>,
    (serial, from, to): (u32, i64, i64),
) -> X509 {
    let mut names = X509Name::builder().expect("a name");
    names.append_entry_by_nid(Nid::COMMONNAME, name).expect("a name");
    let names = names.build();
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("version 3");
    let serial = BigNum::from_u32(serial).expect("a number");
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).expect("a number")).expect("a number");
    builder.set_subject_name(&names).expect("a name");
    let above = issuer.map_or(names.as_ref(), |ca| ca.certificate.subject_name());
    builder.set_issuer_name(above).expect("a name");
    builder.set_not_before(&Asn1Time::from_unix(from).expect("a time")).expect("a time");
    builder.set_not_after(&Asn1Time::from_unix(to).expect("a time")).expect("a time");
    builder.set_pubkey(key).expect("a key");
    if host.is_none() {
        let constraints = BasicConstraints::new().critical().ca().build().expect("an extension");
        builder.append_extension(constraints).expect("an extension");
    }
    let context = builder.x509v3_context(issuer.map(|ca| &*ca.certificate), None);
    let own = SubjectKeyIdentifier::new().build(&context).expect("an extension");
    builder.append_extension(own).expect("an extension");
    if let Some(host) = host {
        let context = builder.x509v3_context(issuer.map(|ca| &*ca.certificate), None);
        let above =
            AuthorityKeyIdentifier::new().keyid(true).build(&context).expect("an extension");
        let names = SubjectAlternativeName::new().dns(host).build(&context).expect("an extension");
        builder.append_extension(above).expect("an extension");
        builder.append_extension(names).expect("an extension");
    }
    let signer = issuer.map_or(key, |ca| &ca.key);
    builder.sign(signer, MessageDigest::sha256()).expect("a signature");
    builder.build()
}
