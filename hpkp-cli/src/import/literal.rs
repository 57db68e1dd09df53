//! Reads dictionaries in source files: Swift's `[k: v]`, Objective-C's `@{ k : v }`, JSON's and
//! JavaScript's `{ k: v }`. The result is a property list in XML with each value on its line in the source,
//! so that one reader handles all languages.

use std::collections::{HashMap, HashSet};

use super::{ImportError, MAX_SETS, MAX_TEXT, Problem};

/// How deep literals may be nested.
const MAX_DEPTH: usize = 64;

/// The largest size of all property lists of a source, in bytes.
const MAX_BYTES: usize = 16 * MAX_TEXT;

/// Property lists with one key each, which is one of `roots`: one list for each place in `source` where
/// such a key has a dictionary as its value.
///
/// # Errors
/// A literal is nested too deeply or not closed.
pub(super) fn property_lists(source: &str, roots: &[&str]) -> Result<Vec<String>, ImportError> {
    let lists = property_lists_of(source, &|name| roots.contains(&name))?;
    Ok(lists.into_iter().map(|(_, list)| list).collect())
}

/// The same as [`property_lists`] for the keys that `is_root` accepts. Each list comes with the position of the literal
/// that has its key, if there is one: keys with the same position are those of one literal.
///
/// # Errors
/// As for [`property_lists`].
pub(super) fn property_lists_of(
    source: &str,
    is_root: &dyn Fn(&str) -> bool,
) -> Result<Vec<(Option<usize>, String)>, ImportError> {
    let tokens = tokens(source);
    let constants = constants(&tokens);
    let (mut lists, mut around) = (Vec::new(), Vec::new());
    // Each list is preceded by empty lines, which keep the line numbers of the source.
    let mut bytes = 0;
    let mut at = 0;
    while at < tokens.len() {
        let key = tokens[at].name().filter(|name| is_root(name));
        let opened = key.and_then(|_| typed(&tokens, at + 1).or_else(|| value_of(&tokens, at + 1)));
        let is_list = |value: usize| opens(&tokens, value) || is_pair(&tokens, at, value);
        let Some((key, value)) = key.zip(opened).filter(|(_, value)| is_list(*value)) else {
            match tokens[at].kind {
                Kind::Mark('{' | '[' | '(') => around.push(at),
                Kind::Mark('}' | ']' | ')') => drop(around.pop()),
                _ => {}
            }
            at += 1;
            continue;
        };
        let mut writer =
            Writer { text: "<plist><dict>".to_owned(), line: 1, constants: &constants };
        writer.element("key", key, tokens[at].line);
        at = writer.value(&tokens, value, 0)?;
        writer.text.push_str("</dict></plist>");
        bytes += writer.text.len();
        if lists.len() == MAX_SETS || bytes > MAX_BYTES {
            return Err(Problem::TooManySets.at(tokens[at.min(tokens.len()) - 1].line));
        }
        lists.push((around.last().copied(), writer.text));
    }
    Ok(lists)
}

/// The position of the value after a key that ends at `at`.
fn value_of(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let is = |at: usize, c: char| tokens.get(at).is_some_and(|token| token.is(c));
    let at = if is(at, ']') { at + 1 } else { at };
    match () {
        () if is(at, ':') => Some(at + 1),
        () if is(at, '=') && is(at + 1, '>') => Some(at + 2),
        () if is(at, '=') => Some(at + 1),
        () => None,
    }
}

/// The position of the value after a name that ends at `at`, if a type precedes the value:
/// `pins: Pin[] = [`, `pins: [String: Any] = [`.
fn typed(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    /// The longest type, in tokens.
    const MAX: usize = 16;
    let of_type = |token: &&Token<'_>| match token.kind {
        Kind::Word(_) => true,
        Kind::Mark(mark) => "[]<>?*:,&|".contains(mark),
        Kind::Text(_) => false,
    };
    tokens.get(at).filter(|token| token.is(':'))?;
    let length = tokens[at + 1..].iter().take(MAX).take_while(of_type).count();
    let equals = at + 1 + length;
    let is_equals = length > 0 && tokens.get(equals).is_some_and(|token| token.is('='));
    (is_equals && !tokens.get(equals + 1).is_some_and(|token| token.is('='))).then_some(equals + 1)
}

