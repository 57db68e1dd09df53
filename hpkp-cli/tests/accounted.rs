//! A pin that is inserted into any input must not get lost: the reader records it, names its line in a note, or
//! refuses the input.

use clap::ValueEnum as _;
use hpkp_cli::import::Certificates;
use hpkp_cli::import::format::Format;
use hpkp_core::pin::Pin;
use proptest::prelude::*;
use proptest::sample::select;

#[allow(dead_code, reason = "what the fuzz targets need beyond this")]
#[path = "../../tests/fuzz/src/imports.rs"]
mod imports;

/// Whole texts of each format, and pieces of them. `PIN` and `HEX` become pins.
const PIECES: &[&str] = &[
    "<network-security-config>\n<domain-config>\n<domain includeSubdomains=\"true\">a.example</domain>\n\
     <pin-set>\n<pin digest=\"SHA-256\">PIN</pin>\n</pin-set>\n</domain-config>\n\
     <debug-overrides>\n</debug-overrides>\n</network-security-config>\n",
    "<plist><dict><key>TSKConfiguration</key><dict><key>TSKPinnedDomains</key><dict>\n<key>a.example</key>\
     <dict>\n<key>TSKPublicKeyHashes</key>\n<array>\n<string>PIN</string>\n<string>PIN</string></array>\n\
     </dict></dict></dict></dict></plist>\n",
    "<plist><dict><key>NSAppTransportSecurity</key><dict><key>NSPinnedDomains</key><dict>\n\
     <key>a.example</key><dict><key>NSPinnedLeafIdentities</key>\n<array><dict>\n\
     <key>SPKI-SHA256-BASE64</key><string>PIN</string></dict></array></dict></dict></dict></dict></plist>\n",
    "val H = \"a.example\"\nval p = CertificatePinner.Builder()\n  .add(H, \"sha256/PIN\")\n  \
     .add(\"*.b.example\", \"sha256/PIN\", \"sha256/PIN\")\n  .build()\n",
    "CertificatePinner.Builder b = new CertificatePinner.Builder();\nif (x) { b.add(\"a.example\", \
     \"sha256/PIN\"); } else { return b.add(\"a.example\", \"sha256/PIN\").build(); }\n",
    "PIN='sha256//PIN'\ncurl -sS --pinnedpubkey \"$PIN\" https://a.example/ | sh\n\
     x=$(curl --pinnedpubkey 'sha256//PIN;sha256//PIN' https://b.example)\n",
    "$ORIGIN example.com.\n_443._tcp.www IN TLSA 3 1 1 HEX\n_25._tcp.mail TLSA ( 2 1 1\n HEX )\n\
     www A 192.0.2.1\n",
    "upstream_recursive_servers:\n  - address_data: 192.0.2.1\n    tls_auth_name: \"a.example\"\n    \
     tls_pubkey_pinset:\n      - digest: \"sha256\"\n        value: PIN\n",
    "a.example sha256/PIN\n*.b.example sha256/PIN sha256/PIN\n",
    "{\"a.example\": {\"pins\": [\"sha256/PIN\", \"PIN\"], \"includeSubdomains\": true},\n \
     \"b.example\": [\"PIN\"]}\n",
    "{\"hpkp_pins\":1,\"host\":\"a.example\",\"match\":\"exact\",\"include_subdomains\":false,\"scope\":\
     \"chain\",\"pins\":[\"sha256/PIN\",\"sha256/PIN\"],\"client\":\"okhttp\",\"configuration\":0}\n",
    "enum class S(val host: String, vararg val pins: String) {\nL(\"a.example\", \"sha256/PIN\"),\n\
     T(\"b.example\", \"sha256/PIN\", \"sha256/PIN\")\n}\nval p = CertificatePinner.Builder().apply {\n\
     S.values().forEach { add(it.host, *it.pins) } }.build()\n",
    "PIN := sha256//PIN\nall:\n\tcurl --pinnedpubkey $(PIN) https://{a,b}.example\n",
    "let c = [kTSKPinnedDomains: [\"a.example\": [kTSKPublicKeyHashes: [\"PIN\", \"PIN\"]]]]\n",
    "\n",
    " ",
    "\"",
    "'",
    "\\",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    ";",
    "+",
    "=",
    "|",
    "$x",
    "#",
    "//",
    "/*",
    "*/",
    "*/*",
    "<!--",
    "-->",
    "\"\"\"",
    "don't",
    "é",
    "if (x)",
    "else",
    "return",
    "->",
    ".add(",
    "\"a.example\"",
    "a.example.",
    "sha256/",
    "sha256//",
    "curl",
    "--pinnedpubkey",
    "--proxy-pinnedpubkey",
    "https://a.example",
    "$ORIGIN",
    "_443._tcp.",
    "IN TLSA",
    "3 1 1",
    "DS 1 2 3",
    "<dict>",
    "</dict>",
    "<string>",
    "</string>",
    "<pin-set>",
    "</pin-set>",
    "<base-config>",
    "</domain-config>",
    "<domain>10.0.0.1</domain>",
    "- address_data: 192.0.2.2\n",
    "value:",
    "host:",
];

