//! Configurations described once and written for either server. Each directive is on a line of its own; one line can
//! be marked as the place that a refusal must name.

use std::collections::BTreeSet;

use crate::outcome::Kind;

/// A directive, in a policy, in a host or for the whole server.
#[derive(Clone, Debug)]
pub struct Directive {
    /// The names in nginx and in httpd.
    names: [&'static str; 2],
    words: Vec<String>,
    marked: bool,
}

macro_rules! directives {
    ($($name:ident = $nginx:literal, $httpd:literal;)*) => {
        $(
            #[doc = concat!("`", $nginx, "`, `", $httpd, "`.")]
            pub fn $name(value: impl Into<String>) -> Directive {
                let names = [$nginx, $httpd];
                Directive { names, words: vec![value.into()], marked: false }
            }
        )*
    };
}

directives! {
    pin = "pin", "HPKPPin";
    max_age = "max_age", "HPKPMaxAge";
    include_subdomains = "include_subdomains", "HPKPIncludeSubDomains";
    report_uri = "report_uri", "HPKPReportURI";
    uses = "hpkp", "HPKPUse";
    uses_report_only = "hpkp_report_only", "HPKPUseReportOnly";
    check = "hpkp_check", "HPKPCheck";
    on_start = "hpkp_on_start", "HPKPOnStart";
    trusts = "hpkp_trusted_certificate", "HPKPTrustedCertificate";
    include = "include", "Include";
}

/// `hpkp_published_pins`, `HPKPPublishedPins`, which takes several words.
pub fn published_pins(words: &[&str]) -> Directive {
    several(["hpkp_published_pins", "HPKPPublishedPins"], words)
}

/// `hpkp_public_port`, `HPKPPublicPort`.
pub fn public_port(words: &[&str]) -> Directive {
    several(["hpkp_public_port", "HPKPPublicPort"], words)
}

/// `hpkp_not_served_here`, `HPKPNotServedHere`.
pub fn not_served_here(words: &[&str]) -> Directive {
    several(["hpkp_not_served_here", "HPKPNotServedHere"], words)
}

fn several(names: [&'static str; 2], words: &[&str]) -> Directive {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Directive { names, words, marked: false }
}

impl Directive {
    /// Marks the line.
    pub fn here(mut self) -> Self {
        self.marked = true;
        self
    }

    /// The directive in the server's syntax.
    pub fn text(&self, kind: Kind) -> String {
        let words: Vec<String> = self.words.iter().map(|word| quoted(word, kind)).collect();
        match kind {
            Kind::Nginx => format!("{} {};", self.names[0], words.join(" ")),
            Kind::Httpd => format!("{} {}", self.names[1], words.join(" ")),
        }
    }
}

/// One word of a configuration, in quotes where it needs them.
fn quoted(value: &str, kind: Kind) -> String {
    let special = |c: char| c.is_ascii_whitespace() || "\"'{};#$\\<>".contains(c);
    if !value.is_empty() && !value.contains(special) {
        return value.to_owned();
    }
    if value.contains('"') && !value.contains(['\'', '\\', '\n']) {
        return format!("'{value}'");
    }
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    match kind {
        Kind::Nginx => format!("\"{}\"", escaped.replace('\r', "\\r").replace('\n', "\\n")),
        Kind::Httpd => {
            assert!(!value.contains('\n'), "a line of httpd's configuration ends at a line feed");
            format!("\"{escaped}\"")
        }
    }
}

/// A part of a configuration.
#[derive(Clone, Debug)]
pub enum Part {
    Policy {
        name: String,
        settings: Vec<Directive>,
        marked: bool,
    },
    /// A directive for all hosts that have no such directive of their own.
    All(Directive),
    Host(Host),
}

/// A host on a port, with TLS if it has certificates.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    port: u16,
    certificates: Vec<String>,
    settings: Vec<Directive>,
}

pub fn policy(name: &str, settings: impl IntoIterator<Item = Directive>) -> Part {
    let settings = settings.into_iter().collect();
    Part::Policy { name: name.to_owned(), settings, marked: false }
}

/// As [`policy`]; the line of its name is marked.
pub fn policy_here(name: &str, settings: impl IntoIterator<Item = Directive>) -> Part {
    let settings = settings.into_iter().collect();
    Part::Policy { name: name.to_owned(), settings, marked: true }
}

/// A host with the certificates and keys `NAME.pem`, `NAME.key`.
pub fn host(
    name: &str,
    port: u16,
    certificates: &[&str],
    settings: impl IntoIterator<Item = Directive>,
) -> Part {
    Part::Host(Host {
        name: name.to_owned(),
        port,
        certificates: certificates.iter().map(|name| (*name).to_owned()).collect(),
        settings: settings.into_iter().collect(),
    })
}

/// Lines, one of which may be marked.
#[derive(Debug, Default)]
pub struct Written {
    pub lines: Vec<String>,
    /// The position of the marked line, from 0.
    pub marked: Option<usize>,
}

impl Written {
    /// The configuration in the server's syntax.
    pub fn new(parts: &[Part], kind: Kind) -> Self {
        let mut written = Self::default();
        if kind == Kind::Httpd {
            let ports: BTreeSet<u16> = parts.iter().filter_map(Part::port).collect();
            written.lines.extend(ports.iter().map(|port| format!("Listen 127.0.0.1:{port}")));
        }
        parts.iter().for_each(|part| written.part(part, kind));
        written
    }

