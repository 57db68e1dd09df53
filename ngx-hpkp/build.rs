//! Turns what nginx-sys found out about nginx into checked cfgs.

fn main() {
    // The file stays loaded: nginx's chain of filters may outlive the configuration that loaded it
    // (src/filter.rs), and what libraries keep in statics would be lost at each reload.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
    // Its own symbols are its own: nginx makes them known to all that it loads later, so another
    // build of the module, loaded at a reload after an upgrade, would use those of this one.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-Bsymbolic");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_VERSION_NUMBER");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_FEATURES");

    let version: u64 = std::env::var("DEP_NGINX_VERSION_NUMBER")
        .ok()
        .and_then(|version| version.parse().ok())
        .unwrap_or_default();
    let features = std::env::var("DEP_NGINX_FEATURES").unwrap_or_default();

    let has = |name: &str| features.split(',').any(|feature| feature == name);

    // (cfg, whether it holds, what it means)
    let cfgs = [
        // ngx_table_elt_t has a link to the next field of the same name.
        ("ngx_table_elt_next", version >= 1_023_000),
        // Fields of a backend's interim response 103 are passed on, through filters of their own.
        ("ngx_early_hints", version >= 1_029_000),
        // A name of a server may be a regular expression.
        ("ngx_pcre", has("pcre")),
        // The directive `ssl on` makes a server speak TLS on every address.
        ("ngx_ssl_on", version < 1_025_001),
        // An address may be for QUIC alone.
        ("ngx_quic", has("http_v3")),
    ];
    for (name, holds) in cfgs {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if holds {
            println!("cargo::rustc-cfg={name}");
        }
    }
}
