//! Generates the texts that publish the pin of a next key: policies, TLSA records, and the formats of apps.

use hpkp_core::published::tlsa::{Tlsa, matching, selector};
use hpkp_core::published::{Client, Lifetime, Origin, Published};
use hpkp_core::sorted::distinct;

use super::super::next_keys::NextKey;
use super::today::Today;
use crate::exit::Exit;
use crate::export::{self, Format, Item};
use crate::failure::Failure;
use crate::import::PinSet;
use crate::output;
use crate::plan::leaves_in_use;
use crate::published::export::item;

/// The usage of a TLSA record that names the key of the server itself (RFC 6698 section 2.1.1, DANE-EE).
const DANE_EE: u8 = 3;

/// The TLSA records to add for the next key: one for each recorded name, or one for port 443 if there is
/// none.
pub(super) fn tlsa(today: &Today, key: &NextKey) -> Vec<String> {
    let data = key.pin.bytes().to_vec();
    let record = Tlsa { usage: DANE_EE, selector: selector::KEY, matching: matching::SHA256, data };
    let live = today.store.state.live(today.store.now).map(|live| &live.record.body);
    let sets = live.filter(|body| body.tlsa.is_some() && body.binds(&today.host));
    let mut owners = distinct(sets.filter_map(Published::owner));
    if owners.is_empty() {
        owners.push(format!("_443._tcp.{}", today.host));
    }
    owners
        .iter()
        .map(|owner| format!("{}. IN TLSA {record}", owner.trim_end_matches('.')))
        .collect()
}

/// Prints the newest recorded pins of the host together with the pin of the next key.
pub(super) fn export(today: &Today, key: &NextKey, format: Format) -> Result<Exit, Failure> {
    let mut item = newest(today, format)?;
    item.set.pins = distinct(item.set.pins.into_iter().chain([key.pin]));
    let text = export::write(format, &[item])
        .map_err(|refusal| Failure::no(format!("{refusal} ({format}); nothing was written")))?;
    Ok(output::ended(Exit::Fine, output::line(text.trim_end_matches('\n'))))
}

/// The pins of the newest app release, or of the header; if neither is on record, the keys in use.
fn newest(today: &Today, format: Format) -> Result<Item, Failure> {
    let is_header = |body: &Published| body.origin == Origin::Header;
    let wants_header = matches!(format, Format::Nginx | Format::Httpd | Format::Haproxy);
    let live = today.store.state.live(today.store.now).filter(|live| {
        let body = &live.record.body;
        live.waiver.is_none() && body.host == today.host && body.tlsa.is_none()
    });
    let rank = |body: &Published, at: i64| (is_header(body) == wants_header, at);
    let newest = live.max_by_key(|live| rank(&live.record.body, live.record.at));
    let Some(newest) = newest.filter(|live| is_header(&live.record.body) || !wants_header) else {
        return of_keys(today);
    };
    let body = &newest.record.body;
    let mut item = item(body, 0);
    if is_header(body) && !wants_header {
        item.max_age = None;
    }
    if !matches!(body.lifetime, Lifetime::MaxAge(_)) && wants_header {
        return of_keys(today);
    }
    Ok(item)
}

fn of_keys(today: &Today) -> Result<Item, Failure> {
    let pins = leaves_in_use(&today.store.state, &today.host);
    if pins.is_empty() {
        return Err(Failure::no(format!("{}: no recorded pins", today.host)));
    }
    let set = PinSet::of_one(today.host.clone(), pins, String::new(), (Client::Android, 0));
    Ok(Item { set, max_age: None, tlsa: None })
}
