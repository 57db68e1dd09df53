//! The nginx module: reads directives, checks the configuration, and adds the header field to responses.
//!
//! Data flow: `directive` reads the configuration into `conf`, and `chosen` notes directives of other modules that
//! change certificates; `early` checks whether nginx can load these; when all of the configuration has been read,
//! `gate` passes what `server` and `outside` find in nginx's objects to the core's check, and refuses or continues.
//! `late` is a second place for the check, and `rehearsal` runs the check of that place in a child, for a server that
//! must not be refused so late. `commit` records what is published when the configuration takes effect and makes each
//! server's `response`; `filter` adds the field to responses; `variable` has the variables for the access log.
//! `guard` chooses the certificate of a handshake if variables name it.
//!
//! Every entry from C goes through `boundary`.

mod active;
mod boundary;
mod chooser;
mod chosen;
mod commit;
mod conf;
mod directive;
mod early;
mod filter;
mod gate;
mod guard;
mod late;
mod log;
mod ngx;
mod outside;
mod phase;
mod pool;
mod rehearsal;
mod response;
mod rest;
mod server;
mod variable;
mod withheld;

use std::ffi::c_char;
use std::ptr;

use nginx_sys::{
    NGX_CORE_MODULE, NGX_HTTP_MODULE, ngx_core_module_t, ngx_http_module_t, ngx_module_t,
};

/// The HTTP module: directives, filter, variables.
#[unsafe(no_mangle)]
pub static mut ngx_http_hpkp_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const HTTP_CONTEXT).cast_mut().cast(),
    // nginx walks the commands up to the empty one.
    commands: (&raw mut directive::COMMANDS).cast(),
    type_: NGX_HTTP_MODULE as _,
    ..ngx_module_t::default()
};

/// A second module, for the check: it precedes the first filter, see `gate`.
#[unsafe(no_mangle)]
pub static mut ngx_http_hpkp_gate_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const GATE_CONTEXT).cast_mut().cast(),
    commands: ptr::null_mut(),
    type_: NGX_HTTP_MODULE as _,
    init_module: Some(commit::init_module),
    init_process: Some(commit::init_process),
    exit_master: Some(commit::exit_master),
    ..ngx_module_t::default()
};

/// A module that precedes nginx's own TLS module, see `early`.
#[unsafe(no_mangle)]
pub static mut ngx_http_hpkp_early_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const EARLY_CONTEXT).cast_mut().cast(),
    commands: ptr::null_mut(),
    type_: NGX_HTTP_MODULE as _,
    ..ngx_module_t::default()
};

/// A module for the check of blocks that follow `http` in the file, see `late`.
#[unsafe(no_mangle)]
pub static mut ngx_http_hpkp_late_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const LATE_CONTEXT).cast_mut().cast(),
    commands: ptr::null_mut(),
    type_: NGX_CORE_MODULE as _,
    ..ngx_module_t::default()
};

/// A module in `stream`, see `outside`. Without a `stream` block, nginx does not call it.
#[unsafe(no_mangle)]
pub static mut ngx_stream_hpkp_module: ngx_module_t = ngx_module_t {
    ctx: (&raw const outside::STREAM_CONTEXT).cast_mut().cast(),
    commands: ptr::null_mut(),
    type_: outside::STREAM_KIND,
    ..ngx_module_t::default()
};

static LATE_CONTEXT: Table<ngx_core_module_t> = Table(ngx_core_module_t {
    name: ngx::c_string(c"hpkp"),
    create_conf: None,
    init_conf: Some(late::init_conf),
});

static HTTP_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(variable::add),
    postconfiguration: Some(filter::install),
    create_main_conf: Some(conf::create_main),
    init_main_conf: None,
    create_srv_conf: Some(conf::create_server),
    merge_srv_conf: Some(conf::merge_server),
    create_loc_conf: None,
    merge_loc_conf: None,
};

static GATE_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(chosen::watch),
    postconfiguration: Some(gate::postconfiguration),
    create_main_conf: None,
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
};

static EARLY_CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: None,
    postconfiguration: None,
    create_main_conf: None,
    init_main_conf: Some(early::init_main),
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: None,
    merge_loc_conf: None,
};

/// A table that nginx looks up by name when it loads the module.
#[repr(transparent)]
pub struct Table<T>(T);

// SAFETY: nginx only reads these tables, which point to static strings, functions and modules.
unsafe impl<T> Sync for Table<T> {}

/// The modules in this file.
#[unsafe(no_mangle)]
pub static ngx_modules: Table<[*const ngx_module_t; 6]> = Table([
    &raw const ngx_http_hpkp_early_module,
    &raw const ngx_http_hpkp_gate_module,
    &raw const ngx_http_hpkp_module,
    &raw const ngx_http_hpkp_late_module,
    &raw const ngx_stream_hpkp_module,
    ptr::null(),
]);

/// The names of these modules.
#[unsafe(no_mangle)]
pub static ngx_module_names: Table<[*const c_char; 6]> = Table([
    c"ngx_http_hpkp_early_module".as_ptr(),
    c"ngx_http_hpkp_gate_module".as_ptr(),
    c"ngx_http_hpkp_module".as_ptr(),
    c"ngx_http_hpkp_late_module".as_ptr(),
    c"ngx_stream_hpkp_module".as_ptr(),
    ptr::null(),
]);

/// The order of the modules: nginx puts each before the first module that follows it here and is already loaded. The
/// gate precedes all filters. The filter precedes `headers` in the list, so it runs after `headers` for a response,
/// and sees the fields of `add_header` and of an upstream.
#[unsafe(no_mangle)]
pub static ngx_module_order: Table<[*const c_char; 7]> = Table([
    c"ngx_http_hpkp_early_module".as_ptr(),
    c"ngx_http_ssl_module".as_ptr(),
    c"ngx_http_hpkp_gate_module".as_ptr(),
    c"ngx_http_write_filter_module".as_ptr(),
    c"ngx_http_hpkp_module".as_ptr(),
    c"ngx_http_headers_filter_module".as_ptr(),
    ptr::null(),
]);
