//! curl: `--pinnedpubkey` in shell commands, or `pinnedpubkey` in a configuration file
//! (`.curlrc`, `--config`).
//!
//! curl compares the leaf's key alone, for the URLs of the same command. The hosts are those of the
//! URLs that name their scheme; a name without one is `http`, which has no TLS.

use hpkp_core::pin::Pin;
use hpkp_core::published::Client;

use super::{
    Certificates, ImportError, Imported, Matching, PinSet, Problem, Scope, distinct, host,
    note_address, text,
};

/// Reads shell commands, or a configuration file where no line has a command `curl`.
///
/// # Errors
/// See [`Problem`].
pub fn read(octets: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    const WANTED: &str = "a curl command or configuration with pinnedpubkey";
    let text = text(octets)?;
    let mut imported = Imported::default();
    let mut words = shell_words(text)?;
    let is_curl = |word: &Word| {
        !word.operator && word.text.rsplit('/').next().is_some_and(|name| name == "curl")
    };
    let mut pinned = false;
    if words.iter().any(is_curl) {
        while let Some(at) = words.iter().position(is_curl) {
            words.drain(..=at);
            let end = words.iter().position(|word| word.operator).unwrap_or(words.len());
            let command: Vec<Word> = words.drain(..end).collect();
            pinned |= options(&command, certificates, &mut imported)?;
        }
    } else {
        pinned = options(&configuration(text), certificates, &mut imported)?;
    }
    if !pinned {
        return Err(Problem::Nothing { wanted: WANTED }.at(1));
    }
    Ok(imported)
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    line: usize,
    text: String,
    /// Whether it parts commands: `|`, `;`, `&` or the end of a line.
    operator: bool,
}

/// The words of shell commands: quotation marks, backslashes and comments as POSIX has them.
/// Variables are left as they stand and lead to an error where a host or a pin holds one.
fn shell_words(text: &str) -> Result<Vec<Word>, ImportError> {
    let mut shell = Shell { words: Vec::new(), word: None, line: 1 };
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => shell.escaped(characters.next()),
            '\'' | '"' => shell.quoted(c, &mut characters)?,
            '\n' | '|' | ';' | '&' => shell.operator(c),
            '#' if shell.word.is_none() => while characters.next_if(|c| *c != '\n').is_some() {},
            c if c.is_whitespace() => shell.words.extend(shell.word.take()),
            c => shell.word().push(c),
        }
    }
    shell.words.extend(shell.word);
    Ok(shell.words)
}

struct Shell {
    words: Vec<Word>,
    /// The word that is being read.
    word: Option<Word>,
    line: usize,
}

impl Shell {
    /// The text of the word that is being read; it begins here if there is none.
    fn word(&mut self) -> &mut String {
        let line = self.line;
        let new = || Word { line, text: String::new(), operator: false };
        &mut self.word.get_or_insert_with(new).text
    }

    fn operator(&mut self, sign: char) {
        self.words.extend(self.word.take());
        self.words.push(Word { line: self.line, text: sign.to_string(), operator: true });
        self.line += usize::from(sign == '\n');
    }

    /// What follows a backslash. A line that ends with one goes on in the next.
    fn escaped(&mut self, c: Option<char>) {
        match c {
            Some('\n') => self.line += 1,
            Some(c) => self.word().push(c),
            None => {}
        }
    }

    /// What stands between quotation marks, the first of which was read.
    fn quoted(
        &mut self,
        mark: char,
        characters: &mut impl Iterator<Item = char>,
    ) -> Result<(), ImportError> {
        let begun = self.line;
        self.word();
        while let Some(c) = characters.next() {
            match c {
                c if c == mark => return Ok(()),
                '\\' if mark == '"' => match characters.next() {
                    c @ (None | Some('\n' | '"' | '\\' | '$' | '`')) => self.escaped(c),
                    Some(c) => self.word().extend(['\\', c]),
                },
                c => {
                    self.word().push(c);
                    self.line += usize::from(c == '\n');
                }
            }
        }
        let wanted = "a quotation mark with its counterpart";
        Err(Problem::unexpected(&mark.to_string(), wanted).at(begun))
    }
}

/// A configuration file as the words of a command: an option a line, `name value`, `name = value`
/// or `name: value`, the value perhaps between double quotation marks.
fn configuration(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let end = content.find(|c: char| c.is_whitespace() || c == '=' || c == ':');
        let (name, value) = content.split_at(end.unwrap_or(content.len()));
        // One of the short options keeps its single hyphen.
        let name = match name.strip_prefix('-') {
            Some(_) => name.to_owned(),
            None => format!("--{name}"),
        };
        words.push(Word { line, text: name, operator: false });
        let value = value.trim_start();
        let value = value.strip_prefix(['=', ':']).unwrap_or(value).trim_start();
        let value = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => value.split_whitespace().next().unwrap_or_default().to_owned(),
        };
        if !value.is_empty() {
            words.push(Word { line, text: value, operator: false });
        }
    }
    words
}

