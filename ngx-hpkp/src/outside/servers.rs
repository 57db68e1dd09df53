//! The servers outside `http` as they are read.

use std::path::PathBuf;
use std::rc::Rc;

use hpkp_core::check::NamePattern;
use hpkp_core::finding::Location;

use super::chosen::ChosenBy;
use crate::server::OwnContext;

/// All servers outside `http`.
#[derive(Default)]
pub(crate) struct Outside {
    pub(super) servers: Vec<Server>,
    pub(super) addresses: Vec<Address>,
    /// Modules that may have servers of a kind that is not known here.
    pub(super) strangers: Vec<String>,
    /// The files of other modules that can choose certificates in `stream` in a way that nothing shows.
    pub(super) unseen_choosers: Vec<PathBuf>,
}

/// A server.
pub(super) struct Server {
    /// The block around it.
    pub(super) kind: &'static str,
    pub(super) names: Vec<String>,
    pub(super) patterns: Vec<Rc<dyn NamePattern>>,
    /// Its own context, if it has certificates.
    pub(super) own: Option<OwnContext>,
    /// Whether it hands TLS on unopened.
    pub(super) passes_on: bool,
    /// Which directives of other modules choose or replace its certificates.
    pub(super) chosen: ChosenBy,
    pub(super) at: Location,
}

/// An address, with the servers (by position) among which nginx chooses there.
pub(super) struct Address {
    pub(super) text: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) servers: Vec<usize>,
    pub(super) default: usize,
}
