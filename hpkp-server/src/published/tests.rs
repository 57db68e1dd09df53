use super::*;
use crate::owner::effective_user;

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use hpkp_core::check::Digest;
use hpkp_core::pin::Pin;
use hpkp_core::published::{Body, Compromised, Event, Presents, file};

/// A new directory for records, for one test.
struct Fresh(tempfile::TempDir);

impl Fresh {
    fn new() -> Self {
        let fresh = Self(tempfile::tempdir().unwrap());
        init(&fresh.path()).unwrap();
        fresh
    }

    fn path(&self) -> String {
        self.0.path().join("records").to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("records").join(name)
    }

    fn open(&self) -> Directory {
        Directory::open(&self.path()).unwrap()
    }
}

pub(super) fn event(seq: u64) -> Event {
    let why = format!("number {seq}");
    let body = Body::Compromised(Compromised { pin: Pin::from_bytes([7; 32]), why });
    Event::new(1_800_000_000, seq, "web-1".parse().unwrap(), body)
}

/// The numbers of the events in the writer's file, without an incomplete last line.
fn numbers(file: &Path) -> Vec<u64> {
    let contents = hpkp_core::published::file::read(&fs::read(file).unwrap()).unwrap();
    let events = contents.events.iter().filter(|e| !matches!(e.body(), Body::Writer(_)));
    events.map(Event::seq).collect()
}

