//! A machine of the fleet: its directory for records, its writer, and runs of the command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::heard::{self, AllHeard};
use hpkp_core::published::{
    Body, Compromised, Event, Gone, KeyGraph, KeyNode, Lifetime, Origin, Presented, Presents,
    Published, WriterName,
};
use hpkp_server::published::{self, Directory};
use hpkp_tests::recorded::held;
use serde_json::Value;
use tempfile::TempDir;

use crate::engine::Engine;

/// The result of a run of the command.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// The JSON of a run without any finding.
    #[track_caller]
    pub fn fine(&self) -> Value {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or(Value::Null)
    }

    /// The codes of the findings.
    #[track_caller]
    pub fn codes(&self) -> Vec<String> {
        let json: Value = serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{self:?}"));
        assert_eq!(json["v"], 1);
        let findings = json["findings"].as_array().unwrap();
        findings.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect()
    }

    /// Panics unless the command ended with status 3 and all findings, at least one, have this code.
    #[track_caller]
    pub fn found(&self, code: &str) {
        let codes: std::collections::BTreeSet<String> = self.codes().into_iter().collect();
        assert_eq!((self.code, codes), (Some(3), [code.to_owned()].into()), "{self:?}");
        assert!(self.err.contains(&format!("[{code}]")), "{self:?}");
    }
}

/// A machine.
pub struct Machine {
    pub at: TempDir,
    pub writer: String,
    seq: u64,
    pub url: String,
    pub environment: Vec<(String, String)>,
}

impl Machine {
    pub fn new(engine: &dyn Engine, writer: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let machine = Self {
            at,
            writer: writer.to_owned(),
            seq: 0,
            url: engine.url(),
            environment: engine.environment(),
        };
        published::init(machine.path().to_str().unwrap()).unwrap();
        machine
    }

    /// The machines `web-1`, `web-2` …, each with a record, and an initialised store for them.
    pub fn fleet(engine: &dyn Engine, count: usize) -> Vec<Self> {
        let mut fleet: Vec<Self> =
            (1..=count).map(|number| Self::new(engine, &format!("web-{number}"))).collect();
        fleet.iter_mut().for_each(|machine| machine.add(1));
        fleet[0].run(&["--init", "--json"]).fine();
        fleet
    }

    pub fn path(&self) -> PathBuf {
        self.at.path().join("records")
    }

    /// Writes `count` records, as a server does.
    pub fn add(&mut self, count: u64) {
        let body = |seq: u64| {
            let mut pin = [0; Pin::BYTES];
            pin[..8].copy_from_slice(&seq.to_be_bytes());
            Body::Compromised(Compromised { pin: Pin::from_bytes(pin), why: "a test".to_owned() })
        };
        let bodies = (self.seq + 1..=self.seq + count).map(body).collect();
        self.append(bodies);
    }

    /// Presents a key for a host, and publishes pins.
    pub fn deploy(&mut self, host: &str, key: u8, pins: &[u8]) {
        let pin = |number: &u8| Pin::from_bytes([*number; Pin::BYTES]);
        let node = KeyNode { pin: Some(pin(&key)), served: true, end: true, issuers: vec![] };
        let presented = Presented {
            served: vec![node.pin],
            keys: KeyGraph::new(vec![node]).unwrap(),
            identity: None,
        };
        self.append(vec![
            Body::Presents(Presents::of_one(host.parse().unwrap(), 443, vec![presented])),
            Body::Published(Published {
                lifetime: Lifetime::MaxAge(MaxAge::from_seconds(5_184_000).unwrap()),
                origin: Origin::Header,
                ..held(host, pins.iter().map(pin).collect())
            }),
        ]);
    }

    /// Records that a writer is gone.
    pub fn end(&mut self, writer: &str) {
        self.append(vec![Body::Gone(Gone {
            of: writer.parse().unwrap(),
            instance: None,
            upto: 1,
            why: "a test".to_owned(),
            when: None,
        })]);
    }

    fn append(&mut self, bodies: Vec<Body>) {
        let directory = Directory::open(self.path().to_str().unwrap()).unwrap();
        let writer: WriterName = self.writer.parse().unwrap();
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let numbered = (self.seq + 1..).zip(bodies);
        let events: Vec<Event> =
            numbered.map(|(seq, body)| Event::new(now, seq, writer.clone(), body)).collect();
        published::append(&directory, &events).unwrap();
        self.seq += events.len() as u64;
    }

    pub fn own(&self) -> PathBuf {
        self.path().join(format!("{}.jsonl", self.writer))
    }

    /// The file of this machine's writer.
    pub fn records(&self) -> String {
        std::fs::read_to_string(self.own()).unwrap()
    }

    /// The copy of another machine's file; empty without a copy.
    pub fn copy_of(&self, writer: &str) -> String {
        std::fs::read_to_string(self.path().join(format!("peers/{writer}.jsonl")))
            .unwrap_or_default()
    }

    pub fn heard(&self) -> AllHeard {
        heard::read(&std::fs::read(self.path().join(heard::FILE)).unwrap()).unwrap()
    }

    pub fn numbers(&self) -> BTreeMap<String, u64> {
        self.heard().into_iter().map(|(writer, heard)| (writer.to_string(), heard.number)).collect()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp-sync"));
        command
            .arg("-d")
            .arg(self.path())
            .args(arguments)
            .arg(&self.url)
            .env("XDG_CACHE_HOME", self.at.path().join("cache"))
            .env_remove("HPKP_STORE")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(&mut self.command(arguments))
    }

    pub fn sync(&self) -> Outcome {
        self.run(&["--json"])
    }

    pub fn start(&self) -> Child {
        self.command(&["--json"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

/// Writes the file of another server that has the same writer name.
pub fn strangers_file(records: &std::path::Path, writer: &str) {
    let directory = Directory::open(records.to_str().unwrap()).unwrap();
    let pin = Pin::from_bytes([9; Pin::BYTES]);
    let body = Body::Compromised(Compromised { pin, why: "a test".to_owned() });
    let event = Event::new(1_800_000_000, 1, writer.parse().unwrap(), body);
    published::append(&directory, &[event]).unwrap();
}

pub fn outcome(command: &mut Command) -> Outcome {
    let output = hpkp_tests::output(command);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
