//! What the records say: `list`, `show`, `why` and `verify`.

use hpkp_core::date;
use hpkp_core::published::{HostName, Matching, Published};
use serde::Serialize;

use super::store::{Failure, Store, shown};
use super::view::{PresentsView, PublishedView};
use crate::arguments::{ListArguments, ShowArguments, WhyArguments};
use crate::exit::Exit;
use crate::output::{self, JSON_VERSION};

/// What `list` and `why` print as JSON.
#[derive(Debug, Serialize)]
struct Records {
    v: u32,
    published: Vec<PublishedView>,
}

/// What `show` prints as JSON.
#[derive(Debug, Serialize)]
struct Shown {
    v: u32,
    published: Vec<PublishedView>,
    presents: Vec<PresentsView>,
}

/// What `verify` prints as JSON.
#[derive(Debug, Serialize)]
struct Verified {
    v: u32,
    published: usize,
    held: usize,
    waived: usize,
    presents: usize,
    /// Files whose last line was never finished.
    torn: Vec<String>,
    /// Whether records are newer than the clock says it is.
    clock_behind: bool,
}

pub(super) fn list(store: &Store, arguments: &ListArguments, json: bool) -> Exit {
    let mut records: Vec<_> = store
        .state
        .published()
        .filter(|record| {
            let binding = store.state.binding(record);
            arguments.all || binding.is_some_and(|binding| binding.holds(store.now))
        })
        .collect();
    records.sort_by_key(|record| (&record.said.host, record.at, record.id));
    let published: Vec<_> =
        records.into_iter().map(|record| PublishedView::new(store, record)).collect();
    let written = if json {
        output::json(&Records { v: JSON_VERSION, published })
    } else {
        published.iter().try_for_each(|view| output::line(&view.line()))
    };
    output::ended(Exit::Fine, written)
}

pub(super) fn show(store: &Store, arguments: &ShowArguments, json: bool) -> Result<Exit, Failure> {
    let mut all = Shown { v: JSON_VERSION, published: Vec::new(), presents: Vec::new() };
    for id in &arguments.ids {
        match (store.published(*id), store.presents(*id)) {
            (Some(record), _) => all.published.push(PublishedView::new(store, record)),
            (None, Some(record)) => all.presents.push(PresentsView::new(store, record)),
            (None, None) => return Err(unknown(*id)),
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

/// What is said of an id that no record has.
pub(super) fn unknown(id: hpkp_core::published::EventId) -> Failure {
    Failure::no(format!("no record of published pins or presented keys has the id {id}"))
}

pub(super) fn why(store: &Store, arguments: &WhyArguments, json: bool) -> Result<Exit, Failure> {
    let host = super::add::host(&arguments.host)?;
    let mut records: Vec<_> = store
        .state
        .live(store.now)
        .map(|live| live.record)
        .filter(|record| binds(&record.said, &host))
        .collect();
    records.sort_by_key(|record| (record.at, record.id));
    let published: Vec<_> =
        records.into_iter().map(|record| PublishedView::new(store, record)).collect();
    if published.is_empty() && !json {
        output::complain(&format!("no client is known to hold pins for {host}"));
    }
    let written = if json {
        output::json(&Records { v: JSON_VERSION, published })
    } else {
        published.iter().try_for_each(|view| {
            output::line(&view.line())?;
            view.details().iter().try_for_each(|detail| output::line(&format!("    {detail}")))
        })
    };
    Ok(output::ended(Exit::Fine, written))
}

/// Whether a client that holds `said` holds `host` to it.
fn binds(said: &Published, host: &HostName) -> bool {
    let is_above = host.parents().any(|domain| domain == said.host.as_str());
    let is_child = host.parents().next() == Some(said.host.as_str());
    match said.matching {
        Matching::AnyDepth => is_above || *host == said.host,
        Matching::Exact => *host == said.host || (is_above && said.include_subdomains),
        Matching::OneLabel if is_child => !said.except.contains(host),
        Matching::OneLabel => is_above && said.include_subdomains,
    }
}

pub(super) fn verify(store: &Store, json: bool) -> Exit {
    let state = &store.state;
    let times = state.published().map(|record| record.at);
    let newest = times.chain(state.presents().map(|record| record.at)).max();
    let verified = Verified {
        v: JSON_VERSION,
        published: state.published().count(),
        held: state.live(store.now).count(),
        waived: state.live(store.now).filter(|live| live.waiver.is_some()).count(),
        presents: state.presents().filter(|record| state.end(record.id).is_none()).count(),
        torn: store.torn.iter().map(|(file, _)| file.clone()).collect(),
        clock_behind: newest.is_some_and(|newest| newest > store.now),
    };
    if let Some(newest) = newest.filter(|_| verified.clock_behind) {
        output::complain(&format!(
            "the clock says {}, and the newest record is of {}",
            date::format(store.now),
            date::format(newest)
        ));
    }
    let written = if json {
        output::json(&verified)
    } else {
        output::line(&format!(
            "{}: {} records of published pins, {} of them held ({} waived); {} of presented keys",
            shown(store.path()),
            verified.published,
            verified.held,
            verified.waived,
            verified.presents
        ))
    };
    output::ended(if verified.clock_behind { Exit::Undetermined } else { Exit::Fine }, written)
}

#[cfg(test)]
mod tests {
    use hpkp_core::pin::Pin;
    use hpkp_core::published::{Lifetime, Origin, Scope};

    use super::*;

    #[test]
    fn who_is_bound() {
        let said = |matching, include_subdomains| Published {
            host: "example.com".parse().unwrap(),
            matching,
            except: vec!["free.example.com".parse().unwrap()],
            include_subdomains,
            scope: Scope::Chain,
            port: None,
            pins: vec![Pin::from_octets([1; 32])],
            lifetime: Lifetime::Open,
            origin: Origin::Header,
            since: None,
        };
        let hosts = [
            "example.com",
            "a.example.com",
            "free.example.com",
            "b.a.example.com",
            "notexample.com",
        ];
        for (matching, include_subdomains, bound) in [
            (Matching::Exact, false, [true, false, false, false, false]),
            (Matching::Exact, true, [true, true, true, true, false]),
            (Matching::OneLabel, false, [false, true, false, false, false]),
            (Matching::OneLabel, true, [false, true, false, true, false]),
            (Matching::AnyDepth, false, [true, true, true, true, false]),
        ] {
            let said = said(matching, include_subdomains);
            let found = hosts.map(|host| binds(&said, &host.parse().unwrap()));
            assert_eq!(found, bound, "{matching:?} {include_subdomains}");
        }
    }
}
