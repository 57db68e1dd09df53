//! Reads the block `http` and its servers.

use hpkp_core::finding::{Location, Text};
use hpkp_core::text::Excerpt;
use hpkp_server::nginx::{Address, Chooser, Choosers, Effect, Server, Servers, effect};
use hpkp_server::nginx::{define, set_global, set_guard, set_in_policy, set_in_server, set_keep};
use hpkp_server::setting::{GlobalSettings, ServerSettings};

use super::super::files::full_path;
use super::super::problem::{Problems, Read, invalid, is_utf8, of_directive};
use super::block::{no_block, without_block};
use super::known::{self, GUARD, IN_HTTP, IN_SERVER, KEEP, POLICY};
use super::listen::{Listen, ListenError};
use super::names::Names;
use super::ssl::Ssl;
use super::tree::Directive;

/// The files that a server loads.
#[derive(Clone, Debug, Default)]
pub(super) struct Handle {
    pub(super) certificates: Vec<String>,
    pub(super) keys: Vec<String>,
    pub(super) names: Vec<String>,
}

/// The contents of the block `http`.
#[derive(Debug, Default)]
pub(super) struct Http {
    pub(super) global: GlobalSettings,
    pub(super) settings: ServerSettings,
    choosers: Choosers,
    ssl: Ssl,
    blocks: Vec<Block>,
}

/// A server block.
#[derive(Debug)]
struct Block {
    at: Location,
    names: Names,
    listens: Vec<Listen>,
    settings: ServerSettings,
    choosers: Choosers,
    ssl: Ssl,
}

fn keep(
    global: Option<&mut GlobalSettings>,
    settings: &mut ServerSettings,
    directive: &Directive,
    directory: &str,
) -> Read<()> {
    without_block(directive)?;
    directive.argument()?;
    is_utf8(&directive.at, directive.words.iter())?;
    let path = |path: &str| full_path(directory, path);
    set_keep(global, settings, &directive.words, directive.at.clone(), path)
        .map_err(|error| of_directive(&directive.at, &error))
}

impl Http {
    /// Reads the block.
    pub(super) fn read(
        &mut self,
        directives: &[Directive],
        directory: &str,
        problems: &mut Problems,
    ) -> Read<()> {
        for directive in directives {
            let name = directive.name();
            if name == POLICY {
                self.policy(directive, directory)?;
            } else if let Some((_, most)) = IN_HTTP.iter().find(|(known, _)| *known == name) {
                without_block(directive)?;
                is_utf8(&directive.at, directive.words.iter())?;
                let count = directive.arguments().len();
                if count == 0 || count > *most {
                    directive.argument()?;
                }
                let path = |path: &str| full_path(directory, path);
                set_global(&mut self.global, &directive.words, directive.at.clone(), path)
                    .map_err(|error| of_directive(&directive.at, &error))?;
            } else if name == KEEP {
                keep(Some(&mut self.global), &mut self.settings, directive, directory)?;
            } else if name == "listen" || name == "server_name" {
                let text = format!("\"{name}\" directive is not allowed here");
                return Err(invalid(&directive.at, text));
            } else if name == "server" {
                let block = directive.block.as_ref().ok_or_else(|| no_block(directive))?;
                self.server(directive, block, directory, problems)?;
            } else {
                let (settings, choosers) = (&mut self.settings, &mut self.choosers);
                common(directive, directory, settings, choosers, &mut self.ssl, problems)?;
            }
        }
        Ok(())
    }

    fn policy(&mut self, directive: &Directive, directory: &str) -> Read<()> {
        let block = directive.block.as_ref().ok_or_else(|| no_block(directive))?;
        directive.argument()?;
        is_utf8(&directive.at, directive.words.iter())?;
        define(&mut self.global, &directive.words, directive.at.clone())
            .map_err(|error| of_directive(&directive.at, &error))?;
        let Some(policy) = self.global.policies.last_mut() else { return Ok(()) };
        for inner in block {
            without_block(inner)?;
            is_utf8(&inner.at, inner.words.iter())?;
            let path = |path: &str| full_path(directory, path);
            set_in_policy(policy, &inner.words, inner.at.clone(), path)
                .map_err(|error| of_directive(&inner.at, &error))?;
        }
        Ok(())
    }

