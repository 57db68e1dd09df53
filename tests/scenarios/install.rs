//! `hpkp install` with a running server: which certificate the server presents afterwards.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use hpkp_tests::httpd::Httpd;
use hpkp_tests::instance::wait;
use hpkp_tests::layout::{LAYOUT, Site};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::output;
use hpkp_tests::pki::{leaf_extensions, openssl};
use hpkp_tests::site::B;
use serde_json::Value;

use crate::pinned::{PinnedSite, SENT};

/// A server whose config test and reload can be run by a shell.
trait Shell: Site {
    const RELOAD: &'static [&'static str];

    fn server_command(&self) -> Command;

    /// The command line for `sh -c`.
    fn line(&self, arguments: &[&str]) -> String {
        let command = self.server_command();
        let mut words = vec!["exec env".to_owned()];
        words.extend(command.get_envs().filter_map(|(name, value)| {
            Some(format!("'{}={}'", name.to_str()?, value?.to_str()?))
        }));
        let all = std::iter::once(command.get_program()).chain(command.get_args());
        words.extend(all.map(|word| format!("'{}'", word.to_str().expect("UTF-8"))));
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        words.join(" ")
    }
}

impl Shell for Nginx {
    const RELOAD: &'static [&'static str] = &["-s", "reload"];

    fn server_command(&self) -> Command {
        self.command()
    }
}

impl Shell for Httpd {
    const RELOAD: &'static [&'static str] = &["-k", "graceful"];

    fn server_command(&self) -> Command {
        self.command()
    }
}

/// A site whose certificate lies in a directory of its own, with two keys that clients accept and one
/// that they do not.
struct Deployed<S> {
    pinned: PinnedSite<S>,
}

impl<S: Shell> Deployed<S> {
    fn running() -> Self {
        let mut pinned = PinnedSite::<S>::new();
        let pki = pinned.site.pki();
        for name in ["next", "third", "stranger"] {
            pki.leaf(name, "localhost", "ca");
        }
        fs::create_dir(pinned.site.path("tls")).expect("a directory");
        for end in ["pem", "key"] {
            fs::copy(
                pinned.site.path(&format!("live.{end}")),
                pinned.site.path(&format!("tls/site.{end}")),
            )
            .expect("a copy");
        }
        let [next, third] = ["next.pem", "third.pem"].map(|file| pki.pin(file));
        let live = pinned.live.clone();
        pinned.lay_out("tls/site", &[&live, &next, &third, B], &LAYOUT);
        pinned.site.expect_in_log(&["hpkp: "]);
        pinned.site.up();
        let this = Self { pinned };
        assert!(this.serves("live"));
        this
    }

    /// Writes a certificate and its key where an ACME client would write them.
    fn renewed(&self, name: &str) {
        let directory = self.pinned.site.path("new");
        fs::create_dir_all(&directory).expect("a directory");
        for (from, to) in [("pem", "fullchain.pem"), ("key", "privkey.pem")] {
            fs::copy(self.pinned.site.path(&format!("{name}.{from}")), directory.join(to))
                .expect("a copy");
        }
    }

    fn command(&self, more: &[&str]) -> Command {
        let site = &self.pinned.site;
        let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp"));
        command.current_dir(site.path("")).env_remove("HPKP_CHECK");
        command.args(["install", "--from", "new", "--to", "tls", "--json"]);
        if !more.contains(&"--no-records") {
            command.args(["-d", "records"]);
        }
        if !more.contains(&"--test") {
            command.args(["--test", &site.line(&["-t"])]);
        }
        if !more.contains(&"--reload") {
            command.args(["--reload", &site.line(S::RELOAD)]);
        }
        command.args(more);
        command
    }

