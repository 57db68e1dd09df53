//! A presented chain: whether clients accept it, and the certificate paths that they may build.

use std::net::IpAddr;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::check::TrustSetting;
use hpkp_core::date;
use hpkp_core::finding::Code;
use hpkp_core::path::{Chain, PathCertificate, Paths, Trust};
use hpkp_core::pin::Pin;
use hpkp_core::ua::host::Host;
use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509StoreContext};

use crate::failure::Failure;
use crate::presented::Presented;
use crate::published::{OpenSsl, trust};

/// The trust anchors, in the form of the core and in that of OpenSSL.
pub(super) struct Anchored {
    pub(super) setting: Arc<TrustSetting>,
    store: X509Store,
    /// The same anchors for a verification that ignores the validity dates.
    timeless: X509Store,
}

impl Anchored {
    /// Reads the system's trust anchors and those in a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(file: Option<&str>) -> Result<Self, Failure> {
        let setting = Arc::new(trust(file)?);
        let stores = || -> Result<_, ErrorStack> {
            Ok((store(&setting.trust, false)?, store(&setting.trust, true)?))
        };
        let (store, timeless) =
            stores().map_err(|error| Failure::undetermined(error.to_string()))?;
        Ok(Self { setting, store, timeless })
    }
}

/// OpenSSL's store of the same certificates.
fn store(trust: &Trust, is_timeless: bool) -> Result<X509Store, ErrorStack> {
    let mut builder = X509StoreBuilder::new()?;
    for certificate in trust.certificates() {
        // The core has skipped or reported a certificate that OpenSSL cannot parse. Such a certificate
        // verifies no chain.
        if let Ok(certificate) = X509::from_der(certificate.der()) {
            builder.add_cert(certificate)?;
        }
    }
    // The operator may give an intermediate certificate as a trust anchor, which OpenSSL accepts with this
    // flag only.
    let mut flags = X509VerifyFlags::PARTIAL_CHAIN;
    if is_timeless {
        flags |= X509VerifyFlags::NO_CHECK_TIME;
    }
    builder.set_flags(flags)?;
    Ok(builder.build())
}

/// Something for which clients that verify the chain refuse it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) text: String,
}

/// A chain and the result of its verification.
pub(super) struct Judged {
    pub(super) chain: Chain,
    pub(super) faults: Vec<Fault>,
    /// The certificates that a path from the leaf can contain.
    pub(super) path: Vec<PathCertificate>,
    /// The sent certificates that are on no path.
    pub(super) superfluous: Vec<Arc<Certificate>>,
    /// The pins of the chain that OpenSSL validates; empty if it validates none.
    pub(super) validated: Vec<Pin>,
}

impl Judged {
    /// The pins of the sent certificates.
    pub(super) fn sent(&self) -> Vec<Pin> {
        self.chain.certificates().iter().filter_map(|one| one.pin()).collect()
    }

    /// The pins that clients compare: those of the validated chain, or those of the sent certificates if
    /// none is valid.
    pub(super) fn compared(&self) -> Vec<Pin> {
        if self.validated.is_empty() { self.sent() } else { self.validated.clone() }
    }
}

/// Verifies the chain that was presented for `host`.
///
/// # Errors
/// A certificate cannot be parsed.
pub(super) fn judge(
    presented: &Presented,
    host: &Host,
    anchored: &Anchored,
    now: i64,
) -> Result<Judged, Fault> {
    let unreadable = |text: String| Fault { code: Code::UnreadableCertificate, text };
    let parsed: Result<Vec<Arc<Certificate>>, _> =
        presented.certificates.iter().map(|der| Certificate::from_der(der).map(Arc::new)).collect();
    let parsed = parsed.map_err(|error| unreadable(error.to_string()))?;
    let chain = Chain::new(parsed).ok_or_else(|| unreadable("too many certificates".to_owned()))?;
    let paths = Paths::new(&chain, &anchored.setting.trust, &OpenSsl, now);
    let mut faults = Vec::new();
    let validated = validate(&chain, anchored, now, &mut faults)
        .map_err(|error| unreadable(format!("OpenSSL error: {error}")))?;
    faults.extend(name_fault(&chain, presented, host));
    Ok(Judged {
        path: paths.certificates(),
        superfluous: paths.superfluous().to_vec(),
        chain,
        faults,
        validated,
    })
}

