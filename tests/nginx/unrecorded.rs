//! Configurations that cannot be recorded: a host with too many ports, and a read-only file system.

use std::ops::RangeInclusive;

use hpkp_tests::free_port;
use hpkp_tests::nginx::{Nginx, Reload, codes, tls_server};
use hpkp_tests::recorded::{held_on_port, kinds};
use hpkp_tests::site::prepared;

const NOT_RECORDED: &str = "configuration-not-recorded";

/// More ports than a record has room for.
const PORTS: RangeInclusive<u16> = 1..=4_097;

fn configure(nginx: &Nginx, port: u16, public: RangeInclusive<u16>, certificate: &str) {
    let ports: String =
        public.map(|public| format!("hpkp_public_port {port} {public};\n")).collect();
    let server = tls_server(port, "localhost", certificate, "return 200 x;");
    nginx.configure(&format!("{ports}hpkp_published_pins records writer=web-1;\n{server}"));
}

/// The next record must not continue from the record before the unrecorded configuration.
#[test]
fn a_host_with_too_many_ports_for_a_record_is_not_recorded() {
    let mut nginx = prepared();
    let port = free_port();
    let pki = nginx.pki();
    pki.records("records");
    pki.leaf("old", "localhost", "ca");
    let own = nginx.path("records/web-1.jsonl");
    configure(&nginx, port, 443..=443, "old");
    nginx.start();
    assert_eq!(kinds(&own), ["writer", "presents"]);

    nginx.expect_in_log(&[NOT_RECORDED, "hpkp: [published-pins-unmet]"]);
    configure(&nginx, port, PORTS, "live");
    let before = nginx.log().len();
    assert_eq!(nginx.reload(), Reload::Accepted);
    let log = nginx.log();
    assert_eq!(codes(&log[before..]), [NOT_RECORDED]);
    assert!(log[before..].contains("exceeded by localhost"), "{log}");
    assert_eq!(kinds(&own), ["writer", "presents", "ended"]);

    // Clients hold the pin of the key that is served now.
    held_on_port(&nginx.path("records/apps.jsonl"), "localhost", 443, &pki.pin("live.pem"));
    nginx.test().accepted(&[]);
    assert_eq!(nginx.reload(), Reload::Accepted);
    configure(&nginx, port, 443..=443, "old");
    let outcome = nginx.test();
    assert_eq!(
        (outcome.code, outcome.codes()),
        (Some(1), vec!["published-pins-unmet"]),
        "{}",
        outcome.text
    );

    // A configuration that fits into a record is recorded again.
    configure(&nginx, port, 443..=443, "live");
    let before = nginx.log().len();
    assert_eq!(nginx.reload(), Reload::Accepted);
    assert_eq!(codes(&nginx.log()[before..]), [""; 0]);
    assert_eq!(kinds(&own).last(), Some(&"presents"));
    nginx.stop();
}

/// Bind-mounts a directory on itself, read-only. Only this thread and the processes that it starts see the mount.
fn read_only(at: &std::path::Path) {
    let at = std::ffi::CString::new(at.display().to_string()).expect("no NUL");
    let (none, data) = (std::ptr::null(), std::ptr::null());
    let (bind, again) = (libc::MS_BIND, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY);
    // SAFETY: the string ends with a null byte and outlives the calls; the other pointers may be null.
    unsafe {
        assert_eq!(libc::mount(at.as_ptr(), at.as_ptr(), none, bind, data), 0);
        assert_eq!(libc::mount(none, at.as_ptr(), none, again, data), 0);
    }
}

/// Neither the records nor the reserve can be written: only the running server's memory has what it serves.
#[test]
fn a_file_system_that_is_read_only_for_a_time() {
    // SAFETY: unshare gives only this thread a mount namespace of its own. The string ends with a null byte, and the
    // other pointers may be null.
    let is_allowed = unsafe {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let none = std::ptr::null();
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, c"/".as_ptr(), none, private, none.cast()) == 0
    };
    if !is_allowed {
        eprintln!("not tested: mounts of its own are not allowed");
        return;
    }
    let mut nginx = prepared();
    let port = free_port();
    let pki = nginx.pki();
    pki.records("records");
    pki.records("apps");
    pki.leaf("old", "localhost", "ca");
    let configure = |nginx: &Nginx, certificate: &str| {
        let server = tls_server(port, "localhost", certificate, "return 200 x;");
        let writer = "hpkp_published_pins records writer=web-1;";
        nginx.configure(&format!("{writer}\nhpkp_published_pins apps read_only;\n{server}"));
    };
    configure(&nginx, "old");
    nginx.start();
    let records = nginx.path("records");
    read_only(&records);
    nginx.expect_in_log(&[NOT_RECORDED, "records-not-writable", "hpkp: [published-pins-unmet]"]);
    configure(&nginx, "live");
    nginx.test().accepted(&["records-not-writable"]);
    let before = nginx.log().len();
    assert_eq!(nginx.reload(), Reload::Accepted);
    let log = nginx.log();
    assert!(log[before..].contains("as long as this server runs, any other"), "{log}");

    // Clients of an app hold the pin of the key that is served now.
    held_on_port(&nginx.path("apps/apps.jsonl"), "localhost", port, &pki.pin("live.pem"));
    for is_writable in [false, true] {
        if is_writable {
            let at = std::ffi::CString::new(records.display().to_string()).expect("no NUL");
            // SAFETY: the string ends with a null byte and outlives the call.
            assert_eq!(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) }, 0);
        }
        configure(&nginx, "old");
        let outcome = nginx.test();
        assert!(
            outcome.code == Some(1) && outcome.codes().contains(&"published-pins-unmet"),
            "{outcome:?}"
        );
        configure(&nginx, "live");
        assert_eq!(nginx.test().code, Some(0));
    }
    assert_eq!(nginx.reload(), Reload::Accepted);
    let recorded = kinds(&nginx.path("records/web-1.jsonl"));
    assert_eq!(recorded.iter().filter(|kind| **kind == "presents").count(), 2);
    nginx.test().accepted(&[]);
    configure(&nginx, "old");
    assert_eq!(nginx.test().code, Some(1));
    configure(&nginx, "live");
    nginx.stop();
}
