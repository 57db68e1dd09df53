//! Finds out who runs a test: some init scripts test before they stop a server, and if the test fails
//! they kill the server and do not start it again.
//!
//! Debian's does so where there is no systemd: `service apache2 restart` with a configuration that is
//! refused would end a site that works. It empties the environment before, so only the processes above
//! tell its test from that of an operator or of `apachectl graceful`.

use std::fs;

use hpkp_core::text::Excerpt;

/// Between the script and this process stands `apachectl configtest`.
const GENERATIONS: usize = 2;

/// What an init script does in spite of a test that fails: it ends the server, or leaves it ended.
/// Reloading is not among it.
const ENDS: [&str; 5] = ["start", "stop", "graceful-stop", "restart", "try-restart"];

/// The init script and its command, where one of them has this process run: `/etc/init.d/apache2
/// restart`.
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
    // The name of the program, in parentheses, may hold anything; behind it stand the state and this.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1).map(str::to_owned)
}

/// Of a command line: an init script that does one of these things.
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
