//! Collects the contents of the records: which clients hold which pins, who presents which keys, and what
//! could not be read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hpkp_core::check::HeardFile;
use hpkp_core::date;
use hpkp_core::pin::Pin;
use hpkp_core::published::state::{Live, Record, Retention};
use hpkp_core::published::{
    HostName, Lifetime, Matching, Origin, Presents, Published, Scope, WriterName,
    binding as entries,
};
use hpkp_core::text::Excerpt;
use hpkp_server::published::Reserved;

use super::next_keys;
use super::report::{
    Answer, DirectoryReport, Expiry, Held, HostReport, LastDrill, Level, Next, NextStep, OnRecord,
    Problem, Recorded, Report, StepKind, Time, WriterReport,
};
use super::target::Target;
use crate::exit::Exit;
use crate::keys::drills::{self, Drill};
use crate::output::{self, JSON_VERSION, counted};
use crate::published::advice;
use crate::published::store::{self, Store, Survey};
use crate::published::view::{self, PublishedView};

/// The report, as far as it follows from the records.
pub(super) fn report(survey: &Survey, paths: &[String], targets: &[Target]) -> Report {
    let store = &survey.store;
    let mut problems = Vec::new();
    for (path, error) in &survey.errors {
        let failure = store::failure(path, error);
        let level = if failure.exit == Exit::No { Level::Error } else { Level::Unknown };
        problems.push(Problem { level, what: failure.text });
    }
    let odd = |what: &String| Problem::warning(what.clone());
    problems.extend(survey.oddities.iter().map(odd));
    problems.extend(clock(store));
    let (directories, reserved) = directories(survey, paths, &mut problems);
    let writers = writers(store, &reserved, &mut problems);
    let drills = all_drills(paths, &mut problems);
    let mut hosts = hosts(store, targets);
    next_keys::add(store, paths, &mut hosts, &mut problems, targets.is_empty());
    Report {
        v: JSON_VERSION,
        at: Time(store.now),
        answer: Answer::NotAsked,
        offline: false,
        directories,
        writers,
        last_drill: last_drill(store, &drills),
        drills,
        hosts,
        next: Vec::new(),
        problems,
    }
}

/// The recorded drills of all directories.
fn all_drills(paths: &[String], problems: &mut Vec<Problem>) -> Vec<Drill> {
    let mut all = Vec::new();
    for path in paths {
        match drills::read(path.as_ref()) {
            Ok(drills) => all.extend(drills),
            Err(error) => problems
                .push(Problem::unknown(format!("cannot read the record of drills: {error}"))),
        }
    }
    all
}

/// The last drill with a backup key. A key in use is none.
fn last_drill(store: &Store, drills: &[Drill]) -> Option<LastDrill> {
    let hosts = store.state.presents().map(|record| &record.body.host).collect();
    let in_use = store.state.presented_keys(&hosts);
    drills::last(drills, |pin| !in_use.contains(&pin)).map(Into::into)
}

/// A problem if the clock is before the newest record: pins then seem to be held for a longer or shorter
/// time.
fn clock(store: &Store) -> Option<Problem> {
    let newest = store.state.latest().filter(|newest| *newest > store.now)?;
    let what = format!(
        "the clock is at {}, before the newest record ({}); set the clock",
        date::format(store.now),
        date::format(newest)
    );
    Some(Problem::unknown(what))
}

