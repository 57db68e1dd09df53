//! Builds the main server and the virtual hosts from the directives.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hpkp_core::finding::{Finding, Location, Text};
use hpkp_core::text::Excerpt;
use hpkp_server::host_name::host_name;
use hpkp_server::httpd::{
    Address, ManagedDomains, Server, TlsDirectives, define, mark_asked, policy_directive,
    set_global, set_in_policy, set_in_server, set_keep,
};
use hpkp_server::setting::{GlobalSettings, ServerSettings};

use super::super::files::full_path;
use super::super::problem::{self, Problems, Read, invalid, is_utf8, of_directive};
use super::known::is_known;
use super::tree::{Directive, undefined_variable};
use super::words::words;

/// The number of a server: 0 is the main one, virtual hosts follow.
pub(super) type Place = usize;

/// The directives of a virtual host.
#[derive(Debug, Default)]
struct Block {
    name: Option<String>,
    aliases: Vec<String>,
    patterns: Vec<String>,
    addresses: Vec<Address>,
    settings: ServerSettings,
    protocol: Option<String>,
    at: Option<Location>,
}

/// All servers and directives of the configuration.
pub(super) struct Everything {
    pub(super) global: GlobalSettings,
    main: Block,
    hosts: Vec<Block>,
    pub(super) tls: TlsDirectives<Place>,
    listens: Vec<Listen>,
    root: String,
}

/// A `Listen` directive.
#[derive(Debug)]
struct Listen {
    ip: IpAddr,
    port: u16,
    protocol: String,
}

/// The module's directives that are allowed in a server, with a description of their argument.
const IN_SERVER: [(&str, &str); 5] = [
    ("HPKPUse", "the policy to enforce, or off"),
    ("HPKPUseReportOnly", "the policy to try without enforcing it, or off"),
    ("HPKPCheck", "refuse, warn or keep"),
    ("HPKPRenewalKey", "same or new: what renewals do with the key"),
    ("HPKPTrustedCertificate", "a file with trust anchors in addition to those of the system"),
];

/// The directive for the directory of last good certificates.
const KEEP: (&str, &str) = (
    "HPKPKeepCertificates",
    "a directory of root alone for last good certificates; off within a virtual host",
);

/// The module's directives that are not allowed in a virtual host.
const GLOBAL: [&str; 4] =
    ["HPKPOnStart", "HPKPPublishedPins", "HPKPPublicPort", "HPKPNotServedHere"];

impl Everything {
    /// Reads the directives in the order of the configuration.
    pub(super) fn read(
        directives: &[Directive],
        root: &str,
        has_mod_md: bool,
        problems: &mut Problems,
    ) -> Read<Self> {
        let managed = ManagedDomains::new(has_mod_md, &|path| full_path(root, path));
        let mut all = Self {
            global: GlobalSettings::default(),
            main: Block::default(),
            hosts: Vec::new(),
            tls: TlsDirectives::new(managed),
            listens: Vec::new(),
            root: root.to_owned(),
        };
        for directive in directives {
            let key = directive.key();
            if matches!(key.as_str(), "<virtualhost" | "<hpkppolicy" | "listen" | "servername") {
                problems.known();
            }
            match key.as_str() {
                "<virtualhost" => all.host(directive, problems)?,
                "<hpkppolicy" => all.policy(directive)?,
                "listen" => all.listen(directive, problems)?,
                _ => {
                    let mut main = std::mem::take(&mut all.main);
                    let done = all.in_server(directive, &key, &mut main, 0, problems);
                    all.main = main;
                    done?;
                }
            }
        }
        Ok(all)
    }

    fn host(&mut self, directive: &Directive, problems: &mut Problems) -> Read<()> {
        is_defined(directive, problems);
        let mut block = Block { at: Some(directive.at.clone()), ..Block::default() };
        let place = self.hosts.len() + 1;
        let mut words = directive.words();
        if words.is_empty() {
            return Err(invalid(
                &directive.at,
                "<VirtualHost> directive requires additional arguments".to_owned(),
            ));
        }
        words.dedup();
        for word in &words {
            match address(word) {
                Ok(address) => block.addresses.push(address),
                Err(why) => problems.not_understood(&directive.at, why),
            }
        }
        for inner in &directive.inner {
            let key = inner.key();
            let is_global = GLOBAL.iter().any(|name| name.eq_ignore_ascii_case(&key));
            if is_global || matches!(key.as_str(), "<hpkppolicy" | "listen" | "<virtualhost") {
                let name = Excerpt::new(&inner.name);
                let text = format!("{name} cannot occur within <VirtualHost> section");
                return Err(invalid(&inner.at, text));
            }
            self.in_server(inner, &key, &mut block, place, problems)?;
        }
        self.hosts.push(block);
        Ok(())
    }