/// What stands before the closing quotation mark.
fn unquoted(text: &str) -> String {
    let mut value = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next().filter(|c| *c != '"') {
        value.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    value
}

/// Options whose value is a URL of something other than the server.
const OTHER_URLS: [&str; 8] =
    ["-e", "--referer", "-x", "--proxy", "--preproxy", "--doh-url", "-d", "--data"];

/// What stands in one command, between `--next` and `--next`.
#[derive(Default)]
struct Transfer {
    pins: Option<(usize, Vec<Pin>)>,
    urls: Vec<(usize, String)>,
}

/// Reads the options of one command; whether it pins.
fn options(
    words: &[Word],
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<bool, ImportError> {
    let mut pinned = false;
    let mut transfer = Transfer::default();
    let mut follows = None;
    let mut words = words.iter();
    while let Some(Word { line, text, .. }) = words.next() {
        let line = *line;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (text.as_str(), None),
        };
        let mut value = || {
            let next = || words.next().map(|word| word.text.as_str());
            value.or_else(next).unwrap_or_default().to_owned()
        };
        match name {
            "--pinnedpubkey" => {
                if transfer.pins.is_some() {
                    return Err(Problem::twice("pinnedpubkey").at(line));
                }
                transfer.pins = Some((line, pins(&value(), line, certificates)?));
            }
            "--proxy-pinnedpubkey" => {
                value();
                imported.note(line, "--proxy-pinnedpubkey binds a proxy, no server; passed over");
            }
            "--url" => transfer.urls.push((line, value())),
            "--next" | "-:" => {
                pinned |= std::mem::take(&mut transfer).finish(imported)?;
            }
            "--location" | "--location-trusted" => follows = Some(line),
            other if OTHER_URLS.contains(&other) => {
                value();
            }
            other if !other.starts_with('-') && other.contains("://") => {
                transfer.urls.push((line, text.clone()));
            }
            // Short options that take no value may stand together; the value of -X may follow it.
            other if is_cluster(other) && other.contains('L') && !other.contains('X') => {
                follows = Some(line);
            }
            _ => {}
        }
    }
    pinned |= transfer.finish(imported)?;
    if let Some(line) = follows.filter(|_| pinned) {
        imported.note(
            line,
            "with --location curl holds the hosts of redirects to the same pins; they are not known \
             here",
        );
    }
    Ok(pinned)
}

fn is_cluster(option: &str) -> bool {
    let letters = option.strip_prefix('-');
    letters.is_some_and(|letters| letters.bytes().all(|octet| octet.is_ascii_alphabetic()))
}

/// The pins of a `pinnedpubkey`.
fn pins(value: &str, line: usize, certificates: &Certificates) -> Result<Vec<Pin>, ImportError> {
    let mut pins = Vec::new();
    for pin in value.split(';') {
        let base64 = pin.trim().strip_prefix("sha256//").ok_or_else(|| {
            Problem::unsupported(
                pin,
                "it is the name of a file; write the pin of the key in it (hpkp pin FILE) as \
                 sha256//...",
            )
            .at(line)
        })?;
        pins.push(certificates.pin(base64, line)?);
    }
    Ok(distinct(pins))
}

impl Transfer {
    /// Adds a set for each URL; whether there are pins.
    fn finish(self, imported: &mut Imported) -> Result<bool, ImportError> {
        let Some((line, pins)) = self.pins else {
            return Ok(false);
        };
        if self.urls.is_empty() {
            let problem =
                Problem::unexpected("pinnedpubkey", "a command with a URL (https://HOST)");
            return Err(problem.at(line));
        }
        for (line, url) in self.urls {
            self::url(&url, line, &pins, imported)?;
        }
        Ok(true)
    }
}

/// Adds the set of one URL.
fn url(url: &str, line: usize, pins: &[Pin], imported: &mut Imported) -> Result<(), ImportError> {
    let wanted = "a URL (https://HOST)";
    let (scheme, rest) =
        url.split_once("://").ok_or_else(|| Problem::unexpected(url, wanted).at(line))?;
    let scheme = scheme.to_ascii_lowercase();
    let Some(port) = default_port(&scheme) else {
        imported
            .note(line, format!("{} has no TLS; passed over", hpkp_core::text::Excerpt::new(url)));
        return Ok(());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, digits)) if !digits.ends_with(']') => {
            let port = digits.parse().ok().filter(|port| *port != 0);
            (name, port.ok_or_else(|| Problem::unexpected(url, wanted).at(line))?)
        }
        _ => (authority, port),
    };
    let Some(host) = host(name, line)? else {
        note_address(imported, line, name);
        return Ok(());
    };
    let set = PinSet {
        host,
        matching: Matching::Exact,
        include_subdomains: false,
        except: Vec::new(),
        scope: Scope::Leaf,
        port: Some(port),
        pins: pins.to_vec(),
        expires_at: None,
        origin: format!("curl, line {line}"),
        client: Client::Curl,
        group: 0,
    };
    imported.push(line, set)
}

