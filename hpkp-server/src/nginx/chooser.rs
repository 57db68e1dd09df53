//! What may change the certificate of a server during the handshake, and how findings speak of it.

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
    /// It is there to choose them.
    Chooses,
    /// It is there for something else, but it can replace them.
    MayReplace,
}

/// Which directives of other modules choose or replace the certificates of a server.
#[derive(Clone, Debug, Default)]
pub struct Choosers {
    /// The one that chooses the certificate during the handshake.
    pub chosen_by: Option<Chooser>,
    /// One that is there for something else and can replace the certificate.
    pub replaced_by: Option<Chooser>,
}

impl Choosers {
    /// Another module's directive in the block around holds for the servers that have none of their own.
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

/// The beginnings of the names of such directives; how they go on says where the code stands.
const DIRECTIVES: [(&[u8], Effect); 2] =
    [(b"ssl_certificate_by_", Effect::Chooses), (b"ssl_client_hello_by_", Effect::MayReplace)];

/// What the directive of this name does to the certificates, if it does something.
#[must_use]
pub fn effect(directive: &[u8]) -> Option<Effect> {
    let mut known = DIRECTIVES.iter();
    known.find(|(start, _)| directive.starts_with(start)).map(|(_, effect)| *effect)
}

/// A server whose `ssl_certificate` has variables.
pub const CHOSEN_LATER: Certificates = Certificates::NotKnown {
    why: Cow::Borrowed(
        "the certificate is chosen during the handshake (a variable in ssl_certificate)",
    ),
    remedy: "give ssl_certificate a file name without variables",
};

/// The certificates of a server for which another module chooses them.
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
