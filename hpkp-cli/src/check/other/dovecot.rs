//! Reads Dovecot's configuration: `ssl_cert`, also within `local_name`.

use std::collections::{BTreeMap, BTreeSet};

use hpkp_core::finding::Location;

use super::super::problem::{Read, unreadable};
use super::context::{Context, MAX_INCLUDES};
use super::entry::Entry;
use super::line::Line;

/// The ports of IMAP, POP3 (with and without STARTTLS) and ManageSieve. A listener may have another port.
const PORTS: [u16; 5] = [143, 993, 110, 995, 4190];

/// The settings that name a certificate, in Dovecot 2.3 and 2.4.
const CERTIFICATES: [&str; 4] =
    ["ssl_cert", "ssl_alt_cert", "ssl_server_cert_file", "ssl_server_alt_cert_file"];

/// The settings that were read.
#[derive(Default)]
struct Found {
    /// The certificate files, by the block and the name of the setting; the last one of each counts.
    certificates: BTreeMap<(String, String), (String, Location)>,
    /// The ports of the listeners.
    ports: BTreeSet<u16>,
}

pub(super) fn read(all: Vec<Line>, context: &mut Context<'_>) -> Read<Vec<Entry>> {
    let mut found = Found { ports: PORTS.into(), ..Found::default() };
    read_lines(all, context, &mut found, 0)?;
    let Found { certificates, ports } = found;
    let Some((_, (_, at))) = certificates.iter().next() else { return Ok(Vec::new()) };
    let at = at.clone();
    let files = certificates.values().map(|(path, _)| context.path(path)).collect();
    let addresses = ports.iter().map(|port| (format!("*:{port}"), *port)).collect();
    Ok(vec![Entry { at, addresses, files, is_http: false }])
}

fn read_lines(
    all: Vec<Line>,
    context: &mut Context<'_>,
    found: &mut Found,
    depth: usize,
) -> Read<()> {
    let mut blocks: Vec<String> = Vec::new();
    for line in all {
        if depth > MAX_INCLUDES {
            let text = format!("files include each other more than {MAX_INCLUDES} deep");
            return Err(unreadable(&line.at, text));
        }
        let text = line.text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(mask) = text.strip_prefix("!include_try ") {
            for lines in context.included(mask.trim(), &line.at, true)? {
                read_lines(lines, context, found, depth + 1)?;
            }
        } else if let Some(mask) = text.strip_prefix("!include ") {
            for lines in context.included(mask.trim(), &line.at, false)? {
                read_lines(lines, context, found, depth + 1)?;
            }
        } else if let Some(begin) = text.strip_suffix('{') {
            blocks.push(begin.trim().to_owned());
        } else if text == "}" {
            blocks.pop();
        } else if let Some((name, value)) = text.split_once('=') {
            let (name, value) = (name.trim(), value.trim());
            let is_listener = blocks.last().is_some_and(|block| block.starts_with("inet_listener"));
            if is_listener && name == "port" {
                // Port 0 disables a listener.
                found.ports.extend(value.parse::<u16>().ok().filter(|port| *port != 0));
            }
            if !CERTIFICATES.contains(&name) || value.is_empty() {
                continue;
            }
            // `<FILE` stands for the content of the file; since 2.4 the setting is the name of the file.
            match value.strip_prefix('<').or(name.ends_with("_file").then_some(value)) {
                Some(path) => {
                    let key = (blocks.join(" "), name.to_owned());
                    found.certificates.insert(key, (path.trim().to_owned(), line.at.clone()));
                }
                None => {
                    let text = format!("the value of {name} is no file, so it is not looked at");
                    context.problems.not_understood(&line.at, text);
                }
            }
        }
    }
    Ok(())
}
