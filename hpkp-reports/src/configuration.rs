//! Reads and checks the configuration file (TOML).
//!
//! An error names the file, the line, the key and the value.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hpkp_core::pin::Pin;
use hpkp_core::ua::host::Host;
use serde::Deserialize;

use crate::output::{self, of_item};
use crate::proxies::Proxies;

/// The largest configuration file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The most connections at a time that can be configured.
const MAX_CONNECTIONS: u64 = 100_000;

/// The smallest database that can be configured, in bytes.
const MIN_SIZE: u64 = 100 << 10;

/// The content of the configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The address on which reports are received.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The database: a file, or `postgresql://…`.
    pub store: StoreName,
    /// The hosts whose reports are accepted.
    pub hosts: Vec<HostPattern>,
    /// Directories with records of published pins, which identify our keys.
    #[serde(default)]
    pub records: Vec<PathBuf>,
    /// Pins of ours besides those on record.
    #[serde(default)]
    pub policies: BTreeMap<HostPattern, OwnPolicy>,
    /// A list of private roots that takes precedence over the built-in one.
    pub private_roots: Option<PathBuf>,
    /// Trusted certificates of the public CAs: a directory or a file.
    #[serde(default = "default_trust")]
    pub trusted_certificates: PathBuf,
    /// Proxies whose `X-Forwarded-For` is trusted: addresses and networks.
    #[serde(default)]
    pub trusted_proxies: Proxies,
    /// Whether client addresses are stored.
    #[serde(default)]
    pub keep_addresses: bool,
    /// TLS for both listeners.
    pub tls: Option<Tls>,
    /// Limits for unauthenticated senders.
    #[serde(default)]
    pub limits: Limits,
    /// How long groups are kept.
    #[serde(default)]
    pub retention: Retention,
    /// The web pages.
    #[serde(default)]
    pub pages: Pages,
    /// The recipients of alarms.
    #[serde(default)]
    pub alarms: Alarms,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8470))
}

fn default_trust() -> PathBuf {
    PathBuf::from("/etc/ssl/certs")
}

/// Pins of one host, set in the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnPolicy {
    /// The pins.
    pub pins: Vec<OwnPin>,
    /// Whether clients enforce the pins.
    #[serde(default)]
    pub mode: Mode,
}

/// How clients treat a violation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Clients refuse the connection.
    #[default]
    Enforced,
    /// Clients report the violation and continue.
    ReportOnly,
}

/// Certificate files of the listeners.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain (PEM).
    pub certificate: PathBuf,
    /// The private key (PEM).
    pub key: PathBuf,
}

/// Limits for unauthenticated senders.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest body, in bytes, before and after gzip.
    pub body: Size,
    /// Seconds in which a request must be complete.
    pub seconds: u64,
    /// Requests of one client per minute.
    pub client_per_minute: u32,
    /// Reports for one entry of `hosts` per second.
    pub host_per_second: u32,
    /// Reports for all hosts per second.
    pub total_per_second: u32,
    /// Simultaneous connections.
    pub connections: usize,
    /// Simultaneous connections of one client.
    pub client_connections: usize,
    /// New groups for one entry of `hosts` per day; further reports are counted in one group.
    pub groups_per_day: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: Size(256 << 10),
            seconds: 10,
            client_per_minute: 600,
            host_per_second: 500,
            total_per_second: 2000,
            connections: 1024,
            client_connections: 32,
            groups_per_day: 1000,
        }
    }
}

/// How long groups are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Days since the last report of a group.
    pub days: u32,
    /// The largest database, in bytes; the oldest groups are deleted beyond it.
    pub size: Size,
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: 90, size: Size(1 << 30) }
    }
}

/// The web pages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pages {
    /// The address on which the pages are served; `None` for `listen = "off"`.
    #[serde(deserialize_with = "address_or_off")]
    pub listen: Option<SocketAddr>,
    /// The URL of the pages for people, for links in alarms.
    pub url: Option<WebAddress>,
    /// A file whose first line is the token that readers need.
    pub token_file: Option<PathBuf>,
    /// The header in which the reverse proxy names the reader.
    pub user_header: Option<HeaderName>,
}

impl Default for Pages {
    fn default() -> Self {
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 8471)));
        Self { listen, url: None, token_file: None, user_header: None }
    }
}

/// The recipients of alarms.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alarms {
    /// Alarms per hour, by mail, webhook and command together.
    pub per_hour: u32,
    /// Whether unexplained findings cause alarms too.
    pub unexplained: bool,
    /// Alarms by mail.
    pub mail: Option<Mail>,
    /// Alarms by a `POST` of JSON.
    pub webhook: Option<Webhook>,
    /// Alarms by a command with its arguments, which reads JSON.
    pub command: Option<Vec<String>>,
}

