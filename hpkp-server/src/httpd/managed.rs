//! The domains for which mod_md manages certificates, and the files that the next start or reload will load.

use std::fs;
use std::path::{Path, PathBuf};

use super::Server;
use crate::file;

/// All managed domains.
#[derive(Debug)]
pub struct ManagedDomains {
    /// Whether mod_md is loaded.
    is_loaded: bool,
    store: String,
    /// Whether a domain is that of a server by its `ServerName` alone (`MDMatchNames servernames`).
    by_server_name: bool,
    /// Whether a domain can be that of the main server (`MDBaseServer on`).
    has_main: bool,
    all: Vec<ManagedDomain>,
}

/// A domain of `MDomain` or `<MDomainSet>`.
#[derive(Debug)]
struct ManagedDomain {
    /// The names in lower case; mod_md's directories have the first one.
    domains: Vec<String>,
    /// The files of `MDCertificateFile`, which replace mod_md's own.
    files: Vec<String>,
    /// The files of `MDCertificateKeyFile`, in the same order.
    keys: Vec<String>,
}

impl ManagedDomains {
    /// No domains yet. If mod_md is not loaded, its directives have no effect.
    #[must_use]
    pub fn new(is_loaded: bool, full_path: &dyn Fn(&str) -> String) -> Self {
        let (by_server_name, has_main) = (false, false);
        Self { is_loaded, store: full_path("md"), by_server_name, has_main, all: Vec::new() }
    }

    /// Reads a directive, and for a block those within it; all names are in lower case.
    pub fn read(
        &mut self,
        name: &str,
        words: Vec<String>,
        inner: impl IntoIterator<Item = (String, Vec<String>)>,
        full_path: &dyn Fn(&str) -> String,
    ) {
        match name {
            "mdstoredir" => {
                if let Some(path) = words.first() {
                    self.store = full_path(path);
                }
            }
            "mdmatchnames" => self.by_server_name = is_word(&words, "servernames"),
            "mdbaseserver" => self.has_main = is_word(&words, "on"),
            "mdomain" => self.add(words, Vec::new(), Vec::new()),
            "<mdomainset" | "<mdomain" => {
                let mut domains = words;
                if let Some(last) = domains.last_mut() {
                    *last = last.trim_end_matches('>').to_owned();
                }
                let (mut files, mut keys) = (Vec::new(), Vec::new());
                for (name, words) in inner {
                    match name.as_str() {
                        "mdmember" | "mdmembers" => domains.extend(words),
                        "mdcertificatefile" => {
                            files.extend(words.first().map(|path| full_path(path)));
                        }
                        "mdcertificatekeyfile" => {
                            keys.extend(words.first().map(|path| full_path(path)));
                        }
                        _ => {}
                    }
                }
                self.add(domains, files, keys);
            }
            _ => {}
        }
    }

    fn add(&mut self, domains: Vec<String>, files: Vec<String>, keys: Vec<String>) {
        // These two words are options, not names.
        let is_name = |domain: &String| {
            !domain.is_empty()
                && !domain.eq_ignore_ascii_case("auto")
                && !domain.eq_ignore_ascii_case("manual")
        };
        let domains = domains.into_iter().filter(is_name);
        let domains: Vec<String> = domains.map(|domain| domain.to_ascii_lowercase()).collect();
        if !domains.is_empty() {
            self.all.push(ManagedDomain { domains, files, keys });
        }
    }

    fn of<H>(&self, server: &Server<H>) -> Option<&ManagedDomain> {
        if !self.is_loaded || server.is_main() && !self.has_main {
            return None;
        }
        let name = server.names.first();
        let is_its = |domain: &String| {
            // mod_md takes no pattern for a whole top-level domain.
            let is_pattern = domain.strip_prefix("*.").is_some_and(|parent| parent.contains('.'));
            !self.by_server_name && server.answers_to(domain)
                || (self.by_server_name || is_pattern)
                    && name.is_some_and(|name| is_for(domain, name))
        };
        self.all.iter().find(|managed| managed.domains.iter().any(is_its))
    }

    /// The keys that the configuration names for a server.
    pub(super) fn keys<H>(&self, server: &Server<H>) -> &[String] {
        self.of(server).map_or(&[], |managed| &managed.keys)
    }

    /// The files of certificates that mod_md will add for a server, each with its key file. A staged certificate
    /// without a key is left out, because mod_md ignores it.
    pub(super) fn pairs<H>(&self, server: &Server<H>) -> Vec<(String, String)> {
        let files = self.files(server).and_then(Result::ok).unwrap_or_default();
        let keys = self.keys(server);
        let pair = |(index, file): (usize, String)| {
            let key = keys.get(index).cloned().or_else(|| {
                let (directory, name) = file.rsplit_once('/')?;
                Some(format!("{directory}/{}", name.replacen("pubcert", "privkey", 1)))
            })?;
            let is_staged = || Path::new(&file).iter().any(|part| part == "staging");
            (Path::new(&key).exists() || !is_staged()).then_some((file, key))
        };
        files.into_iter().enumerate().filter_map(pair).collect()
    }

    /// The files of certificates that mod_md will add for a server; empty if it has no certificate yet, `None` if
    /// mod_md does not manage the server. The error says what could not be read.
    pub(super) fn files<H>(&self, server: &Server<H>) -> Option<Result<Vec<String>, String>> {
        let managed = self.of(server)?;
        if !managed.files.is_empty() {
            return Some(Ok(managed.files.clone()));
        }
        let of = |group: &str| {
            [self.store.as_str(), group, &managed.domains[0]].iter().collect::<PathBuf>()
        };
        // At the next start or reload, a staged certificate replaces the present one.
        Some(certificates_in(&of("staging")).and_then(|staged| match staged.is_empty() {
            true => certificates_in(&of("domains")),
            false => Ok(staged),
        }))
    }
}

fn is_word(words: &[String], word: &str) -> bool {
    words.first().is_some_and(|first| first.eq_ignore_ascii_case(word))
}

/// Whether a domain, in which `*.` stands for one label, is for a name.
fn is_for(domain: &str, name: &str) -> bool {
    let parent = || Some(name.split_once('.')?.1.eq_ignore_ascii_case(domain.strip_prefix("*.")?));
    domain.eq_ignore_ascii_case(name) || parent() == Some(true)
}

/// The files of certificates in a directory of mod_md: one for each type of key.
fn certificates_in(directory: &Path) -> Result<Vec<String>, String> {
    let entries = file::if_there(fs::read_dir(directory)).map_err(|error| {
        format!("cannot read \"{}\" of mod_md: {}", directory.display(), file::reason(&error))
    })?;
    let mut files: Vec<String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().to_str()?.to_owned()))
        .filter(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.starts_with("pubcert") && name.ends_with(".pem")
        })
        .collect();
    files.sort();
    Ok(files)
}
