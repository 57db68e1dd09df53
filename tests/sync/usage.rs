//! Arguments of the command, credentials, and behaviour that only one kind of store has.

use std::process::Command;

use crate::engine::{Directory, Engine};
use crate::machine::{Machine, outcome};
use crate::postgres::Postgres;

#[test]
fn a_password_on_the_command_line_is_refused_and_not_repeated() {
    let engine = Directory::start();
    let mut machine = Machine::new(&engine, "web-1");
    for url in [
        "postgres://u:hunter2@127.0.0.1/x",
        "git+https://hunter2@127.0.0.1/x",
        "s3://a:hunter2@b/c",
    ] {
        machine.url = url.to_owned();
        let refused = machine.run(&[]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(
            !format!("{refused:?}").contains("hunter2") && refused.err.contains("password"),
            "{refused:?}"
        );
    }
    // A file may contain a password, if no other user can read the file.
    let file = machine.at.path().join("store");
    std::fs::write(&file, "postgres://u:hunter2@127.0.0.1:1/x\n").unwrap();
    let run = |mode| {
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp-sync"));
        outcome(command.arg("-d").arg(machine.path()).arg("--store-file").arg(&file))
    };
    let (open, closed) = (run(0o644), run(0o600));
    assert_eq!((open.code, closed.code), (Some(2), Some(3)), "{open:?} {closed:?}");
    assert!(
        open.err.contains("chmod 600") && closed.err.contains("[store-unavailable]"),
        "{open:?} {closed:?}"
    );
    assert!(!format!("{open:?}{closed:?}").contains("hunter2"));
}

#[test]
fn the_environment_may_name_the_store() {
    let engine = Directory::start();
    let machine = &Machine::fleet(&engine, 1)[0];
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp-sync"));
    command.arg("-d").arg(machine.path()).env("HPKP_STORE", &machine.url);
    assert_eq!(outcome(&mut command).code, Some(0));
    let none = outcome(command.env_remove("HPKP_STORE"));
    assert_eq!(none.code, Some(2), "{none:?}");
}

/// A role may add records only for its own writers, and may not change or delete records.
#[test]
fn a_role_of_postgresql_writes_only_its_own_records() {
    let postgres = Postgres::start();
    let mut fleet = Machine::fleet(&postgres, 2);
    postgres.sql("hpkp", "CREATE ROLE web1 LOGIN; CREATE ROLE web2 LOGIN; SELECT hpkp.admit('web1', 'web-1', 'other')");
    fleet[0].url = postgres.url_of("web1");
    fleet[0].sync().fine();
    fleet[1].url = postgres.url_of("web2");
    fleet[1].sync().found("store-denied");
    fleet[1].url = postgres.url_of("web1");
    fleet[1].sync().found("store-denied");
    postgres.sql("hpkp", "SELECT hpkp.admit('web2', 'web-2')");
    fleet[1].url = postgres.url_of("web2");
    fleet[1].sync().fine();
    fleet[0].sync().fine();
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    for sql in [
        "UPDATE hpkp.record SET line = 'x' WHERE writer = 'web-1'",
        "DELETE FROM hpkp.record WHERE writer = 'web-1'",
        "INSERT INTO hpkp.record VALUES ('web-2', 99, 'x', 'y')",
        "INSERT INTO hpkp.grants VALUES ('web1', 'web-2')",
        "SELECT hpkp.admit('web1', 'web-2')",
        "TRUNCATE hpkp.record",
    ] {
        let tried = Command::new("psql")
            .args(["-X", "-d", &postgres.url_of("web1"), "-c", sql])
            .output()
            .unwrap();
        assert!(!tried.status.success(), "{sql}: {tried:?}");
    }
    // A role can read all rows of other writers and change none.
    let changed = Command::new("psql")
        .args([
            "-X",
            "-d",
            &postgres.url_of("web1"),
            "-c",
            "UPDATE hpkp.writer SET seq = 0 WHERE writer = 'web-2'",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&changed.stdout).trim(), "UPDATE 0", "{changed:?}");
    fleet[0].run(&["--json", "--lease", "a.example", "--settle", "1", "--then", "true"]).fine();
    fleet[1].run(&["--json", "--lease", "a.example", "--settle", "1", "--then", "true"]).fine();
}

/// A certificate for the address of the server, and one for another name.
fn make_certificates(path: &dyn Fn(&str) -> String) {
    let openssl =
        |arguments: &[&str]| drop(hpkp_tests::succeed(Command::new("openssl").args(arguments)));
    for (name, subject) in
        [("server", "subjectAltName=IP:127.0.0.1"), ("other", "subjectAltName=DNS:db.example.com")]
    {
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=test",
            "-addext",
            subject,
            "-keyout",
            &path(&format!("{name}.key")),
            "-out",
            &path(&format!("{name}.crt")),
        ]);
        for file in [format!("{name}.key"), format!("{name}.crt")] {
            std::fs::set_permissions(
                path(&file),
                std::os::unix::fs::PermissionsExt::from_mode(0o600),
            )
            .unwrap();
            let _ = std::os::unix::fs::chown(path(&file), Some(65_534), Some(65_534));
        }
    }
}

