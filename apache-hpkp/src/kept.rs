//! Presents last good certificates in place of those that would lock clients out, or that mod_ssl cannot load.
//!
//! A start and a reload in the running parent can no longer refuse anything, and mod_ssl ends the server if it cannot
//! load a certificate. So before any module prepares its configuration, this module checks the files that mod_ssl will
//! load, as at a test. When mod_ssl asks for the files of a server, this module gives it the kept ones, which mod_ssl
//! loads like any other.

use std::collections::HashMap;
use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use hpkp_core::check::{Certificates, Deployment};
use hpkp_core::finding::{Code, Finding};
use hpkp_server::httpd as model;
use hpkp_server::kept::{KeptContext, Paths, Replacement};
use hpkp_server::loader::Loader;
use hpkp_server::openssl::OpenSsl;

use crate::bindings::{
    APR_HOOK_REALLY_FIRST, APR_HOOK_REALLY_LAST, ap_hook_post_config, apr_array_header_t,
    apr_array_push, apr_optional_hook_add, apr_pool_t, apr_pstrmemdup, server_rec,
};
use crate::boundary;
use crate::conf;
use crate::cstr;
use crate::httpd::{self, OK};
use crate::missing;
use crate::mod_ssl;
use crate::vhost::{self, Server};

/// mod_ssl's signature for `add_cert_files`.
type AddFiles = unsafe extern "C" fn(
    *mut server_rec,
    *mut apr_pool_t,
    *mut apr_array_header_t,
    *mut apr_array_header_t,
) -> c_int;

/// # Safety
/// httpd is calling `register_hooks`.
pub(crate) unsafe fn register() {
    let none = ptr::null();
    // SAFETY: by the caller's promise httpd accepts hooks now; null stands for an empty list of modules.
    // `apr_optional_hook_add` takes a function of any type; mod_ssl calls it as declared by
    // APR_DECLARE_EXTERNAL_HOOK(ssl, SSL, int, add_cert_files, (server_rec *, apr_pool_t *, apr_array_header_t *,
    // apr_array_header_t *)) in mod_ssl.h, which is `AddFiles`.
    unsafe {
        ap_hook_post_config(Some(decide), none, none, APR_HOOK_REALLY_FIRST);
        let hook: AddFiles = add_files;
        apr_optional_hook_add(
            c"add_cert_files".as_ptr(),
            Some(std::mem::transmute::<AddFiles, unsafe extern "C" fn()>(hook)),
            none,
            none,
            APR_HOOK_REALLY_LAST,
        );
    }
}

/// The decisions in this reading of the configuration.
#[derive(Default)]
struct Decided {
    /// The kept files for mod_ssl, by the address of the server.
    files: HashMap<usize, Paths>,
    /// The certificate and key files in the directives of each server, if some files are missing.
    configured: HashMap<usize, (Vec<String>, Vec<String>)>,
    /// The findings about kept certificates.
    findings: Vec<Finding>,
}

static DECIDED: Mutex<Option<Decided>> = Mutex::new(None);

/// Takes the findings of this reading, so that they are logged once.
pub(crate) fn found() -> Vec<Finding> {
    let mut decided = DECIDED.lock().unwrap_or_else(PoisonError::into_inner);
    decided.as_mut().map_or_else(Vec::new, |decided| std::mem::take(&mut decided.findings))
}

/// The settings for keeping certificates, for each server that presents some.
pub(crate) fn contexts(
    servers: &[Server],
    presented: &[Option<Certificates>],
    directives: &mod_ssl::TlsDirectives,
) -> Vec<KeptContext> {
    let with_tls = servers.iter().zip(presented).filter(|(_, presented)| presented.is_some());
    with_tls
        .map(|(server, _)| {
            // SAFETY: `vhost::all` took the server from the configuration for which httpd runs a hook now.
            directives.kept(server, &unsafe { mod_ssl::place(server.handle.record) })
        })
        .collect()
}

/// The certificates that mod_ssl will load for each server, according to its directives; none for a server without TLS.
///
/// # Safety
/// The servers are those of the configuration for which httpd runs `check_config` or `post_config`.
pub(crate) unsafe fn named(
    servers: &[Server],
    directives: &mod_ssl::TlsDirectives,
    loader: &mut Loader<'_>,
) -> Vec<Option<Certificates>> {
    // Without mod_ssl its directives have no effect.
    if !httpd::is_loaded(c"mod_ssl.c") {
        return servers.iter().map(|_| None).collect();
    }
    let of = |server: &Server| {
        // SAFETY: by the caller's promise the server is live.
        let place = unsafe { mod_ssl::place(server.handle.record) };
        let listens_on_https = || server.handle.listens_on_https();
        directives.certificates(server, &place, listens_on_https, loader)
    };
    servers.iter().map(of).collect()
}

