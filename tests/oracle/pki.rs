//! Real keys and certificates for those of the world, each made once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex};

use hpkp_core::certificate::Certificate;
use hpkp_core::pin::Pin;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Name, X509NameBuilder};

use crate::dane::{Certified, Record};
use crate::world::{AUTHORITIES, CA_CERTS, CaCert, Key, LEAVES, LeafCert, RSAS, SPARES};

/// All keys of the world.
static KEYS: LazyLock<HashMap<Key, PKey<Private>>> = LazyLock::new(|| {
    let numbers = (0..AUTHORITIES.len()).map(Key::Ca);
    let numbers = numbers.chain((0..LEAVES).map(Key::Leaf)).chain((0..SPARES).map(Key::Spare));
    let curve = numbers.map(|key| {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
        (key, PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key"))
    });
    let rsa = (0..RSAS).map(|number| {
        (Key::Rsa(number), PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key"))
    });
    curve.chain(rsa).collect()
});

static PINS: LazyLock<HashMap<Key, Pin>> = LazyLock::new(|| {
    let pin = |key: &PKey<Private>| Pin::of_spki(&key.public_key_to_der().expect("a key"));
    KEYS.iter().map(|(name, key)| (*name, pin(key))).collect()
});

static CAS: LazyLock<HashMap<CaCert, X509>> = LazyLock::new(|| {
    // The roots come first, because the others are signed by them.
    CA_CERTS.iter().map(|ca| (*ca, ca_certificate(*ca))).collect()
});

pub fn pin(key: Key) -> Pin {
    PINS[&key]
}

pub fn private_key_pem(key: Key) -> Vec<u8> {
    KEYS[&key].private_key_to_pem_pkcs8().expect("PEM")
}

fn name(text: &str) -> X509Name {
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_nid(Nid::COMMONNAME, text).expect("a name");
    name.build()
}

/// Makes a certificate. `issuer` is the issuer's name and key; `None` for a self-signed certificate.
fn certificate(
    subject: &str,
    key: Key,
    issuer: Option<(&str, Key)>,
    edition: usize,
    names: Option<&[&str]>,
) -> X509 {
    static NEXT: Mutex<u32> = Mutex::new(1);
    let serial = {
        let mut next = NEXT.lock().expect("no panic");
        *next += 1;
        *next
    };
    let (issuer_name, issuer_key) = issuer.unwrap_or((subject, key));
    let mut x509 = X509::builder().expect("a builder");
    x509.set_version(2).expect("a version");
    let serial = BigNum::from_u32(serial).and_then(|n| Asn1Integer::from_bn(&n));
    x509.set_serial_number(&serial.expect("a number")).expect("a number");
    x509.set_subject_name(&name(subject)).expect("a name");
    x509.set_issuer_name(&name(issuer_name)).expect("a name");
    x509.set_pubkey(&KEYS[&key]).expect("a key");
    let from = Asn1Time::from_unix(1_600_000_000 + edition as i64);
    x509.set_not_before(&from.expect("a time")).expect("a time");
    x509.set_not_after(&Asn1Time::from_unix(4_000_000_000).expect("a time")).expect("a time");
    if names.is_none() {
        let basic = BasicConstraints::new().critical().ca().build();
        x509.append_extension(basic.expect("an extension")).expect("an extension");
    }
    let id = SubjectKeyIdentifier::new().build(&x509.x509v3_context(None, None));
    x509.append_extension(id.expect("an extension")).expect("an extension");
    if let Some(names) = names {
        let mut alternative = SubjectAlternativeName::new();
        for name in names {
            alternative.dns(name);
        }
        let alternative = alternative.build(&x509.x509v3_context(None, None));
        x509.append_extension(alternative.expect("an extension")).expect("an extension");
    }
    // The key identifier is a hash of the issuer's key, so any certificate with that key serves here.
    let roots = issuer.map(|(name, key)| self_signed(name, key));
    if let Some(issuer) = &roots {
        let mut id = AuthorityKeyIdentifier::new();
        let id = id.keyid(true).build(&x509.x509v3_context(Some(issuer), None));
        x509.append_extension(id.expect("an extension")).expect("an extension");
    }
    x509.sign(&KEYS[&issuer_key], MessageDigest::sha256()).expect("a signature");
    x509.build()
}

fn self_signed(subject: &str, key: Key) -> X509 {
    let mut x509 = X509::builder().expect("a builder");
    x509.set_version(2).expect("a version");
    x509.set_subject_name(&name(subject)).expect("a name");
    x509.set_pubkey(&KEYS[&key]).expect("a key");
    let id = SubjectKeyIdentifier::new().build(&x509.x509v3_context(None, None));
    x509.append_extension(id.expect("an extension")).expect("an extension");
    x509.build()
}

fn ca_certificate(ca: CaCert) -> X509 {
    let issuer = (ca.issuer != ca.subject).then(|| (AUTHORITIES[ca.issuer], Key::Ca(ca.issuer)));
    certificate(AUTHORITIES[ca.subject], Key::Ca(ca.subject), issuer, ca.edition, None)
}

fn leaf_certificate(leaf: &LeafCert) -> X509 {
    let issuer = leaf.issuer.map(|issuer| (AUTHORITIES[issuer], Key::Ca(issuer)));
    let subject = leaf.key.to_string();
    certificate(&subject, leaf.key, issuer, leaf.edition, Some(&leaf.names))
}

/// The data of a TLSA record.
pub fn tlsa_data(record: &Record) -> Vec<u8> {
    let whole = match (record.selector, &record.of) {
        (0, Certified::Leaf(leaf)) => leaf_x509(leaf).to_der().expect("DER"),
        (0, Certified::Ca(ca)) => CAS[ca].to_der().expect("DER"),
        (_, of) => KEYS[&of.key()].public_key_to_der().expect("a key"),
    };
    let digest = |of| openssl::hash::hash(of, &whole).expect("a hash").to_vec();
    match record.matching {
        0 => whole,
        2 => digest(MessageDigest::sha512()),
        _ => digest(MessageDigest::sha256()),
    }
}

pub fn ca_pem(ca: CaCert) -> Vec<u8> {
    CAS[&ca].to_pem().expect("PEM")
}

pub fn leaf_pem(leaf: &LeafCert) -> Vec<u8> {
    leaf_x509(leaf).to_pem().expect("PEM")
}

fn leaf_x509(leaf: &LeafCert) -> X509 {
    static KNOWN: LazyLock<Mutex<HashMap<LeafCert, X509>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().expect("no panic");
    known.entry(leaf.clone()).or_insert_with(|| leaf_certificate(leaf)).clone()
}

fn parsed(x509: &X509) -> Arc<Certificate> {
    Arc::new(Certificate::from_der(&x509.to_der().expect("DER")).expect("a certificate"))
}

thread_local! {
    static PARSED_LEAVES: RefCell<HashMap<LeafCert, Arc<Certificate>>> = RefCell::default();
    static PARSED_CAS: Rc<HashMap<CaCert, Arc<Certificate>>> =
        Rc::new(CAS.iter().map(|(ca, x509)| (*ca, parsed(x509))).collect());
}

pub fn leaf(leaf: &LeafCert) -> Arc<Certificate> {
    PARSED_LEAVES.with_borrow_mut(|known| {
        if let Some(certificate) = known.get(leaf) {
            return certificate.clone();
        }
        let certificate = parsed(&leaf_x509(leaf));
        known.insert(leaf.clone(), certificate.clone());
        certificate
    })
}

pub fn ca(ca: CaCert) -> Arc<Certificate> {
    PARSED_CAS.with(|known| known[&ca].clone())
}
