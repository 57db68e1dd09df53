//! The records of a configuration: reads them for the check, and writes them once the configuration is accepted.

use std::collections::HashSet;
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hpkp_core::accepted;
use hpkp_core::check::{self, Concern, Deployment, Digest, Freshness, Records, Verdict};
use hpkp_core::finding::{Code, Finding, Location, Text};
use hpkp_core::published::{Body, Event, HostName, State, WriterName};
use hpkp_core::text::{Excerpt, NAMED, ShellWord, listed};

use crate::file::reason;
use crate::file_limit::WithoutSignal;
use crate::host_name::host_name;
use crate::living::{self, Pid};
use crate::loader::now;
use crate::owner::Unsafe;
use crate::published::{
    self, Claimant, Contents, Directory, DirectoryError, RESERVE, Reserved, SUFFIX,
};
use crate::setting::{GlobalSettings, RecordsSetting};

/// The number of attempts to write if another process writes meanwhile.
const TRIES: usize = 5;

/// Whether this server has already waited for its predecessor. It waits only once, because waiting later would delay
/// clients.
static HAS_WAITED: AtomicBool = AtomicBool::new(false);

/// The file to which a server writes what it publishes and presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    path: String,
    writer: WriterName,
    /// Whether the server's file could be read. If not, nothing is appended to it, and the configuration in use is
    /// noted in the reserve.
    is_read: bool,
    /// How many events the server's file lacks, because somebody has replaced it by an earlier copy. What the server
    /// appends does not bring them back.
    lacking: u64,
}

/// Which records concern a configuration.
#[must_use]
pub fn concern(global: &GlobalSettings, deployment: &Deployment) -> Concern {
    match global.keep {
        Some(_) => concern_of_kept(deployment),
        None => Concern::of(deployment),
    }
}

/// The same for a configuration that keeps last good certificates: it also needs the records of hosts below its names.
pub(crate) fn concern_of_kept(deployment: &Deployment) -> Concern {
    let mut concern = Concern::of(deployment);
    concern.add_all_below();
    concern
}

/// Reads all directories of a configuration, and returns the records and the journal to write to. Files that cannot be
/// read become problems of the records; without a directory there are no records. From other machines' records, only
/// those in `concern` are read. `rivals` are the programs of servers of another kind.
#[must_use]
pub fn read(
    settings: &[RecordsSetting],
    mut concern: Concern,
    rivals: &[&str],
) -> (Option<Records>, Option<Journal>) {
    let Some(first) = settings.first() else { return (None, None) };
    let directories = directories(settings);
    let mut reading =
        Reading { options: check::directory_options(&directories), ..Reading::default() };
    let opened: Vec<_> = settings.iter().map(|setting| Directory::open(&setting.path)).collect();
    let writer = |setting: &RecordsSetting| {
        setting.writer.clone().map(|writer| writer.map_or_else(default_writer, Ok))
    };
    let writers: Vec<_> = settings.iter().map(writer).collect();
    let mut ours: HashSet<WriterName> = writers.iter().flatten().flatten().cloned().collect();
    for directory in opened.iter().flatten() {
        // If the writers cannot be listed, reading the directory fails as well and is reported.
        ours.extend(directory.writers().unwrap_or_default());
    }
    let mut journal = None;
    // The reserve is read before the files, so that an event that is written meanwhile does not count as missing.
    let noted = settings.iter().zip(&opened).zip(&writers).find_map(|((_, opened), writer)| {
        opened.as_ref().ok()?.noted(writer.as_ref()?.as_ref().ok()?)
    });
    // The heartbeats are read before the files as well: a later heartbeat may refer to records that are not read here.
    let with_opened = settings.iter().zip(&opened);
    let freshness = with_opened
        .filter_map(|(setting, opened)| freshness(setting, opened.as_ref().ok()?))
        .collect();
    let own: Vec<Own> = opened.iter().map(|opened| reading.own_files(opened)).collect();
    concern.add_recorded(&reading.contents.state);
    for (((setting, opened), own), writer) in settings.iter().zip(&opened).zip(own).zip(writers) {
        let errors = reading.directory((setting, opened), own, &ours, &concern);
        match writer {
            Some(Ok(writer)) => {
                // Files of other writers may be unusable, but the server's own file must not be.
                let is_read = opened.as_ref().is_ok_and(|directory| {
                    let own = directory.own_path(&writer);
                    let is_other = |file: &str| file != own && file != directory.path();
                    errors.iter().all(|error| error.file().is_some_and(is_other))
                });
                let path = setting.path.clone();
                journal = Some(Journal { path, writer, is_read, lacking: 0 });
            }
            Some(Err(text)) => {
                reading.find(Code::RecordsUnreadable, Text::new(text), &setting.at);
            }
            None => {}
        }
    }
    let setting = settings.iter().zip(&opened).find(|(setting, _)| setting.writer.is_some());
    let mut unrecorded = None;
    if let (Some((setting, Ok(directory))), Some(journal)) = (setting, &mut journal) {
        unrecorded = match journal.is_read {
            true => reading.own(setting, directory, (journal, rivals), noted),
            false => last_accepted(directory, &journal.writer),
        };
    }
    reading.others(&first.at, &concern);
    let records = Records {
        state: reading.contents.state,
        writer: journal.as_ref().filter(|one| one.is_read).map(|one| one.writer.clone()),
        directories,
        at: first.at.clone(),
        problems: reading.problems,
        unrecorded,
        freshness,
    };
    (Some(records), journal)
}

