//! Reads a policy file: TOML with the names of nginx's directives (`docs/reference/command.md`). Also
//! builds servers from the certificates of the command line.

use std::borrow::Cow;
use std::ops::Range;

use hpkp_core::check;
use hpkp_core::finding::{Check, Finding, Location};
use hpkp_core::text::Excerpt;
use hpkp_server::loader::Loader;
use hpkp_server::nginx::{
    Address, Built, Choosers, Configuration, Outside, Own, Server, Servers, define, set_global,
    set_in_policy, set_in_server,
};
use hpkp_server::setting::{GlobalSettings, ServerSettings, UseSetting};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::checked::Checked;
use super::configuration::Text;
use super::files::full_path;
use super::options::Options;
use super::presented::{Given, of_files, of_group};
use super::problem::{Problems, Read, invalid, of_directive};

/// The port of a server without `port`.
const HTTPS: u16 = 443;

/// The names of the keys in findings.
const NAMES: check::Names = check::Names {
    max_age: "max_age",
    report_uri: "report_uri",
    trusted_certificate: "trusted_certificate (or --roots)",
    published_pins: "published_pins (or --published)",
    not_served_here: "not_served_here",
    reject_handshake: None,
    same_key: Some("renewal_key = \"same\""),
};

/// The contents of the file.
#[derive(Debug, Default)]
struct PolicyFile {
    global: GlobalSettings,
    settings: ServerSettings,
    servers: Vec<Block>,
    /// The policies that are marked for reports only.
    for_reports: Vec<String>,
    /// The first line, which is the place of findings about missing settings.
    at: Option<Location>,
}

/// A `[[server]]` table.
#[derive(Debug)]
struct Block {
    at: Location,
    names: Vec<String>,
    ports: Vec<u16>,
    certificates: Vec<String>,
    settings: ServerSettings,
}

/// The source of a server's certificates.
enum Handle<'a> {
    /// Files that the policy file names.
    Files { files: &'a [String], names: &'a [String] },
    /// Certificates of the command line.
    Given(Vec<&'a Given>),
}

/// Reads and checks.
pub(super) fn check(
    text: Option<&Text>,
    options: &Options,
    loader: &mut Loader<'_>,
) -> Read<Checked> {
    let mut file = match text {
        Some(text) => Reader::new(text, options).read(text)?,
        None => PolicyFile::default(),
    };
    options.amend(&mut file.global);
    options.amend_server(&mut file.settings);
    if file.servers.is_empty() {
        file.use_the_only_policy();
    }
    let (mut servers, addresses) = file.servers(options)?;
    for server in &mut servers.all {
        options.amend_server(&mut server.settings);
        if options.is_lenient() {
            server.check = Check::Warn;
        }
    }
    for address in &addresses {
        servers.add_address(address, &file.global.public_ports);
    }
    let configuration = Configuration {
        global: &file.global,
        around: &file.settings,
        check: file.settings.check.unwrap_or_default(),
        servers: &servers,
        outside: &Outside::default(),
        unseen_choosers: &[],
    };
    if !configuration.is_checked() {
        return Ok(Checked::nothing(Problems::default()));
    }
    let present = |loader: &mut Loader<'_>, handle: &Handle<'_>| match handle {
        Handle::Files { files, names } => of_files(loader, files, &[], names, &options.given),
        Handle::Given(group) => of_group(loader, group),
    };
    let Built { mut deployment, .. } = configuration.build(loader, present);
    deployment.names = NAMES;
    let verdict = configuration.verdict(&mut deployment, loader);
    Ok(Checked::new(deployment, verdict, file.global.on_start, Problems::default()))
}

impl PolicyFile {
    /// If the file has no server, each certificate of the command line counts as a server. If the file has
    /// one policy, the policy applies to these servers.
    fn use_the_only_policy(&mut self) {
        let UseSetting::Unset = self.settings.enforced else { return };
        let UseSetting::Unset = self.settings.report_only else { return };
        for policy in &self.global.policies {
            let for_reports = self.for_reports.contains(&policy.name);
            let setting = match for_reports {
                true => &mut self.settings.report_only,
                false => &mut self.settings.enforced,
            };
            if let UseSetting::Unset = setting {
                *setting = UseSetting::new(&policy.name, policy.at.clone());
            }
        }
    }

