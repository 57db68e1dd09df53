//! Writes commands of curl.

use std::fmt::Write as _;

use super::item::{Item, Refusal, scope_of};
use crate::import::{Matching, Scope};

/// Refuses a set that applies to other hosts than the named one.
fn of_one_host(item: &Item) -> Result<(), Refusal> {
    match () {
        () if item.set.expires_at.is_some() => item.refuse("an expiry"),
        () if !item.set.except.is_empty() => item.refuse("exempt hosts"),
        () if item.set.matching == Matching::OneLabel => item.refuse("a pattern of one label"),
        () if item.set.include_subdomains => item.refuse("subdomains"),
        () => Ok(()),
    }
}

pub(super) fn curl(items: &[Item]) -> Result<String, Refusal> {
    let mut text = String::new();
    for item in items {
        of_one_host(item)?;
        if item.set.matching != Matching::Exact {
            return item.refuse("a pattern of hosts");
        }
        if item.set.scope != Scope::Leaf {
            return item.refuse(scope_of(item.set.scope));
        }
        let host = item.set.host.as_str();
        let (option, url) = match item.set.port {
            None => return item.refuse("all ports at once"),
            Some(443) => ("", format!("https://{host}/")),
            Some(25) => ("--ssl-reqd ", format!("smtp://{host}")),
            Some(110) => ("--ssl-reqd ", format!("pop3://{host}")),
            Some(143) => ("--ssl-reqd ", format!("imap://{host}")),
            Some(465) => ("", format!("smtps://{host}")),
            Some(993) => ("", format!("imaps://{host}")),
            Some(995) => ("", format!("pop3s://{host}")),
            Some(port) => ("", format!("https://{host}:{port}/")),
        };
        let pins: Vec<String> = item.set.pins.iter().map(|pin| format!("sha256//{pin}")).collect();
        let _ = writeln!(text, "curl {option}--pinnedpubkey '{}' {url}", pins.join(";"));
    }
    Ok(text)
}
