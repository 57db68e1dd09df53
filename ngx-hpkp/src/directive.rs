//! The directives (`docs/reference/directives.md`), with nginx's own phrases for what is wrong with them.

use std::ffi::{c_char, c_void};
use std::ptr;

use hpkp_core::finding::Location;
use hpkp_core::text::Excerpt;
use hpkp_server::setting::{self, PolicyDirective, SettingError, UseSetting};
use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_BLOCK, NGX_CONF_TAKE1, NGX_CONF_TAKE2, NGX_CONF_TAKE3,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF, NGX_HTTP_SRV_CONF_OFFSET,
    ngx_command_t, ngx_conf_include, ngx_conf_parse, ngx_conf_t, ngx_str_t, ngx_uint_t,
};

use crate::boundary::{self, OnPanic};
use crate::conf::{MainConf, ServerConf};
use crate::ngx::{self, CONF_ERROR, CONF_OK, Handler, c_string};
use crate::{log, phase};

const HTTP: u32 = NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1;
const HTTP_AND_SERVER: u32 = HTTP | NGX_HTTP_SRV_CONF;

/// The directives outside a policy.
pub(crate) static mut COMMANDS: [ngx_command_t; 10] = [
    ngx_command_t {
        name: c_string(c"hpkp_policy"),
        type_: (HTTP | NGX_CONF_BLOCK) as ngx_uint_t,
        set: Some(policy_block),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    command(c_string(c"hpkp"), HTTP_AND_SERVER, NGX_HTTP_SRV_CONF_OFFSET, hpkp),
    command(
        c_string(c"hpkp_report_only"),
        HTTP_AND_SERVER,
        NGX_HTTP_SRV_CONF_OFFSET,
        hpkp_report_only,
    ),
    command(c_string(c"hpkp_check"), HTTP_AND_SERVER, NGX_HTTP_SRV_CONF_OFFSET, hpkp_check),
    command(c_string(c"hpkp_on_start"), HTTP, NGX_HTTP_MAIN_CONF_OFFSET, hpkp_on_start),
    command(
        c_string(c"hpkp_trusted_certificate"),
        HTTP_AND_SERVER,
        NGX_HTTP_SRV_CONF_OFFSET,
        hpkp_trusted_certificate,
    ),
    command(
        c_string(c"hpkp_published_pins"),
        HTTP | NGX_CONF_TAKE2 | NGX_CONF_TAKE3,
        NGX_HTTP_MAIN_CONF_OFFSET,
        hpkp_published_pins,
    ),
    command(
        c_string(c"hpkp_public_port"),
        NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE2,
        NGX_HTTP_MAIN_CONF_OFFSET,
        hpkp_public_port,
    ),
    command(
        c_string(c"hpkp_not_served_here"),
        NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE,
        NGX_HTTP_MAIN_CONF_OFFSET,
        hpkp_not_served_here,
    ),
    ngx_command_t::empty(),
];

const fn command(
    name: nginx_sys::ngx_str_t,
    type_: u32,
    conf: usize,
    set: Handler,
) -> ngx_command_t {
    ngx_command_t {
        name,
        type_: type_ as ngx_uint_t,
        set: Some(set),
        conf,
        offset: 0,
        post: ptr::null_mut(),
    }
}

/// A directive's error in nginx's own phrases, which stand alone as those of its own directives do.
fn phrase(error: SettingError, words: &[String]) -> String {
    match error {
        SettingError::Duplicate => format!("\"{}\" directive is duplicate", words[0]),
        SettingError::NoChoice(choices) => format!(
            "invalid value \"{}\" in \"{}\" directive, it must be {choices}",
            Excerpt::new(&words[1]),
            words[0],
        ),
        SettingError::Finding(code, text) => format!("hpkp: [{code}] -: {text}"),
        SettingError::Text(text) => text,
    }
}

/// Runs the handler of a directive: `set` gets its words and where it stands, and its errors are logged.
///
/// # Safety
/// `cf` and `conf` are what nginx hands to a directive's handler, and `conf` is a `C`.
unsafe fn handle<C>(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
    set: impl FnOnce(&mut C, &[String], Location) -> Result<(), SettingError>,
) -> *mut c_char {
    let after = |on_panic| match on_panic {
        OnPanic::Reject => CONF_ERROR,
        OnPanic::Continue => CONF_OK,
    };
    boundary::catch_config_hook("directive", after, || {
        if phase::current().is_none() {
            return CONF_OK;
        }
        // SAFETY: by the caller's promise.
        let (words, conf, at) =
            unsafe { (ngx::words(cf), &mut *conf.cast::<C>(), ngx::location(cf)) };
        let done = match words {
            Some(words) => set(conf, &words, at).map_err(|error| phrase(error, &words)),
            None => Err("invalid UTF-8 in the directive".to_owned()),
        };
        match done {
            Ok(()) => CONF_OK,
            Err(error) => {
                // SAFETY: by the caller's promise.
                unsafe { log::directive_error(cf, &error) };
                CONF_ERROR
            }
        }
    })
}

unsafe extern "C" fn hpkp(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls this with a live `cf` and, by the table above, a server configuration.
    unsafe { use_policy(cf, conf, |conf| &mut conf.enforced) }
}

unsafe extern "C" fn hpkp_report_only(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as for `hpkp`.
    unsafe { use_policy(cf, conf, |conf| &mut conf.report_only) }
}

/// # Safety
/// As for [`handle`]; `conf` is a [`ServerConf`].
unsafe fn use_policy(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
    setting: fn(&mut ServerConf) -> &mut UseSetting,
) -> *mut c_char {
    // SAFETY: by the caller's promise.
    unsafe {
        handle(cf, conf, |conf: &mut ServerConf, words, at| {
            let setting = setting(conf);
            if !matches!(setting, UseSetting::Unset) {
                return Err(SettingError::Duplicate);
            }
            *setting = UseSetting::new(&words[1], at);
            Ok(())
        })
    }
}

unsafe extern "C" fn hpkp_check(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as for `hpkp`.
    unsafe {
        handle(cf, conf, |conf: &mut ServerConf, words, _| {
            set_choice(&mut conf.check, words, setting::CHECK)
        })
    }
}

unsafe extern "C" fn hpkp_on_start(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as for `hpkp`, with the main configuration.
    unsafe {
        handle(cf, conf, |conf: &mut MainConf, words, _| {
            set_choice(&mut conf.on_start, words, setting::ON_START)
        })
    }
}

fn set_choice<T: Copy>(
    setting: &mut Option<T>,
    words: &[String],
    choices: &[(&str, T)],
) -> Result<(), SettingError> {
    if setting.is_some() {
        return Err(SettingError::Duplicate);
    }
    let chosen = setting::choose(choices, &words[1], false);
    *setting = Some(chosen?);
    Ok(())
}

unsafe extern "C" fn hpkp_trusted_certificate(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as for `hpkp`.
    unsafe {
        handle(cf, conf, |conf: &mut ServerConf, words, at| {
            if conf.trusted.is_some() {
                return Err(SettingError::Duplicate);
            }
            conf.trusted = Some((ngx::full_path((*cf).cycle, &words[1]), at));
            Ok(())
        })
    }
}

unsafe extern "C" fn hpkp_published_pins(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as for `hpkp`, with the main configuration.
    unsafe {
        handle(cf, conf, |conf: &mut MainConf, words, at| {
            let full_path = |path: &str| ngx::full_path((*cf).cycle, path);
            setting::add_records(&mut conf.published, &words[1..], at, full_path)
        })
    }
}

unsafe extern "C" fn hpkp_public_port(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as for `hpkp`, with the main configuration.
    unsafe {
        handle(cf, conf, |conf: &mut MainConf, words, at| {
            let [_, listen, public] = words else { return Err(wrong_number(words)) };
            conf.public_ports.add(listen, public, at, true)
        })
    }
}

unsafe extern "C" fn hpkp_not_served_here(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as for `hpkp`, with the main configuration.
    unsafe {
        handle(cf, conf, |conf: &mut MainConf, words, at| {
            setting::add_not_served_here(&mut conf.not_served_here, &words[1..], &at)
        })
    }
}

unsafe extern "C" fn policy_block(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as for `hpkp`, with the main configuration.
    let defined = unsafe {
        handle(cf, conf, |conf: &mut MainConf, words, at| {
            setting::define(&mut conf.policies, &words[1], at)
        })
    };
    if defined != CONF_OK {
        return defined;
    }
    // SAFETY: nginx parses a block into whatever `cf` says and expects `cf` as it was.
    unsafe {
        let saved = *cf;
        (*cf).handler = Some(policy_directive);
        (*cf).handler_conf = conf.cast();
        let parsed = ngx_conf_parse(cf, ptr::null_mut());
        *cf = saved;
        parsed
    }
}

/// Called for each directive inside a policy.
unsafe extern "C" fn policy_directive(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls this with a live `cf`, and `conf` is what `policy_block` put there.
    unsafe {
        let words: &[ngx_str_t] = ngx::elements((*cf).args);
        if words.len() == 2 && words[0].as_bytes() == b"include" {
            return ngx_conf_include(cf, command, conf);
        }
        handle(cf, conf, |conf: &mut MainConf, words, at| {
            // The block being read is that of the policy defined last.
            let Some(policy) = conf.policies.last_mut() else { return Ok(()) };
            let directive = match words[0].as_str() {
                "pin" => PolicyDirective::Pin,
                "max_age" => PolicyDirective::MaxAge,
                "include_subdomains" => PolicyDirective::IncludeSubdomains,
                "report_uri" => PolicyDirective::ReportUri,
                "include" => return Err(wrong_number(words)),
                _ => {
                    let name = Excerpt::new(&words[0]);
                    return Err(SettingError::Text(format!("unknown directive \"{name}\"")));
                }
            };
            let [name, value] = words else { return Err(wrong_number(words)) };
            let full_path = |path: &str| ngx::full_path((*cf).cycle, path);
            setting::set(policy, (directive, name), value, at, full_path, false)
        })
    }
}

fn wrong_number(words: &[String]) -> SettingError {
    let text = format!("invalid number of arguments in \"{}\" directive", words[0]);
    SettingError::Text(text)
}
