//! The options of `hpkp check` besides the configuration.

use hpkp_core::finding::{Check, Location};
use hpkp_core::published::WriterName;
use hpkp_server::setting::{GlobalSettings, RecordsSetting, ServerSettings};

use super::files::{directory_of, full_path};
use super::presented::{AllGiven, Given};
use crate::arguments::{CheckArguments, ConfigurationArguments};
use crate::failure::Failure;
use crate::published::store;

/// The options of the command line.
#[derive(Debug)]
pub(super) struct Options {
    /// `--prefix`.
    pub(super) prefix: Option<String>,
    /// `--define`.
    pub(super) defines: Vec<String>,
    /// `--cert`.
    pub(super) given: AllGiven,
    roots: Option<String>,
    published: Vec<String>,
    writer: Option<WriterName>,
    is_lenient: bool,
    is_recorded: bool,
}

/// Options that replace parts of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct InPlace<'a> {
    /// Certificates, each with its chain.
    pub(crate) cert: &'a [String],
    /// A file of trust anchors.
    pub(crate) roots: Option<&'a String>,
    /// Directories with records.
    pub(crate) published: &'a [String],
    /// The name under which the server writes its records.
    pub(crate) writer: Option<WriterName>,
}

impl Options {
    pub(super) fn new(arguments: &CheckArguments) -> Result<Self, Failure> {
        let published = arguments.records();
        let in_place = InPlace {
            cert: &arguments.cert,
            roots: arguments.roots.as_ref(),
            published: &published,
            writer: match (&arguments.writer, arguments.other()) {
                (None, Some((kind, _))) if arguments.record => {
                    Some(store::writer_of_machine(kind.name())?)
                }
                (writer, _) => writer.clone(),
            },
        };
        let is_lenient = arguments.check.is_some_and(|check| check.is_lenient());
        let is_recorded = arguments.record;
        Ok(Self { is_lenient, is_recorded, ..Self::of(&arguments.configuration, &in_place)? })
    }

    pub(super) fn of(
        configuration: &ConfigurationArguments,
        in_place: &InPlace<'_>,
    ) -> Result<Self, Failure> {
        let given: Result<Vec<Given>, _> =
            in_place.cert.iter().map(|file| Given::read(file)).collect();
        let absolute = |path: &String| {
            let full = std::path::absolute(path).ok();
            full.and_then(|full| full.to_str().map(str::to_owned)).unwrap_or_else(|| path.clone())
        };
        Ok(Self {
            prefix: configuration.prefix.as_ref().map(absolute),
            defines: configuration.define.clone(),
            given: AllGiven(given?),
            roots: in_place.roots.map(absolute),
            published: in_place.published.iter().map(absolute).collect(),
            writer: in_place.writer.clone(),
            is_lenient: false,
            is_recorded: false,
        })
    }

    /// Whether a lock-out passes, as with `HPKP_CHECK=warn`.
    pub(super) const fn is_lenient(&self) -> bool {
        self.is_lenient
    }

    /// Whether a configuration that passes is recorded.
    pub(super) const fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// What the check does about a lock-out if the configuration has no directive for it.
    pub(super) const fn check(&self) -> Check {
        if self.is_lenient { Check::Warn } else { Check::Refuse }
    }

    /// Replaces the configuration's directories of records by those of the command line. Records are
    /// compared under the writer name of the server.
    pub(super) fn amend(&self, global: &mut GlobalSettings) {
        if let Some(name) = &self.writer {
            let own = global.published.iter_mut().find_map(|setting| setting.writer.as_mut());
            if let Some(writer) = own {
                *writer = Some(name.clone());
            }
        }
        if self.published.is_empty() {
            return;
        }
        let writer = global.published.iter().find_map(|setting| setting.writer.clone());
        let mut writer = self.writer.clone().map(Some).or(writer);
        // The shortest limit of all directories, because the replaced directories do not correspond to the
        // new ones.
        let max_staleness = global.published.iter().filter_map(|one| one.max_staleness).min();
        let setting = |path: &String| RecordsSetting {
            path: path.clone(),
            writer: writer.take(),
            max_staleness,
            at: Location { file: "--published".into(), line: 0 },
        };
        global.published = self.published.iter().map(setting).collect();
    }

    /// Replaces the configuration's trust anchors by those of the command line.
    pub(super) fn amend_server(&self, settings: &mut ServerSettings) {
        if let Some(roots) = &self.roots {
            settings.trusted = Some((roots.clone(), Location { file: "--roots".into(), line: 0 }));
        }
    }

    /// The name of the configuration file in the server's messages.
    pub(super) fn full_name(&self, name: &str) -> String {
        match name {
            "-" => "standard input".to_owned(),
            _ => full_path(&directory_of(name), name.rsplit('/').next().unwrap_or(name)),
        }
    }

    /// The directory from which relative paths are resolved, unless the configuration sets another one.
    pub(super) fn directory(&self, name: &str) -> String {
        match (&self.prefix, name) {
            (Some(prefix), _) => prefix.clone(),
            (None, "-") => directory_of("./-"),
            (None, name) => directory_of(name),
        }
    }
}
