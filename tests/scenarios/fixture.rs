//! The fixture of most scenarios: one server with the records that it writes.

use std::fs;

use hpkp_tests::client::{Curl, Response};
use hpkp_tests::free_port;
use hpkp_tests::instance::Reload;
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::pki::{Pki, leaf_extensions};

/// The file to which the server of a fixture writes.
pub const OWN: &str = "records/web-1.jsonl";

/// A server, and what all its configurations have in common.
pub struct Fixture<S: Site> {
    pub site: S,
    pub pki: Pki,
    pub port: u16,
    pub published: &'static [&'static str],
    pub trusted: Option<&'static str>,
    pub max_age: &'static str,
}

impl<S: Site> Fixture<S> {
    pub fn new() -> Self {
        let site = S::with_records();
        let pki = site.pki();
        let Layout { published, trusted, .. } = LAYOUT;
        Self { site, pki, port: free_port(), published, trusted, max_age: POLICY.max_age }
    }

    /// Passes `then` a configuration with a block for localhost. Its policy has these pins; without
    /// pins the block has no policy.
    pub fn one<R>(
        &self,
        certificates: &[&str],
        pins: &[&str],
        then: impl FnOnce(&Layout<'_>) -> R,
    ) -> R {
        let policies = [Policy { pins, max_age: self.max_age, ..POLICY }];
        let policies = if pins.is_empty() { &policies[..0] } else { &policies };
        let policy = policies.first().map(|policy| policy.name);
        let blocks = [Block { port: self.port, certificates, policy, ..BLOCK }];
        let Self { published, trusted, .. } = *self;
        then(&Layout { published, trusted, policies, blocks: &blocks, ..LAYOUT })
    }

    /// Starts the server with a configuration as of [`Fixture::one`].
    #[track_caller]
    pub fn up(&mut self, certificates: &[&str], pins: &[&str], warnings: &[&str]) {
        self.one(certificates, pins, |layout| self.site.lay_out(layout));
        self.start(warnings);
    }

    /// The same, with any configuration.
    #[track_caller]
    pub fn up_with(&mut self, layout: &Layout<'_>, warnings: &[&str]) {
        self.site.lay_out(layout);
        self.start(warnings);
    }

    #[track_caller]
    fn start(&mut self, warnings: &[&str]) {
        self.site.test().accepted(warnings);
        self.expect(warnings);
        self.site.up();
    }

    /// Allows findings with these codes in the error log.
    pub fn expect(&mut self, codes: &[&str]) {
        for code in codes {
            self.site.expect_in_log(&[&format!("hpkp: [{code}]")]);
        }
    }

    /// Fails unless a config test refuses a configuration as of [`Fixture::one`] with these findings and no
    /// others; returns the test's output.
    #[track_caller]
    pub fn refuses(&self, certificates: &[&str], pins: &[&str], codes: &[&str]) -> String {
        self.one(certificates, pins, |layout| self.refuses_all(layout, codes))
    }

    /// The same, with any configuration.
    #[track_caller]
    pub fn refuses_all(&self, layout: &Layout<'_>, codes: &[&str]) -> String {
        self.site.lay_out(layout);
        let outcome = self.site.test();
        assert_eq!((outcome.code, outcome.codes()), (Some(1), codes.to_vec()), "{}", outcome.text);
        outcome.text
    }

    /// Fails unless a config test accepts a configuration as of [`Fixture::one`] with these warnings and no
    /// others.
    #[track_caller]
    pub fn passes(&self, certificates: &[&str], pins: &[&str], warnings: &[&str]) {
        self.one(certificates, pins, |layout| self.passes_all(layout, warnings));
    }

    /// The same, with any configuration.
    #[track_caller]
    pub fn passes_all(&self, layout: &Layout<'_>, warnings: &[&str]) {
        self.site.lay_out(layout);
        self.site.test().accepted(warnings);
    }

    /// As [`Fixture::passes`], and the configuration takes effect.
    #[track_caller]
    pub fn takes(&mut self, certificates: &[&str], pins: &[&str], warnings: &[&str]) {
        self.passes(certificates, pins, warnings);
        self.reload(warnings);
    }

    /// The same, with any configuration.
    #[track_caller]
    pub fn takes_all(&mut self, layout: &Layout<'_>, warnings: &[&str]) {
        self.passes_all(layout, warnings);
        self.reload(warnings);
    }

    /// The configuration takes effect, with these warnings.
    #[track_caller]
    pub fn reload(&mut self, warnings: &[&str]) {
        self.expect(warnings);
        assert_eq!(self.site.reload_forced(), Reload::Accepted);
    }

    /// Stops the server and removes its records, as if no client had ever connected.
    #[track_caller]
    pub fn forget(&mut self) {
        self.site.down();
        fs::remove_file(self.site.path(OWN)).expect("records");
        fs::remove_file(self.site.path("records/hpkp-reserve")).expect("what was written");
    }

    /// The response to a client that trusts `ca`.
    pub fn get(&self) -> Response {
        Curl::new(&self.site.path("ca.pem")).get(&format!("https://localhost:{}/", self.port))
    }

    /// Makes the certificate `file` for the existing key of `name`.
    pub fn certify(&self, file: &str, name: &str, host: &str, issuer: &str) {
        let subject = format!("/CN={host}");
        self.pki.sign_as(file, name, &subject, issuer, &leaf_extensions(host));
        if file != name {
            self.lend(name, file);
        }
    }

    /// Makes the chain `file` of these certificates, for the key of the first.
    pub fn chain(&self, file: &str, parts: &[&str]) {
        let files: Vec<String> = parts.iter().map(|part| format!("{part}.pem")).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        self.pki.bundle(&format!("{file}.pem"), &files);
        self.lend(parts[0], file);
    }

    fn lend(&self, name: &str, file: &str) {
        let key = self.pki.read(&format!("{name}.key"));
        self.pki.write(&format!("{file}.key"), key);
    }
}

/// Fails unless the output of a server contains all of `parts`.
#[track_caller]
pub fn says(outcome: &str, parts: &[&str]) {
    for part in parts {
        assert!(outcome.contains(part), "no \"{part}\" in:\n{outcome}");
    }
}