    fn servers<'a>(&'a self, options: &'a Options) -> Read<(Servers<Handle<'a>>, Vec<Address>)> {
        let own = Some(Own::default());
        let mut all = Vec::new();
        let mut addresses: Vec<Address> = Vec::new();
        if self.servers.is_empty() {
            if options.given.0.is_empty() {
                let at = self.at.clone().unwrap_or_else(|| Location { file: "-".into(), line: 1 });
                let text = "no certificate to check: give --cert FILE, or add [[server]] with a certificate";
                return Err(super::problem::unreadable(&at, text.to_owned()));
            }
            for group in options.given.groups() {
                let names = group.first().map(|given| given.names().to_vec()).unwrap_or_default();
                let position = all.len();
                let settings = (self.settings.clone(), Choosers::default());
                let claims = if names.is_empty() { vec![String::new()] } else { names };
                all.push(Server::new(Handle::Given(group), claims, Vec::new(), settings, own));
                // Each server gets its own address, because several certificates may have the same names.
                addresses.push(address(HTTPS, vec![position]));
            }
            return Ok((Servers::new(all), addresses));
        }
        for block in &self.servers {
            let position = all.len();
            let mut settings = block.settings.clone();
            settings.inherit(&self.settings);
            let handle = Handle::Files { files: &block.certificates, names: &block.names };
            let claims = match block.names.is_empty() {
                true => vec![String::new()],
                false => block.names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            };
            let settings = (settings, Choosers::default());
            all.push(Server::new(handle, claims, Vec::new(), settings, own));
            for port in &block.ports {
                match addresses.iter_mut().find(|address| address.port == *port) {
                    Some(address) => address.servers.push(position),
                    None => addresses.push(address(*port, vec![position])),
                }
            }
        }
        Ok((Servers::new(all), addresses))
    }
}

fn address(port: u16, servers: Vec<usize>) -> Address {
    let default = servers.first().copied().unwrap_or(0);
    Address { text: format!("*:{port}"), port, tls: true, quic: false, servers, default }
}

/// Parses the file.
struct Reader<'a> {
    /// The name of the file in messages.
    file: &'a str,
    /// The directory from which relative paths are resolved.
    directory: String,
    /// The positions of the lines' first bytes.
    starts: Vec<usize>,
}

/// A key with its value.
type Entry<'a> = (&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>);

impl<'a> Reader<'a> {
    fn new(text: &'a Text, options: &Options) -> Self {
        let ends = text.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        let file = if text.name == "-" { "standard input" } else { &text.name };
        Self { file, directory: options.directory(&text.name), starts }
    }

    fn at(&self, span: Range<usize>) -> Location {
        let line = self.starts.partition_point(|start| *start <= span.start);
        Location { file: self.file.into(), line }
    }

    fn read(&self, text: &Text) -> Read<PolicyFile> {
        let parsed = std::str::from_utf8(&text.bytes).map_err(|error| {
            let at = error.valid_up_to();
            invalid(&self.at(at..at), "invalid UTF-8".to_owned())
        })?;
        let table = DeTable::parse(parsed).map_err(|error| {
            let at = self.at(error.span().unwrap_or_default());
            invalid(&at, format!("invalid TOML: {}", error.message()))
        })?;
        let mut file = PolicyFile { at: Some(self.at(0..0)), ..PolicyFile::default() };
        for (key, value) in ordered(table.get_ref()) {
            let at = self.at(key.span());
            match bare(key.get_ref()) {
                "policy" => self.policies(value, &mut file)?,
                "server" => self.servers(value, &mut file)?,
                _ => {
                    let (global, settings) = (&mut file.global, &mut file.settings);
                    if !self.in_server(key, value, settings)? && !self.global(key, value, global)? {
                        return Err(unknown(&at, key.get_ref(), "the file"));
                    }
                }
            }
        }
        Ok(file)
    }

