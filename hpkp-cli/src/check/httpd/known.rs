//! Directives that have no effect on the check, so that the command can ignore them.

use std::collections::HashMap;
use std::sync::OnceLock;

/// The directives of httpd's own modules. Each line has a name in lower case (that of a section begins with
/// `<`) and the modules that define it.
const NAMES: &str = include_str!("directives.txt");

/// The first letters of the directives of well-known modules, none of which configures certificates.
const PREFIXES: [&str; 10] =
    ["auth", "cas", "dav", "modsec", "oidc", "passenger", "php", "qs_", "sec", "wsgi"];

/// Whether a directive or section belongs to httpd's own modules or to a well-known other one.
pub(super) fn is_known(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    modules_with(&name).is_some()
        || modules_with(&format!("<{name}")).is_some()
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The modules that define a directive, or a section whose name begins with `<`. `None` if none of httpd's
/// own modules does.
pub(super) fn modules_with(name: &str) -> Option<impl Iterator<Item = &'static str>> {
    modules().get(name.to_ascii_lowercase().as_str()).map(|modules| modules.split(' '))
}

fn modules() -> &'static HashMap<&'static str, &'static str> {
    static KNOWN: OnceLock<HashMap<&str, &str>> = OnceLock::new();
    KNOWN.get_or_init(|| NAMES.lines().filter_map(|line| line.split_once(' ')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for name in ["SSLEngine", "sslcertificatefile", "VirtualHost", "RewriteRule", "Directory"] {
            assert!(is_known(name), "{name}");
        }
        assert!(!is_known("SSLEngien"));
    }

    #[test]
    fn every_line_names_a_module() {
        assert_eq!(modules().len(), NAMES.lines().count());
    }
}
