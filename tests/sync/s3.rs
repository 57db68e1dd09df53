//! An S3-compatible server: s3s-fs, which `ci/stores` installs.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::engine::{Engine, address, copy_of_what_is_there, put_back};
use crate::machine::Machine;
use crate::wait_for;

/// A server of its own.
pub struct S3 {
    at: TempDir,
    port: u16,
    secret: String,
    server: Option<Child>,
}

impl S3 {
    /// The path of the segments of a writer.
    fn segments(&self, writer: &str) -> PathBuf {
        self.data().join(format!("fleet/a/prefix/records/{writer}"))
    }

    pub fn start() -> Self {
        let at = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(at.path().join("data/fleet")).unwrap();
        let mut s3 =
            Self { at, port: hpkp_tests::free_port(), secret: "hunter2".to_owned(), server: None };
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
        let endpoint = format!("http://{}:{}", address(), self.port);
        [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", "access"),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ALLOW_HTTP", "true"),
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
            .args(["--host", &address(), "--port", &self.port.to_string()])
            .args(["--access-key", "access", "--secret-key", &self.secret])
            .arg(self.data())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.server = Some(server.expect("s3s-fs: run ci/stores"));
        let port = self.port;
        wait_for("s3s-fs", || std::net::TcpStream::connect((address(), port)).is_ok());
    }

    fn back_up(&mut self) {
        copy_of_what_is_there(&self.data(), &self.at.path().join("backup"));
    }

    fn restore(&mut self) {
        put_back(&self.at.path().join("backup"), &self.data());
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

/// A bucket was restored from a backup and has as many segments again as before: all of them are read again.
#[test]
#[ignore = "needs s3s-fs: ci/stores"]
fn after_a_restore_the_same_number_of_other_segments_is_read_again() {
    let mut engine = S3::start();
    let mut fleet = Machine::fleet(&engine, 2);
    fleet[0].sync().fine();
    engine.back_up();
    for _ in 0..2 {
        fleet[0].add(1);
        fleet[0].sync().fine();
    }
    fleet[1].sync().fine();
    engine.restore();
    // The lost records become one segment, and the new record another one.
    assert_eq!(fleet[0].sync().codes(), ["store-went-back"]);
    fleet[0].add(1);
    fleet[0].sync().fine();
    assert_eq!(std::fs::read_dir(engine.segments("web-1")).unwrap().count(), 3);
    assert_eq!(fleet[1].sync().codes(), ["store-went-back"]);
    assert_eq!(fleet[1].copy_of("web-1"), fleet[0].records());
}

/// The number of an object claims ten thousand million segments before it.
#[test]
#[ignore = "needs s3s-fs: ci/stores"]
fn a_segment_number_that_is_too_high_is_reported_at_once() {
    let engine = S3::start();
    let mut fleet = Machine::fleet(&engine, 3);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    std::fs::write(engine.segments("web-3").join("9999999999.jsonl"), "nonsense\n").unwrap();
    fleet[1].add(1);
    let damaged = |machine: &Machine| {
        let outcome = machine.sync();
        assert!(outcome.codes().contains(&"peer-records-damaged".to_owned()), "{outcome:?}");
    };
    let started = std::time::Instant::now();
    damaged(&fleet[1]);
    damaged(&fleet[0]);
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
}

/// A secret may have characters that are encoded in a URL. The URL also names the server.
#[test]
#[ignore = "needs s3s-fs: ci/stores"]
fn a_secret_in_a_url_is_decoded() {
    let mut engine = S3::start();
    engine.stop();
    engine.secret = "a/b+c%d".to_owned();
    engine.resume();
    let mut machine = Machine::new(&engine, "web-1");
    machine.add(1);
    let endpoint = format!("http://127.0.0.1:{}", engine.port);
    machine.environment = vec![("AWS_REGION".to_owned(), "us-east-1".to_owned())];
    let file = machine.at.path().join("store");
    let url = format!("s3://access:a%2Fb%2Bc%25d@fleet/x?endpoint={endpoint}");
    std::fs::write(&file, url).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for init in [&["--init"][..], &[]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp-sync"));
        command
            .args(["--json", "-d"])
            .arg(machine.path())
            .args(init)
            .arg("--store-file")
            .arg(&file);
        let outcome = crate::machine::outcome(command.env("AWS_REGION", "us-east-1"));
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(
            !format!("{outcome:?}").contains("a%2Fb") && !outcome.out.contains("a/b+c"),
            "{outcome:?}"
        );
    }
}

/// More segments than a server lists in one page.
#[test]
#[ignore = "needs s3s-fs: ci/stores"]
fn all_pages_of_a_listing_are_read() {
    let engine = S3::start();
    let fleet = Machine::fleet(&engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    let (segments, text) = (engine.segments("web-1"), fleet[0].records());
    // One segment for each line, as if each was written separately, followed by empty segments.
    std::fs::remove_dir_all(&segments).unwrap();
    std::fs::create_dir(&segments).unwrap();
    for number in 0..2_500 {
        let line = text.lines().nth(number).map(|line| format!("{line}\n"));
        let line = line.unwrap_or_default();
        std::fs::write(segments.join(format!("{number:010}.jsonl")), line).unwrap();
    }
    let late = Machine::new(&engine, "web-9");
    late.sync().fine();
    assert_eq!(late.copy_of("web-1"), text);
    assert_eq!(late.sync().fine()["received"], serde_json::json!([]));
}
