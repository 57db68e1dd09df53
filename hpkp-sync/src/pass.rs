//! One pass: writes this machine's new records into the store, then copies the records of the other machines, then
//! evaluates and writes heartbeats.
//!
//! New records are visible in the store before the records of others are listed. So if two machines write at the same
//! time, at least one of them receives the records of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hpkp_core::published::heard::{self, AllHeard, Heard};
use hpkp_core::published::state::DRAINING;
use hpkp_core::published::{EventId, WriterName};
use hpkp_server::file::if_there;
use hpkp_server::published::{Directory, PEERS};

use crate::heartbeat::{Heartbeat, MAX_SEEN};
use crate::memory::{Carried, Memory};
use crate::peers::{Peers, PutError};
use crate::records::{Newest, Records};
use crate::report::{Code, Moved, Report};
use crate::signed::Keys;
use crate::store::{Extent, Outgoing, Piece, Place, Remote, Store, StoreError, Wanted};
use crate::{disk, index, mismatch, now, own};

/// How often a pass is tried if the store changes during it.
const TRIES: u32 = 3;

/// How long to wait for another pass on this directory.
const PATIENCE: Duration = Duration::from_secs(60);

type Remotes = BTreeMap<WriterName, Remote>;

/// The state of a running pass.
pub(crate) struct Pass<'a> {
    directory: &'a Directory,
    store: &'a mut dyn Store,
    memory_path: PathBuf,
    memory: Memory,
    peers: Peers,
    keys: &'a Keys,
    report: &'a mut Report,
}

/// Runs a pass. Returns whether the pass could examine the whole content of the store.
pub(crate) fn run(
    directory: &Directory,
    place: &Place,
    store: &mut dyn Store,
    keys: &Keys,
    report: &mut Report,
) -> bool {
    let path = Path::new(directory.path());
    let lock_path = path.join("hpkp-sync-lock");
    let failed = |path: &Path, error: io::Error| {
        format!("{}: {}", path.display(), hpkp_cli::sync::os(&error))
    };
    let begun = locked(&lock_path).map_err(|error| failed(&lock_path, error)).and_then(|lock| {
        let peers = Peers::open(path).map_err(|error| failed(&path.join(PEERS), error))?;
        Ok((lock, peers))
    });
    let (_lock, peers) = match begun {
        Ok(begun) => begun,
        Err(text) => {
            report.add(Code::PeerUnwritable, text);
            return false;
        }
    };
    let memory_path = Memory::path(path, place);
    let memory = Memory::read(&memory_path, place);
    let mut pass = Pass { directory, store, memory_path, memory, peers, keys, report };
    let done = pass.run_with_retries();
    // After errors too: some copies may have arrived, and other programs may have written copies.
    index::refresh(directory, report);
    match done {
        Ok(()) => {
            report.has_looked = true;
            if !report.received.is_empty() {
                mismatch::look(directory, report);
            }
            true
        }
        Err(error) => {
            report.store(&error);
            false
        }
    }
}

/// Locks the directory: two passes at the same time would overwrite each other's memory.
fn locked(path: &Path) -> io::Result<File> {
    let lock = File::options().create(true).append(true).open(path)?;
    disk::lock(&lock, PATIENCE)?;
    Ok(lock)
}

