//! Tells the compiler whether the linked OpenSSL has ML-DSA (3.5 and later).

fn main() {
    println!("cargo:rustc-check-cfg=cfg(ossl350)");
    println!("cargo:rerun-if-changed=build.rs");
    // openssl-sys says so to those that depend on it.
    let version = std::env::var("DEP_OPENSSL_VERSION_NUMBER").unwrap_or_default();
    if u64::from_str_radix(&version, 16).is_ok_and(|version| version >= 0x3050_0000) {
        println!("cargo:rustc-cfg=ossl350");
    }
}