    fn server(
        &mut self,
        directive: &Directive,
        directives: &[Directive],
        directory: &str,
        problems: &mut Problems,
    ) -> Read<()> {
        if !directive.arguments().is_empty() {
            directive.argument()?;
        }
        let mut block = Block {
            at: directive.at.clone(),
            names: Names::default(),
            listens: Vec::new(),
            settings: ServerSettings::default(),
            choosers: Choosers::default(),
            ssl: Ssl::default(),
        };
        for inner in directives {
            match inner.name() {
                "server_name" => block.names.add(inner, problems)?,
                "listen" => {
                    block.listens.extend(listen(inner, Some(80), problems)?);
                }
                KEEP => keep(None, &mut block.settings, inner, directory)?,
                _ => {
                    let (settings, choosers) = (&mut block.settings, &mut block.choosers);
                    common(inner, directory, settings, choosers, &mut block.ssl, problems)?;
                }
            }
        }
        self.blocks.push(block);
        Ok(())
    }

    /// The servers with their addresses, in the state that nginx has after reading the whole configuration.
    pub(super) fn servers(&self) -> Read<Servers<Handle>> {
        let mut all = Vec::new();
        let mut addresses = Addresses::default();
        for (position, block) in self.blocks.iter().enumerate() {
            let mut settings = block.settings.clone();
            settings.inherit(&self.settings);
            let mut choosers = block.choosers.clone();
            choosers.inherit(&self.choosers);
            let ssl = block.ssl.inherited(&self.ssl);
            let own = ssl.own(&block.at)?;
            for listen in &block.listens {
                addresses.add(position, listen, ssl.is_on(), &block.at)?;
            }
            if block.listens.is_empty() {
                // nginx's default address if it runs as root. Clients use TLS there only with `ssl on`.
                let listen =
                    Listen { addresses: vec![("0.0.0.0:80".to_owned(), 80)], ..Listen::default() };
                addresses.add(position, &listen, ssl.is_on(), &block.at)?;
            }
            let handle = Handle {
                certificates: ssl.certificates.clone().unwrap_or_default(),
                keys: ssl.keys.clone().unwrap_or_default(),
                names: block.names.hosts(),
            };
            let (claims, patterns) = block.names.split();
            let mut server = Server::new(handle, claims, patterns, (settings, choosers), own);
            server.at = Some(block.at.clone());
            all.push(server);
        }
        let mut servers = Servers::new(all);
        for address in addresses.all() {
            self.has_certificate(&servers, &address)?;
            servers.add_address(&address, &self.global.public_ports);
        }
        Ok(servers)
    }

    /// nginx refuses a TLS address whose default server has no certificate.
    fn has_certificate(&self, servers: &Servers<Handle>, address: &Address) -> Read<()> {
        if !address.tls {
            return Ok(());
        }
        let lacks = |position: usize| servers.all[position].own.is_none();
        let rejects = servers.all[address.default].own.is_some_and(|own| own.rejects);
        let lacking = match rejects {
            true => address.servers.iter().copied().find(|position| lacks(*position)),
            false => Some(address.default).filter(|position| lacks(*position)),
        };
        match lacking {
            None => Ok(()),
            Some(position) => {
                let text = "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive";
                Err(invalid(&self.blocks[position].at, text.to_owned()))
            }
        }
    }
}

/// Reads a directive that is allowed in `http` and in `server`.
fn common(
    directive: &Directive,
    directory: &str,
    settings: &mut ServerSettings,
    choosers: &mut Choosers,
    ssl: &mut Ssl,
    problems: &mut Problems,
) -> Read<()> {
    let name = directive.name();
    if IN_SERVER.contains(&name) {
        without_block(directive)?;
        // `hpkp NAME unguarded` has two arguments.
        if name != "hpkp" || directive.arguments().len() != 2 {
            directive.argument()?;
        }
        is_utf8(&directive.at, directive.words.iter())?;
        let path = |path: &str| full_path(directory, path);
        return set_in_server(settings, &directive.words, directive.at.clone(), path)
            .map_err(|error| of_directive(&directive.at, &error));
    }
    if name == GUARD {
        without_block(directive)?;
        is_utf8(&directive.at, directive.words.iter())?;
        return set_guard(settings, &directive.words, directive.at.clone())
            .map_err(|error| of_directive(&directive.at, &error));
    }
    note_chooser(directive, choosers)?;
    ssl.read(directive, directory)?;
    known::look(directive, problems)
}