/// The pins of the chain that OpenSSL validates. Adds to `faults` why OpenSSL validates none.
fn validate(
    chain: &Chain,
    anchored: &Anchored,
    now: i64,
    faults: &mut Vec<Fault>,
) -> Result<Vec<Pin>, ErrorStack> {
    let certificates = chain.certificates().iter().map(|one| X509::from_der(one.der()));
    let certificates = certificates.collect::<Result<Vec<X509>, _>>()?;
    let Some(leaf) = certificates.first() else {
        return Ok(Vec::new());
    };
    let verified = verify(&anchored.store, leaf, &certificates)?;
    if let Ok(pins) = verified {
        return Ok(pins);
    }
    match verify(&anchored.timeless, leaf, &certificates)? {
        Ok(_) => {}
        Err(why) => faults.push(Fault {
            code: Code::CertificateUntrusted,
            text: format!("{why}; clients that verify the chain refuse it"),
        }),
    }
    faults.extend(time_faults(chain, now));
    if faults.is_empty() {
        // All sent certificates are valid now, so the dates of the trust anchor are at fault.
        faults.push(Fault {
            code: Code::CertificateExpired,
            text: "a trusted root of the chain is not valid at this time".to_owned(),
        });
    }
    Ok(Vec::new())
}

/// The sent certificates that are not valid now.
fn time_faults(chain: &Chain, now: i64) -> impl Iterator<Item = Fault> {
    (1..).zip(chain.certificates()).filter_map(move |(place, certificate)| {
        let (code, what) = if certificate.not_after() < now {
            let at = certificate.not_after_text();
            (Code::CertificateExpired, format!("expired at {at}"))
        } else if certificate.not_before() > now {
            let at = date::format(certificate.not_before());
            (Code::CertificateNotYetValid, format!("is not valid before {at}"))
        } else {
            return None;
        };
        let which = match place {
            1 => "the certificate".to_owned(),
            place => format!("certificate {place} of the chain"),
        };
        Some(Fault { code, text: format!("{which} {what}; clients refuse it") })
    })
}

/// The pins of the chain that OpenSSL validates, or its error text.
fn verify(
    store: &X509Store,
    leaf: &X509,
    sent: &[X509],
) -> Result<Result<Vec<Pin>, String>, ErrorStack> {
    let mut untrusted = Stack::new()?;
    for certificate in sent.iter().skip(1) {
        untrusted.push(certificate.clone())?;
    }
    let mut context = X509StoreContext::new()?;
    context.init(store, leaf, &untrusted, |context| {
        if !context.verify_cert()? {
            let depth = context.error_depth();
            let place = if depth == 0 { String::new() } else { format!(" (at depth {depth})") };
            return Ok(Err(format!("{}{place}", context.error().error_string())));
        }
        let chain = context.chain().into_iter().flatten();
        let pins = chain.filter_map(|one| {
            one.to_der().ok().and_then(|der| Certificate::from_der(&der).ok()?.pin())
        });
        Ok(Ok(pins.collect()))
    })
}

/// The fault that the leaf is not for the host.
fn name_fault(chain: &Chain, presented: &Presented, host: &Host) -> Option<Fault> {
    let leaf = chain.leaf();
    let is_for = match host {
        Host::Name(name) => leaf.is_for(name.as_str()),
        Host::Address(text) => is_for_address(presented, text),
    };
    if is_for {
        return None;
    }
    const NAMED: usize = 5;
    let names = leaf.dns_names().iter().take(NAMED);
    let mut names: Vec<String> =
        names.map(|name| hpkp_core::text::Excerpt::new(name).to_string()).collect();
    if leaf.dns_names().len() > NAMED {
        names.push(format!("and {} more", leaf.dns_names().len() - NAMED));
    }
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Some(Fault {
        code: Code::CertificateNameMismatch,
        text: format!(
            "the certificate is not for {host} (DNS names: {names}); clients that check names refuse it"
        ),
    })
}

fn is_for_address(presented: &Presented, text: &str) -> bool {
    let bare = text.split('%').next().unwrap_or_default();
    let Ok(address) = bare.parse::<IpAddr>() else {
        return false;
    };
    let bytes = match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    };
    let leaf = presented.certificates.first().and_then(|der| X509::from_der(der).ok());
    let names = leaf.and_then(|leaf| leaf.subject_alt_names());
    names.is_some_and(|names| names.iter().any(|name| name.ipaddress() == Some(&bytes[..])))
}