#[test]
fn appended_events_are_read() {
    let fresh = Fresh::new();
    let directory = fresh.open();
    append(&directory, &[]).unwrap();
    assert!(directory.read().unwrap().state.is_empty());
    append(&directory, &[event(1), event(2)]).unwrap();
    append(&directory, &[event(3)]).unwrap();
    assert_eq!(numbers(&fresh.file("web-1.jsonl")), [1, 2, 3]);
    let contents = directory.read().unwrap();
    assert_eq!(contents.state.last_seq(&"web-1".parse().unwrap()), 3);
    assert_eq!(contents.torn, []);
    let mode = fs::metadata(fresh.file("web-1.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o133, 0, "{mode:o}");
}

#[test]
fn an_event_number_that_is_taken_is_refused() {
    let fresh = Fresh::new();
    let directory = fresh.open();
    append(&directory, &[event(1)]).unwrap();
    let error = append(&directory, &[event(1)]).unwrap_err();
    assert!(matches!(error, DirectoryError::Changed(_)), "{error}");
    assert_eq!(numbers(&fresh.file("web-1.jsonl")), [1]);
}

#[test]
fn an_incomplete_last_line_is_skipped_and_removed() {
    let fresh = Fresh::new();
    let directory = fresh.open();
    append(&directory, &[event(1)]).unwrap();
    let path = fresh.file("web-1.jsonl");
    let mut torn = fs::read(&path).unwrap();
    torn.extend(&event(2).line().as_bytes()[..40]);
    fs::write(&path, torn).unwrap();
    assert_eq!(directory.read().unwrap().torn.len(), 1);
    append(&directory, &[event(2)]).unwrap();
    assert_eq!(directory.read().unwrap().torn, []);
    assert_eq!(numbers(&path), [1, 2]);
}

#[test]
fn a_copied_file_is_read_and_not_appended_to() {
    let (here, there) = (Fresh::new(), Fresh::new());
    append(&here.open(), &[event(1)]).unwrap();
    let whole = fs::read_to_string(here.file("web-1.jsonl")).unwrap();
    let identity = Body::Writer(hpkp_core::published::Identity {
        instance: "x".into(),
        machine: hpkp_core::published::Identity::machine_of(b"another machine"),
    });
    let identity = Event::new(0, 0, "web-1".parse().unwrap(), identity);
    let rest = whole.split_once('\n').unwrap().1;
    fs::write(there.file("web-1.jsonl"), format!("{}\n{rest}", identity.line())).unwrap();
    let directory = there.open();
    assert!(!directory.read().unwrap().state.is_empty());
    let error = append(&directory, &[event(2)]).unwrap_err();
    assert!(matches!(error, DirectoryError::Copied(_)), "{error}");
    fs::write(there.file("web-1.jsonl"), rest).unwrap();
    let error = append(&directory, &[event(2)]).unwrap_err();
    assert!(matches!(error, DirectoryError::NotOwn(..)), "{error}");
}

#[test]
fn a_directory_that_is_not_for_records_is_refused() {
    let missing = Fresh::new();
    fs::remove_dir_all(missing.path()).unwrap();
    let error = Directory::open(&missing.path()).unwrap_err();
    assert!(matches!(error, DirectoryError::Open(_)), "{error}");

    let unmounted = Fresh::new();
    fs::remove_file(unmounted.file(MARKER)).unwrap();
    let error = Directory::open(&unmounted.path()).unwrap_err();
    assert!(matches!(error, DirectoryError::NoMarker), "{error}");

    let newer = Fresh::new();
    fs::write(newer.file(MARKER), "2\n").unwrap();
    let error = Directory::open(&newer.path()).unwrap_err();
    assert!(matches!(&error, DirectoryError::Version(v) if v == "2"), "{error}");

    let linked = Fresh::new();
    let link = linked.0.path().join("link");
    symlink(linked.path(), &link).unwrap();
    let error = Directory::open(link.to_str().unwrap()).unwrap_err();
    assert!(matches!(error, DirectoryError::Open(_)), "{error}");

    let open_to_all = Fresh::new();
    fs::set_permissions(open_to_all.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Directory::open(&open_to_all.path()).unwrap_err();
    assert!(matches!(error, DirectoryError::Mode(_, 0o777)), "{error}");

    let file = open_to_all.file(MARKER);
    let error = Directory::open(file.to_str().unwrap()).unwrap_err();
    assert!(matches!(error, DirectoryError::Open(_)), "{error}");
}

#[test]
fn files_and_directories_of_another_user_are_refused() {
    if effective_user() != 0 {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let fresh = Fresh::new();
    append(&fresh.open(), &[event(1)]).unwrap();
    chown(fresh.file("web-1.jsonl"), Some(65_534), None).unwrap();
    let error = append(&fresh.open(), &[event(2)]).unwrap_err();
    assert!(matches!(error, DirectoryError::NotOwn(..)), "{error}");
    // A file that is only read may belong to another user, such as the one that copies files.
    assert!(!fresh.open().read().unwrap().state.is_empty());
    chown(fresh.path(), Some(65_534), None).unwrap();
    let error = Directory::open(&fresh.path()).unwrap_err();
    assert!(matches!(error, DirectoryError::Owner(65_534)), "{error}");
}

#[test]
fn a_link_or_a_fifo_in_place_of_the_file_is_refused() {
    let fresh = Fresh::new();
    let directory = fresh.open();
    append(&directory, &[event(1)]).unwrap();
    let (own, other) = (fresh.file("web-1.jsonl"), fresh.file("other"));
    fs::hard_link(&own, &other).unwrap();
    let error = append(&directory, &[event(2)]).unwrap_err();
    assert!(matches!(error, DirectoryError::NotOwn(..)), "{error}");
    fs::remove_file(&own).unwrap();
    symlink(&other, &own).unwrap();
    let error = append(&directory, &[event(2)]).unwrap_err();
    assert!(matches!(error, DirectoryError::Write(..)), "{error}");
    assert!(matches!(directory.read().unwrap_err(), DirectoryError::File(..)));
    fs::remove_file(&own).unwrap();
    assert!(Command::new("mkfifo").arg(&own).status().unwrap().success());
    assert!(matches!(directory.read().unwrap_err(), DirectoryError::File(..)));
    let error = append(&directory, &[event(2)]).unwrap_err();
    assert!(matches!(error, DirectoryError::NotOwn(..)), "{error}");
    assert_eq!(numbers(&other), [1]);
}

#[test]
fn copies_are_read_and_invalid_ones_are_reported() {
    let (here, there) = (Fresh::new(), Fresh::new());
    append(&there.open(), &[event(1)]).unwrap();
    let peers = here.file(PEERS);
    fs::copy(there.file("web-1.jsonl"), peers.join("web-1.jsonl")).unwrap();
    fs::write(peers.join("README"), "not read").unwrap();
    fs::write(peers.join(".web-2.jsonl.part"), "not read").unwrap();
    assert_eq!(here.open().read().unwrap().state.last_seq(&"web-1".parse().unwrap()), 1);

    let garbage = File::create(peers.join("garbage.jsonl")).unwrap();
    garbage.set_len(100 << 20).unwrap();
    let error = here.open().read().unwrap_err();
    let DirectoryError::Records(file, _) = &error else { panic!("{error}") };
    assert!(file.ends_with("peers/garbage.jsonl"), "{file}");
    fs::remove_file(peers.join("garbage.jsonl")).unwrap();

    // Files without records do not count towards the limit.
    for number in 0..=MAX_FILES {
        fs::write(peers.join(format!("{number}.jsonl")), "").unwrap();
        fs::write(here.file(&format!(".web-9.jsonl.{number}")), "x").unwrap();
        fs::write(here.file(&format!("{number}")), "x").unwrap();
    }
    assert_eq!(here.open().read().unwrap().state.last_seq(&"web-1".parse().unwrap()), 1);
    for number in 0..=MAX_FILES {
        fs::write(peers.join(format!("{number}.jsonl")), "{").unwrap();
    }
    // A command reads all of them; only a server has the limit.
    assert_eq!(here.open().read().unwrap().torn.len(), MAX_FILES + 1);
    let (mut contents, none) = (Contents::default(), HashSet::new());
    let error = here.open().read_peers(&mut contents, &none, &Concern::none()).remove(0);
    let DirectoryError::TooManyFiles(path, _) = &error else { panic!("{error}") };
    assert!(path.ends_with("/peers"), "{path}");
    let [_, fix] = &error.text(&here.path()).fix[..] else { panic!("{error}") };
    assert!(fix.ends_with(&format!(": ls -tr {path}")), "{fix}");
}

/// The lines of a file of `writer` with these events.
fn lines(writer: &str, bodies: Vec<Body>) -> String {
    let events = bodies.into_iter().zip(1..);
    let lines = events
        .map(|(body, seq)| Event::new(1_800_000_000, seq, writer.parse().unwrap(), body))
        .map(|event| format!("{}\n", event.line()));
    lines.collect()
}

#[test]
fn a_copy_does_not_count_for_a_writer_of_this_machine() {
    let fresh = Fresh::new();
    let directory = fresh.open();
    append(&directory, &[event(1)]).unwrap();
    let body = || event(9).body().clone();
    let records = lines("web-1", vec![body(), body(), body()]);
    let copy = fresh.file(PEERS).join("web-1.jsonl");
    fs::write(&copy, &records).unwrap();
    let mut contents = Contents::default();
    let errors = directory.read_each(&mut contents);
    assert!(errors.is_empty(), "{errors:?}");
    let [(file, writer)] = contents.in_our_name.as_slice() else { panic!("not told") };
    assert!(file.ends_with("peers/web-1.jsonl") && writer.as_str() == "web-1", "{file}");
    assert_eq!(contents.state.last_seq(writer), 1);
    fs::remove_file(&copy).unwrap();
    // A file of one writer does not count for another writer either.
    for (name, records) in [
        ("peers/web-3.jsonl", lines("web-2", vec![body()])),
        ("peers/web-9.jsonl", records),
        ("peers/web 3.jsonl", lines("web-3", vec![body()])),
        ("web-3.jsonl", lines("web-2", vec![body()])),
    ] {
        fs::write(fresh.file(name), records).unwrap();
        let mut contents = Contents::default();
        let errors = directory.read_each(&mut contents);
        assert_eq!(errors.len(), 1, "{name}");
        assert!(errors[0].file().unwrap().ends_with(name), "{name}");
        assert_eq!(contents.state.last_seq(&"web-2".parse().unwrap()), 0, "{name}");
        fs::remove_file(fresh.file(name)).unwrap();
    }
}

#[test]
fn a_file_that_others_may_write_is_reported() {
    let fresh = Fresh::new();
    append(&fresh.open(), &[event(1)]).unwrap();
    let unsafe_files = || {
        let mut contents = Contents::default();
        assert!(fresh.open().read_each(&mut contents).is_empty());
        contents.unsafe_files.len()
    };
    assert_eq!(unsafe_files(), 0);
    let set = |mode| {
        fs::set_permissions(fresh.file("web-1.jsonl"), fs::Permissions::from_mode(mode)).unwrap();
    };
    for (mode, count) in [(0o664, 1), (0o646, 1), (0o644, 0)] {
        set(mode);
        assert_eq!(unsafe_files(), count, "{mode:o}");
    }
    if effective_user() == 0 {
        chown(fresh.file("web-1.jsonl"), Some(65_534), None).unwrap();
        assert_eq!(unsafe_files(), 1);
    }
}

#[test]
fn an_unrecorded_digest_stays_in_its_slot() {
    let fresh = Fresh::new();
    let directory = fresh.open();
    let (one, two): (WriterName, WriterName) = ("web-1".parse().unwrap(), "web".parse().unwrap());
    let digest: Digest = "00112233445566778899aabbccddeeff".parse().unwrap();
    let length = || fs::metadata(fresh.file(RESERVE)).unwrap().len();
    let before = length();
    assert_eq!(directory.reserved(&one).unwrap(), Reserved::None);
    directory.reserve(&one, Reserved::Unrecorded(digest), Some(7)).unwrap();
    directory.reserve(&two, Reserved::Recorded(None), Some(7)).unwrap();
    assert_eq!(directory.reserved(&one).unwrap(), Reserved::Unrecorded(digest));
    assert_eq!(directory.reserved(&two).unwrap(), Reserved::Recorded(None));
    directory.reserve(&one, Reserved::Recorded(Some(digest)), Some(7)).unwrap();
    assert_eq!(directory.reserved(&one).unwrap(), Reserved::Recorded(Some(digest)));
    // The longest name and number fit into a slot.
    let longest: WriterName = "w".repeat(WriterName::MAX).parse().unwrap();
    directory.reserve(&longest, Reserved::Recorded(Some(digest)), Some(u64::MAX)).unwrap();
    assert_eq!(directory.reserved(&longest).unwrap(), Reserved::Recorded(Some(digest)));
    assert_eq!(directory.noted(&longest), Some(u64::MAX));
    // The reserve was created with its full length, so it can be written on a full disk.
    assert_eq!((before, length()), (8_192, 8_192));
    // An older version has not created the reserve.
    fs::remove_file(fresh.file(RESERVE)).unwrap();
    assert_eq!(directory.reserved(&one).unwrap(), Reserved::None);
    directory.reserve(&one, Reserved::Unrecorded(digest), Some(7)).unwrap();
    assert_eq!(directory.reserved(&one).unwrap(), Reserved::Unrecorded(digest));
    // All slots are taken.
    for number in 1..64 {
        directory
            .reserve(&format!("w{number}").parse().unwrap(), Reserved::Recorded(None), Some(7))
            .unwrap();
    }
    assert!(
        directory.reserve(&"one-more".parse().unwrap(), Reserved::Recorded(None), Some(7)).is_err()
    );
    let text = fs::read_to_string(fresh.file(RESERVE)).unwrap();
    fs::write(fresh.file(RESERVE), text.replacen(&digest.to_string(), "damaged", 1)).unwrap();
    assert_eq!(directory.reserved(&one).unwrap(), Reserved::Damaged);
}

#[test]
fn a_damaged_reserve_is_reported_and_rewritten() {
    let fresh = Fresh::new();
    let directory = fresh.open();
    let one: WriterName = "web-1".parse().unwrap();
    let reserve = fresh.file(RESERVE);
    let whole = fs::read(&reserve).unwrap();
    let damages: [Vec<u8>; 5] =
        [vec![0; 8192], vec![0xff; 8192], Vec::new(), whole[..100].to_vec(), b"x\n".repeat(4096)];
    for damage in damages {
        fs::write(&reserve, &damage).unwrap();
        assert_eq!(directory.reserved(&one).unwrap(), Reserved::Damaged);
        directory.reserve(&one, Reserved::Recorded(None), Some(3)).unwrap();
        assert_eq!(directory.reserved(&one).unwrap(), Reserved::Recorded(None));
        assert_eq!(directory.noted(&one), Some(3));
        // The slot of another writer may have been lost as well.
        assert_eq!(directory.reserved(&"web-2".parse().unwrap()).unwrap(), Reserved::Damaged);
    }
    // A slot in the old format, without a number.
    fs::write(&reserve, &whole).unwrap();
    let old = format!("{:<127}\n", "web-1 recorded");
    fs::write(&reserve, [old.as_bytes(), &whole[128..]].concat()).unwrap();
    assert_eq!(
        (directory.reserved(&one).unwrap(), directory.noted(&one)),
        (Reserved::Recorded(None), None)
    );
    // With such a slot, the number of the last written event is not known, even if no event is recorded now.
    directory.reserve(&one, Reserved::Recorded(None), Some(0)).unwrap();
    assert_eq!(directory.noted(&one), None);
    // The number never goes back.
    directory.reserve(&one, Reserved::Recorded(None), Some(9)).unwrap();
    directory.reserve(&one, Reserved::Recorded(None), Some(4)).unwrap();
    assert_eq!(directory.noted(&one), Some(9));
}

#[test]
fn an_init_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records");
    fs::create_dir(&path).unwrap();
    // The marker cannot be written, because its name is a broken link.
    symlink("/nowhere", path.join(MARKER)).unwrap();
    assert!(init(path.to_str().unwrap()).is_err());
    let left: Vec<_> =
        fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [MARKER]);
    assert!(init(dir.path().join("no/where").to_str().unwrap()).is_err());
    assert!(!dir.path().join("no").exists());
    // An existing directory may be unusable for a server.
    let names = |path: &Path| fs::read_dir(path).unwrap().count();
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o2775)).unwrap();
    let error = init(shared.to_str().unwrap()).unwrap_err();
    assert!(matches!(error, DirectoryError::Mode(_, 0o2775)), "{error}");
    assert_eq!(names(&shared), 0);
    let odd = dir.path().join("odd");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("peers"), "").unwrap();
    assert!(init(odd.to_str().unwrap()).is_err());
    assert_eq!(names(&odd), 1);
    // A directory inside the shared one is usable, as the message says.
    let within = shared.join("hpkp").to_str().unwrap().to_owned();
    assert!(error.to_string().ends_with(&format!(": hpkp published init {within}")), "{error}");
    init(&within).unwrap();
}

