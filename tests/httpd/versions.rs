//! The oldest httpd that the module supports.

use std::fs;

use hpkp_tests::httpd::{Httpd, Module, Mpm, binary};
use hpkp_tests::{output, write_program};

/// The function that httpd has from 2.4.47 on.
const FUNCTION: &[u8] = b"ap_ssl_conn_is_ssl";

/// A copy of httpd in which that function has another name takes the place of an older httpd.
#[test]
fn an_httpd_before_2_4_47_is_refused_with_the_needed_version() {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    for module in ["ssl", "headers", "http2", "socache_shmcb"] {
        httpd.unload(module);
    }
    httpd.configure("");
    let mut program = fs::read(binary()).expect("a program");
    // ci/sanitize starts httpd by a script, which cannot be patched; this test does not concern memory.
    if program.starts_with(b"#!") {
        return;
    }
    let places: Vec<usize> = (program.windows(FUNCTION.len()).enumerate())
        .filter(|(_, bytes)| *bytes == FUNCTION)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        program[at] = b'X';
    }
    let older = httpd.path("older");
    write_program(&older, program);
    let mut command = std::process::Command::new(older);
    command.args(httpd.command().get_args()).arg("-t");
    let outcome = output(&mut command);
    let text = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.status.code(), Some(1), "{text}");
    assert!(
        text.contains("hpkp: mod_hpkp requires Apache httpd 2.4.47 or later, this is Apache/2.4"),
        "{text}"
    );
    httpd.test().accepted(&[]);
}
