//! Reads OkHttp's pins: `CertificatePinner.Builder().add("host", "sha256/…")` in Java or Kotlin, or lines
//! `host sha256/…`.
//!
//! In OkHttp, the pattern `host` matches this host, `*.domain` the hosts exactly one label below, and
//! `**.domain` the domain and all hosts below. A host must match one pin of all patterns of its pinner that
//! match the host. Each `Builder` makes a separate pinner; a text of lines is one pinner.
//!
//! Source text is not compiled. Names with a literal value in the same file are resolved. Anything else is
//! an error within a `Builder`, and so is a literal pin outside of an `add`. Each branch of a source makes
//! a pinner of its own; pins of different branches are never merged.

mod lexer;
mod loops;
mod objects;
mod source;
mod values;

use hpkp_core::pin::Pin;
use hpkp_core::published::Client;
use hpkp_core::ua::host::HostName;
use std::collections::HashMap;

use self::source::Add;
use super::{
    Certificates, Except, ImportError, Imported, MAX_SETS, Matching, PinSet, Problem, distinct,
    has_final_dot, host, note_address, text,
};

/// Reads source text or lines.
///
/// # Errors
/// See [`Problem`].
pub fn read(bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    const WANTED: &str =
        "a CertificatePinner with literal hosts and pins, or a line \"HOST sha256/...\"";
    let text = text(bytes)?;
    let mut imported = Imported::default();
    let is_source = ["CertificatePinner", ".add(", "\"sha256/", "\"sha1/"]
        .iter()
        .any(|mark| text.contains(mark));
    let pinners = if is_source {
        let adds = source::pinners(&lexer::tokens(text)?)?.into_iter();
        let pinners = adds.map(|adds| Pinner::new(adds, certificates, &mut imported));
        pinners.collect::<Result<Vec<_>, _>>()?
    } else {
        vec![lines(text, certificates, &mut imported)?]
    };
    let mut seen = Vec::new();
    for (group, pinner) in pinners.into_iter().enumerate() {
        pinner.finish(group, &mut seen, &mut imported)?;
    }
    imported.or_nothing(WANTED)
}

/// A pattern of a pinner, and its own pins.
#[derive(Clone, Debug)]
struct Pattern {
    line: usize,
    host: HostName,
    matching: Matching,
    pins: Vec<Pin>,
    /// The line of its first pin of SHA-1.
    sha1: Option<usize>,
}

impl Pattern {
    /// Whether this pattern matches every host that `other` matches.
    fn covers(&self, other: &Self) -> bool {
        match (self.matching, other.matching) {
            (Matching::Exact, _) => self.is_same(other),
            (Matching::OneLabel, Matching::Exact) => {
                other.host.as_str().split_once('.').is_some_and(|(_, d)| d == self.host.as_str())
            }
            (Matching::OneLabel, _) => self.is_same(other),
            (Matching::AnyDepth, _) => other.host.is_within(&self.host),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.matching == other.matching && self.host == other.host
    }
}

/// The patterns of one pinner, without duplicates.
#[derive(Debug, Default)]
struct Pinner {
    patterns: Vec<Pattern>,
    /// The position of each pattern.
    index: HashMap<(HostName, Matching), usize>,
}

impl Pinner {
    /// The pinner that these calls make.
    fn new(
        adds: Vec<Add>,
        certificates: &Certificates,
        imported: &mut Imported,
    ) -> Result<Self, ImportError> {
        let mut pinner = Self::default();
        for Add { line, texts, .. } in adds {
            let mut texts = texts.into_iter();
            let Some((_, pattern)) = texts.next() else { continue };
            let pins = pins(texts, certificates, imported)?;
            if !has_final_dot(imported, line, &pattern, Client::OkHttp) {
                pinner.add(line, &pattern, pins, imported)?;
            }
        }
        Ok(pinner)
    }

    fn add(
        &mut self,
        line: usize,
        pattern: &str,
        (pins, sha1): (Vec<Pin>, Option<usize>),
        imported: &mut Imported,
    ) -> Result<(), ImportError> {
        let (name, matching) = Matching::of_pattern(pattern);
        let Some(host) = host(name, line)? else {
            note_address(imported, line, name);
            return Ok(());
        };
        let new = Pattern { line, host, matching, pins, sha1 };
        match self.index.get(&(new.host.clone(), new.matching)) {
            Some(known) => {
                let known = &mut self.patterns[*known];
                known.pins.extend(new.pins);
                known.sha1 = known.sha1.or(new.sha1);
            }
            None if self.patterns.len() == MAX_SETS => return Err(Problem::TooManySets.at(line)),
            None => {
                self.index.insert((new.host.clone(), new.matching), self.patterns.len());
                self.patterns.push(new);
            }
        }
        Ok(())
    }

