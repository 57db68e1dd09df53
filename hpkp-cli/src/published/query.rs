//! The commands that read records: `list`, `show`, `why` and `verify`.

use std::collections::HashMap;

use hpkp_core::date;
use hpkp_core::published::Published;
use hpkp_core::published::state::{Record, Retention};
use serde::Serialize;

use super::other_hosts::{self, OtherHost};
use super::replay::{Files, Replay};
use super::store::{Store, shown};
use super::view::{PresentsView, PublishedView};
use crate::arguments::{ListArguments, ShowArguments, WhyArguments};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, JSON_VERSION};

/// The JSON output of `list`.
#[derive(Debug, Serialize)]
struct Listed {
    v: u32,
    published: Vec<PublishedView>,
    /// The hosts among them whose pins all expire.
    free: Vec<Free>,
}

/// A host for which the expiry of the last pin is known.
#[derive(Debug, Serialize)]
struct Free {
    host: String,
    /// The time after which no client holds pins for the host, unless more are published.
    from: String,
}

/// The JSON output of `why`.
#[derive(Debug, Serialize)]
struct Bound {
    v: u32,
    published: Vec<PublishedView>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    replay: Option<Replay>,
    /// The other names in the certificates whose clients do not certainly accept them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_hosts: Vec<OtherHost>,
}

/// The JSON output of `show`.
#[derive(Debug, Serialize)]
struct ShowOutput {
    v: u32,
    published: Vec<PublishedView>,
    presents: Vec<PresentsView>,
}

/// The JSON output of `verify`.
#[derive(Debug, Serialize)]
struct Verified {
    v: u32,
    published: usize,
    held: usize,
    waived: usize,
    presents: usize,
    /// Files with an incomplete last line.
    torn: Vec<String>,
    /// Whether records are newer than the clock.
    clock_behind: bool,
    /// Files `hpkp-heard` that cannot be used.
    unusable_heard: Vec<String>,
}

pub(super) fn list(store: &Store, arguments: &ListArguments, json: bool) -> Exit {
    let mut records: Vec<_> = store
        .state
        .published()
        .filter(|record| {
            let retention = store.state.retention(record, &store.clock);
            arguments.all || retention.is_some_and(|retention| retention.holds(store.now))
        })
        .collect();
    records.sort_by_key(|record| (&record.body.host, record.body.matching, record.at, record.id));
    let free = free(store, &records);
    let published: Vec<_> =
        records.into_iter().map(|record| PublishedView::new(store, record)).collect();
    let written = if json {
        output::json(&Listed { v: JSON_VERSION, published, free })
    } else {
        if published.is_empty() {
            output::complain("no recorded pins that clients may still hold");
        }
        let lines = published.iter().map(PublishedView::line);
        let free = free.iter().map(|Free { host, from }| {
            format!("{host}: all pins expire by {from}, unless more are published")
        });
        lines.chain(free).try_for_each(|line| output::line(&line))
    };
    output::ended(Exit::Fine, written)
}

/// The hosts of `records`, which are sorted by host, whose pins all expire at a known time: no pin is still
/// published, and none lacks an expiry.
fn free(store: &Store, records: &[&Record<Published>]) -> Vec<Free> {
    let mut by_host: HashMap<&str, Vec<&Record<Published>>> = HashMap::new();
    for record in store.state.published() {
        by_host.entry(record.body.host.as_str()).or_default().push(record);
    }
    let mut names: Vec<_> =
        records.iter().map(|record| (&record.body.host, record.body.matching)).collect();
    names.dedup();
    let free = names.into_iter().filter_map(|(host, matching)| {
        let one = matching.any_of(host);
        let records = one.with_superdomains().filter_map(|name| by_host.get(name)).flatten();
        let binding = records.filter(|record| record.body.binds(&one));
        match binding.filter_map(|record| store.state.retention(record, &store.clock)).max()? {
            Retention::Until(time) => {
                Some(Free { host: matching.pattern(host), from: date::format(time) })
            }
            Retention::WhilePublished(_) | Retention::Indefinite => None,
        }
    });
    free.collect()
}

