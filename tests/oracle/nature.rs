//! Behaviour of nginx and httpd: which block answers a client, and which certificate the client gets.

use crate::world::{Block, Config, Kind, STREAM, Sent};

/// Why a block answers for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// It has the name.
    Name,
    /// It has a pattern that fits.
    Pattern,
    /// No block has the name, and the default block has another name.
    NamedDefault,
    /// No block has the name, and the default block has no name.
    NamelessDefault,
    /// Servers on this port have no names: it is not a web server.
    PortAlone,
}

/// The position of the block that answers clients of `host` on `port`.
pub fn route(config: &Config, host: &str, port: u16) -> Option<(usize, By)> {
    let here = || config.blocks.iter().enumerate().filter(|(_, block)| block.ports.contains(&port));
    let (first, _) = here().next()?;
    if port == STREAM {
        return Some((first, By::PortAlone));
    }
    let named = match config.kind {
        Kind::Nginx => nginx(here(), host),
        Kind::Httpd => httpd(here(), host),
    };
    if named.is_some() {
        return named;
    }
    let default = here().find(|(_, block)| block.is_default).map_or(first, |(at, _)| at);
    let default = if config.kind == Kind::Httpd { first } else { default };
    let by = match config.blocks[default].names.is_empty() {
        true => By::NamelessDefault,
        false => By::NamedDefault,
    };
    Some((default, by))
}

/// nginx's choice: the exact name, otherwise the longest wildcard at the start.
fn nginx<'a>(blocks: impl Iterator<Item = (usize, &'a Block)>, host: &str) -> Option<(usize, By)> {
    let mut longest: Option<(usize, usize)> = None;
    for (at, block) in blocks {
        for name in &block.names {
            if *name == host {
                return Some((at, By::Name));
            }
            let Some(domain) = name.strip_prefix('*') else { continue };
            if host.ends_with(domain) && longest.is_none_or(|(_, length)| domain.len() > length) {
                longest = Some((at, domain.len()));
            }
        }
    }
    longest.map(|(at, _)| (at, By::Pattern))
}

/// httpd's choice: the first block with a matching name. Within a block, an exact name counts before a pattern, in any
/// order.
fn httpd<'a>(blocks: impl Iterator<Item = (usize, &'a Block)>, host: &str) -> Option<(usize, By)> {
    let fits = |name: &&str| name.strip_prefix('*').is_some_and(|domain| host.ends_with(domain));
    for (at, block) in blocks {
        if block.names.contains(&host) {
            return Some((at, By::Name));
        }
        if block.names.iter().any(fits) {
            return Some((at, By::Pattern));
        }
    }
    None
}

/// Whether clients accept a certificate for `host`: its wildcards span one label.
pub fn is_for(sent: &Sent, host: &str) -> bool {
    let above = host.split_once('.').map(|(_, above)| above);
    sent.leaf.names.iter().any(|name| {
        *name == host || name.strip_prefix("*.").is_some_and(|domain| above == Some(domain))
    })
}

/// How many kinds of keys a client may prefer, if a server has both.
pub const PREFERENCES: usize = 2;

/// The certificate that a client with this preference gets.
pub fn chosen(block: &Block, preference: usize) -> &Sent {
    &block.slots[preference.min(block.slots.len() - 1)]
}