    fn line(&mut self, line: impl Into<String>, marked: bool) {
        if marked {
            assert_eq!(self.marked.replace(self.lines.len()), None, "two marked lines");
        }
        self.lines.push(line.into());
    }

    fn directive(&mut self, directive: &Directive, kind: Kind) {
        self.line(directive.text(kind), directive.marked);
    }

    fn part(&mut self, part: &Part, kind: Kind) {
        match part {
            Part::All(directive) => self.directive(directive, kind),
            Part::Policy { name, settings, marked } => {
                let name = quoted(name, kind);
                let (begin, end) = match kind {
                    Kind::Nginx => (format!("hpkp_policy {name} {{"), "}"),
                    Kind::Httpd => (format!("<HPKPPolicy {name}>"), "</HPKPPolicy>"),
                };
                self.line(begin, *marked);
                settings.iter().for_each(|setting| self.directive(setting, kind));
                self.line(end, false);
            }
            Part::Host(host) => self.host(host, kind),
        }
    }

    fn host(&mut self, host: &Host, kind: Kind) {
        let (name, port) = (quoted(&host.name, kind), host.port);
        let tls = !host.certificates.is_empty();
        match kind {
            Kind::Nginx => {
                let ssl = if tls { " ssl" } else { "" };
                self.line(format!("server {{ listen 127.0.0.1:{port}{ssl};"), false);
                self.line(format!("server_name {name};"), false);
                for file in &host.certificates {
                    let pair =
                        format!("ssl_certificate {file}.pem; ssl_certificate_key {file}.key;");
                    self.line(pair, false);
                }
            }
            Kind::Httpd => {
                self.line(format!("<VirtualHost 127.0.0.1:{port}>"), false);
                self.line(format!("ServerName {name}"), false);
                if tls {
                    self.line("SSLEngine on", false);
                }
                for file in &host.certificates {
                    self.line(format!("SSLCertificateFile {file}.pem"), false);
                    self.line(format!("SSLCertificateKeyFile {file}.key"), false);
                }
            }
        }
        host.settings.iter().for_each(|setting| self.directive(setting, kind));
        self.line(if kind == Kind::Nginx { "}" } else { "</VirtualHost>" }, false);
    }
}

impl Part {
    fn port(&self) -> Option<u16> {
        match self {
            Self::Host(host) => Some(host.port),
            _ => None,
        }
    }
}
