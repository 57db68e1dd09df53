//! Sends alarms to a command: fixed arguments, JSON on standard input, no shell.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::message::Message;
use crate::output::os;

/// How long a command may take.
const TIME: Duration = Duration::from_secs(30);

pub(super) struct Way {
    program: String,
    arguments: Vec<String>,
}

impl Way {
    pub(super) fn new(command: &[String]) -> Option<Self> {
        let (program, arguments) = command.split_first()?;
        Some(Self { program: program.clone(), arguments: arguments.to_vec() })
    }

    pub(super) fn send(&self, message: &Message<'_>) -> Result<(), String> {
        let body = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {}", self.program, os(&error)))?;
        // A message fits into the buffer of a pipe, since a detail has a limit, so this write never blocks. An error is
        // ignored: the command need not read its input.
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(&body).and_then(|()| input.write_all(b"\n"));
        }
        let begin = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("{}: {status}", self.program)),
                Ok(None) if begin.elapsed() < TIME => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let seconds = TIME.as_secs();
                    return Err(format!("{}: did not end in {seconds} seconds", self.program));
                }
                Err(error) => return Err(format!("{}: {}", self.program, os(&error))),
            }
        }
    }
}
