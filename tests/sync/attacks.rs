//! Attacks by a machine that may write into the store, or by its operator: to reach files of other machines, to run
//! programs there, to fill their disks, or to keep them waiting.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::engine::Directory;
use crate::git;
use crate::machine::Machine;
use crate::postgres::Postgres;
use crate::{succeed, wait_for};

/// Locks and directories of a shared directory are replaced by links to files of this machine.
#[test]
fn links_in_a_shared_directory_are_not_followed() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 1);
    fleet[0].sync().fine();
    let private = tempfile::tempdir().unwrap();
    let secret = private.path().join("shadow");
    fs::write(&secret, "root:x\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let store = engine.at.path().join("store");
    let is_untouched = || {
        let mode = fs::metadata(&secret).unwrap().permissions().mode() & 0o777;
        let names: Vec<_> =
            fs::read_dir(private.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!((mode, fs::read(&secret).unwrap().as_slice()), (0o600, &b"root:x\n"[..]));
        assert_eq!(names, ["shadow"]);
    };
    let lease = ["--json", "--settle", "1", "--lease", "a.example", "--then", "true"];
    for lock in ["records/.web-1.lock", "leases/.lock"] {
        let lock = store.join(lock);
        fs::remove_file(&lock).unwrap_or_default();
        symlink(&secret, &lock).unwrap();
        fleet[0].add(1);
        assert_eq!(fleet[0].run(&lease).code, Some(3));
        is_untouched();
        fs::remove_file(&lock).unwrap();
        fleet[0].run(&lease).fine();
    }
    for directory in ["records", "heartbeats", "leases"] {
        let (there, away) = (store.join(directory), store.join("away"));
        fs::rename(&there, &away).unwrap();
        symlink(private.path(), &there).unwrap();
        fleet[0].add(1);
        let outcome = fleet[0].run(&lease);
        assert_eq!(outcome.codes(), ["store-unavailable", "command-not-run"], "{outcome:?}");
        assert!(outcome.err.contains("not a directory"), "{outcome:?}");
        is_untouched();
        fs::remove_file(&there).unwrap();
        fs::rename(&away, &there).unwrap();
        fleet[0].run(&lease).fine();
    }
    // A lock file keeps the mode that the process gave it that created it.
    let mode = fs::metadata(store.join("records/.web-1.lock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
}

/// The configuration of a mounted repository names a program that fetches missing objects, and a path to check out to.
#[test]
fn a_repository_fetches_and_checks_out_nothing_on_this_machine() {
    let engine = git::File::start();
    let mut fleet = Machine::fleet(&engine, 1);
    fleet[0].add(200);
    fleet[0].sync().fine();
    let traces = tempfile::tempdir().unwrap();
    let (trace, worktree) = (traces.path().join("ran"), traces.path().join("worktree"));
    fs::create_dir(&worktree).unwrap();
    let store = engine.path();
    let git = |arguments: &[&str]| {
        succeed("git", &[&["--git-dir", store.to_str().unwrap()], arguments].concat())
    };
    let run = format!("touch {}; cat", trace.display());
    git(&["symbolic-ref", "HEAD", "refs/heads/hpkp"]);
    git(&["read-tree", "hpkp"]);
    let at = format!("--work-tree={}", worktree.display());
    git(&[&at, "update-index", "--skip-worktree", "hpkp-store", "web-1.jsonl"]);
    fs::create_dir_all(store.join("info")).unwrap();
    fs::write(store.join("info/attributes"), "* filter=evil\n").unwrap();
    for (name, value) in [
        ("filter.evil.smudge", run.as_str()),
        ("core.worktree", worktree.to_str().unwrap()),
        ("core.bare", "false"),
        ("receive.denyCurrentBranch", "updateInstead"),
    ] {
        git(&["config", name, value]);
    }
    fleet[0].add(1);
    fleet[0].sync().fine();
    assert!(!trace.exists() && fs::read_dir(&worktree).unwrap().next().is_none());

    // The object against which a push compresses new records is missing.
    let blob = git(&["rev-parse", "hpkp:web-1.jsonl"]);
    let (first, rest) = blob.trim().split_at(2);
    fs::remove_file(store.join("objects").join(first).join(rest)).unwrap();
    for (name, value) in [
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "evil"),
        ("remote.evil.url", "/nowhere"),
        ("remote.evil.promisor", "true"),
        ("remote.evil.uploadpack", &run),
    ] {
        git(&["config", name, value]);
    }
    fleet[0].add(1);
    assert_eq!(fleet[0].sync().code, Some(3));
    assert!(!trace.exists());
}

/// The path of the machine's copy of the repository.
fn copy_of_repository(machine: &Machine) -> PathBuf {
    let cache = fs::read_dir(machine.at.path().join("cache/hpkp")).unwrap();
    let mut paths = cache.map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|end| end == "git")).unwrap()
}

