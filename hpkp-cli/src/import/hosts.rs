//! Reads hosts and their pins from objects without a defined format: JSON, JavaScript, TypeScript, Dart
//! (`initializeSslPinning({ "HOST": { publicKeyHashes: [...] } })`, `pins.json`, `ssl_config.json`).
//!
//! A key that is a host name has a list of pins as its value, or an object with such a list. A key such as
//! `host` or `domain` has the name as its value, and the pins are in the same object. Libraries differ in
//! whether the entry of a parent domain applies as well. All of them accept a certificate that matches the
//! most specific entry, so this entry alone counts. An entry in another object (of another environment, such as
//! `staging`) takes no host out of this one, since another app may use it.

use std::collections::HashMap;

use hpkp_core::pin::Pin;
use hpkp_core::published::Client;
use hpkp_core::ua::host::HostName;
use roxmltree::Node;

use super::{
    Certificates, ImportError, Imported, MAX_SETS, Matching, PinSet, Problem, day, distinct, host,
    literal, note_address, plist, text, xml,
};

/// Keys whose value is a host.
const HOST_KEYS: [&str; 5] = ["host", "hostname", "domain", "domainname", "hosts"];

/// The note about pins that the text does not contain.
const NOT_KNOWN: &str = "is not in this text as literals, and it is NOT recorded";

/// Reads objects with hosts and their pins.
///
/// # Errors
/// See [`Problem`].
pub fn read(bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    let mut reader = Reader::new(certificates);
    let text = text(bytes)?;
    let is_root = |name: &str| is_host(name) || is_list(name);
    reader.text(text, &is_root)?;
    if reader.is_empty() && text.trim_start().starts_with(['[', '{']) {
        // The whole text may be the list of pins.
        reader.text(&format!("\"pins\": {text}"), &is_root)?;
    }
    if reader.is_empty() {
        // The list may have any name. An error is ignored then, since the text may contain something other
        // than pins.
        let mut any = Reader::new(certificates);
        let is_read = any.text(text, &|_| true).is_ok();
        if is_read && !any.entries.is_empty() {
            reader = any;
        }
    }
    let Reader { entries, mut imported, .. } = reader;
    let mut names: HashMap<usize, Vec<(HostName, bool)>> = HashMap::new();
    for entry in &entries {
        let name = (entry.host.clone(), entry.include_subdomains);
        names.entry(entry.object).or_default().push(name);
    }
    for entry in entries {
        let set = PinSet::of_host(
            (entry.host, entry.include_subdomains),
            &names[&entry.object],
            (entry.pins, entry.expires_at),
            format!("object, line {}", entry.line),
            (Client::TrustKit, entry.object),
        );
        imported.push(entry.line, PinSet { matching: entry.matching, ..set })?;
    }
    let unknown = imported.notes.iter().find(|note| note.text.ends_with(NOT_KNOWN));
    if let Some(note) = unknown.filter(|_| imported.sets.is_empty()) {
        let why = "no pin in this text is a literal; write the pins in their place, or import the host and its \
                   pins as a line \"HOST sha256/...\"";
        return Err(Problem::unsupported("pins", why).at(note.line));
    }
    imported.or_nothing("an object with hosts and their pins")
}

/// The state of the reader.
struct Reader<'c> {
    certificates: &'c Certificates,
    imported: Imported,
    entries: Vec<Entry>,
    /// The number of objects and lists so far.
    objects: usize,
}

impl<'c> Reader<'c> {
    fn new(certificates: &'c Certificates) -> Self {
        Self { certificates, imported: Imported::default(), entries: Vec::new(), objects: 0 }
    }

    /// The number of a new object or list.
    fn object(&mut self) -> usize {
        self.objects += 1;
        self.objects - 1
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.imported.notes.is_empty()
    }

    fn text(&mut self, text: &str, is_root: &dyn Fn(&str) -> bool) -> Result<(), ImportError> {
        let mut objects = HashMap::new();
        for (place, list) in literal::property_lists_of(text, is_root)? {
            let document = xml::document(&list)?;
            let Some(dictionary) = xml::elements(document.root_element()).next() else { continue };
            let object = *objects.entry(place).or_insert_with(|| self.object());
            self.dictionary(dictionary, object)?;
        }
        Ok(())
    }

