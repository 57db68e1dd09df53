//! The directives (`docs/reference/directives.md`): where they are allowed. Their values are read
//! by [`hpkp_server::nginx`].

use std::ffi::{c_char, c_void};
use std::ptr;

use hpkp_server::nginx;
use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_BLOCK, NGX_CONF_TAKE1, NGX_CONF_TAKE2, NGX_CONF_TAKE3,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF, NGX_HTTP_SRV_CONF_OFFSET,
    ngx_command_t, ngx_conf_include, ngx_conf_parse, ngx_conf_t, ngx_str_t, ngx_uint_t,
};

use crate::boundary::{self, OnPanic};
use crate::conf::{MainConf, ServerConf};
use crate::ngx::{self, CONF_ERROR, CONF_OK, Handler, c_string};
use crate::{guard, log, phase};

const HTTP: u32 = NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1;
const HTTP_AND_SERVER: u32 = HTTP | NGX_HTTP_SRV_CONF;

/// The directives outside a policy.
pub(crate) static mut COMMANDS: [ngx_command_t; 13] = [
    ngx_command_t {
        name: c_string(c"hpkp_policy"),
        type_: (HTTP | NGX_CONF_BLOCK) as ngx_uint_t,
        set: Some(policy_block),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    command(
        c_string(c"hpkp"),
        HTTP_AND_SERVER | NGX_CONF_TAKE2,
        NGX_HTTP_SRV_CONF_OFFSET,
        in_server,
    ),
    command(c_string(c"hpkp_report_only"), HTTP_AND_SERVER, NGX_HTTP_SRV_CONF_OFFSET, in_server),
    command(c_string(c"hpkp_check"), HTTP_AND_SERVER, NGX_HTTP_SRV_CONF_OFFSET, in_server),
    command(c_string(c"hpkp_renewal_key"), HTTP_AND_SERVER, NGX_HTTP_SRV_CONF_OFFSET, in_server),
    command(c_string(c"hpkp_on_start"), HTTP, NGX_HTTP_MAIN_CONF_OFFSET, in_http),
    command(
        c_string(c"hpkp_trusted_certificate"),
        HTTP_AND_SERVER,
        NGX_HTTP_SRV_CONF_OFFSET,
        in_server,
    ),
    command(
        c_string(c"hpkp_published_pins"),
        HTTP | NGX_CONF_TAKE2 | NGX_CONF_TAKE3,
        NGX_HTTP_MAIN_CONF_OFFSET,
        in_http,
    ),
    command(
        c_string(c"hpkp_public_port"),
        NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE2,
        NGX_HTTP_MAIN_CONF_OFFSET,
        in_http,
    ),
    command(
        c_string(c"hpkp_not_served_here"),
        NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE,
        NGX_HTTP_MAIN_CONF_OFFSET,
        in_http,
    ),
    command(
        c_string(c"hpkp_keep_certificates"),
        HTTP_AND_SERVER,
        NGX_HTTP_SRV_CONF_OFFSET,
        keep_certificates,
    ),
    command(
        c_string(c"hpkp_guard"),
        NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_TAKE2,
        NGX_HTTP_SRV_CONF_OFFSET,
        guard,
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

/// Runs the handler of a directive: `set` gets its words, and its errors are logged.
///
/// # Safety
/// nginx calls the handler of a directive with `cf` and `conf` (`ngx_conf_handler`, or `ngx_conf_parse` with
/// [`policy_directive`]), `conf` is a `C`, and nothing else refers to it.
unsafe fn handle<C>(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
    set: impl FnOnce(&mut C, &[String]) -> Result<(), String>,
) -> *mut c_char {
    let after = |on_panic: OnPanic| on_panic.either(CONF_ERROR, CONF_OK);
    boundary::catch_config_hook("directive", after, || {
        if phase::current().is_none() {
            return CONF_OK;
        }
        // SAFETY: by the caller's promise. `set` calls nothing of nginx that calls another handler, so it has the only
        // reference to the object.
        let (words, conf) = unsafe { (ngx::words(cf), &mut *conf.cast::<C>()) };
        let done = match words {
            Some(words) => set(conf, &words),
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

/// A directive of `http` and `server`.
unsafe extern "C" fn in_server(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: only `ngx_conf_handler` calls this function. For a command with NGX_HTTP_SRV_CONF_OFFSET it passes this
    // module's server configuration, which `create_server` made.
    unsafe {
        handle(cf, conf, |conf: &mut ServerConf, words| {
            let full_path = |path: &str| ngx::full_path((*cf).cycle, path);
            nginx::set_in_server(&mut conf.settings, words, ngx::location(cf), full_path)
        })
    }
}

/// A directive that is only allowed in `http`.
unsafe extern "C" fn in_http(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as in `in_server`; for NGX_HTTP_MAIN_CONF_OFFSET nginx passes the main configuration, which `create_main`
    // made.
    unsafe {
        handle(cf, conf, |conf: &mut MainConf, words| {
            let full_path = |path: &str| ngx::full_path((*cf).cycle, path);
            nginx::set_global(&mut conf.global, words, ngx::location(cf), full_path)
        })
    }
}

/// The directory for last good certificates, in `http` itself. A server can turn it off.
unsafe extern "C" fn keep_certificates(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as in `in_server`. `ngx_http_block` has stored its context in the cycle before it reads directives; the
    // main configuration is another object than `conf`, and nothing else refers to it.
    unsafe {
        handle(cf, conf, |conf: &mut ServerConf, words| {
            let full_path = |path: &str| ngx::full_path((*cf).cycle, path);
            let is_global = (*cf).cmd_type == NGX_HTTP_MAIN_CONF as ngx_uint_t;
            let main = ngx::http_main_conf::<MainConf>((*cf).cycle, ngx::own_module());
            let global = main.as_mut().filter(|_| is_global).map(|main| &mut main.global);
            let at = ngx::location(cf);
            nginx::set_keep(global, &mut conf.settings, words, at, full_path)
        })
    }
}

/// The guard of a certificate that is chosen during the handshake.
unsafe extern "C" fn guard(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as in `keep_certificates`. The reference of `handle` has ended before the next one is made.
    unsafe {
        let read = handle(cf, conf, |conf: &mut ServerConf, words| {
            nginx::set_guard(&mut conf.settings, words, ngx::location(cf))
        });
        if read != CONF_OK {
            return read;
        }
        let main = ngx::http_main_conf::<MainConf>((*cf).cycle, ngx::own_module()).as_mut();
        let (conf, given) = (&mut *conf.cast::<ServerConf>(), guard::read(cf));
        match given.and_then(|given| Ok((given, guard::add_zone(cf)?))) {
            Ok((given, zone)) => {
                conf.given = Some(given);
                main.into_iter().for_each(|main| main.zone = zone);
                CONF_OK
            }
            Err(error) => {
                log::directive_error(cf, &error);
                CONF_ERROR
            }
        }
    }
}

unsafe extern "C" fn policy_block(
    cf: *mut ngx_conf_t,
    _: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: as in `in_http`.
    let defined = unsafe {
        handle(cf, conf, |conf: &mut MainConf, words| {
            nginx::define(&mut conf.global, words, ngx::location(cf))
        })
    };
    if defined != CONF_OK {
        return defined;
    }
    // SAFETY: nginx calls this with a live `cf`, which is a plain structure. `ngx_conf_parse` passes each directive of
    // the block to `handler` with `handler_conf`. No reference to the object is in use here, and `cf` gets its former
    // values afterwards, as nginx's own blocks do.
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
    // SAFETY: `ngx_conf_parse` calls this with a live `cf`, and `conf` is the main configuration that `policy_block`
    // stored in `handler_conf`. `ngx_conf_include` is nginx's handler for this directive, whose arguments nginx has
    // passed.
    unsafe {
        let words: &[ngx_str_t] = ngx::elements((*cf).args);
        if words.len() == 2 && words[0].as_bytes() == b"include" {
            return ngx_conf_include(cf, command, conf);
        }
        handle(cf, conf, |conf: &mut MainConf, words| {
            // The block being read is that of the policy defined last.
            let Some(policy) = conf.global.policies.last_mut() else { return Ok(()) };
            let full_path = |path: &str| ngx::full_path((*cf).cycle, path);
            nginx::set_in_policy(policy, words, ngx::location(cf), full_path)
        })
    }
}
