//! Reads zone files: names, parentheses, comments and quotation marks (RFC 1035 section 5.1), unknown types
//! (RFC 3597 section 5).

use data_encoding::HEXLOWER_PERMISSIVE;
use hpkp_core::published::tlsa::Protocol;

use super::super::{ImportError, Problem};

/// Whether clients may query TLSA records at a name: `_443._tcp.HOST`, `*._tcp.HOST`. The names of
/// challenges and mail policies have no TLSA records.
pub(super) fn is_for_tlsa(name: &str) -> bool {
    let mut labels = name.split('.');
    let (first, second) = (labels.next().unwrap_or_default(), labels.next().unwrap_or_default());
    let is_port =
        |label: &str| label.strip_prefix('_').is_some_and(|port| port.parse::<u16>().is_ok());
    is_transport(first) || is_transport(second) && (first == "*" || is_port(first))
}

pub(super) fn is_transport(label: &str) -> bool {
    Protocol::of_label(label).is_some()
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The first line of the record, from 1.
    pub(super) line: usize,
    /// The full name, without the root dot.
    pub(super) owner: String,
    /// Its type, in capitals.
    pub(super) kind: String,
    /// Its time to live, in seconds.
    pub(super) ttl: Option<u32>,
    data: Vec<String>,
    /// The origin of relative names in the data.
    origin: Option<String>,
}

impl Record {
    /// A TLSA record with these words as data.
    pub(super) fn tlsa(line: usize, owner: String, ttl: Option<u32>, data: Vec<String>) -> Self {
        Self { line, owner, kind: "TLSA".to_owned(), ttl, data, origin: None }
    }

    /// An alias record; `target` ends with the root dot.
    pub(super) fn alias(line: usize, owner: String, ttl: Option<u32>, target: String) -> Self {
        Self { line, owner, kind: "CNAME".to_owned(), ttl, data: vec![target], origin: None }
    }

    /// The target of a CNAME or DNAME, without the root dot.
    pub(super) fn target(&self) -> Option<String> {
        absolute(self.data.first()?, self.origin.as_deref(), self.line).ok()
    }