#[test]
fn a_file_name_with_invalid_utf_8_is_reported() {
    let fresh = Fresh::new();
    let name = std::ffi::OsString::from_vec(b"\xff\xfe.jsonl".to_vec());
    fs::write(Path::new(&fresh.file("peers")).join(name), "x").unwrap();
    let errors = fresh.open().read_each(&mut Contents::default());
    assert!(matches!(errors[..], [DirectoryError::Unnamed(_)]), "{errors:?}");
}

#[test]
fn writers_of_one_directory_do_not_disturb_each_other() {
    let fresh = Fresh::new();
    std::thread::scope(|scope| {
        for writer in ["a", "b", "c"] {
            let directory = fresh.open();
            scope.spawn(move || {
                for seq in 1..50 {
                    let body = event(seq).body().clone();
                    let event = Event::new(0, seq, writer.parse().unwrap(), body);
                    append(&directory, &[event]).unwrap();
                }
            });
        }
    });
    for writer in ["a", "b", "c"] {
        let file = fresh.file(&format!("{writer}.jsonl"));
        assert_eq!(numbers(&file), (1..50).collect::<Vec<_>>());
    }
}

#[test]
fn a_file_that_another_process_has_locked_is_waited_for() {
    let fresh = Fresh::new();
    append(&fresh.open(), &[event(1)]).unwrap();
    let locked = File::open(fresh.file("web-1.jsonl")).unwrap();
    // A child that another test is starting now inherits the descriptor that `append` has closed, until it executes
    // its program.
    while !sys::lock(&locked).unwrap() {
        std::thread::yield_now();
    }
    let directory = fresh.open();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| append(&directory, &[event(2)]));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waiting.is_finished());
        drop(locked);
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(numbers(&fresh.file("web-1.jsonl")), [1, 2]);
}

