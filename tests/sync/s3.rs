//! An S3-compatible server: s3s-fs, which `ci/stores` installs.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::engine::{Engine, copy};
use crate::wait_for;

/// A server of its own.
pub struct S3 {
    at: TempDir,
    port: u16,
    server: Option<Child>,
}

impl S3 {
    pub fn start() -> Self {
        let at = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(at.path().join("data/fleet")).unwrap();
        let mut s3 = Self { at, port: hpkp_tests::free_port(), server: None };
        s3.resume();
        s3
    }

    fn data(&self) -> PathBuf {
        self.at.path().join("data")
    }
}

impl Engine for S3 {
    fn url(&self) -> String {
        "s3://fleet/a/prefix".to_owned()
    }

    fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "access"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    fn resume(&mut self) {
        let program = std::env::var_os("HPKP_S3S_FS")
            .map_or_else(|| hpkp_tests::target_dir().join("stores/bin/s3s-fs"), PathBuf::from);
        let server = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--access-key", "access", "--secret-key", "hunter2"])
            .arg(self.data())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.server = Some(server.expect("s3s-fs: run ci/stores"));
        let port = self.port;
        wait_for("s3s-fs", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    fn back_up(&mut self) {
        copy(&self.data(), &self.at.path().join("backup"));
    }

    fn restore(&mut self) {
        std::fs::remove_dir_all(self.data()).unwrap();
        copy(&self.at.path().join("backup"), &self.data());
    }

    fn damage(&mut self, writer: &str) {
        let segments = self.data().join(format!("fleet/a/prefix/records/{writer}"));
        let count = std::fs::read_dir(&segments).unwrap().count();
        std::fs::write(segments.join(format!("{count:010}.jsonl")), "nonsense\n").unwrap();
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.stop();
    }
}
