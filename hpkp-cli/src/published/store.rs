//! The directory with the records: reading its state and appending to it.

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

/// How often records are worked out anew because somebody else has written meanwhile.
const TRIES: usize = 50;

/// Records as far as they can be read.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) store: Store,
    /// Of which directory, and why it or one of its files cannot be used.
    pub(crate) errors: Vec<(String, DirectoryError)>,
    /// What is odd with the files.
    pub(crate) oddities: Vec<String>,
}

/// Open directories and the state of their records. What is written goes into the first.
#[derive(Debug)]
pub(crate) struct Store {
    directories: Vec<Directory>,
    pub(crate) state: State,
    /// Files whose last line was never finished, and how many bytes it has.
    pub(crate) torn: Vec<(String, usize)>,
    pub(crate) now: i64,
    /// When what is on record happened.
    pub(crate) clock: Clock,
}

impl Store {
    /// Opens directories and reads all their records.
    ///
    /// # Errors
    /// One of them, or one of their files, cannot be used.
    pub(crate) fn open<T: AsRef<str>>(paths: &[T]) -> Result<Self, Failure> {
        let Survey { store, errors, oddities } = Self::open_each(paths);
        if let Some((path, error)) = errors.first() {
            return Err(failure(path, error));
        }
        oddities.iter().for_each(|text| output::complain(text));
        Ok(store)
    }

    /// As [`Store::open`], past directories and files that cannot be used.
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
        // Afterwards, so that nothing which was read is newer.
        let now = time::now();
        let Contents { state, torn, in_our_name, unsafe_files, .. } = contents;
        let clock = state.clock(now);
        let store = Self { directories, state, torn, now, clock };
        let oddities = store.oddities(&in_our_name, &unsafe_files);
        Survey { store, errors, oddities }
    }

    /// What is odd with files that were read, or left out.
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

    /// The files that say when other machines were heard from and cannot be used, with the reason.
    pub(crate) fn unusable_heard(&self) -> impl Iterator<Item = (String, String)> {
        self.directories.iter().filter_map(|directory| match directory.heard() {
            HeardFile::Unusable(why) => Some((directory.heard_path(), why)),
            HeardFile::Read(_) | HeardFile::Missing => None,
        })
    }

    /// What all files say now.
    pub(crate) fn contents(&self) -> Result<Contents, Failure> {
        read(&self.directories)
    }

    /// The directory that is written to.
    pub(crate) fn path(&self) -> &str {
        self.directories.first().map_or("", Directory::path)
    }

    /// A command of `hpkp published` on these directories, to be pasted.
    pub(crate) fn command(&self, rest: &str) -> String {
        format!("hpkp published {} {rest}", directory_options(&self.absolute_paths()))
    }

    /// The directories, wherever the command runs that is pasted.
    pub(crate) fn absolute_paths(&self) -> Vec<String> {
        self.directories.iter().map(|one| absolute(one.path())).collect()
    }

    /// The directories.
    pub(crate) fn paths(&self) -> String {
        self.directories.iter().map(|one| shown(one.path())).collect::<Vec<_>>().join(", ")
    }

    /// The records with these ids, or with these first digits of one.
    ///
    /// # Errors
    /// No record has one of them, or several have: a typing error must not pass for done.
    pub(crate) fn resolve(&self, prefixes: &[IdPrefix]) -> Result<Vec<EventId>, Failure> {
        if prefixes.is_empty() {
            return Ok(Vec::new());
        }
        let published = self.state.published().map(|record| record.id);
        let all = published.chain(self.state.presents().map(|record| record.id));
        let all = distinct(all.map(|id| (id.to_string(), id)));
        prefixes.iter().map(|prefix| resolve_one(&all, prefix.as_str())).collect()
    }

    /// Appends what `bodies` gives for the present state, and adds it to the state. The second
    /// function is given the ids of what was appended and may say more that depends on them.
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

    /// The directory that is written to.
    pub(crate) fn first(&self) -> Result<&Directory, Failure> {
        self.directories.first().ok_or_else(|| Failure::usage("no directory given"))
    }

    /// Events of these bodies behind `before` others that are not yet written.
    fn sealed(&self, writer: &WriterName, before: usize, bodies: Vec<Body>) -> Vec<Event> {
        let first = self.state.last_seq(writer).saturating_add(1).saturating_add(before as u64);
        let numbered = (first..).zip(bodies);
        numbered.map(|(seq, body)| Event::new(self.now, seq, writer.clone(), body)).collect()
    }
}

/// The one of the ids, in their order, that begins with `prefix`.
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

/// What cannot be read may be in order; what was read and is wrong is not.
pub(crate) fn failure(path: &str, error: &DirectoryError) -> Failure {
    let text = match error {
        // With the commands that put it right, complete.
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

/// A directory by a path that works wherever the command is pasted.
pub(super) fn absolute(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let found = path.canonicalize().or_else(|_| std::path::absolute(path));
    found.unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// The name of this machine and of a `program` on it. A server with a module is named after the machine
/// alone, and each writer needs a file of its own.
pub(crate) fn writer_of_machine(program: &str) -> Result<WriterName, Failure> {
    let name = format!("{}.{program}", host_name());
    name.parse().map_err(|error| Failure::usage(format!("{error}; set --writer NAME")))
}
