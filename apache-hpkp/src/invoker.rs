//! Finds out who runs a test: some init scripts test before they stop a server, and if the test fails
//! they kill the server and do not start it again.
//!
//! Debian's script does so without systemd: `service apache2 restart` with a configuration that the test refuses would
//! end a working server. The script clears the environment, so only the parent processes distinguish its test from
//! that of an operator or of `apachectl graceful`.

use std::fs;

use hpkp_core::text::Excerpt;

/// How many parents are examined: between the script and this process there is `apachectl configtest`.
const GENERATIONS: usize = 2;

/// The commands of an init script that stop the server, or leave it stopped, even if the test fails. Reload is not one
/// of them.
const ENDS: [&str; 5] = ["start", "stop", "graceful-stop", "restart", "try-restart"];

/// The init script with its command, such as `/etc/init.d/apache2 restart`, if one with such a command runs this
/// process.
pub(crate) fn init_script() -> Option<String> {
    let mut process = "self".to_owned();
    for _ in 0..GENERATIONS {
        process = parent(&process)?;
        if let Some(script) = script(&fs::read(format!("/proc/{process}/cmdline")).ok()?) {
            return Some(script);
        }
    }
    None
}

/// The number of a process's parent.
fn parent(process: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program in parentheses may contain any characters; the state and the parent follow it.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1).map(str::to_owned)
}

/// The init script and command in a command line, if the command is one of [`ENDS`].
fn script(line: &[u8]) -> Option<String> {
    let words: Vec<&str> =
        line.split(|byte| *byte == 0).map(std::str::from_utf8).collect::<Result<_, _>>().ok()?;
    words.windows(2).find_map(|pair| match pair {
        [script, command] if is_init_script(script) && ENDS.contains(command) => {
            Some(format!("{} {command}", Excerpt::new(script)))
        }
        _ => None,
    })
}

/// `/etc/init.d/apache2`, or a link to it for a runlevel: `/etc/rc2.d/S01apache2`.
fn is_init_script(path: &str) -> bool {
    let mut folders = path.rsplit('/').skip(1);
    folders.next().is_some_and(|folder| {
        let level = folder.strip_prefix("rc").and_then(|rest| rest.strip_suffix(".d"));
        folder == "init.d" || level.is_some_and(|level| level.len() == 1)
    })
}