/// Environment variable of the child: the directory to which it appends until it ends.
const CHILD: &str = "HPKP_TEST_APPEND";
/// Environment variable of the child: the limit of the size of its files.
const LIMIT: &str = "HPKP_TEST_LIMIT";

/// The program that the tests below start. It prints the number of each event that has been acknowledged.
#[test]
#[ignore = "the program of other tests"]
fn child() {
    let path = std::env::var(CHILD).expect("a test that starts this");
    if let Ok(limit) = std::env::var(LIMIT) {
        let limit = limit.parse().unwrap();
        let limits = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // Without the signal, a write beyond the limit fails and does not end the process.
        // SAFETY: setrlimit only reads the limits; SIG_IGN is a valid handler.
        unsafe {
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limits), 0);
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        }
    }
    let directory = Directory::open(&path).unwrap();
    let mut next = 1 + directory.read().unwrap().state.last_seq(&"web-1".parse().unwrap());
    loop {
        let events = [event(next), event(next + 1), event(next + 2)];
        if let Err(error) = append(&directory, &events) {
            println!("failed: {error}");
            return;
        }
        next += 3;
        println!("acknowledged {}", next - 1);
    }
}

fn start_child(path: &str, limit: Option<&str>) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "published::tests::child", "--nocapture", "--test-threads=1"]);
    command.arg("--ignored");
    command.env(CHILD, path).stdout(Stdio::piped());
    if let Some(limit) = limit {
        command.env(LIMIT, limit);
    }
    command.spawn().unwrap()
}

