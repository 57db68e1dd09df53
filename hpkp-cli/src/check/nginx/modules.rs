//! The modules that a configuration loads: what nginx's own module sees in the process is looked for in
//! their files.

use std::path::{Path, PathBuf};

use hpkp_core::text::Excerpt;

use super::super::files::full_path;
use super::super::problem::{Problems, Read};
use super::tree::Directive;
use crate::input;

/// The largest file of a module that is looked into, in bytes.
const MAX_MODULE: usize = 128 << 20;

/// Where relative names start in Debian's nginx and in most others.
const PREFIX: &str = "/usr/share/nginx";

/// The functions by which a module is asked for the certificate during the handshake, as a file that calls
/// them names them.
const CALLBACKS: [&[u8]; 2] = [b"\0SSL_CTX_set_cert_cb\0", b"\0SSL_set_cert_cb\0"];

/// The files of nginx's own modules and of well-known others.
const KNOWN: [&str; 24] = [
    "hpkp",
    "auth_pam",
    "brotli_filter",
    "brotli_static",
    "cache_purge",
    "dav_ext",
    "echo",
    "fancyindex",
    "geoip",
    "geoip2",
    "headers_more_filter",
    "image_filter",
    "js",
    "lua",
    "mail",
    "ndk_http",
    "perl",
    "stream",
    "stream_geoip",
    "stream_geoip2",
    "subs_filter",
    "uploadprogress",
    "upstream_fair",
    "xslt_filter",
];

/// Modules that can choose certificates in a way that no directive shows.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    pub(super) http: Vec<PathBuf>,
    pub(super) stream: Vec<PathBuf>,
}

impl Unseen {
    /// Looks at `load_module`.
    pub(super) fn look(
        &mut self,
        directive: &Directive,
        prefix: Option<&str>,
        problems: &mut Problems,
    ) -> Read<()> {
        let file = directive.argument()?;
        let name = file.rsplit('/').next().unwrap_or(file);
        let module = name.strip_suffix(".so").unwrap_or(name);
        let module = module.strip_suffix("_module").unwrap_or(module);
        let module = module.strip_prefix("ngx_").unwrap_or(module);
        let module = module.strip_prefix("http_").unwrap_or(module);
        if KNOWN.contains(&module) || module.starts_with("stream_") {
            return Ok(());
        }
        problems.unknown(&directive.at, format!("the module \"{}\"", Excerpt::new(file)));
        let path = full_path(prefix.unwrap_or(PREFIX), file);
        let Ok(bytes) = input::found(Path::new(&path), MAX_MODULE) else { return Ok(()) };
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        // A module with a directive for it shows where it does so.
        let has_directive = has(b"ssl_certificate_by_") || has(b"ssl_client_hello_by_");
        if !has_directive && CALLBACKS.iter().any(|callback| has(callback)) {
            // Which kind of module it is, its file shows only by what it calls.
            let (http, stream) = (has(b"ngx_http_"), has(b"ngx_stream_"));
            if http || !stream {
                self.http.push(path.clone().into());
            }
            if stream || !http {
                self.stream.push(path.into());
            }
        }
        Ok(())
    }
}
