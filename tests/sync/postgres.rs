//! PostgreSQL from Debian's packages, run by an unprivileged user in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::engine::{Engine, address};

/// A database server for one test.
pub struct Postgres {
    at: TempDir,
    port: u16,
}

/// The directory of the programs of the newest version in Debian.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql");
    let newest = versions.map(|version| version.unwrap().path()).max().expect("a version");
    newest.join("bin")
}

/// A program of PostgreSQL; as an unprivileged user if the tests run as root.
fn program(name: &str) -> Command {
    let path = programs().join(name);
    if succeeded(Command::new("id").arg("-u")).trim() != "0" {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(path)
        .current_dir("/");
    command
}

fn succeeded(command: &mut Command) -> String {
    String::from_utf8(hpkp_tests::succeed(command)).unwrap()
}

impl Postgres {
    pub fn start() -> Self {
        Self::with("")
    }

    /// Starts a server with additional configuration.
    pub fn with(configuration: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let _ = std::os::unix::fs::chown(at.path(), Some(65_534), Some(65_534));
        let data = at.path().join("data");
        let mut initdb = program("initdb");
        succeeded(initdb.args(["--no-sync", "-A", "trust", "-U", "postgres", "-D"]).arg(&data));
        let access = data.join("pg_hba.conf");
        let text = std::fs::read_to_string(&access).unwrap();
        std::fs::write(access, format!("{text}\nhost all all {}/16 trust\n", address())).unwrap();
        let mut postgres = Self { at, port: hpkp_tests::free_port() };
        let path = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            format!(
                "{text}\nlisten_addresses = '{}'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\n\
                 shared_buffers = 16MB\n{configuration}\n",
                address(),
                postgres.port,
                postgres.at.path().display()
            ),
        )
        .unwrap();
        postgres.resume();
        postgres.sql("postgres", "CREATE DATABASE hpkp");
        postgres
    }

    pub fn directory(&self) -> &Path {
        self.at.path()
    }

    /// Runs SQL with `psql` as the owner of the database. Returns the output.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        succeeded(
            Command::new(programs().join("psql"))
                .args([
                    "-X",
                    "-q",
                    "-t",
                    "-A",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-U",
                    "postgres",
                    "-d",
                    database,
                    "-c",
                    sql,
                ])
                .args(["-p", &self.port.to_string(), "-h"])
                .arg(self.at.path()),
        )
    }

    /// A URL for a role, over the network.
    pub fn url_of(&self, role: &str) -> String {
        let url = format!("postgres://{role}@{}:{}/hpkp", address(), self.port);
        if address() == "127.0.0.1" { url } else { url + "?sslmode=disable" }
    }
}

impl Engine for Postgres {
    fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn stop(&mut self) {
        let data = self.at.path().join("data");
        succeeded(program("pg_ctl").args(["-w", "-m", "immediate", "stop", "-D"]).arg(data));
    }

    fn resume(&mut self) {
        let data = self.at.path().join("data");
        let log = self.at.path().join("log");
        // The started server keeps the output open.
        let status = program("pg_ctl")
            .args(["-w", "start", "-D"])
            .arg(data)
            .arg("-l")
            .arg(log)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(
            status.success(),
            "{}",
            std::fs::read_to_string(self.at.path().join("log")).unwrap()
        );
    }

    fn back_up(&mut self) {
        self.sql("postgres", "DROP DATABASE IF EXISTS backup");
        self.sql("postgres", "CREATE DATABASE backup TEMPLATE hpkp");
    }

    fn restore(&mut self) {
        self.sql("postgres", "DROP DATABASE hpkp WITH (FORCE)");
        self.sql("postgres", "CREATE DATABASE hpkp TEMPLATE backup");
    }

    fn damage(&mut self, writer: &str) {
        self.sql(
            "hpkp",
            &format!(
                "INSERT INTO hpkp.record VALUES ('{writer}', 1000, 'x', 'nonsense'); \
                 UPDATE hpkp.writer SET seq = 1000, id = 'x' WHERE writer = '{writer}'"
            ),
        );
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.at.path().join("data");
        let _ = program("pg_ctl").args(["-w", "-m", "immediate", "stop", "-D"]).arg(data).output();
    }
}
