//! The kinds of keys that the command can make.

use std::fmt;
use std::str::FromStr;

use openssl::ec::{Asn1Flag, EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, PKeyRef, Private};
use openssl::rsa::Rsa;

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    P256,
    P384,
    /// RSA with this number of bits.
    Rsa(u32),
    Ed25519,
    MlDsa(MlDsa),
}

/// A parameter set of FIPS 204.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MlDsa {
    L44,
    L65,
    L87,
}

impl KeyKind {
    /// The kinds of the pair. A backup key may be needed many years later, so RSA has more than the 2048
    /// bits that are enough today.
    pub(crate) const PAIR: [Self; 2] = [Self::P256, Self::Rsa(3072)];

    /// The word for a key of the pair in its file name.
    pub(crate) const fn algorithm(self) -> &'static str {
        match self {
            Self::P256 | Self::P384 => "ecdsa",
            Self::Rsa(_) => "rsa",
            Self::Ed25519 => "ed25519",
            Self::MlDsa(_) => "ml-dsa",
        }
    }

    /// Makes a key.
    pub(crate) fn generate(self) -> Result<PKey<Private>, String> {
        let made = match self {
            Self::P256 => on_curve(Nid::X9_62_PRIME256V1),
            Self::P384 => on_curve(Nid::SECP384R1),
            Self::Rsa(bits) => Rsa::generate(bits).and_then(PKey::from_rsa),
            Self::Ed25519 => PKey::generate_ed25519(),
            Self::MlDsa(set) => return ml_dsa(set),
        };
        made.map_err(|_| format!("OpenSSL cannot make a key of the kind {self}"))
    }
}

fn on_curve(curve: Nid) -> Result<PKey<Private>, ErrorStack> {
    let mut group = EcGroup::from_curve_name(curve)?;
    group.set_asn1_flag(Asn1Flag::NAMED_CURVE);
    PKey::from_ec_key(EcKey::generate(&group)?)
}

#[cfg(ossl350)]
fn ml_dsa(set: MlDsa) -> Result<PKey<Private>, String> {
    use openssl::pkey::KeyType;
    use zeroize::Zeroizing;

    let name = match set {
        MlDsa::L44 => KeyType::ML_DSA_44,
        MlDsa::L65 => KeyType::ML_DSA_65,
        MlDsa::L87 => KeyType::ML_DSA_87,
    };
    let mut seed = Zeroizing::new([0; 32]);
    openssl::rand::rand_priv_bytes(&mut *seed)
        .and_then(|()| PKey::private_key_from_seed(None, name, None, &*seed))
        .map_err(|_| format!("OpenSSL cannot make a key of the kind {}", KeyKind::MlDsa(set)))
}

#[cfg(not(ossl350))]
fn ml_dsa(set: MlDsa) -> Result<PKey<Private>, String> {
    Err(format!(
        "{} needs OpenSSL 3.5 or later; this command is linked with {}",
        KeyKind::MlDsa(set),
        openssl::version::version().split(' ').take(2).collect::<Vec<_>>().join(" ")
    ))
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("ECDSA P-256"),
            Self::P384 => f.write_str("ECDSA P-384"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::MlDsa(set) => f.write_str(match set {
                MlDsa::L44 => "ML-DSA-44",
                MlDsa::L65 => "ML-DSA-65",
                MlDsa::L87 => "ML-DSA-87",
            }),
        }
    }
}

/// Parses `p256` and its other common names, such as `P-256`, `prime256v1` and `ecdsa`.
impl FromStr for KeyKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| !matches!(c, '-' | '_' | ':' | ' ');
        let name: String = text.to_ascii_lowercase().chars().filter(|c| plain(*c)).collect();
        let kind = match name.as_str() {
            "p256" | "ecdsa" | "ec" | "ecdsap256" | "ecp256" | "prime256v1" | "secp256r1" => {
                Self::P256
            }
            "p384" | "ecdsap384" | "ecp384" | "secp384r1" => Self::P384,
            "rsa" => Self::Rsa(3072),
            "ed25519" => Self::Ed25519,
            "mldsa44" => Self::MlDsa(MlDsa::L44),
            "mldsa65" => Self::MlDsa(MlDsa::L65),
            "mldsa87" => Self::MlDsa(MlDsa::L87),
            other => return other.strip_prefix("rsa").ok_or_else(unknown).and_then(rsa),
        };
        Ok(kind)
    }
}

fn unknown() -> String {
    "expected p256, p384, rsa-2048 to rsa-4096, ed25519, ml-dsa-44, ml-dsa-65 or ml-dsa-87"
        .to_owned()
}

/// CAs sign no shorter keys, and no keys whose number of bits is not a multiple of eight.
fn rsa(bits: &str) -> Result<KeyKind, String> {
    let is_number = bits.bytes().all(|byte| byte.is_ascii_digit());
    match bits.parse() {
        _ if !is_number => Err(unknown()),
        Ok(bits @ 2048..=4096) if bits % 8 == 0 => Ok(KeyKind::Rsa(bits)),
        Ok(2048..=4096) => Err("the number of bits of an RSA key is a multiple of 8".to_owned()),
        Ok(_) => Err("an RSA key has 2048 to 4096 bits".to_owned()),
        Err(_) => Err(unknown()),
    }
}

/// The name of a key's kind.
pub(crate) fn describe(key: &PKeyRef<Private>) -> String {
    let bits = key.bits();
    match key.id() {
        Id::RSA => format!("RSA {bits}"),
        Id::RSA_PSS => format!("RSA-PSS {bits}"),
        Id::DSA => format!("DSA {bits}"),
        Id::EC => {
            let curve = key.ec_key().ok().and_then(|key| key.group().curve_name());
            match curve {
                Some(Nid::X9_62_PRIME256V1) => "ECDSA P-256".to_owned(),
                Some(Nid::SECP384R1) => "ECDSA P-384".to_owned(),
                Some(Nid::SECP521R1) => "ECDSA P-521".to_owned(),
                Some(other) => format!("ECDSA {}", other.short_name().unwrap_or("unknown curve")),
                None => "ECDSA with explicit parameters".to_owned(),
            }
        }
        Id::ED25519 => "Ed25519".to_owned(),
        Id::ED448 => "Ed448".to_owned(),
        _ => {
            MlDsa::of(key).map_or_else(|| "other".to_owned(), |set| KeyKind::MlDsa(set).to_string())
        }
    }
}

impl MlDsa {
    /// The parameter set of a key.
    pub(super) fn of(key: &PKeyRef<Private>) -> Option<Self> {
        use openssl::pkey::KeyType;

        let names = [KeyType::ML_DSA_44, KeyType::ML_DSA_65, KeyType::ML_DSA_87];
        let all = [Self::L44, Self::L65, Self::L87];
        names.into_iter().zip(all).find_map(|(name, set)| key.is_a(name).then_some(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_keys_have_aliases_and_limits() {
        for (text, kind) in [
            ("p256", KeyKind::P256),
            ("P-384", KeyKind::P384),
            ("rsa", KeyKind::Rsa(3072)),
            ("rsa:2048", KeyKind::Rsa(2048)),
            ("RSA-4096", KeyKind::Rsa(4096)),
            ("ml-dsa-65", KeyKind::MlDsa(MlDsa::L65)),
        ] {
            assert_eq!(text.parse(), Ok(kind), "{text}");
        }
        for text in [
            "",
            "p521",
            "rsa-1024",
            "rsa-8192",
            "rsa-2049",
            "rsa-+3072",
            "x25519",
            "rsa-99999999999",
        ] {
            assert!(text.parse::<KeyKind>().is_err(), "{text}");
        }
    }
}
