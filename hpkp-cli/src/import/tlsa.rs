//! TLSA records (RFC 6698, RFC 7671) in the form of zone files (RFC 1035 section 5).
//!
//! `3 1 1` and `1 1 1` are pins of the leaf's key, `2 1 1` of a CA that the server sends, `0 1 1` of a
//! CA on the path. Of the records of one name any one is enough. A record with anything else is an
//! error, since clients may hold a server to it and no key can be held against it; a hash of a whole
//! certificate most of all.

mod elsewhere;
pub(super) mod spelled;
mod zone;

use std::collections::{HashMap, HashSet};

use hpkp_core::pin::{Pin, PinError};
use hpkp_core::published::Client;
use hpkp_core::text::Excerpt;
use hpkp_core::ua::host::HostName;

use self::zone::Record;
use super::{
    Certificates, ImportError, Imported, MAX_SETS, Matching, PinSet, Problem, Scope, distinct,
    host, note_address, text,
};

/// Reads records in the form of a zone file, or as `dig` and `host` print them; those of other types
/// are passed over. A record that no pin can be made of is noted, and those of other names are read
/// all the same.
///
/// # Errors
/// See [`Problem`]; also where no record at all can be recorded.
pub fn read(octets: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    let mut owners: Vec<Owner> = Vec::new();
    let mut passed_over: Option<ImportError> = None;
    let mut found = false;
    let text = text(octets)?;
    let records = match zone::records(text) {
        Ok(records) if records.iter().any(|record| record.kind == "TLSA") => records,
        other if elsewhere::is_elsewhere(text) => match elsewhere::records(text)? {
            none if none.is_empty() => other?,
            records => records,
        },
        other => other?,
    };
    let is_tlsa = |record: &&Record| matches!(record.kind.as_str(), "TLSA" | "TYPE52");
    let names: HashSet<String> =
        records.iter().filter(is_tlsa).map(|record| record.owner.to_ascii_lowercase()).collect();
    // A name that stands for another one has that one's records.
    let mut aliases_of: HashMap<String, Vec<&str>> = HashMap::new();
    for alias in records.iter().filter(|record| !is_tlsa(record) && is_for_tlsa(&record.owner)) {
        found = true;
        let to = alias.target().unwrap_or_default();
        if alias.kind == "CNAME" && names.contains(&to.to_ascii_lowercase()) {
            aliases_of.entry(to.to_ascii_lowercase()).or_default().push(&alias.owner);
            continue;
        }
        let problem = Problem::unsupported(
            &alias.owner,
            "it stands for another name, and the TLSA records of that are not here",
        );
        imported.note(
            alias.line,
            format!(
                "{} stands for {}, whose TLSA records are not here: its pins are NOT recorded; \
                 import the records of both names together",
                Excerpt::new(&alias.owner),
                Excerpt::new(&to)
            ),
        );
        passed_over.get_or_insert(problem.at(alias.line));
    }
    for record in records.iter().filter(is_tlsa) {
        found = true;
        // Whatever becomes of it, it is recorded or named.
        if let Ok((_, data)) = record.association() {
            certificates.account(spelled::stand_in(&data), record.line);
        }
        let aliases = aliases_of.get(&record.owner.to_ascii_lowercase());
        let aliases = aliases.map_or(&[][..], Vec::as_slice);
        let own = match Owner::parse(record, &record.owner, &mut imported) {
            // A name of its own kind, which only the aliases lead to.
            Err(_) if !aliases.is_empty() => None,
            own => own?,
        };
        let mut all: Vec<Owner> = own.into_iter().collect();
        for alias in aliases {
            all.extend(Owner::parse(record, alias, &mut imported)?);
        }
        if all.is_empty() {
            continue;
        }
        let pin = match association(record, certificates) {
            Ok(pin) => pin,
            Err(error) if error.problem.is_about_one_record() => {
                let name = Excerpt::new(&record.owner);
                imported.note(record.line, format!("{name}: not recorded: {}", error.problem));
                passed_over.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        for owner in all {
            let full = owners.len() == MAX_SETS;
            match owners.iter_mut().find(|known| known.name == owner.name) {
                Some(known) => known.pins.push(pin),
                None if full => return Err(Problem::TooManySets.at(record.line)),
                None => owners.push(Owner { pins: vec![pin], ..owner }),
            }
        }
    }
    if !found {
        return Err(Problem::Nothing { wanted: "a TLSA record" }.at(1));
    }
    owners.into_iter().try_for_each(|owner| owner.finish(&mut imported))?;
    match passed_over.filter(|_| imported.sets.is_empty()) {
        Some(error) => Err(error),
        None => Ok(imported),
    }
}

/// Whether a text that is no zone file may have TLSA records.
pub(super) fn is_elsewhere(text: &str) -> bool {
    text.contains("TLSA") && elsewhere::is_elsewhere(text)
}

/// Whether a client may ask for TLSA records at a name: `_443._tcp.HOST`, `*._tcp.HOST`. That of a
/// challenge or of a policy for mail has nothing to do with them.
fn is_for_tlsa(name: &str) -> bool {
    let mut labels = name.split('.');
    let (first, second) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    let is_port =
        |label: &str| label.strip_prefix('_').is_some_and(|port| port.parse::<u16>().is_ok());
    is_transport(first) || is_transport(second) && (first == "*" || is_port(first))
}

const TRANSPORTS: [&str; 3] = ["_tcp", "_udp", "_sctp"];

fn is_transport(label: &str) -> bool {
    TRANSPORTS.iter().any(|name| label.eq_ignore_ascii_case(name))
}

/// The name of TLSA records (RFC 6698 section 3), a port, a transport, a host, or a wildcard; and
/// what they say.
#[derive(Debug)]
struct Owner {
    line: usize,
    name: String,
    host: HostName,
    matching: Matching,
    port: Option<u16>,
    /// Records of one transport are nothing to clients of another, though the port is the same.
    transport: usize,
    pins: Vec<(Scope, Pin)>,
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
            // A wildcard stands for any labels, so also for the port and the transport of any host.
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
        let name = owner.to_ascii_lowercase();
        let label = rest.split('.').next().unwrap_or_default();
        let of = |other: &&str| label.eq_ignore_ascii_case(other);
        let transport = TRANSPORTS.iter().position(of).unwrap_or_default();
        Ok(Some(Self { line, name, host, matching, port, transport, pins: Vec::new() }))
    }

    fn finish(self, imported: &mut Imported) -> Result<(), ImportError> {
        let scopes = [Scope::Leaf, Scope::SentCa, Scope::PathCa];
        for scope in scopes {
            let pins =
                distinct(self.pins.iter().filter(|(of, _)| *of == scope).map(|(_, pin)| *pin));
            if pins.is_empty() {
                continue;
            }
            let set = PinSet {
                host: self.host.clone(),
                matching: self.matching,
                include_subdomains: false,
                except: Vec::new(),
                scope,
                port: self.port,
                pins,
                expires_at: None,
                origin: format!("TLSA {}", Excerpt::new(&self.name)),
                client: Client::Dane,
                group: self.transport,
            };
            imported.push(self.line, set)?;
        }
        Ok(())
    }
}

/// The pin of a record and what clients compare it with (RFC 6698 section 2.1).
fn association(record: &Record, certificates: &Certificates) -> Result<(Scope, Pin), ImportError> {
    let line = record.line;
    let (parameters, data) = record.association()?;
    let unsupported = |why| {
        let [usage, selector, matching] = parameters;
        Err(Problem::unsupported(&format!("{usage} {selector} {matching}"), why).at(line))
    };
    let scope = match parameters[0] {
        0 => Scope::PathCa,
        1 | 3 => Scope::Leaf,
        2 => Scope::SentCa,
        _ => return unsupported("RFC 6698 knows the usages 0 to 3 only"),
    };
    match (parameters[1], parameters[2]) {
        (0, 1) => {
            let subject = certificates.whole(&data).map(str::to_owned);
            Err(Problem::CertificateAssociation { subject }.at(line))
        }
        (0, 0) => {
            let subject = certificates.whole(&openssl::sha::sha256(&data)).map(str::to_owned);
            Err(Problem::CertificateAssociation { subject }.at(line))
        }
        (0, 2) => Err(Problem::CertificateAssociation { subject: None }.at(line)),
        (1, 1) => {
            let octets = <[u8; Pin::OCTETS]>::try_from(&data[..]).map_err(|_| {
                let error = PinError::WrongLength { octets: data.len() };
                Problem::Pin { text: "the data of the record".to_owned(), error }.at(line)
            })?;
            let pin = Pin::from_octets(octets);
            if pin == Pin::OF_NOTHING {
                let text = "the data of the record".to_owned();
                return Err(Problem::Pin { text, error: PinError::OfNothing }.at(line));
            }
            Ok((scope, certificates.checked(pin, line)?))
        }
        // The key itself (RFC 6698 section 2.1.3).
        (1, 0) => {
            let pin = Pin::from_octets(openssl::sha::sha256(&data));
            Ok((scope, certificates.check(pin, line)?))
        }
        (1, 2) => unsupported(
            "it holds a SHA-512, which no pin can be made of; clients with digest agility (RFC 7671 section \
             9) look at it alone and at no SHA-256 beside it; publish the SHA-256 (matching type 1)",
        ),
        _ => unsupported("RFC 6698 knows the selectors 0 and 1 and the matching types 0 to 2 only"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::samples::{a, b, certificate, set, sets};

    fn hex(pin: Pin) -> String {
        pin.octets().iter().map(|octet| format!("{octet:02x}")).collect()
    }

    fn imported(text: &str) -> Imported {
        read(text.as_bytes(), &Certificates::default()).unwrap()
    }

    #[test]
    fn a_zone_file() {
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

    #[test]
    fn kinds_beside_one_another_are_of_one_configuration() {
        let owner = "_25._tcp.mail.example.com. IN TLSA";
        let text = format!("{owner} 3 1 1 {}\n{owner} 2 1 1 {}\n", hex(a()), hex(b()));
        let imported = imported(&text);
        let scopes: Vec<Scope> = imported.sets.iter().map(|set| set.scope).collect();
        assert_eq!(scopes, [Scope::Leaf, Scope::SentCa]);
        assert_eq!(imported.notes, []);
        assert!(imported.sets.iter().all(|set| (set.client, set.group) == (Client::Dane, 0)));
    }

    #[test]
    fn hashes_of_whole_certificates_are_refused() {
        let (at_hand, hash) = certificate();
        let subject = Some("CN=www.example.com".to_owned());
        let whole: String =
            b"the octets of a certificate".iter().map(|o| format!("{o:02x}")).collect();
        for (data, problem) in [
            (
                format!("3 0 1 {}", hex(hash)),
                Problem::CertificateAssociation { subject: subject.clone() },
            ),
            (format!("2 0 1 {}", hex(a())), Problem::CertificateAssociation { subject: None }),
            (format!("3 0 0 {whole}"), Problem::CertificateAssociation { subject }),
            (format!("3 0 2 {whole}"), Problem::CertificateAssociation { subject: None }),
            (
                format!("3 1 1 {}", hex(hash)),
                Problem::CertificateHash { subject: "CN=www.example.com".into() },
            ),
        ] {
            let text = format!("\n_443._tcp.a.example. IN TLSA {data}");
            assert_eq!(read(text.as_bytes(), &at_hand), Err(problem.at(2)), "{data}");
            // Those of other names are read all the same.
            let beside = format!("{text}\n_25._tcp.a.example. IN TLSA 3 1 1 {}", hex(b()));
            let imported = read(beside.as_bytes(), &at_hand).unwrap();
            assert_eq!((imported.sets.len(), imported.notes[0].line), (1, 2), "{data}");
        }
    }

    #[test]
    fn names_that_stand_for_others() {
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
    fn as_tools_print_them() {
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
    fn outside_zone_files() {
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
    fn what_cannot_be_read_is_an_error() {
        let pin = hex(a());
        for text in [
            format!("_443._tcp.a.example. IN TLSA 3 1 2 {pin}"),
            format!("_443._tcp.a.example. IN TLSA 4 1 1 {pin}"),
            format!("_443._tcp.a.example. IN TLSA 3 2 1 {pin}"),
            format!("_443._tcp.a.example. IN TLSA 3 1 1 {}", &pin[2..]),
            format!("_443._tcp.a.example. IN TLSA 3 1 1 {}", &pin[1..]),
            format!("_443._tcp.a.example. IN TLSA 3 1 x {pin}"),
            "_443._tcp.a.example. IN TLSA 3 1".to_owned(),
            "_443._tcp.a.example. IN TYPE52 \\# 4 03010100".to_owned(),
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
