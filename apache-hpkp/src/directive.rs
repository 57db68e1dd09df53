//! The directives (`docs/reference/directives.md`). httpd names an error's file and line.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::ptr;

use hpkp_core::text::Excerpt;
use hpkp_server::setting::{self, PolicyDirective, SettingError, UseSetting};

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

// SAFETY: httpd only reads the table, and what it points to is static.
unsafe impl<T> Sync for Table<T> {}

/// All directives.
pub(crate) static COMMANDS: Table<[command_rec; 14]> = Table([
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
    command(c"HPKPUse", cmd_how_TAKE1, use_policy, c"the policy to enforce, or off"),
    command(
        c"HPKPUseReportOnly",
        cmd_how_TAKE1,
        use_report_only,
        c"the policy to try without enforcing it, or off",
    ),
    command(c"HPKPCheck", cmd_how_TAKE1, check, c"refuse or warn"),
    command(c"HPKPOnStart", cmd_how_TAKE1, on_start, c"warn or refuse"),
    command(
        c"HPKPTrustedCertificate",
        cmd_how_TAKE1,
        trusted_certificate,
        c"a file with trust anchors in addition to those of the system",
    ),
    command(
        c"HPKPPublishedPins",
        cmd_how_RAW_ARGS,
        published_pins,
        c"a directory with records of published pins, and writer=NAME or read_only",
    ),
    command(
        c"HPKPPublicPort",
        cmd_how_RAW_ARGS,
        public_port,
        c"a port of Listen, and the port that clients connect to",
    ),
    command(
        c"HPKPNotServedHere",
        cmd_how_RAW_ARGS,
        not_served_here,
        c"hosts that clients do not reach here, as NAME or NAME:PORT",
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

/// Runs the handler of a directive: `set` gets its server's object and its value.
///
/// # Safety
/// `cmd` and `value` are what httpd hands to a directive's handler.
unsafe fn handle(
    cmd: *mut cmd_parms,
    value: *const c_char,
    set: impl FnOnce(&mut ServerConf, &str) -> Result<(), String>,
) -> *const c_char {
    guarded("directive", || {
        // SAFETY: by the caller's promise; the objects of servers are made before directives are
        // read, and `set` is the only one to have this one until it ends.
        let done = unsafe {
            let conf = conf::server_conf((*cmd).server);
            match (conf, CStr::from_ptr(value).to_str()) {
                (Some(mut conf), Ok(value)) => set(conf.as_mut(), value),
                (None, _) => return BUG.as_ptr(),
                (_, Err(_)) => Err("invalid UTF-8 in the directive".to_owned()),
            }
        };
        match done {
            Ok(()) => ptr::null(),
            // SAFETY: by the caller's promise.
            Err(error) => unsafe { in_pool((*cmd).pool, &error) },
        }
    })
}

/// Runs the handler of a directive of the main server that takes words.
///
/// # Safety
/// As for [`handle`].
unsafe fn handle_words(
    cmd: *mut cmd_parms,
    arguments: *const c_char,
    set: impl FnOnce(&mut ServerConf, &[String], &str) -> Result<(), String>,
) -> *const c_char {
    // SAFETY: by the caller's promise.
    unsafe {
        let elsewhere = ap_check_cmd_context(cmd, GLOBAL_ONLY as c_uint);
        if !elsewhere.is_null() {
            return elsewhere;
        }
        handle(cmd, arguments, |conf, text| {
            set(conf, &httpd::words((*cmd).temp_pool, arguments), text)
        })
    }
}

/// The answer to what cannot be.
const BUG: &CStr = c"bug in mod_hpkp, please report it";

/// Runs what reads a directive, where what is read counts.
fn guarded(name: &str, read: impl FnOnce() -> *const c_char) -> *const c_char {
    let after = |on_panic| match on_panic {
        OnPanic::Reject => BUG.as_ptr(),
        OnPanic::Continue => ptr::null(),
    };
    boundary::catch_config_hook(name, after, || {
        if phase::ignores_configuration() {
            return ptr::null();
        }
        // SAFETY: httpd is reading the configuration.
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
    // SAFETY: by the caller's promise; the copy gets its null octet.
    unsafe { apr_pstrmemdup(pool, text.as_ptr(), text.count_bytes()) }
}

/// A directive's error in httpd's manner: the directive first.
fn phrase(error: SettingError, name: &str, value: &str) -> String {
    match error {
        SettingError::Duplicate => format!("duplicate {name}"),
        SettingError::NoChoice(choices) => {
            format!("{name} must be {choices}, not \"{}\"", Excerpt::new(value))
        }
        SettingError::Finding(code, text) => format!("hpkp: [{code}] -: {text}"),
        SettingError::Text(text) => format!("hpkp: {name}: {text}"),
    }
}

/// The directive's name as it is known, however it is written.
///
/// # Safety
/// `cmd` is what httpd hands to a directive's handler.
unsafe fn name(cmd: *const cmd_parms) -> &'static str {
    // SAFETY: by the caller's promise; the names are those of the table.
    unsafe { CStr::from_ptr((*(*cmd).cmd).name).to_str().unwrap_or_default() }
}

unsafe extern "C" fn use_policy(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    value: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this with a directive of ours.
    unsafe { set_use(cmd, value, |conf| &mut conf.enforced) }
}

unsafe extern "C" fn use_report_only(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    value: *const c_char,
) -> *const c_char {
    // SAFETY: as for `use_policy`.
    unsafe { set_use(cmd, value, |conf| &mut conf.report_only) }
}

/// Of two in one place the later counts, as it does with most directives of httpd.
///
/// # Safety
/// As for [`handle`].
unsafe fn set_use(
    cmd: *mut cmd_parms,
    value: *const c_char,
    setting: fn(&mut ServerConf) -> &mut UseSetting,
) -> *const c_char {
    // SAFETY: by the caller's promise.
    unsafe {
        handle(cmd, value, |conf, value| {
            let value = if value.eq_ignore_ascii_case("off") { "off" } else { value };
            *setting(conf) = UseSetting::new(value, httpd::location((*cmd).directive));
            Ok(())
        })
    }
}

unsafe extern "C" fn check(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    value: *const c_char,
) -> *const c_char {
    // SAFETY: as for `use_policy`.
    unsafe {
        handle(cmd, value, |conf, value| {
            let chosen = setting::choose(setting::CHECK, value, true);
            conf.check = Some(chosen.map_err(|error| phrase(error, name(cmd), value))?);
            Ok(())
        })
    }
}

unsafe extern "C" fn on_start(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    value: *const c_char,
) -> *const c_char {
    // SAFETY: as for `use_policy`.
    unsafe {
        let elsewhere = ap_check_cmd_context(cmd, GLOBAL_ONLY as c_uint);
        if !elsewhere.is_null() {
            return elsewhere;
        }
        handle(cmd, value, |conf, value| {
            let chosen = setting::choose(setting::ON_START, value, true);
            conf.on_start = Some(chosen.map_err(|error| phrase(error, name(cmd), value))?);
            Ok(())
        })
    }
}

unsafe extern "C" fn trusted_certificate(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    value: *const c_char,
) -> *const c_char {
    // SAFETY: as for `use_policy`.
    unsafe {
        handle(cmd, value, |conf, value| {
            let path = httpd::full_path((*cmd).pool, value);
            conf.trusted = Some((path, httpd::location((*cmd).directive)));
            Ok(())
        })
    }
}

unsafe extern "C" fn published_pins(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: as for `use_policy`.
    unsafe {
        handle_words(cmd, arguments, |conf, words, text| {
            let at = httpd::location((*cmd).directive);
            let full_path = |path: &str| httpd::full_path((*cmd).pool, path);
            setting::add_records(&mut conf.published, words, at, full_path)
                .map_err(|error| phrase(error, name(cmd), text))
        })
    }
}

unsafe extern "C" fn public_port(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: as for `use_policy`.
    unsafe {
        handle_words(cmd, arguments, |conf, words, text| {
            let name = name(cmd);
            let [listen, public] = words else {
                return Err(format!("{name} takes two arguments, as in {name} 8443 443"));
            };
            conf.public_ports
                .add(listen, public, httpd::location((*cmd).directive), false)
                .map_err(|error| phrase(error, name, text))
        })
    }
}

unsafe extern "C" fn not_served_here(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: as for `use_policy`.
    unsafe {
        handle_words(cmd, arguments, |conf, words, text| {
            let name = name(cmd);
            if words.is_empty() {
                return Err(format!(
                    "{name} takes one or more hosts, as in {name} api.example.com"
                ));
            }
            let at = httpd::location((*cmd).directive);
            setting::add_not_served_here(&mut conf.not_served_here, words, &at)
                .map_err(|error| phrase(error, name, text))
        })
    }
}

/// The policy's block: its name with the closing bracket is the argument.
unsafe extern "C" fn policy(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: as for `use_policy`.
    guarded("policy", || unsafe { read_policy(cmd, arguments) })
}

/// # Safety
/// As for [`handle`].
unsafe fn read_policy(cmd: *mut cmd_parms, arguments: *const c_char) -> *const c_char {
    // SAFETY: by the caller's promise. Each handler that is called has the server's object to itself:
    // here there is no reference to it meanwhile.
    unsafe {
        let elsewhere = ap_check_cmd_context(cmd, (GLOBAL_ONLY | NOT_IN_DIR_LOC_FILE) as c_uint);
        if !elsewhere.is_null() {
            return elsewhere;
        }
        let begun = handle(cmd, arguments, |conf, arguments| {
            let pool = (*cmd).temp_pool;
            let policy_name = name_of_block(pool, arguments)?;
            setting::define(&mut conf.policies, &policy_name, httpd::location((*cmd).directive))
                .map_err(|error| phrase(error, "<HPKPPolicy>", &policy_name))?;
            conf.is_in_policy = true;
            Ok(())
        });
        if !begun.is_null() {
            return begun;
        }
        let first = (*(*cmd).directive).first_child;
        // httpd would execute any directive that is allowed in a server.
        let mut all = siblings(first).map(|one| (one, cstr::text(one.directive)));
        let error = match all.find(|(_, name)| policy_directive(name).is_none()) {
            Some((directive, name)) => {
                (*cmd).err_directive = directive;
                let excerpt = Excerpt::new(&name);
                in_pool((*cmd).pool, &format!("{excerpt} not allowed in <HPKPPolicy>"))
            }
            None => ap_walk_config(first, cmd, (*cmd).context),
        };
        if let Some(conf) = conf::server_conf((*cmd).server) {
            (*conf.as_ptr()).is_in_policy = false;
        }
        error
    }
}

/// The one word between `<HPKPPolicy` and `>`.
///
/// # Safety
/// `pool` is live.
unsafe fn name_of_block(pool: *mut apr_pool_t, arguments: &str) -> Result<String, String> {
    let usage = || "<HPKPPolicy> takes one name, as in <HPKPPolicy site>".to_owned();
    let arguments = arguments.trim_end().strip_suffix('>').ok_or_else(usage)?;
    let arguments = cstr::c_string(arguments.trim());
    // SAFETY: by the caller's promise.
    match <[String; 1]>::try_from(unsafe { httpd::words(pool, arguments.as_ptr()) }) {
        Ok([word]) if !word.is_empty() => Ok(word),
        _ => Err(usage()),
    }
}

fn policy_directive(name: &str) -> Option<PolicyDirective> {
    [
        ("HPKPPin", PolicyDirective::Pin),
        ("HPKPMaxAge", PolicyDirective::MaxAge),
        ("HPKPIncludeSubDomains", PolicyDirective::IncludeSubdomains),
        ("HPKPReportURI", PolicyDirective::ReportUri),
    ]
    .into_iter()
    .find_map(|(known, directive)| known.eq_ignore_ascii_case(name).then_some(directive))
}

/// A directive that stands in a policy.
unsafe extern "C" fn in_policy(
    cmd: *mut cmd_parms,
    _: *mut c_void,
    value: *const c_char,
) -> *const c_char {
    // SAFETY: as for `use_policy`.
    unsafe {
        handle(cmd, value, |conf, value| {
            let name = name(cmd);
            let directive = policy_directive(name);
            let open = conf.policies.last_mut().filter(|_| conf.is_in_policy);
            let (Some(directive), Some(policy)) = (directive, open) else {
                return Err(format!("{name} not allowed outside <HPKPPolicy>"));
            };
            let at = httpd::location((*cmd).directive);
            let full_path = |path: &str| httpd::full_path((*cmd).pool, path);
            setting::set(policy, (directive, name), value, at, full_path, true)
                .map_err(|error| phrase(error, name, value))
        })
    }
}
