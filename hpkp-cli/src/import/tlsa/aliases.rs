//! Follows the aliases of a zone: CNAME (RFC 1034 section 3.6.2), and DNAME (RFC 6672), which gives an alias
//! to every name below its own.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::super::{ImportError, MAX_SETS, Problem};
use super::zone::Record;

/// The most aliases that are followed one after the other.
const MAX_LINKS: usize = 16;

/// The most DNAMEs of a zone.
const MAX_DNAMES: usize = 1_000;

/// The CNAMEs of a zone, and those that its DNAMEs make of the names in `names` and of other aliases. Each has
/// the end of its chain as target: the first name that is in `names`, or that has no alias here. All of `names` are
/// in lower case.
///
/// # Errors
/// [`Problem::TooManySets`] if the zone has too many DNAMEs, or if these make too many aliases.
pub(super) fn followed(
    records: &[Record],
    names: &HashSet<String>,
) -> Result<Vec<Record>, ImportError> {
    let mut all: Vec<Record> = records.iter().filter(|one| one.kind == "CNAME").cloned().collect();
    let owners = all.iter().map(|alias| alias.owner.to_ascii_lowercase());
    let known: BTreeSet<String> = names.iter().cloned().chain(owners).collect();
    for (number, dname) in records.iter().filter(|one| one.kind == "DNAME").enumerate() {
        if number == MAX_DNAMES || all.len() > records.len() + MAX_SETS {
            return Err(Problem::TooManySets.at(dname.line));
        }
        let to = end_of(dname);
        let below = known.iter().filter_map(|name| {
            let labels = name.strip_suffix(&to)?.strip_suffix('.')?;
            let owner = format!("{labels}.{}", dname.owner);
            Some(Record::alias(dname.line, owner, dname.ttl, format!("{name}.")))
        });
        all.extend(below);
    }
    let links: HashMap<String, (String, Option<u32>)> = all
        .iter()
        .map(|alias| (alias.owner.to_ascii_lowercase(), (end_of(alias), alias.ttl)))
        .collect();
    let follow = |alias: &Record| {
        let (mut to, mut ttl) = (end_of(alias), alias.ttl);
        for _ in 0..MAX_LINKS {
            let Some((next, next_ttl)) = links.get(&to).filter(|_| !names.contains(&to)) else {
                break;
            };
            (to, ttl) = (next.clone(), ttl.max(*next_ttl));
        }
        Record::alias(alias.line, alias.owner.clone(), ttl, format!("{to}."))
    };
    Ok(all.iter().map(follow).collect())
}

fn end_of(alias: &Record) -> String {
    alias.target().unwrap_or_default().to_ascii_lowercase()
}