fn directories(
    survey: &Survey,
    paths: &[String],
    problems: &mut Vec<Problem>,
) -> (Vec<DirectoryReport>, HashMap<WriterName, Recorded>) {
    let mut reserved = HashMap::new();
    let report = |path: &String| {
        let errors = survey.errors.iter().filter(|(of, _)| of == path);
        let opened = survey.store.directories().iter().find(|one| one.path() == path);
        let mut damaged_slots = 0;
        if let Some(directory) = opened {
            match directory.all_reserved() {
                Ok((slots, damaged)) => {
                    damaged_slots = damaged;
                    reserved.extend(slots.into_iter().map(|(writer, slot)| (writer, slot.into())));
                }
                Err(error) => problems.push(Problem::unknown(format!(
                    "{}/hpkp-reserve: {}; a failed write may be noted in it",
                    store::shown(path),
                    output::os(&error)
                ))),
            }
            if damaged_slots > 0 {
                let what = format!(
                    "{}/hpkp-reserve: {} damaged; a failed write may have been noted there; reload the \
                     servers that write here",
                    store::shown(path),
                    counted(damaged_slots, "slot")
                );
                problems.push(Problem::unknown(what));
            }
        }
        DirectoryReport {
            path: path.clone(),
            usable: opened.is_some(),
            unread: errors.filter_map(|(_, error)| error.file().map(str::to_owned)).collect(),
            damaged_slots,
        }
    };
    (paths.iter().map(report).collect(), reserved)
}

impl From<Reserved> for Recorded {
    fn from(slot: Reserved) -> Self {
        match slot {
            Reserved::Recorded(_) => Self::Yes,
            Reserved::Unrecorded(_) => Self::No,
            Reserved::Damaged => Self::Unknown,
            Reserved::None => Self::NotNoted,
        }
    }
}

fn writers(
    store: &Store,
    reserved: &HashMap<WriterName, Recorded>,
    problems: &mut Vec<Problem>,
) -> Vec<WriterReport> {
    let state = &store.state;
    let mut names: BTreeMap<WriterName, bool> =
        state.writers().map(|(writer, own)| (writer.clone(), own)).collect();
    // A writer whose writes have all failed has a slot in `hpkp-reserve` and no file.
    names
        .extend(reserved.keys().filter(|name| !state.knows(name)).map(|name| (name.clone(), true)));
    let heard = heard(store, problems);
    let report = |(writer, own): (WriterName, bool)| {
        let heard = heard.get(&writer).copied().filter(|_| !own);
        let recorded = match own {
            true => reserved.get(&writer).copied().unwrap_or(Recorded::NotNoted),
            false => Recorded::NotNoted,
        };
        if recorded == Recorded::No {
            let what = format!(
                "{writer}: the configuration that this server uses could not be recorded, so this answer \
                 may be of an earlier one; make room on the disk, then reload the server"
            );
            problems.push(Problem::unknown(what));
        }
        let missing = state.lost(&writer).into_iter().map(|sight| sight.writer.to_string());
        let missing: BTreeSet<String> = missing.filter(|_| own).collect();
        if !missing.is_empty() {
            let names = missing.iter().cloned().collect::<Vec<_>>().join(", ");
            let what = format!(
                "records of {names} that {writer} has read are missing: copy their files to peers/ again; if a \
                 server is gone for good: {}",
                store.command("end --writer NAME --why REASON")
            );
            problems.push(Problem::unknown(what));
        }
        let last_configuration = state.accepted_at(&writer);
        let withheld = state.last_accepted(&writer).withheld;
        let withheld: Vec<String> =
            withheld.keys().map(|(host, matching)| matching.pattern(host)).collect();
        for host in withheld.iter().filter(|_| own) {
            let what = format!(
                "{host}: {writer} sends no Public-Key-Pins header: clients would have been locked out, or \
                 might have been while another machine was silent"
            );
            problems.push(Problem::warning(what));
        }
        WriterReport {
            own,
            last_record: state.newest(&writer).map(Time),
            last_configuration: last_configuration.map(Time),
            stopped: last_configuration.map(|_| state.has_stopped(&writer)),
            heard: heard.map(Time),
            silent_for: heard.map(|at| store.now - at).filter(|age| *age >= 0),
            recorded,
            withheld,
            missing: missing.into_iter().collect(),
            writer: writer.to_string(),
        }
    };
    names.into_iter().map(report).collect()
}

