//! `hpkp published add`: records pins that clients have got without the hpkp modules.

use std::collections::HashMap;
use std::path::Path;

use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::policy::PinSource;
use hpkp_core::published::{
    Body, Ended, Event, EventId, HostName, Lifetime, Matching, Origin, Published, Why, WriterName,
};
use hpkp_core::sorted::distinct;
use hpkp_core::spki;
use hpkp_core::text::Excerpt;
use hpkp_core::ua::FieldKind;
use hpkp_core::ua::field::Reading;
use serde::Serialize;

use super::store::{Store, shown};
use super::view::PublishedView;
use crate::arguments::{self, AddArguments};
use crate::chains;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::import::Certificates;
use crate::import::header;
use crate::input;
use crate::key;
use crate::output::{self, JSON_VERSION};
use crate::presented::Address;

/// The JSON output.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    recorded: Vec<PublishedView>,
    /// The records that existed before.
    known: Vec<PublishedView>,
}

pub(super) fn run(
    store: &mut Store,
    arguments: &AddArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let published = published(arguments)?;
    let certificates = hashes(&arguments.cert)?;
    for pin in &published.pins {
        if let Some(problem) = certificates.other(pin.bytes()) {
            return Err(Failure::no(format!("sha256/{pin}: {problem}")));
        }
    }
    if arguments.until.zip(arguments.since).is_some_and(|(until, since)| until < since) {
        return Err(Failure::usage("--until is before --since"));
    }
    let writer = arguments.writer.writer.as_ref();
    let report = record(store, writer, &[published], arguments.until)?;
    Ok(report.print(json))
}

/// The canonical name of a host.
pub(super) fn host(text: &str) -> Result<HostName, Failure> {
    let wrong =
        |why: &str| Failure::usage(format!("invalid host name \"{}\": {why}", Excerpt::new(text)));
    let text = match Address::after_scheme(text) {
        Some(rest) => rest.strip_suffix('/').unwrap_or(rest),
        None => text,
    };
    if text.parse::<Pin>().is_ok() {
        return Err(wrong("this is a pin; give the host"));
    }
    // A file may have a name like a host. If the name cannot be a host, the user has named a file.
    if !key::is_host(text) && Path::new(text).is_file() {
        return Err(wrong("this is a file; give the host, and the file with --cert"));
    }
    let apart = text.split_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    if let Some((name, port)) = apart {
        return Err(wrong(&format!("give the port separately: {name} --port {port}")));
    }
    arguments::host(text).map_err(|why| wrong(&why))
}

/// Parses a name with its pattern, in the notation of `list`.
pub(super) fn pattern(text: &str) -> Result<(HostName, Matching), Failure> {
    let (name, matching) = Matching::of_pattern(text);
    Ok((host(name)?, matching))
}

fn published(arguments: &AddArguments) -> Result<Published, Failure> {
    let (host, matching) = pattern(&arguments.host)?;
    let origin = match arguments.origin.as_deref() {
        Some(Origin::HEADER) => {
            return Err(Failure::usage(
                "this text is reserved for servers; name the origin in other words (--origin)",
            ));
        }
        Some(text) => text.to_owned(),
        None => "a Public-Key-Pins header set without hpkp".to_owned(),
    };
    let common = Published {
        host,
        matching,
        except: Vec::new(),
        include_subdomains: arguments.include_subdomains,
        scope: arguments.scope,
        port: arguments.port,
        pins: Vec::new(),
        lifetime: match (arguments.max_age, arguments.expires) {
            (Some(age), _) => Lifetime::MaxAge(age),
            (None, Some(time)) => Lifetime::ExpiresAt(time),
            (None, None) => Lifetime::Open,
        },
        origin: Origin::Other(origin),
        since: arguments.since,
        configuration: None,
        exempt: Vec::new(),
        tlsa: None,
    };
    let Some(header) = &arguments.header else {
        let pins = arguments.pin.iter().map(|text| pin(text)).collect::<Result<Vec<_>, _>>()?;
        return Ok(Published { pins: distinct(pins), ..common });
    };
    if matching != Matching::Exact {
        return Err(Failure::usage(
            "--header: clients note a header for the host that sent it; give a host name, not a pattern",
        ));
    }
    of_header(header, common)
}

