//! The Apache httpd module: reads directives, checks the configuration, and adds the header field to responses.
//!
//! Data flow: `directive` reads the configuration into `conf`. At a test, `mod_ssl` reads the directives of mod_ssl and
//! mod_md, and `hpkp_server::httpd` the files that they name; at a start and a reload, `gate` uses the contexts that
//! mod_ssl has loaded. `vhost` tells which of them clients reach, and `gate` passes everything to the core's check, and
//! refuses or continues. Before mod_ssl loads certificates, `kept` replaces those that would lock clients out with last
//! good ones, and `missing` does so for files that do not exist. At the end, `shutdown` records that the server has
//! stopped. `connection` keeps which context a connection uses, and `filter` adds the field to responses.
//!
//! Every entry from C goes through `boundary`.

mod bindings;
mod boundary;
mod bucket;
mod conf;
mod connection;
mod cstr;
mod directive;
mod filter;
mod fork;
mod gate;
mod httpd;
mod invoker;
mod kept;
mod log;
mod missing;
mod mod_ssl;
mod phase;
mod pool;
mod shutdown;
mod vhost;

use std::ptr;

use bindings::{
    AP_MODULE_FLAG_ALWAYS_MERGE, MODULE_MAGIC_COOKIE, MODULE_MAGIC_NUMBER_MAJOR,
    MODULE_MAGIC_NUMBER_MINOR, apr_pool_t, module,
};

/// The module, by the name that `LoadModule` gives.
#[unsafe(no_mangle)]
pub static mut hpkp_module: module = module {
    version: MODULE_MAGIC_NUMBER_MAJOR,
    minor_version: MODULE_MAGIC_NUMBER_MINOR,
    module_index: -1,
    // The name in `<IfModule>` and in log lines.
    name: c"mod_hpkp.c".as_ptr(),
    dynamic_load_handle: ptr::null_mut(),
    next: ptr::null_mut(),
    magic: MODULE_MAGIC_COOKIE as _,
    rewrite_args: None,
    create_dir_config: None,
    merge_dir_config: None,
    create_server_config: Some(conf::create),
    merge_server_config: Some(conf::merge),
    // A command without a name ends the table.
    cmds: (&raw const directive::COMMANDS).cast(),
    register_hooks: Some(register_hooks),
    // Without this flag, virtual hosts without directives of this module would share the main server's object.
    flags: AP_MODULE_FLAG_ALWAYS_MERGE,
};

unsafe extern "C" fn register_hooks(_pool: *mut apr_pool_t) {
    boundary::reset();
    filter::reset();
    // SAFETY: `ap_add_module` calls this function each time httpd loads the module, in httpd's main thread.
    unsafe { gate::register_test() };
    // After a failure a test refuses, and a running parent continues without the module.
    boundary::catch_config_hook(
        "register_hooks",
        |_| (),
        || {
            // SAFETY: as above, httpd is loading the module.
            unsafe {
                gate::register();
                kept::register();
                connection::register();
            }
        },
    );
}
