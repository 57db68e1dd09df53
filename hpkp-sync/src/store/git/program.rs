//! Runs the program `git` with a time limit and without prompts.

use std::cell::Cell;
use std::io::{BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hpkp_core::text::Excerpt;
use hpkp_server::file::if_there;

use crate::store::error::StoreError;

/// How long to wait for more output after the program has ended.
const MOMENT: Duration = Duration::from_millis(300);

const DAMAGED: &str = "the copy of the repository is damaged; the next try makes it again";

/// The result of a push.
#[derive(Debug)]
pub(super) enum Pushed {
    /// All references were accepted.
    Done,
    /// No reference was accepted, since another machine was faster; with the reason from git.
    Behind(String),
}

/// The program with its repository and settings.
#[derive(Debug)]
pub(super) struct Git {
    repository: PathBuf,
    index: Option<PathBuf>,
    timeout: Duration,
    /// Whether git gets an ssh command that never prompts. Not if the operator has configured an ssh command.
    sets_ssh: bool,
    /// Whether git reported an error of the local copy, not of the store.
    is_damaged: Cell<bool>,
}

/// The output of the program, and whether it succeeded.
struct Output {
    is_success: bool,
    out: Vec<u8>,
    errors: String,
}

impl Git {
    pub(super) fn new(repository: &Path, timeout: Duration) -> Self {
        Self {
            repository: repository.to_owned(),
            index: None,
            timeout,
            sets_ssh: false,
            is_damaged: Cell::new(false),
        }
    }

    /// The same repository with an empty index.
    pub(super) fn fresh_index(&self) -> Result<Self, StoreError> {
        let index = self.repository.join("hpkp-index");
        if_there(std::fs::remove_file(&index)).map_err(|error| StoreError::io(&index, &error))?;
        Ok(Self {
            index: Some(index),
            sets_ssh: self.sets_ssh,
            ..Self::new(&self.repository, self.timeout)
        })
    }

    /// Finds out whether the operator has configured how git starts ssh.
    pub(super) fn detect_ssh_setting(&mut self) -> Result<(), StoreError> {
        let variables = ["GIT_SSH_COMMAND", "GIT_SSH"];
        let is_configured = variables.iter().any(|name| std::env::var_os(name).is_some());
        self.sets_ssh = !is_configured
            && !self.output(&["config", "--get", "core.sshCommand"], &[])?.is_success;
        Ok(())
    }

    /// Whether a command failed because of a damaged copy; true only once for each failure.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged.take()
    }

    /// The standard output of a command.
    pub(super) fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, StoreError> {
        let output = self.output(arguments, input)?;
        if output.is_success {
            return Ok(output.out);
        }
        let damaged = [
            "corrupt",
            "is empty",
            "bad object",
            "unable to read",
            "not a git repository: ",
            "missing necessary objects",
            "broken ref",
            "bad config",
            "unable to unpack",
        ];
        let is_remote = |line: &&str| line.starts_with("remote: ");
        let mut lines = output.errors.lines().filter(|line| !is_remote(line));
        if lines.any(|line| damaged.iter().any(|word| line.contains(word))) {
            self.is_damaged.set(true);
        }
        Err(failure(&output.errors))
    }

    /// The single line that a command prints.
    pub(super) fn line(&self, arguments: &[&str], input: &[u8]) -> Result<String, StoreError> {
        let out = self.run(arguments, input)?;
        Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
    }

    /// Pushes, and distinguishes a push that came too late from a failed one.
    pub(super) fn push(&self, arguments: &[&str]) -> Result<Pushed, StoreError> {
        let output = self.output(arguments, &[])?;
        if output.is_success {
            return Ok(Pushed::Done);
        }
        let out = String::from_utf8_lossy(&output.out);
        let text = format!("{out}{}", output.errors);
        // Messages about refused references, and about references that another push has locked on the server.
        let late = [
            "fetch first",
            "non-fast-forward",
            "stale info",
            "cannot lock ref",
            "failed to update ref",
            "incorrect old value",
            "remote ref updated since checkout",
            "reference already exists",
            "unable to resolve reference",
        ];
        // These errors need an operator; a retry does not help.
        let lasting = ["Permission denied", "No space left", "Read-only file system", "quota"];
        let is_lasting = lasting.iter().any(|lasting| text.contains(lasting));
        if !is_lasting && late.iter().any(|late| text.contains(late)) {
            Ok(Pushed::Behind(main_error(&output.errors)))
        } else if text.contains("[remote rejected]") {
            Err(StoreError::Denied(main_error(&text)))
        } else {
            Err(failure(&output.errors))
        }
    }

    /// Reads files by their ids, one after the other.
    pub(super) fn blobs(
        &self,
        ids: &[&str],
        most: usize,
        take: &mut dyn FnMut(Vec<u8>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut child =
            self.command(&["cat-file", "--batch"]).spawn().map_err(|error| cannot_run(&error))?;
        let input: String = ids.iter().map(|id| format!("{id}\n")).collect();
        let stdin = child.stdin.take();
        let writer = thread::spawn(move || {
            stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()))
        });
        let errors = drained(child.stderr.take());
        let taken = match child.stdout.take() {
            Some(out) => each_blob(&mut BufReader::new(out), ids.len(), most, take),
            None => Ok(()),
        };
        if taken.is_err() {
            let _ = child.kill();
        }
        let status = child.wait();
        let _ = writer.join();
        if matches!(&taken, Err(StoreError::Failed(text)) if text == DAMAGED) {
            self.is_damaged.set(true);
        }
        taken?;
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(failure(&String::from_utf8_lossy(&errors.all()))),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.repository.parent().unwrap_or(Path::new("/")))
            .arg("--git-dir")
            .arg(&self.repository)
            .args(["-c", "core.hooksPath=/dev/null", "-c", "gc.autoDetach=false"])
            // Nobody needs old heartbeats.
            .args(["-c", "gc.pruneExpire=10.minutes.ago"])
            .args(["-c", "maintenance.autoDetach=false", "-c", "protocol.ext.allow=never"])
            .args(arguments)
            .env("LC_ALL", "C")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_AUTHOR_NAME", "hpkp sync")
            .env("GIT_COMMITTER_NAME", "hpkp sync")
            .env("GIT_AUTHOR_EMAIL", author())
            .env("GIT_COMMITTER_EMAIL", author())
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_DIR")
            .env_remove("GIT_INDEX_FILE")
            .env_remove("GIT_OBJECT_DIRECTORY")
            .env_remove("GIT_NAMESPACE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if self.sets_ssh {
            // ssh must not prompt either.
            let seconds = self.timeout.as_secs().max(1);
            command.env(
                "GIT_SSH_COMMAND",
                format!("ssh -o BatchMode=yes -o ConnectTimeout={seconds}"),
            );
        }
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        command
    }

    fn output(&self, arguments: &[&str], input: &[u8]) -> Result<Output, StoreError> {
        let mut child = self.command(arguments).spawn().map_err(|error| cannot_run(&error))?;
        let out = drained(child.stdout.take());
        let errors = drained(child.stderr.take());
        let (stdin, input) = (child.stdin.take(), input.to_vec());
        let writer = thread::spawn(move || {
            // A failed write is ignored: if the program stops reading, its exit status says why.
            stdin.map(|mut stdin| stdin.write_all(&input))
        });
        let is_success = self.wait_for_exit(&mut child)?;
        let _ = writer.join();
        let out = out.all();
        // With ControlPersist, ssh stays in the background and keeps standard error open, so its end may not come.
        let errors = errors.so_far();
        Ok(Output { is_success, out, errors: String::from_utf8_lossy(&errors).into_owned() })
    }

    /// Waits for the program, at most until the time limit.
    fn wait_for_exit(&self, child: &mut Child) -> Result<bool, StoreError> {
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status.success()),
                Ok(None) if started.elapsed() < self.timeout => {}
                Ok(None) => {
                    // Kills the group, which includes the ssh that git has started.
                    if let Some(group) = rustix::process::Pid::from_raw(child.id() as i32) {
                        let _ = rustix::process::kill_process_group(
                            group,
                            rustix::process::Signal::KILL,
                        );
                    }
                    let _ = child.wait();
                    let seconds = self.timeout.as_secs();
                    return Err(StoreError::Failed(format!(
                        "git did not end within {seconds} seconds"
                    )));
                }
                Err(error) => return Err(cannot_run(&error)),
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// Passes on the files that `git cat-file --batch` prints.
fn each_blob(
    out: &mut impl std::io::BufRead,
    count: usize,
    most: usize,
    take: &mut dyn FnMut(Vec<u8>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let cut = || StoreError::Failed("git ended too early".to_owned());
    for _ in 0..count {
        let mut head = String::new();
        out.read_line(&mut head).map_err(|_| cut())?;
        // ID blob SIZE
        let mut words = head.trim_end().split(' ').skip(1);
        let size = match (words.next(), words.next().and_then(|size| size.parse::<u64>().ok())) {
            (Some("blob"), Some(size)) => size,
            _ => return Err(StoreError::Failed(DAMAGED.to_owned())),
        };
        let mut bytes = Vec::new();
        let kept = size.min(most as u64);
        let read = out.by_ref().take(kept).read_to_end(&mut bytes).map_err(|_| cut())?;
        // Skips the rest and the line feed after it.
        let rest = out.by_ref().take(size - kept + 1);
        std::io::copy(&mut { rest }, &mut std::io::sink()).map_err(|_| cut())?;
        if read as u64 != kept {
            return Err(cut());
        }
        take(bytes)?;
    }
    Ok(())
}

/// The output of a program, read by a thread of its own.
struct Drained(mpsc::Receiver<Vec<u8>>);

impl Drained {
    /// All output, until the program closes it.
    fn all(self) -> Vec<u8> {
        self.0.iter().flatten().collect()
    }

    /// The output so far, for a program that has ended but whose output stays open.
    fn so_far(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Ok(piece) = self.0.recv_timeout(MOMENT) {
            bytes.extend(piece);
        }
        bytes
    }
}

fn drained(from: Option<impl Read + Send + 'static>) -> Drained {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let Some(mut from) = from else { return };
        let mut piece = vec![0; 64 << 10];
        loop {
            match from.read(&mut piece) {
                Ok(count @ 1..) => {
                    if sender.send(piece.get(..count).unwrap_or_default().to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    });
    Drained(receiver)
}

fn author() -> String {
    let host = hpkp_server::host_name::host_name();
    format!("hpkp@{}", if host.is_empty() { "localhost" } else { &host })
}

fn cannot_run(error: &std::io::Error) -> StoreError {
    StoreError::Failed(format!("cannot run git: {}", hpkp_cli::sync::os(error)))
}

fn failure(errors: &str) -> StoreError {
    let text = main_error(errors);
    let denied = ["Permission denied", "Authentication failed", "access denied", "403"];
    if denied.iter().any(|denied| errors.contains(denied)) {
        StoreError::Denied(text)
    } else {
        StoreError::Failed(text)
    }
}

/// git says this if the program that it runs, such as ssh, has failed. That program has said why in the line before.
const NO_REASON: &str = "fatal: Could not read from remote repository.";

/// The main error in the output of git: its first error message, else the first line.
fn main_error(errors: &str) -> String {
    let lines = || errors.lines().map(str::trim).filter(|line| !line.is_empty());
    let reason = lines().zip(lines().skip(1)).find(|(_, next)| *next == NO_REASON);
    let fatal = lines().filter(|line| {
        ["fatal: ", "error: ", "! ", "ssh: ", "remote: "]
            .iter()
            .any(|start| line.starts_with(start))
    });
    let messages: Vec<&str> = match fatal.collect::<Vec<_>>() {
        some if !some.is_empty() => some,
        _ => lines().collect(),
    };
    // A URL with a secret in it must not reach a log.
    let text = match (messages.first(), reason) {
        (Some(&NO_REASON), Some((why, _))) => why,
        (first, _) => first.map_or("git says nothing", |text| text),
    };
    Excerpt::new(&without_credentials(text)).to_string()
}

/// Removes user and password, before the "@", from URLs in a text.
fn without_credentials(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            match rest[..end].rfind('@') {
                Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
                None => word.to_owned(),
            }
        }
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}