/// The last number that a child printed as acknowledged, and its output.
fn acknowledged(stdout: impl io::BufRead) -> (u64, Vec<String>) {
    let lines: Vec<String> = stdout.lines().map_while(Result::ok).collect();
    (lines.iter().filter_map(|line| number(line)).max().unwrap_or(0), lines)
}

/// The number that a line of a child acknowledges.
fn number(line: &str) -> Option<u64> {
    // The harness writes the name of the test before the first line.
    line.rsplit_once("acknowledged ").and_then(|(_, number)| number.trim().parse().ok())
}

#[test]
fn nothing_that_was_acknowledged_is_lost_to_a_kill() {
    let fresh = Fresh::new();
    let path = fresh.file("web-1.jsonl");
    let mut last = 0;
    for round in 0..200_u64 {
        let mut child = start_child(&fresh.path(), None);
        let mut output = io::BufReader::new(child.stdout.take().unwrap());
        // In odd rounds the child is killed while it starts, in even rounds while it writes.
        let (mut first, mut line) = (0, String::new());
        while round % 2 == 0 && first == 0 {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "a child ended by itself");
            first = number(&line).unwrap_or(0);
        }
        std::thread::sleep(Duration::from_micros(round * 7_919 % 8_000));
        child.kill().unwrap();
        last = last.max(first).max(acknowledged(output).0);
        child.wait().unwrap();
        if path.exists() {
            let numbers = numbers(&path);
            let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
            assert_eq!(numbers.len(), distinct.len(), "round {round}");
            assert!((1..=last).all(|number| distinct.contains(&number)), "round {round}: {last}");
        }
    }
    assert!(last > 100, "the children wrote hardly anything: {last}");
    append(&fresh.open(), &[event(1_000_000)]).unwrap();
    assert_eq!(fresh.open().read().unwrap().torn, []);
}

