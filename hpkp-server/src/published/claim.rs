//! The claim of a running server to its writer's file. Without it, a second server under the same name would end the
//! pins that the first one still publishes.
//!
//! The claim is a lock of an open file description, so it survives the fork that puts a server into the background, and
//! ends with the process in any case. Worker processes close their copy; otherwise orphans would keep the claim of a
//! master that was killed.
//!
//! The lock is on a range of the directory's marker that only this writer uses. The writer's own file is not suitable,
//! because compacting or restoring replaces it.
//!
//! A server that is stopping and finishes its last requests keeps its claim, since nginx calls no module when it
//! begins to stop. Such a server has closed its listening sockets, by which its successor recognises it and makes a
//! claim of its own.

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

/// The claim of this process, or of the one from which it was forked. The file stays open as long as they live, over
/// all reloads.
static CLAIMED: Mutex<Option<Lockable>> = Mutex::new(None);

/// The descriptor of that file, for a child that must not wait for the mutex: see [`close_in_child`]. -1 if there is
/// none.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// A file that is locked for the claim to a writer's file.
struct Lockable {
    file: File,
    name: String,
    /// The offset at which the claims of this writer begin.
    first: libc::off_t,
    /// The path of the file in `/proc` after another file has replaced it.
    replaced: PathBuf,
}

/// The offset of the claims, beyond the end of any data.
const CLAIMS: libc::off_t = 1 << 62;

impl Lockable {
    /// Opens the marker, or if this user may not write to it, the file of `writer` itself.
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

/// Another process that has the claim to a file and serves clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// The process with this id.
    Process(Pid),
    /// A process that is not visible here: in another container, or another user's.
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

/// Claims the file of `writer` in `directory` for this server, until it ends or claims another file. The file is
/// created if it is missing. `beside` is a process that may have the claim as well: the master from which this one
/// takes over (or to which it hands over) in a binary upgrade. Returns whether the claim is new.
///
/// # Errors [`DirectoryError::Taken`] if another server has the claim, [`DirectoryError::Copied`] if the file was made
/// on another machine; see [`DirectoryError`] for the others.
pub fn claim(
    directory: &Directory,
    writer: &WriterName,
    beside: Option<Pid>,
) -> Result<bool, DirectoryError> {
    let name = Directory::own(writer);
    let path = directory.path_text(&name);
    let failed = |error| DirectoryError::Write(path.clone(), error);
    let open = || sys::append_at(&directory.file, &name);
    let mut file: File = open().map_err(failed)?.into();
    // The file is also checked if nothing will be appended.
    is_own(directory, &mut file, &path)?;
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut wanted = Lockable::open(directory, writer).map_err(failed)?;
    if claimed.as_ref().map_or(Ok(false), |claimed| claimed.is(&wanted)).map_err(failed)? {
        return Ok(false);
    }
    // If two servers start at the same time, the second one notices the first. The lock also prevents that the file is
    // replaced now.
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

/// Fails if a successor has claimed this server's file and serves clients: only the successor then records what has
/// ended.
///
/// # Errors
/// [`DirectoryError::Taken`] if a successor has.
pub(super) fn has_no_successor(path: &str) -> Result<(), DirectoryError> {
    let claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(claimed) = claimed.as_ref() else { return Ok(()) };
    let claimant = claimant_of(claimed, None)
        .map_err(|error| DirectoryError::Write(path.to_owned(), error))?;
    claimant.map_or(Ok(()), |it| Err(DirectoryError::Taken(path.to_owned(), it)))
}

/// The other process that has the claim to the file of `writer` and serves clients.
///
/// # Errors
/// The system's, if the file cannot be opened.
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

/// The process that runs one of these programs, writes under the name of `writer` and serves clients.
///
/// # Errors
/// The system's, if the claims cannot be read. A writer without a file has no claims.
pub(crate) fn rival(
    directory: &Directory,
    writer: &WriterName,
    programs: &[&str],
) -> io::Result<Option<Claimant>> {
    if programs.is_empty() {
        return Ok(None);
    }
    match claimant(directory, writer) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => Ok(found?
            .filter(|it| matches!(it, Claimant::Process(pid) if living::runs(*pid, programs)))),
    }
}

/// Closes, in a child that has just been forked, its copies of the descriptors of its parent's claim. It allocates
/// nothing and waits for no mutex, because a thread of the parent that does not exist in the child may have held it.
///
/// # Safety
/// The child claims nothing, records nothing, and does not call this again.
pub unsafe fn close_in_child() {
    // SAFETY: by the caller's promise, which is the same for `held`.
    unsafe { held::close_in_child() };
    let descriptor = DESCRIPTOR.swap(-1, Ordering::Relaxed);
    if descriptor >= 0 {
        // SAFETY: `claim` opened the descriptor, whose owner is a static that is never dropped. By the caller's promise
        // nothing in this process uses the descriptor any more.
        unsafe { libc::close(descriptor) };
    }
}

/// Closes, in a child, the descriptors of all builds of the module: after an upgrade of the package, another build may
/// have made the claim. That build stays loaded with its descriptor open, and nothing calls it in the child any more.
pub fn leave_to_parent_for_all_builds() {
    held::release();
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(Lockable { file, name, .. }) = claimed.take() else { return };
    DESCRIPTOR.store(-1, Ordering::Relaxed);
    let Ok(wanted) = identity(&file) else { return };
    drop(file);
    for number in own_descriptors(&name, wanted) {
        // SAFETY: the descriptor is of the file of claims (`own_descriptors` compares its identity). The copy of this
        // build is closed already, and another build, which owns this one, never runs in this process again.
        unsafe { libc::close(number) };
    }
}

/// The other process that has a claim by this file, or by a file that it has replaced, and serves clients.
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
        // The process with the claim may have ended meanwhile.
        if holders.is_empty() && sys::next_claim(file, *first, claim)? == Some(claim) {
            return Ok(Some(Claimant::Unseen));
        }
        if let Some(pid) = holders.into_iter().find(is_rival) {
            return Ok(Some(Claimant::Process(pid)));
        }
        from = claim + 1;
    }
    // A file that was restored from a backup has no locks, but the file that it replaced still has them.
    let before = living::with_file(name, |pid, number, locks| {
        !claims(locks).is_empty()
            && fs::read_link(format!("/proc/{pid}/fd/{number}")).is_ok_and(|it| it == *replaced)
    });
    Ok(before.into_iter().find(is_rival).map(Claimant::Process))
}

