//! The directives that this command need not know.

use std::collections::HashSet;
use std::sync::OnceLock;

/// The names of the directives of httpd's own modules, in lower case.
const NAMES: &str = include_str!("directives.txt");

/// The beginnings of the names of well-known modules' directives, which say nothing of certificates.
const PREFIXES: [&str; 10] =
    ["auth", "cas", "dav", "modsec", "oidc", "passenger", "php", "qs_", "sec", "wsgi"];

/// Whether a directive or section is one of httpd's own modules, or of well-known others.
pub(super) fn is_known(name: &str) -> bool {
    static KNOWN: OnceLock<HashSet<&str>> = OnceLock::new();
    let name = name.to_ascii_lowercase();
    KNOWN.get_or_init(|| NAMES.lines().collect()).contains(name.as_str())
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
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
}
