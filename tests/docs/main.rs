//! The documents are tested: each `console` and `sh` block runs as it is printed, on a machine that is
//! thrown away afterwards (`sandbox.sh`), and must print what the document shows; each link must have a target.
//!
//! A document names its machine in a comment, `<!-- machine: NAME -->`, a function of `machines.sh`.
//! Its blocks run there in their order, in one shell. A block marked `excerpt` (```` ```console excerpt ````)
//! is not run. `<!-- run: COMMANDS -->` runs what readers need not see, and `<!-- file: PATH -->`
//! writes the next block to a file. `HPKP_DOCS=update` in the environment writes what the commands
//! print into the documents.

// clippy.toml allows these only inside test functions, not in their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod links;
mod markdown;
mod output;
mod sandbox;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the repository is.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All Markdown files of the repository, relative to it.
fn documents() -> Vec<PathBuf> {
    let root = root();
    let mut open = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != ".git" {
                open.push(path);
            } else if name.ends_with(".md") {
                found.push(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Runs the blocks of a document and compares what they print.
fn check(document: &str) {
    let path = root().join(document);
    let text = fs::read_to_string(&path).unwrap();
    let page = markdown::parse(&text).unwrap_or_else(|error| panic!("{document}:{error}"));
    let machine = page.machine.as_deref().unwrap_or_else(|| panic!("{document} names no machine"));
    let mut machine = sandbox::Machine::start(machine);
    let mut ids = output::Ids::default();
    let mut faults = Vec::new();
    let mut changes = Vec::new();
    for step in &page.steps {
        let ran = machine.run(&ids.in_this_run(&step.command));
        if let Err(fault) = output::compare(step, &ran, &mut ids) {
            faults.push(format!("{document}:{}: {}\n{fault}", step.line, step.command));
            changes.push((step, output::updated(step, &ran, &ids)));
        }
    }
    if std::env::var_os("HPKP_DOCS").is_some_and(|value| value == "update") {
        fs::write(&path, markdown::with_outputs(&text, &changes)).unwrap();
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// A test for each document with blocks that run.
macro_rules! documents {
    ($($name:ident: $path:literal)*) => {
        $(
            #[test]
            fn $name() {
                check($path);
            }
        )*

        #[test]
        fn every_document_with_blocks_that_run_is_tested() {
            let tested: BTreeSet<PathBuf> = [$($path),*].iter().map(PathBuf::from).collect();
            let mut have_blocks = BTreeSet::new();
            for path in documents() {
                let text = fs::read_to_string(root().join(&path)).unwrap();
                let page = markdown::parse(&text)
                    .unwrap_or_else(|error| panic!("{}:{error}", path.display()));
                if !page.steps.is_empty() {
                    have_blocks.insert(path);
                }
            }
            assert_eq!(have_blocks, tested);
        }
    };
}

documents! {
    readme: "README.md"
    install: "docs/start/install.md"
    app_pins: "docs/start/app-pins.md"
    header: "docs/start/header.md"
    rotation: "docs/how-to/rotation.md"
    ci: "docs/how-to/ci.md"
    fleet: "docs/how-to/fleet.md"
    other_servers: "docs/how-to/other-servers.md"
    outside: "docs/how-to/outside.md"
    acme: "docs/how-to/acme.md"
    backup_key: "docs/how-to/backup-key.md"
    restore: "docs/how-to/restore.md"
    give_up: "docs/how-to/give-up.md"
    incident: "docs/incident.md"
    command: "docs/reference/command.md"
}

#[test]
fn every_link_has_a_target() {
    let faults: Vec<String> =
        documents().iter().flat_map(|path| links::broken(&root(), path)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
