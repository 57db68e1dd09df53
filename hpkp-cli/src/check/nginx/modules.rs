//! Checks the modules that a configuration loads. nginx's own module inspects the process; this command
//! searches the modules' files instead.

use std::path::{Path, PathBuf};

use hpkp_core::text::Excerpt;

use super::super::files::full_path;
use super::super::problem::{Problems, Read};
use super::tree::Directive;
use crate::input;

/// The largest module file that is searched, in bytes.
const MAX_MODULE: usize = 128 << 20;

/// The directory from which Debian's nginx and most others resolve relative names of modules.
const PREFIX: &str = "/usr/share/nginx";

/// The OpenSSL functions that register a callback which chooses the certificate during the handshake, as
/// symbols in a module's file.
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

/// Modules that can choose certificates although no directive shows it.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    pub(super) http: Vec<PathBuf>,
    pub(super) stream: Vec<PathBuf>,
}

impl Unseen {
    /// Checks a `load_module` directive.
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
        // If the module has a directive for the choice, the configuration shows where certificates are
        // chosen.
        let has_directive = has(b"ssl_certificate_by_") || has(b"ssl_client_hello_by_");
        if !has_directive && CALLBACKS.iter().any(|callback| has(callback)) {
            // Only the functions that the file calls show whether the module belongs to `http` or to
            // `stream`.
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
