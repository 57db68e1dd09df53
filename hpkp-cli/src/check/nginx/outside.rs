//! Reads the blocks `stream` and `mail`.

use std::collections::HashMap;

use hpkp_core::finding::Location;
use hpkp_server::nginx::{Address, Choosers, Outside, OutsideServer};

use super::super::problem::{Problems, Read, invalid};
use super::block::no_block;
use super::http::{Handle, listen, note_chooser};
use super::known;
use super::listen::Listen;
use super::names::Names;
use super::ssl::Ssl;
use super::tree::Directive;

/// A server in `stream` or `mail`.
struct Block {
    at: Location,
    names: Names,
    listens: Vec<Listen>,
    choosers: Choosers,
    ssl: Ssl,
}

/// Reads `stream` or `mail`.
pub(super) fn read(
    kind: &'static str,
    directives: &[Directive],
    directory: &str,
    problems: &mut Problems,
    outside: &mut Outside<Handle>,
) -> Read<()> {
    let (mut ssl, mut choosers) = (Ssl::default(), Choosers::default());
    let mut blocks = Vec::new();
    for directive in directives {
        if directive.name() == "server" {
            let block = directive.block.as_ref().ok_or_else(|| no_block(directive))?;
            blocks.push(server(directive, block, kind, directory, problems)?);
        } else {
            note_chooser(directive, &mut choosers)?;
            ssl.read(directive, directory)?;
            known::look(directive, problems)?;
        }
    }
    for block in &mut blocks {
        block.ssl = block.ssl.inherited(&ssl);
        block.choosers.inherit(&choosers);
    }
    if kind == "mail" { add_mail(&blocks, outside) } else { add_stream(&blocks, outside) }
}

fn server(
    directive: &Directive,
    directives: &[Directive],
    kind: &str,
    directory: &str,
    problems: &mut Problems,
) -> Read<Block> {
    let mut block = Block {
        at: directive.at.clone(),
        names: Names::default(),
        listens: Vec::new(),
        choosers: Choosers::default(),
        ssl: Ssl::default(),
    };
    for inner in directives {
        match inner.name() {
            // In `mail`, `server_name` is not a name by which clients choose the server, but the server's
            // name for itself.
            "server_name" if kind == "stream" => block.names.add(inner, problems)?,
            "listen" => {
                block.listens.extend(listen(inner, None, problems)?);
            }
            _ => {
                note_chooser(inner, &mut block.choosers)?;
                block.ssl.read(inner, directory)?;
                known::look(inner, problems)?;
            }
        }
    }
    Ok(block)
}

fn handle(block: &Block) -> Handle {
    Handle {
        certificates: block.ssl.certificates.clone().unwrap_or_default(),
        keys: block.ssl.keys.clone().unwrap_or_default(),
        names: block.names.hosts(),
    }
}

fn add_stream(blocks: &[Block], outside: &mut Outside<Handle>) -> Read<()> {
    let mut addresses: Vec<Address> = Vec::new();
    // The key is the address and whether it is UDP; the value is the position and whether a server is
    // marked as default.
    let mut known: HashMap<(String, bool), (usize, bool)> = HashMap::new();
    for block in blocks {
        let position = outside.servers.len();
        let (claims, patterns) = block.names.split();
        outside.servers.push(OutsideServer {
            handle: handle(block),
            kind: "stream",
            names: claims.into_iter().filter(|name| !name.is_empty()).collect(),
            patterns,
            own: block.ssl.own(&block.at)?,
            passes_on: block.ssl.passes_on(),
            choosers: block.choosers.clone(),
            at: block.at.clone(),
        });
        for listen in &block.listens {
            for (text, port) in &listen.addresses {
                let key = (text.clone(), listen.udp);
                let Some((index, is_explicit)) = known.get_mut(&key) else {
                    known.insert(key, (addresses.len(), listen.is_default));
                    addresses.push(Address {
                        text: text.clone(),
                        port: *port,
                        tls: listen.ssl,
                        quic: false,
                        servers: vec![position],
                        default: position,
                    });
                    continue;
                };
                let address = &mut addresses[*index];
                // Before nginx 1.25.5 an address could have only one server. Since then the server is
                // chosen by name.
                if address.servers.contains(&position)
                    || (block.names.is_empty() && !listen.is_default)
                    || (*is_explicit && listen.is_default)
                {
                    let text = format!("duplicate \"{text}\" address and port pair");
                    return Err(invalid(&block.at, text));
                }
                address.servers.push(position);
                address.tls |= listen.ssl;
                if listen.is_default {
                    (address.default, *is_explicit) = (position, true);
                }
            }
        }
    }
    for address in &addresses {
        let default = &outside.servers[address.default];
        if address.tls && default.own.is_none() {
            let text = "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive";
            return Err(invalid(&default.at, text.to_owned()));
        }
    }
    outside.addresses.extend(addresses);
    Ok(())
}

fn add_mail(blocks: &[Block], outside: &mut Outside<Handle>) -> Read<()> {
    for block in blocks {
        let own = block.ssl.own(&block.at)?;
        let needs = block.ssl.is_on_or_upgrades() || block.listens.iter().any(|listen| listen.ssl);
        if needs && own.is_none() {
            let text =
                "no \"ssl_certificate\" is defined for the \"ssl\" or \"starttls\" directive";
            return Err(invalid(&block.at, text.to_owned()));
        }
        for listen in &block.listens {
            for (text, port) in &listen.addresses {
                let position = outside.servers.len();
                outside.addresses.push(Address {
                    text: text.clone(),
                    port: *port,
                    tls: (listen.ssl || block.ssl.is_on_or_upgrades()) && own.is_some(),
                    quic: false,
                    servers: vec![position],
                    default: position,
                });
                outside.servers.push(OutsideServer {
                    handle: handle(block),
                    kind: "mail",
                    names: Vec::new(),
                    patterns: Vec::new(),
                    own,
                    passes_on: false,
                    choosers: Choosers::default(),
                    at: block.at.clone(),
                });
            }
        }
    }
    Ok(())
}