#[test]
fn nothing_that_was_acknowledged_is_lost_to_a_full_disk() {
    let fresh = Fresh::new();
    for limit in ["10", "700", "5000", "5100", "20000"] {
        let mut child = start_child(&fresh.path(), Some(limit));
        let (last, output) = acknowledged(io::BufReader::new(child.stdout.take().unwrap()));
        assert!(child.wait().unwrap().success(), "{output:?}");
        assert!(output.iter().any(|line| line.contains("failed: ")), "{output:?}");
        let contents = fresh.open().read().unwrap();
        assert_eq!(contents.torn, [], "{limit}");
        assert!(contents.state.last_seq(&"web-1".parse().unwrap()) >= last, "{limit}");
    }
    assert!(numbers(&fresh.file("web-1.jsonl")).len() > 50);
}

/// One line that cannot be read would make the whole directory unreadable.
#[test]
fn an_event_that_could_not_be_read_again_is_not_written() {
    let fresh = Fresh::new();
    append(&fresh.open(), &[event(1)]).unwrap();
    let body = Body::Presents(Presents::of_one("example.com".parse().unwrap(), 0, vec![]));
    let unreadable = Event::new(1_800_000_000, 3, "web-1".parse().unwrap(), body);
    let error = append(&fresh.open(), &[event(2), unreadable]).unwrap_err();
    assert!(matches!(error, DirectoryError::NoRecord(..)), "{error}");
    assert_eq!(numbers(&fresh.file("web-1.jsonl")), [1]);
}

