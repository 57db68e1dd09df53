//! Writes TLSA records in zone file notation.

use std::fmt::Write as _;

use hpkp_core::published::tlsa::{Protocol, matching, selector, usage_of};
use hpkp_core::published::{Client, Rrset, Tlsa};

use super::item::{Item, Refusal, scope_of};
use crate::import::format::Format;
use crate::import::{Certificates, Except, Imported, Matching};

/// The records of one name.
struct Owner<'a> {
    name: String,
    item: &'a Item,
    set: Rrset,
}

pub(super) fn write(items: &[Item]) -> Result<String, Refusal> {
    let mut owners: Vec<Owner<'_>> = Vec::new();
    for item in items {
        let set = set_of(item)?;
        let name = name_of(item, &set)?;
        match owners.iter_mut().find(|owner| owner.name == name) {
            Some(owner) => owner.add(item, set)?,
            None => owners.push(Owner { name, item, set }),
        }
    }
    // A record without a time to live would inherit that of the previous record, so such records come
    // first.
    owners.sort_by_key(|owner| owner.set.ttl.is_some());
    let mut text = String::new();
    for Owner { name, set, .. } in &owners {
        let ttl = set.ttl.map_or_else(String::new, |ttl| format!("{ttl} "));
        for record in set.records() {
            let _ = writeln!(text, "{name}. {ttl}IN TLSA {record}");
        }
    }
    read_back(&owners, &text)?;
    Ok(text)
}

/// The TLSA records of an item, or records with the same effect as its pins.
fn set_of(item: &Item) -> Result<Rrset, Refusal> {
    let set = &item.set;
    match () {
        () if set.expires_at.is_some() => return item.refuse("an expiry"),
        () if set.matching == Matching::OneLabel => return item.refuse("a pattern of one label"),
        () if set.include_subdomains => return item.refuse("subdomains"),
        () if set.matching == Matching::AnyDepth && set.client == Client::Apple => {
            return item.refuse("subdomains of one label");
        }
        () => {}
    }
    if let Some(records) = &item.tlsa {
        return Ok(records.clone());
    }
    let Some(usage) = usage_of(set.scope) else { return item.refuse(scope_of(set.scope)) };
    let record = |pin: &hpkp_core::pin::Pin| Tlsa {
        usage,
        selector: selector::KEY,
        matching: matching::SHA256,
        data: pin.bytes().to_vec(),
    };
    let protocol = (set.matching == Matching::Exact).then_some(Protocol::Tcp);
    match Rrset::new(protocol, None, set.pins.iter().map(record).collect()) {
        Some(set) => Ok(set),
        None => item.refuse("so many pins"),
    }
}

fn name_of(item: &Item, set: &Rrset) -> Result<String, Refusal> {
    let host = item.set.host.as_str();
    let protocol = set.protocol.map_or("", Protocol::as_str);
    match (item.set.matching, item.set.port, set.protocol) {
        (Matching::AnyDepth, None, None) => Ok(format!("*.{host}")),
        (Matching::AnyDepth, ..) => item.refuse("a port of a pattern of hosts"),
        (_, Some(port), Some(_)) => Ok(format!("_{port}._{protocol}.{host}")),
        (_, None, Some(_)) => Ok(format!("*._{protocol}.{host}")),
        (_, _, None) => item.refuse("a name without a protocol"),
    }
}

impl Owner<'_> {
    /// Adds a set to the records of the same name. A client must match one of two sets of one
    /// configuration, but both of any other two sets, which TLSA records cannot express.
    fn add(&mut self, item: &Item, set: Rrset) -> Result<(), Refusal> {
        let of = |item: &Item| (item.set.client, item.set.group);
        let is_one = of(self.item) == of(item)
            && item.set.client == Client::Dane
            && self.item.tlsa.is_none()
            && item.tlsa.is_none()
            && self.item.set.scope != item.set.scope;
        let records = self.set.records().iter().chain(set.records());
        match Rrset::new(set.protocol, None, records.cloned().collect()).filter(|_| is_one) {
            Some(both) => self.set = both,
            None => {
                return item.refuse(
                    "two sets that must both be met; name the record that is meant by its id",
                );
            }
        }
        Ok(())
    }
}

/// Fails unless the importer finds the exported sets in `text`.
fn read_back(owners: &[Owner<'_>], text: &str) -> Result<(), Refusal> {
    let read = Format::Tlsa.read(text.as_bytes(), &Certificates::default());
    let Imported { sets, mut tlsa, .. } = read.unwrap_or_default();
    let mut found: Vec<_> = sets
        .into_iter()
        .enumerate()
        .filter_map(|(at, set)| {
            Some((set.host, set.matching, set.port, set.except, tlsa.remove(&at)?))
        })
        .collect();
    for Owner { item, set, .. } in owners {
        let mut except: Vec<Except> = item.set.except.clone();
        except.sort();
        let wanted = (item.set.host.clone(), item.set.matching, item.set.port, except, set.clone());
        match found.iter().position(|one| *one == wanted) {
            Some(at) => drop(found.swap_remove(at)),
            None if !item.set.except.is_empty() => return item.refuse("exempt hosts"),
            None => return item.refuse("how this entry is combined with the others"),
        }
    }
    Ok(())
}