    fn policy(&mut self, directive: &Directive) -> Read<()> {
        is_utf8(&directive.at, std::iter::once(&directive.arguments))?;
        let found = |at: &Location, error: String| of_directive(at, &error);
        define(&mut self.global, words(&directive.arguments), directive.at.clone())
            .map_err(|error| found(&directive.at, error))?;
        let stranger = directive.inner.iter().find(|inner| policy_directive(&inner.name).is_none());
        if let Some(inner) = stranger {
            let text = format!("{} not allowed in <HPKPPolicy>", Excerpt::new(&inner.name));
            return Err(invalid(&inner.at, text));
        }
        for inner in &directive.inner {
            let known = ["HPKPPin", "HPKPMaxAge", "HPKPIncludeSubDomains", "HPKPReportURI"];
            let name = known.iter().find(|name| name.eq_ignore_ascii_case(&inner.name));
            let name = name.copied().unwrap_or(&inner.name);
            let value = one_argument(inner, name, "a value")?;
            let path = |path: &str| full_path(&self.root, path);
            set_in_policy(self.global.policies.last_mut(), name, &value, inner.at.clone(), path)
                .map_err(|error| found(&inner.at, error))?;
        }
        Ok(())
    }

    fn in_server(
        &mut self,
        directive: &Directive,
        key: &str,
        block: &mut Block,
        place: Place,
        problems: &mut Problems,
    ) -> Read<()> {
        let at = &directive.at;
        let root = self.root.clone();
        let path = |path: &str| full_path(&root, path);
        if let Some((name, takes)) =
            IN_SERVER.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))
        {
            is_defined(directive, problems);
            let value = one_argument(directive, name, takes)?;
            return set_in_server(&mut block.settings, name, &value, at.clone(), path)
                .map_err(|error| of_directive(at, &error));
        }
        if KEEP.0.eq_ignore_ascii_case(key) {
            is_defined(directive, problems);
            let value = one_argument(directive, KEEP.0, KEEP.1)?;
            let global = Some(&mut self.global).filter(|_| place == 0);
            return set_keep(global, &mut block.settings, KEEP.0, &value, at.clone(), path)
                .map_err(|error| of_directive(at, &error));
        }
        if let Some(name) = GLOBAL.iter().find(|name| name.eq_ignore_ascii_case(key)) {
            is_defined(directive, problems);
            is_utf8(at, std::iter::once(&directive.arguments))?;
            let arguments = (directive.arguments.as_str(), &*directive.words());
            if *name == "HPKPOnStart" {
                one_argument(directive, name, "warn or refuse")?;
            }
            return set_global(&mut self.global, name, arguments, at.clone(), path)
                .map_err(|error| of_directive(at, &error));
        }
        if policy_directive(&directive.name).is_some() {
            let name = Excerpt::new(&directive.name);
            return Err(invalid(at, format!("{name} not allowed outside <HPKPPolicy>")));
        }
        self.of_the_server(directive, key, block, place, problems)
    }

    /// Reads a directive of httpd's own modules.
    fn of_the_server(
        &mut self,
        directive: &Directive,
        key: &str,
        block: &mut Block,
        place: Place,
        problems: &mut Problems,
    ) -> Read<()> {
        let at = &directive.at;
        let root = self.root.clone();
        let path = |path: &str| full_path(&root, path);
        match key {
            "servername" => {
                is_defined(directive, problems);
                block.name = directive.words().first().map(|name| host_of(name));
            }
            "serveralias" => {
                is_defined(directive, problems);
                for name in directive.words() {
                    let is_pattern = name.contains(['*', '?']);
                    if is_pattern { &mut block.patterns } else { &mut block.aliases }.push(name);
                }
            }
            "protocol" => {
                block.protocol = directive.words().first().map(|word| word.to_lowercase())
            }
            _ if key.starts_with("ssl") => {
                is_defined(directive, problems);
                let tls = match place {
                    0 => &mut self.tls.main,
                    place => self.tls.hosts.entry(place).or_default(),
                };
                tls.read(key, &directive.words(), at, &path);
                look(directive, problems)?;
            }
            _ if key.starts_with("md") || key.starts_with("<md") => {
                let inner = directive.inner.iter().map(|inner| (inner.key(), inner.words()));
                self.tls.managed.read(key, directive.words(), inner, place != 0, &path);
                look(directive, problems)?;
            }
            _ => {
                self.tls.others.read(key, || (directive.words(), at.clone()));
                look(directive, problems)?;
            }
        }
        Ok(())
    }

    fn listen(&mut self, directive: &Directive, problems: &mut Problems) -> Read<()> {
        is_defined(directive, problems);
        let words = directive.words();
        let Some(first) = words.first() else {
            return Err(invalid(&directive.at, "Listen requires 1 or 2 arguments.".to_owned()));
        };
        let (ip, port) = match first.parse::<u16>() {
            Ok(port) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            Err(_) => match address(first) {
                Ok(Address { ip, port }) if port != 0 => match ip.parse() {
                    Ok(ip) => (ip, port),
                    // The address cannot be parsed, so it counts as the wildcard address.
                    Err(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
                },
                Ok(_) => return Err(invalid(&directive.at, "Port must be specified".to_owned())),
                Err(why) => {
                    problems.not_understood(&directive.at, why);
                    return Ok(());
                }
            },
        };
        let protocol = words.get(1).map(|protocol| protocol.to_ascii_lowercase());
        let default = || if port == 443 { "https" } else { "http" }.to_owned();
        self.listens.push(Listen { ip, port, protocol: protocol.unwrap_or_else(default) });
        Ok(())
    }

    /// The addresses of all `Listen` directives.
    pub(super) fn listening(&self) -> BTreeSet<Address> {
        let address = |listen: &Listen| Address { ip: listen.ip.to_string(), port: listen.port };
        self.listens.iter().map(address).collect()
    }

    /// Whether a `Listen` directive gives a server the protocol `https`. The server's own `Protocol`
    /// directive takes precedence.
    pub(super) fn listens_on_https(&self, place: Place) -> bool {
        let Some(block) = place.checked_sub(1).map_or(Some(&self.main), |at| self.hosts.get(at))
        else {
            return false;
        };
        let protocol = block.protocol.as_ref().or(self.main.protocol.as_ref());
        if let Some(protocol) = protocol {
            return protocol == "https";
        }
        let mut found = block.addresses.iter().filter_map(|address| {
            let ip: IpAddr = address.ip.parse().ok()?;
            let same = |listen: &&Listen| {
                let is_any = listen.ip.is_unspecified() && ip.is_unspecified();
                listen.port == address.port && (listen.ip == ip || is_any)
            };
            self.listens.iter().find(same)
        });
        found.next().is_some_and(|listen| listen.protocol == "https")
    }

    /// All servers, the main one first.
    pub(super) fn servers(&self, problems: &mut Problems) -> Vec<Server<Place>> {
        let main_name = self.main.name.clone().unwrap_or_else(host_name);
        let mut all = vec![server(&self.main, 0, main_name.clone(), self.main.settings.clone())];
        for (block, place) in self.hosts.iter().zip(1..) {
            let mut settings = block.settings.clone();
            settings.inherit(&self.main.settings);
            let name =
                block.name.clone().unwrap_or_else(|| self.unnamed(block, &main_name, problems));
            all.push(server(block, place, name, settings));
        }
        mark_asked(&mut all);
        all
    }

    /// The name that httpd gives a virtual host without ServerName: the main server's name if the virtual
    /// host has a wildcard address, else the name that DNS has for the address.
    fn unnamed(&self, block: &Block, main_name: &str, problems: &mut Problems) -> String {
        let ips: Vec<IpAddr> =
            block.addresses.iter().filter_map(|address| address.ip.parse().ok()).collect();
        match ips.first() {
            _ if ips.iter().any(IpAddr::is_unspecified) => main_name.to_owned(),
            Some(ip) if ip.is_loopback() => "localhost".to_owned(),
            _ => {
                if let Some(at) = &block.at {
                    let text = Text::new(
                        "this virtual host has no ServerName; httpd takes the name that DNS has for its \
                         address, and this command does not ask DNS",
                    );
                    problems.not_understood(at, text.fix("add ServerName"));
                }
                String::new()
            }
        }
    }
}

