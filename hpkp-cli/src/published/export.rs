//! `hpkp published export`: exports recorded pins in the formats of other software.

use std::collections::HashMap;

use hpkp_core::published::{Client, Configuration, Lifetime, Published};
use hpkp_core::text::Excerpt;

use super::store::Store;
use crate::arguments::{ExportArguments, IdPrefix};
use crate::exit::Exit;
use crate::export::{self, Item};
use crate::failure::Failure;
use crate::import::{Except, PinSet};
use crate::output::{self, JSON_VERSION};

pub(super) fn run(store: &Store, arguments: &ExportArguments, json: bool) -> Result<Exit, Failure> {
    let mut found = vec![false; arguments.hosts.len()];
    let mut items: Vec<Item> = Vec::new();
    // Configurations get numbers instead of ids, so that the output does not depend on the machine.
    let mut configurations: HashMap<Configuration, usize> = HashMap::new();
    let mut next = 0;
    let live = store.state.live(store.now);
    let mut live: Vec<_> = live.map(|live| (live.record, live.waiver.is_some())).collect();
    live.sort_by_key(|(record, _)| (&record.body.host, record.body.matching, record.at, record.id));
    for (record, is_waived) in live {
        let body = &record.body;
        let name = body.matching.pattern(&body.host);
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
        // A record without a configuration forms a configuration of its own.
        let group = match body.configuration {
            None => next,
            Some(configuration) => *configurations.entry(configuration).or_insert(next),
        };
        next += 1;
        let mut item = item(body, group);
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

/// Whether two records give the same entry.
fn is_same(one: &Item, other: &Item) -> bool {
    export::comparable(one.set.clone()) == export::comparable(other.set.clone())
        && (one.max_age.is_none() || other.max_age.is_none() || one.max_age == other.max_age)
}

pub(crate) fn item(body: &Published, group: usize) -> Item {
    let except = body.except.iter().map(|host| (host, false));
    let exempt = body.exempt.iter().map(|one| (&one.host, one.include_subdomains));
    let all = except.chain(exempt);
    let mut except: Vec<Except> =
        all.map(|(host, with_subdomains)| Except { host: host.clone(), with_subdomains }).collect();
    except.sort();
    let set = PinSet {
        host: body.host.clone(),
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
    Item { set, max_age, tlsa: body.tlsa.as_deref().cloned() }
}
