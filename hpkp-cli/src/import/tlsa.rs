//! Reads TLSA records (RFC 6698, RFC 7671) in zone files (RFC 1035 section 5), in the output of tools, and
//! in the files of dnscontrol, octoDNS and tinydns.
//!
//! All records of one name are one set, and a client needs a match with one record that it supports. A
//! record that no client can use is noted and stays in its set. If a text has no other records, this is an
//! error.

mod aliases;
mod elsewhere;
mod octodns;
pub(super) mod spelled;
mod tinydns;
mod zone;

use std::collections::{BTreeSet, HashMap, HashSet};

use hpkp_core::pin::{Pin, PinError};
use hpkp_core::published::tlsa::{MAX_DATA, MAX_RECORDS, Protocol, matching, selector, usage};
use hpkp_core::published::{Client, Rrset, Tlsa};
use hpkp_core::text::Excerpt;
use hpkp_core::ua::host::HostName;

use self::zone::{Record, is_for_tlsa, is_transport};
use super::{
    Certificates, Except, ImportError, Imported, MAX_SETS, Matching, PinSet, Problem, distinct,
    host, note_address, text,
};

/// Reads records; those of other types are ignored.
///
/// # Errors
/// See [`Problem`]; also if no client can use any record.
pub fn read(bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    let records = records(text(bytes)?, certificates)?;
    let mut reader = Reader::default();
    let is_tlsa = |record: &&Record| matches!(record.kind.as_str(), "TLSA" | "TYPE52");
    let names: HashSet<String> =
        records.iter().filter(is_tlsa).map(|record| record.owner.to_ascii_lowercase()).collect();
    let aliases = reader.aliases(&records, &names)?;
    if aliases.is_none() && names.is_empty() {
        return Err(Problem::Nothing { wanted: "a TLSA record" }.at(1));
    }
    let aliases = aliases.unwrap_or_default();
    for record in records.iter().filter(is_tlsa) {
        // The record is recorded or reported below.
        if let Ok((_, data)) = record.association() {
            certificates.account(spelled::stand_in(&data), record.line);
        }
        let aliases = aliases.get(&record.owner.to_ascii_lowercase());
        reader.record(record, aliases.map_or(&[][..], Vec::as_slice), certificates)?;
    }
    reader.finish()
}

/// Reads the records of a text in any of the supported notations.
fn records(text: &str, certificates: &Certificates) -> Result<Vec<Record>, ImportError> {
    if tinydns::is_tinydns(text) {
        return tinydns::records(text);
    }
    if octodns::is_octodns(text) {
        return octodns::records(text, certificates.file.as_deref());
    }
    match zone::records(text) {
        Ok(records) if records.iter().any(|record| record.kind == "TLSA") => Ok(records),
        other if elsewhere::is_elsewhere(text) => match elsewhere::records(text)? {
            none if none.is_empty() => other,
            records => Ok(records),
        },
        other => other,
    }
}

/// The state of the reader.
#[derive(Default)]
struct Reader {
    imported: Imported,
    owners: Vec<Owner>,
    /// The first record that was not recorded unchanged.
    passed_over: Option<ImportError>,
}

impl Reader {
    /// The aliases of `names`, which have TLSA records. `None` if no alias has a name at which clients
    /// query TLSA records.
    fn aliases(
        &mut self,
        records: &[Record],
        names: &HashSet<String>,
    ) -> Result<Option<HashMap<String, Vec<Record>>>, ImportError> {
        let mut aliases: HashMap<String, Vec<Record>> = HashMap::new();
        let mut found = false;
        let mut lines = HashSet::new();
        for alias in aliases::followed(records, names)? {
            let to = alias.target().unwrap_or_default();
            let is_here = names.contains(&to);
            // Most aliases with a wildcard are those of hosts, and lead to no TLSA records.
            let is_for_tlsa = is_for_tlsa(&alias.owner) || is_here && alias.owner.starts_with("*.");
            if is_here && is_for_tlsa {
                lines.insert(alias.line);
                aliases.entry(to).or_default().push(alias);
            } else if is_for_tlsa {
                self.pass_over(&alias, &to);
            }
            found |= is_for_tlsa;
        }
        let dnames = records.iter().filter(|one| one.kind == "DNAME");
        for dname in dnames.filter(|one| !lines.contains(&one.line)) {
            found |= is_for_tlsa(&dname.owner);
            self.pass_over(dname, &dname.target().unwrap_or_default());
        }
        Ok(found.then_some(aliases))
    }

