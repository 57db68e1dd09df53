//! Reads other machines' records by an index, as a server does: only the lines that concern a configuration.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use hpkp_core::check::{Concern, Deployment};
use hpkp_core::published::index::{self, Builder, Index, Place, Section, Stamp, event};
use hpkp_core::published::state::Standing;
use hpkp_core::published::{Event, State, WriterName};

/// How many lines were read in all.
pub static READ: AtomicUsize = AtomicUsize::new(0);
/// How many lines the records had in all.
pub static ALL: AtomicUsize = AtomicUsize::new(0);

/// The result of reading records by an index.
#[derive(Debug)]
pub struct Listed {
    /// The state after the lines that were read.
    pub state: State,
    /// The concern by which the lines were chosen.
    pub concern: Concern,
}

/// Reads all events of this machine, and the events of other machines that concern a configuration.
#[must_use]
#[track_caller]
pub fn read(own: &[&Event], peers: &[&Event], deployment: &Deployment) -> Listed {
    let mut state = State::default();
    own.iter().for_each(|event| state.add(event));
    let mut concern = Concern::of(deployment);
    concern.add_recorded(&state);
    let mut files: BTreeMap<&WriterName, (String, Builder)> = BTreeMap::new();
    let stamp = Stamp { inode: 1, length: 0, modified: (0, 0), changed: (0, 0) };
    for &event in peers {
        // Some copies have changed since they were indexed, and are read as a whole.
        if (peers.len() + event.writer().as_str().len()) % 4 == 0 {
            state.take(event.clone(), Standing::Peer);
            continue;
        }
        let (text, builder) = files.entry(event.writer()).or_default();
        let place = Place { start: text.len() as u64, length: event.line().len() as u64 };
        builder.add(event, place);
        writeln!(text, "{}", event.line()).expect("memory");
    }
    let mut texts = BTreeMap::new();
    let mut sections = Vec::new();
    for (writer, (text, builder)) in files {
        sections.push(builder.finish(writer, stamp));
        texts.insert(writer, text);
    }
    let text = index::write(sections.iter().map(String::as_str));
    let index = Index::open(text.as_bytes()).expect("the digest is right");
    let all = index.sections().expect("sections");
    assert!(all.iter().map(|(.., section)| *section).eq(sections.iter().map(String::as_str)));
    concern.complete(&state, index).expect("an index");
    let mut sections = index.read(|host, by_port| concern.has(host, by_port)).expect("an index");
    let take = |state: &mut State, writer: &WriterName, places: &[Place]| {
        let text = texts[writer].as_bytes();
        for place in places {
            let line = &text[place.start as usize..(place.start + place.length) as usize];
            state.take_listed(event(line, writer).expect("a line"));
        }
        READ.fetch_add(places.len(), Ordering::Relaxed);
    };
    for writer in texts.keys() {
        let Section { summary, places, .. } = &sections[*writer];
        state.take_summary(writer, summary);
        take(&mut state, writer, places);
    }
    let known = state.prefixes();
    for (writer, section) in &mut sections {
        if section.speaks_of(&known) {
            take(&mut state, writer, &std::mem::take(&mut section.rest));
        }
    }
    let lines: usize = texts.values().map(|text| text.lines().count()).sum();
    ALL.fetch_add(lines, Ordering::Relaxed);
    Listed { state, concern }
}
