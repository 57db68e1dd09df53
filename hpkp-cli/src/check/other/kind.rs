//! The servers whose configurations are read.

/// Which server.
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