    /// Adds the sets, except those that another path through the source has made already.
    fn finish(
        self,
        group: usize,
        seen: &mut Vec<PinSet>,
        imported: &mut Imported,
    ) -> Result<(), ImportError> {
        for pattern in &self.patterns {
            let covering = self.patterns.iter().filter(|other| other.covers(pattern));
            let pins = distinct(covering.flat_map(|other| other.pins.iter().copied()));
            match pattern.sha1 {
                Some(line) if pins.is_empty() => return Err(Problem::Sha1.at(line)),
                _ if pins.is_empty() => continue,
                _ => {}
            }
            let origin = format!("OkHttp CertificatePinner, line {}", pattern.line);
            let set = PinSet {
                matching: pattern.matching,
                except: self.excepted(pattern),
                ..PinSet::of_one(pattern.host.clone(), pins, origin, (Client::OkHttp, group))
            };
            let same = PinSet { group: 0, origin: String::new(), ..set.clone() };
            if !seen.contains(&same) {
                seen.push(same);
                imported.push(pattern.line, set)?;
            }
        }
        Ok(())
    }

    /// The hosts of a pattern for which another set contains all their pins, including the pins of this
    /// pattern. A `*.` pattern within `**.` cannot be exempt, because its hosts are not known individually;
    /// they must match both sets.
    fn excepted(&self, pattern: &Pattern) -> Vec<Except> {
        let covered =
            self.patterns.iter().filter(|other| pattern.covers(other) && !pattern.is_same(other));
        let except = covered.filter(|other| other.matching != Matching::OneLabel);
        let mut except: Vec<Except> = except
            .map(|other| Except {
                host: other.host.clone(),
                with_subdomains: other.matching == Matching::AnyDepth,
            })
            .collect();
        except.sort();
        except
    }
}

/// Reads lines with a pattern and pins; `#` begins a comment.
fn lines(
    text: &str,
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<Pinner, ImportError> {
    let mut pinner = Pinner::default();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split('#').next().unwrap_or_default();
        let mut words = content.split_ascii_whitespace();
        let Some(pattern) = words.next() else { continue };
        let mut texts = words.map(|word| (line, word.to_owned())).peekable();
        if texts.peek().is_none() {
            return Err(Problem::unexpected(pattern, "a host and its pins").at(line));
        }
        let pins = pins(texts, certificates, imported)?;
        pinner.add(line, pattern, pins, imported)?;
    }
    Ok(pinner)
}

const SHA1: &str = "sha1/";

/// The pins of an entry, and the line of its first pin of SHA-1.
fn pins(
    texts: impl Iterator<Item = (usize, String)>,
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<(Vec<Pin>, Option<usize>), ImportError> {
    let (mut pins, mut sha1) = (Vec::new(), None);
    for (line, text) in texts {
        sha1 = sha1.or(Some(line).filter(|_| text.starts_with(SHA1)));
        pins.extend(pin(&text, line, certificates, imported)?);
    }
    Ok((pins, sha1))
}

/// The pin in a text; `None`, with a note, if no key can be compared with it.
fn pin(
    text: &str,
    line: usize,
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<Option<Pin>, ImportError> {
    match text.strip_prefix("sha256/") {
        Some(base64) => certificates.pin_of(Client::OkHttp, base64, line, &mut imported.notes),
        None if text.starts_with(SHA1) => {
            imported.note(line, "a pin of SHA-1 is NOT recorded; those of SHA-256 are");
            Ok(None)
        }
        None => Err(Problem::unexpected(text, "a pin (sha256/...)").at(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::samples::{A, B, a, b, certificate, name, set, sets};

    fn imported(text: &str) -> Imported {
        read(text.as_bytes(), &Certificates::default()).unwrap()
    }

    fn checked(text: &str, at_hand: &Certificates) -> Result<Imported, ImportError> {
        crate::import::read_with(read, text.as_bytes(), at_hand)
    }

    fn wild(matching: Matching, domain: &str, pins: &[Pin]) -> PinSet {
        PinSet { matching, ..set(domain, pins) }
    }

    #[test]
    fn pinners_in_java_are_read() {
        let text = format!(
            r#"import okhttp3.CertificatePinner;
class Api {{
    // was: .add("old.example.com", "sha256/{A}")
    /* .add("older.example.com", "sha256/{B}") */
    private final String url = "https://api.example.com/"; char quote = '"';
    OkHttpClient client() {{
        CertificatePinner.Builder builder = new CertificatePinner.Builder();
        names.add(first);
        builder.add("API.example.com", "sha256/{A}",
                "sha256/" + "{B}")
            .add("**.example.net", "sha256/{A}");
        Headers headers = new Headers.Builder().build();
        builder.add("api.example.com", "sha256/{A}");
        headers.add("Accept", "text/plain");
        return new OkHttpClient.Builder().certificatePinner(builder.build()).build();
    }}
}}"#
        );
        let imported = imported(&text);
        assert_eq!(
            sets(&imported),
            [set("api.example.com", &[a(), b()]), wild(Matching::AnyDepth, "example.net", &[a()]),]
        );
        assert_eq!(imported.sets[0].origin, "OkHttp CertificatePinner, line 9");
    }

    #[test]
    fn pinners_in_kotlin_are_read() {
        let text = format!(
            "val pinner = CertificatePinner.Builder().apply {{\n\
             add(pattern = \"*.example.com\", \"sha256/{A}\",)\n\
             add(\"\"\"example.org\"\"\", \"sha256/{B}\")\n}}.build()\n"
        );
        assert_eq!(
            sets(&imported(&text)),
            [wild(Matching::OneLabel, "example.com", &[a()]), set("example.org", &[b()])]
        );
    }

    #[test]
    fn the_pins_of_all_patterns_that_match_count() {
        let text = format!(
            "# one pinner\nwww.example.com sha256/{A}\n*.example.com  sha256/{B} # more\n\
             **.example.com sha256/{A}\na.b.example.com sha256/{B}\n\n10.0.2.2 sha256/{A}"
        );
        let imported = imported(&text);
        let except = |host| Except { host: name(host), with_subdomains: false };
        assert_eq!(
            sets(&imported),
            [
                set("www.example.com", &[a(), b()]),
                PinSet {
                    except: vec![except("www.example.com")],
                    ..wild(Matching::OneLabel, "example.com", &[b(), a()])
                },
                PinSet {
                    except: vec![except("a.b.example.com"), except("www.example.com")],
                    ..wild(Matching::AnyDepth, "example.com", &[a()])
                },
                set("a.b.example.com", &[a(), b()]),
            ]
        );
        assert!(imported.notes[0].to_string().starts_with("line 7: 10.0.2.2"));
    }

    /// The pins of an entry with a final dot do not apply to the host without the dot.
    #[test]
    fn a_host_with_a_final_dot_is_another_host() {
        let text = format!(
            "CertificatePinner.Builder().add(\"a.example\", \"sha256/{A}\")\n\
             .add(\"a.example.\", \"sha256/{B}\").add(\"*.b.example.\", \"sha256/{B}\").build()"
        );
        let read = checked(&text, &Certificates::default()).unwrap();
        assert_eq!(sets(&read), [set("a.example", &[a()])]);
        let notes: Vec<String> = read.notes.iter().map(ToString::to_string).collect();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("line 2: \"a.example.\" ends with a dot"), "{notes:?}");
        // In a list that is for no particular client, the final dot is only DNS notation.
        let list = imported(&format!("a.example. sha256/{A}"));
        assert_eq!(sets(&list), [set("a.example", &[a()])]);
    }

    #[test]
    fn each_builder_has_its_own_pins() {
        let builder = |host, pin| {
            format!("CertificatePinner.Builder().add(\"{host}\", \"sha256/{pin}\").build();\n")
        };
        let text = builder("a.example", A) + &builder("a.example", B);
        assert_eq!(sets(&imported(&text)), [set("a.example", &[a()]), set("a.example", &[b()])]);
    }

    #[test]
    fn names_of_the_same_file_are_resolved() {
        let kotlin = format!(
            "object P {{\nconst val HOST = \"a.example\"\nprivate const val KEY = \"{A}\"\n\
             val PINS: Array<String> = arrayOf(\"sha256/$KEY\", \"sha256/{B}\",)\n\
             val p = CertificatePinner.Builder().add(HOST, *PINS).build()\n}}"
        );
        let java = format!(
            "class P {{ static final String HOST = \"a.example\";\n\
             private static final String[] PINS = new String[] {{ \"sha256/{A}\", \"sha256/{B}\" }};\n\
             CertificatePinner p = new CertificatePinner.Builder().add(P.HOST, PINS).build(); }}"
        );
        for text in [kotlin, java] {
            let read = checked(&text, &Certificates::default()).unwrap();
            assert_eq!(sets(&read), [set("a.example", &[a(), b()])], "{text}");
        }
        for (list, of) in [("[0]", "[1]"), (".get(0)", ".get(1)"), (".first()", "[1]")] {
            let text = format!(
                "String[] P = {{\n\"sha256/{A}\", \"sha256/{B}\" }};\n\
                 new CertificatePinner.Builder().add(\"a.example\", P{list}, Pins.P{of});"
            );
            let read = checked(&text, &Certificates::default()).unwrap();
            assert_eq!(sets(&read), [set("a.example", &[a(), b()])], "{text}");
            // A pin that is defined but not added is still reported.
            let one = text.replace(&format!(", Pins.P{of}"), "");
            assert_eq!(checked(&one, &Certificates::default()).unwrap_err().line, 2);
            let third = text.replace(of, "[2]");
            assert!(checked(&third, &Certificates::default()).is_err());
        }
        let two = format!(
            "val H = \"a.example\"\nfun f() {{ val H = \"b.example\" }}\n\
             val p = CertificatePinner.Builder().add(H, \"sha256/{A}\")"
        );
        assert_eq!(checked(&two, &Certificates::default()).unwrap_err().line, 3);
    }

    #[test]
    fn a_parameter_is_not_a_constant_of_the_same_name() {
        let add = |host: &str| format!("CertificatePinner.Builder().add({host}, \"sha256/{A}\")");
        let other = "val host = \"b.example\"\n";
        for text in [
            // Names with other values: a parameter of a function, of a lambda or of a loop, and a member of
            // an object.
            format!("fun f(host: String) = {}\nfun g() {{ {other} }}", add("host")),
            format!(
                "class X(val host: String) {{ val p = {} }}\nfun g() {{ {other} }}",
                add("host")
            ),
            format!("hosts().forEach {{ host -> {} }}\nfun g() {{ {other} }}", add("host")),
            format!("hosts().forEach {{ (host, x) -> {} }}\nfun g() {{ {other} }}", add("host")),
            format!("for (host in hosts()) {{ {} }}\nfun g() {{ {other} }}", add("host")),
            format!(
                "X f(String host, int x) {{ return new {}; }} void g() {{ {other} }}",
                add("host")
            ),
            format!("{}\n{other}", add("config.host")),
            format!("{}\ng(host = \"b.example\")", add("host")),
            format!("{}\nother.host = \"b.example\"", add("host")),
            format!("{}\n{other}", add("\"x\", \"sha256/${config.host}\"")),
        ] {
            assert!(checked(&text, &Certificates::default()).is_err(), "{text}");
        }
        for text in [
            format!("object C {{ {other} }}\n{}", add("C.host")),
            format!("{other}{}", add("this.host")),
            format!("{other}{}", add("host")),
        ] {
            let read = checked(&text, &Certificates::default()).unwrap();
            assert_eq!(sets(&read), [set("b.example", &[a()])], "{text}");
        }
    }

    const BUILDER: &str = "CertificatePinner.Builder b = new CertificatePinner.Builder();";

    #[test]
    fn loops_over_names_of_the_same_file() {
        for text in [
            format!(
                "val pins = mapOf(\n\"a.example\" to listOf(\"{A}\", \"{B}\"),\n\
                 \"b.example\" to listOf(\"{B}\"),)\n\
                 val p = CertificatePinner.Builder().apply {{ pins.forEach {{ (host, keys) ->\n\
                 keys.forEach {{ add(host, \"sha256/$it\") }} }} }}.build()"
            ),
            format!(
                "val pins = mapOf(\"a.example\" to arrayOf(\"sha256/{A}\", \"sha256/{B}\"),\n\
                 \"b.example\" to arrayOf(\"sha256/{B}\"))\nval b = CertificatePinner.Builder()\n\
                 for ((h, p) in pins) {{ b.add(h, *p) }}"
            ),
            format!(
                "Map<String, String> M = new HashMap<>(); static {{ M.put(\"a.example\", \
                 \"sha256/{A}\");\nM.put(\"b.example\", \"sha256/{B}\"); }} {BUILDER}\n\
                 for (Map.Entry<String, String> e : M.entrySet()) b.add(e.getKey(), e.getValue());\n\
                 b.add(\"a.example\", \"sha256/{B}\");"
            ),
        ] {
            let read = checked(&text, &Certificates::default()).unwrap();
            let last = sets(&read).pop();
            assert_eq!(sets(&read)[0].host, name("a.example"), "{text}");
            assert!(read.sets.iter().all(|set| set.pins.contains(&b())), "{text} {read:?}");
            assert!(last.is_some_and(|set| set.pins.contains(&b())), "{text}");
        }
    }

    fn loop_over_a_list() -> String {
        format!(
            "val hosts = listOf(\"a.example\", \"b.example\")\nval b = CertificatePinner.Builder()\n\
             hosts.forEach {{ b.add(it, \"sha256/{A}\", \"sha256/{B}\") }}"
        )
    }

    #[test]
    fn loops_over_values_of_the_same_file() {
        let read = checked(&loop_over_a_list(), &Certificates::default()).unwrap();
        let wanted = [set("a.example", &[a(), b()]), set("b.example", &[a(), b()])];
        assert_eq!(sets(&read), wanted);
        let kotlin = "val b = CertificatePinner.Builder()\n";
        for text in [
            format!(
                "enum class S(val host: String, val port: Int, vararg val pins: String) {{\n\
                 L(\"a.example\", 443, \"sha256/{A}\", \"sha256/{B}\"),\n\
                 T(\"b.example\", 8443, \"sha256/{A}\", \"sha256/{B}\"); fun x() = 1 }}\n\
                 {kotlin}S.values().forEach {{ b.add(it.host, *it.pins) }}"
            ),
            format!(
                "data class P(val host: String, val pin: String, val next: String)\n\
                 val all = listOf(P(\"a.example\", \"{A}\", \"{B}\"),\n\
                 P(host = \"b.example\", pin = \"{A}\", next = \"{B}\"))\n\
                 {kotlin}for (p in all) b.add(p.host, \"sha256/${{p.pin}}\", \"sha256/${{p.next}}\")"
            ),
            format!(
                "enum S {{ L(\"a.example\", \"sha256/{A}\", \"sha256/{B}\"),\n\
                 T(\"b.example\", \"sha256/{A}\", \"sha256/{B}\"); final String host; final String[] pins;\n\
                 S(String host, String... pins) {{ this.host = host; this.pins = pins; }} }}\n\
                 {BUILDER} for (S s : S.values()) {{ b.add(s.getHost(), s.getPins()); }}"
            ),
        ] {
            let read = checked(&text, &Certificates::default());
            assert_eq!(read.as_ref().map(sets), Ok(wanted.to_vec()), "{text}");
            // One entry that is no literal makes the whole list unknown.
            let other = text.replace("\"b.example\"", "HOST");
            assert!(checked(&other, &Certificates::default()).is_err(), "{other}");
        }
    }

    #[test]
    fn loops_over_unknown_lists_are_an_error() {
        let list = loop_over_a_list();
        let put = |pin: &str| format!("m.put(\"a.example\", \"sha256/{pin}\");");
        let twice = format!(
            "val m = HashMap()\nif (x) {{ {} }} else {{ {} }}\nval b = CertificatePinner.Builder()\n\
             m.forEach {{ (h, p) -> b.add(h, p) }}",
            put(A),
            put(B)
        );
        assert!(checked(&twice, &Certificates::default()).is_err());
        let sum = list.replace("hosts.forEach {", "for (it in others + hosts) {");
        assert!(checked(&sum, &Certificates::default()).is_err());
        let more = list.replace("\"b.example\")", "\"b.example\") + others()");
        assert!(checked(&more, &Certificates::default()).is_err());
        let called = format!(
            "val h = \"A.example\".replace(\"A\", \"b\")\n\
             val b = CertificatePinner.Builder().add(h, \"sha256/{A}\")"
        );
        assert!(checked(&called, &Certificates::default()).is_err());
        // A filtered list, or a list from elsewhere, is unknown.
        for over in ["hosts.filter { x }", "load()"] {
            let text = list.replace("hosts.forEach", &format!("{over}.forEach"));
            assert!(checked(&text, &Certificates::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn pins_of_branches_are_not_merged() {
        let add = |pin: &str| format!("b.add(\"a.example\", \"sha256/{pin}\")");
        let make = "val b = CertificatePinner.Builder()\n";
        for (text, wanted) in [
            (
                format!("{make}if (x) {{ {} }} else {{ {} }}", add(A), add(B)),
                vec![vec![a()], vec![b()]],
            ),
            (format!("{make}if (x) {} else {}", add(A), add(B)), vec![vec![a()], vec![b()]]),
            (
                format!("{make}when (x) {{ 1 -> {}\n 2 -> {} }}", add(A), add(B)),
                vec![vec![a()], vec![b()]],
            ),
            (format!("{make}{}\nif (x) {{ {} }}", add(A), add(B)), vec![vec![a()], vec![a(), b()]]),
            (
                format!("{make}when (x) {{ 1 -> {}\nelse -> {{ {} }} }}", add(A), add(B)),
                vec![vec![a()], vec![b()]],
            ),
            (
                format!(
                    "{make}switch (x) {{ case 1: {}; break; default: {{ {}; }} }}",
                    add(A),
                    add(B)
                ),
                vec![vec![a()], vec![b()]],
            ),
            (
                format!("{make}if (x) return {}\nreturn {}", add(A), add(B)),
                vec![vec![a()], vec![b()]],
            ),
            (
                format!("{make}if (x) {{ {}\n return b }}\n{}", add(A), add(B)),
                vec![vec![a()], vec![b()]],
            ),
            (
                format!(
                    "{make}val c = CertificatePinner.Builder()\n{}\nc.{}",
                    add(A),
                    &add(B)[2..]
                ),
                vec![vec![a()], vec![b()]],
            ),
        ] {
            let read = checked(&text, &Certificates::default()).unwrap();
            let pins: Vec<_> = read.sets.iter().map(|set| set.pins.clone()).collect();
            assert_eq!(pins, wanted, "{text}");
        }
    }

    #[test]
    fn text_that_cannot_be_read_is_an_error() {
        let (at_hand, hash) = certificate();
        let builder = |arguments: &str| format!("CertificatePinner.Builder()\n.add({arguments})");
        let no_literal = values::NOT_KNOWN;
        let cases = [
            (builder("HOST, PIN"), 2, Problem::unsupported("HOST", no_literal)),
            (
                builder(&format!("host(), \"sha256/{A}\"")),
                2,
                Problem::unsupported("host", no_literal),
            ),
            (builder("\"a.example\", \"${pin}\""), 2, Problem::unsupported("${pin}", no_literal)),
            (
                builder("\"a.example\", \"sha256/\" + PIN"),
                2,
                Problem::unsupported("PIN", no_literal),
            ),
            (
                builder("\"a.example\", \"sha256\""),
                2,
                Problem::unexpected("sha256", "a pin (sha256/...)"),
            ),
            (
                builder(&format!("\"a.example\", \"sha256/{hash}\"")),
                2,
                Problem::CertificateHash { subject: "CN=www.example.com".into() },
            ),
            ("a.example".to_owned(), 1, Problem::unexpected("a.example", "a host and its pins")),
        ];
        for (text, line, problem) in cases {
            assert_eq!(checked(&text, &at_hand), Err(problem.at(line)), "{text}");
        }
        for text in [
            builder("\"a.example\", \"sha1/AAAAAAAAAAAAAAAAAAAAAAAAAAA=\""),
            format!("CertificatePinner.Builder().add(\"a.example\",\n\"sha256/{A}\""),
            format!("class CertificatePinner {{ val PIN =\n\"sha256/{A}\" }}"),
            format!("\n*a.example sha256/{A}"),
        ] {
            let error = checked(&text, &at_hand).unwrap_err();
            assert_eq!(error.line, 2, "{text}: {error}");
        }
        for text in ["", "# nothing", "class CertificatePinner", "CertificatePinner.Builder().add("]
        {
            let error = checked(text, &at_hand).unwrap_err();
            assert!(matches!(error.problem, Problem::Nothing { .. }), "{text}: {error}");
        }
    }
}
