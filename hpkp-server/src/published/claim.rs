//! A writer's file belongs to one running server. A second one under the same name would end what
//! the first has published and still publishes.
//!
//! The claim is a lock of an open file, so it outlives the fork that puts a server into the
//! background, and ends with the process, however that ends. Children that serve give their copy
//! back: else orphans would keep the claim of a master that was killed.
//!
//! What is locked is a place in the directory's marker, which each writer has to itself. The writer's
//! own file would not do: another one takes its place when it is compacted, or restored.
//!
//! A server that has been told to stop and answers its last requests keeps its claim, since nothing
//! calls a module when nginx begins to stop. It has closed its listening sockets: by that its
//! successor knows it, and claims the file beside it.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use hpkp_core::published::WriterName;

use super::own::{is_own, locked};
use super::place::place;
use super::{Directory, DirectoryError, MARKER, held, sys};
use crate::living::{self, Pid};

/// What this process, or the one that it was forked from, has claimed. The file stays open as long as
/// they live, over all reloads.
static CLAIMED: Mutex<Option<Lockable>> = Mutex::new(None);

/// The descriptor of that file, for a child that must not wait for the lock: see [`close_in_child`].
/// -1 where there is none.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// A file that is locked for the claim to a writer's file.
struct Lockable {
    file: File,
    name: String,
    /// Where the claims of this writer begin in it.
    first: libc::off_t,
    /// How `/proc` shows it when another file has been put in its place.
    replaced: PathBuf,
}

/// Where the claims are: beyond the end of whatever is written.
const CLAIMS: libc::off_t = 1 << 62;

impl Lockable {
    /// The marker; where this user may not write to it, the file of `writer` itself.
    fn open(directory: &Directory, writer: &WriterName) -> io::Result<Self> {
        match sys::change_at(&directory.file, MARKER) {
            Ok(file) => Ok(Self::of(directory, writer, MARKER, file)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let name = Directory::own(writer);
                let file = sys::append_at(&directory.file, &name)?;
                Ok(Self::of(directory, writer, &name, file))
            }
            Err(error) => Err(error),
        }
    }

    fn of(directory: &Directory, writer: &WriterName, name: &str, file: OwnedFd) -> Self {
        let path = fs::read_link(format!("/proc/self/fd/{}", directory.file.as_raw_fd()));
        let path = path.unwrap_or_else(|_| directory.path().into());
        let replaced = path.join(format!("{name} (deleted)"));
        let first = CLAIMS + place(writer) * sys::CLAIMS;
        Self { file: file.into(), name: name.to_owned(), first, replaced }
    }

    fn is(&self, other: &Self) -> io::Result<bool> {
        Ok(self.first == other.first && identity(&self.file)? == identity(&other.file)?)
    }
}

/// Who has the claim to a file and serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// This process.
    Process(Pid),
    /// One that cannot be seen or looked at: in another container, or another user's.
    Unseen,
}

impl fmt::Display for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Unseen => f.write_str(
                "whose process is not visible from here (another container or another user's)",
            ),
        }
    }
}

/// Claims the file of `writer` in `directory` for this server, until it ends or claims another one.
/// The file is made where it is missing. `beside` is a process that may have it as well: the master
/// that this one takes over from (or hands over to) in a binary upgrade. Gives whether the file was
/// not this server's before.
///
/// # Errors
/// [`DirectoryError::Taken`] where another server has it, [`DirectoryError::Copied`] where it was
/// made on another machine; see [`DirectoryError`] for the others.
pub fn claim(
    directory: &Directory,
    writer: &WriterName,
    beside: Option<Pid>,
) -> Result<bool, DirectoryError> {
    let name = Directory::own(writer);
    let path = directory.shown(&name);
    let failed = |error| DirectoryError::Write(path.clone(), error);
    let open = || sys::append_at(&directory.file, &name);
    let mut file: File = open().map_err(failed)?.into();
    // Also where nothing is to be appended.
    is_own(directory, &mut file, &path)?;
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut wanted = Lockable::open(directory, writer).map_err(failed)?;
    if claimed.as_ref().map_or(Ok(false), |claimed| claimed.is(&wanted)).map_err(failed)? {
        return Ok(false);
    }
    // Of two that start at once the second sees the first; and the file cannot be replaced now.
    let _locked = locked(&path, open)?;
    wanted = Lockable::open(directory, writer).map_err(failed)?;
    if !sys::claim(&wanted.file, wanted.first).map_err(failed)? {
        return Err(DirectoryError::Taken(path, Claimant::Unseen));
    }
    if let Some(claimant) = claimant_of(&wanted, beside).map_err(failed)? {
        return Err(DirectoryError::Taken(path, claimant));
    }
    DESCRIPTOR.store(wanted.file.as_raw_fd(), Ordering::Relaxed);
    *claimed = Some(wanted);
    Ok(true)
}

