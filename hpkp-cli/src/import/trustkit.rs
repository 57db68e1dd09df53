//! Reads TrustKit's configuration: a property list, usually under `TSKConfiguration` in `Info.plist`.
//!
//! The keys are those of TrustKit's documentation (`TSKPinnedDomains` and so on). The names of its
//! constants, with a `k` before, are accepted too. TrustKit applies these rules:
//! - a host with its own entry uses this entry, any other host that of the longest parent domain with
//!   `TSKIncludeSubdomains`;
//! - `TSKExcludeSubdomainFromParentPolicy` exempts a host from the policy of the parent domain;
//! - if `TSKEnforcePinning` is false, failures are reported and nothing is refused;
//! - after `TSKExpirationDate` nothing is pinned. Versions differ in the time zone of that day.

use hpkp_core::date;
use hpkp_core::published::Client;
use hpkp_core::ua::host::HostName;
use roxmltree::Node;

use super::plist::{self, Dictionary};
use super::{
    Certificates, ImportError, Imported, MAX_SETS, PinSet, Problem, day, distinct, has_final_dot,
    host, is_pattern, note_address, xml,
};

/// Reads an `Info.plist` with a `TSKConfiguration`, a property list that is itself the configuration, or
/// Swift or Objective-C source with the dictionary for TrustKit.
///
/// # Errors
/// See [`Problem`].
pub fn read(bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    let lists = plist::lists(bytes, &["TSKPinnedDomains", "kTSKPinnedDomains"])?;
    if lists.is_empty() {
        return Err(Problem::Nothing { wanted: WANTED }.at(1));
    }
    let mut imported = Imported::default();
    for (group, list) in lists.iter().enumerate() {
        read_list(list, group, certificates, &mut imported)?;
    }
    Ok(imported)
}

const WANTED: &str = "a TrustKit configuration (TSKConfiguration, TSKPinnedDomains)";

/// Reads one property list, the configuration number `group` of the text.
fn read_list(
    list: &str,
    group: usize,
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let document = xml::document(list)?;
    let root = Dictionary::new(plist::root(&document)?)?;
    let configuration = match value(&root, "TSKConfiguration")? {
        Some(node) => Dictionary::new(node)?,
        None => root,
    };
    let domains = value(&configuration, "TSKPinnedDomains")?
        .ok_or_else(|| Problem::Nothing { wanted: WANTED }.at(1))?;
    let mut names: Vec<(HostName, bool)> = Vec::new();
    let mut read: Vec<(usize, HostName, bool, Dictionary<'_, '_>)> = Vec::new();
    for (name, node) in Dictionary::new(domains)?.iter() {
        let line = xml::line(node);
        plist::has_literal_key(node)?;
        let settings = Dictionary::new(node)?;
        if is_pattern(imported, line, name) {
            pins(line, name, &settings, certificates, imported)?;
            continue;
        }
        let Some(host) = host(name, line)? else {
            note_address(imported, line, name);
            continue;
        };
        if has_final_dot(imported, line, name, Client::TrustKit) {
            pins(line, host.as_str(), &settings, certificates, imported)?;
            continue;
        }
        let include_subdomains = truth(&settings, "TSKIncludeSubdomains", false)?;
        if read.iter().any(|(_, known, ..)| *known == host) {
            return Err(Problem::twice(host.as_str()).at(line));
        }
        if read.len() == MAX_SETS {
            return Err(Problem::TooManySets.at(line));
        }
        // TrustKit compares names as they are written, so a name in capitals or of other letters may be none
        // for this host. Then the pins of the parent domain apply.
        if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
            names.push((host.clone(), include_subdomains));
        }
        read.push((line, host, include_subdomains, settings));
    }
    for (line, host, include_subdomains, settings) in read {
        let Some((pins, expires_at)) =
            pins(line, host.as_str(), &settings, certificates, imported)?
        else {
            continue;
        };
        let set = PinSet::of_host(
            (host, include_subdomains),
            &names,
            (pins, expires_at),
            format!("TrustKit, line {line}"),
            (Client::TrustKit, group),
        );
        imported.push(line, set)?;
    }
    Ok(())
}