    /// Notes an alias whose TLSA records are unknown.
    fn pass_over(&mut self, alias: &Record, to: &str) {
        let below = if alias.kind == "DNAME" { "what is below " } else { "" };
        let (owner, end) = (Excerpt::new(&alias.owner), Excerpt::new(to));
        self.imported.note(
            alias.line,
            format!(
                "{below}{owner} stands for {below}{end}, whose TLSA records are not here: its pins are NOT \
                 recorded; import the records of both names together"
            ),
        );
        if is_for_tlsa(&alias.owner) {
            let why = "this name is an alias, and the text does not contain the TLSA records of its target";
            let problem = Problem::unsupported(&alias.owner, why);
            self.passed_over.get_or_insert(problem.at(alias.line));
        }
    }

    /// Adds a record for its own name and for its aliases.
    fn record(
        &mut self,
        record: &Record,
        aliases: &[Record],
        certificates: &Certificates,
    ) -> Result<(), ImportError> {
        let own = match Owner::parse(record, &record.owner, &mut self.imported) {
            // Clients query this name only through its aliases, so it may have any form.
            Err(_) if !aliases.is_empty() => None,
            own => own?,
        };
        let mut all: Vec<Owner> = own.into_iter().collect();
        for alias in aliases {
            let owner = Owner::parse(record, &alias.owner, &mut self.imported)?;
            all.extend(owner.map(|owner| Owner { ttl: owner.ttl.max(alias.ttl), ..owner }));
        }
        if all.is_empty() {
            return Ok(());
        }
        let Some(tlsa) = self.association(record, certificates)? else { return Ok(()) };
        for owner in all {
            let full = self.owners.len() == MAX_SETS;
            match self.owners.iter_mut().find(|known| known.name == owner.name) {
                Some(known) if known.records.len() == MAX_RECORDS => {
                    return Err(too_many(&record.owner, record.line));
                }
                Some(known) => {
                    known.ttl = known.ttl.max(owner.ttl);
                    known.records.push(tlsa.clone());
                }
                None if full => return Err(Problem::TooManySets.at(record.line)),
                None => self.owners.push(Owner { records: vec![tlsa.clone()], ..owner }),
            }
        }
        Ok(())
    }

    /// Parses a record; `None` if the record is only noted.
    fn association(
        &mut self,
        record: &Record,
        certificates: &Certificates,
    ) -> Result<Option<Tlsa>, ImportError> {
        let ([usage, selector, matching], data) = record.association()?;
        let tlsa = Tlsa { usage, selector, matching, data };
        let name = Excerpt::new(&record.owner).to_string();
        if tlsa.pin() == Some(Pin::OF_NOTHING) {
            let text = "the data of the record".to_owned();
            return Err(Problem::Pin { text, error: PinError::OfNothing }.at(record.line));
        }
        let checked = tlsa.pin().map(|pin| certificates.checked(pin, record.line));
        if let Some(Err(error)) = checked {
            self.imported.note(record.line, format!("{name}: not recorded: {}", error.problem));
            self.passed_over.get_or_insert(error);
            return Ok(None);
        }
        if let Some(why) = unusable(&tlsa) {
            let kind = format!("{usage} {selector} {matching}");
            self.imported.note(
                record.line,
                format!("{name}: {kind}: clients cannot use this record: {why}"),
            );
            self.passed_over.get_or_insert(Problem::unsupported(&kind, why).at(record.line));
        } else if tlsa.selector == selector::CERTIFICATE {
            self.imported.note(record.line, format!("{name}: {}", whole(&tlsa, certificates)));
        }
        Ok(Some(tlsa))
    }

    fn finish(mut self) -> Result<Imported, ImportError> {
        let names: Vec<Name> = self.owners.iter().map(|owner| owner.place.clone()).collect();
        let mut is_any_usable = false;
        for owner in std::mem::take(&mut self.owners) {
            is_any_usable |= owner.finish(&names, &mut self.imported)?;
        }
        match self.passed_over.filter(|_| !is_any_usable) {
            Some(error) => Err(error),
            None => Ok(self.imported),
        }
    }
}

/// Parses the data of a record, after the type.
pub(super) fn record(text: &str) -> Option<Tlsa> {
    let words = text.split_ascii_whitespace().map(str::to_owned).collect();
    let ([usage, selector, matching], data) =
        Record::tlsa(1, String::new(), None, words).association().ok()?;
    Some(Tlsa { usage, selector, matching, data })
}