/// The certificate of the server is verified, including the name.
#[test]
fn tls_to_postgresql_is_verified() {
    let postgres = Postgres::start();
    let at = postgres.directory().to_owned();
    let path = |name: &str| at.join(name).to_str().unwrap().to_owned();
    make_certificates(&path);
    let mut machine = Machine::new(&postgres, "web-1");
    machine.add(1);
    let tls = |name: &str| {
        postgres.sql(
            "postgres",
            &format!("ALTER SYSTEM SET ssl_cert_file = '{}'", path(&format!("{name}.crt"))),
        );
        postgres.sql(
            "postgres",
            &format!("ALTER SYSTEM SET ssl_key_file = '{}'", path(&format!("{name}.key"))),
        );
        postgres.sql("postgres", "ALTER SYSTEM SET ssl = on");
        postgres.sql("postgres", "SELECT pg_reload_conf()");
        std::thread::sleep(std::time::Duration::from_millis(500));
    };
    tls("server");
    machine.run(&["--init", "--json"]).fine();
    let plain = machine.url.clone();
    machine.url = format!("{plain}?sslmode=verify-full");
    machine.sync().found("store-unavailable");
    machine.url = format!("{plain}?sslmode=require&sslrootcert={}", path("other.crt"));
    machine.sync().found("store-unavailable");
    machine.url = format!("{plain}?sslmode=verify-full&sslrootcert={}", path("server.crt"));
    machine.sync().fine();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl WHERE ssl";
    assert_eq!(postgres.sql("postgres", encrypted).trim(), "0");
    // This machine trusts the certificate, but the name is another one.
    tls("other");
    machine.url = format!("{plain}?sslmode=verify-full&sslrootcert={}", path("other.crt"));
    machine.sync().found("store-unavailable");
    machine.url = format!("{plain}?sslmode=prefer");
    assert_eq!(machine.sync().code, Some(3));
}

/// With --watch, a notification of the database starts a pass as soon as new records are written.
#[test]
fn a_watching_machine_receives_new_records_of_postgresql_at_once() {
    let postgres = Postgres::start();
    let mut fleet = Machine::fleet(&postgres, 2);
    let mut waiting =
        fleet[0].command(&["--watch", "3600"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    crate::wait_for("a first pass", || fleet[0].path().join("hpkp-heard").exists());
    std::thread::sleep(std::time::Duration::from_millis(500));
    fleet[1].add(1);
    fleet[1].sync().fine();
    crate::wait_for("the copy", || fleet[0].copy_of("web-2") == fleet[1].records());
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}

#[test]
fn a_directory_without_a_marker_is_reported() {
    let engine = Directory::start();
    let machine = &Machine::fleet(&engine, 1)[0];
    std::fs::remove_file(machine.path().join("hpkp-records")).unwrap();
    let outcome = machine.sync();
    outcome.found("own-records-unreadable");
    assert!(outcome.err.contains("hpkp-records"), "{outcome:?}");
    assert_eq!(engine.url(), machine.url);
}
