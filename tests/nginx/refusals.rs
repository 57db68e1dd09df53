//! Bad input ends in a clear refusal, never in a crash.

use hpkp_tests::nginx::{Nginx, tls_server};

/// A server with a certificate `live`, a CA `ca` and a request `backup`.
pub fn prepared() -> Nginx {
    let nginx = Nginx::new();
    let pki = nginx.pki();
    pki.ca("ca");
    pki.leaf("live", "localhost", "ca");
    pki.key("backup", hpkp_tests::pki::P256);
    pki.request("backup", "/CN=backup");
    nginx
}

#[test]
fn a_sound_configuration_passes_in_silence() {
    let nginx = prepared();
    let pin = nginx.pki().pin("live.pem");
    nginx.configure(&format!(
        "hpkp_policy site {{ pin sha256/{pin}; pin file:backup.csr; max_age 1d; }}\n{}",
        tls_server(hpkp_tests::free_port(), "localhost", "live", "hpkp site;")
    ));
    nginx.test().accepted(&[]);
}
