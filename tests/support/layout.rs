//! Server blocks, policies and records, described once and written for either server.

use std::fmt::Write as _;

use crate::cases::Server;
use crate::httpd::{Httpd, Restart};
use crate::instance::Reload;
use crate::nginx::Nginx;
use crate::outcome::{Kind, Outcome};

/// A pinning policy.
#[derive(Clone, Debug)]
pub struct Policy<'a> {
    pub name: &'a str,
    pub pins: &'a [&'a str],
    pub max_age: &'a str,
    pub include_subdomains: bool,
}

/// A policy named `site` with a max-age of 1 day.
pub const POLICY: Policy<'_> =
    Policy { name: "site", pins: &[], max_age: "1d", include_subdomains: false };

/// A server block with TLS.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    pub port: u16,
    pub names: &'a [&'a str],
    /// The certificates `NAME.pem` with the keys `NAME.key`, side by side.
    pub certificates: &'a [&'a str],
    pub policy: Option<&'a str>,
    /// The port of the TLS server to which this block proxies requests, if it does.
    pub proxied: Option<u16>,
}

/// A block for localhost with the certificate `live` and the policy `site`.
pub const BLOCK: Block<'_> = Block {
    port: 0,
    names: &["localhost"],
    certificates: &["live"],
    policy: Some("site"),
    proxied: None,
};

/// A configuration.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    /// The arguments of each directive that names a directory with records.
    pub published: &'a [&'a str],
    /// A file of roots that clients trust besides the system's, if any.
    pub trusted: Option<&'a str>,
    pub policies: &'a [Policy<'a>],
    pub blocks: &'a [Block<'a>],
    pub check: &'a str,
    pub on_start: &'a str,
}

/// A configuration with one directory for records and nothing else.
pub const LAYOUT: Layout<'_> = Layout {
    published: &["records writer=web-1"],
    trusted: None,
    policies: &[],
    blocks: &[],
    check: "refuse",
    on_start: "warn",
};

impl Layout<'_> {
    /// The configuration for a kind of server.
    pub fn text(&self, kind: Kind) -> String {
        match kind {
            Kind::Nginx => self.for_nginx(),
            Kind::Httpd => self.for_httpd(),
        }
        .expect("a text")
    }

    fn for_nginx(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        for arguments in self.published {
            writeln!(text, "hpkp_published_pins {arguments};")?;
        }
        if let Some(file) = self.trusted {
            writeln!(text, "hpkp_trusted_certificate {file};")?;
        }
        writeln!(text, "hpkp_check {};", self.check)?;
        writeln!(text, "hpkp_on_start {};", self.on_start)?;
        for policy in self.policies {
            let pins: String = policy.pins.iter().map(|pin| format!("pin {pin}; ")).collect();
            let include = if policy.include_subdomains { "include_subdomains on; " } else { "" };
            let Policy { name, max_age, .. } = policy;
            writeln!(text, "hpkp_policy {name} {{ {pins}max_age {max_age}; {include}}}")?;
        }
        for block in self.blocks {
            let names = block.names.join(" ");
            writeln!(text, "server {{ listen 127.0.0.1:{} ssl; server_name {names};", block.port)?;
            for name in block.certificates {
                writeln!(text, "ssl_certificate {name}.pem; ssl_certificate_key {name}.key;")?;
            }
            if let Some(policy) = block.policy {
                writeln!(text, "hpkp {policy};")?;
            }
            match block.proxied {
                Some(port) => {
                    writeln!(text, "location / {{ proxy_pass https://127.0.0.1:{port}; }} }}")?;
                }
                None => writeln!(text, "return 200 x; }}")?,
            }
        }
        Ok(text)
    }

    fn for_httpd(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let mut ports: Vec<u16> = self.blocks.iter().map(|block| block.port).collect();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            writeln!(text, "Listen 127.0.0.1:{port}")?;
        }
        for arguments in self.published {
            writeln!(text, "HPKPPublishedPins {arguments}")?;
        }
        if let Some(file) = self.trusted {
            writeln!(text, "HPKPTrustedCertificate {file}")?;
        }
        writeln!(text, "HPKPCheck {}", self.check)?;
        writeln!(text, "HPKPOnStart {}", self.on_start)?;
        for policy in self.policies {
            writeln!(text, "<HPKPPolicy {}>", policy.name)?;
            for pin in policy.pins {
                writeln!(text, "HPKPPin {pin}")?;
            }
            writeln!(text, "HPKPMaxAge {}", policy.max_age)?;
            if policy.include_subdomains {
                writeln!(text, "HPKPIncludeSubDomains on")?;
            }
            writeln!(text, "</HPKPPolicy>")?;
        }
        for block in self.blocks {
            writeln!(text, "<VirtualHost 127.0.0.1:{}>\nSSLEngine on", block.port)?;
            if let Some((first, others)) = block.names.split_first() {
                writeln!(text, "ServerName {first}")?;
                for name in others {
                    writeln!(text, "ServerAlias {name}")?;
                }
            }
            for name in block.certificates {
                writeln!(text, "SSLCertificateFile {name}.pem\nSSLCertificateKeyFile {name}.key")?;
            }
            if let Some(policy) = block.policy {
                writeln!(text, "HPKPUse {policy}")?;
            }
            if let Some(port) = block.proxied {
                writeln!(text, "SSLProxyEngine on\nSSLProxyCheckPeerName off")?;
                writeln!(text, "ProxyPass / https://127.0.0.1:{port}/")?;
            }
            writeln!(text, "</VirtualHost>")?;
        }
        Ok(text)
    }
}