/// When this machine last received a heartbeat of each other writer; the newest time of all directories.
fn heard(store: &Store, problems: &mut Vec<Problem>) -> HashMap<WriterName, i64> {
    let mut heard: HashMap<WriterName, i64> = HashMap::new();
    for directory in store.directories() {
        match directory.heard() {
            HeardFile::Missing => {}
            HeardFile::Unusable(why) => problems.push(Problem::unknown(format!(
                "{}: {why}, so it is not known when other machines were last heard from; remove the \
                 file, then run hpkp sync",
                store::shown(&directory.heard_path())
            ))),
            HeardFile::Read(all) => {
                for (writer, one) in all {
                    let at = heard.entry(writer).or_insert(one.at);
                    *at = one.at.max(*at);
                }
            }
        }
    }
    heard
}

type Name = (HostName, Matching);

/// The live records, by host.
type ByHost<'a> = HashMap<&'a str, Vec<Live<'a>>>;

fn hosts(store: &Store, targets: &[Target]) -> Vec<HostReport> {
    let mut by_host = ByHost::new();
    for live in store.state.live(store.now) {
        by_host.entry(live.record.body.host.as_str()).or_default().push(live);
    }
    let presents: Vec<&Record<Presents>> = store
        .state
        .presents()
        .filter(|record| !record.body.aside && store.state.is_presented(record))
        .collect();
    let mut withheld: BTreeMap<Name, Vec<String>> = BTreeMap::new();
    for (writer, _) in store.state.writers() {
        for (host, matching) in store.state.last_accepted(writer).withheld.into_keys() {
            withheld.entry((host.clone(), matching)).or_default().push(writer.to_string());
        }
    }
    let named = |target: &Target| (target.host.clone(), Matching::Exact);
    let names: BTreeSet<Name> = match targets {
        [] => {
            let held = by_host.values().flatten().map(|live| &live.record.body);
            let held = held.map(|body| (body.host.clone(), body.matching));
            let presented = presents.iter().map(|one| (one.body.host.clone(), one.body.matching));
            let bound = presented.filter(|name| binding(&by_host, name).next().is_some());
            held.chain(bound).chain(withheld.keys().cloned()).collect()
        }
        targets => targets.iter().map(named).collect(),
    };
    let mut presented: HashMap<&HostName, Vec<&Record<Presents>>> = HashMap::new();
    for record in presents {
        presented.entry(&record.body.host).or_default().push(record);
    }
    let report = |name: Name| {
        let withheld_by = withheld.get(&name).cloned().unwrap_or_default();
        let on_record = on_record(&presented, &name);
        let live = binding(&by_host, &name).collect();
        let mut report = host(store, name, live, on_record, withheld_by);
        let itself = (report.name.0.clone(), Matching::Exact);
        if report.name.1 == Matching::AnyDepth && names.contains(&itself) {
            report.not_asked = Some("the host itself is listed besides");
        }
        report
    };
    names.iter().cloned().map(report).collect()
}

/// The live records that apply to a host: those of its own name and of its parent domains.
fn binding<'a>(by_host: &'a ByHost<'a>, name: &Name) -> impl Iterator<Item = Live<'a>> {
    let one = name.1.any_of(&name.0);
    let above: Vec<String> = one.with_superdomains().map(str::to_owned).collect();
    let live = above.into_iter().filter_map(|name| by_host.get(name.as_str())).flatten().copied();
    live.filter(move |live| live.record.body.binds(&one))
}

