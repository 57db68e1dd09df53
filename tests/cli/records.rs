//! Directories of records, which most tests of the command need.

use serde_json::Value;

use crate::{Outcome, run};

/// A directory for records, and a place for other files beside it.
pub(crate) struct Records(pub(crate) tempfile::TempDir);

impl Records {
    pub(crate) fn new() -> Self {
        let records = Self(tempfile::tempdir().expect("a directory"));
        let outcome = run(records.0.path(), &["published", "init", "records"]);
        assert_eq!(outcome.fine(), "directory for records ready: records\n");
        records
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        run(self.0.path(), &[&["published", "-d", "records"], arguments].concat())
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[&["--json"], arguments].concat()).json()
    }

    /// Runs a command that must make exactly one record, and returns that record.
    pub(crate) fn recorded(&self, arguments: &[&str]) -> Value {
        let json = self.json(arguments);
        let recorded = json["recorded"].as_array().expect("records");
        assert_eq!(recorded.len(), 1, "{json}");
        recorded[0].clone()
    }

    /// The records of all files, without the first line of each, which names its writer.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for file in std::fs::read_dir(self.0.path().join("records")).expect("a directory") {
            let path = file.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                let text = std::fs::read_to_string(path).expect("records");
                let values = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
                lines.extend(values.filter(|value: &Value| value["event"] != "writer"));
            }
        }
        lines
    }
}

pub(crate) fn pin(base64: &str) -> String {
    format!("sha256/{base64}")
}

pub(crate) fn id(record: &Value) -> &str {
    record["id"].as_str().expect("an id")
}
