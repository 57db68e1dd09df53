//! Commands printed by findings: each test runs the command exactly as printed and checks its effect.

use std::fs;
use std::path::Path;
use std::process::Command;

use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::pki::{RSA, leaf_extensions};
use hpkp_tests::site::{A, B};
use hpkp_tests::succeed;

use crate::apps::published;
use crate::faults::is_root;
use crate::fixture::{Fixture, OWN, says};

super::scenarios! {
    the_printed_waiver_covers_all_hosts
    the_host_to_ask_about_is_named
    the_printed_command_finds_the_key
    the_printed_end_covers_the_pins_of_the_app
    the_printed_commands_name_all_directories
    a_missing_directory_is_restored_or_made
    a_new_key_waits_for_the_app_and_for_the_policy
    missing_records_name_the_file_of_the_command_too
    a_certificate_without_a_subject_is_named_by_its_san
    the_printed_chmod_makes_the_records_trusted
    the_printed_chown_makes_the_records_trusted
    the_printed_verify_names_the_damage
    the_printed_commands_for_tlsa_records
    the_printed_rm_continues_without_the_records
    the_printed_rm_of_a_damaged_reserve_is_safe
    the_printed_openssl_makes_a_backup_key
    the_printed_openssl_gives_the_public_key
    the_printed_end_covers_a_server_that_is_gone
    the_printed_end_covers_a_server_whose_records_are_lost
    the_printed_end_covers_a_server_that_a_copy_ends
}

/// The commands in a server's output that begin with `words`, each once. A finding prints a command after
/// a colon, up to the end of the line.
fn commands(outcome: &str, words: &str) -> Vec<String> {
    let begin = format!(": {words}");
    let mut all: Vec<String> = outcome
        .lines()
        .filter_map(|line| line.find(&begin).map(|start| line[start + 2..].to_owned()))
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Runs a command as a shell does after a paste; returns its output.
#[track_caller]
fn paste(command: &str) -> String {
    paste_in(Path::new("/"), command)
}

/// The same, in a directory.
#[track_caller]
fn paste_in(directory: &Path, command: &str) -> String {
    let own = Path::new(env!("CARGO_BIN_EXE_hpkp")).parent().expect("a directory").display();
    let path = format!("{own}:{}", std::env::var("PATH").expect("a path"));
    let mut shell = Command::new("sh");
    let shell = shell.current_dir(directory).env("PATH", path).args(["-c", command]);
    String::from_utf8(succeed(shell)).expect("UTF-8")
}

/// The only command in a server's output that begins with `words`.
#[track_caller]
fn the_command(outcome: &str, words: &str) -> String {
    let mut all = commands(outcome, words);
    assert_eq!(all.len(), 1, "{words}: {all:?} in:\n{outcome}");
    all.remove(0)
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
    let outcome = fixture.refuses_all(&layout, &["published-pins-unmet"]);
    let waivers = commands(&outcome, "hpkp published -d ");
    let waivers: Vec<&String> = waivers.iter().filter(|line| line.contains(" waive ")).collect();
    assert!((1..=3).contains(&waivers.len()), "{waivers:?}");
    // The waiver is dangerous, so its line comes last and is marked as the last resort.
    let last = outcome.lines().rfind(|line| line.contains("hpkp: [published-pins-unmet]"));
    says(last.expect("a line"), &["last resort, locks out those clients", ": hpkp published -d "]);
    for waiver in waivers {
        paste(waiver);
    }
    fixture.passes_all(&layout, &["waived"]);
}

/// A finding begins with the first name of a server, which may not be the one whose clients are locked out.
fn the_host_to_ask_about_is_named<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    fixture.pki.leaf("wide", "*.example.com", "ca");
    fixture.pki.leaf("own", "localhost", "ca");
    let both = leaf_extensions("localhost,DNS:api.example.com");
    fixture.pki.sign("own", "/CN=localhost", "ca", &both);
    let wide = fixture.pki.pin("wide.pem");
    let pins: &[&str] = &[&wide, B];
    let policies = [Policy { pins, ..POLICY }];
    let own = Block { port: fixture.port, policy: None, ..BLOCK };
    let pattern = Block {
        port: fixture.port,
        names: &["www.example.com", "*.example.com"],
        certificates: &["wide"],
        ..BLOCK
    };
    let before = [own.clone(), pattern.clone()];
    fixture.up_with(&Layout { policies: &policies, blocks: &before, ..LAYOUT }, &[]);

    let names = &["localhost", "api.example.com"];
    let own = Block { names, certificates: &["own"], ..own };
    let after = Layout { policies: &policies, blocks: &[own, pattern], ..LAYOUT };
    let said = fixture.refuses_all(&after, &["published-pins-unmet"]);
    says(&said, &["[published-pins-unmet] localhost: affects api.example.com"]);
}