/// Why no client can use a record.
fn unusable(tlsa: &Tlsa) -> Option<&'static str> {
    match (tlsa.is_usable(), tlsa.matching) {
        (true, _) => None,
        _ if tlsa.usage > usage::DANE_EE => Some("RFC 6698 knows the usages 0 to 3 only"),
        _ if tlsa.selector > selector::KEY => Some("RFC 6698 knows the selectors 0 and 1 only"),
        (_, matching::FULL) => Some("the data are not a certificate or a key in DER"),
        (_, matching::SHA256) => Some("the data are not 32 bytes, as a SHA-256 has"),
        (_, matching::SHA512) => Some("the data are not 64 bytes, as a SHA-512 has"),
        _ => Some("RFC 6698 knows the matching types 0 to 2 only"),
    }
}

/// The note about a record that names a whole certificate.
fn whole(tlsa: &Tlsa, certificates: &Certificates) -> String {
    let hash = match tlsa.matching {
        matching::FULL => openssl::sha::sha256(&tlsa.data).to_vec(),
        _ => tlsa.data.clone(),
    };
    let subject = certificates.whole(&hash).map_or_else(String::new, |name| format!(" of {name}"));
    let (usage, kind) = (tlsa.usage, tlsa.matching);
    format!(
        "{usage} 0 {kind} names a whole certificate{subject}, which changes with every renewal even where \
         the key stays: publish the record of the next one before it is used, or name the key ({usage} 1 1)"
    )
}

fn too_many(name: &str, line: usize) -> ImportError {
    const _: () = assert!(MAX_RECORDS == 256 && MAX_DATA == 65_535);
    Problem::unsupported(name, "one name has at most 256 records with 65,535 bytes of data")
        .at(line)
}

/// Whether a text may contain TLSA records in another notation than a zone file's.
pub(super) fn is_elsewhere(text: &str) -> bool {
    text.contains("TLSA") && elsewhere::is_elsewhere(text)
        || octodns::is_octodns(text)
        || tinydns::is_tinydns(text)
}

/// The name of TLSA records (RFC 6698 section 3): a port, a transport, a host, or a wildcard.
#[derive(Clone, Debug)]
struct Name {
    host: HostName,
    matching: Matching,
    port: Option<u16>,
    protocol: Option<Protocol>,
}

/// A name and its records.
#[derive(Debug)]
struct Owner {
    line: usize,
    name: String,
    place: Name,
    ttl: Option<u32>,
    records: Vec<Tlsa>,
}

impl Owner {
    fn parse(
        record: &Record,
        owner: &str,
        imported: &mut Imported,
    ) -> Result<Option<Self>, ImportError> {
        let line = record.line;
        let wanted = "a name such as _443._tcp.HOST";
        let wrong = || Problem::unexpected(owner, wanted).at(line);
        let (first, rest) = owner.split_once('.').ok_or_else(wrong)?;
        let (name, matching, port) = match (first, rest.split_once('.')) {
            ("*", Some((label, name))) if is_transport(label) => (name, Matching::Exact, None),
            // A wildcard matches any labels, including the port and the transport of any host.
            ("*", _) => (rest, Matching::AnyDepth, None),
            (port, Some((label, name))) if is_transport(label) => {
                let port = port.strip_prefix('_').and_then(|digits| digits.parse().ok());
                (name, Matching::Exact, Some(port.filter(|port| *port != 0).ok_or_else(wrong)?))
            }
            _ => return Err(wrong()),
        };
        let Some(host) = host(name, line)? else {
            note_address(imported, line, name);
            return Ok(None);
        };
        let protocol = Protocol::of_label(rest.split('.').next().unwrap_or_default());
        let protocol = protocol.filter(|_| matching == Matching::Exact);
        let place = Name { host, matching, port, protocol };
        let name = owner.to_ascii_lowercase();
        Ok(Some(Self { line, name, place, ttl: record.ttl, records: Vec::new() }))
    }

    /// Adds the set, and says whether a client can use one of its records. `names` are the names of all
    /// sets; DNS applies a wildcard only to names that do not exist (RFC 4592).
    fn finish(self, names: &[Name], imported: &mut Imported) -> Result<bool, ImportError> {
        let Self { line, name, place, ttl, records } = self;
        let in_order: Vec<Pin> = distinct(records.iter().filter_map(Tlsa::pin));
        let set = Rrset::new(place.protocol, ttl, records);
        let set = set.ok_or_else(|| too_many(&name, line))?;
        let set = set.without_ports(place.excepted_ports(names));
        let scope = set.scope().unwrap_or_default();
        let is_usable = !set.counted().is_empty();
        let group = place.protocol.map_or(0, |protocol| protocol as usize);
        imported.tlsa.insert(imported.sets.len(), set);
        imported.push(
            line,
            PinSet {
                except: place.excepted_hosts(names),
                matching: place.matching,
                scope,
                port: place.port,
                ..PinSet::of_one(
                    place.host,
                    in_order,
                    format!("TLSA {}", Excerpt::new(&name)),
                    (Client::Dane, group),
                )
            },
        )?;
        Ok(is_usable)
    }
}

