//! `hpkp published import`: records the pins of apps, scripts and DNS zones.

use std::collections::HashSet;

use hpkp_core::date;
use hpkp_core::published::{
    Configuration, Exempt, Fingerprint, Lifetime, Matching, Origin, Published,
};
use hpkp_core::sorted::distinct;
use hpkp_core::text::Excerpt;

use super::add;
use super::store::{Store, shown};
use super::view;
use crate::arguments::ImportArguments;
use crate::chains;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::import::format::{self, Format};
use crate::import::{self, PinSet, Problem};
use crate::input;
use crate::output::{self, JSON_VERSION};

pub(super) fn run(
    store: &mut Store,
    arguments: &ImportArguments,
    json: bool,
) -> Result<Exit, Failure> {
    if arguments.origin == Origin::HEADER {
        return Err(Failure::usage(
            "this text is reserved for servers; name the origin in other words (--origin)",
        ));
    }
    let text = match arguments.file.as_str() {
        "-" => input::standard(import::MAX_TEXT),
        path => input::named(path.as_ref(), import::MAX_TEXT),
    };
    let file = shown(&arguments.file);
    let text = text.map_err(|error| chains::unread(&arguments.file, &error))?;
    let certificates = add::hashes(&arguments.cert)?.in_file(&arguments.file);
    let format = match arguments.format.0 {
        Some(format) => format,
        None => recognised(&text, &file)?,
    };
    let mut imported = format.read(&text, &certificates).map_err(|error| {
        let instead = format.instead(&text, &error);
        let instead = instead.map_or_else(String::new, |instead| format!("; {instead}"));
        Failure::no(format!("{file}: {error}{instead}"))
    })?;
    for note in &imported.notes {
        output::complain(&format!("{file}: {note}"));
    }
    let mut all: Vec<Published> = Vec::new();
    let mut seen = HashSet::new();
    let of_text = openssl::sha::sha256(&text);
    for (index, (set, line)) in imported.sets.into_iter().zip(imported.lines).enumerate() {
        if set.expires_at.is_some_and(|time| time <= store.now) {
            output::complain(&format!(
                "{file}: line {line}: not recorded: the pins of {} have expired",
                set.host.as_str()
            ));
            continue;
        }
        let configuration = Configuration {
            client: set.client,
            id: Fingerprint::of([
                &of_text[..],
                arguments.origin.as_bytes(),
                &set.group.to_be_bytes(),
            ]),
        };
        let published = published(set, configuration, arguments);
        let published = match imported.tlsa.remove(&index) {
            // A set of TLSA records describes its name completely, whatever else the text contains.
            Some(set) => Published { configuration: None, ..published }.with_tlsa(set),
            None => published,
        };
        if seen.insert(published.clone()) {
            all.push(published);
        }
    }
    if arguments.dry_run {
        return Ok(print(&all, json));
    }
    let exit = add::record(store, arguments.writer.writer.as_ref(), &all, None)?.print(json);
    all.iter().filter(|one| one.tlsa.is_some()).for_each(|one| note_earlier(store, one));
    Ok(exit)
}

/// Recognises the format by the content of the text.
fn recognised(text: &[u8], file: &dyn std::fmt::Display) -> Result<Format, Failure> {
    let format = Format::of(text).ok_or_else(|| {
        let error = import::unread(text);
        let advice = match (&error.problem, format::looks_like(text, &error)) {
            (_, Some(looks)) => format!("; {looks}"),
            // The text contains no pin, so naming the format may help.
            (Problem::Nothing { .. }, _) => "; set --format".to_owned(),
            _ => String::new(),
        };
        Failure::no(format!("{file}: unknown format; {error}{advice}"))
    })?;
    output::complain(&format!("{file}: read as {format}"));
    Ok(format)
}

fn published(set: PinSet, configuration: Configuration, arguments: &ImportArguments) -> Published {
    // A pattern of one label does not match its exempt hosts. For any other entry, the client applies
    // something else to the exempt hosts.
    let (mut except, mut exempt) = (Vec::new(), Vec::new());
    for one in &set.except {
        let (host, include_subdomains) = (one.host.clone(), one.with_subdomains);
        match set.matching {
            Matching::OneLabel => except.push(host),
            _ => exempt.push(Exempt { host, include_subdomains }),
        }
    }
    except.sort();
    Published {
        host: set.host,
        matching: set.matching,
        except,
        include_subdomains: set.include_subdomains,
        scope: set.scope,
        port: set.port,
        pins: distinct(set.pins),
        lifetime: set.expires_at.map_or(Lifetime::Open, Lifetime::ExpiresAt),
        origin: Origin::Other(format!("{} ({})", Excerpt::new(&arguments.origin), set.origin)),
        since: arguments.since,
        configuration: Some(configuration),
        exempt,
        tlsa: None,
    }
}

/// Reports other records of the same TLSA name. Certificates must match each of them until it is ended.
fn note_earlier(store: &Store, new: &Published) {
    let owner = new.owner();
    let live = store.state.live(store.now).map(|live| live.record);
    let earlier = live.filter(|record| record.body.owner() == owner && record.body != *new);
    for record in earlier {
        output::complain(&format!(
            "{}: other TLSA records of {} are on record; once DNS no longer has them: {}",
            record.id,
            owner.as_deref().unwrap_or_default(),
            store.command(&format!("end {} --why REASON", record.id))
        ));
    }
}

/// Prints what would be recorded.
fn print(all: &[Published], json: bool) -> Exit {
    let pins = |published: &Published| -> Vec<String> {
        published.pins.iter().map(|pin| format!("sha256/{pin}")).collect()
    };
    let expires_at = |published: &Published| match published.lifetime {
        Lifetime::ExpiresAt(time) => Some(date::format(time)),
        Lifetime::MaxAge(_) | Lifetime::Open => None,
    };
    let written = if json {
        let sets = all.iter().map(|published| {
            serde_json::json!({
                "host": published.matching.pattern(&published.host),
                "include_subdomains": published.include_subdomains,
                "scope": published.scope.as_str(),
                "port": published.port,
                "pins": pins(published),
                "tlsa": view::tlsa(published),
                "expires_at": expires_at(published),
                "origin": published.origin.as_str(),
            })
        });
        let sets: Vec<_> = sets.collect();
        output::json(&serde_json::json!({ "v": JSON_VERSION, "would_record": sets }))
    } else {
        all.iter().try_for_each(|published| {
            let name = published.matching.pattern(&published.host);
            let whom = view::whom(&name, published.include_subdomains, published.port);
            let scope = published.scope;
            let until = expires_at(published);
            let until = until.map_or_else(String::new, |time| format!(", expires {time}"));
            match published.owner() {
                Some(owner) => {
                    let records = view::tlsa(published).join(", ");
                    output::line(&format!("{owner} (TLSA){until}: {records}"))
                }
                None => {
                    output::line(&format!("{whom} ({scope}){until}: {}", pins(published).join(" ")))
                }
            }
        })
    };
    output::ended(Exit::Fine, written)
}
