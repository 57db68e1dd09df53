//! Reads curl's `--pinnedpubkey` in shell commands, or `pinnedpubkey` in a configuration file (`.curlrc`,
//! `--config`).
//!
//! curl compares only the leaf's key, for the URLs of the same command. A URL without a scheme means
//! `http`, which has no TLS, so only the hosts of URLs with a scheme get pins.

mod glob;
mod makefile;
mod shell;

use std::collections::HashMap;

use hpkp_core::pin::Pin;
use hpkp_core::published::Client;

use self::shell::Word;

use super::{
    Certificates, ImportError, Imported, Note, PinSet, Problem, Scope, distinct, host,
    note_address, shown, text,
};

/// Reads shell commands, or a configuration file if a line sets `pinnedpubkey`.
///
/// # Errors
/// See [`Problem`].
pub fn read(bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    const WANTED: &str = "a curl command or configuration with pinnedpubkey";
    let text = text(bytes)?;
    let mut imported = Imported::default();
    let pinned = if is_configuration(text) {
        options(&configuration(text), certificates, &mut imported)?
    } else {
        script(
            shell::words(&makefile::expanded(text), 1)?,
            &HashMap::new(),
            0,
            certificates,
            &mut imported,
        )?
    };
    if !pinned {
        return Err(Problem::Nothing { wanted: WANTED }.at(1));
    }
    Ok(imported)
}

/// Whether a line sets the option in the syntax of configuration files.
fn is_configuration(text: &str) -> bool {
    let mut has_dashes = false;
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with("pinnedpubkey") {
            return true;
        }
        has_dashes |= line.starts_with("--pinnedpubkey");
    }
    has_dashes && !text.contains("curl ")
}

/// How deep commands may be nested in the quotation marks of other commands.
const MAX_DEPTH: usize = 4;

/// Reads the commands of a script, and says whether one of them pins. A quoted argument may itself be a
/// command (`ssh HOST "curl ..."`, `run: "curl ..."`).
fn script(
    words: Vec<Word>,
    outer: &HashMap<String, Option<Vec<Word>>>,
    depth: usize,
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<bool, ImportError> {
    let mut variables = outer.clone();
    shell::assign(&words, &mut variables);
    let used = shell::used(&words);
    let words = shell::expanded(words, &variables);
    let mut pinned = false;
    // The value of a variable is read where the variable is used, so its assignment is skipped.
    let is_used = |word: &Word| shell::assigned(word).is_some_and(|name| used.contains(name));
    for word in words.iter().filter(|word| !word.operator && depth < MAX_DEPTH && !is_used(word)) {
        if word.text.contains("pinnedpubkey") && word.text.contains(char::is_whitespace) {
            let inner = shell::words(&word.text, word.line)?;
            pinned |= script(inner, &variables, depth + 1, certificates, imported)?;
        }
    }
    for command in commands(words) {
        let Some(at) = command.iter().position(is_curl) else { continue };
        // The words of a command in a JSON list: ["curl", "-f", ...].
        let is_json = command[at].text.ends_with(',');
        let arguments = command[at + 1..].iter().map(|word| match is_json {
            true => Word {
                text: word.text.trim_end_matches([',', ']', '}']).to_owned(),
                ..word.clone()
            },
            false => word.clone(),
        });
        let arguments: Vec<Word> = arguments.collect();
        let pins = options(&arguments, certificates, imported)?;
        if pins && command[at].text.contains("wget") {
            note_wget(command[at].line, &arguments, imported);
        }
        pinned |= pins;
    }
    Ok(pinned)
}

/// Notes the hosts that wget holds to the pins of a command and that the command does not name. Unlike curl,
/// wget follows redirects without being told to.
fn note_wget(line: usize, arguments: &[Word], imported: &mut Imported) {
    let has = |names: &[&str]| {
        arguments
            .iter()
            .any(|word| names.contains(&word.text.split('=').next().unwrap_or_default()))
    };
    if !arguments.iter().any(|word| word.text == "--max-redirect=0") {
        imported.note(
            line,
            "wget holds the hosts of redirects to the same pins; they are not known here",
        );
    }
    if has(&[
        "-i",
        "--input-file",
        "-r",
        "--recursive",
        "-p",
        "--page-requisites",
        "-m",
        "--mirror",
    ]) {
        imported.note(
            line,
            "wget holds the hosts of all URLs that it reads to the same pins; they are not known here",
        );
    }
}

/// Splits a script into commands. A list over several lines is one command: after `["curl",` and `- curl`,
/// it continues on the next line.
fn commands(words: Vec<Word>) -> Vec<Vec<Word>> {
    let mut commands = vec![Vec::new()];
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let Some(command) = commands.last_mut() else { break };
        if !word.operator {
            command.push(word);
            continue;
        }
        let list = command.iter().find(|word| is_curl(word)).map(|word| word.text.ends_with(','));
        let is_closed = command.iter().any(|word| word.text.contains(']'));
        let is_item = command.first().is_some_and(|word| word.text == "-")
            && words.peek().is_some_and(|next| next.text == "-" && !next.operator);
        match list {
            Some(true) if word.text == "\n" && !is_closed => {}
            Some(false) if word.text == "\n" && is_item => drop(words.next()),
            _ => commands.push(Vec::new()),
        }
    }
    commands
}