impl Default for Alarms {
    fn default() -> Self {
        Self { per_hour: 20, unexplained: true, mail: None, webhook: None, command: None }
    }
}

/// Alarms by mail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// `smtp://HOST[:PORT]`, `smtp+starttls://…` or `smtps://…`.
    pub server: String,
    /// The sender.
    pub from: MailAddress,
    /// The recipients.
    pub to: Vec<MailAddress>,
    /// The user name, for a server that requires it.
    pub user: Option<String>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
}

/// Alarms by a webhook.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// An `http` or `https` address.
    pub url: WebAddress,
}

/// The database of the store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StoreName {
    /// SQLite, in a file.
    File(PathBuf),
    /// PostgreSQL.
    Postgres(String),
}

impl TryFrom<String> for StoreName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with("postgresql://") || text.starts_with("postgres://") {
            return Ok(Self::Postgres(text));
        }
        match Path::new(&text).is_absolute() {
            true => Ok(Self::File(PathBuf::from(text))),
            false => Err("expected an absolute path or postgresql://...".to_owned()),
        }
    }
}

/// A host, or `*.DOMAIN` for all hosts below a domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern {
    host: String,
    below: bool,
}

impl HostPattern {
    /// Whether the pattern matches this host.
    #[must_use]
    pub fn matches(&self, host: &Host) -> bool {
        let host = host.as_str();
        match self.below {
            false => host == self.host,
            true => host.strip_suffix(self.host.as_str()).is_some_and(|rest| rest.ends_with('.')),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.host)
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text.as_str()),
        };
        let host = Host::parse(name).map_err(|_| of_item(&text, "invalid host name"))?;
        if below && matches!(host, Host::Address(_)) {
            return Err(of_item(&text, "an IP address has no hosts below it"));
        }
        Ok(Self { host: host.canonical().as_str().to_owned(), below })
    }
}

/// A pin in the usual form: `sha256/…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OwnPin(pub Pin);

impl TryFrom<String> for OwnPin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let pin = text.parse().map(Self);
        pin.map_err(|error| of_item(&text, &format!("invalid pin: {error}")))
    }
}

/// A number of bytes: `65536`, `"64k"`, `"256M"`, `"1G"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SizeText")]
pub struct Size(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Number(u64),
    Text(String),
}

impl TryFrom<SizeText> for Size {
    type Error = String;

    fn try_from(text: SizeText) -> Result<Self, String> {
        let text = match text {
            SizeText::Number(number) => return Ok(Self(number)),
            SizeText::Text(text) => text,
        };
        let digits = text.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']);
        let unit = match &text[digits.len()..] {
            "" => 1,
            "k" | "K" => 1 << 10,
            "m" | "M" => 1 << 20,
            "g" | "G" => 1 << 30,
            _ => 0,
        };
        let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        let number = number.filter(|_| unit > 0);
        number.map(Self).ok_or_else(|| "invalid size (expected 65536, \"64k\", \"1G\")".to_owned())
    }
}

/// The name of a header field.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderName(pub axum::http::HeaderName);

impl TryFrom<String> for HeaderName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "invalid header name".to_owned())
    }
}

/// A mail address.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct MailAddress(pub lettre::message::Mailbox);

impl TryFrom<String> for MailAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| of_item(&text, "invalid mail address"))
    }
}

/// An `http` or `https` URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct WebAddress(pub String);

impl TryFrom<String> for WebAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_web = text.parse::<axum::http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        is_web.then_some(Self(text)).ok_or_else(|| "expected https://... or http://...".to_owned())
    }
}

fn address_or_off<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "off" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| serde::de::Error::custom("expected ADDRESS:PORT or off")),
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ConfigurationError {
    /// The whole text: file, line, key, value and what is wrong.
    pub text: String,
    /// Whether the file could not be read, as opposed to having an error.
    pub is_unreadable: bool,
}