pub(super) fn show(store: &Store, arguments: &ShowArguments, json: bool) -> Result<Exit, Failure> {
    let mut all = ShowOutput { v: JSON_VERSION, published: Vec::new(), presents: Vec::new() };
    for id in store.resolve(&arguments.ids)? {
        match (store.state.published_by(id), store.state.presents_by(id)) {
            (Some(record), _) => all.published.push(PublishedView::new(store, record)),
            (None, record) => {
                all.presents.extend(record.map(|record| PresentsView::new(store, record)));
            }
        }
    }
    let written = if json {
        output::json(&all)
    } else {
        let published = all.published.iter().map(|view| (view.line(), view.details()));
        let presents = all.presents.iter().map(|view| (view.line(), view.details()));
        published.chain(presents).try_for_each(|(line, details)| {
            output::line(&line)?;
            details.iter().try_for_each(|detail| output::line(&format!("    {detail}")))
        })
    };
    Ok(output::ended(Exit::Fine, written))
}

pub(super) fn why(store: &Store, arguments: &WhyArguments, json: bool) -> Result<Exit, Failure> {
    let host = super::add::host(&arguments.host)?;
    let mut records: Vec<_> = store
        .state
        .live(store.now)
        .map(|live| live.record)
        .filter(|record| record.body.binds(&host))
        .collect();
    records.sort_by_key(|record| (record.at, record.id));
    let published: Vec<_> =
        records.into_iter().map(|record| PublishedView::new(store, record)).collect();
    if published.is_empty() && !json {
        output::complain(&format!("no recorded pins apply to {host}"));
        if let Some(id) = arguments.host.parse().ok().and_then(|id| store.resolve(&[id]).ok()) {
            let ids = id.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let command = store.command(&format!("show {ids}"));
            output::complain(&format!("this is the id of a record: {command}"));
        }
    }
    let (replay, other_hosts) = match &arguments.cert[..] {
        [] => (None, Vec::new()),
        _ => {
            let files = Files::read(arguments)?;
            let replay = Replay::new(store, &host, arguments, &files)?;
            (Some(replay), other_hosts::of(store, &host, arguments, &files)?)
        }
    };
    let exit = replay.as_ref().map_or(Exit::Fine, |replay| replay.exit(arguments.deny_warnings));
    let written = if json {
        output::json(&Bound { v: JSON_VERSION, published, replay, other_hosts })
    } else {
        let mut lines = match &replay {
            Some(replay) => replay.lines(store, arguments, None),
            None => published.iter().flat_map(PublishedView::in_full).collect(),
        };
        // After the answer and the certificates. The last lines are what locks clients out.
        let place = lines.len().min(1 + arguments.cert.len());
        lines.splice(place..place, other_hosts::lines(&other_hosts));
        lines.iter().try_for_each(|line| output::line(line))
    };
    Ok(output::ended(exit, written))
}

pub(super) fn verify(store: &Store, json: bool) -> Exit {
    let state = &store.state;
    let newest = state.latest();
    let verified = Verified {
        v: JSON_VERSION,
        published: state.published().count(),
        held: state.live(store.now).count(),
        waived: state.live(store.now).filter(|live| live.waiver.is_some()).count(),
        presents: state.presents().filter(|record| state.end(record.id).is_none()).count(),
        torn: store.torn.iter().map(|(file, _)| file.clone()).collect(),
        clock_behind: newest.is_some_and(|newest| newest > store.now),
        unusable_heard: store.unusable_heard().map(|(file, _)| file).collect(),
    };
    for (file, why) in store.unusable_heard() {
        output::complain(&format!(
            "{}: {why}, so it is not known when other machines were last heard from; remove the file, then \
             run hpkp sync",
            shown(&file)
        ));
    }
    for (by, excess) in state.overreach(store.now, |_, _| true) {
        let of: Vec<String> =
            excess.of.iter().chain(&excess.gone).map(ToString::to_string).collect();
        output::complain(&format!(
            "the copy of {by} ends or waives records of {} (ended: {}, waived: {}, writers declared gone: {}); \
             ignored: a copy can only end records of its own writer",
            of.join(", "),
            excess.ends,
            excess.waives,
            excess.gone.len()
        ));
    }
    if let Some(newest) = newest.filter(|_| verified.clock_behind) {
        output::complain(&format!(
            "the clock is at {}, before the newest record ({}); set the clock",
            date::format(store.now),
            date::format(newest)
        ));
    }
    let written = if json {
        output::json(&verified)
    } else {
        output::line(&format!(
            "{}: {} of published pins, {} not expired ({} waived); {} of presented keys",
            store.paths(),
            output::counted(verified.published, "record"),
            verified.held,
            verified.waived,
            verified.presents
        ))
    };
    let is_unknown = verified.clock_behind || !verified.unusable_heard.is_empty();
    output::ended(if is_unknown { Exit::Undetermined } else { Exit::Fine }, written)
}
