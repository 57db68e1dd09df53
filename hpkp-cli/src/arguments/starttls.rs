//! Protocols that begin in plain text and switch to TLS, on the command line.

use clap::ValueEnum;

/// A protocol that switches to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Starttls {
    /// Mail transfer and submission (RFC 3207).
    Smtp,
    /// Mailboxes (RFC 2595).
    Imap,
    /// Mailboxes (RFC 2595).
    Pop3,
    /// Chat clients (RFC 6120).
    Xmpp,
    /// Chat servers (RFC 6120).
    XmppServer,
}

impl Starttls {
    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Xmpp => "xmpp",
            Self::XmppServer => "xmpp-server",
        }
    }

    /// The default port.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Smtp => 25,
            Self::Imap => 143,
            Self::Pop3 => 110,
            Self::Xmpp => 5222,
            Self::XmppServer => 5269,
        }
    }

    /// The protocol that servers usually speak on a port before TLS; `None` if TLS begins at once.
    pub(crate) fn of_port(port: u16) -> Option<Self> {
        const SUBMISSION: u16 = 587;
        match port {
            SUBMISSION => Some(Self::Smtp),
            port => Self::value_variants().iter().copied().find(|one| one.port() == port),
        }
    }
}

/// The protocol on a port before TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortProtocol {
    port: u16,
    /// `None` if TLS begins at once.
    starttls: Option<Starttls>,
}

impl PortProtocol {
    /// The protocol on `port`: the named one, or else the usual one.
    pub(crate) fn of(named: &[Self], port: u16) -> Option<Starttls> {
        let named = named.iter().rev().find(|one| one.port == port);
        named.map_or_else(|| Starttls::of_port(port), |one| one.starttls)
    }
}

/// Parses `PORT=PROTOCOL`; the protocol `none` means that TLS begins at once.
pub(super) fn port_protocol(text: &str) -> Result<PortProtocol, String> {
    let wrong = || {
        let all = Starttls::value_variants().iter().map(|one| one.name());
        let all = all.collect::<Vec<_>>().join(", ");
        format!("expected PORT=PROTOCOL, such as 8025=smtp; protocols are {all}, none")
    };
    let (port, protocol) = text.split_once('=').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let starttls = match protocol {
        "none" => None,
        name => Some(Starttls::from_str(name, false).map_err(|_| wrong())?),
    };
    Ok(PortProtocol { port, starttls })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_named_protocol_overrides_the_usual_one() {
        let named = ["8025=smtp", "143=none", "5222=xmpp-server"].map(port_protocol);
        let named = named.map(Result::unwrap);
        for (port, expected) in [
            (8025, Some(Starttls::Smtp)),
            (143, None),
            (5222, Some(Starttls::XmppServer)),
            (25, Some(Starttls::Smtp)),
            (587, Some(Starttls::Smtp)),
            (110, Some(Starttls::Pop3)),
            (443, None),
        ] {
            assert_eq!(PortProtocol::of(&named, port), expected, "{port}");
        }
        for text in ["", "25", "25=", "=smtp", "0=smtp", "x=smtp", "25=SMTP", "65536=smtp"] {
            assert!(port_protocol(text).is_err(), "{text}");
        }
    }
}
