//! `hpkp_guard`: whether a server presents the certificate of its guard.

use hpkp_core::check::Certificates;
use hpkp_core::finding::{Location, Text};

/// The variable with the certificate.
pub const CERTIFICATE: &str = "hpkp_certificate";

/// The variable with its key.
pub const KEY: &str = "hpkp_certificate_key";

/// The directive, as a server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSetting {
    /// Its place in the configuration.
    pub at: Location,
    /// Whether it stands in this very server block, not in the one around it.
    pub own: bool,
}

/// Whether the certificates of a server are those that a guard gives, as their names say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuardUse {
    /// None of them is.
    #[default]
    None,
    /// The only one is.
    Whole,
    /// The variables are used where they have no value.
    Misplaced,
    /// They are used beside other certificates.
    Beside,
}

impl GuardUse {
    /// Of what `ssl_certificate` and `ssl_certificate_key` say.
    #[must_use]
    pub fn of<T: AsRef<str>>(certificates: &[T], keys: &[T]) -> Self {
        let is = |names: &[T], variable: &str| match names {
            [only] => only
                .as_ref()
                .strip_prefix('$')
                .is_some_and(|name| name == variable || name == format!("{{{variable}}}")),
            _ => false,
        };
        // Both names begin so.
        let has = |names: &[T]| {
            let variable = |text: &str| {
                text.contains(&format!("${CERTIFICATE}"))
                    || text.contains(&format!("${{{CERTIFICATE}}}"))
                    || text.contains(&format!("${{{KEY}}}"))
            };
            names.iter().any(|name| variable(name.as_ref()))
        };
        match (is(certificates, CERTIFICATE), is(keys, KEY)) {
            (true, true) => Self::Whole,
            _ if has(certificates) && certificates.len() > 1 => Self::Beside,
            _ if has(certificates) || has(keys) => Self::Misplaced,
            _ => Self::None,
        }
    }
}

/// Why the certificates of a guarded server are not known, and what there is to do.
pub(super) fn guarded(is_kept: bool) -> Certificates {
    Certificates::NotKnown {
        why: "the certificate is chosen during the handshake (hpkp_guard)".into(),
        remedy: match is_kept {
            true => "",
            false => {
                "name a directory in hpkp_keep_certificates: without one, the last good certificate is lost \
                 when nginx stops"
            }
        },
    }
}

/// The variables are interchanged, or part of a longer text.
pub(super) fn misplaced() -> Text {
    Text::new(
        "ssl_certificate and ssl_certificate_key must each be exactly their own variable of hpkp_guard; as \
         they are, nginx would present nothing, or a certificate with the key of another one",
    )
    .fix(USE)
}

/// The variables are used beside other certificates.
pub(super) fn beside() -> Text {
    Text::new(
        "this server has another certificate beside that of hpkp_guard, and nothing would guard it: \
         clients that prefer its kind of key would get it without a check; hpkp_guard guards one \
         certificate of each server, so RSA beside ECDSA is not possible",
    )
    .fix(USE)
}

/// The variables are used, and nothing gives them a value.
pub(super) fn missing() -> Text {
    Text::new(
        "ssl_certificate has the variable of hpkp_guard, and there is no hpkp_guard in this server or in \
         http, so nginx would present nothing",
    )
    .fix("name the certificate and its key here: hpkp_guard $certificate $certificate_key;")
}

/// The directive has no effect.
pub(super) fn not_used() -> Text {
    Text::new("this hpkp_guard guards no certificate, because no ssl_certificate has its variable")
        .fix(USE)
}

/// How the variables are used.
const USE: &str = "use both, and no other certificate: ssl_certificate $hpkp_certificate; \
                   ssl_certificate_key $hpkp_certificate_key;";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_variables_stand() {
        let (certificate, key) = ("$hpkp_certificate", "$hpkp_certificate_key");
        for (certificates, keys, expected) in [
            (&[certificate][..], &[key][..], GuardUse::Whole),
            (&["${hpkp_certificate}"], &["${hpkp_certificate_key}"], GuardUse::Whole),
            (&["a.pem"], &["a.key"], GuardUse::None),
            (&["$acme_certificate"], &["$acme_certificate_key"], GuardUse::None),
            (&[], &[], GuardUse::None),
            (&[key], &[certificate], GuardUse::Misplaced),
            (&[certificate], &["$acme_certificate_key"], GuardUse::Misplaced),
            (&["$acme_certificate"], &[key], GuardUse::Misplaced),
            (&[certificate, "a.pem"], &[key, "a.key"], GuardUse::Beside),
            (&["a.pem", certificate], &["a.key", key], GuardUse::Beside),
            (
                &["$rsa", "${hpkp_certificate}"],
                &["$rsa_key", "${hpkp_certificate_key}"],
                GuardUse::Beside,
            ),
            (&[certificate, certificate], &[key, key], GuardUse::Beside),
            (&["a.pem", "b.pem"], &["a.key", key], GuardUse::Misplaced),
            (&["data:$hpkp_certificate"], &[key], GuardUse::Misplaced),
            (&["x"], &["${hpkp_certificate_key}x"], GuardUse::Misplaced),
        ] {
            assert_eq!(GuardUse::of(certificates, keys), expected, "{certificates:?} {keys:?}");
        }
    }
}