    /// The three parameters of a TLSA record and what follows them.
    pub(super) fn association(&self) -> Result<([u8; 3], Vec<u8>), ImportError> {
        let wrong = |found: &str| {
            let wanted = "a TLSA record: three numbers and hexadecimal digits";
            Problem::unexpected(found, wanted).at(self.line)
        };
        let (parameters, digits) = match &self.data[..] {
            [generic, length, digits @ ..] if generic == "\\#" => {
                let bytes = hex(&digits.concat()).ok_or_else(|| wrong(generic))?;
                let is_whole = length.parse().is_ok_and(|length: usize| length == bytes.len());
                return match bytes.split_first_chunk() {
                    Some((parameters, data)) if is_whole => Ok((*parameters, data.to_vec())),
                    _ => Err(wrong(length)),
                };
            }
            // A known type may be written by its number (RFC 3597 section 5).
            [usage, selector, matching, digits @ ..] => {
                let mut parameters = [0; 3];
                for (parameter, text) in parameters.iter_mut().zip([usage, selector, matching]) {
                    *parameter = text.parse().map_err(|_| wrong(text))?;
                }
                (parameters, digits.concat())
            }
            other => return Err(wrong(&other.join(" "))),
        };
        let data = hex(&digits).filter(|data| !data.is_empty()).ok_or_else(|| wrong(&digits))?;
        Ok((parameters, data))
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()
}

/// An entry: one line, or the lines that parentheses join.
#[derive(Debug)]
struct Entry {
    line: usize,
    /// Whether the entry begins with white space and thus has the name of the previous entry.
    continues: bool,
    words: Vec<String>,
}

/// The words after the name in an entry.
struct Line {
    kind: Option<String>,
    stated_ttl: Option<u32>,
    /// Whether the entry is a sentence of `host -t TLSA`: NAME has TLSA record 3 1 1 ...
    is_sentence: bool,
    words: Vec<String>,
}

impl Line {
    fn of(words: Vec<String>) -> Self {
        let is_sentence = words.first().is_some_and(|word| word == "has")
            && words.get(2).is_some_and(|word| word == "record");
        let mut words = words.into_iter().skip(usize::from(is_sentence));
        let mut stated_ttl = None;
        let kind = words.by_ref().find(|word| {
            stated_ttl = stated_ttl.or_else(|| time(word));
            !is_class_or_time(word)
        });
        let words = words.skip(usize::from(is_sentence)).collect();
        Self { kind, stated_ttl, is_sentence, words }
    }
}

/// Fails if an entry begins with the data of a TLSA record.
fn has_name(stated: &str, kind: Option<&str>, line: usize) -> Result<(), ImportError> {
    let is_data = stated.chars().all(|c| c.is_ascii_digit())
        && kind.is_none_or(|word| hex(word).is_some_and(|data| data.len() > 4));
    if !is_data {
        return Ok(());
    }
    Err(Problem::unsupported(
        stated,
        "this looks like a TLSA record without its name (dig +short); import the output of dig +noall \
         +answer, which names it",
    )
    .at(line))
}

/// The records of a zone file.
///
/// # Errors
/// See [`Problem`].
pub(super) fn records(text: &str) -> Result<Vec<Record>, ImportError> {
    let mut records = Vec::new();
    let mut origin: Option<String> = None;
    let mut times = Times::default();
    // The name as written, and the resolved name. A later $ORIGIN does not change it (RFC 1035 section
    // 5.1).
    let mut owner: Option<(String, Result<String, ImportError>)> = None;
    for Entry { line, continues, words } in entries(text)? {
        let mut words = words.into_iter().peekable();
        match words.peek().map(|word| word.to_ascii_uppercase()).as_deref() {
            Some("$ORIGIN") if !continues => {
                let name = words.nth(1).unwrap_or_default();
                origin = Some(absolute(&name, origin.as_deref(), line)?);
                continue;
            }
            Some("$TTL") if !continues => {
                times.default = words.nth(1).and_then(|word| time(&word));
                continue;
            }
            Some(directive) if !continues && directive.starts_with('$') => {
                return Err(Problem::unsupported(
                    directive,
                    "only $ORIGIN and $TTL are known; import the zone as it is served \
                     (dig AXFR, named-compilezone)",
                )
                .at(line));
            }
            _ => {}
        }
        if !continues {
            let stated = words.next().unwrap_or_default();
            let name = absolute(&stated, origin.as_deref(), line);
            owner = Some((stated, name));
        }
        let Line { kind, stated_ttl, is_sentence, words } = Line::of(words.collect());
        if let Some((stated, _)) = owner.as_ref().filter(|_| !continues) {
            has_name(stated, kind.as_deref(), line)?;
        }
        let Some(kind) = kind else { continue };
        let ttl = times.of(stated_ttl, text);
        let kind = kind.to_ascii_uppercase();
        // Names of other record types are not checked, even if they are invalid.
        if !["TLSA", "TYPE52", "CNAME", "DNAME"].contains(&kind.as_str()) {
            continue;
        }
        let (stated, name) = owner
            .as_ref()
            .ok_or_else(|| Problem::unexpected(&kind, "a record whose name is known").at(line))?;
        let owner = match name {
            Ok(name) => name.clone(),
            // `host` prints names without the root dot.
            Err(_) if is_sentence => stated.clone(),
            Err(error) => return Err(error.clone()),
        };
        records.push(Record { line, owner, kind, ttl, data: words, origin: origin.clone() });
    }
    Ok(records)
}

/// The defaults for records without a time to live.
#[derive(Default)]
struct Times {
    /// The value of $TTL (RFC 2308 section 4).
    default: Option<u32>,
    /// The value of the previous record (RFC 1035 section 5.1).
    last: Option<u32>,
}

impl Times {
    /// The time to live of a record for which `text` states `stated`.
    fn of(&mut self, stated: Option<u32>, text: &str) -> Option<u32> {
        self.last = stated.or(self.last);
        match stated.or(self.default).or(self.last) {
            // In an export of Cloudflare, 1 means "automatic", which is five minutes.
            Some(1) if text.contains(".ns.cloudflare.com") => Some(300),
            ttl => ttl,
        }
    }
}

/// Resolves a name, without the root dot. Relative names are below the origin.
fn absolute(name: &str, origin: Option<&str>, line: usize) -> Result<String, ImportError> {
    match (name.strip_suffix('.'), origin) {
        (Some(whole), _) => Ok(whole.to_owned()),
        (None, Some(origin)) if name == "@" => Ok(origin.to_owned()),
        (None, Some("")) => Ok(name.to_owned()),
        (None, Some(origin)) => Ok(format!("{name}.{origin}")),
        (None, None) => {
            let wanted = "a whole name, which ends with a dot, or a name below a $ORIGIN";
            Err(Problem::unexpected(name, wanted).at(line))
        }
    }
}

/// A time to live in seconds: a number, or numbers with units (BIND's `1h30m`).
pub(super) fn time(word: &str) -> Option<u32> {
    let mut rest = word;
    let mut seconds: u32 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u32 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next();
        let factor = match unit.map(|unit| unit.to_ascii_lowercase()) {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            Some(_) => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[digits + unit.map_or(0, char::len_utf8)..];
    }
    (!word.is_empty()).then_some(seconds)
}

/// Whether a word is a class or a time to live; both may precede the type in either order.
fn is_class_or_time(word: &str) -> bool {
    // CLASS1 is IN (RFC 3597 section 5).
    let generic = word.get(..5).filter(|word| word.eq_ignore_ascii_case("CLASS"));
    ["IN", "CH", "HS", "CS"].iter().any(|class| word.eq_ignore_ascii_case(class))
        || generic.is_some_and(|_| word[5..].bytes().all(|byte| byte.is_ascii_digit()))
        || word.starts_with(|c: char| c.is_ascii_digit())
}

fn entries(text: &str) -> Result<Vec<Entry>, ImportError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut entry: Option<Entry> = None;
    let mut depth = 0_usize;
    let mut opened = 1;
    for (line, content) in (1..).zip(text.lines()) {
        let begins_with_space = content.starts_with([' ', '\t']);
        let current = entry.get_or_insert_with(|| Entry {
            line,
            continues: begins_with_space,
            words: Vec::new(),
        });
        let mut rest = content;
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\r']);
            let Some(first) = rest.chars().next() else { break };
            match first {
                ';' => break,
                '(' | ')' => {
                    if first == '(' {
                        opened = line;
                        depth += 1;
                    } else {
                        depth = depth.checked_sub(1).ok_or_else(|| {
                            Problem::unexpected(")", "a parenthesis that was opened").at(line)
                        })?;
                    }
                    rest = &rest[1..];
                }
                '"' => {
                    let end = closing(&rest[1..]).ok_or_else(|| {
                        Problem::unexpected("\"", "a quotation mark with its counterpart").at(line)
                    })?;
                    current.words.push(rest[1..=end].to_owned());
                    rest = &rest[end + 2..];
                }
                _ => {
                    let end = end_of_word(rest);
                    current.words.push(rest[..end].to_owned());
                    rest = &rest[end..];
                }
            }
        }
        if depth == 0 {
            entries.extend(entry.take().filter(|entry| !entry.words.is_empty()));
        }
    }
    if depth > 0 {
        return Err(Problem::unexpected("(", "a parenthesis that is closed").at(opened));
    }
    Ok(entries)
}

/// The end of a word without quotation marks. A backslash escapes the next character (RFC 1035 section
/// 5.1).
fn end_of_word(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().find(|(_, c)| {
        let ends = !escaped && matches!(c, ' ' | '\t' | '\r' | ';' | '(' | ')' | '"');
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at)
}

/// The position of the closing quotation mark. A backslash escapes the next one.
fn closing(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}
