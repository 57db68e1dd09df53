//! Makes certificate signing requests (PKCS #10, RFC 2986).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hpkp_core::published::HostName;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKeyRef, Private};
use openssl::stack::Stack;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509NameBuilder, X509ReqBuilder};

/// The longest common name (RFC 5280 appendix A.1, ub-common-name).
const MAX_COMMON_NAME: usize = 64;

/// A requested name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubjectName {
    /// A host name or a wildcard.
    Dns(String),
    Ip(IpAddr),
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl FromStr for SubjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.trim_matches(['[', ']']).parse() {
            return Ok(Self::Ip(address));
        }
        let (star, host) = match text.strip_prefix("*.") {
            Some(host) => ("*.", host),
            None => ("", text),
        };
        let host: HostName = host.parse().map_err(|error| format!("{error}"))?;
        Ok(Self::Dns(format!("{star}{host}")))
    }
}

/// The request for `names` in PEM, signed with the key.
pub(super) fn pem(key: &PKeyRef<Private>, names: &[SubjectName]) -> Result<Vec<u8>, String> {
    build(key, names).map_err(|_| "OpenSSL cannot make the certificate signing request".to_owned())
}

fn build(key: &PKeyRef<Private>, names: &[SubjectName]) -> Result<Vec<u8>, ErrorStack> {
    let mut request = X509ReqBuilder::new()?;
    request.set_version(0)?;
    let mut subject = X509NameBuilder::new()?;
    let first = names.first().map(ToString::to_string);
    if let Some(first) = first.filter(|name| name.len() <= MAX_COMMON_NAME) {
        subject.append_entry_by_text("CN", &first)?;
    }
    request.set_subject_name(&subject.build())?;
    request.set_pubkey(key)?;
    let mut alternative = SubjectAlternativeName::new();
    for name in names {
        match name {
            SubjectName::Dns(name) => alternative.dns(name),
            SubjectName::Ip(address) => alternative.ip(&address.to_string()),
        };
    }
    let alternative = alternative.build(&request.x509v3_context(None))?;
    let mut extensions = Stack::new()?;
    extensions.push(alternative)?;
    request.add_extensions(&extensions)?;
    request.sign(key, digest(key).unwrap_or_else(MessageDigest::null))?;
    request.build().to_pem()
}

/// The hash algorithm for signatures with a key of this kind; `None` if the kind defines its own.
pub(super) fn digest(key: &PKeyRef<Private>) -> Option<MessageDigest> {
    match key.id() {
        Id::EC if key.bits() > 256 => Some(MessageDigest::sha384()),
        Id::RSA | Id::RSA_PSS | Id::DSA | Id::EC => Some(MessageDigest::sha256()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hosts_wildcards_and_addresses() {
        let text = |name: &str| name.parse::<SubjectName>().map(|name| name.to_string());
        assert_eq!(text("WWW.Example.com."), Ok("www.example.com".to_owned()));
        assert_eq!(text("*.example.com"), Ok("*.example.com".to_owned()));
        assert_eq!(text("[2001:db8::1]"), Ok("2001:db8::1".to_owned()));
        for wrong in ["", "*", "a b", "www.*.com", "bücher.example", "a,DNS:b", "http://a.example/"]
        {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }
}
