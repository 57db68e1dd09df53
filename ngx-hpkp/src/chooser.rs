//! What may change the certificate of a server during the handshake, and how findings speak of it.

use std::borrow::Cow;

use hpkp_core::check::Certificates;
use hpkp_core::finding::Location;
use nginx_sys::ngx_command_t;

/// A directive by which another module may change what a server presents.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    pub(crate) directive: String,
    pub(crate) at: Location,
}

/// What a directive of another module does to the certificates of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is there to choose them.
    Chooses,
    /// It is there for something else, but it can replace them.
    MayReplace,
}

/// A directive of another module, and the copy that nginx finds in its place.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) copy: *const ngx_command_t,
    pub(crate) original: *mut ngx_command_t,
    pub(crate) effect: Effect,
}

/// A server whose `ssl_certificate` has variables.
pub(crate) const CHOSEN_LATER: Certificates = Certificates::NotKnown {
    why: Cow::Borrowed(
        "the certificate is chosen during the handshake (a variable in ssl_certificate)",
    ),
    remedy: "give ssl_certificate a file name without variables",
};

/// The certificates of a server for which another module chooses them.
pub(crate) fn chosen_by(chooser: &Chooser) -> Certificates {
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
pub(crate) fn can_replace(by: &str) -> String {
    format!(
        "{by} can replace the certificate during the handshake; only the certificate of ssl_certificate \
         is checked"
    )
}