/// `post_config`, before that of any other module.
unsafe extern "C" fn decide(
    _: *mut apr_pool_t,
    _: *mut apr_pool_t,
    temporary: *mut apr_pool_t,
    main: *mut server_rec,
) -> c_int {
    // If this fails, the configured certificates are used.
    boundary::catch_config_hook(
        "decide",
        |_| OK,
        || {
            if !boundary::has_failed() {
                // SAFETY: httpd calls this hook with a pool for this reading and the main server of the complete
                // configuration, in its main thread.
                let decided = unsafe { decided(temporary, main) };
                *DECIDED.lock().unwrap_or_else(PoisonError::into_inner) = decided;
            }
            OK
        },
    )
}

/// # Safety
/// `main` is the main server of the configuration for which httpd runs `post_config`; `temporary` is live.
unsafe fn decided(temporary: *mut apr_pool_t, main: *mut server_rec) -> Option<Decided> {
    // SAFETY: by the caller's promise; httpd calls no other hook until this one returns, so nothing changes the
    // objects.
    let (conf, servers) = unsafe { (conf::settled_conf(main)?, vhost::all(main)) };
    conf.global.keep.as_ref()?;
    let openssl = httpd::openssl().ok()?;
    let mut loader = Loader::new(Ok(&openssl));
    // SAFETY: by the caller's promise httpd has built the tree of directives in this reading.
    let directives = unsafe { mod_ssl::read(temporary) };
    // SAFETY: the servers are those of `main`.
    let mut presented = unsafe { named(&servers, &directives, &mut loader) };
    let kept = contexts(&servers, &presented, &directives);
    replace_broken(&servers, &directives, &mut presented, &openssl);
    let absent = replace_missing(&servers, &directives, &mut presented);
    let with_tls: Vec<&Server> = servers
        .iter()
        .zip(&presented)
        .filter_map(|(server, presented)| presented.as_ref().map(|_| server))
        .collect();
    let (tls, listening) = ((presented, &directives.others), vhost::listening());
    let (mut deployment, _) =
        model::deployment(&servers, tls, &listening, &mut loader, &conf.global);
    let verdict = loader.check(&mut deployment);
    let keeping = model::keeping(&servers, kept, &conf.global, true)?;
    let mut files = HashMap::new();
    let put = |context: usize, found: &Replacement| {
        found.try_files(&openssl)?;
        files.insert(with_tls[context].handle.record.addr(), found.paths.clone());
        Ok(())
    };
    let check = |deployment: &mut Deployment, loader: &Loader<'_>| loader.check(deployment);
    let verdict = keeping.replace(&mut deployment, verdict, &mut loader, check, put);
    // The check of the certificates that mod_ssl has loaded finds all others again.
    let is_ours = |finding: &Finding| {
        matches!(
            finding.code,
            Code::KeptCertificateServed
                | Code::KeptCertificateNotUsed
                | Code::KeptCertificatesUnusable
                | Code::CertificateCannotBeKept
        )
    };
    let findings = verdict.findings.into_iter().filter(is_ours).collect();
    let configured =
        if absent.is_empty() { HashMap::new() } else { configured(&servers, &directives) };
    Some(Decided { files, configured, findings })
}

/// The certificate and key files that the directives of each server name.
fn configured(
    servers: &[Server],
    directives: &mod_ssl::TlsDirectives,
) -> HashMap<usize, (Vec<String>, Vec<String>)> {
    let of = |server: &Server| {
        // SAFETY: as in `contexts`.
        let place = unsafe { mod_ssl::place(server.handle.record) };
        (server.handle.record.addr(), directives.files(&place))
    };
    servers.iter().map(of).collect()
}

