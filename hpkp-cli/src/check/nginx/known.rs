//! Directives of nginx's own modules and of well-known other modules. Any other directive may change what
//! the check compares.

use std::collections::HashSet;
use std::sync::OnceLock;

use hpkp_core::text::Excerpt;

use super::super::problem::{self, Problems, Read, invalid};
use super::tree::Directive;

/// The names of the directives of nginx's own modules.
const NAMES: &str = include_str!("directives.txt");

/// The first letters of the directives of well-known modules. Those directives present no certificates
/// besides those of `ssl_certificate`; directives that choose certificates are checked elsewhere.
const PREFIXES: [&str; 22] = [
    "acme_",
    "array_",
    "auth_jwt",
    "brotli",
    "dav_ext",
    "echo",
    "encrypted_session_",
    "fancyindex",
    "geoip2",
    "headers_more",
    "image_filter",
    "js_",
    "lua_",
    "modsecurity",
    "more_",
    "otel_",
    "passenger",
    "perl",
    "set_",
    "upload_",
    "vhost_traffic_status",
    "zstd",
];

/// Blocks whose contents are no directives.
const LISTS: [&str; 8] =
    ["map", "geo", "types", "split_clients", "charset_map", "geoip2", "match", "acme_issuer"];

/// The module's directives that are allowed in a server.
pub(super) const IN_SERVER: [&str; 5] =
    ["hpkp", "hpkp_report_only", "hpkp_check", "hpkp_renewal_key", "hpkp_trusted_certificate"];

/// The module's directives that are allowed only in `http`, with the largest number of their arguments.
pub(super) const IN_HTTP: [(&str, usize); 4] = [
    ("hpkp_on_start", 1),
    ("hpkp_published_pins", 3),
    ("hpkp_public_port", 2),
    ("hpkp_not_served_here", usize::MAX),
];

/// The directive for the directory of last good certificates.
pub(super) const KEEP: &str = "hpkp_keep_certificates";

/// The directive that guards certificates which are chosen during the handshake.
pub(super) const GUARD: &str = "hpkp_guard";

/// The directive that defines a policy.
pub(super) const POLICY: &str = "hpkp_policy";

fn is_known(name: &str) -> bool {
    static KNOWN: OnceLock<HashSet<&str>> = OnceLock::new();
    KNOWN.get_or_init(|| NAMES.lines().collect()).contains(name)
        || name.contains("_by_lua")
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Checks a directive that configures no certificates, and the directives in its block.
pub(super) fn look(directive: &Directive, problems: &mut Problems) -> Read<()> {
    let name = directive.name();
    if name.starts_with("hpkp") {
        let is_ours = IN_SERVER.contains(&name)
            || IN_HTTP.iter().any(|(known, _)| *known == name)
            || [KEEP, GUARD, POLICY].contains(&name);
        let shown = Excerpt::new(name);
        let text = match is_ours {
            true => format!("\"{shown}\" directive is not allowed here"),
            false => format!("unknown directive \"{shown}\""),
        };
        return Err(invalid(&directive.at, text));
    }
    if !is_known(name) {
        problems.unknown(&directive.at, problem::directive(name));
        return Ok(());
    }
    problems.known();
    let is_list = LISTS.contains(&name);
    for inner in directive.block.iter().flatten().filter(|_| !is_list) {
        look(inner, problems)?;
    }
    Ok(())
}
