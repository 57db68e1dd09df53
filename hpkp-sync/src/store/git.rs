//! A git repository, accessed with the program `git`. The branch `hpkp` has a file for each writer, so that no two
//! machines change the same file. Heartbeats and leases are separate references, which leave no history.
//!
//! ```text
//! refs/heads/hpkp              hpkp-store, WRITER.jsonl
//! refs/hpkp/heartbeats/WRITER  a commit whose message is the heartbeat
//! refs/hpkp/leases/HOST        a commit whose message is the lease
//! ```

mod program;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hpkp_core::published::WriterName;
use hpkp_core::published::file::MAX_FILE;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::contract::{
    Extent, MARKER, Options, Outgoing, Piece, Remote, Store, Wanted, check_count, check_marker,
    heartbeat,
};
use super::error::{StoreError, VERSION};
use super::lease::{Lease, Term, Written};
use crate::{disk, now};
use program::{Git, Pushed};

const BRANCH: &str = "refs/heads/hpkp";
/// The branch as it was last fetched.
const TIP: &str = "refs/remotes/store/hpkp";
const BEATS: &str = "refs/hpkp/heartbeats/";
const LEASES: &str = "refs/hpkp/leases/";

/// The most bytes of the copy: a machine that may push must not be able to fill the disks of all others.
const MAX_COPY: u64 = 4_000_000_000;

/// How often a push is tried if other machines push at the same time.
const TRIES: u32 = 30;

/// A store in a repository.
#[derive(Debug)]
pub(super) struct GitStore {
    git: Git,
    /// The local copy of the repository.
    path: PathBuf,
    url: String,
    /// The files of the last fetched branch: the id of each writer's file.
    files: HashMap<WriterName, String>,
    /// Keeps other processes from using the copy at the same time.
    _lock: fs::File,
}

impl GitStore {
    pub(super) fn open(url: &Url, options: &Options) -> Result<Self, StoreError> {
        let mut plain = url.clone();
        plain.set_query(None);
        plain.set_fragment(None);
        let name: String = Sha256::digest(plain.as_str())
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let path = options.cache.join(format!("sync-{name}.git"));
        // The pass that has the lock consists of several steps, each with this time limit.
        let lock = locked(&options.cache, &path, options.timeout.saturating_mul(5));
        let lock = lock.map_err(|error| StoreError::io(&path, &error))?;
        let mut git = Git::new(&path, options.timeout);
        git.detect_ssh_setting()?;
        let store = Self { git, path, url: plain.into(), files: HashMap::new(), _lock: lock };
        store.prepare()?;
        Ok(store)
    }

    fn prepare(&self) -> Result<(), StoreError> {
        if self.path.join("HEAD").exists() {
            return Ok(());
        }
        self.git.run(&["init", "--quiet", "--bare"], &[]).map(drop)
    }

    /// The option that starts git's server program for a repository in a directory. Other machines mount the directory
    /// and may control the hooks and the configuration of the repository. These must not run anything on this machine:
    /// no hook, no fetch of missing objects, no checkout to a path of their choice. On another machine these run there,
    /// which is not restricted.
    fn other_side(&self, service: &str) -> Option<String> {
        let option = match service {
            "receive-pack" => "--receive-pack",
            _ => "--upload-pack",
        };
        self.url.starts_with("file:").then(|| {
            format!(
                "{option}=GIT_ALLOW_PROTOCOL=none GIT_NO_LAZY_FETCH=1 git -c core.hooksPath=/dev/null \
                 -c core.alternateRefsCommand=true -c receive.denyCurrentBranch=ignore -c gc.auto=0 \
                 -c maintenance.auto=false {service}"
            )
        })
    }

    /// Updates the copy. A copy that a crash has damaged is created again.
    fn fetch(&mut self) -> Result<(), StoreError> {
        match self.fetch_once() {
            Err(_) if self.git.is_damaged() => {
                self.remove_copy()?;
                self.prepare()?;
                self.fetch_once()
            }
            done => done,
        }
    }