/// The device and inode number of a file.
fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|found| (found.dev(), found.ino()))
}

/// The descriptors of this process for the file with this name and identity.
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

    /// The server that the tests below start. It listens, prints whether it has the claim, closes its listening socket
    /// at the first line that it reads, tries to append an event at the second, and ends at the end of its input.
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
            let answer = server.answer(&["claimed", "taken by"]);
            (server, answer)
        }

        /// The next line that begins with one of `wanted`.
        fn answer(&mut self, wanted: &[&str]) -> String {
            let mut lines = self.1.by_ref().lines().map(Result::unwrap);
            lines.find(|line| wanted.iter().any(|wanted| line.starts_with(wanted))).unwrap()
        }

        /// Makes the server close its listening socket, as if it were stopping.
        fn close(&mut self) {
            self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            self.answer(&["closed"]);
        }

        /// Makes the server append an event.
        fn append(&mut self) -> String {
            self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
            self.answer(&["appended", "left"])
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
    fn a_claim_lasts_as_long_as_its_server_serves() {
        let (_dir, path) = directory();
        let directory = Directory::open(&path).unwrap();
        let (one, two) = ("web-1".parse().unwrap(), "web-2".parse().unwrap());
        let serving = TcpListener::bind("127.0.0.1:0").unwrap();

        let (first, answer) = Server::start(&path);
        assert_eq!(answer, "claimed");
        let error = claim(&directory, &one, None).unwrap_err();
        let pid = Pid::try_from(first.0.id()).unwrap();
        assert!(
            matches!(error, DirectoryError::Taken(_, Claimant::Process(by)) if by == pid),
            "{error}"
        );
        assert!(error.to_string().contains(&format!("process {pid};")), "{error}");
        assert_eq!(claimant(&directory, &one).unwrap(), Some(Claimant::Process(pid)));
        let (second, answer) = Server::start(&path);
        assert_eq!(answer, first.taken());
        second.end();
        first.end();
        assert_eq!(claimant(&directory, &one).unwrap(), None);

        // A claim lasts over reloads, until another file is claimed.
        assert!(claim(&directory, &one, None).unwrap());
        assert!(!claim(&directory, &one, None).unwrap());
        let own = format!("taken by {}", living::own_pid());
        let (third, answer) = Server::start(&path);
        assert_eq!(answer, own);
        third.end();
        assert!(claim(&directory, &two, None).unwrap());
        let (fourth, answer) = Server::start(&path);
        assert_eq!(answer, "claimed");
        fourth.end();

        // Another build of the module in this process has a claim.
        let other = Lockable::open(&directory, &one).unwrap();
        assert!(sys::claim(&other.file, other.first).unwrap());
        assert!(claim(&directory, &one, None).unwrap());
        let (fifth, answer) = Server::start(&path);
        assert_eq!(answer, own);
        fifth.end();
        drop((other, serving));
    }

    #[test]
    fn a_server_that_no_longer_listens_makes_room_for_one_successor() {
        let (_dir, path) = directory();
        let directory = Directory::open(&path).unwrap();
        let one = "web-1".parse().unwrap();
        let claimant = || claimant(&directory, &one).unwrap();
        let (mut first, answer) = Server::start(&path);
        assert_eq!(answer, "claimed");
        first.close();
        assert_eq!(claimant(), None);
        let (mut second, answer) = Server::start(&path);
        assert_eq!(answer, "claimed");
        // The third server meets the second one, whichever of the first two ends earlier.
        let (third, answer) = Server::start(&path);
        assert_eq!(answer, second.taken());
        third.end();
        // The second server publishes the pins now.
        assert_eq!(first.append(), "left to the successor");
        first.end();
        let (fourth, answer) = Server::start(&path);
        assert_eq!(answer, second.taken());
        fourth.end();
        second.close();
        assert_eq!(claimant(), None);
        assert_eq!(second.append(), "appended");
        second.end();
    }

    #[test]
    fn claims_that_cannot_be_read_are_an_error() {
        let (_dir, path) = directory();
        let directory = Directory::open(&path).unwrap();
        let writer: WriterName = "web-1".parse().unwrap();
        // A writer that has recorded nothing has no rival.
        assert_eq!(rival(&directory, &writer, living::NGINX).unwrap(), None);
        std::os::unix::fs::symlink("elsewhere", format!("{path}/web-1.jsonl")).unwrap();
        let error = rival(&directory, &writer, living::NGINX).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    /// Replaces a file by a copy, as `hpkp published compact`, rsync and tar do.
    fn replace(path: &str, name: &str) {
        let (file, copy) = (format!("{path}/{name}"), format!("{path}/.copy"));
        fs::copy(&file, &copy).unwrap();
        fs::rename(&copy, &file).unwrap();
    }

    #[test]
    fn a_claim_lasts_although_the_files_are_replaced() {
        let (dir, path) = directory();
        let one = "web-1".parse().unwrap();
        let (first, answer) = Server::start(&path);
        assert_eq!(answer, "claimed");
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
        // The old file still has a name at first, and then none.
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
