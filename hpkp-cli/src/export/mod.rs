//! Exports the recorded pins in the formats of other software, so that the pins have one source.
//!
//! A part that a format cannot express is an error; nothing is left out. Each generated text is parsed by
//! the importer of its format, and printed only if the result equals the requested sets.

mod apps;
mod headers;
mod item;
mod json;
mod tlsa;
mod tools;

use std::fmt;

use clap::ValueEnum;
use hpkp_core::pin::Pin;
use hpkp_core::published::{Client, Rrset};
use hpkp_core::ua::FieldKind;
use hpkp_core::ua::field::Reading;

use crate::import::{self, Certificates, Matching, PinSet, header};

pub use item::{Item, Refusal};

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Android: network_security_config.xml
    Android,
    /// Commands with --pinnedpubkey
    Curl,
    /// http-response set-header of HAProxy
    Haproxy,
    /// Header of httpd
    Httpd,
    /// iOS: NSPinnedDomains of an Info.plist
    Ios,
    /// Lines of JSON, complete: "hpkp published import" reads them
    Json,
    /// add_header of nginx
    Nginx,
    /// OkHttp: CertificatePinner in Kotlin
    Okhttp,
    /// TLSA records
    Tlsa,
    /// TrustKit: TSKConfiguration of an Info.plist
    Trustkit,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

/// Writes `items` in `format`.
///
/// # Errors
/// The format cannot express a part of an item.
pub fn write(format: Format, items: &[Item]) -> Result<String, Refusal> {
    let has_age = matches!(format, Format::Haproxy | Format::Httpd | Format::Json | Format::Nginx);
    if let Some(item) = items.iter().find(|item| item.max_age.is_some() && !has_age) {
        return item.refuse("a max-age (--without-max-age leaves it out)");
    }
    if format == Format::Tlsa {
        return tlsa::write(items);
    }
    let is_pins = |set: &Rrset| set.scope().is_some() && set.except_ports.is_empty();
    let mut others =
        items.iter().filter(|item| item.tlsa.as_ref().is_some_and(|set| !is_pins(set)));
    if let Some(item) = others.next().filter(|_| format != Format::Json) {
        return item.refuse("TLSA records that are not all of one kind, \"3 1 1\" or the like");
    }
    for (at, item) in items.iter().enumerate() {
        for other in &items[at + 1..] {
            apart(format, item, other)?;
        }
    }
    let text = match format {
        Format::Android => apps::android(items),
        Format::Curl => tools::curl(items),
        Format::Haproxy => headers::haproxy(items),
        Format::Httpd => headers::httpd(items),
        Format::Ios => apps::ios(items),
        Format::Json => json::write(items),
        Format::Nginx => headers::nginx(items),
        Format::Okhttp => apps::okhttp(items),
        Format::Trustkit => apps::trustkit(items),
        Format::Tlsa => return tlsa::write(items),
    }?;
    read_back(format, items, &text)?;
    Ok(text)
}

/// Refuses two sets that a client must both satisfy, if the format would merge them into one.
fn apart(format: Format, one: &Item, other: &Item) -> Result<(), Refusal> {
    let is_same_place = one.set.host == other.set.host
        && one.set.port == other.set.port
        && (one.set.matching == other.set.matching || format != Format::Okhttp);
    let of_one = (one.set.client, one.set.group) == (other.set.client, other.set.group);
    // A client of Apple must satisfy both of its kinds of sets.
    let fits = match format {
        Format::Json => true,
        Format::Ios => one.set.scope != other.set.scope,
        // curl checks each command by itself.
        Format::Curl => true,
        _ => false,
    };
    // Apple merges all entries that match a host, so an entry of another configuration would weaken the
    // first.
    let below = |one: &Item, other: &Item| {
        one.covers_all_below() && other.set.host.is_within(&one.set.host)
    };
    let united = format == Format::Ios
        && !of_one
        && one.set.scope == other.set.scope
        && (below(one, other) || below(other, one));
    match is_same_place && !fits || united {
        true => {
            one.refuse("two sets that must both be met; name the record that is meant by its id")
        }
        false => Ok(()),
    }
}

/// Fails unless the importer finds the exported sets in `text`.
fn read_back(format: Format, items: &[Item], text: &str) -> Result<(), Refusal> {
    use crate::import::format::Format as Of;
    let format = match format {
        Format::Android => Of::Android,
        Format::Curl => Of::Curl,
        Format::Ios => Of::Ios,
        Format::Json => Of::Json,
        Format::Okhttp => Of::Okhttp,
        Format::Trustkit => Of::Trustkit,
        Format::Haproxy | Format::Httpd | Format::Nginx => return headers_read_back(items, text),
        Format::Tlsa => return Ok(()),
    };
    let found = format.read(text.as_bytes(), &Certificates::default());
    let import::Imported { sets, mut tlsa, .. } = found.unwrap_or_default();
    let sets = sets.into_iter().enumerate();
    // Only the JSON format states that pins are TLSA records.
    let is_json = format == Of::Json;
    let mut found: Vec<(PinSet, Option<Rrset>)> =
        sets.map(|(at, set)| (comparable(set), tlsa.remove(&at))).collect();
    for item in items {
        let wanted = (comparable(item.set.clone()), item.tlsa.clone().filter(|_| is_json));
        match found.iter().position(|set| *set == wanted) {
            Some(at) => drop(found.swap_remove(at)),
            None => return item.refuse("how this entry is combined with the others"),
        }
    }
    match (found.first(), items.first()) {
        (Some(_), Some(item)) => item.refuse("how the entries are combined"),
        _ => Ok(()),
    }
}

fn headers_read_back(items: &[Item], text: &str) -> Result<(), Refusal> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for (at, item) in items.iter().enumerate() {
        let value = lines.get(at).and_then(|line| header::unwrap(line).ok());
        let value = value.map(|unwrapped| unwrapped.value).unwrap_or_default();
        let reading = Reading::of(FieldKind::Enforced, value.as_bytes()).ok();
        let field = reading.as_ref().and_then(Reading::strict);
        let is_same = field.is_some_and(|field| {
            sorted(field.pins.clone()) == sorted(item.set.pins.clone())
                && field.include_subdomains == item.set.include_subdomains
                && field.max_age == item.max_age.map(u64::from)
        });
        if !is_same {
            return item.refuse("this set");
        }
    }
    Ok(())
}

fn sorted(mut pins: Vec<Pin>) -> Vec<Pin> {
    pins.sort_unstable();
    pins
}

/// Removes the parts of a set that the exported text does not contain. A host with all hosts below it has
/// two representations, which become one.
#[must_use]
pub fn comparable(set: PinSet) -> PinSet {
    let all_below = set.matching == Matching::AnyDepth
        || set.matching == Matching::Exact && set.include_subdomains;
    let client = match set.client {
        Client::Apple => Client::Apple,
        _ => Client::Curl,
    };
    PinSet {
        matching: if all_below { Matching::AnyDepth } else { set.matching },
        include_subdomains: set.include_subdomains && set.matching == Matching::OneLabel,
        pins: sorted(set.pins),
        origin: String::new(),
        // Only Apple's subdomains are limited to one label.
        client: if all_below { client } else { Client::Curl },
        group: 0,
        ..set
    }
}