fn server(block: &Block, place: Place, name: String, settings: ServerSettings) -> Server<Place> {
    let (aliases, patterns) = (block.aliases.clone(), block.patterns.clone());
    Server::new(place, name, aliases, patterns, block.addresses.clone(), settings)
}

/// The host of `ServerName`, without the scheme before it and the port after it.
fn host_of(name: &str) -> String {
    let host = name.split_once("://").map_or(name, |(_, host)| host);
    if host.starts_with('[') {
        return host.split(']').next().unwrap_or(host).trim_start_matches('[').to_owned();
    }
    host.split(':').next().unwrap_or(host).to_owned()
}

/// Parses `ADDRESS[:PORT]` of a virtual host or of `Listen`. Port 0 stands for any port.
fn address(word: &str) -> Result<Address, Text> {
    let shown = Excerpt::new(word);
    let (host, port) = match word.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, behind)) => (host, behind.strip_prefix(':')),
        None => match word.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (word, None),
        },
    };
    let port = match port {
        None | Some("*") => 0,
        Some(port) => port.parse().map_err(|_| {
            Text::new(format!("\"{shown}\" has no port that can be read, so it is not looked at"))
        })?,
    };
    let ip = match host {
        "*" | "_default_" => "0.0.0.0".to_owned(),
        "localhost" => Ipv4Addr::LOCALHOST.to_string(),
        host => host.parse::<IpAddr>().map(|ip| ip.to_string()).map_err(|_| {
            Text::new(format!(
                "httpd looks \"{shown}\" up in DNS when it starts, and this command does not, so this \
                 address is not looked at"
            ))
            .fix("give an IP address or *")
        })?,
    };
    Ok(Address { ip, port })
}

