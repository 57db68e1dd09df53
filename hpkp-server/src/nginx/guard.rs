//! `hpkp_guard`: whether a server presents the certificate of its guard.

use hpkp_core::check::Certificates;
use hpkp_core::finding::{Location, Text};

/// The variable with the certificate.
pub const CERTIFICATE: &str = "hpkp_certificate";

/// The variable with its key.
pub const KEY: &str = "hpkp_certificate_key";

/// The directive of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSetting {
    /// Its place in the configuration.
    pub at: Location,
    /// Whether it is in the server block itself, not inherited.
    pub own: bool,
}

/// Whether a server uses the variables of the guard as its certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuardUse {
    /// The variables are not used.
    #[default]
    None,
    /// The only certificate and its key are the variables.
    Whole,
    /// The variables are used where they have no value.
    Misplaced,
    /// The variables are used beside other certificates.
    Beside,
}

impl GuardUse {
    /// Determines the use from the values of `ssl_certificate` and `ssl_certificate_key`.
    #[must_use]
    pub fn of<T: AsRef<str>>(certificates: &[T], keys: &[T]) -> Self {
        let is = |names: &[T], variable: &str| match names {
            [only] => only
                .as_ref()
                .strip_prefix('$')
                .is_some_and(|name| name == variable || name == format!("{{{variable}}}")),
            _ => false,
        };
        // The names of both variables begin with this one.
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

/// The certificates of a guarded server: why they are not known, and the remedy.
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

/// The text if the variables are interchanged, or part of a longer value.
pub(super) fn misplaced() -> Text {
    Text::new(
        "ssl_certificate and ssl_certificate_key must each be exactly their own variable of hpkp_guard; as \
         they are, nginx would present nothing, or a certificate with the key of another one",
    )
    .fix(USE)
}

/// The text if the variables are used beside other certificates.
pub(super) fn beside() -> Text {
    Text::new(
        "this server has another certificate beside that of hpkp_guard, and nothing would guard it: \
         clients that prefer its kind of key would get it without a check; hpkp_guard guards one \
         certificate of each server, so RSA beside ECDSA is not possible",
    )
    .fix(USE)
}

/// The text if the variables are used without the directive, so that they have no value.
pub(super) fn missing() -> Text {
    Text::new(
        "ssl_certificate has the variable of hpkp_guard, and there is no hpkp_guard in this server or in \
         http, so nginx would present nothing",
    )
    .fix("name the certificate and its key here: hpkp_guard $certificate $certificate_key;")
}

/// The text if the directive has no effect.
pub(super) fn not_used() -> Text {
    Text::new("this hpkp_guard guards no certificate, because no ssl_certificate has its variable")
        .fix(USE)
}

/// How to use the variables.
const USE: &str = "use both, and no other certificate: ssl_certificate $hpkp_certificate; \
                   ssl_certificate_key $hpkp_certificate_key;";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_of_the_variables_is_recognised() {
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