/// Whether a word is the command: with a path, with the prefix of a make recipe or a JSON list, or as the
/// value of a variable. wget has the same option.
fn is_curl(word: &Word) -> bool {
    let name = word.text.rsplit(['/', '=']).next().unwrap_or_default();
    let name = name.trim_matches(['[', ']', ',', '@', '-', '+', '{']);
    !word.operator && ["curl", "wget", "curl.exe"].contains(&name)
}

/// Converts a configuration file to the words of a command. A line has one option:
/// `name value`, `name = value` or `name: value`; the value may be in double quotation marks.
fn configuration(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let end = content.find(|c: char| c.is_whitespace() || c == '=' || c == ':');
        let (name, value) = content.split_at(end.unwrap_or(content.len()));
        // A short option keeps its single hyphen.
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

/// The text before the closing quotation mark.
fn unquoted(text: &str) -> String {
    let mut value = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next().filter(|c| *c != '"') {
        value.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    value
}

/// Long options with a value that do not affect the pins (curl(1), version 8).
const WITH_VALUE: &str = " abstract-unix-socket alt-svc aws-sigv4 cacert capath cert cert-type ciphers \
    connect-timeout continue-at cookie cookie-jar create-file-mode crlfile curves \
    data data-ascii data-binary data-raw data-urlencode delegation dns-interface dns-ipv4-addr \
    dns-ipv6-addr dns-servers doh-url dump-header ech egd-file engine etag-compare etag-save \
    expect100-timeout form form-string ftp-account ftp-alternative-to-user ftp-method ftp-port \
    ftp-ssl-ccc-mode happy-eyeballs-timeout-ms haproxy-clientip header hostpubmd5 hostpubsha256 hsts \
    interface ip-tos ipfs-gateway json keepalive-cnt keepalive-time key key-type krb libcurl \
    limit-rate local-port login-options mail-auth mail-from mail-rcpt max-filesize max-redirs \
    max-time netrc-file noproxy oauth2-bearer output output-dir parallel-max pass pinnedpubkey \
    postquote preproxy prequote proto proto-redir proxy proxy-cacert proxy-capath proxy-cert \
    proxy-cert-type proxy-ciphers proxy-crlfile proxy-header proxy-key proxy-key-type proxy-pass \
    proxy-service-name proxy-tls13-ciphers proxy-tlsauthtype proxy-tlspassword proxy-tlsuser \
    proxy-user proxy1.0 pubkey quote random-file range rate referer request request-target resolve \
    retry retry-delay retry-max-time sasl-authzid service-name sigalgs socks4 socks4a socks5 \
    socks5-gssapi-service socks5-hostname speed-limit speed-time stderr telnet-option tftp-blksize \
    time-cond tls-max tls13-ciphers tlsauthtype tlspassword tlsuser trace trace-ascii trace-config \
    unix-socket upload-file upload-flags url-query user user-agent variable vlan-priority write-out \
    output-document directory-prefix post-data post-file header-file tries timeout ";

/// Short options with a value.
const SHORT_WITH_VALUE: &str = "AbcCdDeEFHKmoPQrtTuUwxXyYz";

/// Short options in one word.
struct Letters {
    follows: bool,
    is_literal: bool,
    /// Whether options are read from a file (`-K`).
    reads: bool,
    wants_value: bool,
}

impl Letters {
    /// Options without a value may share a word. The text after an option with a value is the value.
    fn of(letters: &str) -> Self {
        let with_value = letters.find(|letter| SHORT_WITH_VALUE.contains(letter));
        let before = &letters[..with_value.unwrap_or(letters.len())];
        Self {
            follows: before.contains('L'),
            is_literal: before.contains('g'),
            reads: with_value.is_some_and(|at| letters[at..].starts_with('K')),
            wants_value: with_value.is_some_and(|at| at + 1 == letters.len()),
        }
    }
}

/// The part of a command between `--next` and `--next`.
#[derive(Default)]
struct Transfer {
    pins: Option<(usize, Vec<Pin>)>,
    /// Whether curl takes braces and brackets in a URL literally.
    is_literal: bool,
    urls: Vec<(usize, String)>,
    /// URLs without a scheme.
    bare: Vec<(usize, String)>,
    /// The values of `--connect-to`.
    detours: Vec<String>,
}

/// The note about `--location`.
const FOLLOWS: &str =
    "with --location curl holds the hosts of redirects to the same pins; they are not known here";

/// The note about URLs in other files.
const READS: &str =
    "curl holds the hosts of URLs in this file to the same pins; it is not read here";

/// What a command says about hosts that it does not name.
#[derive(Default)]
struct Others {
    /// The line of `--location`.
    follows: Option<usize>,
    /// The lines that name files with URLs.
    reads: Vec<usize>,
}

impl Others {
    fn note(self, imported: &mut Imported) {
        if let Some(line) = self.follows {
            imported.note(line, FOLLOWS);
        }
        for line in self.reads {
            imported.note(line, READS);
        }
    }

    /// Reads short options, and says whether the next word is the value of the last one.
    fn short(&mut self, letters: &str, line: usize, transfer: &mut Transfer) -> bool {
        let letters = Letters::of(letters);
        self.follows = Some(line).filter(|_| letters.follows).or(self.follows);
        self.reads.extend(Some(line).filter(|_| letters.reads));
        transfer.is_literal |= letters.is_literal;
        letters.wants_value
    }
}

/// Reads the options of one command, and says whether it pins.
fn options(
    words: &[Word],
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<bool, ImportError> {
    let mut pinned = false;
    let (mut transfer, mut others) = (Transfer::default(), Others::default());
    // `--proto-default` applies to the whole command, wherever it is.
    let mut scheme = None;
    let mut words = words.iter();
    while let Some(Word { line, text, .. }) = words.next() {
        let line = *line;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (text.as_str(), None),
        };
        let has_value = value.is_some() || words.len() > 0;
        let mut value = || {
            let next = || words.next().map(|word| word.text.as_str());
            value.or_else(next).unwrap_or_default().to_owned()
        };
        match name {
            "--pinnedpubkey" => {
                let bound = Some(value()).filter(|bound| has_value || !bound.is_empty());
                transfer.bind(line, bound.as_deref(), certificates, &mut imported.notes)?;
            }
            "--proxy-pinnedpubkey" => {
                pass_over_proxy(&value(), line, certificates)?;
                let text = "--proxy-pinnedpubkey applies to a proxy, not to a server; ignored";
                imported.note(line, text);
            }
            "--url" => {
                let url = value();
                others.reads.extend(Some(line).filter(|_| url.starts_with('@')));
                transfer.add(line, &url);
            }
            "--config" => others.reads.extend(Some(line).filter(|_| !value().is_empty())),
            "--connect-to" => transfer.detours.push(value()),
            "--proto-default" => scheme = Some(value()),
            "--next" | "-:" => {
                let done = std::mem::take(&mut transfer);
                pinned |= done.finish(scheme.as_deref(), imported)?;
            }
            "--location" | "--location-trusted" => others.follows = Some(line),
            "--globoff" => transfer.is_literal = true,
            long if long.starts_with("--") => {
                if WITH_VALUE.contains(&format!(" {} ", &long[2..])) {
                    value();
                }
            }
            short if short.starts_with('-') && short.len() > 1 => {
                if others.short(&short[1..], line, &mut transfer) {
                    value();
                }
            }
            _ => transfer.add(line, text),
        }
    }
    pinned |= transfer.finish(scheme.as_deref(), imported)?;
    if pinned {
        others.note(imported);
    }
    Ok(pinned)
}

/// Marks the pins of a proxy as read. They are not recorded.
fn pass_over_proxy(
    value: &str,
    line: usize,
    certificates: &Certificates,
) -> Result<(), ImportError> {
    let mut notes = Vec::new();
    for pin in value.split(';').filter_map(|pin| pin.trim().strip_prefix("sha256//")) {
        certificates.pin_of(Client::Curl, pin, line, &mut notes)?;
    }
    Ok(())
}

/// The pins of a `pinnedpubkey` that every version of curl accepts. Up to 8.17, curl splits the value at
/// `;sha256//`, so other text after a pin becomes a part of the pin. From 8.18 on, the list ends at the
/// first element that does not begin with `sha256//`.
fn pins(
    value: &str,
    line: usize,
    certificates: &Certificates,
    notes: &mut Vec<Note>,
) -> Result<Vec<Pin>, ImportError> {
    let mut pins = Vec::new();
    let mut spoilt = Vec::new();
    let mut ended = false;
    let elements: Vec<&str> = value.split(';').collect();
    for (at, element) in elements.iter().enumerate() {
        let pin = element.trim();
        if pin.is_empty() {
            continue;
        }
        let base64 = pin.strip_prefix("sha256//").ok_or_else(|| {
            let why = match is_placeholder(pin) {
                true => NOT_FOUND,
                false => {
                    "it is the name of a file; write the pin of the key in it (hpkp pin FILE) as \
                     sha256//..."
                }
            };
            Problem::unsupported(pin, why).at(line)
        })?;
        let Some(pin) = certificates.pin_of(Client::Curl, base64, line, notes)? else { continue };
        ended |= *element != pin_with_prefix(base64);
        let is_followed = elements.get(at + 1).is_none_or(|next| next.starts_with("sha256//"));
        match (ended, is_followed) {
            (false, true) => pins.push(pin),
            (false, false) => spoilt.push(pin),
            (true, _) => {
                let text = "a pin that is NOT recorded: curl does not find it, because of white space \
                            before or after it";
                notes.push(Note { line, text: text.to_owned() });
            }
        }
    }
    // If older versions accept no pin, newer versions accept these.
    if pins.is_empty() {
        if !spoilt.is_empty() {
            let text = "curl before 8.18 takes the text after a pin for a part of the pin, so no key \
                        matches and it refuses every server; later versions do not";
            notes.push(Note { line, text: text.to_owned() });
        }
        pins = spoilt;
    } else if !spoilt.is_empty() {
        let text = "a pin that is NOT recorded: curl before 8.18 takes the \";\" after it for a part of \
                    it, and does not find it";
        notes.push(Note { line, text: text.to_owned() });
    }
    if pins.is_empty() {
        let why = "curl finds no pin in it that a key can match, so it refuses every server: whoever uses \
                   this is locked out already";
        return Err(Problem::unsupported("pinnedpubkey", why).at(line));
    }
    Ok(distinct(pins))
}

/// The advice about a variable without a known value.
const NOT_FOUND: &str = "it is a variable, and this text does not show its only value; write the pin and \
                         the host in their places, or record them with: hpkp published add HOST --scope \
                         leaf --port 443 --pin PIN --origin TEXT";

/// Whether a word is a placeholder: `$PIN`, `%s`, `{{ pin }}`, `PIN`. The name of a file contains a dot or
/// a slash.
fn is_placeholder(word: &str) -> bool {
    word.contains(['$', '%', '{', '}'])
        || word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn pin_with_prefix(base64: &str) -> String {
    format!("sha256//{base64}")
}

impl Transfer {
    /// Reads the value of a `pinnedpubkey`; `value` is `None` if it is missing.
    fn bind(
        &mut self,
        line: usize,
        value: Option<&str>,
        certificates: &Certificates,
        notes: &mut Vec<Note>,
    ) -> Result<(), ImportError> {
        let Some(value) = value else {
            let wanted = "an option with its value, on the same line";
            return Err(Problem::unexpected("pinnedpubkey", wanted).at(line));
        };
        if self.pins.is_some() {
            return Err(Problem::twice("pinnedpubkey").at(line));
        }
        self.pins = Some((line, pins(value, line, certificates, notes)?));
        Ok(())
    }

    fn add(&mut self, line: usize, text: &str) {
        match text.contains("://") {
            true => self.urls.push((line, text.to_owned())),
            false => self.bare.push((line, text.to_owned())),
        }
    }

    /// Adds a set for each URL, and says whether the transfer has pins. URLs without a scheme have the one
    /// of `--proto-default`.
    fn finish(
        mut self,
        scheme: Option<&str>,
        imported: &mut Imported,
    ) -> Result<bool, ImportError> {
        let Some((line, pins)) = self.pins else {
            return Ok(false);
        };
        for (line, name) in self.bare {
            let host = name.split(['/', ':', '?']).next().unwrap_or_default();
            let is_name = host.contains('.') && host.parse::<std::net::IpAddr>().is_err();
            let is_name =
                is_name && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
            match scheme {
                Some(scheme) if is_name => self.urls.push((line, format!("{scheme}://{name}"))),
                _ if is_name => {
                    let name = shown::shown(&name);
                    imported.note(
                        line,
                        format!("{name} has no scheme, so it is http, which has no TLS; ignored"),
                    );
                }
                _ => {}
            }
        }
        if self.urls.is_empty() {
            let problem =
                Problem::unexpected("pinnedpubkey", "a command with a URL (https://HOST)");
            return Err(problem.at(line));
        }
        for (line, url) in self.urls {
            let urls = match self.is_literal {
                true => Some(vec![url]),
                false => glob::expanded(&url),
            };
            for url in urls.ok_or_else(|| Problem::TooManySets.at(line))? {
                self::url(&url, line, &pins, &self.detours, imported)?;
            }
        }
        Ok(true)
    }
}

/// Adds the set of one URL.
fn url(
    url: &str,
    line: usize,
    pins: &[Pin],
    detours: &[String],
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let wanted = "a URL (https://HOST)";
    let (scheme, rest) =
        url.split_once("://").ok_or_else(|| Problem::unexpected(url, wanted).at(line))?;
    let scheme = scheme.to_ascii_lowercase();
    let Some(port) = default_port(&scheme) else {
        imported.note(line, format!("{} has no TLS; ignored", shown::shown(url)));
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
    if name.contains(['$', '%', '{', '}']) {
        return Err(Problem::unsupported(name, NOT_FOUND).at(line));
    }
    let Some(host) = host(name, line)? else {
        note_address(imported, line, name);
        return Ok(());
    };
    let port = detours.iter().find_map(|detour| port_behind(detour, name, port)).unwrap_or(port);
    let origin = format!("curl, line {line}");
    let set = PinSet::of_one(host, pins.to_vec(), origin, (Client::Curl, 0));
    imported.push(line, PinSet { scope: Scope::Leaf, port: Some(port), ..set })
}

/// The port to which `--connect-to HOST1:PORT1:HOST2:PORT2` leads a connection to `name` and `port`, if it
/// does. Each part may be empty: the first two then mean any, the last two the same.
fn port_behind(detour: &str, name: &str, port: u16) -> Option<u16> {
    let end_of_host = detour.find(']').map_or(0, |at| if detour.starts_with('[') { at } else { 0 });
    let (host, rest) = detour.split_at(end_of_host + detour[end_of_host..].find(':')?);
    let (from, rest) = rest[1..].split_once(':')?;
    let is_for = (host.is_empty() || host.eq_ignore_ascii_case(name))
        && (from.is_empty() || from.parse() == Ok(port));
    let (_, to) = rest.rsplit_once(':').filter(|(_, to)| !to.ends_with(']'))?;
    is_for.then(|| to.parse().unwrap_or(port))
}

/// The default port of a scheme that uses TLS or can switch to it (`--ssl-reqd`).
fn default_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "https" | "wss" => 443,
        "ftp" => 21,
        "ftps" => 990,
        "gophers" => 70,
        "imap" => 143,
        "imaps" => 993,
        "ldaps" => 636,
        "mqtts" => 8883,
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
    fn pins_in_shell_commands_are_read() {
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
    fn a_connection_that_is_led_elsewhere_has_the_port_of_its_end() {
        for (to, port) in [
            ("::backend.internal:8443", 8443),
            ("a.example:443:[2001:db8::1]:8443", 8443),
            ("A.example::127.0.0.1:8443", 8443),
            ("[::1]:443:127.0.0.1:8443", 443),
            ("b.example:443:127.0.0.1:8443", 443),
            ("a.example:444:127.0.0.1:8443", 443),
            ("::backend.internal:", 443),
            ("::[2001:db8::1]", 443),
        ] {
            for option in [format!("--connect-to {to}"), format!("--connect-to={to}")] {
                let text = format!("curl {option} --pinnedpubkey sha256//{A} https://a.example");
                assert_eq!(sets(&imported(&text)), [leaf("a.example", port, &[a()])], "{option}");
            }
        }
    }

    #[test]
    fn urls_that_are_in_other_files_are_noted() {
        for (command, notes) in [
            ("curl -sK urls.conf", 1),
            ("curl --config urls.conf", 1),
            ("curl -Kurls.conf", 1),
            ("curl --url @urls.txt", 1),
            ("curl -s", 0),
            ("wget", 1),
            ("wget --max-redirect=0", 0),
            ("wget --max-redirect=0 -i urls.txt", 1),
            ("wget --input-file=urls.txt", 2),
        ] {
            let text = format!("{command} --pinnedpubkey sha256//{A} https://a.example");
            let imported = imported(&text);
            assert_eq!(sets(&imported), [leaf("a.example", 443, &[a()])], "{command}");
            let read: Vec<&Note> =
                imported.notes.iter().filter(|n| !n.text.contains("scheme")).collect();
            assert_eq!(read.len(), notes, "{command}: {read:?}");
        }
    }

    #[test]
    fn a_curl_configuration_file_is_read() {
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
    fn braces_and_ranges_stand_for_several_hosts() {
        let curl = |url: &str| format!("curl --pinnedpubkey sha256//{A} '{url}'");
        for (url, hosts) in [
            ("https://{a,b}.example/{x,y}", vec!["a.example", "b.example"]),
            (
                "https://n[08-10].example/[1-9999]",
                vec!["n08.example", "n09.example", "n10.example"],
            ),
            ("https://{a.example/x,b.example/y}", vec!["a.example", "b.example"]),
            ("https://[a-c].example", vec!["a.example", "b.example", "c.example"]),
        ] {
            let mut read: Vec<_> = sets(&imported(&curl(url)));
            read.dedup();
            let wanted: Vec<_> = hosts.iter().map(|host| leaf(host, 443, &[a()])).collect();
            assert_eq!(read, wanted, "{url}");
        }
        let many = curl("https://[1-99999].[1-99999].example/");
        assert!(read(many.as_bytes(), &Certificates::default()).is_err());
    }

    #[test]
    fn make_variables_are_replaced() {
        for text in [
            format!("PIN := sha256//{A}\nall:\n\t@curl --pinnedpubkey $(PIN) https://a.example\n"),
            format!("P ?= {A}\nall:\n\tcurl --pinnedpubkey 'sha256//${{P}}' https://a.example\n"),
            format!("C = curl --pinnedpubkey \"sha256//{A}\"\nall:\n\t$(C) https://a.example\n"),
            format!(
                "K := {A}\nP := sha256//$(K)\nall:\n\tcurl --pinnedpubkey $(P) https://a.example"
            ),
        ] {
            let read = crate::import::read_with(read, text.as_bytes(), &Certificates::default());
            assert_eq!(sets(&read.unwrap()), [leaf("a.example", 443, &[a()])], "{text}");
        }
        let two = format!(
            "ifdef X\nP := sha256//{A}\nelse\nP := sha256//{B}\nendif\nall:\n\t\
             curl --pinnedpubkey $(P) https://a.example"
        );
        assert!(read(two.as_bytes(), &Certificates::default()).is_err());
    }

    #[test]
    fn many_variables_take_no_quadratic_time() {
        let lines: String = (1..60_000).map(|n| format!("V{n} := x$(V{})\n", n - 1)).collect();
        let text = format!(
            "{lines}P := sha256//{A}\nall:\n\tcurl --pinnedpubkey $(P) https://a.example\n"
        );
        assert_eq!(sets(&imported(&text)), [leaf("a.example", 443, &[a()])]);
    }

    #[test]
    fn a_command_in_a_list_over_several_lines_is_read() {
        for text in [
            format!(
                "run([\n \"curl\", \"-f\", \"--pinnedpubkey\", \"sha256//{A}\",\n \"https://a.example\",\n])\nx"
            ),
            format!(
                "execFile('curl', ['-f', '--pinnedpubkey',\n 'sha256//{A}', 'https://a.example'], f);"
            ),
            format!(
                "exec.Command(\"curl\", \"--pinnedpubkey\", \"sha256//{A}\",\n\t\"https://a.example\")"
            ),
            format!(
                "argv:\n  - curl\n  - -f\n  - --pinnedpubkey\n  - \"sha256//{A}\"\n  - https://a.example\n\
                 other:\n  - https://b.example\n"
            ),
        ] {
            let read = crate::import::read_with(read, text.as_bytes(), &Certificates::default());
            assert_eq!(read.as_ref().map(sets), Ok(vec![leaf("a.example", 443, &[a()])]), "{text}");
        }
    }

    #[test]
    fn a_variable_is_not_taken_for_a_file_name() {
        for pin in ["$PIN", "%s", "PIN", "{{pin}}", "%PIN%"] {
            let text = format!("curl --pinnedpubkey {pin} https://a.example");
            let error = read(text.as_bytes(), &Certificates::default()).unwrap_err();
            let wanted = matches!(error.problem, Problem::Unsupported { why: NOT_FOUND, .. });
            assert!(wanted, "{error}");
        }
    }

    #[test]
    fn options_appended_to_an_array_are_read() {
        let text = format!(
            "P=sha256//{A}\nO=(--proto =https)\n[ -n \"$P\" ] && O+=(--pinnedpubkey \"$P\")\n\
             curl \"${{O[@]}}\" https://a.example"
        );
        assert_eq!(sets(&imported(&text)), [leaf("a.example", 443, &[a()])]);
        let twice = text.replace("curl", &format!("O+=(--pinnedpubkey sha256//{B})\ncurl"));
        assert!(read(twice.as_bytes(), &Certificates::default()).is_err());
    }

    #[test]
    fn what_may_be_a_secret_is_not_printed() {
        for (pin, url) in [
            ("sha256//c2VjcmV0IHNlY3JldCBzZWNyZXQgMTIz", "https://a.example"),
            (&format!("sha256//{A}"), "https://ops:c2VjcmV0IHNlY3JldCBzZWNyZXQgMTIz@a.example:x"),
            ("c2VjcmV0IHNlY3JldCBzZWNyZXQgMTIz", "https://a.example"),
        ] {
            let text = format!("curl --pinnedpubkey {pin} {url}");
            let error = crate::import::read_with(read, text.as_bytes(), &Certificates::default());
            let shown = error.unwrap_err().to_string();
            assert!(!shown.contains("c2VjcmV0"), "{shown}");
        }
    }

    #[test]
    fn text_that_cannot_be_read_is_an_error() {
        let (at_hand, hash) = certificate();
        let curl = |pin: &str, url: &str| format!("\ncurl --pinnedpubkey {pin} {url}");
        for text in [
            curl("key.pem", "https://a.example"),
            curl(&format!("'sha256//{A};key.pem'"), "https://a.example"),
            curl("sha256//$PIN", "https://a.example"),
            curl(&format!("sha256//{hash}"), "https://a.example"),
            curl(&format!("sha256//{A}"), "a.example"),
            curl(&format!("sha256//{A}"), "https://$HOST/"),
            curl(&format!("sha256//{A}"), "-g https://{a,b}.example/"),
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
