//! The data on which verdicts depend, read again from time to time.

use super::own::Own;
use super::roots::PrivateRoots;
use super::trust::PublicRoots;
use crate::configuration::Configuration;

/// The data on which verdicts depend.
#[derive(Debug)]
pub struct Knowledge {
    /// Our keys.
    pub own: Own,
    /// The known private roots.
    pub private: PrivateRoots,
    /// The public CAs.
    pub public: PublicRoots,
    /// Files that could not be read again, so that their older content stays in use.
    kept: Vec<String>,
}

impl Knowledge {
    /// Reads everything. Records and trusted certificates that cannot be read are listed as problems.
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

    /// Reads everything again. Data that cannot be read is listed as a problem, and the data that was read before stays
    /// in use: a file that is being written must not make our keys look like a stranger's, or an attack like a proxy.
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

    /// The problems with reading, one line each.
    pub fn problems(&self) -> impl Iterator<Item = &String> {
        self.own.problems.iter().chain(&self.public.problems).chain(&self.kept)
    }
}
