//! The directives (`docs/reference/directives.md`): where they are allowed. [`hpkp_server::httpd`] reads their values.
//! httpd adds the file and the line to an error.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::ptr;

use hpkp_core::finding::Location;
use hpkp_core::text::Excerpt;
use hpkp_server::httpd as model;

use crate::bindings::{
    GLOBAL_ONLY, NOT_IN_DIR_LOC_FILE, RSRC_CONF, ap_check_cmd_context, ap_walk_config, apr_pool_t,
    apr_pstrmemdup, cmd_func, cmd_how, cmd_how_RAW_ARGS, cmd_how_TAKE1, cmd_parms, command_rec,
};
use crate::boundary::{self, OnPanic};
use crate::conf;
use crate::conf::ServerConf;
use crate::cstr;
use crate::filter;
use crate::httpd;
use crate::httpd::siblings;
use crate::phase;

type Take1 = unsafe extern "C" fn(*mut cmd_parms, *mut c_void, *const c_char) -> *const c_char;

/// A table that httpd reads.
#[repr(transparent)]
pub(crate) struct Table<T>(T);

// SAFETY: httpd only reads a module's `cmds`, and the table points to static strings and functions.
unsafe impl<T> Sync for Table<T> {}

/// All directives.
pub(crate) static COMMANDS: Table<[command_rec; 16]> = Table([
    command(c"<HPKPPolicy", cmd_how_RAW_ARGS, policy, c"a pinning policy of this name"),
    command(c"HPKPPin", cmd_how_TAKE1, in_policy, c"a pin, or file:PATH to take it from"),
    command(
        c"HPKPMaxAge",
        cmd_how_TAKE1,
        in_policy,
        c"how long clients remember the policy, as in 60d or 12h",
    ),
    command(c"HPKPIncludeSubDomains", cmd_how_TAKE1, in_policy, c"on or off"),
    command(
        c"HPKPReportURI",
        cmd_how_TAKE1,
        in_policy,
        c"the URI to which clients report violations",
    ),
    command(c"HPKPUse", cmd_how_TAKE1, in_server, c"the policy to enforce, or off"),
    command(
        c"HPKPUseReportOnly",
        cmd_how_TAKE1,
        in_server,
        c"the policy to try without enforcing it, or off",
    ),
    command(c"HPKPCheck", cmd_how_TAKE1, in_server, c"refuse, warn or keep"),
    command(
        c"HPKPRenewalKey",
        cmd_how_TAKE1,
        in_server,
        c"same or new: what renewals do with the key",
    ),
    command(c"HPKPOnStart", cmd_how_TAKE1, global, c"warn or refuse"),
    command(
        c"HPKPTrustedCertificate",
        cmd_how_TAKE1,
        in_server,
        c"a file with trust anchors in addition to those of the system",
    ),
    command(
        c"HPKPPublishedPins",
        cmd_how_RAW_ARGS,
        global,
        c"a directory with records of published pins, writer=NAME or read_only, and max_staleness=TIME",
    ),
    command(
        c"HPKPPublicPort",
        cmd_how_RAW_ARGS,
        global,
        c"a port of Listen, and the port that clients connect to",
    ),
    command(
        c"HPKPNotServedHere",
        cmd_how_RAW_ARGS,
        global,
        c"hosts that clients do not reach here, as NAME or NAME:PORT",
    ),
    command(
        c"HPKPKeepCertificates",
        cmd_how_TAKE1,
        keep_certificates,
        c"a directory of root alone for last good certificates; off within a virtual host",
    ),
    command_rec {
        name: ptr::null(),
        func: cmd_func { no_args: None },
        cmd_data: ptr::null_mut(),
        req_override: 0,
        args_how: cmd_how_RAW_ARGS,
        errmsg: ptr::null(),
    },
]);