/// The digest of the last accepted configuration, if the file of its records cannot be read.
fn last_accepted(directory: &Directory, writer: &WriterName) -> Option<Digest> {
    if let Ok(Some(digest)) = directory.held(writer) {
        return Some(digest);
    }
    match directory.reserved(writer) {
        Ok(last @ (Reserved::Recorded(_) | Reserved::Unrecorded(_))) => Some(last.digest()),
        Ok(Reserved::None | Reserved::Damaged) | Err(_) => None,
    }
}

/// The directories of a configuration in the order for commands: first the one to which the server writes.
fn directories(settings: &[RecordsSetting]) -> Vec<String> {
    let own = settings.iter().filter(|setting| setting.writer.is_some());
    let others = settings.iter().filter(|setting| setting.writer.is_none());
    own.chain(others).map(|setting| setting.path.clone()).collect()
}

/// When other machines were heard from, for each directory with `max_staleness`. A directory that cannot be opened has
/// a finding of its own.
#[must_use]
pub fn heard(settings: &[RecordsSetting]) -> Vec<Freshness> {
    let asking = settings.iter().filter(|setting| setting.max_staleness.is_some());
    let opened = asking.filter_map(|setting| Some((setting, Directory::open(&setting.path).ok()?)));
    opened.filter_map(|(setting, directory)| freshness(setting, &directory)).collect()
}

/// When the machines with a copy in the directory were last heard from; none without `max_staleness`.
fn freshness(setting: &RecordsSetting, directory: &Directory) -> Option<Freshness> {
    Some(Freshness {
        max_staleness: setting.max_staleness?,
        at: setting.at.clone(),
        file: directory.heard_path(),
        heard: directory.heard(),
        // If the copies cannot be listed, reading the directory fails as well and is reported.
        peers: directory.peers().unwrap_or_default(),
        at_handshake: false,
    })
}

/// The problems in the files of this machine's writers.
struct Own {
    errors: Vec<DirectoryError>,
    torn: Vec<(String, usize)>,
    unsafe_files: Vec<(String, Unsafe)>,
}

/// Records while they are read, and their problems.
#[derive(Default)]
struct Reading {
    contents: Contents,
    problems: Vec<(Code, Text, Location)>,
    /// The directories as options of `hpkp published`.
    options: String,
}

impl Reading {
    fn find(&mut self, code: Code, text: Text, at: &Location) {
        self.problems.push((code, text, at.clone()));
    }

    /// Reads the files of this machine's writers in a directory.
    fn own_files(&mut self, opened: &Result<Directory, DirectoryError>) -> Own {
        let errors = opened.as_ref().map(|directory| directory.read_own(&mut self.contents));
        Own {
            errors: errors.unwrap_or_default(),
            torn: std::mem::take(&mut self.contents.torn),
            unsafe_files: std::mem::take(&mut self.contents.unsafe_files),
        }
    }