/// The pins that clients have noted from a header. The most tolerant reading counts, so that no client is
/// left out.
fn of_header(header: &str, common: Published) -> Result<Published, Failure> {
    let header::Unwrapped { value, taken_off } = unwrapped(header)?;
    let reading = Reading::of(FieldKind::Enforced, value.as_bytes())
        .map_err(|error| Failure::no(format!("header: {error}")))?;
    for deviation in reading.deviations() {
        output::complain(&format!("header: {deviation}"));
    }
    let as_sent = taken_off.is_empty() && !header.contains(['\\', '&', '$', '\n', '<']);
    let field = reading.tolerant().filter(|field| !field.pins.is_empty()).ok_or_else(|| {
        Failure::no(match as_sent {
            true => {
                "no client that follows RFC 7469 notes this header; if you know of a client that does, \
                 record its pins with --pin"
            }
            // The header itself may be valid, and the text around it the problem.
            false => {
                "cannot tell the header value in this text; give the value alone, as it is sent \
                 (curl -sI https://HOST/), or record the pins with --pin"
            }
        })
    })?;
    // If the text contains more than the value, all its pins must be in the extracted value.
    if !as_sent && header::pins_in(header).iter().any(|pin| !field.pins.contains(pin)) {
        return Err(Failure::no(
            "the text contains pins outside the header value; give the value alone, as it is sent \
             (curl -sI https://HOST/)",
        ));
    }
    let age = MaxAge::from_seconds(field.max_age.unwrap_or(0)).unwrap_or(MaxAge::MAX);
    if age.seconds() == 0 {
        return Err(Failure::no(
            "header: max-age=0 tells clients to forget the pins; there is nothing to record",
        ));
    }
    Ok(Published {
        pins: distinct(field.pins.clone()),
        include_subdomains: field.include_subdomains,
        lifetime: Lifetime::MaxAge(age),
        ..common
    })
}

/// Extracts the value from configuration text, and reports what was left out.
fn unwrapped(header: &str) -> Result<header::Unwrapped, Failure> {
    let found = header::unwrap(header).map_err(|error| Failure::no(error.to_string()))?;
    let lower = header.to_ascii_lowercase();
    // A header contains parentheses and the like only in pins and URLs, so this text is configuration.
    if !lower.contains("pin-sha256") && lower.contains(['(', '{', '[', '<', '\n']) {
        return Err(Failure::no(
            "the header: there is no value of Public-Key-Pins in this text (pin-sha256=\"...\"; max-age=...); give \
             the value as it is sent (curl -sI https://HOST/), or record the pins with --pin and --max-age",
        ));
    }
    if lower.contains("public-key-pins-report-only")
        && !lower.trim_start().starts_with("pin-sha256")
    {
        output::complain(
            "the header: Public-Key-Pins-Report-Only is left out: clients report by it and refuse nothing",
        );
    }
    if !found.taken_off.is_empty() {
        let taken_off: Vec<String> = found.taken_off.iter().map(ToString::to_string).collect();
        output::complain(&format!(
            "the header: without {}, it is read as {}",
            taken_off.join(", "),
            Excerpt::new(&found.value)
        ));
    }
    Ok(found)
}

/// The certificates by which hashes of whole certificates are distinguished from pins.
pub(super) fn hashes(files: &[String]) -> Result<Certificates, Failure> {
    let read = chains::of_files(files)?;
    Ok(Certificates::new(read.iter().flatten().map(|one| (one.der(), one.subject().to_owned()))))
}

