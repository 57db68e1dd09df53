//! A fixture: a site on nginx or httpd that publishes pins for localhost.

use std::fs;
use std::path::PathBuf;

use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::recorded;
use hpkp_tests::site::B;

/// A site for localhost.
pub struct PinnedSite<S> {
    pub site: S,
    pub port: u16,
    /// The pin of the certificate `live`.
    pub live: String,
}

/// The status and the number of headers: with the header, and without.
pub const SENT: (u16, usize) = (200, 1);
pub const WITHHELD: (u16, usize) = (200, 0);

impl<S: Site> PinnedSite<S> {
    /// A site whose server does not run yet.
    pub fn new() -> Self {
        Self::of(S::with_records())
    }

    pub fn of(site: S) -> Self {
        let live = site.pki().pin("live.pem");
        let pinned = Self { site, port: free_port(), live };
        pinned.publish(&[]);
        pinned
    }

    /// A site whose server runs and publishes the pin of its certificate and a backup.
    pub fn running() -> Self {
        let mut pinned = Self::new();
        pinned.site.up();
        assert_eq!(pinned.asked(), SENT);
        pinned
    }

    /// Lays out the certificate `live` with its pin, a backup, and `more` pins.
    pub fn publish(&self, more: &[&str]) {
        let pins = [&[self.live.as_str(), B], more].concat();
        self.lay_out("live", &pins, &LAYOUT);
    }

    /// Lays out a certificate with pins; everything else is taken from `layout`.
    pub fn lay_out(&self, certificate: &str, pins: &[&str], layout: &Layout<'_>) {
        self.site.lay_out(&Layout {
            policies: &[Policy { pins, ..POLICY }],
            blocks: &[Block { port: self.port, certificates: &[certificate], ..BLOCK }],
            ..layout.clone()
        });
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.port)
    }

    pub fn curl(&self) -> Curl {
        Curl::new(&self.site.path("ca.pem"))
    }

    /// The status of a response, and how many fields with pins it has.
    pub fn asked(&self) -> (u16, usize) {
        let response = self.curl().get(&self.url());
        (response.status, response.pins().len())
    }

    /// A path in the directory with the records.
    pub fn records(&self, name: &str) -> PathBuf {
        self.site.path("records").join(name)
    }

    /// The file of the writer `web-1`.
    pub fn own(&self) -> PathBuf {
        self.records("web-1.jsonl")
    }

    /// The kinds of the events in the file of `web-1`.
    #[track_caller]
    pub fn kinds(&self) -> Vec<&'static str> {
        recorded::kinds(&self.own())
    }

    /// The names and contents of all files with records.
    pub fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        for directory in ["", "peers"] {
            for entry in fs::read_dir(self.records(directory)).expect("a directory") {
                let path = entry.expect("an entry").path();
                // The reserve changes also when a record cannot be written.
                if path.is_file() && !path.ends_with("hpkp-reserve") {
                    let bytes = fs::read(&path).expect("a file");
                    files.push((path, bytes));
                }
            }
        }
        files.sort();
        files
    }
}
