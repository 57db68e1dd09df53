//! Everything that verdicts depend on, read anew from time to time.

use super::own::Own;
use super::roots::PrivateRoots;
use super::trust::PublicRoots;
use crate::configuration::Configuration;

/// Everything that verdicts depend on.
#[derive(Debug)]
pub struct Knowledge {
    /// The keys that are ours.
    pub own: Own,
    /// The private roots that are known.
    pub private: PrivateRoots,
    /// The public CAs.
    pub public: PublicRoots,
    /// What was to be read anew and could not be, so that what was known before counts.
    kept: Vec<String>,
}

impl Knowledge {
    /// Reads everything; what cannot be read of the records and the trusted certificates is a problem of
    /// theirs.
    ///
    /// # Errors
    /// The list of private roots cannot be used.
    pub fn read(configuration: &Configuration) -> Result<Self, String> {
        Ok(Self {
            own: Own::read(configuration, None),
            private: PrivateRoots::read(configuration.private_roots.as_deref())?,
            public: PublicRoots::read(&configuration.trusted_certificates),
            kept: Vec::new(),
        })
    }

    /// Reads everything anew. If something cannot be used, that is a problem, and the data that was read before
    /// stays in use: a list that is being written must not turn our keys into a stranger's, or an attack into a
    /// proxy.
    #[must_use]
    pub fn renewed(&self, configuration: &Configuration) -> Self {
        let mut kept = Vec::new();
        let private = PrivateRoots::read(configuration.private_roots.as_deref());
        let private = private.unwrap_or_else(|error| {
            kept.push(format!("the old list of private roots stays: {error}"));
            self.private.clone()
        });
        let mut public = PublicRoots::read(&configuration.trusted_certificates);
        if public.is_empty() && !self.public.is_empty() {
            kept.push("the old trusted certificates stay".to_owned());
            kept.append(&mut public.problems);
            public = self.public.clone();
        }
        Self { own: Own::read(configuration, Some(&self.own)), private, public, kept }
    }

    /// What could not be read, a line each.
    pub fn problems(&self) -> impl Iterator<Item = &String> {
        self.own.problems.iter().chain(&self.public.problems).chain(&self.kept)
    }
}
