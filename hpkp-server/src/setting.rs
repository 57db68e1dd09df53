//! The values of directives, which the two servers name differently and read alike.

use hpkp_core::check::PolicyUse;
use hpkp_core::finding::{Check, Code, Location};
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::WriterName;
use hpkp_core::text::Excerpt;

use crate::failure::OnStart;

/// A directive inside a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyDirective {
    /// `pin`, `HPKPPin`.
    Pin,
    /// `max_age`, `HPKPMaxAge`.
    MaxAge,
    /// `include_subdomains`, `HPKPIncludeSubDomains`.
    IncludeSubdomains,
    /// `report_uri`, `HPKPReportURI`.
    ReportUri,
}

/// What is wrong with a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingError {
    /// It stands in the same place already.
    Duplicate,
    /// Its value is none of its choices; those in words.
    NoChoice(String),
    /// A finding.
    Finding(Code, String),
    /// Anything else, in full.
    Text(String),
}

/// The choices of `hpkp_check`.
pub const CHECK: &[(&str, Check)] = &[("refuse", Check::Refuse), ("warn", Check::Warn)];

/// The choices of `hpkp_on_start`.
pub const ON_START: &[(&str, OnStart)] = &[("warn", OnStart::Warn), ("refuse", OnStart::Refuse)];

/// One of several choices by its name. Case counts for nothing where the server says so.
///
/// # Errors
/// [`SettingError::NoChoice`].
pub fn choose<T: Copy>(
    choices: &[(&str, T)],
    value: &str,
    ignore_case: bool,
) -> Result<T, SettingError> {
    let is_it = |name: &str| name == value || ignore_case && name.eq_ignore_ascii_case(value);
    let chosen = choices.iter().find(|(name, _)| is_it(name));
    chosen.map(|(_, chosen)| *chosen).ok_or_else(|| {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        SettingError::NoChoice(names.join(" or "))
    })
}

/// Begins a policy.
///
/// # Errors
/// [`SettingError::Text`] for a name that is none or is taken.
pub fn define(
    policies: &mut Vec<PolicySpec>,
    name: &str,
    at: Location,
) -> Result<(), SettingError> {
    let shown = Excerpt::new(name);
    // Where one server tells upper from lower case and the other does not, "Off" would mean a policy
    // here and none there.
    if name.is_empty() || name.eq_ignore_ascii_case("off") {
        return Err(SettingError::Text(format!("invalid policy name \"{shown}\"")));
    }
    if let Some(earlier) = policies.iter().find(|policy| policy.name == name) {
        let text = format!("duplicate policy \"{shown}\", it is defined in {}", earlier.at);
        return Err(SettingError::Text(text));
    }
    policies.push(PolicySpec::new(name.to_owned(), at));
    Ok(())
}

/// Puts the value of a directive into a policy. `name` is the directive's, for messages;
/// `full_path` makes a path absolute as the server does; case counts for nothing in a choice where
/// the server says so.
///
/// # Errors
/// See [`SettingError`].
pub fn set(
    policy: &mut PolicySpec,
    (directive, name): (PolicyDirective, &str),
    value: &str,
    at: Location,
    full_path: impl FnOnce(&str) -> String,
    ignore_case: bool,
) -> Result<(), SettingError> {
    let shown = Excerpt::new(value);
    let once = |is_set: bool| if is_set { Err(SettingError::Duplicate) } else { Ok(()) };
    match directive {
        PolicyDirective::Pin => {
            let source = PinSource::parse(value, full_path)
                .map_err(|(code, error)| SettingError::Finding(code, error))?;
            policy.pins.push(PinSetting { source, at });
        }
        PolicyDirective::MaxAge => {
            once(policy.max_age.is_some())?;
            policy.max_age = Some(value.parse().map_err(|error| {
                let text = format!("\"{shown}\" is no {name}: {error}");
                SettingError::Finding(Code::InvalidMaxAge, text)
            })?);
        }
        PolicyDirective::IncludeSubdomains => {
            let chosen = choose(&[("on", true), ("off", false)], value, ignore_case)?;
            once(policy.include_subdomains.is_some())?;
            policy.include_subdomains = Some(chosen);
        }
        PolicyDirective::ReportUri => {
            once(policy.report_uri.is_some())?;
            policy.report_uri = Some(value.parse().map_err(|error| {
                let text = format!("\"{shown}\" is no {name}: {error}");
                SettingError::Finding(Code::InvalidReportUri, text)
            })?);
        }
    }
    Ok(())
}