/// Whether a successor has claimed the file that this server has, and serves: then it is the
/// successor's to say what has ended.
///
/// # Errors
/// [`DirectoryError::Taken`] where one has.
pub(super) fn has_no_successor(path: &str) -> Result<(), DirectoryError> {
    let claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(claimed) = claimed.as_ref() else { return Ok(()) };
    let claimant = claimant_of(claimed, None)
        .map_err(|error| DirectoryError::Write(path.to_owned(), error))?;
    claimant.map_or(Ok(()), |it| Err(DirectoryError::Taken(path.to_owned(), it)))
}

/// Who else has the claim to the file of `writer` and serves.
///
/// # Errors
/// The system's, where the file cannot be opened.
pub fn claimant(directory: &Directory, writer: &WriterName) -> io::Result<Option<Claimant>> {
    for name in [MARKER, &Directory::own(writer)] {
        let file = sys::open_at(&directory.file, name)?;
        let lockable = Lockable::of(directory, writer, name, file);
        if let Some(claimant) = claimant_of(&lockable, None)? {
            return Ok(Some(claimant));
        }
    }
    Ok(None)
}

/// Whether a server that runs one of these programs writes under the name of `writer` and serves: the process.
pub(crate) fn rival(
    directory: &Directory,
    writer: &WriterName,
    programs: &[&str],
) -> Option<Claimant> {
    if programs.is_empty() {
        return None;
    }
    let claimant = claimant(directory, writer).ok()??;
    matches!(claimant, Claimant::Process(pid) if living::runs(pid, programs)).then_some(claimant)
}

/// Gives back, in a child that has just been forked, what it has of its parent's claim. It allocates
/// nothing and waits for no lock: a thread of the parent that is not in the child may have had it.
///
/// # Safety
/// The child claims nothing, records nothing and gives nothing back another time.
pub unsafe fn close_in_child() {
    // SAFETY: by the caller's promise.
    unsafe { held::close_in_child() };
    let descriptor = DESCRIPTOR.swap(-1, Ordering::Relaxed);
    if descriptor >= 0 {
        // SAFETY: `claim` opened it. Its owner is a static that is never dropped, and by the caller's
        // promise nobody looks at it any more.
        unsafe { libc::close(descriptor) };
    }
}

/// Gives it back, in a child, where an upgrade of the package may have put another build of the module in the place of
/// the one that claimed the file. That stays loaded with its descriptor open, and nobody calls it in
/// the child any more.
pub fn leave_to_parent_for_all_builds() {
    held::release();
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(Lockable { file, name, .. }) = claimed.take() else { return };
    DESCRIPTOR.store(-1, Ordering::Relaxed);
    let Ok(wanted) = identity(&file) else { return };
    drop(file);
    for number in own_descriptors(&name, wanted) {
        // SAFETY: its owner is in a build of the module that never runs in this process again.
        unsafe { libc::close(number) };
    }
}

/// Who else has a claim by this file, or by one that was in its place before, and serves.
fn claimant_of(lockable: &Lockable, beside: Option<Pid>) -> io::Result<Option<Claimant>> {
    let Lockable { file, name, first, replaced } = lockable;
    let wanted = identity(file)?;
    // Another build of the module in this very process is not another server.
    let is_rival = |pid: &Pid| {
        *pid != living::own_pid() && Some(*pid) != beside && living::listens(*pid) != Some(false)
    };
    let claims = |locks: &str| -> Vec<libc::off_t> {
        locks.lines().filter_map(|line| sys::claim_in(line, *first)).collect()
    };
    let mut from = 0;
    while let Some(claim) = sys::next_claim(file, *first, from)? {
        let holders = living::with_file(name, |pid, number, locks| {
            claims(locks).contains(&claim)
                && fs::metadata(format!("/proc/{pid}/fd/{number}"))
                    .is_ok_and(|found| (found.dev(), found.ino()) == wanted)
        });
        // It may have ended meanwhile.
        if holders.is_empty() && sys::next_claim(file, *first, claim)? == Some(claim) {
            return Ok(Some(Claimant::Unseen));
        }
        if let Some(pid) = holders.into_iter().find(is_rival) {
            return Ok(Some(Claimant::Process(pid)));
        }
        from = claim + 1;
    }
    // A file that was restored from a backup has no locks, and the one before it still has.
    let before = living::with_file(name, |pid, number, locks| {
        !claims(locks).is_empty()
            && fs::read_link(format!("/proc/{pid}/fd/{number}")).is_ok_and(|it| it == *replaced)
    });
    Ok(before.into_iter().find(is_rival).map(Claimant::Process))
}

