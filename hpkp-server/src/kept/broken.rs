//! The last good certificate for a server that cannot load the files that its directives name.

use std::collections::BTreeSet;

use hpkp_core::finding::{Code, Finding, Text};
use hpkp_core::published::{State, WriterName};
use hpkp_core::text::Excerpt;

use super::directory::{Directory, Unusable};
use super::index::HostPort;
use super::replacing::{NONE_KEPT, Replacement};
use crate::loader::now;
use crate::openssl::OpenSsl;
use crate::setting::KeepSetting;

/// The certificate that was kept for one of the names of a server that cannot load the files that its directives name,
/// if it can be presented now. The port of the server is not known yet.
///
/// # Errors
/// Why nothing is presented.
pub fn in_place_of_broken(
    (setting, writer): (&KeepSetting, &WriterName),
    names: &[String],
    state: Option<&State>,
    openssl: &OpenSsl,
) -> Result<Replacement, Vec<String>> {
    let wrong = |error: Unusable| vec![error.text().what];
    let directory = Directory::open(&setting.path, writer).map_err(wrong)?;
    let index = directory.index().map_err(wrong)?;
    let hosts = names.iter().map(|name| HostPort { name: name.to_ascii_lowercase(), port: 0 });
    let hosts: BTreeSet<HostPort> = hosts.collect();
    let mut reasons = Vec::new();
    for entry in index.candidates(&hosts) {
        let found = Replacement::read(&directory, entry, state, now())
            .and_then(|found| found.try_files(openssl).map(|()| found));
        match found {
            Ok(found) => return Ok(found),
            Err(why) => reasons.push(why),
        }
    }
    Err(reasons)
}

/// The finding about a server that cannot load the files that its directives name, if nothing is
/// presented in their place; `reasons` are those of [`in_place_of_broken`].
#[must_use]
pub fn not_replaced_finding(
    setting: &KeepSetting,
    label: &str,
    why: &str,
    reasons: &[String],
) -> Finding {
    let text = Text::new(format!(
        "the certificate that is configured cannot be loaded ({why}), and no last good certificate is \
         presented in its place: {}",
        Excerpt::new(reasons.first().map_or(NONE_KEPT, String::as_str))
    ));
    let mut finding = Finding::new(Code::KeptCertificateNotUsed, setting.at.clone(), text);
    finding.add_host(label);
    finding
}

/// The finding about a server that presents its last good certificate, because it cannot load the
/// files that its directives name.
#[must_use]
pub fn broken_finding(
    setting: &KeepSetting,
    records: &str,
    label: &str,
    (file, why): (&str, &str),
    replacement: &Replacement,
) -> Finding {
    let text = Text::new(format!(
        "the certificate that is configured cannot be loaded ({why}), so the last good certificate is \
         presented in its place until it expires at {}",
        replacement.expires()
    ))
    .fix("install a certificate and the key that fits it, then reload")
    .details([format!("configured: \"{}\"", Excerpt::new(file))]);
    let text = replacement.described(text, records);
    let mut finding = Finding::new(Code::KeptCertificateServed, setting.at.clone(), text);
    finding.add_host(label);
    finding
}
