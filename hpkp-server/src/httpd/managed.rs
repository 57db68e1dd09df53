//! The domains for which mod_md manages certificates, and the files that the next start or reload will load.

use super::Server;
use super::managed_store::{ManagedStore, is_for, types_of};

/// All managed domains.
#[derive(Debug)]
pub struct ManagedDomains {
    /// Whether mod_md is loaded.
    is_loaded: bool,
    store: ManagedStore,
    /// Whether a domain is that of a server by its `ServerName` alone (`MDMatchNames servernames`).
    by_server_name: bool,
    /// Whether a domain can be that of the main server (`MDBaseServer on`).
    has_main: bool,
    /// The types of keys in `MDPrivateKeys` outside all domains.
    types: Option<Vec<String>>,
    all: Vec<ManagedDomain>,
}

/// A domain of `MDomain` or `<MDomainSet>`.
#[derive(Debug, Default)]
struct ManagedDomain {
    /// The names in lower case; mod_md's directories have the first one.
    domains: Vec<String>,
    /// The files of `MDCertificateFile`, which replace mod_md's own.
    files: Vec<String>,
    /// The files of `MDCertificateKeyFile`, in the same order.
    keys: Vec<String>,
    /// The types of keys in its own `MDPrivateKeys`.
    types: Option<Vec<String>>,
}

impl ManagedDomains {
    /// No domains yet. If mod_md is not loaded, its directives have no effect.
    #[must_use]
    pub fn new(is_loaded: bool, full_path: &dyn Fn(&str) -> String) -> Self {
        let (by_server_name, has_main) = (false, false);
        let store = ManagedStore::new(full_path("md"));
        Self { is_loaded, store, by_server_name, has_main, types: None, all: Vec::new() }
    }

    /// Reads a directive, and for a block those within it; all names are in lower case. `in_host` says whether it is in
    /// a virtual host.
    pub fn read(
        &mut self,
        name: &str,
        words: Vec<String>,
        inner: impl IntoIterator<Item = (String, Vec<String>)>,
        in_host: bool,
        full_path: &dyn Fn(&str) -> String,
    ) {
        match name {
            "mdstoredir" => {
                if let Some(path) = words.first() {
                    self.store = ManagedStore::new(full_path(path));
                }
            }
            "mdmatchnames" => self.by_server_name = is_word(&words, "servernames"),
            "mdbaseserver" => self.has_main = is_word(&words, "on"),
            // In a virtual host the directive has no effect, neither on a domain that is configured there.
            "mdprivatekeys" if !in_host => self.types = Some(types_of(&words)),
            "mdomain" => self.add(ManagedDomain { domains: words, ..ManagedDomain::default() }),
            "<mdomainset" | "<mdomain" => {
                let mut managed = ManagedDomain { domains: words, ..ManagedDomain::default() };
                if let Some(last) = managed.domains.last_mut() {
                    *last = last.trim_end_matches('>').to_owned();
                }
                for (name, words) in inner {
                    let path = || words.first().map(|path| full_path(path));
                    match name.as_str() {
                        "mdmember" | "mdmembers" => managed.domains.extend(words),
                        "mdcertificatefile" => managed.files.extend(path()),
                        "mdcertificatekeyfile" => managed.keys.extend(path()),
                        "mdprivatekeys" => managed.types = Some(types_of(&words)),
                        _ => {}
                    }
                }
                self.add(managed);
            }
            _ => {}
        }
    }

    fn add(&mut self, mut managed: ManagedDomain) {
        // These two words are options, not names.
        managed.domains.retain(|domain| {
            !domain.is_empty()
                && !domain.eq_ignore_ascii_case("auto")
                && !domain.eq_ignore_ascii_case("manual")
        });
        managed.domains.iter_mut().for_each(|domain| domain.make_ascii_lowercase());
        if !managed.domains.is_empty() {
            self.all.push(managed);
        }
    }

    /// The domain that mod_md assigns to a server. If there are several, mod_md gives the server none of their
    /// certificates.
    fn of<H>(&self, server: &Server<H>) -> Option<&ManagedDomain> {
        if !self.is_loaded || server.is_main() && !self.has_main {
            return None;
        }
        let mut assigned = Vec::new();
        for managed in &self.all {
            let mut its = managed.domains.iter().filter(|domain| self.is_for(domain, server));
            if !self.by_server_name {
                assigned.extend(its.next().map(|_| managed));
                continue;
            }
            // By server names, a domain with the very name has priority over patterns.
            let name = server.names.first();
            let has_name = |managed: &ManagedDomain| {
                managed
                    .domains
                    .iter()
                    .any(|domain| name.is_some_and(|it| it.eq_ignore_ascii_case(domain)))
            };
            let is_taken = assigned.len() == 1;
            match its.next() {
                Some(_) if is_taken && has_name(assigned[0]) && !has_name(managed) => {}
                Some(_) if is_taken && has_name(managed) && !has_name(assigned[0]) => {
                    assigned = vec![managed];
                }
                Some(_) => assigned.push(managed),
                None => {}
            }
        }
        match assigned[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Whether mod_md finds that a domain is for a server.
    fn is_for<H>(&self, domain: &str, server: &Server<H>) -> bool {
        // mod_md takes no pattern for a whole top-level domain.
        let is_pattern = domain.strip_prefix("*.").is_some_and(|parent| parent.contains('.'));
        !self.by_server_name && server.answers_to(domain)
            || (self.by_server_name || is_pattern)
                && server.names.first().is_some_and(|name| is_for(domain, name))
    }

    /// The keys that the configuration names for a server.
    pub(super) fn keys<H>(&self, server: &Server<H>) -> &[String] {
        self.of(server).map_or(&[], |managed| &managed.keys)
    }

    /// The files of certificates that mod_md will add for a server, each with its key file.
    pub(super) fn pairs<H>(&self, server: &Server<H>) -> Vec<(String, String)> {
        self.found(server).and_then(Result::ok).unwrap_or_default()
    }

    /// The files of certificates that mod_md will add for a server; empty if it has no certificate yet, `None` if
    /// mod_md does not manage the server. The error says what could not be read.
    pub(super) fn files<H>(&self, server: &Server<H>) -> Option<Result<Vec<String>, String>> {
        let found = self.found(server)?;
        Some(found.map(|pairs| pairs.into_iter().map(|(certificate, _)| certificate).collect()))
    }

    fn found<H>(&self, server: &Server<H>) -> Option<Result<Vec<(String, String)>, String>> {
        let managed = self.of(server)?;
        if !managed.files.is_empty() {
            let files = managed.files.iter().cloned();
            return Some(Ok(files.zip(managed.keys.iter().cloned()).collect()));
        }
        let all = || self.all.iter().map(|managed| managed.domains.as_slice()).collect();
        let types = managed.types.as_ref().or(self.types.as_ref());
        let types = types.cloned().unwrap_or_else(|| types_of(&[]));
        Some(self.store.pairs(&managed.domains[0], &types, all))
    }
}

fn is_word(words: &[String], word: &str) -> bool {
    words.first().is_some_and(|first| first.eq_ignore_ascii_case(word))
}
