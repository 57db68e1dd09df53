//! Commands that findings print, run as they are printed.

use std::fs;
use std::process::Command;

use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::pki::leaf_extensions;
use hpkp_tests::site::{A, B};
use hpkp_tests::succeed;

use crate::apps::published;
use crate::fixture::{Fixture, says};

super::scenarios! {
    the_printed_waiver_covers_all_hosts
    the_printed_command_finds_the_key
    the_printed_end_is_of_the_app
    a_missing_directory_is_restored_or_made
    the_file_of_the_command_is_restored_too
    a_certificate_without_a_subject_is_called_by_its_name
}

/// The commands in what was said that begin with these words, each once.
fn commands(said: &str, words: &str) -> Vec<String> {
    let mut all: Vec<String> = said
        .lines()
        .filter_map(|line| line.find(words).map(|start| line[start..].to_owned()))
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Runs a command as a shell does into which it was pasted; what it printed.
#[track_caller]
fn paste(command: &str) -> String {
    let hpkp = command.strip_prefix("hpkp ").expect("our command");
    let line = format!("{} {hpkp}", env!("CARGO_BIN_EXE_hpkp"));
    String::from_utf8(succeed(Command::new("sh").args(["-c", &line]))).expect("UTF-8")
}

fn the_printed_waiver_covers_all_hosts<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let hosts: Vec<String> =
        (0..60).map(|n| format!("a-rather-long-name-{n}.of-a-department.example.com")).collect();
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let alternatives = hosts.join(",DNS:");
    for certificate in ["old", "new"] {
        fixture.pki.leaf(certificate, "localhost", "ca");
        let extensions = leaf_extensions(&alternatives);
        fixture.pki.sign(certificate, "/CN=a", "ca", &extensions);
    }
    let old = fixture.pki.pin("old.pem");
    let pins: &[&str] = &[&old, B];
    let policies = [Policy { pins, ..POLICY }];
    let policy = Some(POLICY.name);
    let before =
        [Block { port: fixture.port, names: &names, certificates: &["old"], policy, ..BLOCK }];
    fixture.up_with(&Layout { policies: &policies, blocks: &before, ..LAYOUT }, &[]);

    let after = [Block {
        port: fixture.port,
        names: &names,
        certificates: &["new"],
        policy: None,
        ..BLOCK
    }];
    let layout = Layout { blocks: &after, ..LAYOUT };
    let said = fixture.refuses_all(&layout, &["published-pins-unmet"]);
    let waivers = commands(&said, "hpkp published -d ");
    let waivers: Vec<&String> = waivers.iter().filter(|line| line.contains(" waive ")).collect();
    assert!((1..=3).contains(&waivers.len()), "{waivers:?}");
    // The dangerous one is the last, and marked.
    let last = said.lines().rfind(|line| line.contains("hpkp: [published-pins-unmet]"));
    says(last.expect("a line"), &["last resort, locks out those clients: ", " waive "]);
    for waiver in waivers {
        paste(waiver);
    }
    fixture.passes_all(&layout, &["waived"]);
}

fn the_printed_command_finds_the_key<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.up(&["live"], &[&live, B], &[]);
    fixture.pki.leaf("renewed", "localhost", "ca");
    let said = fixture.refuses(&["renewed"], &[], &["published-pins-unmet"]);
    let file = fixture.site.path("renewed.pem");
    says(&said, &[&format!("certificate: {}, ", file.display())]);
    let all = commands(&said, "hpkp find ");
    let command = all.iter().find(|command| command.contains(&live));
    let found = paste(command.expect("a command for the key in use"));
    says(&found, &["private key: ", "live.key"]);
}

fn the_printed_end_is_of_the_app<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    // In a directory whose name needs quotation marks.
    let directory = fixture.site.path("my records");
    let directory = directory.to_str().expect("UTF-8");
    succeed(Command::new(env!("CARGO_BIN_EXE_hpkp")).args(["published", "init", directory]));
    let add = ["published", "-d", directory, "add", "localhost", "--origin", "app", "--pin", A];
    succeed(Command::new(env!("CARGO_BIN_EXE_hpkp")).args(add).args(["--writer", "apps"]));
    let quoted = match S::KIND {
        hpkp_tests::said::Kind::Nginx => &["'my records' writer=web-1"][..],
        hpkp_tests::said::Kind::Httpd => &["\"my records\" writer=web-1"][..],
    };
    fixture.published = quoted;
    let said = fixture.refuses(&["live"], &[], &["published-pins-unmet"]);
    let all = commands(&said, "hpkp published -d ");
    assert_eq!(all.len(), 1, "{all:?}");
    paste(&all[0]);
    fixture.passes(&["live"], &[], &[]);
}

fn a_missing_directory_is_restored_or_made<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    fixture.published = &["volume writer=web-1"];
    let live = fixture.pki.pin("live.pem");
    let said = fixture.refuses(&["live"], &[&live, B], &["records-unreadable"]);
    let volume = fixture.site.path("volume");
    let restore = format!("to fix: mount or restore {}", volume.display());
    says(&said, &["does not exist", &restore, "only for a new installation: hpkp published init "]);
    assert!(!said.contains(" verify"), "{said}");
    paste(&commands(&said, "hpkp published init ")[0]);
    fixture.passes(&["live"], &[&live, B], &[]);
}

fn the_file_of_the_command_is_restored_too<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.up(&["live"], &[&live, B], &[]);
    published(&fixture, &["list"]);
    fs::remove_file(fixture.site.path(crate::fixture::OWN)).expect("records");
    let said = fixture.refuses(&["live"], &[A, B], &["no-pin-in-chain", "records-missing"]);
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let file = format!("{}.command.jsonl", machine.trim());
    says(&said, &["restore it from a backup", &file, "last resort, locks out those clients: "]);
}

fn a_certificate_without_a_subject_is_called_by_its_name<S: Site>() {
    let fixture = Fixture::<S>::new();
    fixture.pki.leaf("bare", "localhost", "ca");
    fixture.pki.sign("bare", "/", "ca", &leaf_extensions("localhost"));
    let said = fixture.refuses(&["bare"], &[A, B], &["no-pin-in-chain"]);
    let pin = fixture.pki.pin("bare.pem");
    says(&said, &[&format!("(no subject) SAN localhost, sha256/{pin}, expires 20")]);
    let expiry = said.split(", expires ").nth(1).expect("a time");
    assert_eq!(&expiry[19..20], "Z", "{said}");
}
