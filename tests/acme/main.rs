//! Each ACME client with its hook, against a real ACME server and in front of a real nginx: a renewal
//! with the same key is served, a renewal with a new key never takes the place of a pinned one.
//!
//! `ci/prerequisites` installs what these tests need, and without it they fail. Only acme.sh, which Debian does not
//! have, is skipped unless `HPKP_ACME_SH` names the script.

// clippy.toml allows these only inside test functions, not in their helpers.
#![allow(clippy::expect_used, clippy::panic, unreachable_pub)]

mod deployed;
mod managed;
mod pebble;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use hpkp_tests::free_port;

use deployed::{Deployed, HOST, hook};

/// Fails unless a client's command succeeds.
#[track_caller]
fn fine(deployed: &Deployed, mut command: Command) {
    assert_eq!(code(deployed, &mut command), Some(0), "{}", deployed.log());
}

/// The exit code of a client's command.
#[track_caller]
fn code(deployed: &Deployed, command: &mut Command) -> Option<i32> {
    deployed.run(command).status.code()
}

fn certbot_with(deployed: &Deployed, arguments: &[&str]) -> Command {
    let mut command = deployed.command("certbot");
    command.env("REQUESTS_CA_BUNDLE", &deployed.pebble.ca).args(arguments);
    for (option, directory) in [("--config-dir", "C"), ("--work-dir", "K"), ("--logs-dir", "L")] {
        command.arg(option).arg(deployed.path(directory));
    }
    command.args(["-n", "--server", &deployed.pebble.directory()]);
    command
}

#[test]
fn certbot() {
    let deployed = Deployed::running();
    let certbot = |arguments: &[&str]| certbot_with(&deployed, arguments);
    let hooks = deployed.path("C/renewal-hooks/deploy");
    fs::create_dir_all(&hooks).expect("a directory");
    fs::create_dir(deployed.path("webroot")).expect("a directory");
    symlink(hook("certbot-deploy"), hooks.join("hpkp")).expect("a link");
    let first = [
        "certonly",
        "--webroot",
        "-w",
        "webroot",
        "-d",
        HOST,
        "--agree-tos",
        "--register-unsafely-without-email",
    ];
    fine(&deployed, certbot(&first));
    // certbot 2 runs the hooks of this directory only at renewals.
    if !deployed.serves(&format!("C/live/{HOST}/cert.pem")) {
        let mut first = deployed.command("sh");
        first
            .env("RENEWED_LINEAGE", deployed.path("C/live").join(HOST))
            .args(["-c", &hook("certbot-deploy")]);
        fine(&deployed, first);
    }
    deployed.pin_served_key();

    assert_eq!(deployed.doctor("C"), ["certbot", "new", "no"]);

    let renew = ["renew", "--force-renewal", "--no-random-sleep-on-renew"];
    let before = deployed.certificate();
    fine(&deployed, certbot(&[&renew[..], &["--reuse-key"]].concat()));
    deployed.clients_can_connect();
    assert_ne!(deployed.certificate(), before, "{}", deployed.log());
    let settings =
        fs::read_to_string(deployed.path(&format!("C/renewal/{HOST}.conf"))).expect("settings");
    assert!(settings.contains("reuse_key = True"));
    assert_eq!(deployed.doctor("C"), ["certbot", "kept", "yes"]);

    // certbot succeeds, and its links in live/ point to the new key; the server's files stay.
    let before = deployed.certificate();
    fine(&deployed, certbot(&[&renew[..], &["--new-key"]].concat()));
    assert_ne!(deployed.pki().pin(&format!("C/live/{HOST}/cert.pem")), deployed.in_place());
    assert!(deployed.log().contains("locks out"), "{}", deployed.log());
    deployed.clients_can_connect();
    assert_eq!(deployed.certificate(), before);

    // The way back: the pinned key replaces the key of certbot's newest version.
    let newest =
        fs::canonicalize(deployed.path(&format!("C/live/{HOST}/privkey.pem"))).expect("a key");
    fs::copy(deployed.path("good.key"), newest).expect("a copy");
    fine(&deployed, certbot(&renew));
    deployed.clients_can_connect();
    assert_ne!(deployed.certificate(), before, "{}", deployed.log());

    let planned = deployed.hand_over("C");
    fine(&deployed, certbot(&renew));
    deployed.presents(&planned);
}

/// acme.sh with a home of its own in the directory of the server.
struct AcmeSh {
    deployed: Deployed,
    home: PathBuf,
}

impl AcmeSh {
    fn new(script: &OsStr) -> Self {
        let deployed = Deployed::running();
        let home = deployed.path("home/.acme.sh");
        fs::create_dir_all(&home).expect("a directory");
        fs::create_dir(deployed.path("webroot")).expect("a directory");
        fs::copy(script, home.join("acme.sh")).expect("a copy");
        Self { deployed, home }
    }

