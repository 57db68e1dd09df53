//! Reads the files of this machine's writers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use hpkp_core::published::WriterName;
use hpkp_core::published::file::MAX_FILE;
use hpkp_server::published::{Directory, DirectoryError, can_append};

use crate::disk;
use crate::records::Records;
use crate::report::{Code, Report};

/// The records of each writer of this machine; none where they cannot be used, which is reported.
pub(crate) fn read(
    directory: &Directory,
    report: &mut Report,
) -> BTreeMap<WriterName, Option<Records>> {
    let mut all = BTreeMap::new();
    let writers = directory.writers().unwrap_or_else(|error| {
        report.add(
            Code::OwnUnreadable,
            format!("cannot use \"{}\": {}", directory.path(), hpkp_cli::sync::os(&error)),
        );
        Default::default()
    });
    for writer in writers {
        let path = directory.own_path(&writer);
        let records = match one(Path::new(&path), &writer) {
            Ok(records) => Some(records),
            Err(text) => {
                report.writer(
                    Code::OwnUnreadable,
                    &writer,
                    format!("cannot use \"{path}\": {text}"),
                );
                None
            }
        };
        let records = match can_append(directory, &writer) {
            Err(DirectoryError::Copied(_)) => {
                report.writer(
                    Code::NameTaken,
                    &writer,
                    format!(
                        "\"{path}\" was made on another machine, so it is not written into the store; move a \
                         copy to peers/, or set writer= to a name that only this server has"
                    ),
                );
                None
            }
            _ => records,
        };
        all.insert(writer, records.filter(|records| !records.lines.is_empty()));
    }
    all
}

fn one(path: &Path, writer: &WriterName) -> Result<Records, String> {
    let bytes = disk::read(path, MAX_FILE).map_err(|error| hpkp_cli::sync::os(&error))?;
    Records::read(bytes, writer).map_err(|error| error.to_string())
}

/// Path, length and time of change of the files of this machine's writers, to detect changes.
pub(crate) fn state(directory: &Directory) -> Vec<(String, u64, i64, i64)> {
    let writers = directory.writers().unwrap_or_default();
    let paths = writers.iter().map(|writer| directory.own_path(writer));
    let mut state: Vec<_> = paths
        .filter_map(|path| {
            let found = fs::symlink_metadata(&path).ok()?;
            Some((path, found.len(), found.mtime(), found.mtime_nsec()))
        })
        .collect();
    state.sort();
    state
}