    /// Reads the copies in a directory, and returns the errors of single files.
    fn directory(
        &mut self,
        (setting, opened): (&RecordsSetting, &Result<Directory, DirectoryError>),
        own: Own,
        ours: &HashSet<WriterName>,
        concern: &Concern,
    ) -> Vec<DirectoryError> {
        let at = &setting.at;
        let mut errors = own.errors;
        if let Ok(directory) = opened {
            errors.append(&mut directory.read_peers(&mut self.contents, ours, concern));
        }
        if let Some(error) = opened.as_ref().err().or(errors.first()) {
            let text = unusable(&setting.path, error, errors.len());
            self.find(Code::RecordsUnreadable, text, at);
        }
        let torn = own.torn.into_iter().chain(std::mem::take(&mut self.contents.torn));
        for (file, bytes) in torn {
            let file = Excerpt::new(&file);
            let text =
                format!("the last line of \"{file}\" is incomplete ({bytes} bytes) and is ignored");
            self.find(Code::TruncatedRecord, Text::new(text), at);
        }
        for (file, writer) in std::mem::take(&mut self.contents.in_our_name) {
            let file = Excerpt::new(&file);
            let text = Text::new(format!(
                "\"{file}\" has records of writer {writer}, the name of a writer of this machine; the \
                 file is ignored"
            ))
            .fix("if it is a copy of this machine's own file, remove it")
            .fix("if it is another machine's, give that machine a writer name of its own (writer=)");
            self.find(Code::PeerRecordIgnored, text, at);
        }
        for (file, why) in std::mem::take(&mut self.contents.unusable_indexes) {
            let text = Text::new(format!(
                "cannot use the index \"{}\" ({why}), so all copies of other machines' records are read as a whole, \
                 which takes longer",
                Excerpt::new(&file)
            ))
            .fix(format!("remove the file, and the next hpkp sync writes it anew: rm {}", ShellWord::new(&file)));
            self.find(Code::RecordsIndexUnusable, text, at);
        }
        for (file, why) in own.unsafe_files {
            let text = Text::new(format!(
                "\"{}\" may have been changed by others, so it is not known which pins clients hold: {why}",
                Excerpt::new(&file)
            ))
            .fix("compare the file with a backup")
            .fix(format!("then: {} {}", why.remedy(), ShellWord::new(&file)));
            self.find(Code::RecordsUnsafePermissions, text, at);
        }
        errors
    }

    /// Reports problems of the server's own file, and returns the digest of a configuration in use that is not on
    /// record.
    fn own(
        &mut self,
        setting: &RecordsSetting,
        directory: &Directory,
        (journal, rivals): (&mut Journal, &[&str]),
        noted: Option<u64>,
    ) -> Option<Digest> {
        let (at, writer) = (&setting.at, &journal.writer);
        let path = directory.own_path(writer);
        let can_append = || published::can_append(directory, writer);
        let (is_rival, can_append) = match published::rival(directory, writer, rivals) {
            Ok(Some(rival)) => (true, Err(DirectoryError::Taken(path.clone(), rival))),
            Ok(None) => (false, can_append()),
            // A file that cannot be read has been reported as such. Here the claims cannot be read, as where the file
            // system has no locks.
            Err(error) => {
                (false, can_append().and(Err(DirectoryError::Write(path.clone(), error))))
            }
        };
        if let Err(
            error @ (DirectoryError::NotOwn(..)
            | DirectoryError::Taken(..)
            | DirectoryError::Copied(_)
            | DirectoryError::Write(..)),
        ) = can_append
        {
            let text = Text::new(format!(
                "{error}; until this is corrected, nothing is recorded, and a header with pins that are \
                 not on record is not sent"
            ));
            self.find(Code::RecordsNotWritable, text, at);
        }
        let own = Excerpt::new(&path).to_string();
        let reserve = format!("{}/{RESERVE}", directory.path());
        journal.lacking =
            noted.unwrap_or_default().saturating_sub(self.contents.state.last_seq(writer));
        let is_back = journal.lacking > 0 && self.contents.state.knows(writer);
        let last_known = (noted, is_back);
        let unrecorded = self.reserved(setting, directory, writer, (&own, &reserve), last_known);
        if is_back {
            let events = match journal.lacking {
                1 => "1 event".to_owned(),
                lacking => format!("{lacking} events"),
            };
            let text = Text::new(format!(
                "\"{own}\" has gone back to an earlier state: it lacks {events} that this server wrote, so \
                 it is not known which pins clients hold"
            ))
            .fix("restore the file from a newer backup")
            .last_resort(format!("continue with this file: rm {}", ShellWord::new(&reserve)));
            self.find(Code::RecordsMissing, text, at);
        }
        self.lost(writer, at);
        // What is on record is the other server's, and nothing says what this one accepted.
        if is_rival { Some(Digest::NONE) } else { unrecorded }
    }

