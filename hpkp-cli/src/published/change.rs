//! What becomes of records: `end`, `waive` and `compromised`.

use hpkp_core::published::line::MAX_ENTRIES;
use hpkp_core::published::{Body, Compromised, Ended, Event, EventId, Waived, Why};

use super::query::unknown;
use super::store::{Failure, Store};
use super::view::{PresentsView, PublishedView};
use crate::arguments::{ChangeArguments, CompromisedArguments, WaiveArguments};
use crate::exit::Exit;
use crate::output::{self, JSON_VERSION};

pub(super) fn end(
    store: &mut Store,
    arguments: &ChangeArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let ids = distinct(&arguments.ids);
    // What servers write of themselves must not be told from what somebody says of them.
    let why = match arguments.why.as_str() {
        Why::REPLACED | Why::STOPPED => {
            return Err(Failure::usage(
                "this --why is what servers say of their own configurations; say more",
            ));
        }
        other => Why::Other(other.to_owned()),
    };
    let events = store.append(
        arguments.writer.writer.as_ref(),
        |store| {
            known(store, &ids)?;
            let ended = ids.chunks(MAX_ENTRIES).map(|ids| {
                Body::Ended(Ended { ids: ids.to_vec(), why: why.clone(), when: arguments.at })
            });
            Ok(ended.collect())
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
    let ids = distinct(&arguments.ids);
    let events = store.append(
        arguments.writer.writer.as_ref(),
        |store| {
            known(store, &ids)?;
            if let Some(id) = ids.iter().find(|id| store.state.published_by(**id).is_none()) {
                return Err(Failure::no(format!("{id} is not of published pins; it can be ended")));
            }
            let WaiveArguments { who, why, .. } = arguments;
            let waived = ids.chunks(MAX_ENTRIES).map(|ids| {
                Body::Waived(Waived { ids: ids.to_vec(), who: who.clone(), why: why.clone() })
            });
            Ok(waived.collect())
        },
        |_| Vec::new(),
    )?;
    Ok(print(store, &ids, &events, json))
}

pub(super) fn compromised(
    store: &mut Store,
    arguments: &CompromisedArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let events = store.append(
        arguments.writer.writer.as_ref(),
        |_| {
            let compromised = Compromised { pin: arguments.pin, why: arguments.why.clone() };
            Ok(vec![Body::Compromised(compromised)])
        },
        |_| Vec::new(),
    )?;
    // Those that are held to this key among others.
    let live = store.state.live(store.now).map(|live| live.record);
    let holding: Vec<EventId> = live
        .filter(|record| record.said.pins.contains(&arguments.pin))
        .map(|record| record.id)
        .collect();
    Ok(print(store, &holding, &events, json))
}

fn distinct(ids: &[EventId]) -> Vec<EventId> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Nothing is said of what is not known: an id with a typing error must not pass for done.
fn known(store: &Store, ids: &[EventId]) -> Result<(), Failure> {
    ids.iter().find(|id| !store.has(**id)).map_or(Ok(()), |id| Err(unknown(*id)))
}

/// What has become of the records.
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