/// A handler of raw arguments and one of a single argument have the same form.
const fn command(
    name: &'static CStr,
    how: cmd_how,
    handler: Take1,
    help: &'static CStr,
) -> command_rec {
    command_rec {
        name: name.as_ptr(),
        func: cmd_func { take1: Some(handler) },
        cmd_data: ptr::null_mut(),
        req_override: RSRC_CONF,
        args_how: how,
        errmsg: help.as_ptr(),
    }
}

/// Runs the handler of a directive: `set` gets its server's object, its value, its place, and a function that makes a
/// path absolute.
///
/// # Safety
/// `cmd` and `value` are the arguments with which httpd's `invoke_cmd` calls the handler of a directive with arguments:
/// `cmd` has the server, the directive and the pools, and `value` is a string, never null.
unsafe fn handle(
    cmd: *mut cmd_parms,
    value: *const c_char,
    set: impl FnOnce(&mut ServerConf, &str, Location, &dyn Fn(&str) -> String) -> Result<(), String>,
) -> *const c_char {
    guarded("directive", || {
        // SAFETY: by the caller's promise. `ap_set_config_vectors` has made the object of the server before
        // `invoke_cmd` called the handler, in httpd's main thread. `set` calls nothing of httpd that calls another
        // handler, so it has the only reference to the object.
        let done = unsafe {
            let conf = conf::server_conf((*cmd).server);
            let full_path = |path: &str| httpd::full_path((*cmd).pool, path);
            let at = httpd::location((*cmd).directive);
            match (conf, CStr::from_ptr(value).to_str()) {
                (Some(mut conf), Ok(value)) => set(conf.as_mut(), value, at, &full_path),
                (None, _) => return BUG.as_ptr(),
                (_, Err(_)) => Err("invalid UTF-8 in the directive".to_owned()),
            }
        };
        match done {
            Ok(()) => ptr::null(),
            // SAFETY: by the caller's promise the pool, which is `pconf`, is live.
            Err(error) => unsafe { in_pool((*cmd).pool, &error) },
        }
    })
}

/// The error for a state that cannot occur.
const BUG: &CStr = c"bug in mod_hpkp, please report it";

/// Runs `read` for a directive, unless this process ignores the configuration.
fn guarded(name: &str, read: impl FnOnce() -> *const c_char) -> *const c_char {
    let after = |on_panic: OnPanic| on_panic.either(BUG.as_ptr(), ptr::null());
    boundary::catch_config_hook(name, after, || {
        if phase::ignores_configuration() {
            return ptr::null();
        }
        // SAFETY: httpd's main thread is executing the directives of a configuration.
        unsafe { filter::register() };
        read()
    })
}

/// A text that lives as long as the pool.
///
/// # Safety
/// `pool` is live.
unsafe fn in_pool(pool: *mut apr_pool_t, text: &str) -> *const c_char {
    let text = cstr::c_string(text);
    // SAFETY: by the caller's promise. `apr_pstrmemdup` copies that many bytes and adds a null byte.
    unsafe { apr_pstrmemdup(pool, text.as_ptr(), text.count_bytes()) }
}

/// The directive's name in the spelling of the table.
///
/// # Safety
/// As for [`handle`].
unsafe fn name(cmd: *const cmd_parms) -> &'static str {
    // SAFETY: by the caller's promise `cmd` points to an entry of `COMMANDS`, whose names are static strings.
    unsafe { CStr::from_ptr((*(*cmd).cmd).name).to_str().unwrap_or_default() }
}

/// A directive of a server or of all servers.
unsafe extern "C" fn in_server(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    value: *const c_char,
) -> *const c_char {
    // SAFETY: only httpd calls this function, which is the handler of directives in `COMMANDS`.
    unsafe {
        handle(cmd, value, |conf, value, at, full_path| {
            model::set_in_server(&mut conf.settings, name(cmd), value, at, full_path)
        })
    }
}