fn host(
    store: &Store,
    name: Name,
    mut live: Vec<Live<'_>>,
    on_record: Vec<OnRecord>,
    withheld_by: Vec<String>,
) -> HostReport {
    live.sort_by_key(|live| (live.record.at, live.record.id));
    let ends = || {
        live.iter().map(|live| match live.retention {
            Retention::Until(time) => Some(time),
            Retention::WhilePublished(_) | Retention::Indefinite => None,
        })
    };
    let free_from = ends().collect::<Option<Vec<i64>>>().and_then(|ends| ends.into_iter().max());
    let is_pattern = name.1 == Matching::OneLabel;
    HostReport {
        host: name.1.pattern(&name.0),
        answer: Answer::NotAsked,
        not_asked: is_pattern
            .then_some("a pattern names no host; ask for one of its hosts by name"),
        published: live.iter().map(|live| PublishedView::new(store, live.record)).collect(),
        held: live.iter().map(|live| held(store, live)).collect(),
        earliest_expiry: ends().flatten().min().map(Time),
        free_from: free_from.map(Time),
        withheld_by,
        on_record,
        served: Vec::new(),
        backup_pins: Vec::new(),
        backup_drills: BTreeMap::new(),
        next_keys: Vec::new(),
        next_step: NextStep { kind: StepKind::Free, at: None, advice: Vec::new() },
        name,
    }
}

fn held(store: &Store, live: &Live<'_>) -> Held {
    let body = &live.record.body;
    let end = store.state.end(live.record.id).map(|end| end.at);
    let (until, after) = match live.retention {
        Retention::Until(time) => (Some(time), None),
        Retention::WhilePublished(after) => (None, Some(after)),
        Retention::Indefinite => (None, None),
    };
    let who = match (&body.origin, body.lifetime) {
        (Origin::Header, _) => format!("header of {}", live.record.writer),
        (origin, _) => Excerpt::new(origin.as_str()).to_string(),
    };
    Held {
        id: live.record.id,
        what: who,
        pins: body.pins.clone(),
        tlsa: view::tlsa(body),
        from: body.since.unwrap_or(live.record.at),
        // The end of publication matters only for pins that clients note at a visit. Other pins are
        // published as long as they are held.
        published_until: end.filter(|_| matches!(body.lifetime, Lifetime::MaxAge(_))),
        until,
        after,
        waived: live.waiver.is_some(),
    }
}

/// The keys that are presented for a host according to the records.
fn on_record(
    presented: &HashMap<&HostName, Vec<&Record<Presents>>>,
    (host, matching): &Name,
) -> Vec<OnRecord> {
    let own = presented.get(host).into_iter().flatten();
    let own = own.filter(|one| one.body.matching == *matching || *matching == Matching::AnyDepth);
    let parent = host.parents().next().and_then(|parent| parent.parse::<HostName>().ok());
    let above = parent.as_ref().and_then(|parent| presented.get(parent)).into_iter().flatten();
    let above = above.filter(|one| {
        one.body.matching == Matching::OneLabel
            && *matching != Matching::OneLabel
            && !one.body.host.as_str().is_empty()
    });
    let report = |record: &&Record<Presents>| OnRecord {
        writer: record.writer.to_string(),
        ports: record.body.ports.clone(),
        leaves: record
            .body
            .certificates
            .iter()
            .filter_map(|one| one.served.first().copied().flatten())
            .map(|pin| format!("sha256/{pin}"))
            .collect(),
        since: Time(record.at),
    };
    let own: Vec<OnRecord> = own.map(report).collect();
    match own.is_empty() {
        true => above.map(report).collect(),
        false => own,
    }
}