/// The pin in `text`, or the pin of the first key in the file that it names.
fn pin(text: &str) -> Result<Pin, Failure> {
    let path = match PinSource::parse(text, str::to_owned) {
        Ok(PinSource::Literal(pin)) => return Ok(pin),
        Ok(PinSource::File(path)) => path,
        Ok(PinSource::Role(role)) => {
            let keyword = role.as_str();
            let text = format!(
                "the keyword \"{keyword}\" is for server configurations; give a pin or file:PATH"
            );
            return Err(Failure::usage(text));
        }
        Err((_, why)) => {
            let hint = match Path::new(text).is_file() {
                true => format!("; for the key in this file: --pin file:{}", shown(text)),
                false => String::new(),
            };
            return Err(Failure::usage(format!("{why}{hint}")));
        }
    };
    let shown = Excerpt::new(&path);
    let bytes = input::named(path.as_ref(), spki::MAX_FILE)
        .map_err(|error| chains::unread(&path, &error))?;
    let keys = spki::read(&bytes).map_err(|error| Failure::no(format!("{shown}: {error}")))?;
    keys.first().map(|key| key.pin).ok_or_else(|| Failure::no(format!("{shown}: contains no key")))
}

/// The new records, and those that existed before.
pub(super) struct Recorded {
    recorded: Vec<PublishedView>,
    known: Vec<PublishedView>,
}

impl Recorded {
    pub(super) fn print(self, json: bool) -> Exit {
        let Self { recorded, known } = self;
        let written = if json {
            output::json(&Report { v: JSON_VERSION, recorded, known })
        } else {
            for view in &known {
                output::complain(&format!("already recorded: {}", view.line()));
            }
            recorded.iter().try_for_each(|view| output::line(&view.line()))
        };
        output::ended(Exit::Fine, written)
    }
}

/// Records pins that are not on record yet, and their end at `until` if there is one.
pub(super) fn record(
    store: &mut Store,
    writer: Option<&WriterName>,
    all: &[Published],
    until: Option<i64>,
) -> Result<Recorded, Failure> {
    let before: Vec<EventId> = known(store, all, until).into_iter().flatten().collect();
    let ended = |ids| {
        let why = Why::Other("no longer sent".to_owned());
        Body::Ended(Ended { ids, why, when: until })
    };
    let events = store.append(
        writer,
        |store| {
            let open = before.iter().filter(|id| store.state.end(**id).is_none());
            let open: Vec<EventId> = open.copied().collect();
            let ends = (until.is_some() && !open.is_empty()).then(|| ended(open));
            let new = all.iter().zip(known(store, all, until));
            let new = new.filter(|(_, known)| known.is_none()).map(|(new, _)| new.clone());
            Ok(new.map(Body::Published).chain(ends).collect())
        },
        |events| {
            let new = events.iter().filter(|event| matches!(event.body(), Body::Published(_)));
            let new: Vec<EventId> = new.map(Event::id).collect();
            if until.is_some() && !new.is_empty() { vec![ended(new)] } else { Vec::new() }
        },
    )?;
    let view = |id| store.state.published_by(id).map(|record| PublishedView::new(store, record));
    Ok(Recorded {
        recorded: events.iter().filter_map(|event| view(event.id())).collect(),
        known: before.into_iter().filter_map(view).collect(),
    })
}

/// The record with the same contents for each of `all`. A record that has ended does not count, unless an
/// end is recorded too.
fn known(store: &Store, all: &[Published], until: Option<i64>) -> Vec<Option<EventId>> {
    let mut same: HashMap<&Published, Vec<EventId>> = HashMap::new();
    for record in store.state.published() {
        same.entry(&record.body).or_default().push(record.id);
    }
    let is_open = |id: &&EventId| store.state.end(**id).is_none();
    let known = all.iter().map(|new| {
        let same = same.get(new)?;
        let any = same.first().filter(|_| until.is_some());
        same.iter().find(is_open).or(any).copied()
    });
    known.collect()
}
