//! Git repositories, reached by path and through a real sshd.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::engine::{Engine, address, put_back};
use crate::{succeed, wait_for};

/// A bare repository.
pub struct File {
    at: TempDir,
}

impl File {
    pub fn start() -> Self {
        let at = tempfile::tempdir().unwrap();
        succeed(
            "git",
            &["init", "--quiet", "--bare", at.path().join("store.git").to_str().unwrap()],
        );
        Self { at }
    }

    pub fn path(&self) -> PathBuf {
        self.at.path().join("store.git")
    }
}

impl Engine for File {
    fn url(&self) -> String {
        format!("git+file://{}", self.path().display())
    }

    fn stop(&mut self) {
        std::fs::rename(self.path(), self.at.path().join("away")).unwrap();
    }

    fn resume(&mut self) {
        std::fs::rename(self.at.path().join("away"), self.path()).unwrap();
    }

    fn back_up(&mut self) {
        // git copies a consistent state.
        let backup = self.at.path().join("backup");
        let _ = std::fs::remove_dir_all(&backup);
        let store = self.path();
        let paths = [&store, &backup].map(|path| path.to_str().unwrap());
        succeed("git", &[&["clone", "--quiet", "--mirror"][..], &paths].concat());
    }

    fn restore(&mut self) {
        put_back(&self.at.path().join("backup"), &self.path());
    }

    fn damage(&mut self, writer: &str) {
        let clone = tempfile::tempdir().unwrap();
        let clone = clone.path().to_str().unwrap();
        succeed(
            "git",
            &["clone", "--quiet", "--branch", "hpkp", self.path().to_str().unwrap(), clone],
        );
        let path = Path::new(clone).join(format!("{writer}.jsonl"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}nonsense\n")).unwrap();
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        let commit =
            [&["-C", clone], &identity[..], &["commit", "--quiet", "-am", "damage"]].concat();
        succeed("git", &commit);
        succeed("git", &["-C", clone, "push", "--quiet"]);
    }
}

/// A bare repository behind an sshd on loopback, with its own keys and configuration.
pub struct Ssh {
    file: File,
    port: u16,
    sshd: Option<Child>,
}

impl Ssh {
    pub fn start() -> Self {
        let file = File::start();
        let port = hpkp_tests::free_port();
        for key in ["host", "client"] {
            let path = file.at.path().join(key);
            succeed("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", path.to_str().unwrap()]);
        }
        let at = file.at.path().display();
        std::fs::copy(file.at.path().join("client.pub"), file.at.path().join("authorized"))
            .unwrap();
        let known = std::fs::read_to_string(file.at.path().join("host.pub")).unwrap();
        std::fs::write(file.at.path().join("known"), format!("[{}]:{port} {known}", address()))
            .unwrap();
        let configuration = format!(
            "ListenAddress {}:{port}\nHostKey {at}/host\nPidFile none\nAuthorizedKeysFile {at}/authorized\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
            address()
        );
        std::fs::write(file.at.path().join("sshd_config"), configuration).unwrap();
        // sshd requires this directory.
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut ssh = Self { file, port, sshd: None };
        ssh.resume();
        ssh
    }

    pub fn path(&self) -> PathBuf {
        self.file.path()
    }
}

impl Engine for Ssh {
    fn url(&self) -> String {
        let user = succeed("id", &["-un"]);
        let (user, address) = (user.trim(), address());
        format!("git+ssh://{user}@{address}:{}{}", self.port, self.file.path().display())
    }

    fn environment(&self) -> Vec<(String, String)> {
        let at = self.file.at.path().display();
        let ssh = format!(
            "ssh -F none -i {at}/client -o BatchMode=yes -o UserKnownHostsFile={at}/known -o IdentitiesOnly=yes"
        );
        vec![("GIT_SSH_COMMAND".to_owned(), ssh)]
    }

    fn stop(&mut self) {
        if let Some(mut sshd) = self.sshd.take() {
            sshd.kill().unwrap();
            sshd.wait().unwrap();
        }
    }

    fn resume(&mut self) {
        let configuration = self.file.at.path().join("sshd_config");
        let log = self.file.at.path().join("sshd.log");
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f"])
            .arg(configuration)
            .arg("-E")
            .arg(log)
            .spawn();
        self.sshd = Some(sshd.expect("openssh-server"));
        let port = self.port;
        wait_for("sshd", || std::net::TcpStream::connect((address(), port)).is_ok());
    }

    fn back_up(&mut self) {
        self.file.back_up();
    }

    fn restore(&mut self) {
        self.file.restore();
    }

    fn damage(&mut self, writer: &str) {
        self.file.damage(writer);
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.stop();
    }
}