/// The directory for last good certificates, outside all virtual hosts. A virtual host can turn it off.
unsafe extern "C" fn keep_certificates(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    value: *const c_char,
) -> *const c_char {
    // SAFETY: as in `in_server`. `ap_check_cmd_context` reads `cmd` and returns null or a string.
    unsafe {
        let is_global = ap_check_cmd_context(cmd, GLOBAL_ONLY as c_uint).is_null();
        handle(cmd, value, |conf, value, at, full_path| {
            let ServerConf { global, settings, .. } = conf;
            let global = Some(global).filter(|_| is_global);
            model::set_keep(global, settings, name(cmd), value, at, full_path)
        })
    }
}

/// A directive that is only allowed outside all virtual hosts.
unsafe extern "C" fn global(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: as in `keep_certificates`. `temp_pool` lives until the configuration has been read.
    unsafe {
        let elsewhere = ap_check_cmd_context(cmd, GLOBAL_ONLY as c_uint);
        if !elsewhere.is_null() {
            return elsewhere;
        }
        handle(cmd, arguments, |conf, text, at, full_path| {
            let words = httpd::words((*cmd).temp_pool, arguments);
            model::set_global(&mut conf.global, name(cmd), (text, &words), at, full_path)
        })
    }
}

/// The block of a policy. The argument is its name with the closing bracket.
unsafe extern "C" fn policy(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: as in `in_server`.
    guarded("policy", || unsafe { read_policy(cmd, arguments) })
}

/// # Safety
/// As for [`handle`].
unsafe fn read_policy(cmd: *mut cmd_parms, arguments: *const c_char) -> *const c_char {
    // SAFETY: by the caller's promise. The directives of the block are in the tree, which is in `pconf`.
    // `ap_walk_config` calls their handlers, each of which has the only reference to the server's object: the reference
    // of `handle` has ended, and the last assignment makes none.
    unsafe {
        let elsewhere = ap_check_cmd_context(cmd, (GLOBAL_ONLY | NOT_IN_DIR_LOC_FILE) as c_uint);
        if !elsewhere.is_null() {
            return elsewhere;
        }
        let begun = handle(cmd, arguments, |conf, arguments, at, _| {
            let words = words_of_block((*cmd).temp_pool, arguments);
            model::define(&mut conf.global, words, at)?;
            conf.is_in_policy = true;
            Ok(())
        });
        if !begun.is_null() {
            return begun;
        }
        let first = (*(*cmd).directive).first_child;
        // Otherwise httpd would execute any directive in the block that is allowed in a server.
        let mut all = siblings(first).map(|one| (one, cstr::text(one.directive)));
        let error = match all.find(|(_, name)| model::policy_directive(name).is_none()) {
            Some((directive, name)) => {
                (*cmd).err_directive = directive;
                let name = Excerpt::new(&name);
                in_pool((*cmd).pool, &format!("{name} not allowed in <HPKPPolicy>"))
            }
            None => ap_walk_config(first, cmd, (*cmd).context),
        };
        if let Some(conf) = conf::server_conf((*cmd).server) {
            (*conf.as_ptr()).is_in_policy = false;
        }
        error
    }
}

/// The words between `<HPKPPolicy` and `>`; none if `>` is missing.
///
/// # Safety
/// `pool` is live.
unsafe fn words_of_block(pool: *mut apr_pool_t, arguments: &str) -> Vec<String> {
    let Some(arguments) = arguments.trim_end().strip_suffix('>') else { return Vec::new() };
    let arguments = cstr::c_string(arguments.trim());
    // SAFETY: by the caller's promise; `arguments` ends with a null byte and outlives the call.
    unsafe { httpd::words(pool, arguments.as_ptr()) }
}

/// A directive inside a policy.
unsafe extern "C" fn in_policy(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    value: *const c_char,
) -> *const c_char {
    // SAFETY: as in `in_server`.
    unsafe {
        handle(cmd, value, |conf, value, at, full_path| {
            let policy = conf.global.policies.last_mut().filter(|_| conf.is_in_policy);
            model::set_in_policy(policy, name(cmd), value, at, full_path)
        })
    }
}
