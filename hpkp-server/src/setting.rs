//! The values of directives. The two servers have different names for the directives, but the same values.

use std::collections::HashMap;

use hpkp_core::check::{NotServedHere, PolicyUse, RenewalKey};
use hpkp_core::finding::{Check, Code, Location};
use hpkp_core::max_age::MaxAge;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::{Matching, WriterName};
use hpkp_core::text::Excerpt;

use crate::failure::OnStart;
use crate::nginx::GuardSetting;
use crate::public_port::PublicPorts;
use crate::setting_error::port;

pub use crate::setting_error::SettingError;

/// A directory for last good certificates, as a directive names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepSetting {
    /// Its path.
    pub path: String,
    /// The place of the directive.
    pub at: Location,
}

/// The settings of a configuration that exist once for all servers.
#[derive(Clone, Debug, Default)]
pub struct GlobalSettings {
    /// The policies, in the order in which they are defined.
    pub policies: Vec<PolicySpec>,
    /// The position of each policy, by its name.
    defined: HashMap<String, usize>,
    /// What a start does about a lock-out.
    pub on_start: Option<OnStart>,
    /// The directories with records of published pins.
    pub published: Vec<RecordsSetting>,
    /// The ports by which clients reach the server, if they differ from its own.
    pub public_ports: PublicPorts,
    /// The hosts that are declared to be served elsewhere.
    pub not_served_here: Vec<NotServedHere>,
    /// The directory for last good certificates.
    pub keep: Option<KeepSetting>,
}

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

/// The choices of `hpkp_check`.
pub const CHECK: &[(&str, Check)] =
    &[("refuse", Check::Refuse), ("warn", Check::Warn), ("keep", Check::Keep)];

/// The choices of `hpkp_renewal_key`.
pub const RENEWAL_KEY: &[(&str, RenewalKey)] =
    &[("same", RenewalKey::Same), ("new", RenewalKey::New)];

/// The choices of `hpkp_on_start`.
pub const ON_START: &[(&str, OnStart)] = &[("warn", OnStart::Warn), ("refuse", OnStart::Refuse)];

/// One of several choices by its name. The case is ignored if the server ignores it.
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
/// [`SettingError::Text`] for an invalid or duplicate name.
pub fn define(settings: &mut GlobalSettings, name: &str, at: Location) -> Result<(), SettingError> {
    let excerpt = Excerpt::new(name);
    // Only one of the servers ignores case, so "Off" would be a policy in one and no policy in the other.
    if name.is_empty() || name.eq_ignore_ascii_case("off") {
        return Err(SettingError::Text(format!("invalid policy name \"{excerpt}\"")));
    }
    if let Some(earlier) = settings.defined.get(name) {
        let earlier = &settings.policies[*earlier];
        let text = format!("duplicate policy \"{excerpt}\", first configured at {}", earlier.at);
        return Err(SettingError::Text(text));
    }
    settings.defined.insert(name.to_owned(), settings.policies.len());
    settings.policies.push(PolicySpec::new(name.to_owned(), at));
    Ok(())
}

/// Sets the value of a directive in a policy. `name` is the directive's name for messages; `full_path` makes a path
/// absolute as the server does; the case of a choice is ignored if the server ignores it.
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
    let excerpt = Excerpt::new(value);
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
                let text = format!("invalid {name} \"{excerpt}\": {error}");
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
                let text = format!("invalid {name} \"{excerpt}\": {error}");
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
    /// The writer name of this server's records, if the directive has one. None if the directory is only read.
    pub writer: Option<Option<WriterName>>,
    /// How long the writers of its copies may be silent, in seconds; none without a limit.
    pub max_staleness: Option<i64>,
    /// The place of the directive.
    pub at: Location,
}