fn opens(tokens: &[Token<'_>], at: usize) -> bool {
    let at = if tokens.get(at).is_some_and(|token| token.is('@')) { at + 1 } else { at };
    tokens.get(at).is_some_and(|token| token.is('{') || token.is('['))
}

/// Whether a string literal has another one as its value that is as long as a pin.
fn is_pair(tokens: &[Token<'_>], key: usize, value: usize) -> bool {
    const PIN: usize = 43;
    let text = |at: usize| tokens.get(at).and_then(Token::text);
    text(key).is_some() && text(value).is_some_and(|text| text.len() >= PIN)
}

/// A token of the source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'a> {
    line: usize,
    kind: Kind<'a>,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind<'a> {
    Text(String),
    Word(&'a str),
    Mark(char),
}

impl Token<'_> {
    /// The line of the token.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// The text of the token if the token is a string literal.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            Kind::Word(_) | Kind::Mark(_) => None,
        }
    }

    /// The word of the token if the token is a word.
    pub(super) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Text(_) | Kind::Mark(_) => None,
        }
    }

    pub(super) fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    /// The name of the token as a key: a string, or an identifier without the object to which it belongs.
    fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            Kind::Word(word) => word.rsplit('.').next(),
            Kind::Mark(_) => None,
        }
    }
}

/// Splits a source into tokens, without comments.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let mut take = c.len_utf8();
        match c {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '/' if rest.starts_with("//") => take = rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => {
                take = rest[2..].find("*/").map_or(rest.len(), |end| end + 4);
                line += rest[..take].matches('\n').count();
            }
            // A comment of Python, Ruby or YAML. A line of the preprocessor is no comment.
            '#' if rest[1..].starts_with([' ', '\t', '#', '!', '\n', '\r']) => {
                take = rest.find('\n').unwrap_or(rest.len());
            }
            '"' | '\'' | '`' => {
                let (text, length) = text(rest, c);
                tokens.push(Token { line, kind: Kind::Text(text) });
                line += rest[..length].matches('\n').count();
                take = length;
            }
            c if is_of_word(c) => {
                take = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                tokens.push(Token { line, kind: Kind::Word(&rest[..take]) });
            }
            mark => tokens.push(Token { line, kind: Kind::Mark(mark) }),
        }
        rest = &rest[take..];
    }
    tokens
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '.')
}

/// The text of a string literal, and the length of the literal in bytes.
fn text(rest: &str, quote: char) -> (String, usize) {
    let mut text = String::new();
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => {
                text.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            c if c == quote => return (text, at + 1),
            c => text.push(c),
        }
    }
    (text, rest.len())
}

/// The most strings in a list that has a name.
const MAX_LIST: usize = 64;

/// A string that has a name, or one element of a list that has a name.
#[derive(Clone, Debug, PartialEq)]
struct Constant {
    text: String,
    /// The line of the string.
    line: usize,
    list: bool,
}

/// Names with one value in the whole source: a string or a list of strings.
fn constants(tokens: &[Token<'_>]) -> HashMap<String, Vec<Constant>> {
    let mut constants: HashMap<String, Option<Vec<Constant>>> = HashMap::new();
    for (at, token) in tokens.iter().enumerate() {
        let Kind::Word(name) = token.kind else { continue };
        let is = |at: usize, c: char| tokens.get(at).is_some_and(|token| token.is(c));
        // A type may precede the value: let host: String = "...", let pins: [String] = [...]
        let mut equals = at + 1;
        if is(equals, ':') {
            let of_type = |token: &&Token<'_>| match &token.kind {
                Kind::Word(_) => true,
                Kind::Mark(mark) => "[]<>?*".contains(*mark),
                Kind::Text(_) => false,
            };
            equals += 1;
            equals += tokens[equals..].iter().take(8).take_while(of_type).count();
        }
        if !is(equals, '=') {
            continue;
        }
        let value = if is(equals + 1, '@') { equals + 2 } else { equals + 1 };
        let Some(value) = constant(tokens, value) else { continue };
        let texts = |all: &[Constant]| {
            all.iter().map(|one| (one.text.clone(), one.list)).collect::<Vec<_>>()
        };
        let known = constants.entry(name.to_owned()).or_insert_with(|| Some(value.clone()));
        if known.as_ref().is_some_and(|known| texts(known) != texts(&value)) {
            *known = None;
        }
    }
    for name in bound(tokens) {
        constants.remove(name);
    }
    constants.into_iter().filter_map(|(name, texts)| Some((name, texts?))).collect()
}

