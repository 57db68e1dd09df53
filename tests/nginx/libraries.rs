//! Other libraries in nginx's process that define functions with OpenSSL's names.

use std::process::Command;

use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::nginx::{Nginx, tls_server};
use hpkp_tests::site::{A, B, prepared};
use hpkp_tests::succeed;

/// A sanitizer's library must be loaded first, but these tests preload another library.
fn is_sanitized() -> bool {
    std::env::var_os("ASAN_OPTIONS").is_some()
}

/// Builds `libother.so` with functions of these names that return null.
fn other_library(nginx: &Nginx, functions: &[&str]) -> String {
    let text: String =
        functions.iter().map(|name| format!("void *{name}(void) {{ return 0; }}\n")).collect();
    let source = nginx.pki().write("other.c", text);
    let library = nginx.path("libother.so");
    let mut compiler = Command::new("gcc");
    compiler.args(["-shared", "-fPIC", "-fno-builtin", "-w", "-o"]).arg(&library).arg(source);
    succeed(&mut compiler);
    library.display().to_string()
}

#[test]
fn functions_of_another_library_are_passed_over() {
    if is_sanitized() {
        return;
    }
    let mut nginx = prepared();
    // Functions that the module needs, and that neither nginx nor OpenSSL itself calls here.
    let library = other_library(&nginx, &["SSL_CTX_get0_certificate", "X509_verify"]);
    nginx.set_environment("LD_PRELOAD", &library);
    let (pin, port) = (nginx.pki().pin("live.pem"), free_port());
    let http = |pin: &str| {
        format!(
            "hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}\n{}",
            tls_server(port, "localhost", "live", "hpkp site; return 200 x;")
        )
    };
    nginx.configure(&http(A));
    nginx.test().refused("no-pin-in-chain", Nginx::FIRST_LINE + 1);
    nginx.configure(&http(&pin));
    nginx.test().accepted(&[]);
    nginx.start();
    let response = Curl::new(&nginx.path("ca.pem")).get(&format!("https://localhost:{port}/"));
    assert_eq!(response.pins().len(), 1);
    nginx.stop();
}

#[test]
fn a_library_that_is_not_whole_is_not_mixed_with_another() {
    if is_sanitized() {
        return;
    }
    let mut nginx = prepared();
    // nginx calls the function of this library, which calls the one of OpenSSL.
    let source = nginx.pki().write(
        "wrapper.c",
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n\
         int SSL_CTX_use_certificate(void *c, void *x) {\n\
         int (*next)(void *, void *) = dlsym(RTLD_NEXT, \"SSL_CTX_use_certificate\"); return next(c, x); }\n",
    );
    let library = nginx.path("libwrapper.so");
    let mut compiler = Command::new("gcc");
    compiler.args(["-shared", "-fPIC", "-w", "-o"]).arg(&library).arg(source).arg("-ldl");
    succeed(&mut compiler);
    nginx.set_environment("LD_PRELOAD", &library.display().to_string());
    let (pin, port) = (nginx.pki().pin("live.pem"), free_port());
    nginx.configure(&format!(
        "hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}\n{}",
        tls_server(port, "localhost", "live", "hpkp site; return 200 x;")
    ));
    let outcome = nginx.test();
    outcome.refused("unsupported-openssl", Nginx::FIRST_LINE + 1);
    assert!(outcome.text.contains("libwrapper.so"), "{}", outcome.text);
}
