//! Makes bindings for the headers of the httpd to which `apxs` belongs. `APXS` names another `apxs`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, error};

/// The functions that the module calls.
const FUNCTIONS: &str = "ap_(state_query|log_error_|check_cmd_context|walk_config|server_root_relative|\
    getword_conf|get_server_protocol|find_linked_module|read_pid|add_output_filter_handle|\
    register_output_filter|pass_brigade|get_server_description|\
    hook_(pre_config|check_config|post_config|create_request|process_connection|log_transaction))|\
    apr_(pstrmemdup|array_push|pool_cleanup_register|pool_cleanup_null|table_(get|setn|unset)|optional_hook_add|\
    is_empty_table|bucket_heap_create|sockaddr_equal|sockaddr_ip_getbuf|dso_sym)";
const VARIABLES: &str = "ap_(conftree|listeners|pid_fname|server_conf)|\
    AP_SQ_(MAIN_STATE|RUN_MODE|CONFIG_GEN|MS_CREATE_PRE_CONFIG|MS_EXITING|RM_CONFIG_TEST|RM_CONFIG_DUMP)|\
    AP_MODULE_FLAG_ALWAYS_MERGE|APLOG_(STARTUP|EMERG|ALERT|ERR|WARNING)|\
    APR_HOOK_(REALLY_FIRST|MIDDLE|REALLY_LAST)|MODULE_MAGIC_(COOKIE|NUMBER_MAJOR|NUMBER_MINOR)|\
    RSRC_CONF|GLOBAL_ONLY|NOT_IN_DIR_LOC_FILE|OK|DECLINED|HTTP_MISDIRECTED_REQUEST|\
    HTTP_INTERNAL_SERVER_ERROR|PROXYREQ_PROXY";
const TYPES: &str = "module|command_rec|cmd_parms|server_rec|server_addr_rec|request_rec|conn_rec|\
    ap_directive_t|ap_filter_t|ap_listen_rec|apr_dso_handle_t|apr_bucket|apr_bucket_type_t|\
    apr_read_type_e";

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-env-changed=APXS");
    println!("cargo::rerun-if-changed=build.rs");
    // The file must stay loaded, although httpd unloads it at each reload: about 20 kB that libraries keep in statics
    // would leak each time.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
    // The module must use its own symbols. httpd loads modules with global symbols, so after an upgrade the new build,
    // loaded at a reload, would otherwise use those of the old build.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-Bsymbolic");
    let apxs = env::var("APXS").unwrap_or_else(|_| "apxs".to_owned());
    let query = |name: &str| run(&apxs, &["-q", name]);
    let headers = query("INCLUDEDIR")?;
    if !Path::new(&headers).join("http_ssl.h").exists() {
        return Err(format!(
            "the headers in {headers} are not of Apache httpd 2.4.47 or later, which the module needs"
        )
        .into());
    }
    let mut arguments = vec![format!("-I{headers}")];
    for config in ["APR_CONFIG", "APU_CONFIG"] {
        // If apxs does not tell where a program is, it is on the path.
        let program = query(config).ok().filter(|program| !program.is_empty());
        let program = program.unwrap_or_else(|| match config {
            "APR_CONFIG" => "apr-1-config".to_owned(),
            _ => "apu-1-config".to_owned(),
        });
        let options: &[&str] =
            if config == "APR_CONFIG" { &["--includes", "--cppflags"] } else { &["--includes"] };
        arguments.extend(run(&program, options)?.split_whitespace().map(str::to_owned));
    }
    let bindings = bindgen::Builder::default()
        .header_contents(
            "wrapper.h",
            "#include <httpd.h>\n#include <http_config.h>\n#include <http_connection.h>\n\
             #include <http_core.h>\n#include <http_log.h>\n#include <http_main.h>\n\
             #include <http_protocol.h>\n#include <http_request.h>\n#include <http_ssl.h>\n\
             #include <util_filter.h>\n#include <ap_listen.h>\n#include <ap_mpm.h>\n\
             #include <mpm_common.h>\n#include <apr_dso.h>\n#include <apr_strings.h>\n#include <apr_optional_hooks.h>\n",
        )
        .clang_args(arguments)
        .allowlist_function(FUNCTIONS)
        .allowlist_var(VARIABLES)
        .allowlist_type(TYPES)
        .default_macro_constant_type(bindgen::MacroTypeVariation::Signed)
        .generate_comments(false)
        .derive_debug(false)
        .layout_tests(true)
        .generate()?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    bindings.write_to_file(out.join("bindings.rs"))?;
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<String, Box<dyn error::Error>> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}; Debian has it in apache2-dev"))?;
    if !output.status.success() {
        return Err(format!("{program} {arguments:?}: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
