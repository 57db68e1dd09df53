//! Reads the pins of stubby and getdns: `tls_pubkey_pinset` of the upstream resolvers, in YAML.
//!
//! A pin is compared with the keys of the leaf and of the sent CAs (RFC 7858 section 4.2), for one address
//! and port. Records contain names, so an upstream without a `tls_auth_name` is only noted.

use hpkp_core::published::Client;

use super::{Certificates, ImportError, Imported, PinSet, Problem, Scope, distinct, host, text};

/// The port of DNS over TLS (RFC 7858 section 3.1).
const PORT: u16 = 853;

/// Reads a stubby.yml.
///
/// # Errors
/// See [`Problem`].
pub fn read(bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    let mut upstream = Upstream::default();
    // The indentation of the upstreams' hyphens, once an upstream has begun.
    let mut margin = None;
    for (line, content) in (1..).zip(text(bytes)?.lines()) {
        let content = without_comment(content);
        let mut rest = content.trim_start();
        let indent = content.len() - rest.len();
        // A line with less indentation belongs to another section.
        if margin.is_some_and(|margin| indent < margin) && !rest.is_empty() {
            upstream.finish(&mut imported)?;
            (upstream, margin) = (Upstream::default(), None);
        }
        if rest == "-" || rest.starts_with("- ") {
            if margin.is_none_or(|margin| indent <= margin) {
                upstream.finish(&mut imported)?;
                upstream = Upstream { line, ..Upstream::default() };
                margin = Some(indent);
            }
            rest = rest[1..].trim_start();
        }
        // A flow mapping has several pairs: [ { digest: "sha256", value: PIN } ].
        let flow = rest.contains('{');
        let pairs: Vec<&str> = match flow {
            true => rest.split(['{', '}', '[', ']', ',']).collect(),
            false => vec![rest],
        };
        for (key, value) in pairs.iter().filter_map(|pair| pair.split_once(':')) {
            upstream.pair(key.trim(), value, line, certificates)?;
        }
    }
    upstream.finish(&mut imported)?;
    imported.or_nothing("an upstream with a tls_pubkey_pinset")
}

fn without_comment(line: &str) -> &str {
    match line.find(" #") {
        _ if line.trim_start().starts_with('#') => "",
        Some(at) => &line[..at],
        None => line,
    }
}

#[derive(Default)]
struct Upstream {
    line: usize,
    has_address: bool,
    name: String,
    port: Option<u16>,
    pins: Vec<hpkp_core::pin::Pin>,
}

impl Upstream {
    fn pair(
        &mut self,
        key: &str,
        value: &str,
        line: usize,
        certificates: &Certificates,
    ) -> Result<(), ImportError> {
        let value = value.trim().trim_matches(['"', '\'']);
        match key.trim_matches(['"', '\'']) {
            key @ ("address_data" | "tls_auth_name" | "tls_port") if self.has(key) => {
                return Err(Problem::twice(key).at(line));
            }
            // getdns takes more after the address: ports (@, ~), a scope (%), a name (#).
            "address_data" if value.contains(['@', '~', '#', '^']) => {
                let wanted =
                    "an address alone, with tls_port and tls_auth_name as options of their own";
                return Err(Problem::unexpected(value, wanted).at(line));
            }
            "address_data" => self.has_address = true,
            _ if value.starts_with('*') => {
                let why = "it is an alias of YAML; write the pins in its place";
                return Err(Problem::unsupported(value, why).at(line));
            }
            "tls_auth_name" => value.clone_into(&mut self.name),
            "tls_port" => {
                let port = value.parse().ok().filter(|port: &u16| *port != 0);
                self.port =
                    Some(port.ok_or_else(|| Problem::unexpected(value, "a port").at(line))?);
            }
            "value" => {
                self.line = if self.line == 0 { line } else { self.line };
                self.pins.push(certificates.pin(value, line)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn has(&self, key: &str) -> bool {
        match key {
            "address_data" => self.has_address,
            "tls_auth_name" => !self.name.is_empty(),
            _ => self.port.is_some(),
        }
    }

    fn finish(&self, imported: &mut Imported) -> Result<(), ImportError> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let named = match self.name.is_empty() {
            true => None,
            false => host(&self.name, self.line)?,
        };
        let Some(host) = named else {
            imported.note(
                self.line,
                "the pins of an upstream without a tls_auth_name are NOT recorded, since records hold \
                 names; record them with: hpkp published add HOST --port 853 --pin PIN --origin TEXT",
            );
            return Ok(());
        };
        // Each upstream is a separate configuration, because its pins apply to its address alone.
        let group = imported.sets.len();
        for scope in [Scope::Leaf, Scope::SentCa] {
            let pins = distinct(self.pins.iter().copied());
            let origin = format!("stubby, line {}", self.line);
            let set = PinSet::of_one(host.clone(), pins, origin, (Client::DnsOverTls, group));
            let port = Some(self.port.unwrap_or(PORT));
            imported.push(self.line, PinSet { scope, port, ..set })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::read_with;
    use crate::import::samples::{A, B, a, b, set, sets};

    #[test]
    fn pins_of_upstreams_are_read() {
        let text = format!(
            "upstream_recursive_servers:\n  - address_data: 192.0.2.1\n    tls_auth_name: \
             \"dns.example.net\"\n    tls_pubkey_pinset:\n      - digest: \"sha256\"\n        value: \
             {A}\n      - digest: \"sha256\"\n        value: {B}\n# a comment\n  - address_data: \
             192.0.2.2\n    tls_port: 443\n    tls_pubkey_pinset:\n      - digest: \"sha256\"\n        \
             value: {B}\n"
        );
        let read = read_with(read, text.as_bytes(), &Certificates::default()).unwrap();
        let of = |scope| PinSet { scope, port: Some(853), ..set("dns.example.net", &[a(), b()]) };
        assert_eq!(sets(&read), [of(Scope::Leaf), of(Scope::SentCa)]);
        assert_eq!(read.notes[0].line, 10);
    }

    #[test]
    fn each_upstream_has_its_own_pins_in_any_order_of_keys() {
        let item = |head: &str, name: &str, pin: &str| {
            format!(
                "{head}tls_auth_name: {name}\n    address_data: 192.0.2.1\n    \
                tls_pubkey_pinset:\n      - digest: sha256\n        value: {pin}\n"
            )
        };
        let flow = |name: &str, pin: &str| {
            format!(
                "  - address_data: 192.0.2.1\n    tls_auth_name: {name}\n    \
                tls_pubkey_pinset: [ {{ digest: sha256, value: \"{pin}\" }} ]\n"
            )
        };
        for text in [
            item("  - ", "a.example", A) + &item("  - ", "b.example", B),
            item("  -\n    ", "a.example", A) + &item("  -\n    ", "b.example", B),
            flow("a.example", A) + &flow("b.example", B),
        ] {
            let text = format!("upstream_recursive_servers:\n{text}");
            let read = read_with(read, text.as_bytes(), &Certificates::default()).unwrap();
            let of = |host, pin, scope| PinSet { scope, port: Some(853), ..set(host, &[pin]) };
            let wanted = [
                of("a.example", a(), Scope::Leaf),
                of("a.example", a(), Scope::SentCa),
                of("b.example", b(), Scope::Leaf),
                of("b.example", b(), Scope::SentCa),
            ];
            assert_eq!(sets(&read), wanted, "{text}");
        }
    }
}
