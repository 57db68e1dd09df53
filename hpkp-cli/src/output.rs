//! Lines for people and JSON for scripts.

use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::exit::Exit;

/// The version of the JSON, in its member `v`. Members may be added without a new one.
pub(crate) const JSON_VERSION: u32 = 1;

/// Writes a line to standard output.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes a message to standard error. Where that is closed there is nobody to tell.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "hpkp: {text}");
}

/// Writes `value` to standard output as one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    io::stdout().lock().write_all(text.as_bytes())
}

/// How a command ends whose output was `written`: a result that nobody received is none. A reader
/// that has seen enough, such as `head`, is no failure.
pub(crate) fn ended(exit: Exit, written: io::Result<()>) -> Exit {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("the output cannot be written: {error}"));
            exit.and(Exit::Undetermined)
        }
        _ => exit,
    }
}

/// A path to be shown in full, so that it can be used: nothing in it can upset a terminal or
/// begin a line. The system bounds its length.
pub(crate) fn path(path: &Path) -> String {
    let mut shown = String::new();
    for c in path.to_string_lossy().chars() {
        if c.is_control() || c == '\\' { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_upset_a_terminal() {
        assert_eq!(path(Path::new("/a b/ü\x1b[2J\n\\x")), "/a b/ü\\u{1b}[2J\\n\\\\x");
    }
}