    /// The digest of a configuration in use that is not on record, according to the locks and the reserve. Reports if
    /// the reserve does not agree with the server's own file.
    fn reserved(
        &mut self,
        setting: &RecordsSetting,
        directory: &Directory,
        writer: &WriterName,
        (own, reserve): (&str, &str),
        (noted, is_back): (Option<u64>, bool),
    ) -> Option<Digest> {
        let at = &setting.at;
        let is_known = self.contents.state.knows(writer);
        // A server that could write its digest nowhere holds it as locks while it runs.
        if let Ok(Some(digest)) = directory.held(writer) {
            return Some(digest);
        }
        match directory.reserved(writer) {
            Ok(Reserved::None) => {
                // Servers that run at the same time have names of their own. A stopped server may be this one under an
                // earlier name.
                let is_named = matches!(setting.writer, Some(Some(_)));
                let state = &self.contents.state;
                let mut others = state.other_servers(writer);
                others.retain(|other| !is_named || state.has_stopped(other));
                if !is_known && !others.is_empty() {
                    let text = other_writers(directory.path(), writer, &others);
                    self.find(Code::OtherWriters, text, at);
                }
            }
            // If the reserve notes 0 events, no host has ever presented a certificate, so nothing is missing.
            Ok(last @ (Reserved::Recorded(_) | Reserved::Unrecorded(_)))
                if !is_known && noted != Some(0) =>
            {
                let text = Text::new(format!(
                    "\"{own}\" had records and is now empty or missing, so it is not known which pins \
                     clients hold"
                ))
                .fix(format!("restore it from a backup{}", files_of_commands(directory, writer)))
                .last_resort(format!(
                    "begin without these records: rm {}",
                    ShellWord::new(reserve)
                ));
                self.find(Code::RecordsMissing, text, at);
                return Some(last.digest());
            }
            // If the file has gone back to an earlier copy, it has an earlier configuration.
            Ok(last @ Reserved::Recorded(_)) => return is_back.then(|| last.digest()),
            Ok(Reserved::Unrecorded(digest)) => return Some(digest),
            Ok(Reserved::Damaged) => {
                let why = "its content is damaged";
                self.find(Code::ConfigurationNotRecorded, unknown_reserve(reserve, why), at);
                // The configuration in use is not known, so none counts as unchanged.
                return Some(Digest::NONE);
            }
            Err(why) => {
                let text = unknown_reserve(reserve, &why.to_string());
                self.find(Code::ConfigurationNotRecorded, text, at);
                return Some(Digest::NONE);
            }
        }
        None
    }

    /// Reports records of other writers that were read before and are missing now.
    fn lost(&mut self, writer: &WriterName, at: &Location) {
        let lost = self.contents.state.lost(writer).into_iter();
        let lost: Vec<WriterName> = lost.map(|sight| sight.writer.clone()).collect();
        for lost in lost {
            let text = Text::new(format!(
                "records of {lost} that were read before are missing: its file has disappeared or is an \
                 earlier copy, so it is not known which pins clients hold"
            ))
            .fix(format!("copy or restore the file {lost}{SUFFIX} again"))
            .fix(end_of(&self.options, &lost));
            self.find(Code::RecordsMissing, text, at);
        }
    }

    /// Reports events in copies about the records of other writers, which have no effect.
    fn others(&mut self, at: &Location, concern: &Concern) {
        let is_meant = |host: &HostName, by_port| concern.has(host.as_str(), by_port);
        let overreach = self.contents.state.overreach(now(), is_meant);
        let records = |count: usize| format!("{count} record{}", if count == 1 { "" } else { "s" });
        let texts: Vec<Text> = overreach
            .into_iter()
            .map(|(by, excess)| {
                let mut what = Vec::new();
                if excess.ends > 0 {
                    what.push(format!("ends {}", records(excess.ends)));
                }
                if excess.waives > 0 {
                    what.push(format!("waives {}", records(excess.waives)));
                }
                let gone = excess.gone.iter().map(|writer| format!("declares {writer} gone"));
                what.extend(gone);
                let of = excess.of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let of = if of.is_empty() { of } else { format!(" of {of}") };
                let mut text = Text::new(format!(
                    "the copy peers/{by}{SUFFIX} {}{of}, which only that writer or this machine may do; \
                     ignored",
                    what.join(" and ")
                ));
                if excess.ends > 0 || excess.waives > 0 {
                    let how = "if it is intended, record it on this machine too, with hpkp published end or waive";
                    text = text.fix(how);
                }
                excess.gone.iter().fold(text, |text, gone| text.fix(end_of(&self.options, gone)))
            })
            .collect();
        for text in texts {
            self.find(Code::PeerRecordIgnored, text, at);
        }
    }
}