    fn code(&self, arguments: &[&str]) -> Option<i32> {
        let Self { deployed, home } = self;
        let mut command = deployed.command("sh");
        command.env("HOME", deployed.path("home")).arg(home.join("acme.sh"));
        command.arg("--home").arg(home);
        command.args(["--server", &deployed.pebble.directory(), "--ca-bundle"]);
        command.arg(&deployed.pebble.ca).args(["-d", HOST]).args(arguments);
        code(deployed, &mut command)
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) {
        assert_eq!(self.code(arguments), Some(0), "{}", self.deployed.log());
    }
}

#[test]
fn acme_sh() {
    let Some(script) = std::env::var_os("HPKP_ACME_SH") else {
        println!("HPKP_ACME_SH does not name acme.sh: nothing was tried");
        return;
    };
    let acme_sh = AcmeSh::new(&script);
    let deployed = &acme_sh.deployed;
    acme_sh.done(&["--issue", "--keylength", "ec-256", "-w", "webroot"]);
    let of = acme_sh.home.join(format!("{HOST}_ecc"));
    let hook = format!("{} {} {HOST}", hook("deploy"), of.display());
    acme_sh.done(&["--install-cert", "--ecc", "--reloadcmd", &hook]);
    deployed.pin_served_key();
    let renew = ["--renew", "--ecc", "--force"];
    let before = deployed.certificate();
    acme_sh.done(&renew);
    deployed.clients_can_connect();
    assert_ne!(deployed.certificate(), before);

    // With a new key acme.sh fails because its hook does, and nothing is installed.
    let before = deployed.certificate();
    let new_key = [&renew[..], &["--always-force-new-domain-key"]].concat();
    assert_ne!(acme_sh.code(&new_key), Some(0));
    assert!(deployed.log().contains("locks out"), "{}", deployed.log());
    deployed.clients_can_connect();
    assert_eq!(deployed.certificate(), before);

    // The way back: acme.sh keeps the option in its settings until the line is removed.
    let settings = of.join(format!("{HOST}.conf"));
    let text = fs::read_to_string(&settings).expect("settings");
    let text: Vec<&str> =
        text.lines().filter(|line| !line.contains("Le_ForceNewDomainKey")).collect();
    fs::write(&settings, text.join("\n") + "\n").expect("a file");
    fs::copy(deployed.path("good.key"), of.join(format!("{HOST}.key"))).expect("a copy");
    acme_sh.done(&renew);
    deployed.clients_can_connect();
    assert_ne!(deployed.certificate(), before);

    let planned = deployed.hand_over("home/.acme.sh");
    acme_sh.done(&renew);
    deployed.presents(&planned);
    by_request(&acme_sh, &of, &planned);
}

/// Has a CSR of the planned key signed, while acme.sh has no key for the host.
fn by_request(acme_sh: &AcmeSh, of: &Path, planned: &str) {
    let AcmeSh { deployed, home } = acme_sh;
    fs::rename(of, deployed.path("home/before")).expect("renamed");
    let mut request = Command::new("openssl");
    request.args(["req", "-new", "-subj", &format!("/CN={HOST}"), "-key"]);
    request.arg(deployed.path("planned.key"));
    request.args(["-addext", &format!("subjectAltName=DNS:{HOST}"), "-out"]);
    assert!(request.arg(deployed.path("next.csr")).status().expect("openssl").success());
    acme_sh.done(&["--sign-csr", "--csr", "next.csr", "-w", "webroot"]);
    let directories = [of.to_owned(), home.join(HOST)];
    let signed = directories.iter().map(|of| of.join("fullchain.cer")).find(|file| file.exists());
    let signed = signed.expect("a certificate");
    assert_eq!(deployed.pki().pin(signed.to_str().expect("UTF-8")), planned);
}