    /// Reads `[policy.NAME]`.
    fn policies(&self, value: &Spanned<DeValue<'_>>, file: &mut PolicyFile) -> Read<()> {
        let DeValue::Table(policies) = value.get_ref() else {
            let text = "a policy is a table with a name, as in [policy.site]".to_owned();
            return Err(invalid(&self.at(value.span()), text));
        };
        for (name, policy) in ordered(policies) {
            let at = self.at(name.span());
            let words = ["policy".to_owned(), name.get_ref().to_string()];
            define(&mut file.global, &words, at.clone())
                .map_err(|error| of_directive(&at, &error))?;
            let DeValue::Table(settings) = policy.get_ref() else {
                let text =
                    format!("a policy is a table, as in [policy.{}]", Excerpt::new(&words[1]));
                return Err(invalid(&at, text));
            };
            for (key, value) in ordered(settings) {
                if bare(key.get_ref()) == "report_only" {
                    if self.boolean(key, value)? {
                        file.for_reports.push(words[1].clone());
                    }
                    continue;
                }
                let Some(policy) = file.global.policies.last_mut() else { continue };
                self.in_policy(key, value, policy)?;
            }
        }
        Ok(())
    }

    fn in_policy(
        &self,
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        policy: &mut hpkp_core::policy::PolicySpec,
    ) -> Read<()> {
        let (name, prefix) = match key.get_ref().as_ref() {
            "pins" => ("pin", ""),
            "pin_file" | "pin_files" => ("pin", "file:"),
            name @ ("pin" | "max_age" | "include_subdomains" | "report_uri") => (name, ""),
            other => return Err(unknown(&self.at(key.span()), other, "a policy")),
        };
        for (at, text) in self.texts(key, value, name == "pin")? {
            let words = [name.to_owned(), format!("{prefix}{text}")];
            let path = |path: &str| full_path(&self.directory, path);
            set_in_policy(policy, &words, at.clone(), path)
                .map_err(|error| of_directive(&at, &error))?;
        }
        Ok(())
    }

    /// Reads a key as a directive of a server, and says whether it was one.
    fn in_server(
        &self,
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        settings: &mut ServerSettings,
    ) -> Read<bool> {
        let name = match bare(key.get_ref()) {
            "hpkp" | "use" => "hpkp",
            "report_only" => "hpkp_report_only",
            "check" => "hpkp_check",
            "renewal_key" => "hpkp_renewal_key",
            "trusted_certificate" => "hpkp_trusted_certificate",
            _ => return Ok(false),
        };
        for (at, text) in self.texts(key, value, false)? {
            let words = [name.to_owned(), text];
            let path = |path: &str| full_path(&self.directory, path);
            set_in_server(settings, &words, at.clone(), path)
                .map_err(|error| of_directive(&at, &error))?;
        }
        Ok(true)
    }

    /// Reads a key as a directive for all servers, and says whether it was one.
    fn global(
        &self,
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        global: &mut GlobalSettings,
    ) -> Read<bool> {
        let name = match bare(key.get_ref()) {
            "on_start" => "hpkp_on_start",
            "published_pins" | "published" => "hpkp_published_pins",
            "public_port" => "hpkp_public_port",
            "not_served_here" => "hpkp_not_served_here",
            _ => return Ok(false),
        };
        let is_list = name != "hpkp_on_start";
        for (at, text) in self.texts(key, value, is_list)? {
            let mut words = vec![name.to_owned()];
            words.extend(arguments(name, &text));
            let path = |path: &str| full_path(&self.directory, path);
            set_global(global, &words, at.clone(), path)
                .map_err(|error| of_directive(&at, &error))?;
        }
        Ok(true)
    }

