//! The arguments of `hpkp analyze`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::seconds::seconds;
use super::starttls::Starttls;

/// Look at the pins, certificates and headers of a server from outside.
///
/// Asks every address of the host, follows redirects, and shows the certificate chain, what each
/// pin is, what clients make of the headers, what the next renewal does, and findings with the
/// codes of the server modules. It sees what clients see, also behind a CDN. It changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hpkp analyze www.example.com
  hpkp analyze https://www.example.com:8443/login
  hpkp analyze --connect 192.0.2.7:443 www.example.com       before DNS points there
  hpkp analyze --starttls smtp --resolver 127.0.0.1 mx.example.com
  hpkp analyze --test-report www.example.com                 do reports arrive?
  hpkp analyze --json - < hosts.txt")]
pub(crate) struct AnalyzeArguments {
    /// Server, URL or - for a list on standard input, one for each line.
    ///
    /// The default port is 443, or that of --starttls. In a list, empty lines and lines that begin
    /// with # are skipped.
    #[arg(required = true, value_name = "HOST[:PORT]|URL|-")]
    pub(crate) targets: Vec<String>,

    /// Connect to this address instead of those of the host.
    ///
    /// Without a port, the port of the target is used.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = connect)]
    pub(crate) connect: Option<Connect>,

    /// Server name to send (SNI) and to expect in the certificate, instead of HOST.
    #[arg(long, value_name = "NAME")]
    pub(crate) servername: Option<String>,

    /// Begin with the plain text of this protocol and switch to TLS.
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) starttls: Option<Starttls>,

    /// Send no HTTP request: look at the certificates only.
    #[arg(long, conflicts_with = "starttls")]
    pub(crate) no_http: bool,

    /// Send a report that is marked as a test to each report URI, to see that reports arrive.
    ///
    /// The report says "test-report": true and has no certificates. Exit code 1 if a collector refuses it or
    /// no header has a report URI, 3 if it cannot be reached.
    #[arg(long, conflicts_with_all = ["no_http", "starttls"])]
    pub(crate) test_report: bool,

    /// File of trust anchors (PEM), in addition to those of the system.
    #[arg(long, value_name = "FILE", visible_alias = "trusted-certificate")]
    pub(crate) ca_file: Option<String>,

    /// DNS resolver to ask for addresses and TLSA records; the default port is 53.
    ///
    /// Without it, the system resolves the name and no TLSA records are read.
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = resolver)]
    pub(crate) resolver: Option<SocketAddr>,

    /// Table of CA keys to use besides the built-in one (see hpkp ca).
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_table: Option<std::path::PathBuf>,

    /// Port on which plain HTTP is asked for the header. By default 80, if the target's port is 443.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) http_port: Option<u16>,

    /// Requests to each address, each on a connection of its own.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u8).range(1..=20))]
    pub(crate) requests: u8,

    /// Redirects to follow; 0 follows none.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u8).range(0..=50))]
    pub(crate) max_redirects: u8,

    /// Targets to look at in parallel.
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u8).range(1..=128))]
    pub(crate) parallel: u8,

    /// Time limit for each connection and each DNS query, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Print one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) address: std::net::IpAddr,
    pub(crate) port: Option<u16>,
}

fn connect(text: &str) -> Result<Connect, String> {
    let wrong = || {
        "expected an IP address, with a port or without: 192.0.2.7:443, [2001:db8::7]:443"
            .to_owned()
    };
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok(Connect { address, port: None });
    }
    let socket: SocketAddr = text.parse().map_err(|_| wrong())?;
    if socket.port() == 0 {
        return Err(wrong());
    }
    Ok(Connect { address: socket.ip(), port: Some(socket.port()) })
}

fn resolver(text: &str) -> Result<SocketAddr, String> {
    connect(text).map(|to| SocketAddr::new(to.address, to.port.unwrap_or(53)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_has_the_default_port_53() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(resolver(text).map(|to| to.to_string()), Ok(expected.to_owned()));
        }
        for text in ["", "localhost", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "[127.0.0.1"]
        {
            assert!(resolver(text).is_err(), "{text}");
        }
    }
}