/// Notes a directive that may choose or replace the certificate. A block may have one of each kind.
pub(super) fn note_chooser(directive: &Directive, choosers: &mut Choosers) -> Read<()> {
    let Some(effect) = effect(directive.name().as_bytes()) else { return Ok(()) };
    let noted = match effect {
        Effect::Chooses => &choosers.chosen_by,
        Effect::MayReplace => &choosers.replaced_by,
    };
    if noted.is_some() {
        let name = Excerpt::new(directive.name());
        return Err(invalid(&directive.at, format!("\"{name}\" directive is duplicate")));
    }
    let chooser = Chooser { directive: directive.name().to_owned(), at: directive.at.clone() };
    choosers.note(effect, chooser);
    Ok(())
}

/// Reads `listen`; `None` if the address is a host name, which only the server resolves.
pub(super) fn listen(
    directive: &Directive,
    default_port: Option<u16>,
    problems: &mut Problems,
) -> Read<Option<Listen>> {
    without_block(directive)?;
    match Listen::parse(directive.arguments(), default_port) {
        Ok(listen) => Ok(Some(listen)),
        Err(ListenError::Invalid(text)) => Err(invalid(&directive.at, text)),
        Err(ListenError::HostName(name)) => {
            let text = Text::new(format!(
                "nginx looks \"{}\" up in DNS when it starts, and this command does not, so this address \
                 is not looked at",
                Excerpt::new(&name)
            ));
            problems.not_understood(&directive.at, text.fix("give listen an IP address"));
            Ok(None)
        }
    }
}

/// The addresses of all servers, in nginx's order: grouped by port, in the order in which the ports first
/// appear.
#[derive(Default)]
struct Addresses {
    ports: Vec<((u16, Family), Vec<Entry>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
    Unix,
    Quic,
}

struct Entry {
    text: String,
    ssl: bool,
    /// Whether the default server has `ssl on`.
    default_is_on: bool,
    servers: Vec<usize>,
    default: usize,
    is_explicit: bool,
}

impl Addresses {
    fn add(&mut self, server: usize, listen: &Listen, is_on: bool, at: &Location) -> Read<()> {
        for (text, port) in &listen.addresses {
            let family = match text.as_bytes().first() {
                _ if listen.quic => Family::Quic,
                Some(b'[') => Family::V6,
                Some(b'u') => Family::Unix,
                _ => Family::V4,
            };
            let key = (*port, family);
            let index = match self.ports.iter().position(|(known, _)| *known == key) {
                Some(index) => index,
                None => {
                    self.ports.push((key, Vec::new()));
                    self.ports.len() - 1
                }
            };
            let entries = &mut self.ports[index].1;
            let ssl = listen.ssl || listen.quic;
            let Some(entry) = entries.iter_mut().find(|entry| entry.text == *text) else {
                entries.push(Entry {
                    text: text.clone(),
                    ssl,
                    default_is_on: is_on,
                    servers: vec![server],
                    default: server,
                    is_explicit: listen.is_default,
                });
                continue;
            };
            if entry.servers.last() == Some(&server) {
                return Err(invalid(at, format!("a duplicate listen {text}")));
            }
            entry.servers.push(server);
            entry.ssl |= ssl;
            if listen.is_default {
                if entry.is_explicit {
                    return Err(invalid(at, format!("a duplicate default server for {text}")));
                }
                (entry.default, entry.default_is_on, entry.is_explicit) = (server, is_on, true);
            }
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = Address> + '_ {
        self.ports.iter().flat_map(|((port, family), entries)| {
            entries.iter().map(move |entry| Address {
                text: entry.text.clone(),
                port: *port,
                tls: entry.ssl || entry.default_is_on,
                quic: matches!(family, Family::Quic),
                servers: entry.servers.clone(),
                default: entry.default,
            })
        })
    }
}