    /// Reads the entries of a dictionary: keys that are a host, and objects that contain their host.
    fn dictionary(&mut self, node: Node<'_, '_>, object: usize) -> Result<(), ImportError> {
        let mut elements = xml::elements(node);
        while let Some(key) = elements.next() {
            if key.tag_name().name() == "dict" || key.tag_name().name() == "array" {
                self.value(key, object)?;
                continue;
            }
            if key.tag_name().name() != "key" {
                continue;
            }
            let Some(value) = elements.next() else { break };
            let name = xml::text(key)?;
            if is_host(&name) {
                self.entry((&name, object), xml::line(key), value)?;
            } else {
                self.value(value, object)?;
            }
        }
        Ok(())
    }

    /// Reads a value in the object or list with this number.
    fn value(&mut self, node: Node<'_, '_>, object: usize) -> Result<(), ImportError> {
        match node.tag_name().name() {
            "dict" => match named(node)? {
                Some((line, name)) => self.entry((&name, object), line, node),
                None => {
                    let object = self.object();
                    self.dictionary(node, object)
                }
            },
            "array" => {
                let object = self.object();
                xml::elements(node).try_for_each(|element| self.value(element, object))
            }
            _ => Ok(()),
        }
    }

    fn entry(
        &mut self,
        (name, object): (&str, usize),
        line: usize,
        value: Node<'_, '_>,
    ) -> Result<(), ImportError> {
        let (bare, matching) = Matching::of_pattern(name);
        plist::has_literal_key(value)?;
        let mut pins = Vec::new();
        let mut of_sha1 = None;
        let (mut include_subdomains, mut expires_at) = (false, None);
        for node in value.descendants().filter(Node::is_element) {
            match node.tag_name().name() {
                "key" => settings(node, &mut include_subdomains, &mut expires_at)?,
                "string" => {
                    let text = xml::text(node)?;
                    if text.starts_with("sha1/") {
                        of_sha1 = of_sha1.or(Some(xml::line(node)));
                    }
                    let bare = text.strip_prefix("sha256/").unwrap_or(&text);
                    let digits = bare.trim_end_matches('=');
                    let is_pin =
                        text.starts_with("sha256/") || digits.len() == 43 && !bare.contains('.');
                    if is_pin {
                        let line = xml::line(node);
                        let notes = &mut self.imported.notes;
                        pins.extend(self.certificates.pin_of(Client::OkHttp, bare, line, notes)?);
                    }
                }
                _ => {}
            }
        }
        if let Some(line) = of_sha1 {
            if pins.is_empty() {
                return Err(Problem::Sha1.at(line));
            }
            self.imported.note(
                line,
                format!("a pin of SHA-1 for {bare} is NOT recorded; those of SHA-256 are"),
            );
        }
        if pins.is_empty() {
            if value.descendants().any(is_name) {
                self.imported.note(line, format!("what is pinned for {bare} {NOT_KNOWN}"));
            }
            return Ok(());
        }
        let Some(host) = host(bare, line)? else {
            note_address(&mut self.imported, line, bare);
            return Ok(());
        };
        if self.entries.iter().any(|known| known.host == host && known.matching == matching) {
            return Err(Problem::twice(name).at(line));
        }
        if self.entries.len() == MAX_SETS {
            return Err(Problem::TooManySets.at(line));
        }
        let pins = distinct(pins);
        let entry = Entry { line, object, host, matching, include_subdomains, pins, expires_at };
        self.entries.push(entry);
        Ok(())
    }
}

struct Entry {
    line: usize,
    /// The number of the object or list that has the entry.
    object: usize,
    host: HostName,
    matching: Matching,
    include_subdomains: bool,
    pins: Vec<Pin>,
    expires_at: Option<i64>,
}

/// Whether a key is a host name or a pattern of hosts.
fn is_host(name: &str) -> bool {
    let (name, _) = Matching::of_pattern(name);
    let mut labels = name.split('.');
    // Names of members in source text, such as config.pins, contain a dot too. A host ends with a TLD and
    // is a string literal, which the caller has checked.
    name.contains('.')
        && labels.clone().all(|label| !label.is_empty())
        && labels
            .next_back()
            .is_some_and(|last| last.len() >= 2 || name.parse::<std::net::IpAddr>().is_ok())
        && !name.contains(['/', ' ', ':', '$'])
        && host(name, 1).is_ok()
}

