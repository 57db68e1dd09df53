//! The files of `packaging/apache2` in Debian's module layout, enabled and disabled by Debian's own commands.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use hpkp_tests::httpd::{Kind, Module, Outcome, binary};
use hpkp_tests::instance::without_leaks;
use hpkp_tests::output;
use hpkp_tests::pki::Pki;
use hpkp_tests::site::{B, furnish};

const PACKAGED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/apache2");
const DEBIAN: &str = "/etc/apache2";

/// A copy of Debian's configuration with our files in it and no module enabled.
fn layout(dir: &Path) {
    for part in ["apache2.conf", "ports.conf", "magic", "mods-available"] {
        let copied = output(Command::new("cp").arg("-RL").arg(format!("{DEBIAN}/{part}")).arg(dir));
        assert!(copied.status.success(), "{copied:?}");
    }
    for part in ["mods-enabled", "conf-enabled", "sites-enabled", "run"] {
        fs::create_dir(dir.join(part)).expect("a directory");
    }
    // The copy of hpkp.load names the module where it was built.
    let module = Module::Shipped.file("HPKP_HTTPD_MODULES", "mod_hpkp.so").expect("a module");
    let load = fs::read_to_string(format!("{PACKAGED}/hpkp.load")).expect("a file");
    let installed = "/usr/lib/apache2/modules/mod_hpkp.so";
    assert!(load.contains(installed), "{load}");
    let load = load.replace(installed, module.to_str().expect("a path in UTF-8"));
    fs::write(dir.join("mods-available/hpkp.load"), load).expect("a file");
    fs::copy(format!("{PACKAGED}/hpkp.conf"), dir.join("mods-available/hpkp.conf"))
        .expect("a file");
}

/// A command for a configuration in `dir`.
fn command(program: impl AsRef<OsStr>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("HPKP_CHECK").env("APACHE_CONFDIR", dir).current_dir(dir);
    for (name, file) in [
        ("APACHE_STATE_DIRECTORY", "state"),
        ("APACHE_RUN_DIR", "run"),
        ("APACHE_LOG_DIR", "run"),
        ("APACHE_LOCK_DIR", "run"),
        ("APACHE_PID_FILE", "run/pid"),
    ] {
        command.env(name, dir.join(file));
    }
    command.env("APACHE_RUN_USER", "www-data").env("APACHE_RUN_GROUP", "www-data");
    command
}

#[track_caller]
fn run(program: &str, dir: &Path, modules: &[&str]) -> String {
    let output = output(command(format!("/usr/sbin/{program}"), dir).args(modules));
    let outcome = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {modules:?}: {output:?}");
    outcome
}

fn test(dir: &Path) -> Outcome {
    let mut command = command(binary(), dir);
    // httpd ends without freeing its memory, on purpose.
    let output = output(command.envs(without_leaks()).arg("-d").arg(dir).arg("-t"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Outcome { kind: Kind::Httpd, code: output.status.code(), text }
}

/// The directives of the example: in the comment, they follow the `#` without a blank or, inside the
/// block, with several.
fn example(text: &str) -> String {
    text.lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .skip_while(|line| !line.starts_with("<HPKPPolicy"))
        .take_while(|line| !line.is_empty())
        .fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn enabled_and_disabled_as_debian_does_it() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path();
    let pki = Pki::new(dir);
    furnish(&pki);
    layout(dir);

    // a2enmod enables the modules on which hpkp depends.
    let outcome = run("a2enmod", dir, &["mpm_event", "authz_core", "hpkp"]);
    assert!(outcome.contains("Considering dependency ssl for hpkp"), "{outcome}");
    assert!(dir.join("mods-enabled/hpkp.load").is_symlink());
    assert!(dir.join("mods-enabled/hpkp.conf").is_symlink());
    assert!(dir.join("mods-enabled/ssl.load").is_symlink());
    test(dir).accepted(&[]);

    let packaged = fs::read_to_string(dir.join("mods-available/hpkp.conf")).expect("a file");
    assert!(packaged.lines().all(|line| line.starts_with('#')), "{packaged}");

    // The example in the comments works.
    let site = "<VirtualHost 127.0.0.1:443>\nServerName localhost\nSSLEngine on\n\
                SSLCertificateFile live.pem\nSSLCertificateKeyFile live.key\nHPKPUse site\n\
                </VirtualHost>\n";
    pki.write("sites-enabled/site.conf", site);
    let example = example(&packaged);
    let examples: Vec<&str> =
        example.split_whitespace().filter(|w| w.starts_with("sha256/")).collect();
    assert_eq!(examples.len(), 2, "{example}");
    pki.write("mods-available/hpkp.conf", &example);
    test(dir).refused_for("hpkp: [no-pin-in-chain]", "sites-enabled/site.conf", 6);
    let ours = example
        .replace(examples[0], &format!("sha256/{}", pki.pin("live.pem")))
        .replace(examples[1], &format!("sha256/{B}"));
    pki.write("mods-available/hpkp.conf", ours);
    test(dir).accepted(&[]);

    // Once no site has the directives any more, the module can be disabled.
    run("a2dismod", dir, &["hpkp"]);
    assert!(!dir.join("mods-enabled/hpkp.load").exists());
    let outcome = test(dir);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.text.contains("Invalid command 'HPKPUse'"), "{outcome:?}");
    pki.write("sites-enabled/site.conf", site.replace("HPKPUse site\n", ""));
    test(dir).accepted(&[]);
}