/// The port of a scheme with TLS, or one that may change to TLS (`--ssl-reqd`).
fn default_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "https" | "wss" => 443,
        "ftp" => 21,
        "ftps" => 990,
        "imap" => 143,
        "imaps" => 993,
        "ldaps" => 636,
        "pop3" => 110,
        "pop3s" => 995,
        "smtp" => 25,
        "smtps" => 465,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::samples::{A, B, a, b, certificate, set, sets};

    fn leaf(host: &str, port: u16, pins: &[Pin]) -> PinSet {
        PinSet { scope: Scope::Leaf, port: Some(port), ..set(host, pins) }
    }

    fn imported(text: &str) -> Imported {
        read(text.as_bytes(), &Certificates::default()).unwrap()
    }

    #[test]
    fn commands_of_a_script() {
        let text = format!(
            "#!/bin/sh\n# curl --pinnedpubkey sha256//{B} https://old.example\n\
             /usr/bin/curl -sS -H 'Accept: a b' \\\n  --pinnedpubkey 'sha256//{A};sha256//{B}' \\\n\
             \x20 -e https://referer.example https://user:p%40@WWW.example.com/path?x=https://y | \
             tee out; curl https://unpinned.example\n\
             curl -XDELETE --pinnedpubkey \"sha256//{B}\" --url smtps://mail.example.com:4650 --next \
             https://also-unpinned.example && curl --pinnedpubkey=sha256//{A} -fsSL https://c.example/ \
             http://plain.example https://127.0.0.1/\n"
        );
        let imported = imported(&text);
        assert_eq!(
            sets(&imported),
            [
                leaf("www.example.com", 443, &[a(), b()]),
                leaf("mail.example.com", 4650, &[b()]),
                leaf("c.example", 443, &[a()]),
            ]
        );
        assert_eq!(imported.sets[0].origin, "curl, line 5");
        let notes: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].starts_with("line 6: http://plain.example has no TLS"));
        assert!(notes[1].starts_with("line 6: 127.0.0.1 is an IP address"));
        assert!(notes[2].starts_with("line 6: with --location"));
    }

    #[test]
    fn a_configuration_file() {
        let text = format!(
            "# mine\nurl = \"https://a.example:8443/x\"\nsilent\n--pinnedpubkey = \"sha256//{A}\"\n\
             next\nurl: https://b.example/\npinnedpubkey sha256//{B}\n"
        );
        assert_eq!(
            sets(&imported(&text)),
            [leaf("a.example", 8443, &[a()]), leaf("b.example", 443, &[b()])]
        );
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let (at_hand, hash) = certificate();
        let curl = |pin: &str, url: &str| format!("\ncurl --pinnedpubkey {pin} {url}");
        for text in [
            curl("key.pem", "https://a.example"),
            curl(&format!("'sha256//{A};key.pem'"), "https://a.example"),
            curl("sha256//$PIN", "https://a.example"),
            curl(&format!("sha256//{hash}"), "https://a.example"),
            curl(&format!("sha256//{A}"), "a.example"),
            curl(&format!("sha256//{A}"), "https://$HOST/"),
            curl(&format!("sha256//{A}"), "https://{a,b}.example/"),
            curl(&format!("sha256//{A}"), "https://a.example:x/"),
            curl(&format!("sha256//{A} --pinnedpubkey sha256//{B}"), "https://a.example"),
            curl("'sha256//", ""),
        ] {
            let error = read(text.as_bytes(), &at_hand).unwrap_err();
            assert_eq!(error.line, 2, "{text}: {error}");
        }
        for text in ["", "curl https://a.example", "url = https://a.example"] {
            let error = read(text.as_bytes(), &at_hand).unwrap_err();
            assert!(matches!(error.problem, Problem::Nothing { .. }), "{text}: {error}");
        }
        let error = read(curl(&format!("sha256//{hash}"), "").as_bytes(), &at_hand).unwrap_err();
        assert!(matches!(error.problem, Problem::CertificateHash { .. }));
    }
}
