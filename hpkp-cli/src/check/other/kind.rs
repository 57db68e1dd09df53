//! The kinds of servers whose configurations `hpkp check` reads besides nginx and httpd.

/// The kind of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HAProxy.
    Haproxy,
    /// Postfix, its `main.cf`.
    Postfix,
    /// Dovecot.
    Dovecot,
    /// Caddy, its `Caddyfile`.
    Caddy,
    /// stunnel.
    Stunnel,
}

impl Kind {
    /// The name in lower case.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Postfix => "postfix",
            Self::Dovecot => "dovecot",
            Self::Caddy => "caddy",
            Self::Stunnel => "stunnel",
        }
    }
}
