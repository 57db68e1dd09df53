//! Directives of other modules that may change the certificate of a server during the handshake, and their texts in
//! findings.

use std::borrow::Cow;

use hpkp_core::check::Certificates;
use hpkp_core::finding::Location;

/// A directive by which another module may change what a server presents.
#[derive(Clone, Debug)]
pub struct Chooser {
    /// Its name.
    pub directive: String,
    /// Its place in the configuration.
    pub at: Location,
}

/// What a directive of another module does to the certificates of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Its purpose is to choose the certificates.
    Chooses,
    /// It has another purpose, but can replace the certificates.
    MayReplace,
}

/// Which directives of other modules choose or replace the certificates of a server.
#[derive(Clone, Debug, Default)]
pub struct Choosers {
    /// The directive that chooses the certificate during the handshake.
    pub chosen_by: Option<Chooser>,
    /// A directive with another purpose that can replace the certificate.
    pub replaced_by: Option<Chooser>,
}

impl Choosers {
    /// Inherits the directives of the enclosing block, unless the server has its own.
    pub fn inherit(&mut self, outer: &Self) {
        if self.chosen_by.is_none() {
            self.chosen_by.clone_from(&outer.chosen_by);
        }
        if self.replaced_by.is_none() {
            self.replaced_by.clone_from(&outer.replaced_by);
        }
    }

    /// Notes a directive.
    pub fn note(&mut self, effect: Effect, chooser: Chooser) {
        match effect {
            Effect::Chooses => self.chosen_by = Some(chooser),
            Effect::MayReplace => self.replaced_by = Some(chooser),
        }
    }
}

/// The beginnings of the names of such directives. The ending tells whether the code is in a file or a block.
const DIRECTIVES: [(&[u8], Effect); 2] =
    [(b"ssl_certificate_by_", Effect::Chooses), (b"ssl_client_hello_by_", Effect::MayReplace)];

/// The effect of the directive with this name on the certificates, if it has one.
#[must_use]
pub fn effect(directive: &[u8]) -> Option<Effect> {
    let mut known = DIRECTIVES.iter();
    known.find(|(start, _)| directive.starts_with(start)).map(|(_, effect)| *effect)
}

/// The certificates of a server whose `ssl_certificate` has variables.
pub const CHOSEN_LATER: Certificates = Certificates::NotKnown {
    why: Cow::Borrowed(
        "the certificate is chosen during the handshake (a variable in ssl_certificate)",
    ),
    remedy: "give ssl_certificate a file name without variables",
};

/// The certificates of a server if another module chooses them.
pub(super) fn chosen_by(chooser: &Chooser) -> Certificates {
    let Chooser { directive, at } = chooser;
    Certificates::NotKnown {
        why: format!(
            "the certificate is chosen during the handshake ({directive}, configured at {at})"
        )
        .into(),
        remedy: "serve this host without that directive, with the certificate in ssl_certificate",
    }
}

/// The consequence of code that can replace a certificate.
pub(super) fn can_replace(by: &str) -> String {
    format!(
        "{by} can replace the certificate during the handshake; only the certificate of ssl_certificate \
         is checked"
    )
}
