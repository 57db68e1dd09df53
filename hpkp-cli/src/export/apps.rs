//! Writes the formats of OkHttp, Android, TrustKit and Apple.

use std::fmt::Write as _;

use hpkp_core::published::Client;
use hpkp_core::sorted::distinct;

use super::item::{Item, Refusal, day, scope_of};
use crate::import::{Except, Matching, Scope};

/// Refuses what the formats of apps cannot express. An expiry is left to each format.
fn of_apps(item: &Item) -> Result<(), Refusal> {
    if item.set.client == Client::Apple && item.covers_all_below() {
        return item.refuse("subdomains that are one label deep");
    }
    let without = Item {
        set: crate::import::PinSet { expires_at: None, ..item.set.clone() },
        ..item.clone()
    };
    without.plain(Scope::Chain)
}

pub(super) fn okhttp(items: &[Item]) -> Result<String, Refusal> {
    let mut text = "val certificatePinner = CertificatePinner.Builder()\n".to_owned();
    for item in items {
        of_apps(item)?;
        item.plain(Scope::Chain)?;
        if item.set.matching == Matching::OneLabel && item.set.include_subdomains {
            return item.refuse("hosts below those of a pattern of one label");
        }
        let host = item.set.host.as_str();
        let pattern = match item.set.matching {
            _ if item.covers_all_below() => format!("**.{host}"),
            Matching::OneLabel => format!("*.{host}"),
            _ => host.to_owned(),
        };
        let _ = write!(text, "    .add(\"{pattern}\"");
        for pin in &item.set.pins {
            let _ = write!(text, ", \"sha256/{pin}\"");
        }
        text.push_str(")\n");
    }
    text.push_str("    .build()\n");
    Ok(text)
}

/// Exempt hosts without a set of their own. The format needs an entry for each of them.
fn exempt(items: &[Item]) -> Vec<&Except> {
    let mut exempt = distinct(items.iter().flat_map(|item| &item.set.except));
    exempt.retain(|one| !items.iter().any(|item| item.set.host == one.host));
    exempt
}

fn only_subdomains(item: &Item) -> Result<(), Refusal> {
    match item.set.matching {
        Matching::OneLabel => item.refuse("a pattern of one label"),
        Matching::Exact | Matching::AnyDepth => Ok(()),
    }
}

pub(super) fn android(items: &[Item]) -> Result<String, Refusal> {
    let mut text =
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<network-security-config>\n".to_owned();
    let domain = |host: &str, below: bool| {
        format!("        <domain includeSubdomains=\"{below}\">{host}</domain>\n")
    };
    for item in items {
        of_apps(item)?;
        only_subdomains(item)?;
        let expiration = day(item)?;
        let expiration =
            expiration.map_or_else(String::new, |day| format!(" expiration=\"{day}\""));
        text.push_str("    <domain-config>\n");
        text.push_str(&domain(item.set.host.as_str(), item.covers_all_below()));
        let _ = writeln!(text, "        <pin-set{expiration}>");
        for pin in &item.set.pins {
            let _ = writeln!(text, "            <pin digest=\"SHA-256\">{pin}</pin>");
        }
        text.push_str("        </pin-set>\n    </domain-config>\n");
    }
    for one in exempt(items) {
        text.push_str("    <domain-config>\n");
        text.push_str(&domain(one.host.as_str(), one.with_subdomains));
        text.push_str("    </domain-config>\n");
    }
    text.push_str("</network-security-config>\n");
    Ok(text)
}

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST \
    1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\">\n<dict>\n";

pub(super) fn trustkit(items: &[Item]) -> Result<String, Refusal> {
    let mut text = format!(
        "{HEAD}  <key>TSKConfiguration</key>\n  <dict>\n    <key>TSKPinnedDomains</key>\n    <dict>\n"
    );
    for item in items {
        of_apps(item)?;
        only_subdomains(item)?;
        if item.set.pins.len() < 2 {
            return item.refuse("a set of one pin (TrustKit demands a backup pin)");
        }
        let below = item.covers_all_below();
        let _ = writeln!(
            text,
            "      <key>{}</key>\n      <dict>\n        <key>TSKEnforcePinning</key>\n        <true/>\n        \
             <key>TSKIncludeSubdomains</key>\n        <{below}/>",
            item.set.host.as_str()
        );
        if let Some(day) = day(item)? {
            let _ = writeln!(
                text,
                "        <key>TSKExpirationDate</key>\n        <string>{day}</string>"
            );
        }
        text.push_str("        <key>TSKPublicKeyHashes</key>\n        <array>\n");
        for pin in &item.set.pins {
            let _ = writeln!(text, "          <string>{pin}</string>");
        }
        text.push_str("        </array>\n      </dict>\n");
    }
    for one in exempt(items) {
        let _ = writeln!(
            text,
            "      <key>{}</key>\n      <dict>\n        \
             <key>TSKExcludeSubdomainFromParentPolicy</key>\n        <true/>\n        \
             <key>TSKIncludeSubdomains</key>\n        <{}/>\n      </dict>",
            one.host.as_str(),
            one.with_subdomains
        );
    }
    text.push_str("    </dict>\n  </dict>\n</dict>\n</plist>\n");
    Ok(text)
}

pub(super) fn ios(items: &[Item]) -> Result<String, Refusal> {
    let mut text = format!(
        "{HEAD}  <key>NSAppTransportSecurity</key>\n  <dict>\n    <key>NSPinnedDomains</key>\n    <dict>\n"
    );
    let mut written: Vec<&str> = Vec::new();
    for item in items {
        let host = item.set.host.as_str();
        if written.contains(&host) {
            continue;
        }
        written.push(host);
        let below = item.set.include_subdomains;
        let _ = writeln!(
            text,
            "      <key>{host}</key>\n      <dict>\n        <key>NSIncludesSubdomains</key>\n        \
             <{below}/>"
        );
        for item in items.iter().filter(|other| other.set.host == item.set.host) {
            text.push_str(&identities(item)?);
        }
        text.push_str("      </dict>\n");
    }
    text.push_str("    </dict>\n  </dict>\n</dict>\n</plist>\n");
    Ok(text)
}

fn identities(item: &Item) -> Result<String, Refusal> {
    item.plain(item.set.scope)?;
    only_subdomains(item)?;
    if !item.set.except.is_empty() {
        return item.refuse("exempt hosts");
    }
    if item.covers_all_below() && item.set.client != Client::Apple {
        return item.refuse("subdomains of any depth");
    }
    let key = match item.set.scope {
        Scope::Leaf => "NSPinnedLeafIdentities",
        Scope::PathCa => "NSPinnedCAIdentities",
        other => return item.refuse(scope_of(other)),
    };
    let mut text = format!("        <key>{key}</key>\n        <array>\n");
    for pin in &item.set.pins {
        let _ = writeln!(
            text,
            "          <dict>\n            <key>SPKI-SHA256-BASE64</key>\n            \
             <string>{pin}</string>\n          </dict>"
        );
    }
    text.push_str("        </array>\n");
    Ok(text)
}