/// A directory with records of published pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordsSetting {
    /// Its path.
    pub path: String,
    /// What this server's records are written under: the name that the directive has, if it has
    /// one. None where the directory is only read.
    pub writer: Option<Option<WriterName>>,
    /// Where the directive stands.
    pub at: Location,
}

/// Reads the arguments of a directive that names a directory with records: its path, then
/// `writer=NAME` or `read_only`. `full_path` makes a path absolute as the server does.
///
/// # Errors
/// [`SettingError::Text`] for an argument that is none, a directory that is named already, and a
/// second one to write to.
pub fn add_records(
    settings: &mut Vec<RecordsSetting>,
    arguments: &[String],
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), SettingError> {
    let (path, options) = arguments.split_first().map_or(("", arguments), |(p, o)| (p.as_str(), o));
    let (mut writer, mut read_only) = (None, false);
    for option in options {
        let shown = Excerpt::new(option);
        match option.strip_prefix("writer=") {
            Some(name) if writer.is_none() => {
                writer =
                    Some(name.parse().map_err(|error| SettingError::Text(format!("{error}")))?);
            }
            None if option == "read_only" && !read_only => read_only = true,
            _ => return Err(SettingError::Text(format!("invalid parameter \"{shown}\""))),
        }
    }
    if path.is_empty() {
        return Err(SettingError::Text("no directory is named".to_owned()));
    }
    if writer.is_some() && read_only {
        let text = "\"writer=\" and \"read_only\" exclude each other".to_owned();
        return Err(SettingError::Text(text));
    }
    let path = full_path(path);
    let shown = Excerpt::new(&path);
    if let Some(earlier) = settings.iter().find(|setting| setting.path == path) {
        let text = format!("duplicate directory \"{shown}\", it is named in {}", earlier.at);
        return Err(SettingError::Text(text));
    }
    let writable = settings.iter().find(|setting| setting.writer.is_some());
    if let Some(earlier) = writable.filter(|_| !read_only) {
        let text = format!(
            "records are written to one directory, and that is named in {}; say \"read_only\" of \
             the others",
            earlier.at
        );
        return Err(SettingError::Text(text));
    }
    settings.push(RecordsSetting { path, writer: (!read_only).then_some(writer), at });
    Ok(())
}

/// The value of the directive that puts a policy into use, by both servers' names for it.
#[derive(Clone, Debug, Default)]
pub enum UseSetting {
    /// Nothing is said.
    #[default]
    Unset,
    /// No policy.
    Off,
    /// This policy.
    Policy(PolicyUse),
}

impl UseSetting {
    /// Reads the value of a directive that stands in `at`.
    #[must_use]
    pub fn new(value: &str, at: Location) -> Self {
        match value {
            "off" => Self::Off,
            name => Self::Policy(PolicyUse { policy: name.to_owned(), at, own: true }),
        }
    }

    /// The policy, if one is in use.
    #[must_use]
    pub fn policy(&self) -> Option<&PolicyUse> {
        match self {
            Self::Policy(policy) => Some(policy),
            Self::Unset | Self::Off => None,
        }
    }

    /// What a server has from the block around it, where it says nothing itself.
    pub fn inherit(&mut self, outer: &Self) {
        if let Self::Unset = self {
            *self = outer.clone();
            if let Self::Policy(policy) = self {
                policy.own = false;
            }
        }
    }
}