fn the_printed_command_finds_the_key<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.up(&["live"], &[A, B, &live], &[]);
    fixture.pki.leaf("renewed", "localhost", "ca");
    let outcome = fixture.refuses(&["renewed"], &[], &["published-pins-unmet"]);
    let file = fixture.site.path("renewed.pem");
    says(&outcome, &[&format!("certificate: {}, ", file.display())]);
    let all = commands(&outcome, "hpkp find ");
    // The command for the key in use comes first: a backup key is not on this machine.
    let first = outcome.split("hpkp find sha256/").nth(1).expect("a command");
    assert!(first.starts_with(&live), "{outcome}");
    let command = all.iter().find(|command| command.contains(&live));
    let found = paste(command.expect("a command for the key in use"));
    says(&found, &["private key: ", "live.key"]);
}

fn the_printed_end_covers_the_pins_of_the_app<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    // The name of the directory needs quoting in a shell.
    let directory = fixture.site.path("my cook's records");
    let directory = directory.to_str().expect("UTF-8");
    succeed(Command::new(env!("CARGO_BIN_EXE_hpkp")).args(["published", "init", directory]));
    let add = ["published", "-d", directory, "add", "localhost", "--origin", "app", "--pin", A];
    succeed(Command::new(env!("CARGO_BIN_EXE_hpkp")).args(add).args(["--writer", "apps"]));
    fixture.published = &["\"my cook's records\" writer=web-1"];
    let outcome = fixture.refuses(&["live"], &[], &["published-pins-unmet"]);
    let all = commands(&outcome, "hpkp published -d ");
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].contains(" end ") && all[1].contains(" waive "), "{all:?}");
    paste(&all[0]);
    fixture.passes(&["live"], &[], &[]);
}

fn the_printed_commands_name_all_directories<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let apps = fixture.site.path("apps");
    let apps = apps.to_str().expect("UTF-8");
    let hpkp = || Command::new(env!("CARGO_BIN_EXE_hpkp"));
    succeed(hpkp().args(["published", "init", apps]));
    for pins in [&[A][..], &[A, B]] {
        let add = ["published", "-d", apps, "add", "localhost", "--origin", "app"];
        let pins = pins.iter().flat_map(|pin| ["--pin", *pin]);
        succeed(hpkp().args(add).args(pins).args(["--writer", "apps"]));
    }
    // The configuration brings the app's pins in a read-only directory; the operator's decisions are recorded in
    // the server's own directory.
    fixture.published = &["apps read_only", "records writer=web-1"];
    for verb in [" end ", " waive "] {
        let outcome = fixture.refuses(&["live"], &[], &["published-pins-unmet"]);
        let all = commands(&outcome, "hpkp published -d ");
        let of_verb = all.iter().find(|line| line.contains(verb)).expect("a command");
        let directories = format!(" -d {} -d {apps} ", fixture.site.path("records").display());
        says(of_verb, &[&directories]);
        // End one of the two ids only, so that the other is left to waive.
        let ids = of_verb.split_once(verb).map(|(_, ids)| ids.split(' ').collect::<Vec<_>>());
        match (verb, &ids.expect("ids")[..]) {
            (" end ", [first, second, ..]) => {
                assert_eq!((first.len(), second.len()), (32, 32), "{of_verb}");
                paste(&of_verb.replace(&format!("{second} "), ""));
            }
            _ => _ = paste(of_verb),
        }
    }
    fixture.passes(&["live"], &[], &["waived"]);
    let why = ["published", "-d", "records", "-d", apps, "why", "localhost", "--cert", "live.pem"];
    let asked = hpkp().current_dir(fixture.site.path(".")).args(why).output().expect("the command");
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
}

fn a_missing_directory_is_restored_or_made<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    fixture.published = &["volume writer=web-1"];
    let live = fixture.pki.pin("live.pem");
    let outcome = fixture.refuses(&["live"], &[&live, B], &["records-unreadable"]);
    let volume = fixture.site.path("volume");
    let restore = format!("to fix: mount or restore {}", volume.display());
    says(
        &outcome,
        &["does not exist", &restore, "only for a new installation: hpkp published init "],
    );
    assert!(!outcome.contains(" verify"), "{outcome}");
    paste(&commands(&outcome, "hpkp published init ")[0]);
    fixture.passes(&["live"], &[&live, B], &[]);
}

