//! The directive that names a directory with records, and errors of such a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::Server;
use super::configuration::{
    Directive, Part, check, host, max_age, pin, policy, published_pins, uses,
};
use crate::free_port;
use crate::site::B;

/// Makes a test of each case for a server.
#[macro_export]
macro_rules! published_pins {
    ($server:ty) => {
        $crate::published_pins!($server:
            invalid_parameters_of_published_pins_are_refused
            duplicate_directories_are_refused
            missing_directories_are_refused
            directories_that_others_may_write_to_are_refused
            damaged_records_are_refused
        );
    };
    ($server:ty: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::cases::published_pins::$case::<$server>();
            }
        )*
    };
}

/// A server with the directories `records` and `shared`.
fn prepared<S: Server>() -> S {
    let server = S::prepared();
    server.pki().records("records");
    server.pki().records("shared");
    server
}

/// A configuration with these directives and a host that has a policy.
fn with(server: &impl Server, directives: impl IntoIterator<Item = Directive>) -> Vec<Part> {
    let live = server.pki().pin("live.pem");
    let parts = [
        policy("site", [pin(live), pin(B), max_age("1d")]),
        host("localhost", free_port(), &["live"], [uses("site")]),
    ];
    directives.into_iter().map(Part::All).chain(parts).collect()
}

/// A configuration with one directory only.
fn one(server: &impl Server, words: &[&str]) -> Vec<Part> {
    with(server, [published_pins(words).here()])
}

pub fn invalid_parameters_of_published_pins_are_refused<S: Server>() {
    let server = prepared::<S>();
    for (words, text) in [
        (&["records", "nonsense"][..], "invalid parameter \"nonsense\""),
        (&["records", "READ_ONLY"], "invalid parameter \"READ_ONLY\""),
        (&["records", "writer"], "invalid parameter \"writer\""),
        (&["records", "writer=a", "writer=b"], "invalid parameter \"writer=b\""),
        (&["records", "read_only", "read_only"], "invalid parameter \"read_only\""),
        (&["records", "writer="], "invalid writer name \"\""),
        (&["records", "writer=../a"], "invalid writer name \"../a\""),
        (&["records", "writer=a b"], "invalid writer name \"a b\""),
        (&["records", "writer=a", "read_only"], "cannot be combined"),
        (&["records", "read_only", "writer=a"], "cannot be combined"),
        (&[""], "missing directory"),
    ] {
        server.refuses_for(&one(&server, words), text);
    }
    server.accepts(&one(&server, &["records"]), &[]);
    server.accepts(&one(&server, &["records", "writer=Web_1.example"]), &[]);
    server.accepts(&one(&server, &["records", "read_only"]), &["published-pins-no-writer"]);
    // A path may be absolute, or relative like the server's other paths.
    let absolute = server.path("records").display().to_string();
    server.accepts(&one(&server, &[&absolute]), &[]);
    // A config test writes nothing.
    assert_eq!(fs::read_dir(absolute).expect("a directory").count(), 2);
}

pub fn duplicate_directories_are_refused<S: Server>() {
    let server = prepared::<S>();
    let both = |first: &[&str], second: &[&str]| {
        with(&server, [published_pins(first), published_pins(second).here()])
    };
    let absolute = server.path("records").display().to_string();
    for words in [&["records"][..], &["records", "read_only"], &[&absolute, "read_only"]] {
        server.refuses_for(&both(&["records"], words), "duplicate directory \"");
    }
    for words in [&["shared"][..], &["shared", "writer=a"]] {
        let outcome = server.refuses_for(
            &both(&["records"], words),
            "only one directory can be written to, and that is configured at ",
        );
        assert!(outcome.text.contains("add \"read_only\" to the others"), "{}", outcome.text);
    }
    server.accepts(&both(&["records"], &["shared", "read_only"]), &[]);
    server.accepts(&both(&["shared", "read_only"], &["records"]), &[]);
}

const UNREADABLE: &str = "records-unreadable";