/// The command that records that a writer is gone.
fn end_of(options: &str, writer: &WriterName) -> String {
    format!(
        "only if {writer} is gone for good: hpkp published {options} end --writer {writer} --why REASON"
    )
}

/// The end of the advice to restore a writer's file: the files of the command, which have other names, are restored
/// with it.
fn files_of_commands(directory: &Directory, writer: &WriterName) -> String {
    let machine = default_writer().ok().filter(|machine| machine != writer);
    let of = |name: &WriterName| {
        let file = format!("{}/{name}.command{SUFFIX}", directory.path());
        Excerpt::new(&file).to_string()
    };
    let all: Vec<String> = std::iter::once(writer).chain(machine.as_ref()).map(of).collect();
    format!(", and with it the records of the hpkp command, if there are any: {}", all.join(" or "))
}

/// The finding that it is not known whether the last configuration is on record.
fn unknown_reserve(reserve: &str, why: &str) -> Text {
    Text::new(format!(
        "cannot use \"{}\" ({why}), so it is not known whether the last accepted configuration is on \
         record; until a start or a reload has written the file anew, a configuration is checked as if \
         none had been accepted before",
        Excerpt::new(reserve)
    ))
    .fix(format!("if the next reload does not repair it: rm {}", ShellWord::new(reserve)))
}

/// The finding about a server that writes for the first time into a directory with records of other servers.
fn other_writers(path: &str, writer: &WriterName, others: &[&WriterName]) -> Text {
    let named = others.iter().take(NAMED);
    let gone = named.map(|name| format!(" --writer {name}")).collect::<String>();
    Text::new(format!(
        "this server writes as {writer} for the first time, and {} wrote into \"{}\" before; clients may \
         still hold the pins that they published",
        listed(others),
        Excerpt::new(path)
    ))
    .fix("if this is the same server with another host name (a container), set writer=NAME")
    .fix(format!(
        "only if they are gone for good: hpkp published -d {} end{gone} --why REASON",
        ShellWord::new(path)
    ))
}

/// The finding about hosts whose certificates do not fit into a record. `header` is the finding about hosts whose pins
/// do not fit, if there is one.
fn too_large(
    records: &Records,
    hosts: &[&str],
    header: Option<Finding>,
    reserved: Result<(), String>,
) -> Finding {
    let why = format!("{}; exceeded by {}", accepted::too_large(), listed(hosts));
    let mut finding = accepted::not_recorded(records, &why);
    if let Some(header) = header {
        let presents = std::mem::replace(&mut finding, header).text.what;
        finding.text.details.push(presents);
    }
    finding.text.details.push(noted(reserved));
    finding
}

/// The consequence for a configuration that is not on record.
fn noted(reserved: Result<(), String>) -> String {
    match reserved {
        Ok(()) => {
            "until a start or reload can write, any other configuration is checked as if none had been \
             accepted before"
                .to_owned()
        }
        Err(error) => error,
    }
}

/// The finding about a directory with one or more files that cannot be used.
fn unusable(path: &str, error: &DirectoryError, files: usize) -> Text {
    let more = match files {
        0 | 1 => String::new(),
        2 => " (and one more file)".to_owned(),
        files => format!(" (and {} more files)", files - 1),
    };
    let text = error.text(path);
    let what = format!(
        "cannot read the records of published pins: {}{more}; it is not known which pins clients hold",
        text.what
    );
    Text { what, ..text }
}

/// The writer name of a server with these settings; none if it writes no records.
#[must_use]
pub fn writer_of(settings: &[RecordsSetting]) -> Option<WriterName> {
    let writer = settings.iter().find_map(|setting| setting.writer.clone())?;
    writer.or_else(|| default_writer().ok())
}

/// The name of this machine.
fn default_writer() -> Result<WriterName, String> {
    let name = host_name();
    name.parse().map_err(|error| {
        format!(
            "host name \"{}\" is not a valid writer name, set writer=NAME: {error}",
            Excerpt::new(&name)
        )
    })
}