/// A new key needs both: a release of the app, and the policy.
fn a_new_key_waits_for_the_app_and_for_the_policy<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.pki.leaf("renewed", "localhost", "ca");
    let renewed = fixture.pki.pin("renewed.pem");
    fixture.up(&["live"], &[&live, B], &[]);
    let policy = [&renewed, B];
    let header = fixture.refuses(&["renewed"], &policy, &["published-pins-unmet"]);
    says(&header, &["for a new key: publish its pin"]);
    published(&fixture, &["add", "localhost", "--origin", "app", "--pin", &live]);
    let both = fixture.refuses(&["renewed"], &policy, &["published-pins-unmet"]);
    says(&both, &["with the new pin, and publish it in the policy; when no old release"]);
}

fn missing_records_name_the_file_of_the_command_too<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.up(&["live"], &[&live, B], &[]);
    published(&fixture, &["list"]);
    fs::remove_file(fixture.site.path(OWN)).expect("records");
    let outcome = fixture.refuses(&["live"], &[A, B], &["no-pin-in-chain", "records-missing"]);
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let file = format!("{}.command.jsonl", machine.trim());
    says(&outcome, &["restore it from a backup", &file, "last resort, locks out those clients: "]);
}

fn a_certificate_without_a_subject_is_named_by_its_san<S: Site>() {
    let fixture = Fixture::<S>::new();
    fixture.pki.leaf("bare", "localhost", "ca");
    fixture.pki.sign("bare", "/", "ca", &leaf_extensions("localhost"));
    let outcome = fixture.refuses(&["bare"], &[A, B], &["no-pin-in-chain"]);
    let pin = fixture.pki.pin("bare.pem");
    says(&outcome, &[&format!("(no subject) SAN localhost, sha256/{pin}, expires 20")]);
    let expiry = outcome.split(", expires ").nth(1).expect("a time");
    assert_eq!(&expiry[19..20], "Z", "{outcome}");
}

fn the_printed_chmod_makes_the_records_trusted<S: Site>() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.up(&["live"], &[&live, B], &[]);
    for (open, code) in [(OWN, "records-unsafe-permissions"), ("records", "records-unreadable")] {
        let path = fixture.site.path(open);
        let mode = fs::metadata(&path).expect("records").permissions().mode() | 0o022;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        let outcome = fixture.refuses(&["live"], &[&live, B, A], &[code]);
        paste(&the_command(&outcome, "chmod "));
        fixture.passes(&["live"], &[&live, B, A], &[]);
    }
}

fn the_printed_chown_makes_the_records_trusted<S: Site>() {
    if !is_root() {
        return;
    }
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.up(&["live"], &[&live, B], &[]);
    for (theirs, codes) in [
        (OWN, &["records-unsafe-permissions", "records-not-writable"][..]),
        ("records", &["records-unreadable"]),
    ] {
        let path = fixture.site.path(theirs);
        std::os::unix::fs::chown(path, Some(65_534), None).expect("another owner");
        let outcome = fixture.refuses(&["live"], &[&live, B, A], codes);
        paste(&the_command(&outcome, "chown root "));
        fixture.passes(&["live"], &[&live, B, A], &[]);
    }
}

fn the_printed_verify_names_the_damage<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.up(&["live"], &[&live, B], &[]);
    let own = fixture.site.path(OWN);
    let records = fs::read_to_string(&own).expect("records");
    fs::write(&own, format!("{records}broken\n")).expect("records");
    let outcome = fixture.refuses(&["live"], &[&live, B, A], &["records-unreadable"]);
    // The command exits with 1 because the records are damaged.
    let found =
        paste(&format!("{} 2>&1 || test $? = 1", the_command(&outcome, "hpkp published -d ")));
    says(&found, &[OWN, "is not a valid record"]);
    fs::write(&own, records).expect("records");
    fixture.passes(&["live"], &[&live, B], &[]);
}