/// Computes the conclusions: the answer, the next steps, and what expires next.
pub(super) fn conclude(store: &Store, report: &mut Report) {
    let mut next = BTreeMap::new();
    for host in &mut report.hosts {
        host.answer = host.served.iter().fold(Answer::NotAsked, |all, one| all.and(one.answer));
        report.answer = report.answer.and(host.answer);
        let held = host.held.iter().filter(|held| !held.waived);
        let records: Vec<&Record<Published>> =
            held.filter_map(|held| store.state.published_by(held.id)).collect();
        host.backup_pins = backup_pins(store, host, &records);
        // A next key is stored on the server, so it is no backup.
        host.backup_pins.retain(|pin| host.next_keys.iter().all(|key| key.pin != *pin));
        let drilled = |pin: &String| {
            let of: Pin = pin.parse().ok()?;
            let drill = drills::last(&report.drills, |one| one == of)?;
            Some((pin.clone(), Time(drill.at)))
        };
        host.backup_drills = host.backup_pins.iter().filter_map(drilled).collect();
        host.next_step = next_step(store, host, &records);
        for held in &host.held {
            if let Some(at) = held.until {
                let of = held.id.to_string();
                next.entry((at, of)).or_insert((host.host.clone(), Expiry::Pins));
            }
        }
        for key in host.served.iter().flat_map(|one| &one.chains).filter_map(|chain| chain.first())
        {
            if let Some(at) = key.not_after.as_deref().and_then(date::parse) {
                let of = key.pin.clone();
                next.entry((at, of)).or_insert((host.host.clone(), Expiry::Certificate));
            }
        }
    }
    let next = next.into_iter();
    report.next =
        next.map(|((at, of), (host, what))| Next { at: Time(at), host, what, of }).collect();
}

/// The pins of keys that are not presented and that every client of the host accepts, except those that were given up:
/// a certificate with such a key may be installed today.
fn backup_pins(store: &Store, host: &HostReport, records: &[&Record<Published>]) -> Vec<String> {
    let presented: BTreeSet<&str> = presented_pins(host).collect();
    let suffices = |record: &Record<Published>, pin: Pin| {
        let entries = records.iter().map(|other| &other.body);
        let mut united = entries::united(&record.body, entries).into_iter();
        united.any(|(scope, pins)| {
            matches!(scope, Scope::Chain | Scope::Leaf) && pins.binary_search(&pin).is_ok()
        })
    };
    if presented.is_empty() {
        return Vec::new();
    }
    let all: BTreeSet<Pin> = records.iter().flat_map(|record| &record.body.pins).copied().collect();
    all.into_iter()
        .filter(|pin| !store.state.is_compromised(*pin))
        .filter(|pin| records.iter().all(|record| suffices(record, *pin)))
        .map(|pin| format!("sha256/{pin}"))
        .filter(|pin| !presented.contains(pin.as_str()))
        .collect()
}

/// The pins of all presented keys: those that the servers presented, or else those on record.
pub(super) fn presented_pins(host: &HostReport) -> impl Iterator<Item = &str> {
    let seen = host.served.iter().flat_map(|one| &one.chains).flatten();
    let seen = seen.map(|key| key.pin.as_str());
    let is_seen = host.served.iter().any(|one| !one.chains.is_empty());
    let recorded = host.on_record.iter().filter(move |_| !is_seen).flat_map(|one| &one.leaves);
    seen.chain(recorded.map(String::as_str))
}

fn next_step(store: &Store, host: &HostReport, records: &[&Record<Published>]) -> NextStep {
    let locks_out: BTreeSet<&String> = host.served.iter().flat_map(|one| &one.locks_out).collect();
    if host.answer == Answer::No {
        let mut advice =
            vec!["load a certificate for a key of which each client holds a pin".to_owned()];
        let show = |id| format!("why: {}", store.command(&format!("show {id}")));
        advice.extend(locks_out.into_iter().map(show));
        return NextStep { kind: StepKind::LoadPinnedKey, at: Some(Time(store.now)), advice };
    }
    if records.is_empty() {
        return NextStep { kind: StepKind::Free, at: None, advice: Vec::new() };
    }
    let held = host.held.iter().filter(|one| !one.waived);
    let is_open = held.clone().any(|one| one.until.is_none() && one.after.is_none());
    let at = held.filter_map(|one| match one.after {
        Some(after) => Some(store.now.saturating_add(after)),
        None => one.until,
    });
    let at = at.max().map(Time);
    let advice = advice::later(store, records);
    match is_open {
        true => NextStep { kind: StepKind::EndRecords, at: None, advice },
        false => NextStep { kind: StepKind::ChangeKey, at, advice },
    }
}