fn is_list(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pin", "cert", "domains", "hosts"].iter().any(|word| name.contains(word))
}

/// The host that an object contains, and its line.
fn named(node: Node<'_, '_>) -> Result<Option<(usize, String)>, ImportError> {
    let mut elements = xml::elements(node);
    while let Some(key) = elements.next() {
        let Some(value) = elements.next() else { break };
        let is_host_key = key.tag_name().name() == "key"
            && HOST_KEYS.contains(&xml::text(key)?.to_ascii_lowercase().as_str());
        if is_host_key && value.tag_name().name() == "string" {
            let text = xml::text(value)?;
            let name = text.split("://").last().unwrap_or_default();
            let name = name.split(['/', ':']).next().unwrap_or_default().to_owned();
            return Ok(is_host(&name).then_some((xml::line(value), name)));
        }
    }
    Ok(None)
}

/// Reads the settings of an entry besides its pins.
fn settings(
    node: Node<'_, '_>,
    include_subdomains: &mut bool,
    expires_at: &mut Option<i64>,
) -> Result<(), ImportError> {
    let key = xml::text(node)?.to_ascii_lowercase().replace(['_', '-'], "");
    let next = node.next_sibling_element();
    if let Some(value) = next.filter(|_| key == "includesubdomains") {
        *include_subdomains |= truth(value)?;
    }
    // The pins outlive a certificate.
    let is_expiry = key.contains("expir") && !key.contains("cert");
    if let Some(text) = next.and_then(|node| node.text()).filter(|_| is_expiry) {
        let text = text.trim().get(..10).unwrap_or_default();
        *expires_at = day(text).or(*expires_at);
    }
    Ok(())
}

/// A boolean, perhaps written as a string.
fn truth(node: Node<'_, '_>) -> Result<bool, ImportError> {
    let text = xml::text(node)?.to_ascii_lowercase();
    match (node.tag_name().name(), text.as_str()) {
        ("true", _) | ("string", "true" | "yes" | "1") | ("unknown", "1") => Ok(true),
        ("false", _) | ("string", "false" | "no" | "0") | ("unknown", "0" | "null") => Ok(false),
        (_, found) => Err(Problem::unexpected(found, "true or false").at(xml::line(node))),
    }
}