/// The server from which a new one takes over. It may still send its header to clients, and it may start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predecessor {
    /// No predecessor.
    None,
    /// The predecessor still runs, as this process.
    Runs(Pid),
}

impl Journal {
    /// Records the result of `verdict`, before any response has its pins. Removes headers that cannot be recorded from
    /// the verdict, and returns a finding about them.
    pub fn record(
        &self,
        deployment: &Deployment,
        verdict: &mut Verdict,
        predecessor: Predecessor,
    ) -> Option<Finding> {
        let records = deployment.records.as_ref()?;
        let _without_signal = WithoutSignal::new();
        let state = &records.state;
        let unrecordable = verdict.withhold_unrecordable(deployment);
        let appended = self.record_events(predecessor, state, |state| {
            let events = accepted::accepted(deployment, verdict, state, &self.writer, now());
            match predecessor {
                Predecessor::None => events,
                Predecessor::Runs(_) => accepted::without_ends(events, state, &self.writer),
            }
        });
        let error = match appended {
            Err(error) if error.is_of_another_server() => Some(error),
            // If there is nothing to write, a file that cannot be written does no harm.
            Err(error) => (!self.is_recorded(deployment, verdict, state)).then_some(error),
            Ok(()) => None,
        };
        let unrecorded = verdict.unrecordable(deployment);
        let digest = || check::digest(deployment, &verdict.hosts);
        let Some(error) = error else {
            let reserved = self.reserve(match unrecorded.is_empty() {
                true => Reserved::Recorded(Some(digest())),
                false => Reserved::Unrecorded(digest()),
            });
            if !unrecorded.is_empty() {
                return Some(too_large(records, &unrecorded, unrecordable, reserved));
            }
            let stale = reserved.err().filter(|_| records.unrecorded.is_some());
            return unrecordable.or_else(|| stale.map(|why| accepted::not_recorded(records, &why)));
        };
        // The records of another server do not describe what this server sends, and do not end with it.
        let none = State::default();
        let own = if error.is_of_another_server() { &none } else { state };
        // The slot in the reserve belongs to the other server that runs under this name.
        let reserved = match error {
            DirectoryError::Taken(..) => {
                Err("nothing tells a later test what this server uses".to_owned())
            }
            _ => self.reserve(Reserved::Unrecorded(digest())),
        };
        let why = error.to_string();
        let withheld = verdict.withhold_unrecorded(deployment, own, &self.writer, &why);
        let mut finding =
            withheld.or(unrecordable).unwrap_or_else(|| accepted::not_recorded(records, &why));
        finding.text.details.push(noted(reserved));
        Some(finding)
    }

    /// Whether everything that a configuration publishes and presents is on record.
    fn is_recorded(&self, deployment: &Deployment, verdict: &Verdict, state: &State) -> bool {
        let events = accepted::accepted(deployment, verdict, state, &self.writer, now());
        events.iter().all(|event| matches!(event.body(), Body::Seen(_)))
    }

    /// Notes the configuration in use in the reserve. If it is not on record and cannot be noted there either, the
    /// server holds its digest as locks while it runs.
    fn reserve(&self, served: Reserved) -> Result<(), String> {
        let (error, digest) = match (self.note(served), served) {
            (Err(error), Reserved::Unrecorded(digest)) => (error, digest),
            (noted, _) => {
                published::release();
                return noted;
            }
        };
        let directory = Directory::open(&self.path).ok();
        let is_held =
            directory.is_some_and(|directory| directory.hold(&self.writer, digest).is_ok());
        let what = if is_held {
            "as long as this server runs, any other configuration is checked as if none had been accepted before"
        } else {
            "later tests compare with the configuration that was recorded last, not with this one"
        };
        Err(format!("{error}; {what}"))
    }