#[test]
fn lego() {
    let deployed = Deployed::running();
    let lego = |arguments: &[&str]| {
        let mut command = deployed.command("lego");
        command.env("LEGO_CA_CERTIFICATES", &deployed.pebble.ca);
        command.args(["--server", &deployed.pebble.directory(), "--path"]).arg(deployed.path("P"));
        command.args([
            "--email",
            "a@example.com",
            "--domains",
            HOST,
            "--accept-tos",
            "--http",
            "--http.port",
        ]);
        command.arg(format!("127.0.0.1:{}", free_port())).args(arguments);
        command
    };
    let hook = hook("lego-hook");
    fine(&deployed, lego(&["run", "--run-hook", &hook]));
    deployed.pin_served_key();

    assert_eq!(deployed.doctor("P"), ["lego", "unknown", "unknown"]);

    let renew = ["renew", "--days", "999", "--no-random-sleep", "--renew-hook", &hook];
    let before = deployed.certificate();
    fine(&deployed, lego(&[&renew[..], &["--reuse-key"]].concat()));
    deployed.clients_can_connect();
    assert_ne!(deployed.certificate(), before);

    let before = deployed.certificate();
    assert_ne!(code(&deployed, &mut lego(&renew)), Some(0));
    assert!(deployed.log().contains("locks out"), "{}", deployed.log());
    deployed.clients_can_connect();
    assert_eq!(deployed.certificate(), before);

    // The way back.
    fs::copy(deployed.path("good.key"), deployed.path(&format!("P/certificates/{HOST}.key")))
        .expect("a copy");
    fine(&deployed, lego(&[&renew[..], &["--reuse-key"]].concat()));
    deployed.clients_can_connect();
    assert_ne!(deployed.certificate(), before);

    let planned = deployed.hand_over("P");
    let reuse = [&renew[..], &["--reuse-key"]].concat();
    fine(&deployed, lego(&reuse));
    deployed.presents(&planned);
}

/// dehydrated with its settings in `config`.
struct Dehydrated<'a>(&'a Deployed);

impl Dehydrated<'_> {
    fn set(&self, more: &str) {
        let Self(deployed) = self;
        let directory = deployed.path("");
        let directory = directory.display();
        let settings = format!(
            "CA={}\nBASEDIR={directory}/D\nWELLKNOWN={directory}/webroot\nDOMAINS_TXT={directory}/domains.txt\n\
             HOOK={}\nCURL_OPTS=\"--cacert {}\"\nKEY_ALGO=prime256v1\n{more}\n",
            deployed.pebble.directory(),
            hook("dehydrated-hook"),
            deployed.pebble.ca.display()
        );
        fs::write(deployed.path("config"), &settings).expect("a file");
        // hpkp reads the settings from the client's directory.
        fs::create_dir_all(deployed.path("D")).expect("a directory");
        fs::write(deployed.path("D/config"), &settings).expect("a file");
    }

    fn run(&self, arguments: &[&str]) -> Option<i32> {
        let mut command = self.0.command("dehydrated");
        code(self.0, command.arg("-f").arg(self.0.path("config")).args(arguments))
    }

    /// The pins of the present and of the waiting key.
    fn keys(&self) -> [Option<String>; 2] {
        ["privkey.pem", "privkey.roll.pem"].map(|name| {
            let path = self.0.path(&format!("D/certs/{HOST}/{name}"));
            path.exists().then(|| {
                fs::copy(&path, self.0.path("some.key")).expect("a copy");
                self.0.pki().pin("some.key")
            })
        })
    }

    fn first(&self) {
        fs::create_dir(self.0.path("webroot")).expect("a directory");
        fs::write(self.0.path("domains.txt"), format!("{HOST}\n")).expect("a file");
        assert_eq!(self.run(&["--register", "--accept-terms"]), Some(0), "{}", self.0.log());
        assert_eq!(self.run(&["-c"]), Some(0), "{}", self.0.log());
    }
}

#[test]
fn dehydrated_is_stopped_before_it_makes_a_key() {
    let deployed = Deployed::running();
    let dehydrated = Dehydrated(&deployed);
    dehydrated.set("PRIVATE_KEY_RENEW=no");
    deployed.set("dehydrated_keeps_key", "yes");
    dehydrated.first();
    deployed.pin_served_key();
    let before = deployed.certificate();
    assert_eq!(dehydrated.run(&["-c", "-x"]), Some(0), "{}", deployed.log());
    deployed.clients_can_connect();
    assert_ne!(deployed.certificate(), before);

    // By default dehydrated makes a new key: the hook stops it before anything is changed.
    dehydrated.set("");
    deployed.set("dehydrated_keeps_key", "no");
    let (before, keys) = (deployed.certificate(), dehydrated.keys());
    let files =
        || fs::read_dir(deployed.path(&format!("D/certs/{HOST}"))).expect("a directory").count();
    let count = files();
    assert_eq!(dehydrated.run(&["-c", "-x"]), Some(1));
    assert!(
        deployed.log().contains("no: a renewal with a new key locks out"),
        "{}",
        deployed.log()
    );
    assert_eq!((dehydrated.keys(), files(), deployed.certificate()), (keys, count, before));
    deployed.clients_can_connect();
    // A certificate that is not due stops nothing.
    dehydrated.set("RENEW_DAYS=1");
    deployed.set("dehydrated_renew_days", "1");
    assert_eq!(dehydrated.run(&["-c"]), Some(0), "{}", deployed.log());

    dehydrated.set("PRIVATE_KEY_RENEW=no");
    deployed.set("dehydrated_keeps_key", "yes");
    let planned = deployed.hand_over("D");
    assert_eq!(dehydrated.run(&["-c", "-x"]), Some(0), "{}", deployed.log());
    deployed.presents(&planned);
}

