//! The directives of nginx's own modules and of well-known others: any other directive may change what
//! the check compares.

use std::collections::HashSet;
use std::sync::OnceLock;

use hpkp_core::text::Excerpt;

use super::super::problem::{self, Problems, Read, invalid};
use super::tree::Directive;

/// The names of the directives of nginx's own modules.
const NAMES: &str = include_str!("directives.txt");

/// The beginnings of the names of well-known modules' directives, which present no certificates besides
/// those of `ssl_certificate`. What chooses certificates is looked at elsewhere.
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

/// Blocks whose lines are no directives.
const LISTS: [&str; 8] =
    ["map", "geo", "types", "split_clients", "charset_map", "geoip2", "match", "acme_issuer"];

fn is_known(name: &str) -> bool {
    static KNOWN: OnceLock<HashSet<&str>> = OnceLock::new();
    KNOWN.get_or_init(|| NAMES.lines().collect()).contains(name)
        || name.contains("_by_lua")
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Looks at a directive that says nothing of certificates, and at those in its block.
pub(super) fn look(directive: &Directive, problems: &mut Problems) -> Read<()> {
    let name = directive.name();
    if name.starts_with("hpkp") {
        let is_ours = matches!(
            name,
            "hpkp"
                | "hpkp_report_only"
                | "hpkp_check"
                | "hpkp_renewal_key"
                | "hpkp_trusted_certificate"
                | "hpkp_policy"
                | "hpkp_on_start"
                | "hpkp_published_pins"
                | "hpkp_public_port"
                | "hpkp_not_served_here"
                | "hpkp_keep_certificates"
                | "hpkp_guard"
        );
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
