//! Reads Caddy's `Caddyfile`: the sites with certificates of their own. The configuration does not name the
//! files of certificates that Caddy gets by ACME.

use super::super::problem::Read;
use super::context::Context;
use super::entry::{Entry, port_of};
use super::line::Line;

pub(super) fn read(all: &[Line], context: &mut Context<'_>) -> Read<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut depth = 0_usize;
    // The addresses of the current site, its first line, and whether the site names a certificate.
    let mut site: Option<(Vec<String>, Line, bool)> = None;
    for line in all {
        let text = line.text.split(" #").next().unwrap_or_default().trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let is_begin = text.ends_with('{');
        if depth == 0 && is_begin {
            let words = words.iter().map(|word| word.trim_end_matches(['{', ',']));
            let addresses = words.filter(|word| !word.is_empty()).map(str::to_owned);
            let addresses: Vec<String> = addresses.collect();
            let is_site = addresses.first().is_some_and(|first| !first.starts_with('('));
            site = is_site.then(|| (addresses, line.clone(), false));
        }
        match (words.as_slice(), &mut site) {
            (["import", ..], _) => {
                let text = "this command does not follow \"import\" of Caddy";
                context.problems.not_understood(&line.at, text.to_owned());
            }
            (["tls", certificate, key, ..], Some((addresses, _, is_named)))
                if depth == 1 && *key != "{" =>
            {
                *is_named = true;
                let address = |address: &String| {
                    let port = port_of(address).unwrap_or(443);
                    (address.clone(), port)
                };
                let addresses = addresses.iter().map(address).collect();
                let files = vec![context.path(certificate)];
                entries.push(Entry { at: line.at.clone(), addresses, files, is_http: true });
            }
            _ => {}
        }
        if is_begin {
            depth += 1;
        }
        if text == "}" {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                automatic(site.take(), context);
            }
        }
    }
    Ok(entries)
}

/// Reports a site without a certificate of its own. Caddy gets one by ACME, unless the site is plain HTTP.
fn automatic(site: Option<(Vec<String>, Line, bool)>, context: &mut Context<'_>) {
    let Some((addresses, line, is_named)) = site else { return };
    let is_plain = |address: &String| address.starts_with("http://") || address.ends_with(":80");
    if is_named || addresses.is_empty() || addresses.iter().all(is_plain) {
        return;
    }
    let text = "Caddy gets the certificate of this site by itself; give its file with --cert, in a check \
                without --caddy";
    context.problems.not_understood(&line.at, text.to_owned());
}
