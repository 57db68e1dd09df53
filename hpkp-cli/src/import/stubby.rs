//! stubby and getdns: `tls_pubkey_pinset` of the upstream resolvers, in YAML.
//!
//! A pin is compared with the leaf's key and with those of the CAs that were sent (RFC 7858
//! section 4.2), for one address and port. Records hold names, so an upstream without a
//! `tls_auth_name` is noted.

use hpkp_core::published::Client;

use super::{
    Certificates, ImportError, Imported, Matching, PinSet, Problem, Scope, distinct, host, text,
};

/// The port of DNS over TLS (RFC 7858 section 3.1).
const PORT: u16 = 853;

/// Reads a stubby.yml.
///
/// # Errors
/// See [`Problem`].
pub fn read(octets: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    let mut upstream = Upstream::default();
    for (line, content) in (1..).zip(text(octets)?.lines()) {
        let content = without_comment(content);
        let (begins, rest) = match content.trim_start().strip_prefix("- ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, content.trim_start()),
        };
        let Some((key, value)) = rest.split_once(':') else { continue };
        let value = value.trim().trim_matches(['"', '\'']);
        match key.trim() {
            "address_data" if begins => {
                upstream.finish(&mut imported)?;
                upstream = Upstream { line, ..Upstream::default() };
            }
            "tls_auth_name" => value.clone_into(&mut upstream.name),
            "tls_port" => {
                let port = value.parse().ok().filter(|port: &u16| *port != 0);
                upstream.port =
                    port.ok_or_else(|| Problem::unexpected(value, "a port").at(line))?;
            }
            "value" => {
                upstream.line = if upstream.line == 0 { line } else { upstream.line };
                upstream.pins.push(certificates.pin(value, line)?);
            }
            _ => {}
        }
    }
    upstream.finish(&mut imported)?;
    if imported.sets.is_empty() && imported.notes.is_empty() {
        return Err(Problem::Nothing { wanted: "an upstream with a tls_pubkey_pinset" }.at(1));
    }
    Ok(imported)
}

fn without_comment(line: &str) -> &str {
    match line.find(" #") {
        _ if line.trim_start().starts_with('#') => "",
        Some(at) => &line[..at],
        None => line,
    }
}

struct Upstream {
    line: usize,
    name: String,
    port: u16,
    pins: Vec<hpkp_core::pin::Pin>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self { line: 0, name: String::new(), port: PORT, pins: Vec::new() }
    }
}

impl Upstream {
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
                 names; record them with: hpkp published add HOST --port 853 --pin PIN",
            );
            return Ok(());
        };
        for scope in [Scope::Leaf, Scope::SentCa] {
            let set = PinSet {
                host: host.clone(),
                matching: Matching::Exact,
                include_subdomains: false,
                except: Vec::new(),
                scope,
                port: Some(self.port),
                pins: distinct(self.pins.iter().copied()),
                expires_at: None,
                origin: format!("stubby, line {}", self.line),
                client: Client::DnsOverTls,
                group: 0,
            };
            imported.push(self.line, set)?;
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
    fn upstreams() {
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
}