/// Marks certificates as unusable whose certificate or key file is missing, if `missing` has hidden that from mod_ssl.
/// Returns the errors that mod_ssl would have reported, each with the position of the context, if the server has one.
pub(crate) fn replace_missing(
    servers: &[Server],
    directives: &mod_ssl::TlsDirectives,
    presented: &mut [Option<Certificates>],
) -> Vec<(Option<usize>, String)> {
    let mut absent = Vec::new();
    if !missing::are_any() {
        return absent;
    }
    let mut contexts = 0..;
    for (server, presented) in servers.iter().zip(presented) {
        let context = presented.as_ref().and_then(|_| contexts.next());
        // SAFETY: as in `contexts`.
        let place = unsafe { mod_ssl::place(server.handle.record) };
        let Some((why, unusable)) = directives.missing(&place) else { continue };
        if let Some(presented) = presented {
            *presented = unusable;
        }
        if !absent.iter().any(|(at, known)| *known == why && *at == context) {
            absent.push((context, why));
        }
    }
    absent
}

/// Marks certificates as unusable whose key does not fit or cannot be read.
fn replace_broken(
    servers: &[Server],
    directives: &mod_ssl::TlsDirectives,
    presented: &mut [Option<Certificates>],
    openssl: &OpenSsl,
) {
    for (server, presented) in servers.iter().zip(presented) {
        let Some(Certificates::Loaded(_)) = presented else { continue };
        // SAFETY: as in `contexts`.
        let place = unsafe { mod_ssl::place(server.handle.record) };
        if let Some(broken) = directives.broken(server, &place, openssl) {
            *presented = Some(broken);
        }
    }
}

/// mod_ssl's hook: it is about to load these files for a server.
unsafe extern "C" fn add_files(
    server: *mut server_rec,
    pool: *mut apr_pool_t,
    certificates: *mut apr_array_header_t,
    keys: *mut apr_array_header_t,
) -> c_int {
    boundary::catch_config_hook(
        "add_cert_files",
        |_| OK,
        || {
            let decided = DECIDED.lock().unwrap_or_else(PoisonError::into_inner);
            let files = decided.as_ref().and_then(|decided| decided.files.get(&server.addr()));
            let configured =
                decided.as_ref().and_then(|decided| decided.configured.get(&server.addr()));
            if let Some(files) = files.filter(|files| !files.is_empty()) {
                // mod_ssl ignores its own chain file if a hook adds a file. Adding the same file twice does no harm.
                // SAFETY: mod_ssl's `ssl_init_server_ctx` calls this hook with `pconf` and two arrays of `const char
                // *` that live as long, in httpd's main thread. mod_ssl uses them only after the hook.
                unsafe {
                    let count = (*certificates).nelts.max(files.len() as c_int) as usize + 1;
                    let names: Vec<*const c_char> = files
                        .iter()
                        .map(|path| cstr::c_string(&path.to_string_lossy()))
                        .map(|path| {
                            apr_pstrmemdup(pool, path.as_ptr(), path.count_bytes()).cast_const()
                        })
                        .collect();
                    fill(certificates, &names, count);
                    fill(keys, &names, count);
                }
            } else if let Some((certificate_files, key_files)) = configured {
                // SAFETY: as above, mod_ssl has passed two live arrays of strings and `pconf`.
                unsafe {
                    put_back(certificates, certificate_files, pool);
                    put_back(keys, key_files, pool);
                }
            }
            OK
        },
    )
}

/// Replaces the first elements of an array of strings by these names.
///
/// # Safety
/// `array` is a live array of strings that only this thread uses, and `pool` lives at least as long.
unsafe fn put_back(array: *mut apr_array_header_t, names: &[String], pool: *mut apr_pool_t) {
    // SAFETY: by the caller's promise; `take` ends after the `nelts` elements that the array has.
    unsafe {
        let elements = (*array).elts.cast::<*const c_char>();
        for (index, name) in names.iter().enumerate().take((*array).nelts as usize) {
            let name = cstr::c_string(name);
            elements
                .add(index)
                .write(apr_pstrmemdup(pool, name.as_ptr(), name.count_bytes()).cast_const());
        }
    }
}

/// Gives an array of strings `count` elements, which repeat `names` in order.
///
/// # Safety
/// `array` is a live array of strings that only this thread uses, `names` has at least one string, and the strings live
/// as long as the array.
unsafe fn fill(array: *mut apr_array_header_t, names: &[*const c_char], count: usize) {
    // SAFETY: by the caller's promise. `apr_array_push` makes room for one more element each time, so the array has at
    // least `count` elements at `elts`, all of which the last loop writes.
    unsafe {
        for _ in (*array).nelts as usize..count {
            apr_array_push(array);
        }
        (*array).nelts = count as c_int;
        let elements = (*array).elts.cast::<*const c_char>();
        for index in 0..count {
            elements.add(index).write(names[index % names.len()]);
        }
    }
}
