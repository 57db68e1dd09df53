//! Runs the server's own commands with `sh -c`, as cron and ACME clients do, with a time limit. The output
//! goes to a file in memory, so that a daemon that keeps the output open does not delay the install.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hpkp_core::text::Excerpt;

use super::report::{Report, Step};
use crate::output;

/// The largest part of the output that is displayed, in bytes.
const MAX_OUTPUT: usize = 16 * 1024;
/// The most lines of the output that are displayed.
const MAX_LINES: usize = 60;
/// The interval between two checks whether the command has ended.
const PAUSE: Duration = Duration::from_millis(5);
/// The time that a command has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// Runs a command, and displays its output.
///
/// # Errors
/// The message if the command could not be run, exceeded its time limit, was stopped by `interrupted`, or
/// failed.
pub(crate) fn run(
    report: &mut Report,
    step: &'static str,
    command: &str,
    limit: Duration,
    interrupted: Option<&AtomicBool>,
) -> Result<(), String> {
    let (status, text) = captured(command, limit, interrupted)
        .map_err(|error| format!("the {step} command cannot be run: {}", output::os(&error)))?;
    for line in text.lines() {
        output::complain(&format!("{step}: {line}"));
    }
    let exit = status.and_then(|status| status.code());
    report.steps.push(Step { step, command: command.to_owned(), exit, output: text });
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => match status.code() {
            Some(code) => {
                Err(format!("the {step} command failed with exit code {code}: {command}"))
            }
            None => Err(format!("a signal ended the {step} command: {command}")),
        },
        None if interrupted.is_some_and(|flag| flag.load(Ordering::Relaxed)) => {
            Err(format!("interrupted during the {step} command: {command}"))
        }
        None => Err(format!(
            "the {step} command did not end within {} (--timeout): {command}",
            crate::time::duration(i64::try_from(limit.as_secs()).unwrap_or(i64::MAX))
        )),
    }
}

/// The exit status, if the command ended in time, and the last part of its output.
fn captured(
    command: &str,
    limit: Duration,
    interrupted: Option<&AtomicBool>,
) -> io::Result<(Option<ExitStatus>, String)> {
    let memory = rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    // Both descriptors share one offset, so their outputs do not overwrite each other.
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file.try_clone()?)
        .process_group(0)
        .spawn()?;
    let status = wait(&mut child, limit, interrupted)?;
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(MAX_OUTPUT as u64);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(MAX_OUTPUT as u64).read_to_end(&mut bytes)?;
    Ok((status, shown(&bytes, begin > 0)))
}

fn wait(
    child: &mut Child,
    limit: Duration,
    interrupted: Option<&AtomicBool>,
) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let is_interrupted = interrupted.is_some_and(|flag| flag.load(Ordering::Relaxed));
        if is_interrupted || Instant::now() >= end {
            stop(child)?;
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Ends the command and its child processes.
fn stop(child: &mut Child) -> io::Result<()> {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let signal = |signal| group.map(|group| rustix::process::kill_process_group(group, signal));
    let _ = signal(rustix::process::Signal::TERM);
    let end = Instant::now() + GRACE;
    while Instant::now() < end {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    let _ = signal(rustix::process::Signal::KILL);
    child.wait().map(drop)
}

/// The output as printable lines, without private keys.
fn shown(bytes: &[u8], is_cut: bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Vec::new();
    let mut in_key = false;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let is_label = line.contains("PRIVATE KEY-----");
        if is_label && line.contains("-----BEGIN ") {
            in_key = !line.contains("-----END ");
            lines.push("(a private key; not shown)".to_owned());
        } else if is_label {
            // The lines before the end of a key belong to the key if its beginning was cut off.
            if !in_key {
                lines.clear();
            }
            in_key = false;
        } else if !in_key {
            lines.push(printable(line));
        }
    }
    // The first line is incomplete.
    if is_cut {
        lines.drain(..1.min(lines.len()));
    }
    if lines.len() > MAX_LINES {
        let gone = lines.len() - MAX_LINES;
        lines.drain(..gone);
        lines.insert(0, format!("({} more)", output::counted(gone, "line")));
    }
    lines.join("\n")
}

/// Makes a line of foreign text printable. An `Excerpt` would cut long messages of servers, so the line is
/// converted in parts.
fn printable(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let (part, more) = rest.split_at(rest.len().min(40));
        shown.push_str(&Excerpt::new(part).to_string());
        rest = more;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(command: &str) -> (Option<i32>, String) {
        let (status, text) = captured(command, Duration::from_secs(600), None).expect("sh");
        (status.and_then(|status| status.code()), text)
    }

    #[test]
    fn both_output_streams_and_the_exit_code_are_captured() {
        assert_eq!(ran("echo a; echo b >&2; exit 3"), (Some(3), "a\nb".to_owned()));
        assert_eq!(ran("printf 'a\\033[2J\\n'").1, "a\\x1b[2J");
    }

    #[test]
    fn a_private_key_in_the_output_is_not_printed() {
        let key = "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----";
        let (_, text) = ran(&format!("echo before; echo '{key}'; echo after"));
        assert_eq!(text, "before\n(a private key; not shown)\nafter");
    }

    #[test]
    fn a_daemon_that_keeps_the_output_open_is_not_waited_for() {
        let begin = Instant::now();
        let (code, daemon) = ran("sleep 600 & echo $!");
        assert!(code == Some(0) && begin.elapsed() < Duration::from_secs(600));
        assert_eq!(ran(&format!("kill {daemon}")).0, Some(0));
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        let begin = Instant::now();
        let (status, _) = captured("sleep 600 | cat", Duration::from_millis(50), None).expect("sh");
        assert!(status.is_none() && begin.elapsed() < Duration::from_secs(600));
    }
}