/// The parameters of functions and closures. Their values differ from call to call.
fn bound<'a>(tokens: &[Token<'a>]) -> HashSet<&'a str> {
    let word = |at: usize| match tokens.get(at)?.kind {
        Kind::Word(word) => Some(word),
        _ => None,
    };
    let is = |at: usize, c: char| tokens.get(at).is_some_and(|token| token.is(c));
    let mut names = HashSet::new();
    for at in 0..tokens.len() {
        // A parameter of a closure: { host in ... }, host => ...
        let binds = is(at + 1, '=') && is(at + 2, '>') || word(at + 1) == Some("in");
        if let Some(name) = word(at).filter(|_| binds) {
            names.insert(name);
        }
        if !is(at, '(') {
            continue;
        }
        let close = (at..tokens.len().min(at + 64)).find(|end| is(*end, ')'));
        let Some(close) = close else { continue };
        let is_declared = at.checked_sub(1).and_then(word).is_some_and(|name| {
            ["init", "function"].contains(&name)
                || at
                    .checked_sub(2)
                    .and_then(word)
                    .is_some_and(|before| ["func", "function"].contains(&before))
        });
        let is_arrow = is(close + 1, '=') && is(close + 2, '>');
        if is_declared || is_arrow {
            names.extend((at..close).filter_map(word));
        }
    }
    names
}

/// Whether the token continues the expression before it: by concatenation or by a call of a member.
fn goes_on(token: &Token<'_>) -> bool {
    let called = token.word().is_some_and(|word| word.starts_with('.'));
    called || token.is('+') || token.is('?') || token.is('@') || token.text().is_some()
}

/// The string or the list of strings at `at`; `None` if a list contains anything else.
fn constant(tokens: &[Token<'_>], at: usize) -> Option<Vec<Constant>> {
    let token = tokens.get(at)?;
    if let Kind::Text(text) = &token.kind {
        let more = tokens.get(at + 1).is_some_and(goes_on);
        let one = Constant { text: text.clone(), line: token.line, list: false };
        return (!more).then(|| vec![one]);
    }
    if !token.is('[') && !token.is('{') {
        return None;
    }
    let mut list = Vec::new();
    for (inner, token) in tokens[at + 1..].iter().enumerate() {
        match &token.kind {
            Kind::Text(text) if list.len() < MAX_LIST => {
                list.push(Constant { text: text.clone(), line: token.line, list: true });
            }
            Kind::Mark(',' | '@') => {}
            Kind::Mark(']' | '}') => {
                let more = tokens.get(at + 1 + inner + 1).is_some_and(goes_on);
                return Some(list).filter(|_| !more);
            }
            _ => return None,
        }
    }
    None
}

struct Writer<'c> {
    text: String,
    line: usize,
    constants: &'c HashMap<String, Vec<Constant>>,
}

