//! Lists the files below a directory, with limits.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::output;

/// The most directory entries of a walk.
pub(crate) const MAX_ENTRIES: usize = 10_000_000;

/// The deepest nesting of directories.
pub(crate) const MAX_DEPTH: usize = 128;

/// An event of a walk.
#[derive(Debug)]
pub(crate) enum Reached {
    /// A regular file or a link to one.
    File,
    /// The mount point of a kernel file system, which is not entered.
    OfKernel,
    /// Something that could not be read.
    Trouble(Trouble),
}

/// Why something could not be read.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// An error of the operating system.
    Io(io::Error),
    /// Directories are nested too deeply.
    TooDeep,
    /// The directory has too many entries; the rest was not read.
    TooMany,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => f.write_str(&output::os(error)),
            Self::TooDeep => write!(f, "more than {MAX_DEPTH} nested directories"),
            Self::TooMany => {
                write!(
                    f,
                    "more than {MAX_ENTRIES} files and directories; the rest was not searched"
                )
            }
        }
    }
}

/// A directory that has not been read yet.
struct Open {
    path: PathBuf,
    depth: usize,
    /// The device of the parent directory.
    device: Option<u64>,
}

/// Calls `visit` for every regular file in and below `directory`, sorted by name in each directory, and for
/// everything that could not be read. `visit` may stop the walk.
///
/// Links to files are followed, since certbot's `live` contains nothing else. Links to directories are not,
/// so that a walk neither loops nor leaves the directory. Kernel file systems (/proc, /sys) are not entered
/// from another file system: they contain no stored files, and /proc shows the whole tree again for each
/// process.
///
/// # Errors
/// `directory` itself cannot be read.
pub(crate) fn files(
    directory: &Path,
    mut visit: impl FnMut(&Path, Reached) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut left = MAX_ENTRIES;
    let mut open = vec![Open { path: directory.to_owned(), depth: 0, device: None }];
    while let Some(Open { path, depth, device: around }) = open.pop() {
        let device = fs::symlink_metadata(&path).map(|metadata| metadata.dev()).ok();
        let is_mount = around.is_some() && device != around;
        let reached = if is_mount && is_of_kernel(&path) {
            Some(Reached::OfKernel)
        } else {
            match list(&path, left) {
                Ok(entries) if entries.len() > left => Some(Reached::Trouble(Trouble::TooMany)),
                Ok(entries) => {
                    left -= entries.len();
                    match enter(entries, depth, device, &mut open, &mut visit) {
                        ControlFlow::Continue(()) => None,
                        ControlFlow::Break(()) => return Ok(()),
                    }
                }
                Err(error) if depth == 0 => return Err(error),
                Err(error) => Some(Reached::Trouble(Trouble::Io(error))),
            }
        };
        let is_last = matches!(reached, Some(Reached::Trouble(Trouble::TooMany)));
        let visited = reached.map_or(ControlFlow::Continue(()), |reached| visit(&path, reached));
        if is_last || visited.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// The entries of a directory, sorted by name. One entry more than `left` shows that there are too many.
fn list(path: &Path, left: usize) -> io::Result<Vec<fs::DirEntry>> {
    let entries = fs::read_dir(path)?.take(left + 1);
    let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

/// Visits the files of a directory, and adds its subdirectories to the open ones.
fn enter(
    entries: Vec<fs::DirEntry>,
    depth: usize,
    device: Option<u64>,
    open: &mut Vec<Open>,
    visit: &mut impl FnMut(&Path, Reached) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut below = Vec::new();
    for entry in entries {
        let path = entry.path();
        match what(&entry) {
            Ok(What::File) => visit(&path, Reached::File)?,
            Ok(What::Directory) if depth == MAX_DEPTH => {
                visit(&path, Reached::Trouble(Trouble::TooDeep))?;
            }
            Ok(What::Directory) => below.push(Open { path, depth: depth + 1, device }),
            Ok(What::Other) => {}
            Err(error) => visit(&path, Reached::Trouble(Trouble::Io(error)))?,
        }
    }
    open.extend(below.into_iter().rev());
    ControlFlow::Continue(())
}

/// Whether a directory belongs to a file system of the kernel, which stores no files.
fn is_of_kernel(path: &Path) -> bool {
    /// `SYSFS_MAGIC` of linux/magic.h.
    const SYSFS: i64 = 0x6265_6572;
    /// `PROC_SUPER_MAGIC`.
    const PROC: i64 = 0x9fa0;
    /// `CGROUP_SUPER_MAGIC`, `CGROUP2_SUPER_MAGIC`.
    const CGROUP: [i64; 2] = [0x0027_e0eb, 0x6367_7270];
    rustix::fs::statfs(path).is_ok_and(|about| {
        #[allow(clippy::useless_conversion)] // It is of another width on other machines.
        let kind = i64::from(about.f_type);
        kind == SYSFS || kind == PROC || CGROUP.contains(&kind)
    })
}

/// The kind of a directory entry.
enum What {
    /// A regular file or a link to one.
    File,
    Directory,
    Other,
}

fn what(entry: &fs::DirEntry) -> io::Result<What> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        return Ok(What::Directory);
    }
    if !kind.is_symlink() {
        return Ok(if kind.is_file() { What::File } else { What::Other });
    }
    match fs::metadata(entry.path()) {
        Ok(target) if target.is_file() => Ok(What::File),
        Ok(_) => Ok(What::Other),
        // A dangling or circular link leads to no file.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(What::Other)
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Ok(What::Other),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_file_systems_are_recognised() {
        assert!(is_of_kernel(Path::new("/proc")) && is_of_kernel(Path::new("/sys")));
        assert!(!is_of_kernel(Path::new("/")) && !is_of_kernel(Path::new("/nowhere")));
    }

    #[test]
    fn a_walk_can_be_stopped() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["a", "b", "c"] {
            fs::write(directory.path().join(name), name).expect("a file");
        }
        let mut seen = 0;
        files(directory.path(), |_, _| {
            seen += 1;
            if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("a walk");
        assert_eq!(seen, 2);
    }
}