/// The only argument of a directive.
fn one_argument(directive: &Directive, name: &str, takes: &str) -> Read<String> {
    is_utf8(&directive.at, std::iter::once(&directive.arguments))?;
    match <[String; 1]>::try_from(directive.words()) {
        Ok([word]) if !word.is_empty() => Ok(word),
        _ => Err(invalid(&directive.at, format!("{name} takes one argument, {takes}"))),
    }
}

/// Reports a variable without a value in a directive that the check needs.
fn is_defined(directive: &Directive, problems: &mut Problems) {
    if let Some(name) = &directive.undefined {
        problems.not_understood(&directive.at, undefined_variable(name));
    }
}

/// Checks a directive that configures no certificates, and the directives in its section.
fn look(directive: &Directive, problems: &mut Problems) -> Read<()> {
    let name = directive.name.trim_start_matches('<');
    if name.to_ascii_lowercase().starts_with("hpkp") {
        return Err(misplaced(directive));
    }
    if !is_known(name) {
        problems.unknown(&directive.at, problem::directive(&directive.name));
        return Ok(());
    }
    problems.known();
    for inner in &directive.inner {
        if OF_SERVERS.iter().any(|known| known.eq_ignore_ascii_case(&inner.name)) {
            let text = format!("{} not allowed in <{name}> context", Excerpt::new(&inner.name));
            return Err(invalid(&inner.at, text));
        }
        look(inner, problems)?;
    }
    Ok(())
}

/// Directives that mod_ssl allows in the main server and in virtual hosts, but not in a section such as
/// `<Directory>`.
const OF_SERVERS: [&str; 4] =
    ["SSLEngine", "SSLCertificateFile", "SSLCertificateKeyFile", "SSLCertificateChainFile"];

fn misplaced(directive: &Directive) -> Box<Finding> {
    let name = directive.name.as_str();
    let all = IN_SERVER.iter().map(|(name, _)| *name).chain(GLOBAL);
    let is_ours = all.chain(["<HPKPPolicy", KEEP.0]).any(|known| known.eq_ignore_ascii_case(name))
        || policy_directive(name).is_some();
    let shown = Excerpt::new(name);
    let text = match is_ours {
        true => format!("{shown} not allowed here"),
        false => format!("Invalid command '{shown}'"),
    };
    invalid(&directive.at, text)
}
