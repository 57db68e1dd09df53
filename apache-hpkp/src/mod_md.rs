//! The domains that mod_md keeps certificates for, and the files that the next start or reload will
//! take.

use std::fs;
use std::path::{Path, PathBuf};

use hpkp_server::file;

use crate::bindings::{ap_directive_t, apr_pool_t};
use crate::cstr;
use crate::httpd;
use crate::httpd::siblings;
use crate::vhost::Server;

/// All managed domains.
#[derive(Debug, Default)]
pub(crate) struct ManagedDomains {
    store: Option<String>,
    all: Vec<ManagedDomain>,
}

/// What `MDomain` or `<MDomainSet>` says.
#[derive(Debug)]
struct ManagedDomain {
    /// The first; mod_md's directories have its name.
    domains: Vec<String>,
    /// Those of `MDCertificateFile`, which take the place of mod_md's own.
    files: Vec<String>,
}

impl ManagedDomains {
    /// # Safety
    /// The directive is in the tree of the configuration just read, and `pool` is live.
    pub(crate) unsafe fn read(&mut self, directive: &ap_directive_t, pool: *mut apr_pool_t) {
        // SAFETY: by the caller's promise.
        unsafe {
            let name = cstr::text(directive.directive).to_ascii_lowercase();
            match name.as_str() {
                "mdstoredir" => {
                    self.store = httpd::words(pool, directive.args)
                        .first()
                        .map(|path| httpd::full_path(pool, path));
                }
                "mdomain" => self.add(httpd::words(pool, directive.args), Vec::new()),
                "<mdomainset" | "<mdomain" => {
                    let mut domains = httpd::words(pool, directive.args);
                    if let Some(last) = domains.last_mut() {
                        *last = last.trim_end_matches('>').to_owned();
                    }
                    let mut files = Vec::new();
                    for inner in siblings(directive.first_child) {
                        let name = cstr::text(inner.directive).to_ascii_lowercase();
                        let words = httpd::words(pool, inner.args);
                        match name.as_str() {
                            "mdmember" | "mdmembers" => domains.extend(words),
                            "mdcertificatefile" => {
                                files.extend(words.first().map(|path| httpd::full_path(pool, path)))
                            }
                            _ => {}
                        }
                    }
                    self.add(domains, files);
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, domains: Vec<String>, files: Vec<String>) {
        // These two words are no names.
        let is_name = |domain: &String| {
            !domain.is_empty()
                && !domain.eq_ignore_ascii_case("auto")
                && !domain.eq_ignore_ascii_case("manual")
        };
        let domains: Vec<String> = domains.into_iter().filter(is_name).collect();
        if !domains.is_empty() {
            self.all.push(ManagedDomain { domains, files });
        }
    }

    /// The files that mod_md is going to add for a server, none where it has no certificate yet;
    /// `None` where the server is not one of its. The error says what could not be read.
    pub(crate) fn files(
        &self,
        server: &Server,
        pool: *mut apr_pool_t,
    ) -> Option<Result<Vec<String>, String>> {
        if !httpd::is_loaded(c"mod_md.c") {
            return None;
        }
        let is_its = |domain: &String| server.answers_to(domain);
        let managed = self.all.iter().find(|managed| managed.domains.iter().any(is_its))?;
        if !managed.files.is_empty() {
            return Some(Ok(managed.files.clone()));
        }
        let store = self.store.clone().unwrap_or_else(|| {
            // SAFETY: the pool is live.
            unsafe { httpd::full_path(pool, "md") }
        });
        let of = |group: &str| [&store, group, &managed.domains[0]].iter().collect::<PathBuf>();
        // What is staged takes the place of what is there at the next start or reload.
        Some(certificates_in(&of("staging")).and_then(|staged| match staged.is_empty() {
            true => certificates_in(&of("domains")),
            false => Ok(staged),
        }))
    }
}

/// The files of certificates in a directory of mod_md: one for each type of key.
fn certificates_in(directory: &Path) -> Result<Vec<String>, String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let why = file::reason(&error);
            return Err(format!("cannot read \"{}\" of mod_md: {why}", directory.display()));
        }
    };
    let mut files: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path().to_str()?.to_owned()))
        .filter(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.starts_with("pubcert") && name.ends_with(".pem")
        })
        .collect();
    files.sort();
    Ok(files)
}