    fn remove_copy(&self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.path).map_err(|error| StoreError::io(&self.path, &error))
    }

    fn fetch_once(&mut self) -> Result<(), StoreError> {
        let branch = format!("+{BRANCH}*:{TIP}*");
        let [beats, leases] = [BEATS, LEASES].map(|refs| format!("+{refs}*:{refs}*"));
        let common = [
            "fetch",
            "--quiet",
            "--prune",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
        ];
        let other_side = self.other_side("upload-pack");
        let arguments = common.into_iter().chain(other_side.as_deref());
        let arguments = arguments.chain(["--end-of-options", &*self.url, &branch, &beats, &leases]);
        self.git.run(&arguments.collect::<Vec<_>>(), &[])?;
        if size(&self.path.join("objects"), 3) > MAX_COPY {
            self.remove_copy()?;
            return Err(StoreError::TooMuch(format!(
                "the repository has more than {MAX_COPY} bytes, so its copy was removed"
            )));
        }
        self.files.clear();
        let Some(tip) = self.reference(TIP)? else { return Ok(()) };
        let listed = self.git.run(&["ls-tree", "-z", "--end-of-options", &tip], &[])?;
        for entry in String::from_utf8_lossy(&listed).split('\0') {
            // MODE TYPE ID<tab>NAME
            let Some((about, name)) = entry.split_once('\t') else { continue };
            let mut about = about.split(' ').skip(1);
            let (Some("blob"), Some(id)) = (about.next(), about.next()) else { continue };
            if let Some(Ok(writer)) = name.strip_suffix(".jsonl").map(str::parse) {
                self.files.insert(writer, id.to_owned());
            }
        }
        check_count(self.files.len())
    }

    /// The id of the object that a reference names.
    fn reference(&self, name: &str) -> Result<Option<String>, StoreError> {
        let found = self.git.run(&["for-each-ref", "--format=%(objectname)", "--", name], &[])?;
        let found = String::from_utf8_lossy(&found);
        Ok(found.lines().next().map(str::to_owned).filter(|id| !id.is_empty()))
    }

    /// The messages of references below `prefix`, one line each.
    fn messages(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        // The subject has no line feed, unlike the whole message.
        let format = "--format=%(refname) %(contents:subject)";
        let listed = self.git.run(&["for-each-ref", format, "--", prefix], &[])?;
        let listed = String::from_utf8_lossy(&listed);
        let lines = listed.lines().filter_map(|line| line.split_once(' '));
        let named = lines.filter_map(|(name, text)| Some((name.strip_prefix(prefix)?, text)));
        Ok(named.map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
    }

    /// Creates a commit without files, with the message `text`.
    fn message(&self, text: &str) -> Result<String, StoreError> {
        let tree = self.git.line(&["hash-object", "-w", "-t", "tree", "--stdin"], &[])?;
        self.git.line(&["commit-tree", &tree], text.as_bytes())
    }

    fn marker(&self, tip: &str) -> Result<(), StoreError> {
        match self.git.run(&["cat-file", "blob", &format!("{tip}:{MARKER}")], &[]) {
            Ok(text) => check_marker(&text),
            Err(_) => Err(StoreError::NotInitialised),
        }
    }

    /// Creates a commit of these files (name, id), with `tip` as its parent if there is one.
    fn commit(
        &self,
        tip: Option<&str>,
        files: &[(String, String)],
        message: &str,
    ) -> Result<String, StoreError> {
        let index = self.git.fresh_index()?;
        if let Some(tip) = tip {
            index.run(&["read-tree", tip], &[])?;
        }
        let lines: String =
            files.iter().map(|(name, id)| format!("100644 {id}\t{name}\n")).collect();
        index.run(&["update-index", "--add", "--index-info"], lines.as_bytes())?;
        let tree = index.line(&["write-tree"], &[])?;
        let mut arguments = vec!["commit-tree", &tree];
        arguments.extend(tip.into_iter().flat_map(|tip| ["-p", tip]));
        self.git.line(&arguments, message.as_bytes())
    }

    /// The references to push: the heartbeats and, if there are new records, the branch.
    fn references(&self, tip: &str, outgoing: &[Outgoing<'_>]) -> Result<Vec<String>, StoreError> {
        let mut files = Vec::new();
        let mut message = String::new();
        let mut references = Vec::new();
        for one in outgoing {
            if !one.fresh.is_empty() {
                if self.files.get(one.writer).map_or("", String::as_str) != one.mark {
                    return Err(StoreError::Changed(one.writer.clone()));
                }
                let id = self.git.line(&["hash-object", "-w", "--stdin"], one.whole)?;
                files.push((format!("{}.jsonl", one.writer), id));
                message.push_str(&format!("{}: {} records\n", one.writer, one.fresh.len()));
            }
            let text = serde_json::to_string(&one.beat).unwrap_or_default();
            references.push(format!("+{}:{BEATS}{}", self.message(&text)?, one.writer));
        }
        if !files.is_empty() {
            references.push(format!("{}:{BRANCH}", self.commit(Some(tip), &files, &message)?));
        }
        Ok(references)
    }

    fn push(&self, options: &[String], references: &[String]) -> Result<Pushed, StoreError> {
        let options = options.iter().map(String::as_str);
        let arguments =
            ["push", "--porcelain", "--atomic", "--no-verify", "--no-signed"].into_iter();
        let other_side = self.other_side("receive-pack");
        let arguments = arguments.chain(other_side.as_deref()).chain(options);
        let arguments = arguments.chain(["--end-of-options", &*self.url]);
        let references = references.iter().map(String::as_str);
        self.git.push(&arguments.chain(references).collect::<Vec<_>>())
    }
}

impl Store for GitStore {
    fn init(&mut self) -> Result<(), StoreError> {
        self.fetch()?;
        if let Some(tip) = self.reference(TIP)? {
            return self.marker(&tip);
        }
        let id =
            self.git.line(&["hash-object", "-w", "--stdin"], format!("{VERSION}\n").as_bytes())?;
        let commit =
            self.commit(None, &[(MARKER.to_owned(), id)], "A store for records of hpkp\n")?;
        // If another machine was faster, its commit is kept.
        match self.push(&[], &[format!("{commit}:{BRANCH}")])? {
            Pushed::Done | Pushed::Behind(_) => self.fetch(),
        }
    }

    fn list(&mut self) -> Result<BTreeMap<WriterName, Remote>, StoreError> {
        self.fetch()?;
        let tip = self.reference(TIP)?.ok_or(StoreError::NotInitialised)?;
        self.marker(&tip)?;
        let files = self
            .files
            .iter()
            .map(|(writer, id)| (writer.clone(), Remote { mark: id.clone(), ..Remote::default() }));
        let mut all: BTreeMap<WriterName, Remote> = files.collect();
        for (name, text) in self.messages(BEATS)? {
            let Ok(writer) = name.parse::<WriterName>() else { continue };
            all.entry(writer.clone()).or_default().beat = Some(heartbeat(&writer, text.as_bytes()));
        }
        Ok(all)
    }

    fn read(
        &mut self,
        wanted: &[Wanted],
        take: &mut dyn FnMut(Piece) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut wanted: Vec<&Wanted> = wanted.iter().filter(|one| !one.mark.is_empty()).collect();
        wanted.reverse();
        let ids: Vec<&str> = wanted.iter().rev().map(|one| one.mark.as_str()).collect();
        let read = self.git.blobs(&ids, MAX_FILE + 1, &mut |lines| match wanted.pop() {
            Some(one) => {
                take(Piece { writer: one.writer.clone(), lines: Ok(lines), extent: Extent::Whole })
            }
            None => Ok(()),
        });
        if self.git.is_damaged() {
            self.remove_copy()?;
        }
        read
    }

    fn write(&mut self, outgoing: &[Outgoing<'_>]) -> Result<(), StoreError> {
        if outgoing.is_empty() {
            return Ok(());
        }
        let mut refused = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                thread::sleep(jitter(attempt));
                self.fetch()?;
            }
            let tip = self.reference(TIP)?.ok_or(StoreError::NotInitialised)?;
            match self.push(&[], &self.references(&tip, outgoing)?)? {
                Pushed::Done => return Ok(()),
                Pushed::Behind(text) => refused = text,
            }
        }
        Err(StoreError::Failed(format!("other machines kept pushing: {refused}")))
    }

    fn lease(&mut self, name: &str, term: &Term) -> Result<Lease, StoreError> {
        let reference = format!("{LEASES}{name}");
        let mut refused = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                thread::sleep(jitter(attempt));
            }
            self.fetch()?;
            self.reference(TIP)?.ok_or(StoreError::NotInitialised)?;
            let before = self.reference(&reference)?.unwrap_or_default();
            for (_, text) in self.messages(LEASES)?.iter().filter(|(found, _)| found == name) {
                Written::held(name, text.as_bytes(), now())?;
            }
            let commit = self.message(&Written::new(term, now()).json())?;
            let expected = format!("--force-with-lease={reference}:{before}");
            match self.push(&[expected], &[format!("{commit}:{reference}")])? {
                Pushed::Done => return Ok(Lease { name: name.to_owned(), token: commit }),
                Pushed::Behind(text) => refused = text,
            }
        }
        Err(StoreError::Failed(refused))
    }

    fn release(&mut self, lease: &Lease) -> Result<(), StoreError> {
        let reference = format!("{LEASES}{}", lease.name);
        let expected = format!("--force-with-lease={reference}:{}", lease.token);
        match self.push(&[expected], &[format!(":{reference}")])? {
            Pushed::Done => Ok(()),
            Pushed::Behind(_) => {
                self.fetch()?;
                let found =
                    self.messages(LEASES)?.into_iter().find(|(name, _)| *name == lease.name);
                match found.map(|(_, text)| serde_json::from_str::<Written>(&text)) {
                    Some(Ok(written)) => Err(written.error(&lease.name, now())),
                    _ => Err(StoreError::LeaseLost(lease.name.clone())),
                }
            }
        }
    }
}

