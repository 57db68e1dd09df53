//! Splits httpd's configuration text into lines and words, and replaces variables.

use std::sync::Arc;

use hpkp_core::finding::Location;

/// A line, joined with its continuation lines.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) text: String,
    /// The place of the last continuation line, which httpd reports.
    pub(super) at: Location,
}

/// The first line of the output of `apachectl -t -D DUMP_CONFIG`.
const DUMP: &str = "# In file: ";

/// Whether a text is the output of `apachectl -t -D DUMP_CONFIG`.
pub(super) fn is_dump(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with(DUMP))
}

/// The lines of a file that are neither empty nor comments.
pub(super) fn lines(file: &str, text: &[u8]) -> Vec<Line> {
    let is_dump = is_dump(text);
    let mut file: Arc<str> = file.into();
    let mut lines = Vec::new();
    let mut open = String::new();
    let mut dumped = None;
    let mut begun = Begun::default();
    let text = String::from_utf8_lossy(text);
    let mut all = text.lines().zip(1..).peekable();
    while let Some((line, number)) = all.next() {
        if let Some(begin) = line.strip_suffix('\\').filter(|_| all.peek().is_some()) {
            open.push_str(begin);
            continue;
        }
        open.push_str(line);
        let line = std::mem::take(&mut open);
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if is_dump {
            if let Some(name) = line.strip_prefix(DUMP) {
                file = name.into();
                continue;
            }
            lines.extend(begun.ended(line, indent));
            if let Some(number) = dumped_number(line) {
                dumped = Some(number);
                continue;
            }
            // The messages of the config test, which httpd writes to standard error.
            if line == "Syntax OK" || line.starts_with("AH") {
                continue;
            }
        }
        if !line.is_empty() && !line.starts_with('#') {
            let line_number = dumped.unwrap_or(number);
            let at = Location { file: file.clone(), line: line_number };
            let line = Line { text: line.to_owned(), at };
            if is_dump {
                begun.look(&line, indent);
            }
            lines.push(line);
        }
    }
    lines.extend(begun.ended("", 0));
    lines
}

/// The section that the previous line of a dump has begun. httpd does not print the end of an empty
/// section.
#[derive(Default)]
struct Begun(Option<(Line, usize)>);

impl Begun {
    fn look(&mut self, line: &Line, indent: usize) {
        let begins = line.text.starts_with('<') && !line.text.starts_with("</");
        self.0 = begins.then(|| (line.clone(), indent));
    }

    /// The missing end, if the next line is not indented deeper than the beginning.
    fn ended(&mut self, next: &str, indent: usize) -> Option<Line> {
        let (line, _) = self.0.take_if(|(_, begin)| indent <= *begin)?;
        let (name, _) = first_word(&line.text);
        let end = format!("</{}>", name[1..].trim_end_matches('>'));
        (!next.eq_ignore_ascii_case(&end)).then_some(Line { text: end, at: line.at })
    }
}

/// The line number in a dump: `#  12:`.
fn dumped_number(line: &str) -> Option<usize> {
    line.strip_prefix('#')?.strip_suffix(':')?.trim().parse().ok()
}

/// Replaces `${NAME}` by the value of the variable. Gives the text, and the first name without a value.
pub(super) fn resolved(
    text: &str,
    value: impl Fn(&str) -> Option<String>,
) -> (String, Option<String>) {
    let (mut resolved, mut undefined) = (String::new(), None);
    let mut rest = text;
    while let Some(begin) = rest.find("${") {
        let (before, behind) = rest.split_at(begin);
        resolved.push_str(before);
        let Some(end) = behind.find('}') else {
            rest = behind;
            break;
        };
        let name = &behind[2..end];
        // A name with a colon is a lookup in a map of mod_rewrite.
        match value(name).filter(|_| !name.contains(':')) {
            Some(value) => resolved.push_str(&value),
            None => {
                if !name.contains(':') {
                    undefined.get_or_insert_with(|| name.to_owned());
                }
                resolved.push_str(&behind[..=end]);
            }
        }
        rest = &behind[end + 1..];
    }
    resolved.push_str(rest);
    (resolved, undefined)
}

/// The first word, and the text after it.
pub(super) fn first_word(text: &str) -> (String, &str) {
    let text = text.trim_start();
    let Some(quote) = text.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
        return (text[..end].to_owned(), text[end..].trim_start());
    };
    let mut word = String::new();
    let mut letters = text[1..].char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            return (word, text[1 + at + 1..].trim_start());
        }
        let next = letters.peek().map(|(_, next)| *next);
        match next.filter(|next| letter == '\\' && (*next == '\\' || *next == quote)) {
            Some(next) => {
                word.push(next);
                letters.next();
            }
            None => word.push(letter),
        }
    }
    (word, "")
}

/// All words.
pub(super) fn words(mut text: &str) -> Vec<String> {
    let mut words = Vec::new();
    while !text.trim_start().is_empty() {
        let (word, rest) = first_word(text);
        words.push(word);
        text = rest;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_httpd_does() {
        assert_eq!(words("a 'b c' \"d\\\"e\\\\\" f\\ g"), ["a", "b c", "d\"e\\", "f\\", "g"]);
        assert_eq!(words("  "), Vec::<String>::new());
        assert_eq!(words("\"\" 'open"), ["", "open"]);
    }

    #[test]
    fn a_continued_line_has_the_number_of_its_last_line() {
        let lines = lines("httpd.conf", b"# a \\\nb\nSSLEngine \\\n  on\n\nListen 1\n");
        let read: Vec<(&str, usize)> =
            lines.iter().map(|line| (line.text.as_str(), line.at.line)).collect();
        assert_eq!(read, [("SSLEngine   on", 4), ("Listen 1", 6)]);
    }

    #[test]
    fn lines_of_a_dump_have_their_files_and_numbers() {
        let text =
            b"# In file: /etc/a.conf\n#   8:\nServerName x\n# In file: /b\n#  2:\n  Timeout 3\n";
        let lines = lines("-", text);
        let places: Vec<String> = lines.iter().map(|line| line.at.to_string()).collect();
        assert_eq!(places, ["/etc/a.conf:8", "/b:2"]);
    }

    /// The output of httpd 2.4.71.
    #[test]
    fn an_empty_section_of_a_dump_gets_its_end() {
        let text = b"# In file: /a\n#   7:\n<VirtualHost *:1>\n# In file: /b\n  #   1:\n  ServerAdmin a@b\n  \
            #   2:\n  <Directory /x>\n# In file: /a\n  #   9:\n  <Location />\n</VirtualHost>\n#  12:\n\
            <VirtualHost *:2>\nSyntax OK\n";
        let lines = lines("-", text);
        let read: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let expected = [
            "<VirtualHost *:1>",
            "ServerAdmin a@b",
            "<Directory /x>",
            "</Directory>",
            "<Location />",
            "</Location>",
            "</VirtualHost>",
            "<VirtualHost *:2>",
            "</VirtualHost>",
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn variables_without_a_value_are_left_unchanged() {
        let value = |name: &str| (name == "A").then(|| "1".to_owned());
        let (text, undefined) = resolved("x${A}y${B}z${m:k}${", value);
        assert_eq!((text.as_str(), undefined.as_deref()), ("x1y${B}z${m:k}${", Some("B")));
    }
}
