//! Real servers with real certificates: nginx and httpd test, reload and answer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hpkp_core::published::{Body, Event, Identity};
use hpkp_tests::httpd::{Httpd, Module, Mpm};
use hpkp_tests::instance::{Instance, Reload};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::outcome::Outcome;
use hpkp_tests::{free_port, recorded};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;

use crate::history::{Others, Reply, Site};
use crate::world::{Block, CA_CERTS, Config, HOSTS, Key, Kind, ROOTS, STREAM, Sent};
use crate::{nature, pki};

/// nginx or httpd.
#[derive(Debug)]
enum Server {
    Nginx(Nginx),
    Httpd(Httpd),
}

impl Server {
    fn instance(&self) -> &Instance {
        match self {
            Self::Nginx(nginx) => nginx,
            Self::Httpd(httpd) => httpd,
        }
    }
}

/// A real server, its records, and its observed answers.
#[derive(Debug)]
pub struct Real {
    server: Server,
    /// The real port for each port of the world.
    ports: HashMap<u16, u16>,
    is_running: bool,
    /// Blocks that send their header, and the hosts whose clients get it.
    sending: Vec<(usize, &'static str)>,
    /// How many config tests were run.
    pub tests: RefCell<usize>,
    /// Observations that differ from the world's model of the servers.
    pub surprises: Vec<String>,
}

impl Real {
    pub fn new(kind: Kind, ports: &HashMap<u16, u16>) -> Self {
        let mut server = match kind {
            Kind::Nginx => Server::Nginx(Nginx::new()),
            Kind::Httpd => Server::Httpd(Httpd::with(Module::Shipped, Mpm::Event)),
        };
        // The tests compare the findings themselves, and httpd warns about names.
        let expected = ["hpkp: ", ":warn] "];
        match &mut server {
            Server::Nginx(nginx) => nginx.expect_in_log(&expected),
            Server::Httpd(httpd) => httpd.expect_in_log(&expected),
        }
        let instance = server.instance();
        instance.pki().records("records");
        instance.pki().write("html/index.html", "x");
        let roots: Vec<u8> = ROOTS.iter().flat_map(|root| pki::ca_pem(CA_CERTS[*root])).collect();
        instance.pki().write("roots.pem", roots);
        Self {
            server,
            ports: ports.clone(),
            is_running: false,
            sending: vec![],
            tests: RefCell::new(0),
            surprises: vec![],
        }
    }

    /// Ports for a whole test.
    pub fn ports() -> HashMap<u16, u16> {
        [443, 8443, STREAM].map(|port| (port, free_port())).into()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.server.instance().path(name)
    }

    /// The files of a certificate and its key.
    fn certificate(&self, sent: &Sent) -> (String, String) {
        let mut pem = pki::leaf_pem(&sent.leaf);
        pem.extend(sent.cas.iter().flat_map(|ca| pki::ca_pem(*ca)));
        let names = sent.leaf.names.join("_").replace('*', "-");
        let cas: Vec<String> = sent
            .cas
            .iter()
            .map(|ca| format!("{}{}{}", ca.subject, ca.issuer, ca.edition))
            .collect();
        let issuer = sent.leaf.issuer.map_or("self".to_owned(), |issuer| issuer.to_string());
        let (key, edition) = (sent.leaf.key, sent.leaf.edition);
        let name = format!("{key}-{issuer}-{edition}-{}-{names}.pem", cas.join("."));
        fs::write(self.file(&name), pem).expect("a file");
        let key_name = format!("{key}.key");
        fs::write(self.file(&key_name), pki::private_key_pem(key)).expect("a file");
        (name, key_name)
    }

    fn write(&self, config: &Config) {
        match &self.server {
            Server::Nginx(nginx) => nginx.configure(&self.nginx(config)),
            Server::Httpd(httpd) => httpd.configure(&self.httpd(config)),
        }
    }