    fn install(&self, more: &[&str]) -> (Option<i32>, Value) {
        let Output { status, stdout, stderr } = output(&mut self.command(more));
        let json = serde_json::from_slice(&stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&stderr)));
        (status.code(), json)
    }

    fn serves(&self, name: &str) -> bool {
        self.serves_one_of(&[name])
    }

    /// Connects only once, because the server may change its certificate between two connections.
    fn serves_one_of(&self, names: &[&str]) -> bool {
        let pki = self.pinned.site.pki();
        let pin = |name: &&str| format!("sha256//{}", pki.pin(&format!("{name}.pem")));
        let pins: Vec<String> = names.iter().map(pin).collect();
        let curl = self.pinned.curl().with(&["--pinnedpubkey", &pins.join(";")]);
        curl.exit_code(&self.pinned.url()) == Some(0)
    }

    /// The name of the installed pair; fails if the certificate and the key are of different pairs.
    #[track_caller]
    fn in_place(&self) -> &'static str {
        let read = |file: String| fs::read(self.pinned.site.path(&file)).expect("a file");
        let is_it = |name: &&str| {
            ["pem", "key"]
                .iter()
                .all(|end| read(format!("tls/site.{end}")) == read(format!("{name}.{end}")))
        };
        let all = ["live", "next", "third", "stranger"];
        all.into_iter().find(is_it).expect("a whole pair")
    }

    fn served(&self) -> String {
        format!("localhost:{}", self.pinned.port)
    }
}

fn codes(json: &Value) -> Vec<&str> {
    let problems = json["problems"].as_array().expect("problems");
    problems.iter().map(|one| one["code"].as_str().expect("a code")).collect()
}

/// A renewed pair is installed until the server presents it, or the old pair is restored: one case for each
/// reason.
fn a_renewed_pair_is_served_or_the_old_one<S: Shell>() {
    let deployed = Deployed::<S>::running();
    let served = deployed.served();
    deployed.renewed("next");
    let (code, json) = deployed.install(&["--served", &served]);
    assert_eq!((code, &json["outcome"]), (Some(0), &"installed".into()), "{json}");
    assert_eq!(json["served"][0]["presents"], "new");
    assert!(wait(|| deployed.serves("next")) && deployed.in_place() == "next");
    assert_eq!(deployed.pinned.asked(), SENT);

    // Without `--served`, the command takes the port from the records.
    deployed.renewed("third");
    let (code, json) = deployed.install(&[]);
    assert_eq!((code, &json["served"][0]["presents"]), (Some(0), &"new".into()), "{json}");
    assert!(wait(|| deployed.serves("third")));

    // A key whose pin clients do not hold is refused by the records and by the server's own config test.
    deployed.renewed("stranger");
    let (code, json) = deployed.install(&[]);
    assert_eq!((code, codes(&json)), (Some(1), vec!["lockout"]), "{json}");
    assert_eq!(json["steps"].as_array().map(Vec::len), Some(0));
    let (code, json) = deployed.install(&["--no-records"]);
    assert_eq!((code, codes(&json)), (Some(3), vec!["test-failed"]), "{json}");
    assert!(
        json["steps"][0]["output"].as_str().is_some_and(|text| text.contains("hpkp: [")),
        "{json}"
    );
    assert!(deployed.serves("third") && deployed.in_place() == "third");

    // A reload command that does nothing. The timeout also limits each command, and the time of the server's own
    // config test depends on the machine, so `true` replaces that test too.
    deployed.renewed("next");
    for more in [
        &["--test", "true", "--reload", "true", "--timeout", "2"][..],
        &["--test", "true", "--reload", "true", "--timeout", "2", "--served", &served],
    ] {
        let (code, json) = deployed.install(more);
        assert_eq!((code, codes(&json)), (Some(3), vec!["not-served"]), "{json}");
        assert_eq!(
            (&json["outcome"], &json["served"][0]["presents"]),
            (&"rolled-back".into(), &"old".into())
        );
    }
    assert!(deployed.serves("third") && deployed.in_place() == "third");

    // The reload command reloads one server, and `--served` names another.
    let (code, json) = deployed.install(&["--served", "localhost:1", "--timeout", "20"]);
    assert_eq!((code, codes(&json)), (Some(3), vec!["not-served"]), "{json}");
    assert!(wait(|| deployed.serves("third")) && deployed.in_place() == "third");
    assert_eq!(deployed.pinned.asked(), SENT);
}

super::scenarios! {
    a_renewed_pair_is_served_or_the_old_one
}

