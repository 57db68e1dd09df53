//! Reads the directives of mod_ssl, mod_md and other TLS modules in httpd's configuration tree, in which all macros,
//! variables and included files have been expanded. At `-t` mod_ssl loads no certificate, so [`hpkp_server::httpd`]
//! reads the files that it would load.

use std::ffi::c_char;

use hpkp_server::httpd::{ManagedDomains, OtherTls, Tls};

use crate::bindings::{ap_conftree, ap_directive_t, apr_pool_t, server_rec};
use crate::cstr;
use crate::httpd;

/// The place of a virtual host's directive, which identifies it: the address of the file name, of which httpd makes a
/// new copy each time it opens the file, and the line.
pub(crate) type Place = (*const c_char, u32);

/// The directives of mod_ssl and mod_md in the whole configuration.
pub(crate) type TlsDirectives = hpkp_server::httpd::TlsDirectives<Place>;

/// The place of a server's directive.
///
/// # Safety
/// `server` is live.
pub(crate) unsafe fn place(server: *const server_rec) -> Place {
    // SAFETY: by the caller's promise; the name of the file is not dereferenced.
    unsafe { ((*server).defn_name, (*server).defn_line_number) }
}

/// # Safety
/// httpd runs a hook of the reading of a configuration after it has built the tree (`ap_read_config`), and `pool` is
/// live.
pub(crate) unsafe fn read(pool: *mut apr_pool_t) -> TlsDirectives {
    // SAFETY: by the caller's promise the pool is live.
    let full_path = |path: &str| unsafe { httpd::full_path(pool, path) };
    let managed = ManagedDomains::new(httpd::is_loaded(c"mod_md.c"), &full_path);
    let mut read = TlsDirectives::new(managed);
    // SAFETY: by the caller's promise `ap_conftree` is the tree of this reading. It is in `pconf`, and httpd does not
    // change it while the hook runs.
    unsafe {
        for directive in httpd::siblings(ap_conftree) {
            if cstr::text(directive.directive).eq_ignore_ascii_case("<VirtualHost") {
                let place = (directive.filename, directive.line_num as u32);
                let tls = read.hosts.entry(place).or_default();
                let (managed, others) = (&mut read.managed, &mut read.others);
                for inner in httpd::siblings(directive.first_child) {
                    read_one(inner, (tls, true), managed, others, pool);
                }
            } else {
                let main = (&mut read.main, false);
                read_one(directive, main, &mut read.managed, &mut read.others, pool);
            }
        }
    }
    read
}

/// Reads a directive of a server, of which `in_host` says whether it is a virtual host.
///
/// # Safety
/// As for [`read`]; `directive` is in the tree.
unsafe fn read_one(
    directive: &ap_directive_t,
    (tls, in_host): (&mut Tls, bool),
    managed: &mut ManagedDomains,
    others: &mut OtherTls,
    pool: *mut apr_pool_t,
) {
    // SAFETY: by the caller's promise the pool is live.
    let full_path = |path: &str| unsafe { httpd::full_path(pool, path) };
    // SAFETY: by the caller's promise; the name of a directive is a string in `pconf`.
    let name = |directive: &ap_directive_t| unsafe {
        cstr::text(directive.directive).to_ascii_lowercase()
    };
    // SAFETY: by the caller's promise; the arguments of a directive are a string in `pconf`, or null.
    let words = |directive: &ap_directive_t| unsafe { httpd::words(pool, directive.args) };
    let own = name(directive);
    if own.starts_with("ssl") {
        // SAFETY: by the caller's promise.
        let at = unsafe { httpd::location(directive) };
        tls.read(&own, &words(directive), &at, &full_path);
    } else if own.starts_with("md") || own.starts_with("<md") {
        // SAFETY: by the caller's promise; `first_child` is in the same tree, or null.
        let inner = unsafe { httpd::siblings(directive.first_child) };
        let inner = inner.map(|inner| (name(inner), words(inner)));
        managed.read(&own, words(directive), inner, in_host, &full_path);
    } else {
        // SAFETY: by the caller's promise.
        others.read(&own, || (words(directive), unsafe { httpd::location(directive) }));
    }
}
