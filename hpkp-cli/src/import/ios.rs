//! Reads the pins of iOS and macOS: `NSPinnedDomains` in `Info.plist`, under `NSAppTransportSecurity`.
//!
//! Apple documents that `NSPinnedLeafIdentities` are compared with the leaf and `NSPinnedCAIdentities` with
//! the CAs of the chain. If a domain has both, both must match. `NSIncludesSubdomains` is off by default,
//! and covers one label. All entries that match a host are merged, separately for each kind; no entry
//! excludes a host from another entry (apple-oss-distributions/Security, OSX/sec/Security/SecPolicy.c).

use hpkp_core::published::Client;
use roxmltree::Node;

use super::plist::{self, Dictionary};
use super::{
    Certificates, ImportError, Imported, Note, PinSet, Problem, Scope, distinct, has_final_dot,
    host, is_pattern, note_address, xml,
};

/// Reads an `Info.plist`, a property list with the value of its `NSAppTransportSecurity`, a fragment of
/// one, or the same in JSON (`app.json` of Expo).
///
/// # Errors
/// See [`Problem`].
pub fn read(bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    const WANTED: &str = "an Info.plist with NSAppTransportSecurity and NSPinnedDomains in it";
    let lists = plist::lists(bytes, &["NSPinnedDomains"])?;
    let mut imported = Imported::default();
    for (group, list) in lists.iter().enumerate() {
        let document = xml::document(list)?;
        let root = Dictionary::new(plist::root(&document)?)?;
        let security = root.dictionary("NSAppTransportSecurity")?.unwrap_or(root);
        let domains = security
            .dictionary("NSPinnedDomains")?
            .ok_or_else(|| Problem::Nothing { wanted: WANTED }.at(1))?;
        for (name, node) in domains.iter() {
            domain(name, node, (group, lists.len()), certificates, &mut imported)?;
        }
    }
    if lists.is_empty() {
        return Err(Problem::Nothing { wanted: WANTED }.at(1));
    }
    Ok(imported)
}

/// Reads an entry of the configuration number `group`; no configuration has the number `free` or a higher
/// one.
fn domain(
    name: &str,
    node: Node<'_, '_>,
    (group, free): (usize, usize),
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let line = xml::line(node);
    plist::has_literal_key(node)?;
    let settings = Dictionary::new(node)?;
    let include_subdomains = settings.truth("NSIncludesSubdomains", false)?;
    let (mut sets, mut found) = (Vec::new(), false);
    for (key, scope) in
        [("NSPinnedLeafIdentities", Scope::Leaf), ("NSPinnedCAIdentities", Scope::PathCa)]
    {
        let Some(node) = settings.get(key) else { continue };
        found = true;
        let pins = identities(node, certificates, &mut imported.notes)?;
        if pins.is_empty() {
            // Apple enforces the list even without a valid pin, so that no certificate satisfies it.
            let problem = Problem::unsupported(
                key,
                "none of its pins can match, and then Apple's clients refuse every server for this \
                 domain: whoever has this app is locked out already",
            );
            return Err(problem.at(xml::line(node)));
        }
        sets.push((key, scope, pins));
    }
    if !found {
        return Err(Problem::unexpected(name, "a domain with pinned identities").at(line));
    }
    if is_pattern(imported, line, name) {
        return Ok(());
    }
    let Some(host) = host(name, line)? else {
        note_address(imported, line, name);
        return Ok(());
    };
    if has_final_dot(imported, line, name, Client::Apple) {
        return Ok(());
    }
    // Apple does not convert a name of other letters, so it may be none for the host that is meant. Its pins
    // are recorded, and not in one set with those of other entries, where each would do.
    let group = if name.is_ascii() { group } else { free + imported.sets.len() };
    for (key, scope, pins) in sets {
        let origin = format!("NSPinnedDomains, {key}");
        let set = PinSet::of_one(host.clone(), pins, origin, (Client::Apple, group));
        imported.push(line, PinSet { include_subdomains, scope, ..set })?;
    }
    Ok(())
}