impl Name {
    /// For a wildcard for all ports of a host: the ports with records of their own.
    fn excepted_ports(&self, names: &[Self]) -> Vec<u16> {
        if self.port.is_some() || self.protocol.is_none() {
            return Vec::new();
        }
        let beside =
            names.iter().filter(|one| one.host == self.host && one.protocol == self.protocol);
        let mut ports: Vec<u16> = beside.filter_map(|one| one.port).collect();
        ports.sort_unstable();
        ports
    }

    /// For a wildcard for all hosts below a domain: the hosts with records of their own. The wildcard
    /// applies to none of their names.
    fn excepted_hosts(&self, names: &[Self]) -> Vec<Except> {
        if self.matching != Matching::AnyDepth {
            return Vec::new();
        }
        let inside = names.iter().filter(|one| {
            one.host.is_within(&self.host)
                && (one.host != self.host || one.matching == Matching::Exact)
        });
        let except: BTreeSet<Except> = inside
            .map(|one| Except { host: one.host.clone(), with_subdomains: one.host != self.host })
            .collect();
        except.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scope;
    use super::*;
    use crate::import::format::Format;
    use crate::import::samples::{a, b, certificate, set, sets};

    fn hex(pin: Pin) -> String {
        pin.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn imported(text: &str) -> Imported {
        read(text.as_bytes(), &Certificates::default()).unwrap()
    }

    #[test]
    fn records_of_a_zone_file_are_read() {
        let whole = hex(a());
        let (first, second) = whole.split_at(30);
        let text = format!(
            "$ORIGIN example.com.\n$TTL 1h\n@ IN SOA ns hostmaster ( 1 2 3 ; serial\n 4 5 )\n\
             www 300 IN A 192.0.2.1\n txt IN TXT \"a;b ( c\"\n\
             _443._tcp.WWW 3600 IN TLSA 3 1 1 {first} (\n  {second} ) ; in use\n\
             \t IN 3600 TLSA 3 1 1 {}\n\
             *._tcp.mail TLSA ( 2 1 1\n {} )\n\
             _853._udp.dns.example.net. IN TYPE52 \\# 35 030101{}\n\
             *.wild.example.net. IN TLSA 1 1 1 {}\n",
            hex(b()).to_uppercase(),
            hex(a()),
            hex(b()),
            hex(a()),
        );
        let imported = imported(&text);
        let leaf = |set| PinSet { scope: Scope::Leaf, ..set };
        assert_eq!(
            sets(&imported),
            [
                leaf(PinSet { port: Some(443), ..set("www.example.com", &[a(), b()]) }),
                PinSet { scope: Scope::SentCa, ..set("mail.example.com", &[a()]) },
                leaf(PinSet { port: Some(853), ..set("dns.example.net", &[b()]) }),
                leaf(PinSet { matching: Matching::AnyDepth, ..set("wild.example.net", &[a()]) }),
            ]
        );
        assert_eq!(imported.sets[0].origin, "TLSA _443._tcp.www.example.com");
        assert_eq!(imported.notes, []);
    }

    /// The records of the only name in a text, and their time to live.
    fn only(text: &str) -> (Vec<String>, Option<u32>) {
        let imported = imported(text);
        assert_eq!((imported.sets.len(), imported.tlsa.len()), (1, 1), "{text}");
        let set = &imported.tlsa[&0];
        (set.records().iter().map(ToString::to_string).collect(), set.ttl)
    }

    #[test]
    fn records_of_several_kinds_are_one_set() {
        let owner = "_25._tcp.mail.example.com. 3600 IN TLSA";
        let (one, two) = (hex(a()), hex(b()));
        let all = format!("{owner} 3 1 1 {one}\n{owner} 2 1 1 {two}\n{owner} 3 0 2 {one}{two}\n");
        let records = [format!("2 1 1 {two}"), format!("3 0 2 {one}{two}"), format!("3 1 1 {one}")];
        assert_eq!(only(&all), (records.to_vec(), Some(3_600)));
        let imported = imported(&all);
        assert_eq!((imported.sets[0].scope, imported.sets[0].client), (Scope::Chain, Client::Dane));
        // The record of a whole certificate has a note.
        assert_eq!(imported.notes.iter().map(|note| note.line).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn times_to_live_have_units_and_defaults() {
        let record = format!("_443._tcp.www.example.com. IN TLSA 3 1 1 {}", hex(a()));
        let timed = record.replace(" IN", " 1h30m IN");
        for (text, ttl) in [
            (record.clone(), None),
            (timed.clone(), Some(5_400)),
            (format!("$TTL 1d\n{record}"), Some(86_400)),
            (format!("$TTL 1d\n{timed}"), Some(5_400)),
            (format!("a.example. 600 IN A 192.0.2.1\n{record}"), Some(600)),
            (record.replace(" IN", " CLASS1 2w"), Some(1_209_600)),
            (record.replace(" IN", " 1 IN"), Some(1)),
            (
                format!(
                    "example.com. 300 IN NS a.ns.cloudflare.com.\n{}",
                    record.replace(" IN", " 1 IN")
                ),
                Some(300),
            ),
            // Clients may cache the alias for longer than its target.
            (
                format!(
                    "$ORIGIN example.com.\n_dane 60 TLSA 3 1 1 {}\n_443._tcp.www 7200 CNAME _dane",
                    hex(a())
                ),
                Some(7_200),
            ),
        ] {
            assert_eq!(only(&text).1, ttl, "{text}");
        }
    }

    /// The hosts of the sets of a zone, and the lines of its notes.
    fn hosts(zone: &str) -> (Vec<String>, Vec<usize>) {
        let imported = imported(&format!("$ORIGIN example.com.\n{zone}"));
        let hosts = imported.sets.iter().map(|set| set.host.as_str().replace(".example.com", ""));
        let mut hosts: Vec<String> = hosts.collect();
        hosts.sort_unstable();
        (hosts, imported.notes.iter().map(|note| note.line).collect())
    }

    #[test]
    fn aliases_are_followed_to_their_end() {
        let record = format!("_443._tcp.z TLSA 3 1 1 {}\n", hex(a()));
        for (aliases, found, notes) in [
            ("_443._tcp.x CNAME _443._tcp.y\n_443._tcp.y CNAME _443._tcp.z\n", "x y z", 0),
            ("_443._tcp.x CNAME _443._tcp.y\n_443._tcp.y CNAME _443._tcp.x\n", "z", 2),
            ("_tcp.x DNAME _tcp.z\n", "x z", 0),
            ("x DNAME z\n", "x z", 0),
            ("x DNAME z\n_443._tcp.w CNAME _443._tcp.x\n", "w x z", 0),
            ("_443._tcp.y CNAME _443._tcp.z\nx DNAME y\n", "x y z", 0),
            ("*.x CNAME _443._tcp.z\n", "x z", 0),
            // The alias of a host has the records of the host that it leads to.
            ("x CNAME z\n*.y CNAME z\n", "z", 0),
            ("x DNAME elsewhere.example.net.\n", "z", 1),
        ] {
            let (hosts, lines) = hosts(&format!("{record}{aliases}"));
            assert_eq!((hosts.join(" ").as_str(), lines.len()), (found, notes), "{aliases}");
        }
    }

    #[test]
    fn the_time_to_live_is_that_of_the_longest_link() {
        let text = format!(
            "$ORIGIN example.com.\n_443._tcp.x 60 CNAME _443._tcp.y\n_443._tcp.y 7200 CNAME _dane\n\
             _dane 300 TLSA 3 1 1 {}\n",
            hex(a())
        );
        let imported = imported(&text);
        assert_eq!(imported.tlsa.values().map(|set| set.ttl).collect::<Vec<_>>(), [Some(7200); 2]);
    }

    #[test]
    fn the_type_may_be_written_by_its_number() {
        let (records, _) = only(&format!("_443._tcp.a.example. TYPE52 3 1 1 {}", hex(a())));
        assert_eq!(records, [format!("3 1 1 {}", hex(a()))]);
    }

    #[test]
    fn a_wildcard_excludes_names_with_records_of_their_own() {
        let pin = hex(a());
        let text = format!(
            "$ORIGIN example.com.\n*._tcp.mail TLSA 3 1 1 {pin}\n_25._tcp.mail TLSA 3 1 1 {pin}\n\
             _25._udp.mail TLSA 3 1 1 {pin}\n* TLSA 3 1 1 {pin}\n_443._tcp TLSA 3 1 1 {pin}\n"
        );
        let imported = imported(&text);
        assert_eq!(imported.tlsa[&0].except_ports, [25]);
        let except = |host: &str, with_subdomains| Except {
            host: crate::import::samples::name(host),
            with_subdomains,
        };
        let wanted = [except("example.com", false), except("mail.example.com", true)];
        assert_eq!(imported.sets[3].except, wanted);
        assert!(imported.sets.iter().take(3).all(|set| set.except.is_empty()));
    }

    #[test]
    fn records_of_whole_certificates_are_recorded_and_noted() {
        let (at_hand, hash) = certificate();
        for (data, subject) in [
            (format!("3 0 1 {}", hex(hash)), "CN=www.example.com"),
            (format!("2 0 1 {}", hex(a())), "names a whole certificate"),
            (format!("1 0 2 {}{}", hex(a()), hex(b())), "names a whole certificate"),
        ] {
            let text = format!("\n_443._tcp.a.example. IN TLSA {data}");
            let imported = read(text.as_bytes(), &at_hand).unwrap();
            assert_eq!(imported.tlsa[&0].records()[0].to_string(), data);
            assert_eq!((imported.sets[0].pins.len(), imported.notes[0].line), (0, 2), "{data}");
            assert!(imported.notes[0].text.contains(subject), "{:?}", imported.notes);
        }
        // The hash of a certificate in the place of a key's hash matches nothing.
        let text = format!("\n_443._tcp.a.example. IN TLSA 3 1 1 {}", hex(hash));
        let problem = Problem::CertificateHash { subject: "CN=www.example.com".into() };
        assert_eq!(read(text.as_bytes(), &at_hand), Err(problem.at(2)));
    }

    #[test]
    fn records_that_no_client_can_use_are_noted() {
        let pin = hex(a());
        for data in [
            format!("3 1 2 {pin}"),
            format!("4 1 1 {pin}"),
            format!("3 2 1 {pin}"),
            format!("3 1 9 {pin}"),
            format!("3 1 1 {}", &pin[2..]),
            format!("3 0 0 {pin}"),
            format!("2 1 0 {pin}"),
        ] {
            let text = format!("\n_443._tcp.a.example. IN TLSA {data}");
            let error = read(text.as_bytes(), &Certificates::default()).unwrap_err();
            assert_eq!(error.line, 2, "{data}");
            assert!(matches!(error.problem, Problem::Unsupported { .. }), "{data}: {error}");
            // With other records in its set, an unusable record is recorded unchanged.
            let beside = format!("{text}\n_443._tcp.a.example. IN TLSA 3 1 1 {}", hex(b()));
            let imported = read(beside.as_bytes(), &Certificates::default()).unwrap();
            let set = &imported.tlsa[&0];
            assert_eq!((set.records().len(), set.counted().len()), (2, 1), "{data}");
            assert_eq!(imported.notes[0].line, 2, "{data}");
        }
        let many: String = (0..=MAX_RECORDS)
            .map(|number| format!("_443._tcp.a.example. IN TLSA 3 1 9 {number:04x}\n"))
            .collect();
        let error = read(many.as_bytes(), &Certificates::default()).unwrap_err();
        assert_eq!(error.line, MAX_RECORDS + 1);
    }

    #[test]
    fn aliases_get_the_records_of_their_targets() {
        let pin = hex(a());
        let text = format!(
            "$ORIGIN example.com.\n_dane IN TLSA 3 1 1 {pin}\n_443._tcp.www CNAME _dane\n\
             *._tcp.mail IN CNAME _dane.example.com.\n_acme-challenge.www CNAME x.example.net.\n\
             _853._tcp.dns CNAME elsewhere.example.net.\n"
        );
        let imported = imported(&text);
        let leaf = |set| PinSet { scope: Scope::Leaf, ..set };
        assert_eq!(
            sets(&imported),
            [
                leaf(PinSet { port: Some(443), ..set("www.example.com", &[a()]) }),
                leaf(set("mail.example.com", &[a()])),
            ]
        );
        let lines: Vec<usize> = imported.notes.iter().map(|note| note.line).collect();
        assert_eq!(lines, [6]);
    }

    #[test]
    fn output_of_dig_and_host_is_read() {
        let pin = hex(a());
        let (first, second) = pin.split_at(56);
        let wanted =
            [PinSet { scope: Scope::Leaf, port: Some(443), ..set("www.example.com", &[a()]) }];
        for text in [
            format!("_443._tcp.www.example.com has TLSA record 3 1 1 {first} {second}"),
            format!("_443._tcp.www.example.com. CLASS1 300 TYPE52 \\# 35 030101{pin}"),
            format!("_443._tcp.www.example.com. 300 IN TLSA 3 1 1 {first} {second}"),
            format!("$ORIGIN .\n_443._tcp.www.example.com 300 IN TLSA 3 1 1 {pin}"),
            format!("a\\(b.example. IN TXT x\n_443._tcp.www.example.com. TLSA 3 1 1 {pin}"),
            format!(
                "$ORIGIN example.com.\n_443._tcp.www A 192.0.2.1\n$ORIGIN example.net.\n \
                 IN TLSA 3 1 1 {pin}"
            ),
        ] {
            assert_eq!(sets(&imported(&text)), wanted, "{text}");
        }
        for text in [format!("3 1 1 {pin}"), format!("3 0 1 {first} {second}")] {
            let error = read(text.as_bytes(), &Certificates::default()).unwrap_err();
            assert!(matches!(error.problem, Problem::Unsupported { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn octodns_files_are_read() {
        let (one, two) = (hex(a()), hex(b()));
        let value = |data: &str, indent: &str| {
            format!(
                "{indent}certificate_association_data: {data}\n{indent}certificate_usage: 3\n\
                 {indent}matching_type: 1\n{indent}selector: 1\n"
            )
        };
        let single = value(&one, "    ");
        let listed = format!(
            "  - {}  - {}",
            value(&one, "    ").trim_start(),
            value(&two, "    ").trim_start()
        );
        for (text, pins) in [
            (
                format!("---\n_443._tcp.www:\n  ttl: 300\n  type: TLSA\n  value:\n{single}"),
                vec![a()],
            ),
            (
                format!("'_443._tcp.www':\n  type: TLSA\n  ttl: 300\n  values:\n{listed}"),
                vec![a(), b()],
            ),
            (
                format!(
                    "_443._tcp.www:\n- type: A\n  value: 192.0.2.1\n- ttl: 300\n  type: TLSA # in use\n  \
                     values:\n{listed}www:\n  type: A\n  value: 192.0.2.1\n"
                ),
                vec![a(), b()],
            ),
            (
                format!(
                    "_443._tcp.www: {{type: TLSA, ttl: 300, value: {{certificate_usage: 3, selector: 1, \
                     matching_type: 1, certificate_association_data: \"{one}\"}}}}\n"
                ),
                vec![a()],
            ),
        ] {
            assert_eq!(Format::of(text.as_bytes()), Some(Format::Tlsa), "{text}");
            let in_file = |file: &str| Certificates::default().in_file(file);
            let read_as = |file| Format::Tlsa.read(text.as_bytes(), &in_file(file));
            let wanted =
                PinSet { scope: Scope::Leaf, port: Some(443), ..set("www.example.com", &pins) };
            for file in ["zones/example.com.yaml", "example.com.yml", "zones/example.com./www.yaml"]
            {
                let imported = read_as(file).unwrap();
                assert_eq!(sets(&imported), std::slice::from_ref(&wanted), "{text}");
                assert_eq!((imported.tlsa[&0].ttl, imported.notes.len()), (Some(300), 0), "{text}");
            }
            for file in ["-", "zone.yaml"] {
                let error = read_as(file).unwrap_err();
                assert!(matches!(error.problem, Problem::Unsupported { .. }), "{error}");
            }
        }
    }

    #[test]
    fn tinydns_files_are_read() {
        let escaped =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\{byte:03o}")).collect() };
        let data = format!("\\003\\001\\001{}", escaped(a().bytes()));
        // Printable bytes except the colon are not escaped.
        let plain = [&[3, 0, 9][..], b"a:b"].concat();
        let text = format!(
            "# zone\n+www.example.com:192.0.2.1:300\n:_443._tcp.www.example.com:52:{data}:300\n\
             :_443._tcp.www.example.com:52:\\003\\000\\011a\\072b:300\n:example.com:99:x:300\n\
             C_25._tcp.mail.example.com:_443._tcp.www.example.com.:600\n"
        );
        assert_eq!(Format::of(text.as_bytes()), Some(Format::Tlsa));
        let imported = Format::Tlsa.read(text.as_bytes(), &Certificates::default()).unwrap();
        assert_eq!(imported.sets.len(), 2);
        let records = imported.tlsa[&0].records();
        assert_eq!((records.len(), imported.tlsa[&0].ttl), (2, Some(300)));
        assert_eq!(records[0].data, plain[3..]);
        assert_eq!((imported.sets[1].port, imported.tlsa[&1].ttl), (Some(25), Some(600)));
        // An incomplete record is reported.
        for data in ["\\003\\001", "\\003\\001\\001\\4", "\\003\\001\\001\\999"] {
            let text = format!(":_443._tcp.www.example.com:52:{data}:300\n");
            let error = Format::Tlsa.read(text.as_bytes(), &Certificates::default()).unwrap_err();
            assert_eq!(error.line, 1, "{text}");
        }
        let other = format!("a.example sha256/{}\n:_443._tcp.www.example.com:52:{data}:1\n", a());
        let error = Format::Lines.read(other.as_bytes(), &Certificates::default()).unwrap_err();
        assert_eq!(error.line, 2, "{error}");
    }

    #[test]
    fn records_outside_zone_files_are_read() {
        let (one, two) = (hex(a()), hex(b()));
        let of = |port, host, pins: &[Pin]| PinSet {
            scope: Scope::Leaf,
            port: Some(port),
            ..set(host, pins)
        };
        let both = [of(443, "www.example.com", &[a()]), of(25, "mail.example.com", &[b()])];
        for text in [
            format!(
                "D(\"example.com\", REG,\n  TLSA(\"_443._tcp.www\", 3, 1, 1, \"{one}\"),\n  \
                 TLSA('_25._tcp.mail.example.com.', 3, 1, 1, '{two}', TTL(300)),\nEND);"
            ),
            format!(
                "D(\"example.com\", REG, DefaultTTL(\"1h\"),\n  TLSA(\"_443._tcp.www\", 3, 1, 1, \"{one}\"),\n  \
                 TLSA(\"_25._tcp.mail\", 3, 1, 1, \"{two}\", TTL(300)));"
            ),
            format!(
                "INSERT INTO records VALUES (1,'_443._tcp.www.example.com','TLSA','3 1 1 {one}',300);\n\
                 INSERT INTO records VALUES (1,'_25._tcp.mail.example.com','TLSA','3 1 1 {two}',300);"
            ),
            format!(
                "{{\"rrsets\":[{{\"name\":\"_443._tcp.www.example.com.\",\"type\":\"TLSA\",\"records\":\
                 [{{\"content\":\"3 1 1 {one}\"}}]}},{{\"name\":\"_25._tcp.mail.example.com.\",\"type\":\
                 \"TLSA\",\"records\":[{{\"content\":\"3 1 1 {two}\"}}]}}]}}"
            ),
            format!(
                "local-data: \"_443._tcp.www.example.com. TLSA 3 1 1 {one}\"\n\
                 local-data: \"_25._tcp.mail.example.com. 300 IN TLSA 3 1 1 {two}\"\n"
            ),
        ] {
            let read =
                crate::import::read_with(read, text.as_bytes(), &Certificates::default()).unwrap();
            assert_eq!(sets(&read), both, "{text}");
            if text.contains("DefaultTTL") {
                assert_eq!((read.tlsa[&0].ttl, read.tlsa[&1].ttl), (Some(3_600), Some(300)));
            }
        }
        for text in [
            format!("TLSA(\"_443._tcp\", 3, 1, 1, \"{one}\")"),
            format!("D(\"a.example\", TLSA(\"_443._tcp\", 3, 1, 1, HASH), \"{one}\")"),
            format!(
                "{{\"content\":\"3 1 1 {one}\",\"name\":\"_443._tcp.a.example\",\"type\":\"TLSA\"}}"
            ),
        ] {
            let read = crate::import::read_with(read, text.as_bytes(), &Certificates::default());
            assert!(read.is_err(), "{text} {read:?}");
        }
    }

    #[test]
    fn text_that_cannot_be_read_is_an_error() {
        let pin = hex(a());
        for text in [
            format!("_443._tcp.a.example. IN TLSA 3 1 1 {}", &pin[1..]),
            format!("_443._tcp.a.example. IN TLSA 3 1 x {pin}"),
            "_443._tcp.a.example. IN TLSA 3 1".to_owned(),
            "_443._tcp.a.example. IN TYPE52 \\# 5 03010100".to_owned(),
            "_443._tcp.a.example. IN TYPE52 03010100".to_owned(),
            format!("_443._tcp.a.example. IN TLSA 3 1 1 {}", hex(Pin::OF_NOTHING)),
            format!("_443._tcp.a IN TLSA 3 1 1 {pin}"),
            format!("a.example. IN TLSA 3 1 1 {pin}"),
            format!("_0._tcp.a.example. IN TLSA 3 1 1 {pin}"),
            format!("_443._tcp.*.example. IN TLSA 3 1 1 {pin}"),
            format!(" IN TLSA 3 1 1 {pin}"),
            "_443._tcp.a.example. IN CNAME b.example.".to_owned(),
            "$INCLUDE other".to_owned(),
            "$GENERATE 1-2 a$ A 192.0.2.$".to_owned(),
            "a.example. TXT \"x".to_owned(),
            "a.example. TXT ( x".to_owned(),
        ] {
            let error = read(format!("; zone\n{text}\n").as_bytes(), &Certificates::default());
            let error = error.unwrap_err();
            assert_eq!(error.line, 2, "{text}: {error}");
            assert!(!matches!(error.problem, Problem::Nothing { .. }), "{text}: {error}");
        }
        let error = read(b"a.example. A 192.0.2.1", &Certificates::default()).unwrap_err();
        assert!(matches!(error.problem, Problem::Nothing { .. }));
    }
}
