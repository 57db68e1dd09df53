//! Runs the commands of a document, in one shell, on a machine that is thrown away.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::output::Ran;

/// The byte that ends a command and its output; no command prints it.
const MARK: u8 = 0x1e;

/// A machine with a shell, which ends when this is dropped.
pub struct Machine {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    _scratch: tempfile::TempDir,
}

impl Machine {
    /// The machine that a function of `machines.sh` prepares.
    pub fn start(name: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/docs");
        let mut command = if is_root() {
            Command::new("unshare")
        } else {
            let mut command = Command::new("sudo");
            command.arg("unshare");
            command
        };
        let mut process = command
            .args(["--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "bash"])
            .arg(format!("{here}/sandbox.sh"))
            .arg(scratch.path())
            .arg(crate::root())
            .arg(hpkp_tests::target_dir().canonicalize().unwrap())
            .arg(env!("CARGO_BIN_EXE_hpkp"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut machine = Self { process, input, output, _scratch: scratch };
        let ran = machine.run(&format!("machine_{name}"));
        assert!(ran.status == 0, "the machine \"{name}\" cannot be prepared:\n{}", ran.text);
        machine
    }

    /// Runs a command in its shell.
    pub fn run(&mut self, command: &str) -> Ran {
        let mut bytes = command.as_bytes().to_vec();
        bytes.push(MARK);
        self.input.as_mut().unwrap().write_all(&bytes).unwrap();
        let text = self.part();
        let status = self.part().trim().parse().unwrap();
        Ran { text, status }
    }

    /// What is printed up to the next mark.
    fn part(&mut self) -> String {
        let mut bytes = Vec::new();
        self.output.read_until(MARK, &mut bytes).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if bytes.pop() != Some(MARK) {
            // The reason is on standard error, which the test shows.
            panic!(
                "the machine has ended; it needs namespaces, so root or sudo:\n{}",
                text(&bytes)
            );
        }
        text(&bytes)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // At the end of its input the shell ends, and with it every process of its namespace.
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

fn is_root() -> bool {
    // SAFETY: geteuid takes no argument and always succeeds.
    unsafe { libc::geteuid() == 0 }
}
