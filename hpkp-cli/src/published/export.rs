//! `hpkp published export`: the pins on record in the formats of other software.

use std::collections::HashMap;

use hpkp_core::published::{Client, Configuration, HostName, Lifetime, Published};
use hpkp_core::text::Excerpt;
use hpkp_core::ua::host::Host;

use super::store::Store;
use super::view;
use crate::arguments::{ExportArguments, IdPrefix};
use crate::exit::Exit;
use crate::export::{self, Item};
use crate::failure::Failure;
use crate::import::{Except, PinSet};
use crate::output::{self, JSON_VERSION};

pub(super) fn run(store: &Store, arguments: &ExportArguments, json: bool) -> Result<Exit, Failure> {
    let mut found = vec![false; arguments.hosts.len()];
    let mut items: Vec<Item> = Vec::new();
    // Numbers in place of ids: what is written is the same wherever it is written.
    let mut configurations: HashMap<Configuration, usize> = HashMap::new();
    let mut next = 0;
    let live = store.state.live(store.now);
    let mut live: Vec<_> = live.map(|live| (live.record, live.waiver.is_some())).collect();
    live.sort_by_key(|(record, _)| (&record.body.host, record.body.matching, record.at, record.id));
    for (record, is_waived) in live {
        let body = &record.body;
        let name = view::name(&body.host, body.matching);
        let mut is_meant = arguments.hosts.is_empty();
        for (argument, found) in arguments.hosts.iter().zip(&mut found) {
            let is_id = argument.parse::<IdPrefix>().is_ok()
                && record.id.to_string().starts_with(&argument.to_ascii_lowercase());
            if is_id || argument.trim_end_matches('.').eq_ignore_ascii_case(&name) {
                (is_meant, *found) = (true, true);
            }
        }
        if !is_meant {
            continue;
        }
        if is_waived {
            output::complain(&format!("{}: {name}: left out: waived", record.id));
            continue;
        }
        // What is of no configuration is one of its own.
        let group = match body.configuration {
            None => next,
            Some(configuration) => *configurations.entry(configuration).or_insert(next),
        };
        next += 1;
        let mut item = item(body, group)?;
        item.max_age = item.max_age.filter(|_| !arguments.without_max_age);
        match items.iter_mut().find(|other| is_same(other, &item)) {
            Some(known) => known.max_age = known.max_age.or(item.max_age),
            None => items.push(item),
        }
    }
    if let Some((missing, _)) = arguments.hosts.iter().zip(found).find(|(_, found)| !found) {
        return Err(Failure::no(format!("{}: no recorded pins", Excerpt::new(missing))));
    }
    if items.is_empty() {
        return Err(Failure::no("no recorded pins"));
    }
    let format = arguments.format;
    let text = export::write(format, &items)
        .map_err(|refusal| Failure::no(format!("{refusal} ({format}); nothing was written")))?;
    let written = if json {
        output::json(&serde_json::json!({
            "v": JSON_VERSION, "format": format.to_string(), "text": text,
        }))
    } else {
        output::line(text.trim_end_matches('\n'))
    };
    Ok(output::ended(Exit::Fine, written))
}

/// Whether two records are written as one.
fn is_same(one: &Item, other: &Item) -> bool {
    export::comparable(one.set.clone()) == export::comparable(other.set.clone())
        && (one.max_age.is_none() || other.max_age.is_none() || one.max_age == other.max_age)
}

pub(crate) fn item(body: &Published, group: usize) -> Result<Item, Failure> {
    let name = |name: &HostName| match Host::parse(name.as_str()) {
        Ok(Host::Name(name)) => Ok(name),
        _ => Err(Failure::no(format!("{name}: cannot write this name"))),
    };
    let mut except = Vec::new();
    for host in &body.except {
        except.push(Except { host: name(host)?, with_subdomains: false });
    }
    for exempt in &body.exempt {
        let with_subdomains = exempt.include_subdomains;
        except.push(Except { host: name(&exempt.host)?, with_subdomains });
    }
    except.sort();
    let set = PinSet {
        host: name(&body.host)?,
        matching: body.matching,
        include_subdomains: body.include_subdomains,
        except,
        scope: body.scope,
        port: body.port,
        pins: body.pins.clone(),
        expires_at: match body.lifetime {
            Lifetime::ExpiresAt(time) => Some(time),
            Lifetime::MaxAge(_) | Lifetime::Open => None,
        },
        origin: String::new(),
        client: match body.tlsa {
            Some(_) => Client::Dane,
            None => body.configuration.map_or(Client::Android, |one| one.client),
        },
        group,
    };
    let max_age = match body.lifetime {
        Lifetime::MaxAge(age) => Some(age.seconds()),
        Lifetime::ExpiresAt(_) | Lifetime::Open => None,
    };
    Ok(Item { set, max_age, tlsa: body.tlsa.as_deref().cloned() })
}