#[test]
fn a_file_does_not_grow_beyond_the_readable_size() {
    let fresh = Fresh::new();
    append(&fresh.open(), &[event(1)]).unwrap();
    let own = fresh.file("web-1.jsonl");
    // The file grows by zero bytes, which are not read as records.
    let room = fs::OpenOptions::new().write(true).open(&own).unwrap();
    room.set_len(file::MAX_FILE as u64 - 600).unwrap();
    let last = format!("\n{}\n", event(2).line());
    std::os::unix::fs::FileExt::write_at(
        &room,
        last.as_bytes(),
        file::MAX_FILE as u64 - 600 - last.len() as u64,
    )
    .unwrap();
    append(&fresh.open(), &[event(3)]).unwrap();
    let error = append(&fresh.open(), &[4, 5, 6, 7].map(event)).unwrap_err();
    assert!(matches!(error, DirectoryError::Full(_)), "{error}");
    assert!(fs::metadata(own).unwrap().len() <= file::MAX_FILE as u64);
}

/// The other files are still read.
#[test]
fn unusable_files_are_skipped_and_reported() {
    let fresh = Fresh::new();
    append(&fresh.open(), &[event(1)]).unwrap();
    for name in ["a", "b"] {
        fs::write(fresh.file(PEERS).join(format!("{name}.jsonl")), "x\n").unwrap();
    }
    let mut contents = Contents::default();
    let errors = fresh.open().read_each(&mut contents);
    let files: Vec<&str> = errors.iter().filter_map(DirectoryError::file).collect();
    assert_eq!(files.len(), 2, "{errors:?}");
    assert!(files[0].ends_with("/peers/a.jsonl") && files[1].ends_with("/peers/b.jsonl"));
    assert_eq!(contents.state.last_seq(&"web-1".parse().unwrap()), 1);
}

#[test]
fn a_digest_that_cannot_be_written_is_held_while_the_server_runs() {
    let fresh = Fresh::new();
    let directory = fresh.open();
    let (one, two): (WriterName, WriterName) = ("web-1".parse().unwrap(), "web-2".parse().unwrap());
    let digests = ["0000000100020003fffffffefffd7abc", "ffff0000ffff0000ffff0000ffff0000"];
    let [first, second]: [Digest; 2] = digests.map(|digest| digest.parse().unwrap());
    assert_eq!(directory.held(&one).unwrap(), None);
    for digest in [first, second, Digest::NONE, first] {
        directory.hold(&one, digest).unwrap();
        assert_eq!(directory.held(&one).unwrap(), Some(digest));
        assert_eq!(directory.held(&two).unwrap(), None);
    }
    // Two servers with the same name serve two configurations, so the last one is not known.
    let other = held::Held::new(&directory, &one, second).unwrap();
    assert_eq!(directory.held(&one).unwrap(), Some(Digest::NONE));
    drop(other);
    assert_eq!(directory.held(&one).unwrap(), Some(first));
    held::release();
    assert_eq!(directory.held(&one).unwrap(), None);
}