/// The text before and after an inserted pin.
const AROUND: &[(&str, &str)] = &[
    (" ", " "),
    ("\n", "\n"),
    ("\"", "\""),
    ("'", "'"),
    ("\"sha256/", "\""),
    (" sha256/", " "),
    ("'sha256//", "'"),
    ("%2F%2F", " "),
    ("pin-sha256=\\\"", "\\\""),
    ("<pin digest=\"SHA-256\">", "</pin>"),
    ("<string>", "</string>"),
    ("<string>\n  ", "\n</string>"),
    ("// sha256/", "\n"),
    ("# ", "\n"),
    ("/* ", " */"),
    ("<!-- ", " -->"),
    (".add(\"c.example\", \"sha256/", "\")"),
    ("\ncurl --pinnedpubkey sha256//", " https://c.example\n"),
    ("\n  value: ", "\n"),
    ("[\"", "\"]"),
    ("@\"", "\","),
    ("\\\"", "\\\""),
    ("&quot;", "&quot;"),
    ("\\n", "\\n"),
];

/// How the text of a pin may be written.
#[derive(Clone, Copy, Debug)]
enum Written {
    Plain,
    /// As PHP and others write JSON.
    Slashes,
    Percent,
    /// Two literals with an operator between them.
    Parted(&'static str),
    Zone,
    Generic,
    Call,
    /// As octoDNS has it.
    Yaml,
    /// As tinydns has it.
    Octal,
}

const WRITTEN: &[Written] = &[
    Written::Plain,
    Written::Plain,
    Written::Plain,
    Written::Slashes,
    Written::Percent,
    Written::Parted("\" + \""),
    Written::Parted("\" +\n   \""),
    Written::Parted("' . '"),
    Written::Parted("\\\n  "),
    Written::Zone,
    Written::Generic,
    Written::Call,
    Written::Yaml,
    Written::Octal,
];

fn hex(pin: Pin) -> String {
    pin.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn written(pin: Pin, how: Written, (before, behind): (&str, &str)) -> String {
    let text = pin.to_string();
    let digits = match how {
        Written::Plain => text,
        Written::Slashes => text.replace('/', "\\/"),
        Written::Percent => text.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D"),
        Written::Parted(by) => format!("{}{by}{}", &text[..20], &text[20..]),
        Written::Zone => {
            return format!("\n_443._tcp.c.example. 300 IN TLSA 3 1 1 {}\n", hex(pin));
        }
        Written::Generic => {
            return format!("\n_443._tcp.c.example. IN TYPE52 \\# 35 030101{}\n", hex(pin));
        }
        Written::Call => return format!(" TLSA(\"_443._tcp\", 3, 1, 1, \"{}\") ", hex(pin)),
        Written::Yaml => {
            return format!(
                "\n_443._tcp.c:\n  type: TLSA\n  value:\n    certificate_association_data: {}\n    \
                 certificate_usage: 3\n    matching_type: 1\n    selector: 1\n",
                hex(pin)
            );
        }
        Written::Octal => {
            let data: String = pin.bytes().iter().map(|byte| format!("\\{byte:03o}")).collect();
            return format!("\n:_443._tcp.c.example:52:\\003\\001\\001{data}:300\n");
        }
    };
    format!("{before}{digits}{behind}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]
    #[test]
    fn an_inserted_pin_is_recorded_or_reported(
        pieces in prop::collection::vec(select(PIECES), 0..8),
        place in any::<prop::sample::Index>(),
        bytes in prop::array::uniform32(any::<u8>()),
        around in select(AROUND),
        how in select(WRITTEN),
        format in select(Format::value_variants()),
    ) {
        let mut number = 0_u8;
        let mut text = String::new();
        for piece in pieces {
            let mut rest = piece;
            while let Some(at) = rest.find("PIN").into_iter().chain(rest.find("HEX")).min() {
                number += 1;
                let pin = Pin::from_bytes(openssl::sha::sha256(&[number]));
                let is_name = ["PIN=", "PIN :", "PIN)"].iter().any(|name| rest[at..].starts_with(name))
                    || rest[..at].ends_with('$');
                text.push_str(&rest[..at]);
                match &rest[at..at + 3] {
                    name if is_name => text.push_str(name),
                    "PIN" => text.push_str(&pin.to_string()),
                    _ => text.push_str(&hex(pin)),
                }
                rest = &rest[at + 3..];
            }
            text.push_str(rest);
        }
        let pin = Pin::from_bytes(openssl::sha::sha256(&bytes));
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let at = places[place.index(places.len())];
        let piece = written(pin, how, around);
        let first = 1 + text[..at].matches('\n').count();
        text.insert_str(at, &piece);
        let lines = first..=first + piece.matches('\n').count();
        let answer = format.read(text.as_bytes(), &Certificates::default());
        prop_assert!(imports::is_accounted(&answer, pin, &lines), "{format} {lines:?}\n{text}\n{answer:?}");
        if let Some(format) = Format::of(text.as_bytes()) {
            let answer = format.read(text.as_bytes(), &Certificates::default());
            prop_assert!(imports::is_accounted(&answer, pin, &lines), "{format} {lines:?}\n{text}\n{answer:?}");
        }
    }
}

/// A text of this format with hosts and their pins.
fn whole(format: Format, hosts: &[(String, Vec<Pin>)]) -> String {
    let entry = |host: &str, pins: &[Pin]| -> String {
        let each = |before: &str, behind: &str| -> String {
            pins.iter().map(|pin| format!("{before}{pin}{behind}")).collect()
        };
        match format {
            Format::Android => format!(
                "<domain-config><domain>{host}</domain><pin-set>{}</pin-set></domain-config>\n",
                each("<pin digest=\"SHA-256\">", "</pin>\n")
            ),
            Format::Curl => format!(
                "curl --pinnedpubkey '{}' https://{host}/\n",
                each("sha256//", ";").trim_end_matches(';')
            ),
            Format::Hosts => format!("'{host}': {{ pins: [{}] }},\n", each("'", "', ")),
            Format::Ios => format!(
                "\"{host}\": {{\"NSPinnedLeafIdentities\": [{}]}},\n",
                each("{\"SPKI-SHA256-BASE64\": \"", "\"},\n")
            ),
            Format::Json => format!(
                "{{\"hpkp_pins\":1,\"host\":\"{host}\",\"match\":\"exact\",\"include_subdomains\":false,\
                 \"scope\":\"chain\",\"pins\":[{}],\"client\":\"curl\",\"configuration\":0}}\n",
                each("\"sha256/", "\",").trim_end_matches(',')
            ),
            Format::Lines => format!("{host}{}\n", each(" sha256/", "")),
            Format::Okhttp => format!(".add(\"{host}\"{})\n", each(", \"sha256/", "\"")),
            Format::Stubby => format!(
                "  - address_data: 192.0.2.1\n    tls_auth_name: {host}\n    tls_pubkey_pinset:\n{}",
                each("      - digest: sha256\n        value: ", "\n")
            ),
            Format::Tlsa => pins
                .iter()
                .map(|pin| format!("_443._tcp.{host}. IN TLSA 3 1 1 {}\n", hex(*pin)))
                .collect(),
            Format::Trustkit => {
                format!("\"{host}\": [kTSKPublicKeyHashes: [{}]],\n", each("\"", "\",\n"))
            }
        }
    };
    let entries: String = hosts.iter().map(|(host, pins)| entry(host, pins)).collect();
    let (before, behind) = match format {
        Format::Android => ("<network-security-config>\n", "</network-security-config>\n"),
        Format::Hosts => ("initializeSslPinning({\n", "});\n"),
        Format::Ios => ("{\"NSPinnedDomains\": {\n", "}}\n"),
        Format::Okhttp => ("val p = CertificatePinner.Builder()\n", ".build()\n"),
        Format::Stubby => ("upstream_recursive_servers:\n", ""),
        Format::Trustkit => ("let c = [kTSKPinnedDomains: [\n", "]]\n"),
        Format::Curl | Format::Json | Format::Lines | Format::Tlsa => ("", ""),
    };
    format!("{before}{entries}{behind}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn each_pin_of_a_whole_text_is_recorded_for_its_host(
        numbers in prop::collection::vec(prop::collection::btree_set(any::<u8>(), 2..6), 1..5),
        format in select(Format::value_variants()),
    ) {
        let pin = |number: u8| Pin::from_bytes(openssl::sha::sha256(&[number]));
        let hosts: Vec<(String, Vec<Pin>)> = numbers
            .into_iter()
            .enumerate()
            .map(|(at, pins)| (format!("host{at}.example"), pins.into_iter().map(pin).collect()))
            .collect();
        let text = whole(format, &hosts);
        prop_assert_eq!(Format::of(text.as_bytes()), Some(format), "{}", text);
        let imported = format.read(text.as_bytes(), &Certificates::default());
        prop_assert!(imported.is_ok(), "{text}\n{imported:?}");
        let imported = imported.unwrap_or_default();
        prop_assert!(imported.notes.is_empty(), "{text}\n{:?}", imported.notes);
        for (host, pins) in hosts {
            let mut sets = imported.sets.iter().filter(|set| set.host.as_str() == host).peekable();
            prop_assert!(sets.peek().is_some(), "{host}\n{text}");
            for set in sets {
                let mut found = set.pins.clone();
                found.sort();
                let mut wanted = pins.clone();
                wanted.sort();
                prop_assert_eq!(&found, &wanted, "{} {}\n{}", format, host, text);
            }
        }
    }
}
