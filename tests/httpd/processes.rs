//! Child processes of httpd must not inherit our open files; and Debian's init script runs config tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use hpkp_tests::client::Curl;
use hpkp_tests::httpd::{Httpd, Kind, Module, Mpm, listen, tls_vhost, wait};
use hpkp_tests::instance::without_leaks;
use hpkp_tests::site::{A, B};
use hpkp_tests::{free_port, output};

use crate::policy;

/// The targets of a process's open descriptors.
fn descriptors(process: i32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
    entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
}

/// All descendants of a process.
fn below(process: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    children
        .split_ascii_whitespace()
        .filter_map(|child| child.parse().ok())
        .flat_map(|child| [vec![child], below(child)].concat())
        .collect()
}

/// Waits until a server's pid file has another number than `old`; returns that number.
#[track_caller]
fn pid(httpd: &Httpd, old: Option<i32>) -> i32 {
    let read = || fs::read_to_string(httpd.path("httpd.pid")).ok()?.trim().parse().ok();
    let came_up = wait(|| read().is_some() && read() != old);
    assert!(came_up, "no server has come up:\n{}", httpd.log());
    read().expect("a number")
}

/// Whether a process lives.
fn lives(process: i32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim().starts_with('Z'))
}

/// The output of a command, or `None` if some process keeps it open. No start takes as long as this limit, even on a
/// busy machine.
fn captured(mut command: Command) -> Option<Output> {
    command.stdin(Stdio::null());
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(output(&mut command)));
    receive.recv_timeout(Duration::from_secs(180)).ok()
}

/// How many children a server has, and which files below a directory they keep open: after the start, and after a
/// restart has replaced all children while the server holds its claim.
fn kept_in_children(
    httpd: &Httpd,
    server: i32,
    directory: &Path,
    is_up: impl Fn() -> bool,
) -> [(usize, Vec<(i32, PathBuf)>); 2] {
    [false, true].map(|again| {
        if again {
            let old = below(server);
            httpd.run(&["-k", "restart"]);
            wait(|| !below(server).is_empty() && !below(server).iter().any(|p| old.contains(p)));
            wait(&is_up);
        }
        let children = below(server);
        let kept = |child: &i32| {
            let files = descriptors(*child).into_iter().map(|file| (*child, file));
            files.filter(|(_, file)| file.starts_with(directory)).collect::<Vec<_>>()
        };
        (children.len(), children.iter().flat_map(kept).collect())
    })
}

/// mod_cgid's daemon inherits httpd's descriptors. A piped log program does not, but lives as long.
#[test]
fn no_descriptor_of_ours_outlives_the_start_in_any_child() {
    for logs in
        ["", "ErrorLog \"|$exec cat >/dev/null\"\nCustomLog \"|$exec cat >/dev/null\" status\n"]
    {
        let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
        if let Some((name, value)) = without_leaks() {
            httpd.set_environment(name, &value);
        }
        httpd.load(&["cgid", "dir"]);
        let pki = httpd.pki();
        pki.write("html/index.html", "x");
        let (live, port) = (pki.pin("live.pem"), free_port());
        pki.records("records");
        let configuration = format!(
            "{}ScriptSock cgid\nLogFormat %s status\n{logs}HPKPPublishedPins records writer=web-1\n{}{}",
            listen(&[port]),
            policy("site", &[&live, B]),
            tls_vhost(port, "localhost", "live", "HPKPUse site"),
        );
        httpd.configure(&configuration);
        let mut command = httpd.command();
        command.args(["-k", "start"]);
        let outcome = captured(command);
        let server = pid(&httpd, None);
        let url = format!("https://localhost:{port}/");
        let ca = httpd.path("ca.pem");
        let is_up = || Curl::new(&ca).try_get(&url).is_some_and(|got| got.pins().len() == 1);
        let came_up = wait(is_up);
        let records = fs::canonicalize(httpd.path("records")).expect("a directory");
        let kept = kept_in_children(&httpd, server, &records, is_up);
        let claims = descriptors(server).iter().filter(|file| file.starts_with(&records)).count();
        // SAFETY: kill takes only numbers; `server` is the process of the server that this test has started.
        unsafe { libc::kill(server, libc::SIGTERM) };
        assert!(wait(|| !lives(server)), "the server did not end");

        let outcome = outcome.expect("somebody keeps open what the start wrote to");
        assert!(outcome.status.success(), "{outcome:?}");
        assert!(came_up, "{outcome:?}");
        assert!(kept.iter().all(|(children, _)| *children > 1), "{kept:?}");
        assert!(kept.iter().all(|(_, files)| files.is_empty()), "kept in children: {kept:?}");
        assert_eq!(claims, 1);
    }
}

