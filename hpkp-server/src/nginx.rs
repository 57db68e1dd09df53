//! A configuration of nginx, independent of nginx: its directives, its server blocks, and the input of the check. The
//! module fills these in from what nginx has read, the command from the text of the configuration. From here on both
//! use the same code, so they give the same answer.

mod address;
mod built;
mod chooser;
mod directives;
mod guard;
mod http;
mod outside;

use std::path::PathBuf;

use hpkp_core::check::{Certificates, Concern, Deployment, Verdict};
use hpkp_core::finding::Check;

use crate::journal;
use crate::kept::{Keeping, KeptContext, Replacement};
use crate::living;
use crate::loader::{self, Loader};
use crate::setting::{GlobalSettings, ServerSettings};

pub use address::{Address, Own, ServerKey};
pub use built::Built;
pub use chooser::{CHOSEN_LATER, Chooser, Choosers, Effect, effect};
pub use directives::{define, set_global, set_guard, set_in_policy, set_in_server, set_keep};
pub use guard::{CERTIFICATE, GuardSetting, GuardUse, KEY};
pub use http::{Server, Servers};
use outside::Settings;
pub use outside::{Outside, OutsideServer};

/// A whole configuration. `H` is the reader's own handle for a server.
#[derive(Debug)]
pub struct Configuration<'a, H> {
    /// The settings of `http` that exist once.
    pub global: &'a GlobalSettings,
    /// The settings of `http` that all servers inherit.
    pub around: &'a ServerSettings,
    /// The answer to a lock-out of servers outside `http`.
    pub check: Check,
    /// The servers of `http`.
    pub servers: &'a Servers<H>,
    /// The servers of `stream` and `mail`, if records are compared.
    pub outside: &'a Outside<H>,
    /// The files of other modules that can choose certificates without a directive.
    pub unseen_choosers: &'a [PathBuf],
}

impl<'a, H> Configuration<'a, H> {
    /// Whether there is anything to check.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.servers.any_policy() || self.servers.any_guard() || !self.global.published.is_empty()
    }

    /// Builds the input of the check, with the records that concern it. `certificates` returns the certificates of a
    /// server.
    pub fn build<'l>(
        &self,
        loader: &mut Loader<'l>,
        mut certificates: impl FnMut(&mut Loader<'l>, &H) -> Certificates,
    ) -> Built<'a, H> {
        let deployment = Deployment {
            listeners: self.servers.listeners.clone(),
            not_served_here: self.global.not_served_here.clone(),
            policies: loader::resolve(&self.global.policies),
            ..Deployment::default()
        };
        let mut built = Built {
            deployment,
            journal: None,
            concern: Concern::none(),
            contexts: Vec::new(),
            kept: Vec::new(),
            checks: Vec::new(),
            keys: Vec::new(),
        };
        self.servers.add_to(&mut built, self.global, loader, &mut certificates);
        let settings = Settings {
            check: self.check,
            around: self.around,
            public_ports: &self.global.public_ports,
        };
        self.outside.add_to(&mut built, &settings, loader, &mut certificates);
        built.checks.resize(built.deployment.hosts.len(), self.around.check.unwrap_or_default());
        let listening: Vec<(u16, String)> =
            self.servers.listening.iter().cloned().chain(self.outside.listening()).collect();
        built.deployment.noticed.extend(self.global.public_ports.unused(&listening));
        built.concern = journal::concern(self.global, &built.deployment);
        (built.deployment.records, built.journal) =
            journal::read(&self.global.published, built.concern.clone(), living::HTTPD);
        built
    }

    /// The setting of last good certificates, if the configuration has one. `keys` returns the keys that a server's
    /// directives name; for `is_start` see [`Keeping`].
    #[must_use]
    pub fn keeping(
        &self,
        built: &Built<'_, H>,
        is_start: bool,
        keys: impl Fn(&H) -> Vec<String>,
    ) -> Option<Keeping> {
        let setting = self.global.keep.clone()?;
        let context = |(handle, is_kept): (&&H, &bool)| KeptContext {
            is_kept: *is_kept,
            is_awaited: false,
            keys: if *is_kept { keys(handle) } else { Vec::new() },
            obstacle: None,
        };
        Some(Keeping {
            setting,
            directive: "hpkp_keep_certificates",
            writer: journal::writer_of(&self.global.published),
            published: self.global.published.clone(),
            contexts: built.contexts.iter().zip(&built.kept).map(context).collect(),
            checks: built.checks.clone(),
            check: self.check,
            is_start,
        })
    }

    /// The core's verdict, with the findings that only nginx can have.
    pub fn verdict(&self, deployment: &mut Deployment, loader: &Loader<'_>) -> Verdict {
        let mut verdict = loader.check(deployment);
        verdict.findings.extend(self.servers.may_be_replaced(self.global, self.unseen_choosers));
        verdict.findings.extend(self.servers.misused_guards(self.around));
        verdict
    }
    /// The same, with last good certificates in place of certificates that would lock clients out. `put` makes a
    /// context present a replacement.
    pub fn verdict_keeping(
        &self,
        deployment: &mut Deployment,
        loader: &mut Loader<'_>,
        keeping: Option<&Keeping>,
        put: impl FnMut(usize, &Replacement) -> Result<(), String>,
    ) -> Verdict {
        let verdict = self.verdict(deployment, loader);
        let Some(keeping) = keeping else { return verdict };
        let check =
            |deployment: &mut Deployment, loader: &Loader<'_>| self.verdict(deployment, loader);
        keeping.replace(deployment, verdict, loader, check, put)
    }
}
