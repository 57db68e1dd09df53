//! Detects servers that lock out each other's clients, for instance after both changed something at the same moment:
//! the keys that one presents must satisfy the pins that clients have noted from the other. The next config test checks
//! far more; this check reports as soon as the records have arrived.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use hpkp_core::published::file::{Lines, MAX_FILE};
use hpkp_core::published::state::{Record, Standing};
use hpkp_core::published::{
    HostName, Matching, Origin, PinValidation, Presents, Published, WriterName,
};
use hpkp_server::published::{Contents, Directory, PEERS, SUFFIX};

use crate::report::{Code, Report};
use crate::{disk, now};

/// How many mismatches are reported one by one.
const MAX: usize = 20;

/// Compares this machine's servers with the servers whose records have just arrived. The last config test has compared
/// them with all other servers.
pub(crate) fn look(directory: &Directory, report: &mut Report) {
    let mut contents = Contents::default();
    // The servers of this machine report files that cannot be read.
    let _ = directory.read_own(&mut contents);
    let names: Vec<WriterName> =
        report.received.iter().filter_map(|moved| moved.writer.parse().ok()).collect();
    for writer in names {
        let path = Path::new(directory.path()).join(PEERS).join(format!("{writer}{SUFFIX}"));
        if let Ok(bytes) = disk::read(&path, MAX_FILE) {
            let state = &mut contents.state;
            let _ = Lines::of(writer).push(&bytes, &mut |event| state.take(event, Standing::Peer));
        }
    }
    let ours = directory.writers().unwrap_or_default();
    let state = &contents.state;
    let mut published = HashMap::<&HostName, Vec<&Record<Published>>>::new();
    for live in state.live(now()).filter(|live| live.waiver.is_none()) {
        if live.record.body.origin == Origin::Header {
            published.entry(&live.record.body.host).or_default().push(live.record);
        }
    }
    let mut found = BTreeSet::new();
    let presents =
        state.presents().filter(|record| !record.body.aside && state.is_presented(record));
    for presented in presents.filter(|record| record.body.matching == Matching::Exact) {
        let host = &presented.body.host;
        let above = host.parents().filter_map(|name| name.parse::<HostName>().ok());
        for name in std::iter::once(host.clone()).chain(above) {
            let held = published.get(&name).into_iter().flatten();
            let held =
                held.filter(|held| ours.contains(&held.writer) != ours.contains(&presented.writer));
            for held in
                held.filter(|held| held.body.binds(host) && fails(&held.body, &presented.body))
            {
                found.insert((
                    host.to_string(),
                    presented.writer.to_string(),
                    held.writer.to_string(),
                ));
            }
        }
    }
    let more = found.len().saturating_sub(MAX);
    for (host, presenter, publisher) in found.into_iter().take(MAX) {
        report.add(
            Code::Mismatch,
            format!(
                "{host}: {presenter} presents keys that do not match the pins that clients have from {publisher}; \
                 these clients refuse {presenter}; to fix: present the previous certificate there, or look at: hpkp \
                 published -d {} why {host}",
                hpkp_core::text::ShellWord::new(directory.path())
            ),
        );
    }
    if more > 0 {
        report.add(Code::Mismatch, format!("the same of {more} more hosts"));
    }
}

/// Whether a presented certificate fails pin validation (RFC 7469 2.6) on every path.
fn fails(held: &Published, presented: &Presents) -> bool {
    let is_reached =
        presented.ports.is_empty() || presented.ports.iter().any(|port| held.is_on(*port));
    let mut certificates = presented.certificates.iter();
    is_reached
        && certificates.any(|one| {
            one.keys.meet(held.scope, |pin| held.pins.contains(&pin)) == PinValidation::Fails
        })
}
