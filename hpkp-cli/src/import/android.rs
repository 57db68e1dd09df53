//! Reads Android's Network Security Configuration (`res/xml/network_security_config.xml`).
//!
//! Android applies these rules:
//! - a host uses the `domain-config` with the longest `domain` that equals the host or, with
//!   `includeSubdomains="true"`, is a parent domain of it;
//! - a `domain-config` without a `pin-set` inherits that of the outer `domain-config`; an empty `pin-set`
//!   pins nothing;
//! - after the day in `expiration`, in the device's time zone, nothing is pinned;
//! - a certificate chain that ends at a trust anchor with `overridePins="true"` need not match a pin. Which
//!   anchor a client uses is unknown here, so the pins count as enforced;
//! - `debug-overrides` applies only to apps built for debugging, and is ignored.

use hpkp_core::pin::Pin;
use hpkp_core::published::Client;
use hpkp_core::ua::host::HostName;
use roxmltree::Node;

use super::{
    Certificates, ImportError, Imported, MAX_SETS, PinSet, Problem, day, distinct, has_final_dot,
    host, is_pattern, note_address, shown, text, xml,
};

/// Reads a Network Security Configuration.
///
/// # Errors
/// See [`Problem`].
pub fn read(bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    let document = xml::document(text(bytes)?)?;
    let root = document.root_element();
    if root.tag_name().name() != "network-security-config" {
        let found = root.tag_name().name();
        return Err(Problem::unexpected(found, "network-security-config").at(xml::line(root)));
    }
    let mut reader = Reader { certificates, imported: Imported::default(), domains: Vec::new() };
    for element in xml::elements(root) {
        match element.tag_name().name() {
            "domain-config" => reader.domain_config(element, None)?,
            "base-config" => {
                if let Some(pins) =
                    xml::elements(element).find(|e| e.tag_name().name() == "pin-set")
                {
                    let problem = Problem::unexpected("pin-set", "something of a base-config");
                    return Err(problem.at(xml::line(pins)));
                }
                reader.note_overrides(element);
            }
            "debug-overrides" => reader.debug_overrides(element),
            _ => {}
        }
    }
    reader.finish()
}

/// A `pin-set`.
#[derive(Clone, Debug)]
struct Pins {
    pins: Vec<Pin>,
    expires_at: Option<i64>,
}

/// A `domain` and its pins.
struct Domain {
    line: usize,
    host: HostName,
    /// Whether Android compares the name with this host. It does not convert a name of other letters, so
    /// such an entry may be none for this host, and the pins of the parent domain apply.
    is_ascii: bool,
    include_subdomains: bool,
    pins: Option<Pins>,
}

/// An attribute. Android asks for names without a namespace, so `android:includeSubdomains` is another one.
fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let mut all = node.attributes().filter(|one| one.namespace().is_none() && one.name() == name);
    all.next().map(|attribute| attribute.value())
}

/// The day at the beginning of a text, which Android's parser reads without leading zeros too, whatever
/// follows.
fn first_day(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut numbers = [0_u16; 3];
    for (at, number) in numbers.iter_mut().enumerate() {
        rest = if at == 0 { rest } else { rest.strip_prefix('-')? };
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        *number = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
    }
    let [year, month, date] = numbers;
    day(&format!("{year:04}-{month:02}-{date:02}"))
}

struct Reader<'c> {
    certificates: &'c Certificates,
    imported: Imported,
    domains: Vec<Domain>,
}