    fn nginx(&self, config: &Config) -> String {
        let mut text = String::from(
            "server_names_hash_bucket_size 128;\nhpkp_published_pins records writer=web-1;\n\
             hpkp_trusted_certificate roots.pem;\n",
        );
        for host in &config.not_served_here {
            let _ = writeln!(text, "hpkp_not_served_here {host};");
        }
        for (at, block) in config.blocks.iter().enumerate() {
            if let Some(policy) = &block.policy {
                let pins = pins(&policy.pins, "pin ", "; ");
                let include = if policy.include_subdomains { "include_subdomains on;" } else { "" };
                let days = policy.days;
                let _ = writeln!(text, "hpkp_policy p{at} {{ {pins} max_age {days}d; {include} }}");
            }
            let _ = write!(text, "server {{ ");
            for port in &block.ports {
                let default = if block.is_default { " default_server" } else { "" };
                let _ = write!(text, "listen 127.0.0.1:{} ssl{default}; ", self.ports[port]);
            }
            if !block.names.is_empty() {
                let _ = write!(text, "server_name {}; ", block.names.join(" "));
            }
            for sent in &block.slots {
                let (certificate, key) = self.certificate(sent);
                let _ = write!(text, "ssl_certificate {certificate}; ssl_certificate_key {key}; ");
            }
            if block.policy.is_some() {
                let _ = write!(text, "hpkp p{at}; ");
            }
            let _ = writeln!(text, "return 200 {at}; }}");
        }
        text
    }

    fn httpd(&self, config: &Config) -> String {
        let used = |port: &u16| config.blocks.iter().any(|block| block.ports.contains(port));
        let mut text = String::new();
        for port in [443, 8443].iter().filter(|port| used(port)) {
            let _ = writeln!(text, "Listen 127.0.0.1:{}", self.ports[port]);
        }
        text.push_str("HPKPPublishedPins records writer=web-1\nHPKPTrustedCertificate roots.pem\n");
        for host in &config.not_served_here {
            let _ = writeln!(text, "HPKPNotServedHere {host}");
        }
        for (at, block) in config.blocks.iter().enumerate() {
            if let Some(policy) = &block.policy {
                let pins = pins(&policy.pins, "HPKPPin ", "\n");
                let include =
                    if policy.include_subdomains { "HPKPIncludeSubDomains on\n" } else { "" };
                let days = policy.days;
                let _ = writeln!(
                    text,
                    "<HPKPPolicy p{at}>\n{pins}HPKPMaxAge {days}d\n{include}</HPKPPolicy>"
                );
            }
            self.vhost(&mut text, at, block);
        }
        text
    }

    fn vhost(&self, text: &mut String, at: usize, block: &Block) {
        let addresses: Vec<String> =
            block.ports.iter().map(|port| format!("127.0.0.1:{}", self.ports[port])).collect();
        let _ = writeln!(text, "<VirtualHost {}>", addresses.join(" "));
        // A pattern can only be an alias.
        let is_pattern = block.names.first().is_some_and(|name| name.starts_with('*'));
        let own = format!("p{at}.invalid");
        let (name, others) = match block.names.split_first() {
            Some((name, others)) if !is_pattern => (*name, others),
            _ => (own.as_str(), &block.names[..]),
        };
        let _ = writeln!(text, "ServerName {name}");
        for name in others {
            let _ = writeln!(text, "ServerAlias {name}");
        }
        text.push_str("SSLEngine on\n");
        for sent in &block.slots {
            let (certificate, key) = self.certificate(sent);
            let _ = writeln!(text, "SSLCertificateFile {certificate}\nSSLCertificateKeyFile {key}");
        }
        if block.policy.is_some() {
            let _ = writeln!(text, "HPKPUse p{at}");
        }
        text.push_str("</VirtualHost>\n");
    }

    fn test(&self) -> Outcome {
        *self.tests.borrow_mut() += 1;
        match &self.server {
            Server::Nginx(nginx) => nginx.test(),
            Server::Httpd(httpd) => httpd.test(),
        }
    }

    /// Sends a request for every host on every port, and checks that the right block answers, as the oracle assumes.
    fn look(&mut self, config: &Config) {
        self.sending.clear();
        for port in [443, 8443] {
            for host in HOSTS {
                let Some((at, _)) = nature::route(config, host, port) else { continue };
                let sent = nature::chosen(&config.blocks[at], 0);
                match answer(self.ports[&port], host) {
                    Ok((leaf, has_header)) => {
                        let expected = X509::from_pem(&pki::leaf_pem(&sent.leaf)).expect("PEM");
                        if leaf.to_der().ok() != expected.to_der().ok() {
                            self.surprises
                                .push(format!("{host}:{port} presents another leaf: {config}"));
                        }
                        if has_header {
                            self.sending.push((at, host));
                        }
                    }
                    Err(error) => {
                        self.surprises.push(format!("{host}:{port}: {error}: {config}"));
                    }
                }
            }
        }
    }
}

fn pins(keys: &[Key], before: &str, after: &str) -> String {
    keys.iter().map(|key| format!("{before}{}{after}", pki::pin(*key))).collect()
}

/// The leaf that a client gets, and whether the response has the field.
fn answer(port: u16, host: &str) -> Result<(X509, bool), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| text(&e))?;
    stream.set_read_timeout(Some(Duration::from_secs(180))).map_err(|e| text(&e))?;
    let mut connector = SslConnector::builder(SslMethod::tls()).map_err(|e| text(&e))?;
    connector.set_verify(SslVerifyMode::NONE);
    // The list of ciphers decides which certificate a server with two of them presents.
    connector.set_max_proto_version(Some(SslVersion::TLS1_2)).map_err(|e| text(&e))?;
    connector.set_cipher_list("ECDHE-ECDSA-AES128-GCM-SHA256").map_err(|e| text(&e))?;
    let connector = connector.build().configure().map_err(|e| text(&e))?;
    let mut tls = connector.verify_hostname(false).connect(host, stream).map_err(|e| text(&e))?;
    let leaf = tls.ssl().peer_certificate().ok_or("no certificate")?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).map_err(|e| text(&e))?;
    let mut response = Vec::new();
    let _ = tls.read_to_end(&mut response);
    let response = String::from_utf8_lossy(&response).to_ascii_lowercase();
    if !response.starts_with("http/1.1 ") {
        return Err(format!("no response: {response}"));
    }
    Ok((leaf, response.contains("\r\npublic-key-pins:")))
}