impl Pass<'_> {
    fn run_with_retries(&mut self) -> Result<(), StoreError> {
        let mut attempt = 1;
        loop {
            match self.once() {
                // The state differs from the listed one: the next attempt finds out who has written.
                Err(StoreError::Changed(_)) if attempt < TRIES => attempt += 1,
                done => return done,
            }
        }
    }

    fn once(&mut self) -> Result<(), StoreError> {
        let own = own::read(self.directory, self.report);
        let before = self.store.list()?;
        let gone: BTreeSet<&WriterName> =
            own.values().flatten().flat_map(|records| &records.gone).collect();
        self.look_for_vanished(&own, &gone);
        let ready = self.compared(&own, &before)?;
        let has_new = ready.values().any(|(_, fresh)| *fresh > 0);
        let written = if has_new { self.write(&own, &ready, &before) } else { Ok(()) };
        // The records of others are copied even if this machine is not allowed to write.
        let mut remotes = if has_new { self.store.list()? } else { before.clone() };
        if self.keys.must_be_signed() {
            let beats = remotes.iter_mut().filter(|(writer, _)| !own.contains_key(*writer));
            let beats = beats.filter_map(|(_, remote)| remote.beat.as_mut()?.as_mut().ok());
            self.store.complete(&mut beats.collect::<Vec<_>>())?;
        }
        let pulled = self.pull(&own, &remotes, &gone);
        self.hear(&own, &remotes);
        self.remember();
        written.and(pulled)?;
        if !has_new {
            self.write(&own, &ready, &before)?;
            self.remember();
        }
        Ok(())
    }

    fn remember(&mut self) {
        if let Err(error) = self.memory.write(&self.memory_path) {
            let text = format!("{}: {}", self.memory_path.display(), hpkp_cli::sync::os(&error));
            self.report.add(Code::PeerUnwritable, text);
        }
    }

    /// Reports each file of this machine that was copied into the store before and no longer exists.
    fn look_for_vanished(
        &mut self,
        own: &BTreeMap<WriterName, Option<Records>>,
        gone: &BTreeSet<&WriterName>,
    ) {
        let is_gone = |name: &String| {
            name.parse().is_ok_and(|name| gone.contains(&name) && !own.contains_key(&name))
        };
        // Writers that are recorded as gone: from now on their records in the store are those of another machine.
        self.memory.own.retain(|name, _| !is_gone(name));
        let known = self.memory.own.keys().filter_map(|name| name.parse::<WriterName>().ok());
        for writer in known.filter(|writer| !own.contains_key(writer)).collect::<Vec<_>>() {
            let path = self.directory.own_path(&writer);
            self.report.writer(
                Code::OwnOlder,
                &writer,
                format!("\"{path}\" has vanished; restore it from a backup, or record that the writer is gone"),
            );
        }
    }

    /// The writers of this machine that may write: for each, the number of its last event in the store, and how many
    /// events are new.
    fn compared(
        &mut self,
        own: &BTreeMap<WriterName, Option<Records>>,
        remotes: &Remotes,
    ) -> Result<BTreeMap<WriterName, (Option<u64>, usize)>, StoreError> {
        let mut ready = BTreeMap::new();
        for (writer, records) in own {
            let Some(records) = records else { continue };
            let mark = remotes.get(writer).map_or("", |remote| remote.mark.as_str());
            let last = match self.last_in_store(writer, records, mark)? {
                Ok(last) => last,
                Err((code, text)) => {
                    self.report.writer(code, writer, text);
                    continue;
                }
            };
            let fresh =
                records.lines.iter().filter(|line| last.is_none_or(|last| line.seq > last)).count();
            ready.insert(writer.clone(), (last, fresh));
        }
        Ok(ready)
    }

    /// The number of the newest event in the store of a writer of this machine; an error where the records in the store
    /// are not those of this machine.
    fn last_in_store(
        &mut self,
        writer: &WriterName,
        own: &Records,
        mark: &str,
    ) -> Result<Result<Option<u64>, (Code, String)>, StoreError> {
        let known = self.memory.own.get(writer.as_str()).cloned().unwrap_or_default();
        if mark.is_empty() {
            if !known.last.is_empty() {
                let text =
                    "the store has no records of this writer any more; they are written again";
                self.report.writer(Code::StoreWentBack, writer, text);
            }
            return Ok(Ok(None));
        }
        if mark == known.mark
            && own.numbered(known.seq).is_some_and(|id| id.to_string() == known.last)
        {
            return Ok(Ok(Some(known.seq)));
        }
        let wanted = [Wanted {
            writer: writer.clone(),
            from: None,
            mark: mark.to_owned(),
            known: String::new(),
        }];
        let mut stored = None;
        self.store.read(&wanted, &mut |piece| {
            stored = Some(piece.lines);
            Ok(())
        })?;
        let stored = stored.unwrap_or_else(|| Ok(Vec::new()));
        Ok(compare_own(writer, own, stored, &known).map(|(last, note)| {
            if let Some(text) = note {
                self.report.writer(Code::StoreWentBack, writer, text);
            }
            last
        }))
    }

    /// Writes new records and heartbeats.
    fn write(
        &mut self,
        own: &BTreeMap<WriterName, Option<Records>>,
        ready: &BTreeMap<WriterName, (Option<u64>, usize)>,
        remotes: &Remotes,
    ) -> Result<(), StoreError> {
        let none = Remote::default();
        let mut outgoing = Vec::new();
        for (writer, (last, _)) in ready {
            let Some(Some(records)) = own.get(writer) else { continue };
            let remote = remotes.get(writer).unwrap_or(&none);
            let Some(beat) = self.beat(writer, records, remote) else { continue };
            let beat = self.keys.sign(writer, records, beat, self.report);
            let lines = records.lines.iter().filter(|line| last.is_none_or(|last| line.seq > last));
            let fresh =
                lines.map(|line| (line.seq, line.id.to_string(), records.text(line))).collect();
            outgoing.push(Outgoing {
                writer,
                mark: &remote.mark,
                whole: &records.bytes,
                fresh,
                beat,
            });
        }
        self.store.write(&outgoing)?;
        for one in outgoing {
            let seq = own.get(one.writer).and_then(Option::as_ref).and_then(Records::newest);
            let carried = Carried {
                // Without a mark the next pass reads the written records again: a store may have gone back meanwhile.
                mark: if one.fresh.is_empty() { one.mark.to_owned() } else { String::new() },
                seq: seq.map_or(0, |newest| newest.seq),
                last: one.beat.last.clone(),
                events: one.beat.events,
                number: one.beat.number,
                beat: one.beat.number,
                signed: String::new(),
            };
            if !one.fresh.is_empty() {
                self.report
                    .written
                    .push(Moved { writer: one.writer.to_string(), records: one.fresh.len() });
            }
            self.memory.own.insert(one.writer.to_string(), carried);
        }
        Ok(())
    }

    fn beat(&self, writer: &WriterName, records: &Records, remote: &Remote) -> Option<Heartbeat> {
        let newest = records.newest()?;
        let in_store = match &remote.beat {
            Some(Ok(beat)) => beat.number,
            _ => 0,
        };
        let known = self.memory.own.get(writer.as_str()).map_or(0, |known| known.number);
        let peers = &self.memory.peers;
        let seen = peers.iter().filter(|(_, known)| !known.last.is_empty());
        let seen = match peers.len() {
            0..=MAX_SEEN => seen.map(|(name, known)| (name.clone(), known.last.clone())).collect(),
            _ => BTreeMap::new(),
        };
        Some(Heartbeat {
            writer: writer.to_string(),
            // Numbers must not begin at 1 in a new store: other machines remember the highest number of the old one.
            number: in_store.max(known).saturating_add(1).max(u64::try_from(now()).unwrap_or(0)),
            at: now(),
            events: records.lines.len() as u64,
            last: newest.id.to_string(),
            seen,
            signed: None,
        })
    }

    /// Copies the records of other machines.
    fn pull(
        &mut self,
        own: &BTreeMap<WriterName, Option<Records>>,
        remotes: &Remotes,
        gone: &BTreeSet<&WriterName>,
    ) -> Result<(), StoreError> {
        let ours = |writer: &WriterName| {
            own.contains_key(writer) || self.memory.own.contains_key(writer.as_str())
        };
        let others: Vec<(&WriterName, &Remote)> =
            remotes.iter().filter(|(writer, _)| !ours(writer)).collect();
        self.report.others = others.len();
        let mut wanted = Vec::new();
        for (writer, remote) in others {
            if let Some(text) = &remote.fault {
                self.report.writer(Code::PeerDamaged, writer, format!("in the store: {text}"));
            }
            wanted.extend(self.wanted(writer, remote));
        }
        self.look_for_lost(remotes, gone);
        let read = self.receive(&wanted, remotes).and_then(|again| {
            let whole = wanted.into_iter().filter(|one| again.contains(&one.writer));
            let whole = whole.map(|one| Wanted { from: None, known: String::new(), ..one });
            self.receive(&whole.collect::<Vec<_>>(), remotes)
        });
        read.map(drop)
    }

    /// Reads records and puts the copies in place. Returns the writers whose records must be read again as a whole.
    fn receive(
        &mut self,
        wanted: &[Wanted],
        remotes: &Remotes,
    ) -> Result<Vec<WriterName>, StoreError> {
        let (peers, memory, report) = (&mut self.peers, &mut self.memory, &mut *self.report);
        let keys = self.keys;
        let marks = wanted.iter().map(|one| (one.writer.clone(), one.mark.clone()));
        let mut marks: BTreeMap<WriterName, String> = marks.collect();
        let (mut taken, mut again) = (Vec::new(), Vec::new());
        let read = self.store.read(wanted, &mut |piece| {
            let mark = marks.remove(&piece.writer).unwrap_or_default();
            let known = memory.peers.get(piece.writer.as_str());
            let signed = Signed { keys, remote: remotes.get(&piece.writer) };
            match take(peers, report, piece, (mark, &signed), known) {
                Taken::Copied(writer, carried, new) => taken.push((writer, carried, new)),
                Taken::Again(writer) => again.push(writer),
                Taken::Refused => {}
            }
            Ok(())
        });
        // Copies that were written before an error are complete.
        match peers.commit() {
            Ok(()) => {
                for (writer, mut carried, new) in taken {
                    if new > 0 {
                        report.received.push(Moved { writer: writer.clone(), records: new });
                    }
                    carried.beat = memory.peers.get(&writer).map_or(0, |known| known.beat);
                    memory.peers.insert(writer, carried);
                }
            }
            Err(error) => {
                report.add(Code::PeerUnwritable, format!("peers: {}", hpkp_cli::sync::os(&error)))
            }
        }
        read.map(|()| again)
    }

    /// The records to read of a writer; none where the copy is up to date.
    fn wanted(&self, writer: &WriterName, remote: &Remote) -> Option<Wanted> {
        let known = self.memory.peers.get(writer.as_str());
        let known = known.filter(|known| self.peers.len(writer) == Some(known.number));
        let is_same = known.is_some_and(|known| known.mark == remote.mark);
        if is_same || remote.mark.is_empty() {
            return None;
        }
        Some(Wanted {
            writer: writer.clone(),
            // The last known record is read again, to check that it is unchanged. A copy without a mark had an error,
            // so all records are read.
            from: known.filter(|known| !known.mark.is_empty()).map(|known| known.seq),
            mark: remote.mark.clone(),
            known: known.map_or_else(String::new, |known| known.mark.clone()),
        })
    }

    /// Reports writers whose records are no longer in the store.
    fn look_for_lost(&mut self, remotes: &Remotes, gone: &BTreeSet<&WriterName>) {
        let is_lost = |name: &String| {
            let writer: Option<WriterName> = name.parse().ok();
            let writer = writer.filter(|writer| !gone.contains(writer));
            writer.filter(|writer| remotes.get(writer).is_none_or(|remote| remote.mark.is_empty()))
        };
        for writer in self.memory.peers.keys().filter_map(is_lost).collect::<Vec<_>>() {
            let text = "the store has no records of this writer any more; the copy in peers/ stays";
            self.report.writer(Code::PeerWentBack, &writer, text);
        }
    }

    /// Records which writers have a new heartbeat.
    fn hear(&mut self, own: &BTreeMap<WriterName, Option<Records>>, remotes: &Remotes) {
        let path = Path::new(self.directory.path()).join(heard::FILE);
        let mut all = match read_heard(&path) {
            Ok(all) => all,
            Err(text) => {
                // If the file were replaced, every writer would count as heard from now.
                let text = format!(
                    "\"{}\" cannot be used, so no heartbeat counts: {text}; to fix: remove the file",
                    path.display()
                );
                return self.report.add(Code::HeardUnreadable, text);
            }
        };
        let before = all.clone();
        let now = now();
        for (writer, remote) in remotes {
            if own.contains_key(writer) || self.memory.own.contains_key(writer.as_str()) {
                continue;
            }
            let beat = match &remote.beat {
                Some(Ok(beat)) => beat,
                Some(Err(text)) => {
                    self.report.writer(Code::PeerDamaged, writer, format!("in the store: {text}"));
                    continue;
                }
                None => continue,
            };
            if !self.is_new(writer, beat, all.get(writer)) {
                continue;
            }
            let known =
                self.memory.peers.get(writer.as_str()).map_or("", |known| known.signed.as_str());
            let copy = || self.peers.read(writer).ok().flatten();
            if !self.keys.counts(writer, beat, known, copy, self.report) {
                continue;
            }
            match self.copy_has(writer, &beat.last) {
                Some(last) => {
                    self.compare_clock(writer, beat, all.get(writer));
                    all.insert(writer.clone(), Heard { number: beat.number, at: now, last });
                    if let Some(known) = self.memory.peers.get_mut(writer.as_str()) {
                        known.beat = beat.number;
                    }
                }
                // The reason why there is no newer copy is already reported.
                None if self.report.names(writer) => {}
                None => self.report.writer(
                    Code::PeerWentBack,
                    writer,
                    "its heartbeat is newer than its records in the store, so it does not count",
                ),
            }
        }
        if all == before && path.exists() {
            return;
        }
        let written = disk::replace(&path, heard::write(&all).as_bytes(), disk::Access::All);
        if let Err(error) = written {
            let text = format!("{}: {}", path.display(), hpkp_cli::sync::os(&error));
            self.report.add(Code::PeerUnwritable, text);
        }
    }

    /// Reports a writer whose clock is behind by more than its pins count as held after clients have forgotten them. A
    /// new heartbeat was written after this machine received the one before.
    fn compare_clock(&mut self, writer: &WriterName, beat: &Heartbeat, before: Option<&Heard>) {
        let behind = before.map_or(0, |before| before.at.saturating_sub(beat.at));
        if behind > DRAINING {
            let text = format!(
                "its clock is at least {} hours behind the clock of this machine, so pins that it has published seem \
                 to expire too early; set the clock",
                behind / 3_600
            );
            self.report.writer(Code::PeerClock, writer, text);
        }
    }

    /// Whether a heartbeat is newer than the last accepted one, which may have come through another store. A number
    /// below the last one of this store is a finding.
    fn is_new(&mut self, writer: &WriterName, beat: &Heartbeat, heard: Option<&Heard>) -> bool {
        let heard = heard.map(|heard| heard.number);
        let before = match self.memory.peers.get(writer.as_str()) {
            Some(known) if known.beat > 0 => known.beat,
            _ => heard.unwrap_or(0),
        };
        if beat.number < before {
            let text = format!(
                "its heartbeat has gone back from number {before} to {}, so it does not count",
                beat.number
            );
            self.report.writer(Code::PeerWentBack, writer, text);
            return false;
        }
        heard.is_none_or(|heard| beat.number > heard)
    }

    /// The id `last`, if the copy of the writer contains this event.
    fn copy_has(&self, writer: &WriterName, last: &str) -> Option<EventId> {
        let id: EventId = last.parse().ok()?;
        let known = self.memory.peers.get(writer.as_str())?;
        if self.peers.len(writer) != Some(known.number) {
            return None;
        }
        if known.last == last {
            return Some(id);
        }
        let copy = self.peers.read(writer).ok().flatten()?;
        copy.has(id).then_some(id)
    }
}

