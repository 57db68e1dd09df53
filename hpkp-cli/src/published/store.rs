//! The directories with records: reads their state, and appends records.

use std::collections::HashSet;
use std::path::Path;

use hpkp_core::check::{HeardFile, directory_options};
use hpkp_core::published::clock::Clock;
use hpkp_core::published::{Body, Event, EventId, State, WriterName};
use hpkp_core::sorted::distinct;
use hpkp_core::text::Excerpt;
use hpkp_server::host_name::host_name;
use hpkp_server::owner::Unsafe;
use hpkp_server::published::{self, Contents, Directory, DirectoryError};

use crate::arguments::IdPrefix;
use crate::failure::Failure;
use crate::output;
use crate::progress::Progress;
use crate::time;

/// How often an append is retried because another process has written meanwhile.
const TRIES: usize = 50;

/// The records, as far as they can be read.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) store: Store,
    /// Directories, and why they or one of their files cannot be used.
    pub(crate) errors: Vec<(String, DirectoryError)>,
    /// Unusual conditions of files, as messages.
    pub(crate) oddities: Vec<String>,
}

/// Open directories and the state of their records. New records are written to the first one.
#[derive(Debug)]
pub(crate) struct Store {
    directories: Vec<Directory>,
    pub(crate) state: State,
    /// Files with an incomplete last line, and the number of bytes in it.
    pub(crate) torn: Vec<(String, usize)>,
    pub(crate) now: i64,
    /// The times at which the recorded events happened.
    pub(crate) clock: Clock,
}

impl Store {
    /// Opens directories and reads all their records.
    ///
    /// # Errors
    /// A directory or a file in it cannot be used.
    pub(crate) fn open<T: AsRef<str>>(paths: &[T]) -> Result<Self, Failure> {
        let Survey { store, errors, oddities } = Self::open_each(paths);
        if let Some((path, error)) = errors.first() {
            return Err(failure(path, error));
        }
        oddities.iter().for_each(|text| output::complain(text));
        Ok(store)
    }

    /// The same as [`Store::open`], but skips directories and files that cannot be used.
    pub(crate) fn open_each<T: AsRef<str>>(paths: &[T]) -> Survey {
        let (mut directories, mut errors, mut ours) = (Vec::new(), Vec::new(), HashSet::new());
        for path in paths.iter().map(T::as_ref) {
            match Directory::open(path) {
                Ok(directory) => {
                    ours.extend(directory.writers().unwrap_or_default());
                    directories.push(directory);
                }
                Err(error) => errors.push((path.to_owned(), error)),
            }
        }
        let progress = Progress::start("reading records");
        let mut contents = Contents::default();
        for directory in &directories {
            let found = directory.read_beside(&mut contents, &ours);
            errors.extend(found.into_iter().map(|error| (directory.path().to_owned(), error)));
        }
        drop(progress);
        // The time is taken after reading, so that no record that was read is newer.
        let now = time::now();
        let Contents { state, torn, in_our_name, unsafe_files, .. } = contents;
        let clock = state.clock(now);
        let store = Self { directories, state, torn, now, clock };
        let oddities = store.oddities(&in_our_name, &unsafe_files);
        Survey { store, errors, oddities }
    }

    /// Messages about unusual files, whether they were read or ignored.
    fn oddities(
        &self,
        in_our_name: &[(String, WriterName)],
        unsafe_files: &[(String, Unsafe)],
    ) -> Vec<String> {
        let in_our_name = in_our_name.iter().map(|(file, writer)| {
            let file = shown(file);
            format!("{file}: ignored: the file has the name of {writer}, a writer of this machine")
        });
        let unsafe_files = unsafe_files.iter().map(|(file, why)| {
            format!("{}: {}", shown(file), output::without_number(&why.to_string()))
        });
        let torn = self.torn.iter().map(|(file, bytes)| {
            format!("{}: ignored the incomplete last line ({bytes} bytes)", shown(file))
        });
        in_our_name.chain(unsafe_files).chain(torn).collect()
    }

    /// The directories that could be opened.
    pub(crate) fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// The unusable files `hpkp-heard`, which contain when other machines were last heard from, with the
    /// reason.
    pub(crate) fn unusable_heard(&self) -> impl Iterator<Item = (String, String)> {
        self.directories.iter().filter_map(|directory| match directory.heard() {
            HeardFile::Unusable(why) => Some((directory.heard_path(), why)),
            HeardFile::Read(_) | HeardFile::Missing => None,
        })
    }

    /// Reads all files again.
    pub(crate) fn contents(&self) -> Result<Contents, Failure> {
        read(&self.directories)
    }

    /// The directory to which records are written.
    pub(crate) fn path(&self) -> &str {
        self.directories.first().map_or("", Directory::path)
    }

    /// A command of `hpkp published` for these directories, which can be pasted.
    pub(crate) fn command(&self, rest: &str) -> String {
        format!("hpkp published {} {rest}", directory_options(&self.absolute_paths()))
    }

    /// The absolute paths of the directories, for commands that are pasted elsewhere.
    pub(crate) fn absolute_paths(&self) -> Vec<String> {
        self.directories.iter().map(|one| absolute(one.path())).collect()
    }

    /// The paths of the directories, for messages.
    pub(crate) fn paths(&self) -> String {
        self.directories.iter().map(|one| shown(one.path())).collect::<Vec<_>>().join(", ")
    }

    /// The ids of the records with these ids or prefixes.
    ///
    /// # Errors
    /// A prefix matches no record or several, which may be a typing error.
    pub(crate) fn resolve(&self, prefixes: &[IdPrefix]) -> Result<Vec<EventId>, Failure> {
        if prefixes.is_empty() {
            return Ok(Vec::new());
        }
        let published = self.state.published().map(|record| record.id);
        let all = published.chain(self.state.presents().map(|record| record.id));
        let all = distinct(all.map(|id| (id.to_string(), id)));
        prefixes.iter().map(|prefix| resolve_one(&all, prefix.as_str())).collect()
    }

