//! What a configuration of nginx says, without nginx: its directives, its server blocks, and what the
//! check compares. The module fills these in from what nginx has read, the command from the text; from
//! here on both take one way, so that they give one answer.

mod chooser;
mod directives;
mod http;
mod outside;

use std::path::PathBuf;

use hpkp_core::check::{Certificates, Deployment, Records, Verdict};
use hpkp_core::finding::Check;

use crate::loader::{self, Loader};
use crate::setting::{GlobalSettings, ServerSettings};

pub use chooser::{CHOSEN_LATER, Chooser, Effect, effect};
pub use directives::{define, set_global, set_in_policy, set_in_server};
pub use http::{Server, ServerKey, Servers};
pub use outside::{Outside, OutsideServer};

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

/// The certificates of a server, as far as its directives say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Whether the certificates have variables in their names.
    pub variables: bool,
    /// Whether the server refuses all handshakes, so that the certificates are never sent.
    pub rejects: bool,
}

/// An address, with the servers (by position) among which nginx chooses there.
#[derive(Clone, Debug)]
pub struct Address {
    /// As nginx writes it.
    pub text: String,
    /// 0 for a Unix socket.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The servers, in the order of the configuration.
    pub servers: Vec<usize>,
    /// The one that answers where none has the name.
    pub default: usize,
}

/// A whole configuration. An `H` is how its reader knows a server.
#[derive(Debug)]
pub struct Configuration<'a, H> {
    /// What stands in `http` once.
    pub global: &'a GlobalSettings,
    /// What stands in `http` for all servers.
    pub around: &'a ServerSettings,
    /// What is done about servers outside `http`.
    pub check: Check,
    /// The servers of `http`.
    pub servers: &'a Servers<H>,
    /// Those of `stream` and `mail`, where records are compared.
    pub outside: &'a Outside<H>,
    /// The files of other modules that can choose certificates in a way that nothing shows.
    pub unseen_choosers: &'a [PathBuf],
}

/// What the check compares, and where it comes from.
#[derive(Debug)]
pub struct Built<'a, H> {
    /// What the check compares.
    pub deployment: Deployment,
    /// For each of its contexts, how the reader knows the server.
    pub contexts: Vec<&'a H>,
    /// For each host, what it is known by, where there is something to compare it with.
    pub keys: Vec<Option<ServerKey>>,
}

impl<'a, H> Configuration<'a, H> {
    /// Whether there is anything to check.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.servers.any_policy() || !self.global.published.is_empty()
    }

    /// What the check compares. `certificates` gives what a server presents.
    pub fn build<'l>(
        &self,
        records: Option<Records>,
        loader: &mut Loader<'l>,
        mut certificates: impl FnMut(&mut Loader<'l>, &H) -> Certificates,
    ) -> Built<'a, H> {
        let deployment = Deployment {
            listeners: self.servers.listeners.clone(),
            records,
            not_served_here: self.global.not_served_here.clone(),
            policies: loader::resolve(&self.global.policies),
            ..Deployment::default()
        };
        let mut built = Built { deployment, contexts: Vec::new(), keys: Vec::new() };
        self.servers.add_to(&mut built, self.global, loader, &mut certificates);
        self.outside.add_to(&mut built, self, loader, &mut certificates);
        let listening: Vec<(u16, String)> =
            self.servers.listening.iter().cloned().chain(self.outside.listening()).collect();
        built.deployment.noticed.extend(self.global.public_ports.unused(&listening));
        built
    }

    /// The core's answer, with what only nginx can have.
    pub fn verdict(&self, deployment: &mut Deployment, loader: &Loader<'_>) -> Verdict {
        let mut verdict = loader.check(deployment);
        verdict.findings.extend(self.servers.may_be_replaced(self.global, self.unseen_choosers));
        verdict
    }
}
