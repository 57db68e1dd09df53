//! Last good certificates in the place of those that would lock clients out, or that mod_ssl cannot load.
//!
//! A start and a reload in the running parent can no longer refuse anything, and mod_ssl ends the server
//! if it cannot load a certificate. So before any module prepares its configuration, the files that
//! mod_ssl is going to load are checked as at a test. When mod_ssl asks for the files of a server, it gets
//! the kept ones and loads them like any other.

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
/// httpd is loading the module.
pub(crate) unsafe fn register() {
    let none = ptr::null();
    // SAFETY: by the caller's promise; an optional hook is called with the signature that mod_ssl
    // gives it, whatever type it has here.
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

/// What was decided in this reading of the configuration.
#[derive(Default)]
struct Decided {
    /// The files that mod_ssl is given, by the address of the server.
    files: HashMap<usize, Paths>,
    /// The names of certificates and keys that the directives of a server have, where some are missing.
    configured: HashMap<usize, (Vec<String>, Vec<String>)>,
    /// What there is to say.
    findings: Vec<Finding>,
}

static DECIDED: Mutex<Option<Decided>> = Mutex::new(None);

/// What was found in this reading; it is logged once.
pub(crate) fn found() -> Vec<Finding> {
    let mut decided = DECIDED.lock().unwrap_or_else(PoisonError::into_inner);
    decided.as_mut().map_or_else(Vec::new, |decided| std::mem::take(&mut decided.findings))
}

/// What keeping takes, for each server that presents something.
pub(crate) fn contexts(
    servers: &[Server],
    presented: &[Option<Certificates>],
    directives: &mod_ssl::TlsDirectives,
) -> Vec<KeptContext> {
    let with_tls = servers.iter().zip(presented).filter(|(_, presented)| presented.is_some());
    with_tls
        .map(|(server, _)| {
            // SAFETY: the servers are those of the configuration that has been read.
            directives.kept(server, &unsafe { mod_ssl::place(server.handle.record) })
        })
        .collect()
}

/// What mod_ssl is going to load for each server, by its directives; none for one that is not on TLS.
///
/// # Safety
/// The servers are those of the configuration that has just been read.
pub(crate) unsafe fn named(
    servers: &[Server],
    directives: &mod_ssl::TlsDirectives,
    loader: &mut Loader<'_>,
) -> Vec<Option<Certificates>> {
    // Without mod_ssl its directives mean nothing, wherever they came from.
    if !httpd::is_loaded(c"mod_ssl.c") {
        return servers.iter().map(|_| None).collect();
    }
    let of = |server: &Server| {
        // SAFETY: by the caller's promise.
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
    // What cannot be decided leaves things as they are.
    boundary::catch_config_hook(
        "decide",
        |_| OK,
        || {
            if !boundary::has_failed() {
                // SAFETY: httpd hands over the configuration that is about to take effect.
                let decided = unsafe { decided(temporary, main) };
                *DECIDED.lock().unwrap_or_else(PoisonError::into_inner) = decided;
            }
            OK
        },
    )
}

/// # Safety
/// `main` is the main server of the configuration that is about to take effect; `temporary` is live.
unsafe fn decided(temporary: *mut apr_pool_t, main: *mut server_rec) -> Option<Decided> {
    // SAFETY: by the caller's promise; nothing changes these settings any more.
    let (conf, servers) = unsafe { (conf::settled_conf(main)?, vhost::all(main)) };
    conf.global.keep.as_ref()?;
    let openssl = httpd::openssl().ok()?;
    let mut loader = Loader::new(Ok(&openssl));
    // SAFETY: by the caller's promise.
    let directives = unsafe { mod_ssl::read(temporary) };
    // SAFETY: by the caller's promise.
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
    // The others are found again, of what mod_ssl has loaded.
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

/// What the directives of each server name as certificates and keys.
fn configured(
    servers: &[Server],
    directives: &mod_ssl::TlsDirectives,
) -> HashMap<usize, (Vec<String>, Vec<String>)> {
    let of = |server: &Server| {
        // SAFETY: the servers are those of the configuration that has been read.
        let place = unsafe { mod_ssl::place(server.handle.record) };
        (server.handle.record.addr(), directives.files(&place))
    };
    servers.iter().map(of).collect()
}

/// A certificate whose file or that of its key is missing is one that cannot be used, where mod_ssl was
/// kept from noticing it. Gives what mod_ssl would have said, each with the number of the context, if the
/// server has one.
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
        // SAFETY: the servers are those of the configuration that has been read.
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

/// A certificate whose key does not fit it, or cannot be read, is one that cannot be used.
fn replace_broken(
    servers: &[Server],
    directives: &mod_ssl::TlsDirectives,
    presented: &mut [Option<Certificates>],
    openssl: &OpenSsl,
) {
    for (server, presented) in servers.iter().zip(presented) {
        let Some(Certificates::Loaded(_)) = presented else { continue };
        // SAFETY: the servers are those of the configuration that has been read.
        let place = unsafe { mod_ssl::place(server.handle.record) };
        if let Some(broken) = directives.broken(server, &place, openssl) {
            *presented = Some(broken);
        }
    }
}

/// Of mod_ssl: it is about to load these files for a server.
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
                // mod_ssl drops a chain file of its own where a file is added; the same twice does no harm.
                // SAFETY: mod_ssl hands over two live arrays of strings and the pool that they live in.
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
                // SAFETY: as above.
                unsafe {
                    put_back(certificates, certificate_files, pool);
                    put_back(keys, key_files, pool);
                }
            }
            OK
        },
    )
}

/// Has an array of strings begin with these.
///
/// # Safety
/// `array` is a live array of strings, and `pool` lives as long.
unsafe fn put_back(array: *mut apr_array_header_t, names: &[String], pool: *mut apr_pool_t) {
    // SAFETY: by the caller's promise; no more elements are written than there are.
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

/// Makes `count` elements of an array of strings, all of them `names`, one after the other.
///
/// # Safety
/// `array` is a live array of strings, and `names` live as long.
unsafe fn fill(array: *mut apr_array_header_t, names: &[*const c_char], count: usize) {
    // SAFETY: by the caller's promise; what is pushed is written below.
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