/// Compares a file of this machine with the records that the store has under its name. Returns the number of the newest
/// record in the store, and a note if the store has gone back.
fn compare_own(
    writer: &WriterName,
    own: &Records,
    stored: Result<Vec<u8>, String>,
    known: &Carried,
) -> Result<(Option<u64>, Option<String>), (Code, String)> {
    let taken = "another machine has written under this name into the store, so nothing is written; each server \
                 needs a writer name of its own (writer=)";
    let stored = stored
        .and_then(|lines| Records::read(lines, writer).map_err(|error| error.to_string()))
        .map_err(|text| {
            let text = format!("the store has, under a name of this machine, something that is not a record ({text}): {taken}");
            (Code::NameTaken, text)
        })?;
    let (Some(newest), Some(newest_own)) = (stored.newest(), own.newest()) else {
        return Ok((None, None));
    };
    if own.contradicts(&stored) {
        return Err((Code::NameTaken, taken.to_owned()));
    }
    if newest.seq > newest_own.seq {
        let text = format!(
            "the store has records up to number {}, this machine only up to {}: an earlier state of the file was \
             restored, or another machine was made from the same image; nothing is written; to fix: restore the \
             newest state of the file, or give this server another name (writer=) and record that the old one \
             is gone",
            newest.seq, newest_own.seq
        );
        return Err((Code::OwnOlder, text));
    }
    let went_back = newest.seq < known.seq;
    let note = went_back.then(|| {
        "the store has gone back to an earlier state; what it lacks of this writer is written again".to_owned()
    });
    Ok((Some(newest.seq), note))
}