fn the_printed_commands_for_tlsa_records<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.site.path("live.pem");
    let hash = paste(&format!(
        "openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform der | sha256sum | cut -c 1-64",
        live.display()
    ));
    let record = format!("_{}._tcp.localhost. 300 IN TLSA 3 1 1 {hash}", fixture.port);
    let zone = fixture.pki.write("zone", record);
    let zone = zone.to_str().expect("UTF-8");
    published(&fixture, &["import", "--format", "tlsa", "--origin", "zone", zone]);
    fixture.up(&["live"], &[], &[]);
    fixture.pki.leaf("renewed", "localhost", "ca");
    let outcome = fixture.refuses(&["renewed"], &[], &["published-pins-unmet"]);
    says(&outcome, &["for a new certificate: publish its record now, beside the others: "]);
    let all = commands(&outcome, "hpkp published -d ");
    let of = |verb: &str| all.iter().filter(|line| line.contains(verb)).collect::<Vec<_>>();
    let ([import], [end], [waive]) = (&of(" import ")[..], &of(" end ")[..], &of(" waive ")[..])
    else {
        panic!("{all:?}");
    };
    // The zone gets the new record beside the old one. ORIGIN and ZONE in the printed command are placeholders.
    let new = outcome.lines().find_map(|line| line.split_once("beside the others: "));
    let both =
        format!("{}\n{}\n", fs::read_to_string(zone).expect("a zone"), new.expect("a record").1);
    fs::write(zone, both).expect("a zone");
    paste(&import.replace("ORIGIN", "zone").replace("ZONE", zone));
    paste(end);
    // Clients may cache the earlier set of records for twice its time to live.
    fixture.refuses(&["renewed"], &[], &["published-pins-unmet"]);
    paste(waive);
    fixture.passes(&["renewed"], &[], &["waived"]);
}

fn the_printed_rm_continues_without_the_records<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.up(&["live"], &[&live, B], &[]);
    let own = fixture.site.path(OWN);
    let earlier = fs::read(&own).expect("records");
    fixture.takes(&["live"], &[&live, B, A], &[]);

    // The file is restored from a backup that is too old.
    fs::write(&own, earlier).expect("records");
    let outcome = fixture.refuses(&["live"], &[&live, A], &["records-missing"]);
    says(&outcome, &["last resort, locks out those clients: continue with this file: rm "]);
    paste(&the_command(&outcome, "rm "));
    fixture.takes(&["live"], &[&live, A], &[]);

    fs::remove_file(&own).expect("records");
    let outcome = fixture.refuses(&["live"], &[&live, B], &["records-missing"]);
    says(&outcome, &["last resort, locks out those clients: begin without these records: rm "]);
    paste(&the_command(&outcome, "rm "));
    fixture.passes(&["live"], &[&live, B], &[]);
}

fn the_printed_rm_of_a_damaged_reserve_is_safe<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.up(&["live"], &[&live, B], &[]);
    fixture.pki.write("records/hpkp-reserve", "x");
    let outcome = fixture.site.test();
    assert_eq!(outcome.codes(), ["configuration-not-recorded"], "{}", outcome.text);
    paste(&the_command(&outcome.text, "rm "));
    // The recorded pins still count. Before the reload, the server only cannot tell whether records are missing.
    fixture.pki.leaf("renewed", "localhost", "ca");
    let outcome = fixture.one(&["renewed"], &[], |layout| {
        fixture.site.lay_out(layout);
        fixture.site.test()
    });
    assert!(
        outcome.code == Some(1) && outcome.codes().contains(&"published-pins-unmet"),
        "{}",
        outcome.text
    );
    fixture.one(&["live"], &[&live, B], |layout| fixture.site.lay_out(layout));
    assert_eq!(fixture.site.test().code, Some(0));
    fixture.reload(&["configuration-not-recorded"]);
    fixture.passes(&["live"], &[&live, B], &[]);
}

fn the_printed_openssl_makes_a_backup_key<S: Site>() {
    let fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    let outcome = fixture.one(&["live"], &[&live], |layout| {
        fixture.site.lay_out(layout);
        fixture.site.test()
    });
    assert_eq!(outcome.codes(), ["too-few-pins"], "{}", outcome.text);
    let offline = tempfile::tempdir().expect("a directory");
    paste_in(offline.path(), &the_command(&outcome.text, "openssl genpkey "));
    let printed = paste_in(offline.path(), &the_command(&outcome.text, "openssl pkey "));
    let pin = printed.split_whitespace().find_map(|word| word.strip_prefix("sha256/"));
    let pin = pin.unwrap_or_else(|| panic!("a pin in {printed}"));
    fixture.passes(&["live"], &[&live, pin], &[]);
}