impl Reader<'_> {
    /// The recursion is bounded, because the parser limits the depth of the document.
    fn domain_config(
        &mut self,
        node: Node<'_, '_>,
        inherited: Option<&Pins>,
    ) -> Result<(), ImportError> {
        let mut own = None;
        let mut nested = Vec::new();
        let mut domains = Vec::new();
        for element in xml::elements(node) {
            match element.tag_name().name() {
                "domain" => domains.push(element),
                "domain-config" => nested.push(element),
                "pin-set" if own.is_some() => {
                    return Err(Problem::twice("pin-set").at(xml::line(element)));
                }
                "pin-set" => own = Some(self.pin_set(element)?),
                _ => {}
            }
        }
        self.note_overrides(node);
        let pins = own.as_ref().or(inherited);
        for element in domains {
            self.domain(element, pins)?;
        }
        nested.into_iter().try_for_each(|element| self.domain_config(element, pins))
    }

    fn pin_set(&mut self, node: Node<'_, '_>) -> Result<Pins, ImportError> {
        let expires_at = match attribute(node, "expiration") {
            None => None,
            Some(text) => Some(first_day(text).ok_or_else(|| {
                Problem::unexpected(text, "a day (yyyy-MM-dd)").at(xml::line(node))
            })?),
        };
        let mut pins = Vec::new();
        for pin in xml::elements(node) {
            let line = xml::line(pin);
            if pin.tag_name().name() != "pin" {
                return Err(Problem::unexpected(pin.tag_name().name(), "a pin").at(line));
            }
            let digest = attribute(pin, "digest").unwrap_or_default();
            if !digest.eq_ignore_ascii_case("SHA-256") {
                return Err(Problem::unexpected(digest, "SHA-256 as digest").at(line));
            }
            let text = xml::text(pin)?;
            let notes = &mut self.imported.notes;
            pins.extend(self.certificates.pin_of(Client::Android, &text, line, notes)?);
        }
        Ok(Pins { pins: distinct(pins), expires_at })
    }

    fn domain(&mut self, node: Node<'_, '_>, pins: Option<&Pins>) -> Result<(), ImportError> {
        let line = xml::line(node);
        let include_subdomains = match attribute(node, "includeSubdomains") {
            None | Some("false" | "False" | "FALSE") => false,
            Some("true" | "True" | "TRUE") => true,
            Some(other) => return Err(Problem::unexpected(other, "true or false").at(line)),
        };
        let name = xml::text(node)?;
        if is_pattern(&mut self.imported, line, &name) {
            return Ok(());
        }
        if pins.is_none_or(|pins| pins.pins.is_empty()) && host(&name, line).is_err() {
            let name = shown::shown(&name);
            self.imported
                .note(line, format!("invalid host name \"{name}\"; its pins are NOT recorded"));
            return Ok(());
        }
        let Some(host) = host(&name, line)? else {
            note_address(&mut self.imported, line, &name);
            return Ok(());
        };
        if has_final_dot(&mut self.imported, line, &name, Client::Android) {
            return Ok(());
        }
        if self.domains.iter().any(|domain| domain.host == host) {
            return Err(Problem::twice(host.as_str()).at(line));
        }
        if self.domains.len() == MAX_SETS {
            return Err(Problem::TooManySets.at(line));
        }
        let (is_ascii, pins) = (name.is_ascii(), pins.cloned());
        self.domains.push(Domain { line, host, is_ascii, include_subdomains, pins });
        Ok(())
    }

    /// Notes the pins that apply only to apps built for debugging.
    fn debug_overrides(&mut self, node: Node<'_, '_>) {
        for pin in node.descendants().filter(|node| node.has_tag_name("pin")) {
            let line = xml::line(pin);
            let text = xml::text(pin).unwrap_or_default();
            let mut notes = Vec::new();
            if self.certificates.pin_of(Client::Android, &text, line, &mut notes).is_ok() {
                self.imported.note(
                    line,
                    "a pin of debug-overrides applies only to apps built for debugging; it is NOT recorded",
                );
            }
        }
    }

    fn note_overrides(&mut self, node: Node<'_, '_>) {
        let anchors = xml::elements(node).filter(|e| e.tag_name().name() == "trust-anchors");
        let overriding = anchors.flat_map(xml::elements).find(|element| {
            attribute(*element, "overridePins").is_some_and(|text| text != "false")
        });
        if let Some(element) = overriding {
            self.imported.note(
                xml::line(element),
                "overridePins lets chains from these anchors pass without pins; the pins are recorded as \
                 if it did not",
            );
        }
    }

    fn finish(mut self) -> Result<Imported, ImportError> {
        let certain = self.domains.iter().filter(|domain| domain.is_ascii);
        let names: Vec<(HostName, bool)> =
            certain.map(|d| (d.host.clone(), d.include_subdomains)).collect();
        for Domain { line, host, include_subdomains, pins, .. } in self.domains {
            let Some(Pins { pins, expires_at }) = pins.filter(|pins| !pins.pins.is_empty()) else {
                continue;
            };
            let set = PinSet::of_host(
                (host, include_subdomains),
                &names,
                (pins, expires_at),
                format!("Android Network Security Configuration, line {line}"),
                (Client::Android, 0),
            );
            self.imported.push(line, set)?;
        }
        if self.imported.sets.is_empty() {
            let text = "no domain in this configuration has pins, so there is nothing to record";
            self.imported.note(1, text);
        }
        Ok(self.imported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::Except;
    use crate::import::samples::{A, B, a, b, certificate, name, set, sets};

    fn configuration(inside: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<network-security-config>\n{inside}\n\
             </network-security-config>\n"
        )
    }

    fn imported(inside: &str) -> Imported {
        read(configuration(inside).as_bytes(), &Certificates::default()).unwrap()
    }

    fn pin(base64: &str) -> String {
        format!("<pin digest=\"SHA-256\">{base64}</pin>")
    }

    #[test]
    fn domains_with_pin_sets_are_read() {
        let text = format!(
            r#"<base-config cleartextTrafficPermitted="false"/>
    <domain-config>
        <domain includeSubdomains="true"> Example.com </domain>
        <domain>example.net</domain>
        <pin-set expiration="2027-01-01">
            {}
            <!-- backup -->
            {}
        </pin-set>
    </domain-config>
    <domain-config cleartextTrafficPermitted="true"><domain>10.0.2.2</domain></domain-config>
    <debug-overrides><trust-anchors><certificates src="user" overridePins="true"/></trust-anchors></debug-overrides>"#,
            pin(A),
            pin(B)
        );
        let imported = imported(&text);
        let expires_at = day("2027-01-01");
        assert_eq!(
            sets(&imported),
            [
                PinSet { include_subdomains: true, expires_at, ..set("example.com", &[a(), b()]) },
                PinSet { expires_at, ..set("example.net", &[a(), b()]) },
            ]
        );
        assert_eq!(imported.notes.len(), 1, "{:?}", imported.notes);
        assert!(imported.notes[0].to_string().starts_with("line 13: 10.0.2.2 is an IP address"));
        assert_eq!(imported.sets[0].origin, "Android Network Security Configuration, line 5");
    }

    #[test]
    fn nested_domains_inherit_pins_and_the_longest_domain_applies() {
        let text = format!(
            r#"<domain-config>
                <domain includeSubdomains="true">example.com</domain>
                <pin-set>{}</pin-set>
                <domain-config>
                    <domain>inherits.example.com</domain>
                    <trust-anchors><certificates src="system"/></trust-anchors>
                </domain-config>
                <domain-config>
                    <domain includeSubdomains="true">own.example.com</domain>
                    <pin-set>{}</pin-set>
                    <domain-config>
                        <domain>free.own.example.com</domain><pin-set/>
                    </domain-config>
                </domain-config>
            </domain-config>"#,
            pin(A),
            pin(B)
        );
        let except = |host, with_subdomains| Except { host: name(host), with_subdomains };
        assert_eq!(
            sets(&imported(&text)),
            [
                PinSet {
                    include_subdomains: true,
                    except: vec![
                        except("free.own.example.com", false),
                        except("inherits.example.com", false),
                        except("own.example.com", true),
                    ],
                    ..set("example.com", &[a()])
                },
                set("inherits.example.com", &[a()]),
                PinSet {
                    include_subdomains: true,
                    except: vec![except("free.own.example.com", false)],
                    ..set("own.example.com", &[b()])
                },
            ]
        );
    }

    #[test]
    fn pins_that_may_be_overridden_are_recorded() {
        let text = format!(
            "<domain-config><domain>a.example</domain><pin-set>{}</pin-set><trust-anchors>\n\
             <certificates src=\"user\" overridePins=\"true\"/></trust-anchors></domain-config>",
            pin(A)
        );
        let imported = imported(&text);
        assert_eq!(sets(&imported), [set("a.example", &[a()])]);
        assert!(imported.notes[0].to_string().starts_with("line 4: overridePins"));
    }

    #[test]
    fn pins_that_apply_to_no_host_are_noted() {
        let text = format!(
            "<debug-overrides><domain-config><domain>a.example</domain><pin-set>\n{}\n</pin-set>\
             </domain-config></debug-overrides>\n\n\n\n\n<domain-config><pin-set>{}</pin-set>\
             </domain-config><domain-config>\n\n\n\n<domain>b.example</domain>\n<pin-set>{}</pin-set>\
             </domain-config>",
            pin(A),
            pin(A),
            pin(B)
        );
        let text = configuration(&text);
        let read = crate::import::read_with(super::read, text.as_bytes(), &Certificates::default());
        let read = read.unwrap();
        assert_eq!(sets(&read), [set("b.example", &[b()])]);
        assert_eq!(read.notes.iter().map(|note| note.line).collect::<Vec<_>>(), [4, 10]);
    }

    /// An entry with a final dot matches no host, so it neither pins a host nor exempts one from its
    /// parent's pins.
    #[test]
    fn a_domain_with_a_final_dot_applies_to_nothing() {
        let text = format!(
            "<domain-config><domain includeSubdomains=\"true\">a.example</domain><pin-set>{}</pin-set>\n\
             <domain-config><domain>www.a.example.</domain><pin-set>{}</pin-set></domain-config>\n\
             </domain-config><domain-config><domain>a.example.</domain><pin-set/></domain-config>",
            pin(A),
            pin(B)
        );
        let imported = imported(&text);
        assert_eq!(
            sets(&imported),
            [PinSet { include_subdomains: true, ..set("a.example", &[a()]) }]
        );
        let notes: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("line 4: \"www.a.example.\" ends with a dot"), "{notes:?}");
        assert!(notes[0].ends_with("NOT recorded"), "{notes:?}");
    }

    /// Android does not find this entry for the host, so the pins of the parent apply as well.
    #[test]
    fn a_name_of_other_letters_exempts_no_host() {
        let text = format!(
            "<domain-config><domain includeSubdomains=\"true\">a.example</domain><pin-set>{}</pin-set>\
             </domain-config><domain-config><domain>m\u{fc}ller.a.example</domain><pin-set>{}</pin-set>\
             </domain-config>",
            pin(A),
            pin(B)
        );
        assert_eq!(
            sets(&imported(&text)),
            [
                PinSet { include_subdomains: true, ..set("a.example", &[a()]) },
                set("xn--mller-kva.a.example", &[b()]),
            ]
        );
    }

    #[test]
    fn days_are_read_as_android_reads_them() {
        for (text, wanted) in [
            ("2027-01-02", Some("2027-01-02")),
            ("2027-1-2", Some("2027-01-02")),
            ("2027-01-02T23:59:59Z", Some("2027-01-02")),
            ("2027-13-01", None),
            ("2027-02-30", None),
            ("2027/01/01", None),
            ("2027--1-01", None),
            ("2027-01-", None),
            ("+2027-01-01", None),
            ("", None),
        ] {
            assert_eq!(first_day(text), wanted.and_then(day), "{text}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        let (at_hand, hash) = certificate();
        let domain = "<domain>a.example</domain>";
        for (config, line, problem) in [
            (
                format!("{domain}\n<pin-set>{}</pin-set>", pin(&hash.to_string())),
                4,
                Problem::CertificateHash { subject: "CN=www.example.com".into() },
            ),
            (
                format!("{domain}\n<pin-set expiration=\"1.1.2027\"/>"),
                4,
                Problem::unexpected("1.1.2027", "a day (yyyy-MM-dd)"),
            ),
            (
                format!("{domain}\n<pin-set><pin digest=\"SHA-1\">x</pin></pin-set>"),
                4,
                Problem::unexpected("SHA-1", "SHA-256 as digest"),
            ),
            (format!("{domain}<pin-set/>\n<pin-set/>"), 4, Problem::twice("pin-set")),
            (format!("{domain}\n<domain>A.Example</domain>"), 4, Problem::twice("a.example")),
            (
                "<domain includeSubdomains=\"1\">a.example</domain>".to_owned(),
                3,
                Problem::unexpected("1", "true or false"),
            ),
        ] {
            let text = configuration(&format!("<domain-config>{config}</domain-config>"));
            assert_eq!(read(text.as_bytes(), &at_hand), Err(problem.at(line)), "{config}");
        }
        let base = configuration("<base-config><pin-set/></base-config>");
        assert_eq!(read(base.as_bytes(), &at_hand).unwrap_err().line, 3);
        let other = read(b"<a/>", &at_hand).unwrap_err();
        assert_eq!(other, Problem::unexpected("a", "network-security-config").at(1));
    }
}