/// What tells a file from others.
fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|found| (found.dev(), found.ino()))
}

/// The descriptors of this process for a file.
fn own_descriptors(name: &str, wanted: (u64, u64)) -> Vec<RawFd> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|path| living::is_named(&path, name))
    });
    named
        .filter(|entry| {
            fs::metadata(entry.path()).is_ok_and(|found| (found.dev(), found.ino()) == wanted)
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::process::{Child, ChildStdout, Command, Stdio};

    use crate::published::{append_alone, init};

    /// In the environment of a child: the directory in which it claims the file of `web-1`.
    const CHILD: &str = "HPKP_TEST_CLAIM";

    /// What the tests below start this program for. It listens, says whether it has the file, closes
    /// its listening socket at the first line that it reads, tries to append an event at the second,
    /// and ends at the end of its input.
    #[test]
    #[ignore = "what other tests start this program for"]
    fn child() {
        let path = std::env::var(CHILD).expect("a test that starts this");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let claimed = claim(&Directory::open(&path).unwrap(), &"web-1".parse().unwrap(), None);
        match claimed {
            Ok(_) => println!("\nclaimed"),
            Err(DirectoryError::Taken(_, Claimant::Process(pid))) => println!("\ntaken by {pid}"),
            Err(error) => panic!("{error}"),
        }
        let mut lines = std::io::stdin().lines();
        if lines.next().is_some() {
            drop(listener);
            println!("\nclosed");
        }
        if lines.next().is_some() {
            let directory = Directory::open(&path).unwrap();
            match append_alone(&directory, &[crate::published::tests::event(1)]) {
                Ok(()) => println!("\nappended"),
                Err(DirectoryError::Taken(..)) => println!("\nleft to the successor"),
                Err(error) => panic!("{error}"),
            }
        }
        lines.for_each(drop);
    }

    struct Server(Child, BufReader<ChildStdout>);

    impl Server {
        fn start(path: &str) -> (Self, String) {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "published::claim::tests::child", "--nocapture", "--ignored"]);
            command.env(CHILD, path).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let out = BufReader::new(child.stdout.take().unwrap());
            let mut server = Self(child, out);
            let said = server.said(&["claimed", "taken by"]);
            (server, said)
        }

        fn said(&mut self, wanted: &[&str]) -> String {
            let mut lines = self.1.by_ref().lines().map(Result::unwrap);
            lines.find(|line| wanted.iter().any(|wanted| line.starts_with(wanted))).unwrap()
        }

        /// It only answers its last requests from now on.
        fn close(&mut self) {
            self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            self.said(&["closed"]);
        }

        /// It records its end.
        fn append(&mut self) -> String {
            self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            self.said(&["appended", "left"])
        }

        fn taken(&self) -> String {
            format!("taken by {}", self.0.id())
        }

        fn end(mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn directory() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records").to_str().unwrap().to_owned();
        init(&path).unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_is_that_of_one_server_as_long_as_it_serves() {
        let (_dir, path) = directory();
        let directory = Directory::open(&path).unwrap();
        let (one, two) = ("web-1".parse().unwrap(), "web-2".parse().unwrap());
        let serving = TcpListener::bind("127.0.0.1:0").unwrap();

        let (first, said) = Server::start(&path);
        assert_eq!(said, "claimed");
        let error = claim(&directory, &one, None).unwrap_err();
        let pid = Pid::try_from(first.0.id()).unwrap();
        assert!(
            matches!(error, DirectoryError::Taken(_, Claimant::Process(by)) if by == pid),
            "{error}"
        );
        assert!(error.to_string().contains(&format!("process {pid};")), "{error}");
        assert_eq!(claimant(&directory, &one).unwrap(), Some(Claimant::Process(pid)));
        let (second, said) = Server::start(&path);
        assert_eq!(said, first.taken());
        second.end();
        first.end();
        assert_eq!(claimant(&directory, &one).unwrap(), None);

        // Over reloads, and until another one is claimed.
        assert!(claim(&directory, &one, None).unwrap());
        assert!(!claim(&directory, &one, None).unwrap());
        let own = format!("taken by {}", living::own_pid());
        let (third, said) = Server::start(&path);
        assert_eq!(said, own);
        third.end();
        assert!(claim(&directory, &two, None).unwrap());
        let (fourth, said) = Server::start(&path);
        assert_eq!(said, "claimed");
        fourth.end();

        // By another build of the module in this process.
        let other = Lockable::open(&directory, &one).unwrap();
        assert!(sys::claim(&other.file, other.first).unwrap());
        assert!(claim(&directory, &one, None).unwrap());
        let (fifth, said) = Server::start(&path);
        assert_eq!(said, own);
        fifth.end();
        drop((other, serving));
    }

    #[test]
    fn a_server_that_no_longer_listens_makes_room_for_its_successor_alone() {
        let (_dir, path) = directory();
        let directory = Directory::open(&path).unwrap();
        let one = "web-1".parse().unwrap();
        let claimant = || claimant(&directory, &one).unwrap();
        let (mut first, said) = Server::start(&path);
        assert_eq!(said, "claimed");
        first.close();
        assert_eq!(claimant(), None);
        let (mut second, said) = Server::start(&path);
        assert_eq!(said, "claimed");
        // Whoever ends first, the third one meets the second.
        let (third, said) = Server::start(&path);
        assert_eq!(said, second.taken());
        third.end();
        // What is published is the second's now.
        assert_eq!(first.append(), "left to the successor");
        first.end();
        let (fourth, said) = Server::start(&path);
        assert_eq!(said, second.taken());
        fourth.end();
        second.close();
        assert_eq!(claimant(), None);
        assert_eq!(second.append(), "appended");
        second.end();
    }
    /// Puts a copy of a file in its place, as `hpkp published compact`, rsync and tar do.
    fn replace(path: &str, name: &str) {
        let (file, copy) = (format!("{path}/{name}"), format!("{path}/.copy"));
        fs::copy(&file, &copy).unwrap();
        fs::rename(&copy, &file).unwrap();
    }

    #[test]
    fn a_claim_outlives_the_files() {
        let (dir, path) = directory();
        let one = "web-1".parse().unwrap();
        let (first, said) = Server::start(&path);
        assert_eq!(said, "claimed");
        let pid = Pid::try_from(first.0.id()).unwrap();
        let is_taken = || {
            let directory = Directory::open(&path).unwrap();
            assert_eq!(claimant(&directory, &one).unwrap(), Some(Claimant::Process(pid)));
            let error = claim(&directory, &one, None).unwrap_err();
            assert!(
                matches!(error, DirectoryError::Taken(_, Claimant::Process(by)) if by == pid),
                "{error}"
            );
            // Each writer has a claim of its own.
            drop(sys::append_at(&directory.file, "web-2.jsonl").unwrap());
            assert_eq!(claimant(&directory, &"web-2".parse().unwrap()).unwrap(), None);
        };
        is_taken();
        // The old one keeps a name, and then it does not.
        fs::rename(format!("{path}/web-1.jsonl"), format!("{path}/old")).unwrap();
        fs::copy(format!("{path}/old"), format!("{path}/web-1.jsonl")).unwrap();
        is_taken();
        replace(&path, "web-1.jsonl");
        is_taken();
        replace(&path, MARKER);
        is_taken();
        fs::remove_file(format!("{path}/{MARKER}")).unwrap();
        init(&path).unwrap();
        is_taken();
        fs::remove_dir_all(&path).unwrap();
        init(&path).unwrap();
        drop(sys::append_at(&Directory::open(&path).unwrap().file, "web-1.jsonl").unwrap());
        is_taken();
        first.end();
        assert_eq!(claimant(&Directory::open(&path).unwrap(), &one).unwrap(), None);
        drop(dir);
    }
}