/// A waiting key that is not published yet is kept when the renewal is stopped, and is used once clients
/// hold its pin.
#[test]
fn dehydrated_keeps_its_waiting_key() {
    let deployed = Deployed::running();
    let dehydrated = Dehydrated(&deployed);
    dehydrated.set("PRIVATE_KEY_ROLLOVER=yes");
    dehydrated.first();
    deployed.pin_served_key();
    let keys = dehydrated.keys();
    let waiting = keys[1].clone().expect("a waiting key");
    // `hpkp key next` takes the waiting key as the next key of the host.
    let mut next = deployed.command(env!("CARGO_BIN_EXE_hpkp"));
    next.args(["key", "next", HOST, "-d", "records", "--acme", "D", "--json"]);
    let outcome: serde_json::Value =
        serde_json::from_slice(&deployed.run(&mut next).stdout).expect("JSON");
    assert_eq!(outcome["keys"][0]["pin"], format!("sha256/{waiting}"), "{outcome}");
    assert_eq!(outcome["keys"][0]["state"], "blocked", "{outcome}");
    assert_eq!(dehydrated.run(&["-c", "-x"]), Some(1));
    assert_eq!(dehydrated.keys(), keys, "{}", deployed.log());
    deployed.clients_can_connect();

    // The next release of the app pins both keys; the release before is withdrawn.
    let good = deployed.pki().pin("good.pem");
    let hpkp = |arguments: &[&str]| {
        let mut command = deployed.command(env!("CARGO_BIN_EXE_hpkp"));
        command.args(["published", "-d", "records"]).args(arguments).args(["--writer", "apps"]);
        let output = deployed.run(&mut command);
        assert!(output.status.success(), "{}", deployed.log());
    };
    let [good, next] = [&good, &waiting].map(|pin| format!("sha256/{pin}"));
    hpkp(&["end", "--host", HOST, "--why", "withdrawn"]);
    hpkp(&["add", HOST, "--origin", "app 2", "--pin", &good, "--pin", &next]);
    assert_eq!(dehydrated.run(&["-c", "-x"]), Some(0), "{}", deployed.log());
    assert_eq!(deployed.in_place(), waiting);
    assert!(deployed.serves(&format!("tls/{HOST}/site.pem")));
}

#[test]
fn uacme() {
    let deployed = Deployed::running();
    hpkp_tests::write_program(deployed.path("challenge"), "#!/bin/sh\nexit 0\n");
    // uacme trusts only the CAs of the system, so a mount namespace replaces their file.
    let uacme = |arguments: &str| {
        let script = format!(
            "mount --bind '{}' /etc/ssl/certs/ca-certificates.crt && exec uacme -a '{}' -c U -t EC -h ./challenge -y {arguments}",
            deployed.pebble.ca.display(),
            deployed.pebble.directory()
        );
        let mut command = deployed.command("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", &script]);
        command
    };
    let deploy = || {
        let mut command = deployed.command(&hook("deploy"));
        command.arg(deployed.path("U").join(HOST)).arg(HOST);
        code(&deployed, &mut command)
    };
    fine(&deployed, uacme("new"));
    fine(&deployed, uacme(&format!("issue {HOST}")));
    assert_eq!(deploy(), Some(0), "{}", deployed.log());
    deployed.pin_served_key();
    assert_eq!(deployed.doctor("U"), ["uacme", "kept", "yes"]);
    // uacme names its copies of old files by the second, so renewals must not be in the same second.
    let renew = || {
        std::thread::sleep(std::time::Duration::from_millis(1100));
        fine(&deployed, uacme(&format!("-f issue {HOST}")));
    };
    let before = deployed.certificate();
    renew();
    assert_eq!(deploy(), Some(0), "{}", deployed.log());
    deployed.clients_can_connect();
    assert_ne!(deployed.certificate(), before);

    let before = deployed.certificate();
    fs::remove_file(deployed.path(&format!("U/private/{HOST}/key.pem"))).expect("removed");
    renew();
    assert_eq!(deploy(), Some(1));
    deployed.clients_can_connect();
    assert_eq!(deployed.certificate(), before);
    fs::copy(deployed.path("good.key"), deployed.path(&format!("U/private/{HOST}/key.pem")))
        .expect("a copy");
    renew();
    assert_eq!(deploy(), Some(0), "{}", deployed.log());
    deployed.clients_can_connect();
    assert_ne!(deployed.certificate(), before);

    let planned = deployed.hand_over("U");
    renew();
    assert_eq!(deploy(), Some(0), "{}", deployed.log());
    deployed.presents(&planned);
}
