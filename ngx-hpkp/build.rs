//! Makes checked cfgs from what nginx-sys knows about nginx, and bindings for the servers of `stream` and `mail`, which
//! nginx-sys binds only if nginx is configured with them.

use std::path::{Path, PathBuf};
use std::{env, error, fs};

fn main() -> Result<(), Box<dyn error::Error>> {
    // The file must stay loaded: nginx's chain of filters may outlive the configuration that loaded it (src/filter.rs),
    // and memory that libraries keep in statics would leak at each reload.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
    // The module must use its own symbols. nginx loads modules with global symbols, so after an upgrade the new build,
    // loaded at a reload, would otherwise use those of the old build.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-Bsymbolic");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_VERSION_NUMBER");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_FEATURES");

    let version: u64 = env::var("DEP_NGINX_VERSION_NUMBER")
        .ok()
        .and_then(|version| version.parse().ok())
        .unwrap_or_default();
    let features = env::var("DEP_NGINX_FEATURES").unwrap_or_default();
    let headers = Headers::find()?;

    let has = |name: &str| features.split(',').any(|feature| feature == name);

    // (cfg, whether it holds, what it means)
    let cfgs = [
        // ngx_table_elt_t has a link to the next field of the same name.
        ("ngx_table_elt_next", version >= 1_023_000),
        // nginx passes on a backend's interim responses 103, through a filter chain of their own.
        ("ngx_early_hints", version >= 1_029_000),
        // A name of a server may be a regular expression.
        ("ngx_pcre", has("pcre")),
        // The directive `ssl on` makes a server speak TLS on every address.
        ("ngx_ssl_on", version < 1_025_001),
        // An address may be for QUIC alone.
        ("ngx_quic", has("http_v3")),
        // An address of `stream` may have several servers, which have names.
        ("ngx_stream_names", headers.has("stream/ngx_stream.h", "server_names;")?),
        // A server of `stream` may refuse all handshakes.
        ("ngx_stream_reject", headers.has("stream/ngx_stream_ssl_module.h", "reject_handshake;")?),
        // The directive `ssl on` makes a server of `mail` speak TLS.
        ("ngx_mail_ssl_on", headers.has("mail/ngx_mail_ssl_module.h", " enable;")?),
    ];
    for (name, holds) in cfgs {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if holds {
            println!("cargo::rustc-cfg={name}");
        }
    }
    headers.bind()
}

/// The types that the module reads.
const STREAM: &str = "ngx_stream_(conf_ctx|core_main_conf|core_srv_conf|conf_port|conf_addr|listen|\
    server_name|module)_t|hpkp_stream_ssl_conf_t";
const MAIL: &str = "ngx_mail_(conf_ctx|core_main_conf|core_srv_conf|listen|ssl_conf)_t";
/// The types in their fields that the module never reads.
const OPAQUE: &str = "ngx_(log|resolver|shm_zone|hash|hash_wildcard|hash_keys_arrays|ssl_cache|\
    connection|pool|regex|mail_protocol|stream_(session|phase|phase_engine))_[st]|sockaddr";

/// The headers of the nginx for which the module is built.
struct Headers {
    /// The directory with the headers of `core`, `stream` and `mail`.
    source: PathBuf,
    includes: Vec<PathBuf>,
}

impl Headers {
    fn find() -> Result<Self, Box<dyn error::Error>> {
        let includes = env::var_os("DEP_NGINX_INCLUDE").ok_or("nginx-sys names no headers")?;
        let includes: Vec<PathBuf> = env::split_paths(&includes).collect();
        let core = includes.iter().find(|path| path.ends_with("src/core"));
        let source = core.and_then(|core| core.parent()).ok_or("nginx-sys names no src/core")?;
        Ok(Self { source: source.to_owned(), includes })
    }

    /// Whether a header contains a text. This detects features more reliably than version numbers.
    fn has(&self, header: &str, text: &str) -> Result<bool, Box<dyn error::Error>> {
        let path = self.source.join(header);
        println!("cargo::rerun-if-changed={}", path.display());
        let header =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(header.contains(text))
    }

    /// Makes the structures of `stream` and `mail`, even if this nginx is not configured with them: their modules may
    /// be loaded later. No symbol of these modules is linked.
    fn bind(&self) -> Result<(), Box<dyn error::Error>> {
        let ssl_conf =
            match self.has("stream/ngx_stream_ssl_module.h", "ngx_stream_ssl_srv_conf_t")? {
                true => "ngx_stream_ssl_srv_conf_t",
                false => "ngx_stream_ssl_conf_t",
            };
        let own = ["stream", "mail"].map(|name| self.source.join(name));
        let include = |path: &Path| format!("-I{}", path.display());
        let flags = env::var("DEP_NGINX_CFLAGS").unwrap_or_default();
        let bindings = bindgen::Builder::default()
            .header_contents(
                "wrapper.h",
                &format!(
                    "#include <ngx_config.h>\n#include <ngx_core.h>\n#include <ngx_event.h>\n\
                     #include <ngx_stream.h>\n#include <ngx_stream_ssl_module.h>\n\
                     #include <ngx_mail.h>\n#include <ngx_mail_ssl_module.h>\n\
                     typedef {ssl_conf} hpkp_stream_ssl_conf_t;\n"
                ),
            )
            .clang_args(flags.split_whitespace().filter(|flag| flag.starts_with("-D")))
            .clang_args(self.includes.iter().chain(&own).map(|path| include(path)))
            .allowlist_type(STREAM)
            .allowlist_type(MAIL)
            .allowlist_type(OPAQUE)
            .allowlist_var("NGX_(STREAM|MAIL)_MODULE|NGX_MAIL_STARTTLS_OFF")
            .blocklist_type("ngx_(array|str|uint|int|flag)_t|ngx_conf_[st]|u_char")
            .opaque_type(OPAQUE)
            .raw_line("use nginx_sys::{ngx_array_t, ngx_conf_t, ngx_flag_t, ngx_int_t, ngx_str_t, ngx_uint_t, u_char};")
            .generate_comments(false)
            .derive_debug(false)
            .derive_copy(false)
            .layout_tests(true)
            .generate()?;
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
        bindings.write_to_file(out.join("outside.rs"))?;
        Ok(())
    }
}