fn the_printed_openssl_gives_the_public_key<S: Site>() {
    let fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    let directory = fixture.site.path("");
    for (file, code) in
        [("backup.key", "private-key-as-pin-source"), ("pkcs1.pub", "unreadable-pin-source")]
    {
        if file == "pkcs1.pub" {
            let key = fixture.pki.key("rsa", RSA);
            let public = fixture.site.path(file);
            let mut openssl = Command::new("openssl");
            let convert = openssl.arg("rsa").arg("-in").arg(key);
            succeed(convert.args(["-RSAPublicKey_out", "-out"]).arg(public));
        }
        let pin = |file: &str| format!("file:{}", directory.join(file).display());
        let outcome = fixture.refuses(&["live"], &[&live, &pin(file)], &[code]);
        paste_in(&directory, &the_command(&outcome, "openssl "));
        fixture.passes(&["live"], &[&live, &pin("PUBLIC")], &[]);
    }
}

fn the_printed_end_covers_a_server_that_is_gone<S: Site>() {
    let mut other = Fixture::<S>::new();
    other.published = &["records writer=web-4"];
    other.pki.leaf("new", "localhost", "ca");
    let (old, new) = (other.pki.pin("live.pem"), other.pki.pin("new.pem"));
    other.up(&["live"], &[&old, &new], &[]);

    // This server has the new key already and wants to pin the old key no longer.
    let mut fixture = Fixture::<S>::new();
    for file in ["new.pem", "new.key"] {
        fixture.pki.write(file, other.pki.read(file));
    }
    let copy = fixture.site.path("records/peers/web-4.jsonl");
    fs::copy(other.site.path("records/web-4.jsonl"), &copy).expect("a copy");
    fixture.up(&["new"], &[&old, &new], &[]);
    let outcome = fixture.refuses(&["new"], &[&new, B], &["peer-server-pin-mismatch"]);
    says(&outcome, &["only if web-4 is gone for good: hpkp published -d "]);
    paste(&the_command(&outcome, "hpkp published -d "));
    fixture.takes(&["new"], &[&new, B], &[]);
}

fn the_printed_end_covers_a_server_whose_records_are_lost<S: Site>() {
    let mut other = Fixture::<S>::new();
    other.published = &["records writer=web-4"];
    let theirs = other.pki.pin("live.pem");
    other.up(&["live"], &[&theirs, B], &[]);

    let mut fixture = Fixture::<S>::new();
    for file in ["live.pem", "live.key"] {
        fixture.pki.write(file, other.pki.read(file));
    }
    let copy = fixture.site.path("records/peers/web-4.jsonl");
    fs::copy(other.site.path("records/web-4.jsonl"), &copy).expect("a copy");
    fixture.up(&["live"], &[&theirs, B], &[]);
    fs::remove_file(&copy).expect("a copy");
    let outcome = fixture.refuses(&["live"], &[&theirs, B, A], &["records-missing"]);
    says(&outcome, &["only if web-4 is gone for good: hpkp published -d "]);
    paste(&the_command(&outcome, "hpkp published -d "));
    fixture.takes(&["live"], &[&theirs, B, A], &[]);
}

fn the_printed_end_covers_a_server_that_a_copy_ends<S: Site>() {
    let mut other = Fixture::<S>::new();
    other.published = &["records writer=web-4"];
    let theirs = other.pki.pin("live.pem");
    other.up(&["live"], &[&theirs, B], &[]);
    let records = other.site.path("records");
    let end = "end --writer web-4 --why moved --record-as web-3";
    paste(&format!("hpkp published -d {} {end}", records.display()));

    let mut fixture = Fixture::<S>::new();
    for file in ["live.pem", "live.key"] {
        fixture.pki.write(file, other.pki.read(file));
    }
    for file in ["web-3.jsonl", "web-4.jsonl"] {
        let copy = fixture.site.path(&format!("records/peers/{file}"));
        fs::copy(records.join(file), copy).expect("a copy");
    }
    let ignored = &["peer-record-ignored"];
    fixture.up(&["live"], &[&theirs, B], ignored);
    let outcome = fixture.site.test().text;
    says(&outcome, &["only if web-4 is gone for good: hpkp published -d "]);
    paste(&the_command(&outcome, "hpkp published -d "));
    fixture.passes(&["live"], &[&theirs, B], &[]);
    fixture.expect(ignored);
}
