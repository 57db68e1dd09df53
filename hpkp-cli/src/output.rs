//! Prints text for people and JSON for scripts.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::exit::Exit;

/// The version of the JSON output, in its member `v`. Members may be added without a new version.
pub const JSON_VERSION: u32 = 1;

/// The style of good results.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// The style of bad results.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// The style of text that needs attention.
pub(crate) const NOTE: Style = AnsiColor::Yellow.on_default().bold();

/// Writes a line to standard output.
pub fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes a message to standard error. A failure is ignored, because there is no other place to report it.
pub fn complain(text: &str) {
    static COLOURED: OnceLock<bool> = OnceLock::new();
    let is_coloured = *COLOURED.get_or_init(|| has_colours(&io::stderr()));
    let prefix = styled(BAD, "hpkp:", is_coloured);
    let _ = writeln!(io::stderr().lock(), "{prefix} {text}");
}

/// Colours a text for standard output, if that is a terminal and `NO_COLOR` is not set.
pub(crate) fn accent(style: Style, text: &str) -> String {
    static COLOURED: OnceLock<bool> = OnceLock::new();
    styled(style, text, *COLOURED.get_or_init(|| has_colours(&io::stdout())))
}

/// Whether standard output is coloured.
pub(crate) fn stdout_has_colours() -> bool {
    has_colours(&io::stdout())
}

fn has_colours(stream: &impl anstream::stream::RawStream) -> bool {
    stream.is_terminal() && AutoStream::choice(stream) != ColorChoice::Never
}

fn styled(style: Style, text: &str, is_coloured: bool) -> String {
    if is_coloured { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// Writes `value` to standard output as one line of JSON.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    io::stdout().lock().write_all(text.as_bytes())
}

/// Writes to standard output without a buffer, since a buffer would keep a key in memory.
pub(crate) fn unbuffered(mut bytes: &[u8]) -> io::Result<()> {
    let stdout = io::stdout().lock();
    while !bytes.is_empty() {
        match rustix::io::write(&stdout, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The exit code of a command after its output. A failed write is a failure, but not if the reader, such as
/// `head`, has closed its end.
pub fn ended(exit: Exit, written: io::Result<()>) -> Exit {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write the output: {}", os(&error)));
            exit.and(Exit::Undetermined)
        }
        _ => exit,
    }
}

/// The text of an error of the operating system, without its number.
pub fn os(error: &io::Error) -> String {
    let text = without_number(&error.to_string());
    let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        // "No such file" begins in lower case, "TLS ..." does not.
        Some(first) if letters.as_str().starts_with(|c: char| !c.is_uppercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Removes the numbers of operating system errors from a text.
pub(crate) fn without_number(text: &str) -> String {
    let Some((before, after)) = text.split_once(" (os error ") else {
        return text.to_owned();
    };
    let end = after.find(')').map_or(after.len(), |end| end + 1);
    format!("{before}{}", &after[end..])
}

/// A complete path, which can be pasted. Characters that could control a terminal or begin a line are
/// escaped. The system limits the length of paths.
pub(crate) fn path(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        return "\"\"".to_owned();
    }
    let mut printable = String::new();
    for c in path.to_string_lossy().chars() {
        if c.is_control() || c == '\\' {
            printable.extend(c.escape_default())
        } else {
            printable.push(c)
        }
    }
    printable
}

/// A line without control characters, which may quote an argument.
pub fn printable(text: &str) -> String {
    let mut printable = String::new();
    for c in text.chars() {
        if c.is_control() { printable.extend(c.escape_default()) } else { printable.push(c) }
    }
    printable
}

/// A number with its noun: `3 pins`, `1 pin`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_in_a_path_are_escaped() {
        assert_eq!(path(Path::new("/a b/ü\x1b[2J\n\\x")), "/a b/ü\\u{1b}[2J\\n\\\\x");
    }

    #[test]
    fn errors_of_the_system_have_no_number() {
        assert_eq!(os(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(without_number("x: No space (os error 28); y"), "x: No space; y");
        assert_eq!(os(&io::Error::other("TLS failed")), "TLS failed");
    }
}