/// A renewal with the same key passes if clients already refuse the served certificate. It does not if they
/// compare the whole certificate.
#[test]
fn a_key_that_is_served_already_may_be_renewed() {
    let deployed = Deployed::<Nginx>::running();
    let pki = deployed.pinned.site.pki();
    let (served, stranger) = (deployed.served(), pki.pin("stranger.pem"));
    let hpkp = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp"));
        command.current_dir(deployed.pinned.site.path("")).args(["published", "-d", "records"]);
        let outcome = output(command.args(arguments).args(["--writer", "apps"]));
        assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    };
    hpkp(&["add", "localhost", "--origin", "app 1", "--pin", &format!("sha256/{stranger}")]);
    pki.sign_as("again", "live", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    fs::copy(pki.path("live.key"), pki.path("again.key")).expect("a copy");
    deployed.renewed("again");
    let (code, json) = deployed.install(&["--served", &served]);
    assert_eq!((code, &json["outcome"]), (Some(0), &"installed".into()), "{json}");
    assert!(
        json["warnings"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["code"] == "unchanged")),
        "{json}"
    );
    // A new key is refused.
    deployed.renewed("third");
    assert_eq!(deployed.install(&["--served", &served]).0, Some(1));

    hpkp(&["end", "--host", "localhost", "--why", "withdrawn"]);
    let der = openssl(&[
        "x509",
        "-in",
        pki.path("again.pem").to_str().expect("UTF-8"),
        "-outform",
        "der",
    ]);
    let der = pki.write("again.der", der);
    let hash = openssl(&["dgst", "-sha256", "-r", der.to_str().expect("UTF-8")]);
    let hash = String::from_utf8(hash).expect("text")[..64].to_owned();
    let zone = format!("_{}._tcp.localhost. 300 IN TLSA 3 0 1 {hash}\n", deployed.pinned.port);
    pki.write("zone", zone);
    hpkp(&["import", "--origin", "DNS", "zone"]);
    deployed.renewed("live");
    let (code, json) = deployed.install(&["--served", &served]);
    assert_eq!((code, codes(&json)), (Some(1), vec!["lockout"]), "{json}");
}

/// `hpkp install` is killed at a random moment: nginx continues with one of the two pairs, and `--recover` or
/// the next install leaves a whole pair that nginx presents.
#[test]
fn an_install_killed_at_any_moment_leaves_a_whole_pair_served() {
    let deployed = Deployed::<Nginx>::running();
    let served = deployed.served();
    let mut random = 4_711_u64;
    let mut names = ["live", "next"];
    let begun = Instant::now();
    deployed.renewed("next");
    assert_eq!(deployed.install(&["--served", &served]).0, Some(0));
    let whole = begun.elapsed().min(Duration::from_secs(3));
    for round in 0..40 {
        let [new, old] = names;
        assert_eq!(deployed.in_place(), old);
        deployed.renewed(new);
        let mut command = deployed.command(&["--served", &served]);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command");
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(whole.mul_f64((random >> 40) as f64 / f64::from(1 << 24)));
        let _ = child.kill();
        let _ = child.wait();
        deployed.in_place();
        // nginx presents either pair, and clients accept both.
        assert!(deployed.serves_one_of(&[old, new]));
        if round % 2 == 0 {
            let mut recover = Command::new(env!("CARGO_BIN_EXE_hpkp"));
            recover.current_dir(deployed.pinned.site.path("")).args([
                "install",
                "--recover",
                "--to",
                "tls",
            ]);
            let outcome = output(&mut recover);
            assert_eq!(
                outcome.status.code(),
                Some(0),
                "{}",
                String::from_utf8_lossy(&outcome.stderr)
            );
            let now = deployed.in_place();
            assert!(
                wait(|| deployed.serves(now)),
                "round {round}: {now} is in place and not served"
            );
            if now == new {
                names = [old, new];
            }
        } else {
            let (code, json) = deployed.install(&["--served", &served]);
            assert_eq!((code, deployed.in_place()), (Some(0), new), "{json}");
            // A worker from before the reload may still take a connection.
            assert!(wait(|| deployed.serves(new)), "round {round}: {new} is not served");
            names = [old, new];
        }
    }
    assert_eq!(deployed.pinned.asked(), SENT);
}