type Pins = (Vec<hpkp_core::pin::Pin>, Option<i64>);

/// The pins of a domain; `None` if TrustKit refuses nothing.
fn pins(
    line: usize,
    name: &str,
    settings: &Dictionary<'_, '_>,
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<Option<Pins>, ImportError> {
    if truth(settings, "TSKExcludeSubdomainFromParentPolicy", false)? {
        pass_over(settings, certificates, imported)?;
        return Ok(None);
    }
    if !truth(settings, "TSKEnforcePinning", true)? {
        imported.note(
            line,
            format!("{name}: TSKEnforcePinning is false, so the app refuses nothing; ignored"),
        );
        pass_over(settings, certificates, imported)?;
        return Ok(None);
    }
    let hashes = value(settings, "TSKPublicKeyHashes")?
        .ok_or_else(|| Problem::unexpected(name, "a domain with TSKPublicKeyHashes").at(line))?;
    let mut pins = Vec::new();
    for hash in plist::array(hashes)? {
        let (text, line) = (plist::string(hash)?, xml::line(hash));
        pins.extend(certificates.pin_of(Client::TrustKit, &text, line, &mut imported.notes)?);
    }
    if pins.is_empty() {
        return Err(Problem::unexpected(name, "a domain with TSKPublicKeyHashes").at(line));
    }
    let expires_at = match value(settings, "TSKExpirationDate")? {
        None => None,
        Some(node) => {
            // A property list has a separate type for dates: 2030-01-01T00:00:00Z.
            let (text, time) = match node.tag_name().name() {
                "date" => {
                    let text = xml::text(node)?;
                    (text.get(..10).unwrap_or_default().to_owned(), date::parse(&text))
                }
                _ => (plist::string(node)?, None),
            };
            let day = day(&text).max(time);
            Some(day.ok_or_else(|| {
                Problem::unexpected(&text, "a day (yyyy-MM-dd)").at(xml::line(node))
            })?)
        }
    };
    Ok(Some((distinct(pins), expires_at)))
}

/// Notes the pins of an entry that is not enforced.
fn pass_over(
    settings: &Dictionary<'_, '_>,
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let Some(hashes) = value(settings, "TSKPublicKeyHashes")? else { return Ok(()) };
    for hash in hashes.descendants().filter(|node| node.has_tag_name("string")) {
        let (text, line) = (xml::text(hash)?, xml::line(hash));
        let mut notes = Vec::new();
        if certificates.pin_of(Client::TrustKit, &text, line, &mut notes).is_ok() {
            imported.note(line, "a pin that the app does not enforce; it is NOT recorded");
        }
    }
    Ok(())
}

/// The value of a key under one of its names: the documented one, or the constant's name with a `k`. One
/// constant has a different spelling (`kSKExcludeSubdomain...`).
fn value<'a, 'input>(
    dictionary: &Dictionary<'a, 'input>,
    name: &str,
) -> Result<Option<Node<'a, 'input>>, ImportError> {
    let misspelled = name.strip_prefix('T').map(|rest| format!("k{rest}")).unwrap_or_default();
    let names = [name.to_owned(), format!("k{name}"), misspelled];
    let mut found = names.iter().filter_map(|name| dictionary.get(name));
    let first = found.next();
    match found.next() {
        Some(second) => Err(Problem::twice(name).at(xml::line(second))),
        None => Ok(first),
    }
}

fn truth(dictionary: &Dictionary<'_, '_>, name: &str, default: bool) -> Result<bool, ImportError> {
    value(dictionary, name)?.map_or(Ok(default), plist::truth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::Except;
    use crate::import::samples::{A, B, a, b, certificate, name, set, sets};

    fn configuration(domains: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>\
             <key>TSKConfiguration</key><dict><key>TSKSwizzleNetworkDelegates</key><true/>\
             <key>TSKPinnedDomains</key><dict>\n{domains}</dict></dict></dict></plist>"
        )
    }

    fn domain(name: &str, settings: &str) -> String {
        format!("<key>{name}</key><dict>{settings}</dict>\n")
    }

    fn hashes(pins: &[&str]) -> String {
        let strings: String = pins.iter().map(|pin| format!("<string>{pin}</string>")).collect();
        format!("<key>TSKPublicKeyHashes</key><array>{strings}</array>")
    }

    const BELOW: &str = "<key>TSKIncludeSubdomains</key><true/>";

    #[test]
    fn pins_that_are_not_enforced_are_noted() {
        let text = format!(
            "let c = [kTSKPinnedDomains: [\n\"a.example\": [kTSKEnforcePinning: false, \
             kTSKPublicKeyHashes: [\"{A}\", \"{B}\"]],\n\"b.example\": [kTSKPublicKeyHashes: PINS]]]\n\
             let PINS = [\"{A}\",\n\"{B}\"]\n"
        );
        let read = crate::import::read_with(super::read, text.as_bytes(), &Certificates::default())
            .unwrap();
        assert_eq!(sets(&read), [set("b.example", &[a(), b()])]);
        assert!(read.notes.iter().all(|note| note.line == 2), "{:?}", read.notes);
        assert_eq!(read.notes.len(), 3);
    }

    #[test]
    fn an_identifier_in_place_of_a_host_is_an_error() {
        for key in ["Config.host", "HOST", "host()"] {
            let text = format!(
                "let c = [kTSKPinnedDomains: [\n{key}: [kTSKPublicKeyHashes: [\"{A}\", \"{B}\"]]]]"
            );
            let read =
                crate::import::read_with(super::read, text.as_bytes(), &Certificates::default());
            assert!(read.is_err(), "{key} {read:?}");
        }
    }

    #[test]
    fn a_host_with_a_final_dot_is_another_host() {
        let text = configuration(
            &[domain("a.example", &hashes(&[A, B])), domain("a.example.", &hashes(&[B, A]))]
                .concat(),
        );
        let read = crate::import::read_with(super::read, text.as_bytes(), &Certificates::default());
        let read = read.unwrap();
        assert_eq!(sets(&read), [set("a.example", &[a(), b()])]);
        let notes: Vec<String> = read.notes.iter().map(ToString::to_string).collect();
        assert!(notes[0].contains("\"a.example.\" ends with a dot"), "{notes:?}");
    }

    /// TrustKit compares names as they are written, so the pins of the parent apply as well.
    #[test]
    fn a_name_in_capitals_exempts_no_host() {
        let text = configuration(
            &[
                domain("example.com", &(hashes(&[A, B]) + BELOW)),
                domain("API.example.com", &hashes(&[B, A])),
            ]
            .concat(),
        );
        assert_eq!(
            sets(&read(text.as_bytes(), &Certificates::default()).unwrap()),
            [
                PinSet { include_subdomains: true, ..set("example.com", &[a(), b()]) },
                set("api.example.com", &[b(), a()]),
            ]
        );
    }

    #[test]
    fn a_time_in_a_date_counts() {
        for (date, wanted) in [
            ("2027-03-01T23:00:00Z", "2027-03-01T23:00:00Z"),
            ("2027-03-01T00:00:00Z", "2027-03-01T12:00:00Z"),
        ] {
            let date = format!("<key>TSKExpirationDate</key><date>{date}</date>");
            let text = configuration(&domain("a.example", &(hashes(&[A, B]) + &date)));
            let imported = read(text.as_bytes(), &Certificates::default()).unwrap();
            assert_eq!(imported.sets[0].expires_at, date::parse(wanted), "{wanted}");
        }
    }

    #[test]
    fn the_most_specific_domain_counts() {
        let text = configuration(
            &[
                domain("example.com", &(hashes(&[A, B]) + BELOW)),
                domain("api.example.com", &hashes(&[B, A])),
                domain("cdn.example.com", &(BELOW.to_owned() + &hashes(&[B, B]))),
                domain(
                    "legacy.example.com",
                    "<key>TSKExcludeSubdomainFromParentPolicy</key><true/>",
                ),
                domain("example.net", &hashes(&[A, B])),
            ]
            .concat(),
        );
        let read = read(text.as_bytes(), &Certificates::default()).unwrap();
        let except = |host, with_subdomains| Except { host: name(host), with_subdomains };
        assert_eq!(
            sets(&read),
            [
                PinSet {
                    include_subdomains: true,
                    except: vec![
                        except("api.example.com", false),
                        except("cdn.example.com", true),
                        except("legacy.example.com", false),
                    ],
                    ..set("example.com", &[a(), b()])
                },
                set("api.example.com", &[b(), a()]),
                PinSet { include_subdomains: true, ..set("cdn.example.com", &[b()]) },
                set("example.net", &[a(), b()]),
            ]
        );
        assert_eq!(read.notes, []);
    }

    #[test]
    fn a_domain_without_enforcement_is_noted() {
        let unenforced = hashes(&[A, B]) + "<key>TSKEnforcePinning</key><false/>";
        let text = configuration(&domain("a.example", &unenforced));
        let imported = read(text.as_bytes(), &Certificates::default()).unwrap();
        assert_eq!(imported.sets, []);
        assert!(imported.notes[0].text.contains("TSKEnforcePinning is false"));
    }

    #[test]
    fn an_expiration_day_is_read() {
        let date = hashes(&[A, B]) + "<key>TSKExpirationDate</key><string>2027-03-01</string>";
        let text = configuration(&domain("a.example", &date)).replace("TSK", "kTSK");
        let imported = read(text.as_bytes(), &Certificates::default()).unwrap();
        assert_eq!(imported.sets[0].expires_at, day("2027-03-01"));
        assert_eq!(imported.sets[0].origin, "TrustKit, line 3");
    }

    #[test]
    fn swift_and_objective_c_sources_are_read() {
        let swift = format!(
            "let config = [\n kTSKSwizzleNetworkDelegates: false,\n kTSKPinnedDomains: [\n\
             \"api.example.com\": [\n kTSKIncludeSubdomains: true,\n kTSKPublicKeyHashes: [\n\
             // the key in use\n \"{A}\",\n \"{B}\",\n ],]]] as [String : Any]\n"
        );
        let objective_c = format!(
            "NSDictionary *c = @{{ kTSKPinnedDomains: @{{\n @\"api.example.com\" : @{{\n\
             kTSKIncludeSubdomains: @YES, kTSKPublicKeyHashes : @[ @\"{A}\", @\"{B}\" ] }} }} }};"
        );
        for source in [swift, objective_c] {
            let read = read(source.as_bytes(), &Certificates::default()).unwrap();
            let wanted = PinSet { include_subdomains: true, ..set("api.example.com", &[a(), b()]) };
            assert_eq!(sets(&read), [wanted], "{source}");
        }
        let nothing = read(b"let x = 1", &Certificates::default()).unwrap_err();
        assert!(matches!(nothing.problem, Problem::Nothing { .. }));
    }

    #[test]
    fn errors_name_the_line() {
        let (at_hand, hash) = certificate();
        let hash = hash.to_string();
        for (settings, problem) in [
            (hashes(&[]), Problem::unexpected("a.example", "a domain with TSKPublicKeyHashes")),
            (String::new(), Problem::unexpected("a.example", "a domain with TSKPublicKeyHashes")),
            (hashes(&[&hash]), Problem::CertificateHash { subject: "CN=www.example.com".into() }),
            (
                hashes(&[A]) + "<key>TSKExpirationDate</key><string>soon</string>",
                Problem::unexpected("soon", "a day (yyyy-MM-dd)"),
            ),
            (
                BELOW.to_owned() + "<key>kTSKIncludeSubdomains</key><true/>",
                Problem::twice("TSKIncludeSubdomains"),
            ),
        ] {
            let text = configuration(&domain("a.example", &settings));
            assert_eq!(read(text.as_bytes(), &at_hand), Err(problem.at(3)), "{settings}");
        }
        let twice = domain("a.example", &hashes(&[A])) + &domain("A.example", &hashes(&[B]));
        let read_twice = read(configuration(&twice).as_bytes(), &at_hand);
        assert_eq!(read_twice, Err(Problem::twice("a.example").at(4)));
    }
}