impl Configuration {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read or has an error.
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let file = output::printable(&path.display().to_string());
        let unreadable = |text: String| ConfigurationError {
            text: format!("{file}: {text}"),
            is_unreadable: true,
        };
        let size = std::fs::metadata(path).map_err(|error| unreadable(output::os(&error)))?.len();
        if size > MAX_FILE {
            return Err(unreadable(format!("larger than {MAX_FILE} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(output::os(&error)))?;
        Self::parse(&text, &file)
    }

    /// Reads the text of a configuration file. The name of the file is used in messages.
    ///
    /// # Errors
    /// The text has an error.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigurationError> {
        let configuration: Self =
            toml::from_str(text).map_err(|error| wrong(&error, text, file))?;
        configuration.check().map_err(|(key, problem)| ConfigurationError {
            text: format!("{}: {problem}", place(text, file, key)),
            is_unreadable: false,
        })?;
        Ok(configuration)
    }

    /// Adds the place in the file to an error about a file or value that a key names, such as `pages.token_file: ...`.
    #[must_use]
    pub fn placed(path: &Path, error: &str) -> String {
        let file = output::printable(&path.display().to_string());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        match error.split_once(": ") {
            Some((key, problem)) if find(&text, key).is_some() => {
                format!("{}: {problem}", place(&text, &file, key))
            }
            _ => format!("{file}: {error}"),
        }
    }

    /// Checks values that depend on each other. An error has the key and what is wrong.
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.hosts.is_empty() {
            return Err(("hosts", "no host is listed, so no report would be accepted".to_owned()));
        }
        let is_open = self.pages.listen.is_some_and(|listen| !listen.ip().is_loopback());
        if is_open && self.pages.token_file.is_none() && self.pages.user_header.is_none() {
            let text = "the pages would be open to everybody: set token_file or user_header";
            return Err(("pages.listen", text.to_owned()));
        }
        if self.pages.user_header.is_some() && self.trusted_proxies.is_empty() {
            let text = "the header is trusted only from a proxy: set trusted_proxies";
            return Err(("pages.user_header", text.to_owned()));
        }
        let limits = &self.limits;
        let retention = &self.retention;
        let numbers = [
            ("limits.client_per_minute", u64::from(limits.client_per_minute), u64::from(u32::MAX)),
            ("limits.host_per_second", limits.host_per_second.into(), u32::MAX.into()),
            ("limits.total_per_second", limits.total_per_second.into(), u32::MAX.into()),
            ("limits.groups_per_day", limits.groups_per_day.into(), u32::MAX.into()),
            ("limits.seconds", limits.seconds, 3600),
            ("limits.connections", limits.connections as u64, MAX_CONNECTIONS),
            ("limits.client_connections", limits.client_connections as u64, MAX_CONNECTIONS),
            ("limits.body", limits.body.0, hpkp_core::ua::report_reader::MAX_BODY as u64),
            ("retention.days", retention.days.into(), 36_500),
            ("alarms.per_hour", self.alarms.per_hour.into(), 10_000),
        ];
        for (key, number, most) in numbers {
            if !(1..=most).contains(&number) {
                return Err((key, format!("must be between 1 and {most}")));
            }
        }
        if retention.size.0 < MIN_SIZE {
            return Err(("retention.size", format!("must be at least {MIN_SIZE} bytes")));
        }
        if self
            .alarms
            .command
            .as_ref()
            .is_some_and(|command| command.first().is_none_or(String::is_empty))
        {
            return Err(("alarms.command", "no program is named".to_owned()));
        }
        if self.alarms.mail.as_ref().is_some_and(|mail| mail.to.is_empty()) {
            return Err((
                "alarms.mail.to",
                "the list is empty; name at least one address".to_owned(),
            ));
        }
        Ok(())
    }
}

/// The array item to which an error belongs: its place in the text, and the error without the item.
fn item_of(
    span: std::ops::Range<usize>,
    text: &str,
    what: &str,
) -> (std::ops::Range<usize>, String) {
    let item = what.strip_prefix('"').and_then(|rest| rest.split_once("\": "));
    let Some((item, rest)) = item else { return (span, what.to_owned()) };
    let quoted = format!("\"{item}\"");
    match text.get(span.clone()).and_then(|value| value.find(&quoted)) {
        Some(place) => (span.start + place..span.start + place + quoted.len(), rest.to_owned()),
        None => (span, what.to_owned()),
    }
}

/// An error of the TOML reader, with the line, the key and the value.
fn wrong(error: &toml::de::Error, text: &str, file: &str) -> ConfigurationError {
    let what = error.message().lines().collect::<Vec<_>>().join(" ");
    let (span, what) = item_of(error.span().unwrap_or(0..0), text, &what);
    let before = text.get(..span.start).unwrap_or_default();
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let key = key_of(before, line);
    let value = text.get(span).unwrap_or_default().lines().next().unwrap_or_default();
    if what.starts_with("missing field") && !line.starts_with('[') {
        let text = output::printable(&format!("{file}: {what}"));
        return ConfigurationError { text, is_unreadable: false };
    }
    // The URL of a database may contain a password.
    let value = if value.contains("://") && value.contains('@') { "..." } else { value };
    let place = match (key.is_empty(), value.is_empty() || key == value) {
        (true, _) => String::new(),
        (false, true) => format!("{key}: "),
        (false, false) => format!("{key} = {value}: "),
    };
    let text = output::printable(&format!("{file}:{number}: {place}{what}"));
    ConfigurationError { text, is_unreadable: false }
}

/// The key to which a line belongs, with the text `before` the value: an array may have a line for each item.
fn key_of<'a>(before: &'a str, line: &'a str) -> &'a str {
    let key = |line: &'a str| line.split_once('=').map(|(key, _)| key.trim());
    if let Some(key) = key(line) {
        return key;
    }
    let mut above = before.lines().rev().take_while(|line| !line.trim_start().starts_with('['));
    above.find_map(key).filter(|_| !line.starts_with('[')).unwrap_or_default()
}

/// The place of a key and its value: `FILE:LINE: KEY = VALUE`.
fn place(text: &str, file: &str, key: &str) -> String {
    match find(text, key) {
        Some((line, value)) => output::printable(&format!("{file}:{line}: {key} = {value}")),
        None => format!("{file}: {key}"),
    }
}

/// The line on which a key is set, and its value. Keys of tables have their names before them: `pages.listen`.
fn find<'a>(text: &'a str, key: &str) -> Option<(usize, &'a str)> {
    let mut table = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            table = format!("{}.", name.trim());
        } else if let Some((name, value)) = line.split_once('=') {
            let name = format!("{table}{}", name.trim());
            // The whole table may be on one line.
            if name == key || key.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')) {
                return Some((number, value.trim()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "store = \"/x/reports.sqlite\"\nhosts = [\"www.example.com\", \"*.example.org\"]\n";

    fn error(text: &str) -> String {
        Configuration::parse(text, "f").expect_err("an error").text
    }

    #[test]
    fn a_file_with_store_and_hosts_is_valid() {
        let read = Configuration::parse(GOOD, "f").expect("valid");
        assert_eq!(read.retention.days, 90);
        let host = |name| Host::parse(name).expect("a host");
        assert!(read.hosts[0].matches(&host("www.example.com")));
        assert!(!read.hosts[0].matches(&host("a.www.example.com")));
        assert!(read.hosts[1].matches(&host("a.b.example.org")));
        assert!(!read.hosts[1].matches(&host("example.org")));
        assert!(!read.hosts[1].matches(&host("badexample.org")));
    }

    #[test]
    fn errors_have_line_key_and_value() {
        for (text, parts) in [
            ("listen = \"x\"\n", &["f:3:", "listen = \"x\""][..]),
            ("lisen = \"127.0.0.1:1\"\n", &["f:3:", "lisen", "unknown field"]),
            ("[limits]\nbody = \"12x\"\n", &["f:4:", "body = \"12x\"", "invalid size"]),
            (
                "[policies.\"www.example.com\"]\npins = [\"sha256/x\"]\n",
                &["f:4: pins = \"sha256/x\": invalid pin"],
            ),
            ("[pages]\nlisten = \"0.0.0.0:80\"\n", &["f:4:", "open to everybody"]),
            ("[limits]\nhost_per_second = 0\n", &["f:4:", "host_per_second = 0", "between 1"]),
            ("[limits]\nconnections = 9223372036854775807\n", &["f:4:", "connections", "between"]),
            ("limits = { seconds = 0 }\n", &["f:3:", "limits.seconds", "between"]),
            ("[retention]\ndays = 0\n", &["f:4:", "retention.days = 0", "between"]),
            ("[retention]\nsize = 10\n", &["f:4:", "retention.size = 10", "at least"]),
            ("[alarms]\nper_hour = 0\n", &["f:4:", "per_hour = 0", "between"]),
            // Two keys have this name; the error names the one of the table.
            (
                "listen = \"127.0.0.1:1\"\n[pages]\nlisten = \"0.0.0.0:80\"\n",
                &["f:5:", "pages.listen = \"0.0.0.0:80\"", "open to everybody"],
            ),
            (
                "[alarms.mail]\nserver = \"x\"\nfrom = \"a@example.com\"\nto = []\n",
                &["f:6:", "alarms.mail.to = []"],
            ),
            ("[alarms]\ncommand = []\n", &["f:4:", "command"]),
            (
                "trusted_proxies = [\"10.1.2.3/8\"]\n",
                &["f:3: trusted_proxies = \"10.1.2.3/8\"", "10.0.0.0/8"],
            ),
            // The array item is on a line of its own.
            (
                "trusted_proxies = [\n  \"127.0.0.1\",\n  \"::/0\",\n]\n",
                &["f:5: trusted_proxies = \"::/0\"", "everybody"],
            ),
            ("[page]\nlisten = \"off\"\n", &["f:3:", "page", "unknown field"]),
        ] {
            let error = error(&format!("{GOOD}{text}"));
            for part in parts {
                assert!(error.contains(part), "{error}: no {part}");
            }
        }
        assert_eq!(error("store = \"/x\"\n"), "f: missing field `hosts`");
        assert!(!error("store = \"mysql://u:secret@h/d\"\nhosts = [\"a\"]\n").contains("secret"));
        assert!(error("store = \"/x\"\nhosts = []\n").contains("f:2: hosts"));
        assert!(error("store = \"x\"\nhosts = [\"a\"]\n").contains("f:1: store = \"x\""));
    }
}