/// When the parent ends, its children may live on, but another server can claim the file at once.
#[test]
fn no_child_keeps_the_claim_of_the_server() {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    httpd.load(&["cgid", "dir"]);
    let pki = httpd.pki();
    pki.write("html/index.html", "x");
    pki.records("records");
    let (live, ports) = (pki.pin("live.pem"), [free_port(), free_port()]);
    let configure = |httpd: &Httpd, port: u16| {
        httpd.configure(&format!(
            "{}ScriptSock cgid-{port}\nHPKPPublishedPins records writer=web-1\n{}{}",
            listen(&[port]),
            policy("site", &[&live, B]),
            tls_vhost(port, "localhost", "live", "HPKPUse site"),
        ));
    };
    configure(&httpd, ports[0]);
    httpd.start();
    assert_eq!(httpd.graceful(), hpkp_tests::httpd::Reload::Accepted);
    let left = below(httpd.pid());
    assert!(!left.is_empty());
    // If a child still held the claim, it would belong to a server that nobody can stop.
    let records = fs::canonicalize(httpd.path("records")).expect("a directory");
    let has_claim = |process: &i32| descriptors(*process).iter().any(|f| f.starts_with(&records));
    assert!(has_claim(&httpd.pid()));
    // A child that was forked just now may not have closed the file yet.
    assert!(wait(|| !left.iter().any(has_claim)));
    httpd.stop();
}

/// Writes the files that the package has beside the script, for the directory of this server.
fn write_package_files(httpd: &Httpd) {
    let pki = httpd.pki();
    let directory = httpd.path("").display().to_string();
    let directory = directory.trim_end_matches('/');
    pki.write(
        "apache2.conf",
        format!(
            "ServerRoot {directory}\nDefaultRuntimeDir {directory}/run\n\
             PidFile {directory}/httpd.pid\nInclude {directory}/{}\n",
            Kind::Httpd.file()
        ),
    );
    pki.write(
        "envvars",
        format!(
            "export APACHE_RUN_USER=www-data APACHE_RUN_GROUP=www-data\n\
             export APACHE_PID_FILE={directory}/httpd.pid APACHE_RUN_DIR={directory}/run\n\
             export APACHE_LOCK_DIR={directory}/run APACHE_LOG_DIR={directory}\n"
        ),
    );
    fs::create_dir(httpd.path("run/socks")).expect("a directory");
}

/// Debian's init script runs a config test before it stops the server. If the test fails, the script kills the server
/// and does not start it again.
#[test]
fn debians_init_script_restarts_in_spite_of_a_refusal() {
    const SCRIPT: &str = "/etc/init.d/apache2";
    let has_systemd = Path::new("/run/systemd/system").exists();
    // The script ends all processes that `pidof` finds by the name of the program.
    if !Path::new(SCRIPT).exists() || has_systemd || std::env::var_os("HPKP_HTTPD").is_some() {
        return;
    }
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    httpd.load(&["dir"]);
    let pki = httpd.pki();
    pki.write("html/index.html", "x");
    let (live, port) = (pki.pin("live.pem"), free_port());
    let configure = |pin: &str| {
        let vhost = tls_vhost(port, "localhost", "live", "HPKPUse site");
        httpd.configure(&format!("{}{}\n{vhost}", listen(&[port]), policy("site", &[pin, B])));
    };
    write_package_files(&httpd);
    let run = |program: &str, word: &str| {
        let mut command = Command::new(program);
        command.env("APACHE_CONFDIR", httpd.path("")).env_remove("HPKP_CHECK").arg(word);
        captured(command).expect("an end")
    };
    let script = |word: &str| run(SCRIPT, word);
    let control = |word: &str| run("/usr/sbin/apache2ctl", word);
    let ca = httpd.path("ca.pem");
    let asked = || {
        let url = format!("https://localhost:{port}/");
        Curl::new(&ca).try_get(&url).map(|got| (got.status, got.pins().len()))
    };
    configure(&live);
    let outcome = script("start");
    assert!(outcome.status.success(), "{outcome:?}");
    let first = pid(&httpd, None);
    assert!(wait(|| asked() == Some((200, 1))), "{:?}", asked());

    // The operator's config test and both kinds of reload refuse the configuration.
    configure(A);
    for outcome in [control("configtest"), control("graceful"), script("reload")] {
        assert!(!outcome.status.success(), "{outcome:?}");
    }
    assert_eq!(asked(), Some((200, 1)));
    // The script's tests before and after a stop do not refuse it; the start continues without the header.
    let outcome = script("restart");
    assert!(outcome.status.success(), "{outcome:?}\n{}", httpd.log());
    let second = pid(&httpd, Some(first));
    assert!(wait(|| asked() == Some((200, 0))), "{:?}\n{}", asked(), httpd.log());
    // The script stops the server instead of killing it after a failed test.
    let outcome = script("stop");
    assert!(
        outcome.status.success() && !outcome.stderr.windows(7).any(|w| w == b"kill it"),
        "{outcome:?}"
    );
    assert!(wait(|| !lives(second)));
    let outcome = script("start");
    assert!(outcome.status.success(), "{outcome:?}");
    let third = pid(&httpd, Some(second));
    assert!(wait(|| asked() == Some((200, 0))));
    // A syntax error is still refused.
    configure("nonsense");
    assert!(!script("reload").status.success());
    configure(&live);
    assert!(script("stop").status.success());
    assert!(wait(|| !lives(third)));
    httpd.expect_in_log(&["hpkp: [no-pin-in-chain]"]);
}