/// A random pause, so that machines that were refused at the same moment do not retry at the same moment.
fn jitter(attempt: u32) -> Duration {
    let random = crate::random(2);
    let random = random.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let most = 50 * u64::from(attempt.min(20));
    Duration::from_millis(random % most.max(1) + 10)
}

/// Creates the directory of copies and locks one copy. Removes locks that a killed `git` has left in it.
fn locked(cache: &Path, path: &Path, most: Duration) -> io::Result<fs::File> {
    fs::create_dir_all(cache)?;
    let lock = fs::File::options().create(true).append(true).open(path.with_extension("lock"))?;
    disk::lock(&lock, most)?;
    unlock(path, 8);
    remove_unfinished(&path.join("objects"), 3);
    Ok(lock)
}

/// Removes unfinished files of a killed `git`: they may be large, and git itself keeps them for two weeks.
fn remove_unfinished(directory: &Path, depth: u32) {
    for (path, kind) in entries(directory) {
        let is_unfinished =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tmp_"));
        match kind.is_dir() {
            true if depth > 0 => remove_unfinished(&path, depth - 1),
            false if is_unfinished => drop(fs::remove_file(path)),
            _ => {}
        }
    }
}

/// The total bytes of the files in a directory and its subdirectories.
fn size(directory: &Path, depth: u32) -> u64 {
    let of = |(path, kind): (PathBuf, fs::FileType)| match kind.is_dir() {
        true if depth > 0 => size(&path, depth - 1),
        _ => fs::symlink_metadata(path).map_or(0, |found| found.len()),
    };
    entries(directory).map(of).sum()
}

/// The entries of a directory. A file that vanishes meanwhile is left out.
fn entries(directory: &Path) -> impl Iterator<Item = (PathBuf, fs::FileType)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.file_type().ok()?)))
}

fn unlock(directory: &Path, depth: u32) {
    for (path, kind) in entries(directory) {
        let name = path.file_name().unwrap_or_default();
        if kind.is_dir() && depth > 0 && name != "objects" {
            unlock(&path, depth - 1);
        } else if name.to_string_lossy().ends_with(".lock") {
            // If the lock cannot be removed, git reports it.
            let _ = fs::remove_file(path);
        }
    }
}