/// Reads the longest allowed silence of other machines, in seconds.
///
/// # Errors
/// Why the text is invalid.
pub fn max_staleness(text: &str) -> Result<i64, String> {
    match text.parse::<MaxAge>() {
        Ok(time) if time.seconds() > 0 => Ok(i64::from(time.seconds())),
        Ok(_) => Err("expected at least one second".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads the arguments of a directive that names a directory with records: its path, then
/// `writer=NAME` or `read_only`, and `max_staleness=TIME`. `full_path` makes a path absolute as the server
/// does.
///
/// # Errors
/// [`SettingError::Text`] for an invalid argument, a duplicate directory, and a second directory to write to.
pub fn add_records(
    settings: &mut Vec<RecordsSetting>,
    arguments: &[String],
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), SettingError> {
    let (path, options) = arguments.split_first().map_or(("", arguments), |(p, o)| (p.as_str(), o));
    let (mut writer, mut read_only, mut staleness) = (None, false, None);
    for option in options {
        let excerpt = Excerpt::new(option);
        match option.split_once('=') {
            Some(("writer", name)) if writer.is_none() => {
                writer =
                    Some(name.parse().map_err(|error| SettingError::Text(format!("{error}")))?);
            }
            Some(("max_staleness", time)) if staleness.is_none() => {
                staleness = Some(max_staleness(time).map_err(|error| {
                    SettingError::Text(format!("invalid parameter \"{excerpt}\": {error}"))
                })?);
            }
            None if option == "read_only" && !read_only => read_only = true,
            _ => return Err(SettingError::Text(format!("invalid parameter \"{excerpt}\""))),
        }
    }
    if path.is_empty() {
        return Err(SettingError::Text("missing directory".to_owned()));
    }
    if writer.is_some() && read_only {
        let text = "\"writer=\" and \"read_only\" cannot be combined".to_owned();
        return Err(SettingError::Text(text));
    }
    let path = full_path(path);
    let excerpt = Excerpt::new(&path);
    if let Some(earlier) = settings.iter().find(|setting| setting.path == path) {
        let text = format!("duplicate directory \"{excerpt}\", first configured at {}", earlier.at);
        return Err(SettingError::Text(text));
    }
    let writable = settings.iter().find(|setting| setting.writer.is_some());
    if let Some(earlier) = writable.filter(|_| !read_only) {
        let text = format!(
            "only one directory can be written to, and that is configured at {}; add \"read_only\" to \
             the others",
            earlier.at
        );
        return Err(SettingError::Text(text));
    }
    let writer = (!read_only).then_some(writer);
    settings.push(RecordsSetting { path, writer, max_staleness: staleness, at });
    Ok(())
}

/// Reads the value of the directive for last good certificates: `off`, or outside all servers (`global`) a directory.
/// `full_path` makes a path absolute as the server does.
///
/// # Errors
/// [`SettingError::Text`] for a directory inside a server.
pub fn set_keep(
    global: Option<&mut GlobalSettings>,
    server: &mut ServerSettings,
    value: &str,
    at: Location,
    full_path: impl FnOnce(&str) -> String,
) -> Result<(), SettingError> {
    match (value, global) {
        ("off", _) => server.keep = Some(false),
        ("", _) => return Err(SettingError::Text("missing directory".to_owned())),
        (path, Some(global)) => global.keep = Some(KeepSetting { path: full_path(path), at }),
        (_, None) => {
            let text = "within a server, only \"off\" is allowed; all servers share one directory";
            return Err(SettingError::Text(text.to_owned()));
        }
    }
    Ok(())
}

/// Reads the arguments of a directive that declares hosts to be served elsewhere: `NAME`, `NAME:PORT` or
/// `NAME:PORT/udp`, where `*.` before the name stands for one label.
///
/// # Errors
/// [`SettingError::Text`] for an invalid name or port, and for a duplicate host.
pub fn add_not_served_here(
    settings: &mut Vec<NotServedHere>,
    arguments: &[String],
    at: &Location,
) -> Result<(), SettingError> {
    for argument in arguments {
        let excerpt = Excerpt::new(argument);
        let (argument, udp) = match argument.strip_suffix("/udp") {
            Some(argument) => (argument, true),
            None => (argument.as_str(), false),
        };
        let (name, number) = match argument.rsplit_once(':') {
            // An IPv6 address is refused later in any case.
            Some((name, number)) if !name.contains(':') => (name, Some(port(number)?)),
            _ if udp => {
                return Err(SettingError::Text(format!(
                    "invalid host \"{excerpt}\": \"/udp\" is allowed only after a port"
                )));
            }
            _ => (argument, None),
        };
        let (name, matching) = match name.strip_prefix("*.") {
            Some(domain) => (domain, Matching::OneLabel),
            None => (name, Matching::Exact),
        };
        let host = name.parse().map_err(|error| {
            SettingError::Text(format!("invalid host name in \"{excerpt}\": {error}"))
        })?;
        let named = NotServedHere { host, matching, port: number, udp, at: at.clone() };
        let is_same = |other: &&NotServedHere| {
            (&other.host, other.matching, other.port, other.udp)
                == (&named.host, matching, number, udp)
        };
        if let Some(earlier) = settings.iter().find(is_same) {
            let text = format!("duplicate host \"{excerpt}\", first configured at {}", earlier.at);
            return Err(SettingError::Text(text));
        }
        settings.push(named);
    }
    Ok(())
}

/// The value of the directive that puts a policy into use.
#[derive(Clone, Debug, Default)]
pub enum UseSetting {
    /// Not configured.
    #[default]
    Unset,
    /// No policy.
    Off,
    /// This policy.
    Policy(PolicyUse),
}

impl UseSetting {
    /// Reads the value of a directive at this place.
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

    /// Inherits the value of the enclosing block, if the server has none of its own.
    pub fn inherit(&mut self, outer: &Self) {
        if let Self::Unset = self {
            *self = outer.clone();
            if let Self::Policy(policy) = self {
                policy.own = false;
            }
        }
    }
}

/// The settings of a server, or of the enclosing block for servers without their own.
#[derive(Clone, Debug, Default)]
pub struct ServerSettings {
    /// The policy for `Public-Key-Pins`.
    pub enforced: UseSetting,
    /// The policy for `Public-Key-Pins-Report-Only`.
    pub report_only: UseSetting,
    /// What the server does about a lock-out or an unsure answer.
    pub check: Option<Check>,
    /// The file with additional trust anchors, and the place of its directive.
    pub trusted: Option<(String, Location)>,
    /// Whether its last good certificate is kept if a directory is configured; by default it is.
    pub keep: Option<bool>,
    /// Whether the enforced policy is also sent for certificates that are chosen during the handshake, if they satisfy
    /// it.
    pub unguarded: bool,
    /// The guard of the certificate that is chosen during the handshake (nginx).
    pub guard: Option<GuardSetting>,
    /// Whether renewals keep the key, if the operator has declared it.
    pub renewal_key: Option<RenewalKey>,
}

impl ServerSettings {
    /// Inherits the settings of the enclosing block that the server does not set itself.
    pub fn inherit(&mut self, outer: &Self) {
        if matches!(self.enforced, UseSetting::Unset) {
            self.unguarded = outer.unguarded;
        }
        self.enforced.inherit(&outer.enforced);
        self.report_only.inherit(&outer.report_only);
        self.check = self.check.or(outer.check);
        self.keep = self.keep.or(outer.keep);
        if self.guard.is_none() {
            self.guard = outer.guard.clone().map(|guard| GuardSetting { own: false, ..guard });
        }
        self.renewal_key = self.renewal_key.or(outer.renewal_key);
        if self.trusted.is_none() {
            self.trusted.clone_from(&outer.trusted);
        }
    }

    /// The policies in use, the enforced one first.
    #[must_use]
    pub fn policies(&self) -> [Option<&PolicyUse>; 2] {
        [self.enforced.policy(), self.report_only.policy()]
    }

    /// Whether a policy is in use.
    #[must_use]
    pub fn uses_policy(&self) -> bool {
        self.policies().iter().any(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(arguments: &[&str]) -> Result<Vec<NotServedHere>, SettingError> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let mut settings = Vec::new();
        let at = Location { file: "nginx.conf".into(), line: 3 };
        add_not_served_here(&mut settings, &arguments, &at).map(|()| settings)
    }

    #[test]
    fn hosts_that_are_served_elsewhere_are_read() {
        let settings =
            named(&["Api.example.com", "api.example.com:853", "*.example.org", "*.a.test:25"]);
        let udp = named(&["a.example:853/udp", "a.example:853"]).unwrap();
        assert_eq!(
            [(udp[0].port, udp[0].udp), (udp[1].port, udp[1].udp)],
            [(Some(853), true), (Some(853), false)]
        );
        let read: Vec<(String, Matching, Option<u16>)> = settings
            .unwrap()
            .into_iter()
            .map(|named| (named.host.to_string(), named.matching, named.port))
            .collect();
        let expected = [
            ("api.example.com", Matching::Exact, None),
            ("api.example.com", Matching::Exact, Some(853)),
            ("example.org", Matching::OneLabel, None),
            ("a.test", Matching::OneLabel, Some(25)),
        ];
        let expected = expected.map(|(host, matching, port)| (host.to_owned(), matching, port));
        assert_eq!(read, expected);
    }

    #[test]
    fn invalid_hosts_are_refused() {
        for argument in [
            "",
            ":443",
            "a.example:",
            "a.example:0",
            "a.example:65536",
            "a.example:x",
            "a.example/udp",
            "a.example:853/tcp",
            "*",
            "*.",
            "a.*.example",
            "192.0.2.1",
            "[2001:db8::1]",
            "2001:db8::1",
            "~a",
            "b\u{fc}cher.example",
        ] {
            assert!(named(&[argument]).is_err(), "{argument}");
        }
        assert!(named(&["a.example", "A.example."]).is_err(), "twice");
        assert!(named(&["a.example", "a.example:443"]).is_ok());
    }
}
