//! The commands that change the state of records: `end`, `waive` and `compromised`.

use hpkp_core::published::line::MAX_ENTRIES;
use hpkp_core::published::state::Record;
use hpkp_core::published::{
    Body, Compromised, Ended, Event, EventId, Gone, HostName, Lifetime, Matching, Origin,
    Published, Waived, Why,
};
use hpkp_core::sorted::distinct;

use super::add;
use super::store::{Store, shown};
use super::view::{PresentsView, PublishedView};
use crate::arguments::{CompromisedArguments, EndArguments, IdPrefix, WaiveArguments};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::key;
use crate::output::{self, JSON_VERSION};

pub(super) fn end(
    store: &mut Store,
    arguments: &EndArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let EndArguments { ids, host, writer, record_as, why, at, .. } = arguments;
    // These reasons are reserved for servers, so that records of servers and of operators can be
    // distinguished.
    let why = match why.as_str() {
        Why::REPLACED | Why::STOPPED => {
            return Err(Failure::usage(
                "this text is reserved for servers; give the reason in other words (--why)",
            ));
        }
        other => Why::Other(other.to_owned()),
    };
    if ids.is_empty() && host.is_empty() {
        return gone(store, arguments, json);
    }
    let writer = match (writer.as_slice(), record_as) {
        (_, Some(name)) | ([name], None) => Some(name),
        ([], None) => None,
        _ => {
            return Err(Failure::usage(
                "with ID or --host, --writer is the name to write under and can be given once",
            ));
        }
    };
    let named = names(host)?;
    let mut all = Vec::new();
    let events = store.append(
        writer,
        |store| {
            let has_no_age =
                |record: &Record<Published>| !matches!(record.body.lifetime, Lifetime::MaxAge(_));
            all = chosen(store, ids, &named, has_no_age, "no recorded pins without a max-age")?;
            let ended = all
                .chunks(MAX_ENTRIES)
                .map(|ids| Body::Ended(Ended { ids: ids.to_vec(), why: why.clone(), when: *at }));
            Ok(ended.collect())
        },
        |_| Vec::new(),
    )?;
    Ok(print(store, &all, &events, json))
}

/// Records that writers are gone for good.
fn gone(store: &mut Store, arguments: &EndArguments, json: bool) -> Result<Exit, Failure> {
    let writers = distinct(arguments.writer.clone());
    let mut ids: Vec<EventId> = Vec::new();
    let events = store.append(
        arguments.record_as.as_ref(),
        |store| {
            let mut bodies = Vec::new();
            for writer in &writers {
                let sights = store.state.sights_of(writer);
                if sights.is_empty() {
                    return Err(Failure::no(format!("no record was written by {writer}")));
                }
                bodies.extend(sights.into_iter().map(|sight| {
                    Body::Gone(Gone {
                        of: sight.writer,
                        instance: sight.instance,
                        upto: sight.seq,
                        why: arguments.why.clone(),
                        when: arguments.at,
                    })
                }));
            }
            let presents = store.state.presents().filter(|one| store.state.is_presented(one));
            let published = store.state.published().filter(|one| {
                one.body.origin == Origin::Header && store.state.end(one.id).is_none()
            });
            ids = presents
                .map(|one| (&one.writer, one.id))
                .chain(published.map(|one| (&one.writer, one.id)))
                .filter(|(writer, _)| writers.contains(writer))
                .map(|(_, id)| id)
                .collect();
            Ok(bodies)
        },
        |_| Vec::new(),
    )?;
    Ok(print(store, &ids, &events, json))
}

pub(super) fn waive(
    store: &mut Store,
    arguments: &WaiveArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let WaiveArguments { ids, host, who, why, writer, .. } = arguments;
    let named = names(host)?;
    let mut all = Vec::new();
    let events = store.append(
        writer.writer.as_ref(),
        |store| {
            all = chosen(store, ids, &named, |_| true, "no recorded pins")?;
            if let Some(id) = all.iter().find(|id| store.state.published_by(**id).is_none()) {
                return Err(Failure::no(format!(
                    "{id} is a record of presented keys and cannot be waived; to end it: hpkp published \
                     end {id} --why TEXT"
                )));
            }
            let waived = all.chunks(MAX_ENTRIES).map(|ids| {
                Body::Waived(Waived { ids: ids.to_vec(), who: who.clone(), why: why.clone() })
            });
            Ok(waived.collect())
        },
        |_| Vec::new(),
    )?;
    Ok(print(store, &all, &events, json))
}

fn names(hosts: &[String]) -> Result<Vec<(HostName, Matching)>, Failure> {
    hosts.iter().map(|host| add::pattern(host)).collect()
}

/// The records with these ids, and the records of pins that clients may hold for these names. If a name has
/// no record, `missing` is the noun of the error message.
fn chosen(
    store: &Store,
    ids: &[IdPrefix],
    names: &[(HostName, Matching)],
    is_meant: impl Fn(&Record<Published>) -> bool,
    missing: &str,
) -> Result<Vec<EventId>, Failure> {
    let mut all = store.resolve(ids)?;
    for (host, matching) in names {
        let live = store.state.live(store.now).map(|live| live.record);
        let here = live.filter(|one| one.body.host == *host && one.body.matching == *matching);
        let before = all.len();
        all.extend(here.filter(|one| is_meant(one)).map(|one| one.id));
        if all.len() == before {
            let name = matching.pattern(host);
            let live = store.state.live(store.now).map(|live| &live.record.body);
            let others = live.filter(|body| body.binds(host));
            let others = distinct(others.map(|body| body.matching.pattern(&body.host)));
            let hint = match others.as_slice() {
                [] => String::new(),
                others => format!("; pins of {} apply to it", others.join(", ")),
            };
            return Err(Failure::no(format!("{missing} for {name}{hint}")));
        }
    }
    Ok(distinct(all))
}

pub(super) fn compromised(
    store: &mut Store,
    arguments: &CompromisedArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let (pin, origin) = key::pin(arguments.key.as_ref(), None)?;
    if origin == key::Origin::File {
        let file = shown(&arguments.key);
        output::complain(&format!("{file}: the pin of the first key is sha256/{pin}"));
    }
    let events = store.append(
        arguments.writer.writer.as_ref(),
        |_| {
            let compromised = Compromised { pin, why: arguments.why.clone() };
            Ok(vec![Body::Compromised(compromised)])
        },
        |_| Vec::new(),
    )?;
    // The records that contain the key.
    let live = store.state.live(store.now).map(|live| live.record);
    let holding: Vec<EventId> =
        live.filter(|record| record.body.pins.contains(&pin)).map(|record| record.id).collect();
    Ok(print(store, &holding, &events, json))
}

/// Prints the new state of the records.
fn print(store: &Store, ids: &[EventId], events: &[Event], json: bool) -> Exit {
    let published = ids.iter().filter_map(|id| store.state.published_by(*id));
    let published: Vec<_> = published.map(|record| PublishedView::new(store, record)).collect();
    let presents = ids.iter().filter_map(|id| store.state.presents_by(*id));
    let presents: Vec<_> = presents.map(|record| PresentsView::new(store, record)).collect();
    let written = if json {
        let events: Vec<String> = events.iter().map(|event| event.id().to_string()).collect();
        output::json(&serde_json::json!({
            "v": JSON_VERSION, "events": events, "published": published, "presents": presents,
        }))
    } else {
        let lines = published.iter().map(PublishedView::line);
        let mut lines = lines.chain(presents.iter().map(PresentsView::line));
        lines.try_for_each(|line| output::line(&line))
    };
    output::ended(Exit::Fine, written)
}