/// A server that is started and reloaded with layouts.
pub trait Site: Server {
    /// A server with the files of [`Server::prepared`] that answers `/`, and an empty directory
    /// `records`.
    fn with_records() -> Self;

    /// Writes a configuration.
    fn lay_out(&self, layout: &Layout<'_>);

    fn up(&mut self);

    /// Starts the server, which must not come up; returns its output.
    fn up_refused(&mut self) -> Outcome;

    /// Runs a config test and reloads, as an operator does.
    fn reload_tested(&mut self) -> Reload;

    /// Reloads without a config test before it. httpd then never refuses.
    fn reload_forced(&mut self) -> Reload;

    fn down(&mut self);
}

impl Site for Nginx {
    fn with_records() -> Self {
        let nginx = Self::prepared();
        nginx.pki().records("records");
        nginx
    }

    fn lay_out(&self, layout: &Layout<'_>) {
        self.configure(&layout.text(Kind::Nginx));
    }

    fn up(&mut self) {
        self.start();
    }

    fn up_refused(&mut self) -> Outcome {
        let outcome = self.run(&["-g", "daemon off;"]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        outcome
    }

    fn reload_tested(&mut self) -> Reload {
        let outcome = Server::test(self);
        if outcome.code != Some(0) {
            return Reload::Refused(outcome.text);
        }
        self.reload()
    }

    fn reload_forced(&mut self) -> Reload {
        self.reload()
    }

    fn down(&mut self) {
        self.stop();
    }
}

impl Site for Httpd {
    fn with_records() -> Self {
        let mut httpd = Self::prepared();
        httpd.load(&["dir", "proxy", "proxy_http"]);
        let pki = httpd.pki();
        pki.records("records");
        pki.write("html/index.html", "x");
        httpd
    }

    fn lay_out(&self, layout: &Layout<'_>) {
        self.configure(&layout.text(Kind::Httpd));
    }

    fn up(&mut self) {
        self.start();
    }

    fn up_refused(&mut self) -> Outcome {
        self.start_refused()
    }

    fn reload_tested(&mut self) -> Reload {
        self.graceful()
    }

    fn reload_forced(&mut self) -> Reload {
        match self.restart(libc::SIGUSR1) {
            Restart::Served(_) => Reload::Accepted,
            Restart::Ended(log) => panic!("the server has ended:\n{log}"),
        }
    }

    fn down(&mut self) {
        self.stop();
    }
}