    fn note(&self, served: Reserved) -> Result<(), String> {
        let failed = |error: &dyn Display| {
            format!("cannot write \"{}/{RESERVE}\": {error}", Excerpt::new(&self.path))
        };
        let directory = Directory::open(&self.path).map_err(|error| failed(&error))?;
        let last = match published::last_seq(&directory, &self.writer) {
            Ok(last) => Some(last.saturating_add(self.lacking)),
            Err(DirectoryError::File(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                Some(0)
            }
            Err(_) => None,
        };
        directory.reserve(&self.writer, served, last).map_err(|error| failed(&reason(&error)))
    }

    /// The process of another running server of this kind that writes under this name. None if there is none, or if
    /// that is not known. An nginx and an httpd with the same writer name are not predecessor and successor.
    #[must_use]
    pub fn claimant(&self) -> Option<Pid> {
        let directory = Directory::open(&self.path).ok()?;
        match published::claimant(&directory, &self.writer).ok()?? {
            Claimant::Process(pid) => living::is_of_this_kind(pid).then_some(pid),
            Claimant::Unseen => None,
        }
    }

    /// Records that the server has stopped. If a successor already runs and publishes the pins, only what the successor
    /// has left to this server has ended.
    ///
    /// # Errors
    /// A log line if the end could not be written: the pins then count as still published.
    pub fn stop(&self) -> Result<(), String> {
        let _without_signal = WithoutSignal::new();
        let stopped = Directory::open(&self.path).and_then(|directory| {
            published::claim(&directory, &self.writer, None)?;
            let state = self.read_own()?;
            let events = |state: &State| accepted::stopped(state, &self.writer, now());
            match self.append(&directory, &state, events, published::append_alone) {
                Err(DirectoryError::Taken(..)) => {
                    let left = |state: &State| accepted::left(state, &self.writer, now());
                    self.append(&directory, &state, left, published::append)
                }
                appended => appended,
            }
        });
        match stopped {
            Ok(()) | Err(DirectoryError::Taken(..)) => Ok(()),
            Err(error) => Err(format!(
                "hpkp: cannot record that this server has stopped, so its pins count as still published: \
                 {error}"
            )),
        }
    }

    /// The state that follows from this machine's files. Only errors of the server's own file count.
    fn read_own(&self) -> Result<State, DirectoryError> {
        let directory = Directory::open(&self.path)?;
        let own = directory.own_path(&self.writer);
        let mut contents = Contents::default();
        let errors = directory.read_own(&mut contents).into_iter();
        let mut errors = errors.filter(|error| {
            error.file().is_none_or(|file| file == own || file == directory.path())
        });
        errors.next().map_or(Ok(contents.state), Err)
    }

    /// The state of all records, read again. Only errors of the server's own file count.
    fn read_anew(&self, directory: &Directory) -> Result<State, DirectoryError> {
        self.read_own()?;
        let mut contents = Contents::default();
        directory.read_own(&mut contents);
        let ours = directory.writers().unwrap_or_default();
        // The events to be written only need this machine's records and the summaries of the others.
        directory.read_peers(&mut contents, &ours, &Concern::none());
        Ok(contents.state)
    }

    fn record_events(
        &self,
        predecessor: Predecessor,
        state: &State,
        events: impl Fn(&State) -> Vec<Event>,
    ) -> Result<(), DirectoryError> {
        let directory = Directory::open(&self.path)?;
        let beside = match predecessor {
            Predecessor::None => None,
            Predecessor::Runs(pid) => Some(pid),
        };
        // A start may follow a stop so closely that the predecessor is still ending.
        let patience = if HAS_WAITED.swap(true, Ordering::Relaxed) {
            Duration::ZERO
        } else {
            living::PATIENCE
        };
        let started = Instant::now();
        let is_new = loop {
            match published::claim(&directory, &self.writer, beside) {
                Err(DirectoryError::Taken(..)) if started.elapsed() < patience => {
                    thread::sleep(Duration::from_millis(50));
                }
                claimed => break claimed?,
            }
        };
        // A predecessor may have recorded its end since the records were read.
        let changed = !self.is_read
            || is_new
                && published::last_seq(&directory, &self.writer)? != state.last_seq(&self.writer);
        let newer = if changed { Some(self.read_anew(&directory)?) } else { None };
        self.append(&directory, newer.as_ref().unwrap_or(state), events, published::append)
    }

    /// Appends the events that `events` derives from the records. If another process has written meanwhile, reads the
    /// records again and repeats this.
    fn append(
        &self,
        directory: &Directory,
        state: &State,
        events: impl Fn(&State) -> Vec<Event>,
        append: fn(&Directory, &[Event]) -> Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        let mut appended = append(directory, &events(state));
        for _ in 1..TRIES {
            let Err(DirectoryError::Changed(_)) = appended else { break };
            appended = append(directory, &events(&self.read_anew(directory)?));
        }
        appended
    }
}