/// Records of other machines must not fill the disk on which the server keeps its own records.
#[test]
fn copies_have_limits() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 3);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    fleet[0].sync().fine();
    let copy = fleet[0].copy_of("web-2");
    // A sparse file: as large as many copies, but only a few bytes on the disk.
    let large = fleet[0].path().join("peers/.large.new");
    fs::File::create(&large).unwrap().set_len(2_000_000_000 - 300).unwrap();
    fleet[1].add(20);
    fleet[1].sync().fine();
    fleet[0].sync().found("peer-records-limit");
    assert_eq!(fleet[0].copy_of("web-2"), copy);
    // A config test in the command would not know the missing records.
    let outcome = fleet[0].run(&["--json", "--then", "true"]);
    assert_eq!(outcome.codes(), ["peer-records-limit", "command-not-run"], "{outcome:?}");
    fs::remove_file(&large).unwrap();
    fleet[0].sync().fine();
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
}

/// The copy of a repository has a size limit, and a pass removes unfinished files of a killed `git`.
#[test]
fn the_copy_of_a_repository_has_a_limit() {
    let engine = git::File::start();
    let mut fleet = Machine::fleet(&engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    let objects = copy_of_repository(&fleet[0]).join("objects");
    let unfinished = objects.join("pack/tmp_pack_abcdef");
    fs::File::create(&unfinished).unwrap().set_len(5_000_000_000).unwrap();
    fleet[0].sync().fine();
    assert!(!unfinished.exists());
    fs::File::create(objects.join("pack/large")).unwrap().set_len(5_000_000_000).unwrap();
    fleet[1].add(1);
    fleet[1].sync().fine();
    let outcome = fleet[0].sync();
    outcome.found("store-limit");
    fleet[0].sync().fine();
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
}

/// A role of the database has taken a lease that never expires. The finding names the holder.
#[test]
fn the_holder_of_a_lease_without_end_is_reported() {
    let postgres = Postgres::start();
    let fleet = Machine::fleet(&postgres, 1);
    let lease = ["--json", "--settle", "1", "--lease", "a.example", "--then", "true"];
    for until in ["infinity", "9999-01-01"] {
        postgres.sql(
            "hpkp",
            &format!(
                "INSERT INTO hpkp.lease VALUES ('a.example', 'postgres', 'web-9', 'x', '{until}')"
            ),
        );
        let outcome = fleet[0].run(&lease);
        assert_eq!(outcome.codes(), ["lease-held", "command-not-run"], "{outcome:?}");
        assert!(outcome.err.contains("web-9 has the lease"), "{outcome:?}");
        postgres.sql("hpkp", "DELETE FROM hpkp.lease");
    }
    fleet[0].run(&lease).fine();
}

/// Any role of the database may send notifications without a limit.
#[test]
fn frequent_notifications_cause_few_passes() {
    let postgres = Postgres::start();
    let fleet = Machine::fleet(&postgres, 1);
    let mut waiting = fleet[0].command(&["--watch", "3600"]).stdout(Stdio::null()).spawn().unwrap();
    let number = || {
        let beat = postgres.sql("hpkp", "SELECT heartbeat FROM hpkp.writer");
        serde_json::from_str::<serde_json::Value>(&beat).ok()?["number"].as_u64()
    };
    wait_for("a first pass", || number().is_some());
    let (started, before) = (Instant::now(), number().unwrap());
    while started.elapsed() < Duration::from_secs(6) {
        postgres.sql("hpkp", "NOTIFY hpkp");
    }
    let (passes, most) = (number().unwrap() - before, started.elapsed().as_secs() + 3);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    // Each pass raises the number, which is the time in seconds if that is higher.
    assert!(passes > 3 && passes <= most, "{passes} of {most}");
}

/// An object storage server answers each request for a page of a listing with a page that is not the last.
#[test]
fn a_listing_without_end_is_given_up() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    let mut machine = Machine::new(&Directory::start(), "web-1");
    machine.add(1);
    machine.url = format!("s3://bucket/prefix?endpoint=http://127.0.0.1:{port}");
    machine.environment = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let started = Instant::now();
    let outcome = machine.run(&["--json", "--timeout", "1"]);
    outcome.found("store-unavailable");
    assert!(outcome.err.contains("did not end within 10 seconds"), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// Answers with the marker of a store, or with an empty page of a listing that is not the last page.
fn answer(stream: TcpStream) {
    let mut requests = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if requests.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut line = first.clone();
        while !line.trim().is_empty() {
            line.clear();
            if requests.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
        }
        let body = match first.contains("list-type=2") {
            true => {
                "<ListBucketResult><IsTruncated>true</IsTruncated>\
                 <NextContinuationToken>x</NextContinuationToken></ListBucketResult>"
            }
            false => "1\n",
        };
        let head = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nLast-Modified: Mon, 01 Mar 2027 10:00:00 GMT\r\nContent-Length:";
        if write!(stream, "{head} {}\r\n\r\n{body}", body.len()).is_err() {
            return;
        }
    }
}