    /// Appends the records that `bodies` gives for the present state, and adds them to the state. `then`
    /// gets the new records, and may add others that depend on their ids.
    pub(crate) fn append(
        &mut self,
        writer: Option<&WriterName>,
        mut bodies: impl FnMut(&Self) -> Result<Vec<Body>, Failure>,
        mut then: impl FnMut(&[Event]) -> Vec<Body>,
    ) -> Result<Vec<Event>, Failure> {
        let writer = match writer {
            Some(name) => name.clone(),
            None => writer_of_machine("command")?,
        };
        for _ in 0..TRIES {
            let mut events = self.sealed(&writer, 0, bodies(self)?);
            let more = then(&events);
            events.extend(self.sealed(&writer, events.len(), more));
            match published::append(self.first()?, &events) {
                Ok(()) => {
                    events.iter().for_each(|event| self.state.add(event));
                    self.clock = self.state.clock(self.now);
                    return Ok(events);
                }
                Err(DirectoryError::Changed(_)) => self.state = self.contents()?.state,
                Err(error) => return Err(failure(self.first()?.path(), &error)),
            }
        }
        Err(Failure::undetermined(format!(
            "{}: another process keeps writing under the name {writer}; try again or set --writer",
            shown(self.first()?.path())
        )))
    }

    /// The directory to which records are written.
    pub(crate) fn first(&self) -> Result<&Directory, Failure> {
        self.directories.first().ok_or_else(|| Failure::usage("no directory given"))
    }

    /// Events with these bodies, numbered after `before` others that are not yet written.
    fn sealed(&self, writer: &WriterName, before: usize, bodies: Vec<Body>) -> Vec<Event> {
        let first = self.state.last_seq(writer).saturating_add(1).saturating_add(before as u64);
        let numbered = (first..).zip(bodies);
        numbered.map(|(seq, body)| Event::new(self.now, seq, writer.clone(), body)).collect()
    }
}

/// The only id that begins with `prefix`. The ids must be sorted.
fn resolve_one(all: &[(String, EventId)], prefix: &str) -> Result<EventId, Failure> {
    let first = all.partition_point(|(text, _)| text.as_str() < prefix);
    let fits = all[first..].iter().take_while(|(text, _)| text.starts_with(prefix));
    match fits.collect::<Vec<_>>().as_slice() {
        [] => Err(Failure::no(format!("no record has the id {prefix}"))),
        [(_, id)] => Ok(*id),
        many => {
            let named: Vec<&str> = many.iter().take(5).map(|(text, _)| text.as_str()).collect();
            let more = if many.len() > named.len() { ", ..." } else { "" };
            Err(Failure::no(format!(
                "{} records have ids that begin with {prefix}: {}{more}",
                many.len(),
                named.join(", ")
            )))
        }
    }
}

fn read(directories: &[Directory]) -> Result<Contents, Failure> {
    let mut contents = Contents::default();
    let mut ours = HashSet::new();
    for directory in directories {
        ours.extend(directory.writers().unwrap_or_default());
    }
    for directory in directories {
        let error = directory.read_beside(&mut contents, &ours).into_iter().next();
        error.map_or(Ok(()), |error| Err(failure(directory.path(), &error)))?;
    }
    Ok(contents)
}

/// The failure for an unusable directory. If it could not be read, its state is unknown; if it was read and
/// is invalid, the answer is no.
pub(crate) fn failure(path: &str, error: &DirectoryError) -> Failure {
    let text = match error {
        // This text includes the commands that fix the problem.
        DirectoryError::Open(_)
        | DirectoryError::NoMarker
        | DirectoryError::Owner(_)
        | DirectoryError::Mode(..)
        | DirectoryError::Version(_) => {
            let text = error.text(path);
            [text.what].into_iter().chain(text.fix).collect::<Vec<_>>().join("; ")
        }
        _ => format!("{}: {}", shown(path), output::without_number(&error.to_string())),
    };
    match error {
        DirectoryError::Owner(_)
        | DirectoryError::Mode(..)
        | DirectoryError::NoMarker
        | DirectoryError::Version(_)
        | DirectoryError::Records(..)
        | DirectoryError::Unnamed(_)
        | DirectoryError::TooManyFiles(..)
        | DirectoryError::TooLarge(..)
        | DirectoryError::NotOwn(..)
        | DirectoryError::NoRecord(..)
        | DirectoryError::Full(_)
        | DirectoryError::Copied(_) => Failure::no(text),
        DirectoryError::Open(_)
        | DirectoryError::Init(_)
        | DirectoryError::Marker(_)
        | DirectoryError::File(..)
        | DirectoryError::Changed(_)
        | DirectoryError::Locked(_)
        | DirectoryError::Taken(..)
        | DirectoryError::Write(..) => Failure::undetermined(text),
    }
}

pub(crate) fn shown(path: &str) -> String {
    Excerpt::new(path).to_string()
}

/// The absolute path of a directory, for commands that are pasted elsewhere.
pub(super) fn absolute(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let found = path.canonicalize().or_else(|_| std::path::absolute(path));
    found.unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// The writer name for a `program` on this machine. A server with a module has the machine's name alone,
/// and each writer needs its own file.
pub(crate) fn writer_of_machine(program: &str) -> Result<WriterName, Failure> {
    let name = format!("{}.{program}", host_name());
    name.parse().map_err(|error| Failure::usage(format!("{error}; set --writer NAME")))
}