impl<'c> Writer<'c> {
    /// The value of a name. Of a member of a class, which begins with a capital letter, the last name
    /// counts.
    fn constant(&self, word: &str) -> Option<&'c [Constant]> {
        let is_class = |name: &str| {
            ["self", "Self", "this"].contains(&name) || name.starts_with(char::is_uppercase)
        };
        let name = match word.rsplit_once('.') {
            Some((of, name)) if of.split('.').all(is_class) => name,
            Some(_) => return None,
            None => word,
        };
        self.constants.get(name).map(Vec::as_slice)
    }

    fn advance_to(&mut self, line: usize) {
        while self.line < line {
            self.text.push('\n');
            self.line += 1;
        }
    }

    fn element(&mut self, name: &str, content: &str, line: usize) {
        self.advance_to(line);
        let content = content.replace('&', "&amp;").replace('<', "&lt;").replace(['\n', '\r'], " ");
        let end = name.split(' ').next().unwrap_or_default();
        self.text.push_str(&format!("<{name}>{content}</{end}>"));
    }

    /// Writes the value at `at`, and gives the position after it.
    fn value(
        &mut self,
        tokens: &[Token<'_>],
        at: usize,
        depth: usize,
    ) -> Result<usize, ImportError> {
        let end = tokens.last().map_or(1, |token| token.line);
        let unclosed = || Problem::unexpected("end of file", "a literal that is closed").at(end);
        let at = if tokens.get(at).is_some_and(|token| token.is('@')) { at + 1 } else { at };
        let token = tokens.get(at).ok_or_else(unclosed)?;
        if depth > MAX_DEPTH {
            return Err(Problem::TooDeep.at(token.line));
        }
        let next = match &token.kind {
            Kind::Mark('{' | '[' | '(') => return self.container(tokens, at, depth),
            Kind::Text(text) => {
                let (whole, next) = put_together(tokens, text.clone(), at + 1);
                self.element("string", &whole, token.line);
                next
            }
            Kind::Word("YES" | "true" | "True" | "TRUE") => {
                self.advance_to(token.line);
                self.text.push_str("<true/>");
                at + 1
            }
            Kind::Word("NO" | "false" | "False" | "FALSE") => {
                self.advance_to(token.line);
                self.text.push_str("<false/>");
                at + 1
            }
            Kind::Word(word) => {
                match self.constant(word) {
                    Some([Constant { text, list: false, .. }]) => {
                        self.element("string", text, token.line);
                    }
                    // XML lines can only increase, so a pin is on the line of its digits or after it.
                    Some(list) if list.len() <= MAX_LIST => {
                        self.advance_to(token.line);
                        self.text.push_str("<array>");
                        for Constant { text, .. } in list {
                            self.element("string", text, token.line);
                        }
                        self.text.push_str("</array>");
                    }
                    _ => self.element("unknown", word, token.line),
                }
                at + 1
            }
            Kind::Mark('#') => {
                let why = "which of its branches an app has is not in this text; leave the one that is meant";
                return Err(Problem::unsupported("#", why).at(token.line));
            }
            Kind::Mark(mark) => {
                self.element("unknown", &mark.to_string(), token.line);
                at + 1
            }
        };
        Ok(next)
    }

    /// Writes the key at `key`, and gives the position of its value. `line` is the line of the dictionary.
    fn key(&mut self, tokens: &[Token<'_>], key: usize, line: usize) -> Result<usize, ImportError> {
        let named = tokens.get(key).and_then(Token::name);
        let value = value_of(tokens, key + 1);
        let Some((named, value)) = named.zip(value) else {
            let found = tokens.get(key).and_then(Token::name).unwrap_or("?");
            let line = tokens.get(key).map_or(line, |token| token.line);
            return Err(Problem::unexpected(found, "a key with its value").at(line));
        };
        let is_word = matches!(&tokens[key].kind, Kind::Word(word)
            if !matches!(self.constant(word), Some([_])));
        let named = match &tokens[key].kind {
            Kind::Word(word) => match self.constant(word) {
                Some([Constant { text, list: false, .. }]) => text,
                _ => named,
            },
            _ => named,
        };
        let named = named.to_owned();
        // The key is an identifier of the source with an unknown value, not a string.
        let element = if is_word { "key word=\"1\"" } else { "key" };
        self.element(element, &named, tokens[key].line);
        Ok(value)
    }

    fn container(
        &mut self,
        tokens: &[Token<'_>],
        open: usize,
        depth: usize,
    ) -> Result<usize, ImportError> {
        let line = tokens[open].line;
        let is = |at: usize, c: char| tokens.get(at).is_some_and(|token| token.is(c));
        let closes = |at: usize| is(at, '}') || is(at, ']') || is(at, ')');
        // A computed key: { [KEY]: value }.
        let is_computed = |at: usize| is(at, '[') && is(at + 2, ']') && is(at + 3, ':');
        let first = if is(open + 1, '@') || is_computed(open + 1) { open + 2 } else { open + 1 };
        let empty_dictionary = is(open, '{') && closes(open + 1) || is(open + 1, ':');
        let is_dictionary = empty_dictionary
            || !closes(open + 1)
                && tokens.get(first).is_some_and(|token| token.name().is_some())
                && (first == open + 2 || !is(first + 1, ']'))
                && value_of(tokens, first + 1).is_some();
        let name = if is_dictionary { "dict" } else { "array" };
        self.advance_to(line);
        self.text.push_str(&format!("<{name}>"));
        let mut at = open + 1;
        loop {
            while is(at, ',') || is(at, ';') || empty_dictionary && is(at, ':') {
                at += 1;
            }
            if closes(at) {
                break;
            }
            if is_dictionary {
                let key = if is(at, '@') || is_computed(at) { at + 1 } else { at };
                let value = self.key(tokens, key, line)?;
                at = self.value(tokens, value, depth + 1)?;
            } else {
                at = self.value(tokens, at, depth + 1)?;
            }
            // Text after a value (`as [String: Any]`, a call) belongs to the value, and is skipped.
            let mut inner = 0_usize;
            while inner > 0 || !(is(at, ',') || is(at, ';') || closes(at)) {
                match tokens.get(at).map(|token| &token.kind) {
                    None => {
                        return Err(Problem::unexpected("{", "a literal that is closed").at(line));
                    }
                    Some(Kind::Mark('(' | '[' | '{')) => inner += 1,
                    Some(Kind::Mark(')' | ']' | '}')) => inner = inner.saturating_sub(1),
                    Some(_) => {}
                }
                at += 1;
            }
        }
        self.advance_to(tokens[at].line);
        self.text.push_str(&format!("</{name}>"));
        Ok(at + 1)
    }
}

/// Concatenates string literals: "a" + "b". `whole` is the first one, `next` the position after it.
fn put_together(tokens: &[Token<'_>], mut whole: String, mut next: usize) -> (String, usize) {
    loop {
        let by = tokens.get(next).is_some_and(|token| token.is('+') || token.is('@'));
        let at = if by { next + 1 } else { next };
        let Some(Token { kind: Kind::Text(more), .. }) = tokens.get(at) else { break };
        whole.push_str(more);
        next = at + 1;
    }
    (whole, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(source: &str) -> String {
        let lists = property_lists(source, &["kPins", "Pins"]).unwrap();
        assert_eq!(lists.len(), 1, "{lists:?}");
        lists[0].replace('\n', "|").replace(" word=\"1\"", "")
    }

    #[test]
    fn dictionaries_of_each_language_are_read() {
        let host = "<key>a.example</key>";
        let inner = "<dict><key>kHashes</key><array><string>A=</string>|<string>B=</string>\
             </array><key>below</key><true/></dict>";
        let wanted =
            format!("<plist><dict><key>kPins</key><dict>{host}{inner}</dict></dict></plist>");
        for source in [
            "let c = [ kPins: [ \"a.example\": [ kHashes: [\"A=\", // old\n \"B=\",], below: true]]] \
             as [String: Any]",
            "NSDictionary *c = @{ kPins: @{ @\"a.example\" : @{ kHashes : @[ @\"A=\", /* x */\n \
             @\"B=\" ], below: @YES, }, }};",
            "const c = { kPins: { 'a.example': { kHashes: ['A=',\n `B=`], below: true } } }",
            "{\"kPins\": {\"a.example\": {\"kHashes\": [\"A=\",\n\"B=\"], \"below\": true}}}",
            "x[kPins] = @{ @\"a.example\": @{ kHashes: @[@\"A=\",\n@\"B=\"], below: @YES}};",
        ] {
            assert_eq!(one(source), wanted, "{source}");
        }
    }

    #[test]
    fn constants_are_resolved_and_other_names_are_unknown() {
        let source = "let host = \"a.example\"\nlet c = [Pins: [host: [\"x\" + \"y\", other()]]]";
        let wanted = "<plist><dict>|<key>Pins</key><dict><key>a.example</key><array>\
             <string>xy</string><unknown>other</unknown></array></dict></dict></plist>";
        assert_eq!(one(source), wanted);
    }

    #[test]
    fn a_constant_in_an_expression_is_unknown() {
        for value in ["[\"a\"] + more", "[\"a\"].map(f)", "\"a\".lowercased()", "x ? \"a\" : \"b\""]
        {
            let source = format!("let v = {value}\nlet c = [Pins: [k: v]]");
            assert!(one(&source).contains("<unknown>v</unknown>"), "{source} {}", one(&source));
        }
    }

    #[test]
    fn a_parameter_is_not_a_constant_of_the_same_name() {
        let list = "let c = [Pins: [host: [\"x\"]]]";
        let other = "let host = \"b.example\"";
        for before in [
            "func f(host: String) {",
            "init(_ host: String) {",
            "hosts.map { host in",
            "(host) => {",
        ] {
            let source = format!("{other}\n{before} {list} }}");
            assert!(one(&source).contains("<key>host</key>"), "{source} {}", one(&source));
        }
        for (key, is_known) in
            [("host", true), ("Pins.host", true), ("self.host", true), ("config.host", false)]
        {
            let source = format!("{other}\n{}", list.replace("host", key));
            assert_eq!(
                one(&source).contains("<key>b.example</key>"),
                is_known,
                "{source} {}",
                one(&source)
            );
        }
    }

    #[test]
    fn a_preprocessor_line_in_a_literal_is_an_error() {
        let source = "let c = [kPins: [k: [\n#if X\n\"a\",\n#else\n\"b\",\n#endif\n]]]";
        assert!(property_lists(source, &["kPins"]).is_err());
        // A comment of Python is no line of the preprocessor.
        let source = "c = {\"kPins\": {\"k\": [\"a\",  # if x\n\"b\"]}}";
        assert!(one(source).contains("<string>a</string>|<string>b</string>"), "{}", one(source));
    }

    #[test]
    fn a_literal_that_is_not_closed_is_an_error() {
        for source in ["kPins: {", "kPins: [\"a\": [", "kPins: {a: "] {
            assert!(property_lists(source, &["kPins"]).is_err(), "{source}");
        }
        let deep = format!("kPins: {}{}", "[".repeat(500), "]".repeat(500));
        assert!(property_lists(&deep, &["kPins"]).is_err());
    }
}