fn identities(
    node: Node<'_, '_>,
    certificates: &Certificates,
    notes: &mut Vec<Note>,
) -> Result<Vec<hpkp_core::pin::Pin>, ImportError> {
    const HASH: &str = "SPKI-SHA256-BASE64";
    let mut pins = Vec::new();
    for identity in plist::array(node)? {
        let line = xml::line(identity);
        let hash = Dictionary::new(identity)?.get(HASH).ok_or_else(|| {
            Problem::unexpected("dict", "a dictionary with SPKI-SHA256-BASE64").at(line)
        })?;
        let (text, line) = (plist::string(hash)?, xml::line(hash));
        pins.extend(certificates.pin_of(Client::Apple, &text, line, notes)?);
    }
    Ok(distinct(pins))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::samples::{A, B, a, b, certificate, set, sets};

    #[test]
    fn a_pin_that_never_matches_is_noted_and_others_are_recorded() {
        let unpadded = A.trim_end_matches('=');
        let text = info(&format!(
            "<key>a.example</key><dict><key>NSPinnedLeafIdentities</key><array>\n<dict>\
             <key>SPKI-SHA256-BASE64</key><string>{unpadded}</string></dict><dict>\
             <key>SPKI-SHA256-BASE64</key><string>{B}</string></dict></array></dict>"
        ));
        let read =
            crate::import::read_with(read, text.as_bytes(), &Certificates::default()).unwrap();
        assert_eq!(sets(&read), [PinSet { scope: Scope::Leaf, ..set("a.example", &[b()]) }]);
        assert_eq!(read.notes.len(), 1);
    }

    /// Apple's clients unite the pins of all entries for a host. They may not find this one for it.
    #[test]
    fn a_name_of_other_letters_is_united_with_no_other() {
        let entry = |name: &str, pin: &str| {
            format!(
                "<key>{name}</key><dict><key>NSIncludesSubdomains</key><true/>\
                 <key>NSPinnedLeafIdentities</key><array>{}</array></dict>",
                identity(pin)
            )
        };
        let text = info(
            &(entry("example", A) + &entry("m\u{fc}ller.example", B) + &entry("b.example", B)),
        );
        let read = read(text.as_bytes(), &Certificates::default()).unwrap();
        let groups: Vec<usize> = read.sets.iter().map(|set| set.group).collect();
        assert!(groups[0] == groups[2] && groups[0] != groups[1], "{groups:?}");
    }

    fn info(domains: &str) -> String {
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>CFBundleIdentifier</key>
	<string>net.example.app</string>
	<key>NSAppTransportSecurity</key>
	<dict>
		<key>NSPinnedDomains</key>
		<dict>
{domains}
		</dict>
	</dict>
</dict>
</plist>
"#
        )
    }

    fn identity(pin: &str) -> String {
        format!("<dict><key>SPKI-SHA256-BASE64</key><string>\n{pin}\n</string></dict>")
    }

    /// The system removes the final dot from the host of a connection, but not from the name of an entry.
    #[test]
    fn a_domain_with_a_final_dot_applies_to_nothing() {
        let domain = |name: &str, pin: &str| {
            format!(
                "<key>{name}</key><dict><key>NSPinnedLeafIdentities</key><array><dict>\
                 <key>SPKI-SHA256-BASE64</key><string>{pin}</string></dict></array></dict>"
            )
        };
        let text = info(&(domain("a.example.", A) + &domain("a.example", B)));
        let read = crate::import::read_with(super::read, text.as_bytes(), &Certificates::default());
        let read = read.unwrap();
        assert_eq!(sets(&read), [PinSet { scope: Scope::Leaf, ..set("a.example", &[b()]) }]);
        let notes: Vec<String> = read.notes.iter().map(ToString::to_string).collect();
        assert!(notes[0].contains("\"a.example.\" ends with a dot"), "{notes:?}");
    }

    #[test]
    fn leaves_and_cas_are_both_required() {
        let text = info(&format!(
            "<key>Example.com</key><dict><key>NSIncludesSubdomains</key><true/>\
             <key>NSPinnedCAIdentities</key><array>{}{}</array>\
             <key>NSPinnedLeafIdentities</key><array>{}</array></dict>\
             <key>api.example.com</key><dict>\
             <key>NSPinnedCAIdentities</key><array>{}</array></dict>",
            identity(B),
            identity(B),
            identity(A),
            identity(A)
        ));
        let read = read(text.as_bytes(), &Certificates::default()).unwrap();
        let below = |set| PinSet { include_subdomains: true, ..set };
        assert_eq!(
            sets(&read),
            [
                below(PinSet { scope: Scope::Leaf, ..set("example.com", &[a()]) }),
                below(PinSet { scope: Scope::PathCa, ..set("example.com", &[b()]) }),
                PinSet { scope: Scope::PathCa, ..set("api.example.com", &[a()]) },
            ]
        );
        assert_eq!(read.notes, []);
        assert_eq!(read.sets[1].origin, "NSPinnedDomains, NSPinnedCAIdentities");
    }

    #[test]
    fn errors_name_the_line() {
        let (at_hand, hash) = certificate();
        for (domain, line, problem) in [
            (
                format!(
                    "<key>a.example</key><dict><key>NSPinnedLeafIdentities</key><array>\n{}</array></dict>",
                    identity(&hash.to_string())
                ),
                12,
                Problem::CertificateHash { subject: "CN=www.example.com".into() },
            ),
            (
                "<key>a.example</key>\n<dict/>".to_owned(),
                12,
                Problem::unexpected("a.example", "a domain with pinned identities"),
            ),
            (
                "<key>a.example</key><dict><key>NSPinnedLeafIdentities</key><array>\n<dict/></array></dict>"
                    .to_owned(),
                12,
                Problem::unexpected("dict", "a dictionary with SPKI-SHA256-BASE64"),
            ),
            (
                "<key>a.example</key><dict>\n<key>NSIncludesSubdomains</key><string>YES</string></dict>"
                    .to_owned(),
                12,
                Problem::unexpected("string", "true or false"),
            ),
        ] {
            let error = read(info(&domain).as_bytes(), &at_hand).unwrap_err();
            assert_eq!(error, problem.at(line), "{domain}");
        }
        let nothing = read(b"<plist><dict/></plist>", &at_hand).unwrap_err();
        assert!(matches!(nothing.problem, Problem::Nothing { .. }));
    }
}
