//! A writer's file belongs to one running server. A second one under the same name would end what
//! the first has published and still publishes.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use hpkp_core::published::WriterName;

use super::append::is_own;
use super::{Directory, DirectoryError, sys};

/// The file that this process, or the one that it was forked from, has claimed. It stays open as
/// long as they live, over all reloads.
static CLAIMED: Mutex<Option<File>> = Mutex::new(None);

/// The descriptor of [`CLAIMED`], or -1: a process that has just been forked must not wait for a lock.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);

/// Claims the file of `writer` in `directory` for this server, until it ends or claims another one.
/// The file is made where it is missing.
///
/// # Errors
/// [`DirectoryError::Taken`] where another server has it, [`DirectoryError::Copied`] where it was
/// made on another machine; see [`DirectoryError`] for the others.
pub fn claim(directory: &Directory, writer: &WriterName) -> Result<(), DirectoryError> {
    let name = Directory::own(writer);
    let shown = directory.shown(&name);
    let failed = |error| DirectoryError::Write(shown.clone(), error);
    let mut file: File = sys::append_at(&directory.file, &name).map_err(failed)?.into();
    // Also where nothing is to be appended.
    is_own(directory, &mut file, &shown)?;
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = identity(&file).map_err(failed)?;
    if claimed.as_ref().is_some_and(|claimed| identity(claimed).is_ok_and(|it| it == wanted)) {
        return Ok(());
    }
    if !sys::claim(&file).map_err(failed)? {
        // An upgrade has put another build of the module in the place of the one that claimed it:
        // that stays loaded, with a `CLAIMED` of its own, and this server has the file.
        return match is_open_besides(&file, wanted) {
            Ok(true) => Ok(()),
            _ => Err(DirectoryError::Taken(shown)),
        };
    }
    DESCRIPTOR.store(file.as_raw_fd(), Ordering::Relaxed);
    *claimed = Some(file);
    Ok(())
}

/// Closes the claimed file in a process that has just been forked from the one that claimed it, and
/// that shall not keep the claim when the other ends. It may be called right after the fork: it
/// neither waits nor allocates. Such a process claims nothing itself.
pub fn close_claim_in_child() {
    let descriptor = DESCRIPTOR.swap(-1, Ordering::Relaxed);
    if descriptor >= 0 {
        // SAFETY: takes a number. In this process nothing else uses the descriptor: `CLAIMED`, which
        // has it too, is looked at by who claims alone, and a static is never dropped.
        unsafe { libc::close(descriptor) };
    }
}

/// What tells a file from others.
fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|found| (found.dev(), found.ino()))
}

/// Whether this process has the file open by another descriptor as well.
fn is_open_besides(file: &File, wanted: (u64, u64)) -> io::Result<bool> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        // Of a socket or a pipe there is no file to follow to.
        let found = fs::metadata(entry.path()).map(|found| (found.dev(), found.ino()));
        if number != Some(file.as_raw_fd()) && found.is_ok_and(|found| found == wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::{Child, Command, Stdio};

    use crate::published::init;

    /// In the environment of a child: the directory in which it claims the file of `web-1`.
    const CHILD: &str = "HPKP_TEST_CLAIM";

    /// What the test below starts this program for. It says whether it has the file, and keeps it
    /// until its standard input ends.
    #[test]
    #[ignore = "the program of another test"]
    fn child() {
        let path = std::env::var(CHILD).expect("a test that starts this");
        let claimed = claim(&Directory::open(&path).unwrap(), &"web-1".parse().unwrap());
        match claimed {
            Ok(()) => println!("\nclaimed"),
            Err(DirectoryError::Taken(_)) => println!("\ntaken"),
            Err(error) => panic!("{error}"),
        }
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }

    fn start_child(path: &str) -> (Child, String) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "published::claim::tests::child", "--nocapture", "--ignored"]);
        command.env(CHILD, path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.find_map(|line| {
            let line = line.unwrap();
            ["claimed", "taken"].contains(&line.as_str()).then_some(line)
        });
        (child, said.unwrap())
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_file_is_that_of_one_server_as_long_as_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records").to_str().unwrap().to_owned();
        init(&path).unwrap();
        let directory = Directory::open(&path).unwrap();
        let (one, two) = ("web-1".parse().unwrap(), "web-2".parse().unwrap());

        let (first, said) = start_child(&path);
        assert_eq!(said, "claimed");
        let error = claim(&directory, &one).unwrap_err();
        assert!(matches!(error, DirectoryError::Taken(_)), "{error}");
        let (second, said) = start_child(&path);
        assert_eq!(said, "taken");
        end(second);
        end(first);

        // Over reloads, and until another one is claimed.
        claim(&directory, &one).unwrap();
        claim(&directory, &one).unwrap();
        let (third, said) = start_child(&path);
        assert_eq!(said, "taken");
        end(third);
        claim(&directory, &two).unwrap();
        let (fourth, said) = start_child(&path);
        assert_eq!(said, "claimed");
        end(fourth);

        // By another build of the module in this process.
        let other: File = sys::append_at(&directory.file, "web-1.jsonl").unwrap().into();
        assert!(sys::claim(&other).unwrap());
        claim(&directory, &one).unwrap();
        let (fifth, said) = start_child(&path);
        assert_eq!(said, "taken");
        end(fifth);
    }
}