impl Site for Real {
    fn now(&self) -> Option<i64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time");
        Some(now.as_secs() as i64)
    }

    fn port(&self, port: u16) -> u16 {
        self.ports[&port]
    }

    fn learn(&mut self, others: &Others) {
        let lines = |events: &[Event], first: Option<Event>| -> String {
            first.iter().chain(events).map(|event| format!("{}\n", event.line())).collect()
        };
        let first = |events: &[Event]| {
            let event = events.first()?;
            let identity = Identity { instance: "a".repeat(32), machine: "b".repeat(32) };
            Some(Event::new(event.at(), 0, event.writer().clone(), Body::Writer(identity)))
        };
        let write = |name: &str, text: String| {
            if !text.is_empty() {
                fs::write(self.file(&format!("records/{name}.jsonl")), text).expect("a file");
            }
        };
        write("operator", lines(&others.operator, None));
        write("peers/web-2", lines(&others.copied, first(&others.copied)));
        let (ours, liars): (Vec<Event>, Vec<Event>) =
            others.lies.iter().cloned().partition(|event| event.writer().as_str() == "web-1");
        write("peers/web-1", lines(&ours, first(&ours)));
        write("peers/liar", lines(&liars, first(&liars)));
    }

    fn ask(&mut self, config: &Config, _: i64) -> Reply {
        self.write(config);
        let outcome = self.test();
        let findings = outcome
            .text
            .lines()
            .filter_map(|line| line.find("hpkp: [").map(|at| line[at..].to_owned()));
        let mut lines: Vec<String> = findings.collect();
        let is_refused = outcome.code != Some(0);
        if is_refused && lines.is_empty() {
            self.surprises
                .push(format!("refused by the server itself: {}\n{config}", outcome.text));
        }
        lines.dedup();
        Reply { is_refused, findings: lines }
    }

    fn serve(&mut self, config: &Config, is_unwritable: bool, _: i64) {
        let own = self.file("records/web-1.jsonl");
        let link = self.file("backup-of-records");
        let is_linked = is_unwritable && own.exists();
        if is_linked {
            fs::hard_link(&own, &link).expect("a link");
        }
        self.write(config);
        let reload = match &mut self.server {
            Server::Nginx(nginx) if self.is_running => nginx.reload(),
            Server::Httpd(httpd) if self.is_running => httpd.graceful(),
            Server::Nginx(nginx) => {
                nginx.start();
                Reload::Accepted
            }
            Server::Httpd(httpd) => {
                httpd.start();
                Reload::Accepted
            }
        };
        if let Reload::Refused(log) = reload {
            self.surprises.push(format!("the test passed and the reload was refused: {log}"));
        }
        self.is_running = true;
        if is_linked {
            fs::remove_file(&link).expect("a link removed");
        }
        self.look(config);
    }

    fn forget_certificates(&mut self) {
        // Only the core's histories have this.
    }

    fn stop(&mut self, _: i64) {
        match &mut self.server {
            Server::Nginx(nginx) => nginx.stop(),
            Server::Httpd(httpd) => httpd.stop(),
        }
        self.is_running = false;
    }

    fn sends(&self, block: usize, host: &str) -> bool {
        self.sending.contains(&(block, HOSTS.iter().find(|own| **own == host).expect("a host")))
    }

    fn written(&self) -> Vec<Event> {
        recorded::events(&self.file("records/web-1.jsonl"))
    }
}