    /// Reads `[[server]]`.
    fn servers(&self, value: &Spanned<DeValue<'_>>, file: &mut PolicyFile) -> Read<()> {
        let tables: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
            DeValue::Array(servers) => servers.iter().collect(),
            _ => vec![value],
        };
        for value in tables {
            let at = self.at(value.span());
            let DeValue::Table(table) = value.get_ref() else {
                return Err(invalid(&at, "a server is a table, as in [[server]]".to_owned()));
            };
            let block = self.server(table, at)?;
            file.servers.push(block);
        }
        Ok(())
    }

    fn server(&self, table: &DeTable<'_>, at: Location) -> Read<Block> {
        let mut block = Block {
            at,
            names: Vec::new(),
            ports: Vec::new(),
            certificates: Vec::new(),
            settings: ServerSettings::default(),
        };
        for (key, value) in ordered(table) {
            match key.get_ref().as_ref() {
                "name" | "names" | "server_name" => {
                    block
                        .names
                        .extend(self.texts(key, value, true)?.into_iter().map(|(_, name)| name));
                }
                "listen" | "port" => {
                    for (at, text) in self.texts(key, value, true)? {
                        let port = text.rsplit(':').next().unwrap_or(&text).parse::<u16>();
                        let port = port.ok().filter(|port| *port != 0).ok_or_else(|| {
                            let text = Excerpt::new(&text);
                            invalid(&at, format!("invalid port \"{text}\", expected 1 to 65535"))
                        })?;
                        block.ports.push(port);
                    }
                }
                "certificate" | "certificates" | "ssl_certificate" => {
                    let paths = self.texts(key, value, true)?.into_iter();
                    block
                        .certificates
                        .extend(paths.map(|(_, path)| full_path(&self.directory, &path)));
                }
                other => {
                    if !self.in_server(key, value, &mut block.settings)? {
                        return Err(unknown(&self.at(key.span()), other, "a server"));
                    }
                }
            }
        }
        if block.certificates.is_empty() {
            let text = "this server has no certificate; add: certificate = \"FILE\"".to_owned();
            return Err(invalid(&block.at, text));
        }
        if block.ports.is_empty() {
            block.ports.push(HTTPS);
        }
        Ok(block)
    }

    /// The values of a key, each with its place: one value, or an array if the key allows several.
    fn texts(
        &self,
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        is_list: bool,
    ) -> Read<Vec<(Location, String)>> {
        let one = |value: &Spanned<DeValue<'_>>| {
            let at = self.at(value.span());
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                DeValue::Boolean(true) => "on".to_owned(),
                DeValue::Boolean(false) => "off".to_owned(),
                _ => {
                    let name = Excerpt::new(key.get_ref().as_ref()).to_string();
                    let text = format!("invalid value of \"{name}\", expected a string");
                    return Err(invalid(&at, text));
                }
            };
            Ok((at, text))
        };
        match value.get_ref() {
            DeValue::Array(values) if is_list => values.iter().map(one).collect(),
            _ => Ok(vec![one(value)?]),
        }
    }

    fn boolean(&self, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Read<bool> {
        match value.get_ref() {
            DeValue::Boolean(is) => Ok(*is),
            _ => {
                let text =
                    format!("invalid value of \"{}\", expected true or false", key.get_ref());
                Err(invalid(&self.at(value.span()), text))
            }
        }
    }
}

/// Splits the value of a directive into arguments: "8443 443", "DIR writer=NAME". The name of a directory
/// may contain blanks.
fn arguments(name: &str, text: &str) -> Vec<String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if name != "hpkp_published_pins" {
        return words.into_iter().map(str::to_owned).collect();
    }
    let mut options = Vec::new();
    let mut directory = text.trim();
    while let Some(word) = words.pop().filter(|_| !words.is_empty()) {
        let is_option = word == "read_only"
            || word.starts_with("writer=")
            || word.starts_with("max_staleness=");
        if !is_option {
            break;
        }
        directory = directory.strip_suffix(word).unwrap_or(directory).trim_end();
        options.insert(0, word.to_owned());
    }
    std::iter::once(directory.to_owned()).chain(options).collect()
}

/// The name of a directive without nginx's prefix.
fn bare(name: &str) -> &str {
    name.strip_prefix("hpkp_").unwrap_or(name)
}

/// The entries of a table, in the order of the file.
fn ordered<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn unknown(at: &Location, key: &str, place: &str) -> Box<Finding> {
    invalid(at, format!("unknown key \"{}\" in {place}", Excerpt::new(key)))
}