/// Whether an element is an identifier of the source.
fn is_name(node: Node<'_, '_>) -> bool {
    let text = node.text().unwrap_or_default();
    node.has_tag_name("unknown")
        && text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && !["null", "undefined"].contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::samples::{A, B, a, b, name, set, sets};
    use crate::import::{Except, read_with};

    #[test]
    fn objects_with_hosts_and_pins_are_read() {
        let wanted = |below| {
            let except = vec![Except { host: name("api.example.com"), with_subdomains: false }];
            vec![
                PinSet {
                    include_subdomains: below,
                    except: if below { except } else { vec![] },
                    ..set("example.com", &[a(), b()])
                },
                set("api.example.com", &[b()]),
            ]
        };
        for (text, below) in [
            (
                format!(
                    "await initializeSslPinning({{\n 'example.com': {{ includeSubdomains: true,\n\
                     publicKeyHashes: ['{A}',\n '{B}'] }},\n 'api.example.com': {{ publicKeyHashes: \
                     ['{B}'] }} }});"
                ),
                true,
            ),
            (
                format!(
                    "{{\"example.com\": [\"sha256/{A}\", \"sha256/{B}\"],\n\
                     \"api.example.com\": [\"sha256/{B}\"]}}"
                ),
                false,
            ),
            (
                format!(
                    "{{\"domains\": [{{\"hostname\": \"example.com\", \"sha256Keys\": [\"{A}\", \
                     \"{B}\"]}},\n{{\"host\": \"api.example.com\", \"pins\": [\"{B}\"]}}]}}"
                ),
                false,
            ),
        ] {
            let read = read_with(read, text.as_bytes(), &Certificates::default()).unwrap();
            assert_eq!(sets(&read), wanted(below), "{text}");
        }
    }

    /// Which object an app uses is not known, so the entry of one object takes no host out of another one.
    #[test]
    fn objects_beside_each_other_are_configurations_of_their_own() {
        let host =
            |name: &str, pin: &str| format!("{{\"host\": \"{name}\", \"pins\": [\"{pin}\"]}}");
        let (all, api) = ("*.example.com", "api.example.com");
        for (text, is_one) in [
            (format!("{{\"{all}\": [\"{A}\"], \"{api}\": [\"{B}\"]}}"), true),
            (format!("{{\"one\": {{\"{all}\": [\"{A}\"], \"{api}\": [\"{B}\"]}}}}"), true),
            (format!("{{\"pins\": [{}, {}]}}", host(all, A), host(api, B)), true),
            (
                format!(
                    "{{\"prod\": {{\"{all}\": [\"{A}\"]}}, \"test\": {{\"{api}\": [\"{B}\"]}}}}"
                ),
                false,
            ),
            (
                format!(
                    "{{\"pins\": {{\"prod\": [{}], \"test\": [{}]}}}}",
                    host(all, A),
                    host(api, B)
                ),
                false,
            ),
            (format!("const a = {{'{all}': ['{A}']}};\nconst b = {{'{api}': ['{B}']}};"), false),
        ] {
            let read = read_with(read, text.as_bytes(), &Certificates::default()).unwrap();
            let objects: Vec<usize> = read.sets.iter().map(|set| set.group).collect();
            assert_eq!(objects.len(), 2, "{text}");
            assert_eq!(objects[0] == objects[1], is_one, "{text}");
        }
    }

    #[test]
    fn pins_without_a_host_are_an_error() {
        for text in [
            format!("{{\"example.com\": [\"sha256/{A}\"], \"pins\": [\"sha256/{B}\"]}}"),
            format!("fetch(url, {{ sslPinning: {{ certs: ['sha256/{A}'] }} }})"),
        ] {
            let error = read_with(read, text.as_bytes(), &Certificates::default()).unwrap_err();
            assert!(matches!(error.problem, Problem::NotRead), "{text}: {error}");
        }
    }

    #[test]
    fn each_pin_of_sha1_is_reported() {
        let old = format!("sha1/{}=", "A".repeat(27));
        let text = format!("{{\"a.example\": [\n\"{old}\", \"sha256/{A}\"]}}");
        let read = read_with(super::read, text.as_bytes(), &Certificates::default()).unwrap();
        assert_eq!(sets(&read), [set("a.example", &[a()])]);
        assert_eq!(read.notes.iter().map(|note| note.line).collect::<Vec<_>>(), [2]);
        let alone = format!("{{\"a.example\": [\"sha256/{A}\"],\n\"b.example\": [\"{old}\"]}}");
        let read = read_with(super::read, alone.as_bytes(), &Certificates::default());
        assert_eq!(read, Err(Problem::Sha1.at(2)));
    }

    #[test]
    fn other_notations_of_objects_are_read() {
        for text in [
            format!(
                "export const ALL: DomainPin[] = [\n{{ domain: 'a.example', fingerprints: [\n\
                 {{ algorithm: 'sha256', value: '{A}' }}], includeSubdomains: true }} ];"
            ),
            format!(
                "PINS = {{\n  \"a.example\": {{\"pins\": [\"{A}\"], \"includeSubdomains\": True}},  # a\n}}\n"
            ),
            format!(
                "[{{\"host\": \"a.example\",\n\"pins\": [\"{A}\"], \"include_subdomains\": \"true\"}}]"
            ),
            format!(
                "{{\"one\": {{\"domain\": \"a.example\", \"key\": \"{A}\", \"includeSubDomains\": 1}}}}"
            ),
        ] {
            let read = read_with(read, text.as_bytes(), &Certificates::default()).unwrap();
            let wanted = PinSet { include_subdomains: true, ..set("a.example", &[a()]) };
            assert_eq!(sets(&read), [wanted], "{text}");
        }
        let text = format!("{{'a.example': {{ pins: ['{A}'], includeSubdomains: maybe }} }}");
        assert!(read_with(read, text.as_bytes(), &Certificates::default()).is_err());
        let text = format!(
            "const P = ['{A}'];\nconst pins = {{\n'a.example': DEV ? [] : P,\n'b.example': P }};"
        );
        let read = read_with(read, text.as_bytes(), &Certificates::default()).unwrap();
        assert_eq!(sets(&read), [set("b.example", &[a()])]);
        assert_eq!(read.notes.iter().map(|note| note.line).collect::<Vec<_>>(), [3]);
    }
}
