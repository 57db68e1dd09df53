//! Replaces certificates that nginx cannot load by the last good ones, before nginx tries to load them.
//!
//! nginx loads certificates while it merges the servers of its TLS module, and rejects the configuration if it cannot
//! load one. So this module precedes the TLS module in the list: its hook runs when all directives have been read and
//! nothing has been merged. It replaces the configured file name by that of a kept file, which nginx reads like any
//! other. No key passes through this module.

use std::collections::HashMap;
use std::ffi::{c_char, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;

use hpkp_core::check::{Concern, Records};
use hpkp_core::finding::{Check, Finding};
use hpkp_server::failure::{self, Phase};
use hpkp_server::journal;
use hpkp_server::kept::{self, Replacement};
use hpkp_server::openssl::{OpenSsl, PairError};
use hpkp_server::setting::KeepSetting;
use nginx_sys::{
    ngx_array_create, ngx_array_push, ngx_array_t, ngx_conf_t, ngx_cycle_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_core_srv_conf_t, ngx_http_ssl_module,
    ngx_http_ssl_srv_conf_t, ngx_palloc, ngx_pool_t, ngx_str_t,
};

use crate::boundary::{self, OnPanic};
use crate::conf::{MainConf, ServerConf};
use crate::ngx::{self, CONF_ERROR, CONF_OK, own_module};
use crate::{gate, log, phase, server};

/// `init_main_conf` of a module that precedes nginx's TLS module.
pub(crate) unsafe extern "C" fn init_main(cf: *mut ngx_conf_t, _: *mut c_void) -> *mut c_char {
    let after = |on_panic: OnPanic| on_panic.either(CONF_ERROR, CONF_OK);
    boundary::catch_config_hook("early", after, || {
        if let Some(phase) = phase::current().filter(|_| !boundary::has_failed()) {
            // SAFETY: `ngx_http_block` calls this hook with a live `cf`, after it has read `http`. This module precedes
            // `ngx_http_ssl_module` in the list, so the servers of that module have not been merged.
            unsafe { replace_broken((*cf).cycle, phase) };
        }
        CONF_OK
    })
}

/// `NGX_CONF_UNSET_PTR`, a macro that the bindings lack.
const UNSET: *mut ngx_array_t = ptr::without_provenance_mut(usize::MAX);

/// A certificate file and its key file.
type Files = (PathBuf, PathBuf);

/// Tests files with OpenSSL, and remembers the results.
struct Trial {
    openssl: OpenSsl,
    results: HashMap<Files, Option<PairError>>,
}

/// # Safety
/// `cycle` is the cycle for which `ngx_http_block` calls `init_main_conf` of this module.
unsafe fn replace_broken(cycle: *mut ngx_cycle_t, phase: Phase) {
    // SAFETY: by the caller's promise; nothing else refers to this module's main configuration now.
    let main = unsafe { ngx::http_main_conf::<MainConf>(cycle, own_module()).as_mut() };
    let Some(main) = main else { return };
    let Some(setting) = main.global.keep.clone() else { return };
    let Some(writer) = journal::writer_of(&main.global.published) else { return };
    let Ok(openssl) = OpenSsl::used_by((&raw const ngx_http_ssl_module).cast()) else { return };
    let mut trial = Trial { openssl, results: HashMap::new() };
    let is_start = phase == Phase::Start || gate::is_overridden();
    // The records are read only if a certificate cannot be loaded, and only once.
    let mut records: Option<Option<Records>> = None;
    let mut broken = Vec::new();
    // SAFETY: by the caller's promise `http` exists. `http` and each server block have the configurations that this
    // module and `ngx_http_ssl_module` make for each of them. `servers` is an array of `ngx_http_core_srv_conf_t *`.
    // The objects of `ssl` and `around_ssl` are different ones, and the references to `*ssl` follow each other.
    unsafe {
        let around = &*ngx::http_conf::<ServerConf>(cycle, own_module());
        let around_ssl: *const ngx_http_ssl_srv_conf_t =
            ngx::http_conf(cycle, &raw const ngx_http_ssl_module);
        let core: *const ngx_http_core_main_conf_t =
            ngx::http_main_conf(cycle, &raw const ngx_http_core_module);
        let blocks: &[*mut ngx_http_core_srv_conf_t] = ngx::elements(&raw const (*core).servers);
        for block in blocks {
            let conf = &*ngx::http_server_conf::<ServerConf>((**block).ctx, own_module());
            let settings = (&conf.settings, &around.settings);
            if !is_wanted(settings.0.check.or(settings.1.check), is_start)
                || settings.0.keep.or(settings.1.keep) == Some(false)
            {
                continue;
            }
            let ssl: *mut ngx_http_ssl_srv_conf_t =
                ngx::http_server_conf((**block).ctx, &raw const ngx_http_ssl_module);
            let Some((files, why)) = broken_of(cycle, &*ssl, &*around_ssl, &mut trial) else {
                continue;
            };
            let names = server::names(ngx::elements(&raw const (**block).server_names));
            let records = records.get_or_insert_with(|| {
                // Only compromised keys matter here. They concern every configuration, so no other records are read.
                journal::read(&main.global.published, Concern::none(), &[]).0
            });
            let found = kept::in_place_of_broken(
                (&setting, &writer),
                &names,
                records.as_ref().map(|records| &records.state),
                &trial.openssl,
            );
            let options = records.as_ref().map(Records::options).unwrap_or_default();
            match found {
                Ok(found) if put((*cycle).pool, &mut *ssl, &found) => {
                    broken.push(finding(&setting, &options, &names, (&files, why), &found));
                }
                Ok(_) => {}
                Err(reasons) => {
                    let (label, why) = (label_of(&names), why.to_string());
                    not_used(cycle, &kept::not_replaced_finding(&setting, label, &why, &reasons));
                }
            }
        }
    }
    main.broken = broken;
}

/// Whether a certificate that a server cannot load is replaced.
fn is_wanted(check: Option<Check>, is_start: bool) -> bool {
    match check.unwrap_or_default() {
        Check::Warn => false,
        Check::Keep => true,
        Check::Refuse => is_start,
    }
}

fn finding(
    setting: &KeepSetting,
    options: &str,
    names: &[String],
    (files, why): (&Files, PairError),
    found: &Replacement,
) -> Finding {
    let file = if why == PairError::Certificate { &files.0 } else { &files.1 };
    let problem = (&*file.to_string_lossy(), &*why.to_string());
    kept::broken_finding(setting, options, label_of(names), problem, found)
}

fn label_of(names: &[String]) -> &str {
    names.first().map_or("-", String::as_str)
}

/// Logs at once that no kept certificate replaces one that nginx will fail to load.
///
/// # Safety
/// `cycle` is live.
unsafe fn not_used(cycle: *mut ngx_cycle_t, finding: &Finding) {
    for line in failure::lines_after(finding, Phase::Start) {
        // SAFETY: by the caller's promise; a cycle has a log.
        unsafe { log::write_line((*cycle).log, &line) };
    }
}

/// The first certificate of a server that nginx will fail to load, and why.
///
/// # Safety
/// As for [`replace_broken`]; `own` and `around` are the configurations of `ngx_http_ssl_module` for a server and for
/// `http`.
unsafe fn broken_of(
    cycle: *mut ngx_cycle_t,
    own: &ngx_http_ssl_srv_conf_t,
    around: &ngx_http_ssl_srv_conf_t,
    trial: &mut Trial,
) -> Option<(Files, PairError)> {
    let merged = |own: *mut ngx_array_t, around: *mut ngx_array_t| {
        let array = if own == UNSET { around } else { own };
        // SAFETY: by the caller's promise. `certificates`, `certificate_keys` and `passwords` are NGX_CONF_UNSET_PTR,
        // null, or arrays of `ngx_str_t` in the cycle's pool.
        unsafe { if array == UNSET { &[][..] } else { ngx::elements::<ngx_str_t>(array) } }
    };
    let certificates = merged(own.certificates, around.certificates);
    let keys = merged(own.certificate_keys, around.certificate_keys);
    let is_file = |name: &ngx_str_t| {
        let name = name.as_bytes();
        !name.contains(&b'$')
            && !["data:", "engine:", "store:"].iter().any(|s| name.starts_with(s.as_bytes()))
    };
    // A certificate that is chosen at the handshake is not loaded, and nginx itself refuses one without a key.
    if keys.len() < certificates.len() || !certificates.iter().chain(keys).all(is_file) {
        return None;
    }
    // SAFETY: by the caller's promise the cycle is live.
    let path = |name: &ngx_str_t| unsafe { PathBuf::from(ngx::full_path(cycle, &ngx::text(name))) };
    let phrases = merged(own.passwords, around.passwords);
    certificates.iter().zip(keys).find_map(|(certificate, key)| {
        let files = (path(certificate), path(key));
        let why = trial.run(&files, phrases)?;
        Some((files, why))
    })
}

impl Trial {
    /// Why nginx will fail to load these files, with one of these pass phrases if the key needs one; none if it will
    /// load them, or if that is not known.
    fn run(&mut self, files: &Files, phrases: &[ngx_str_t]) -> Option<PairError> {
        let known = self.results.get(files).copied();
        let why = known.unwrap_or_else(|| {
            let why = self.tried(files);
            self.results.insert(files.clone(), why);
            why
        })?;
        let opens = |phrase: &ngx_str_t| {
            self.openssl.try_pair_with(&files.0, &files.1, Some(phrase.as_bytes())).is_ok()
        };
        // Without a file of pass phrases nginx asks at the terminal, which does not exist when a machine starts.
        let is_opened = why == PairError::PassPhrase && phrases.iter().any(opens);
        (!is_opened).then_some(why)
    }

    fn tried(&self, files: &Files) -> Option<PairError> {
        // OpenSSL would wait for a FIFO, and the content of a device is not known.
        let waits =
            |path: &Path| fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
        match waits(&files.0) || waits(&files.1) {
            true => None,
            false => self.openssl.try_pair(&files.0, &files.1).err(),
        }
    }
}

/// Makes nginx load the kept files. Returns false if nginx has no memory.
///
/// # Safety
/// `pool` is the pool of the cycle to which `ssl` belongs.
unsafe fn put(
    pool: *mut ngx_pool_t,
    ssl: &mut ngx_http_ssl_srv_conf_t,
    found: &Replacement,
) -> bool {
    // SAFETY: by the caller's promise. `ngx_array_push` returns null or room for one `ngx_str_t`, which is written at
    // once; an array for which memory is lacking is given up.
    let array = || unsafe {
        let array = ngx_array_create(pool, found.paths.len(), size_of::<ngx_str_t>());
        for path in &found.paths {
            let place: *mut ngx_str_t =
                if array.is_null() { ptr::null_mut() } else { ngx_array_push(array).cast() };
            let name = terminated(pool, path);
            if place.is_null() || name.data.is_null() {
                return None;
            }
            place.write(name);
        }
        (!array.is_null()).then_some(array)
    };
    // Two arrays, because nginx changes the strings.
    let (Some(certificates), Some(keys)) = (array(), array()) else { return false };
    (ssl.certificates, ssl.certificate_keys) = (certificates, keys);
    true
}

/// A path as a string of nginx, followed by a null byte; without data if there is no memory.
///
/// # Safety
/// `pool` is live.
unsafe fn terminated(pool: *mut ngx_pool_t, path: &Path) -> ngx_str_t {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: by the caller's promise. `ngx_palloc` returns null or room for the bytes and the null byte.
    unsafe {
        let data: *mut u8 = ngx_palloc(pool, bytes.len() + 1).cast();
        if !data.is_null() {
            data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            data.add(bytes.len()).write(0);
        }
        ngx_str_t { len: bytes.len(), data }
    }
}