/// The keys that verify records, and what the store has of the writer, with its signed heartbeat.
struct Signed<'a> {
    keys: &'a Keys,
    remote: Option<&'a Remote>,
}

/// The result of taking over the records that were read.
enum Taken {
    /// The copy is written: its writer, the new state for the memory, and the number of new records.
    Copied(String, Carried, usize),
    /// The records do not follow the known ones, so all of them must be read again.
    Again(WriterName),
    /// The records cannot be used; the reason is reported.
    Refused,
}

/// Takes over the records that were read of a writer.
fn take(
    peers: &mut Peers,
    report: &mut Report,
    piece: Piece,
    (mark, signed): (String, &Signed<'_>),
    known: Option<&Carried>,
) -> Taken {
    let Piece { writer, lines, extent } = piece;
    let read =
        lines.and_then(|lines| Records::read(lines, &writer).map_err(|error| error.to_string()));
    let stored = match read {
        Ok(stored) => stored,
        Err(error) => {
            let text = format!(
                "the records in the store cannot be used: {error}; the copy in peers/ stays as it is"
            );
            report.writer(Code::PeerDamaged, &writer, text);
            return Taken::Refused;
        }
    };
    let joins = match extent {
        Extent::Whole => true,
        Extent::Behind => !stored.lines.is_empty(),
        Extent::From => known.is_some_and(|known| {
            stored.numbered(known.seq).is_some_and(|id| id.to_string() == known.last)
        }),
    };
    if !joins {
        return Taken::Again(writer);
    }
    let old = match (peers.read(&writer), extent) {
        (Ok(old), _) => old,
        // The copy cannot be read; the complete records of the store replace it.
        (Err(_), Extent::Whole) => None,
        (Err(_), _) => return Taken::Again(writer),
    };
    copied(peers, report, writer, (old, stored, extent), (mark, signed))
}

/// Joins a copy with the records of the store and writes the result.
fn copied(
    peers: &mut Peers,
    report: &mut Report,
    writer: WriterName,
    (old, stored, extent): (Option<Records>, Records, Extent),
    (mark, signed): (String, &Signed<'_>),
) -> Taken {
    let before = old.as_ref().map_or(0, |old| old.lines.len());
    let mut is_right = true;
    let known = signed.keys.must_be_signed().then(|| old.as_ref().map(Records::ids));
    let known = known.flatten().unwrap_or_default();
    let all = match old {
        None => stored,
        Some(old) => {
            is_right = compare(report, &writer, &old, &stored, extent);
            old.united(stored)
        }
    };
    let highest = all.newest();
    let Some((all, sha256)) = signed.keys.taken(&writer, signed.remote, (all, &known), report)
    else {
        return Taken::Refused;
    };
    let Some(Newest { seq, id }) = all.newest() else { return Taken::Refused };
    // Records that are newer than the heartbeat are left out; the next heartbeat signs them.
    is_right &= highest == all.newest();
    let new = all.lines.len().saturating_sub(before);
    // A copy of another length was cut off, or changed by another program.
    if new > 0 || before != all.lines.len() || peers.len(&writer) != Some(all.bytes.len() as u64) {
        match peers.put(&writer, &all) {
            Ok(()) => {}
            Err(PutError::Io(error)) => {
                let text = format!("peers/: {}", hpkp_cli::sync::os(&error));
                report.writer(Code::PeerUnwritable, &writer, text);
                return Taken::Refused;
            }
            Err(PutError::Limit(text)) => {
                let text = format!(
                    "its records are not copied, since peers/ would have {text}; to fix: look in the store for writers \
                     that should not be there"
                );
                report.writer(Code::Limit, &writer, text);
                return Taken::Refused;
            }
        }
    }
    let (events, number) = (all.lines.len() as u64, all.bytes.len() as u64);
    // Without a mark the next pass compares again, so that a lasting error is reported by each pass.
    let mark = if is_right { mark } else { String::new() };
    let last = id.to_string();
    let carried = Carried { mark, seq, last, events, number, beat: 0, signed: sha256 };
    Taken::Copied(writer.to_string(), carried, new)
}

/// Whether the store still has all records of a copy; reports the reason if not.
fn compare(
    report: &mut Report,
    writer: &WriterName,
    old: &Records,
    stored: &Records,
    extent: Extent,
) -> bool {
    if old.contradicts(stored) {
        report.writer(
            Code::PeerDiverged,
            writer,
            "the store has other records under this name than before: two servers have one name, or a server was \
             restored from a backup; the copy in peers/ keeps both; to fix: give one server another name (writer=)",
        );
        false
    } else if extent == Extent::Whole && stored.newest() < old.newest() {
        report.writer(
            Code::PeerWentBack,
            writer,
            "the store has gone back to an earlier state of these records; the copy in peers/ keeps what it has",
        );
        false
    } else {
        true
    }
}

/// Reads the file with the last heartbeat of each writer. A missing file gives no heartbeats.
fn read_heard(path: &Path) -> Result<AllHeard, String> {
    let bytes = if_there(disk::read(path, heard::MAX_FILE));
    match bytes.map_err(|error| hpkp_cli::sync::os(&error))? {
        Some(bytes) => heard::read(&bytes).map_err(|error| error.to_string()),
        None => Ok(AllHeard::new()),
    }
}