pub fn missing_directories_are_refused<S: Server>() {
    let server = prepared::<S>();
    let pki = server.pki();
    pki.write("file", "");
    fs::create_dir(pki.path("unmarked")).expect("a directory");
    std::os::unix::fs::symlink(pki.path("records"), pki.path("link")).expect("a link");
    pki.records("newer");
    pki.write("newer/hpkp-records", "2\n");
    for (directory, text) in [
        ("missing", "does not exist"),
        ("file", "cannot open as a directory"),
        ("link", "cannot open as a directory"),
        ("unmarked", "has no file \"hpkp-records\""),
        ("newer", "unsupported format version \"2\""),
    ] {
        let outcome = server.refuses(&one(&server, &[directory]), UNREADABLE);
        assert!(outcome.text.contains(text), "{directory}: {}", outcome.text);
        // The finding has the full path, also of a relative one.
        let path = server.path(directory).display().to_string();
        assert!(
            outcome.text.contains(&format!("the records of published pins: \"{path}\"")),
            "{}",
            outcome.text
        );
        server.refuses(&one(&server, &[directory, "read_only"]), UNREADABLE);
    }
    // With `check warn`, unreadable records do not refuse the host.
    let warned = with(&server, [published_pins(&["missing"]), check("warn")]);
    server.accepts(&warned, &[UNREADABLE]);
}

pub fn directories_that_others_may_write_to_are_refused<S: Server>() {
    let server = prepared::<S>();
    for mode in [0o775, 0o757] {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(server.path("records"), mode).expect("a mode");
        let outcome = server.refuses(&one(&server, &["records"]), UNREADABLE);
        assert!(
            outcome.text.contains("other users can write to the directory"),
            "{}",
            outcome.text
        );
    }
    fs::set_permissions(server.path("records"), fs::Permissions::from_mode(0o755)).expect("a mode");
    server.accepts(&one(&server, &["records"]), &[]);
}

pub fn damaged_records_are_refused<S: Server>() {
    let server = prepared::<S>();
    let line = hpkp_core::published::Event::new(
        1_800_000_000,
        1,
        "web-2".parse().expect("a name"),
        hpkp_core::published::Body::Compromised(hpkp_core::published::Compromised {
            pin: hpkp_core::pin::Pin::from_bytes([9; 32]),
            why: "a test".into(),
        }),
    );
    let line = line.line();
    let newer = line.replace("\"v\":2", "\"v\":3");
    let changed = line.replace("a test", "a jest");
    assert!(newer != line && changed != line);
    for (directory, words) in
        [("records", &["records"][..]), ("shared/peers", &["shared", "read_only"])]
    {
        let directives = || {
            let own = (words[0] != "records").then(|| published_pins(&["records"]));
            with(&server, own.into_iter().chain([published_pins(words).here()]))
        };
        let file = format!("{directory}/web-2.jsonl");
        let path = server.path(&file).display().to_string();
        for (wrong, text) in [
            (&newer, "version"),
            (&changed, "was edited or damaged"),
            (&"{}".to_owned(), ""),
            (&"\u{1b}[31m".to_owned(), ""),
        ] {
            server.pki().write(&file, format!("{line}\n{wrong}\n{line}\n"));
            let outcome = server.refuses(&directives(), UNREADABLE);
            let named = format!("cannot use the records in \"{path}\": line 2 ");
            let first = outcome.text.lines().find(|line| line.contains(&named));
            let first = first.unwrap_or_else(|| panic!("no {named:?}: {}", outcome.text));
            assert!(first.contains(text) && !first.contains('\u{1b}'), "{text}: {first}");
        }
        server.pki().write(&file, format!("{line}\n{}", &line[..40]));
        let outcome = server.accepts(&directives(), &["truncated-record"]);
        let named = format!("the last line of \"{path}\" is incomplete (40 bytes)");
        assert!(outcome.text.contains(&named), "{}", outcome.text);
        server.pki().write(&file, format!("{line}\n"));
        server.accepts(&directives(), &[]);
        // Remove it: a copy under the name of a writer of this machine would be another case.
        fs::remove_file(server.path(&file)).expect("a file");
    }
}
