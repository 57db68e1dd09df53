//! Host names as people write them.

use hpkp_core::published::HostName;
use hpkp_core::ua::host::Host;

/// The canonical name: in A-labels and lower case, without a last dot.
pub(crate) fn host(text: &str) -> Result<HostName, String> {
    match Host::parse(text) {
        Ok(Host::Name(name)) => Ok(name),
        Ok(Host::Address(_)) => Err("records contain host names, not IP addresses".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_canonical() {
        for (text, name) in [
            ("WWW.Example.COM.", "www.example.com"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(host(text).map(|host| host.to_string()).as_deref(), Ok(name));
        }
        for text in ["", "a..b", "*.example.com", "192.0.2.1", "::1", "a b"] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
