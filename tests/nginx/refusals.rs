//! Bad input: the cases for both servers, and nginx's own phrases.

use hpkp_tests::nginx::Nginx;
use hpkp_tests::site::prepared;

hpkp_tests::refusals!(Nginx);
hpkp_tests::policies!(Nginx);
hpkp_tests::published_pins!(Nginx);
hpkp_tests::reached!(Nginx);

#[test]
fn nginx_s_own_phrases() {
    let nginx = prepared();
    let policy = |body: &str| format!("hpkp_policy site {{ {body} }}");
    for (http, phrase) in [
        (policy("nonsense 1;"), "unknown directive \"nonsense\" in "),
        (policy("nonsense;"), "unknown directive \"nonsense\" in "),
        (policy("pin;"), "invalid number of arguments in \"pin\" directive in "),
        (policy("max_age 1d 2d;"), "invalid number of arguments in \"max_age\" directive in "),
        (policy("max_age 1d; max_age 1d;"), "\"max_age\" directive is duplicate in "),
        (
            policy("report_uri https://a.example/; report_uri https://b.example/;"),
            "\"report_uri\" directive is duplicate in ",
        ),
        (
            policy("include_subdomains on; include_subdomains off;"),
            "\"include_subdomains\" directive is duplicate in ",
        ),
        (
            policy("include_subdomains yes;"),
            "invalid value \"yes\" in \"include_subdomains\" directive, it must be \"on\" or \"off\" in ",
        ),
        ("hpkp_policy;".into(), "directive \"hpkp_policy\" has no opening \"{\" in "),
        ("hpkp_policy { }".into(), "invalid number of arguments in \"hpkp_policy\" directive in "),
        ("hpkp;".into(), "invalid number of arguments in \"hpkp\" directive in "),
        ("hpkp_policy x;".into(), "directive \"hpkp_policy\" has no opening \"{\" in "),
        ("hpkp a; hpkp b;".into(), "\"hpkp\" directive is duplicate in "),
        ("hpkp off; hpkp off;".into(), "\"hpkp\" directive is duplicate in "),
        ("hpkp a b;".into(), "invalid parameter \"b\" in "),
        (
            "hpkp_report_only a; hpkp_report_only a;".into(),
            "\"hpkp_report_only\" directive is duplicate in ",
        ),
        ("hpkp_check warn; hpkp_check warn;".into(), "\"hpkp_check\" directive is duplicate in "),
        ("hpkp_check maybe;".into(), "invalid value \"maybe\" in \"hpkp_check\" directive, "),
        ("hpkp_on_start on;".into(), "invalid value \"on\" in \"hpkp_on_start\" directive, "),
        (
            "server { hpkp_on_start warn; }".into(),
            "\"hpkp_on_start\" directive is not allowed here",
        ),
        ("server { hpkp_policy x { } }".into(), "\"hpkp_policy\" directive is not allowed here"),
        ("server { location / { hpkp x; } }".into(), "\"hpkp\" directive is not allowed here"),
        ("pin x;".into(), "unknown directive \"pin\" in "),
        ("hpkp_policy x { pin { } }".into(), "unexpected \"{\" in "),
        ("hpkp_policy x { pin }".into(), "unexpected \"}\" in "),
        (
            "hpkp_trusted_certificate a; hpkp_trusted_certificate b;".into(),
            "\"hpkp_trusted_certificate\" directive is duplicate in ",
        ),
        (
            "hpkp_published_pins;".into(),
            "invalid number of arguments in \"hpkp_published_pins\" directive in ",
        ),
        (
            "hpkp_published_pins a writer=b read_only c;".into(),
            "invalid number of arguments in \"hpkp_published_pins\" directive in ",
        ),
        (
            "server { hpkp_published_pins a; }".into(),
            "\"hpkp_published_pins\" directive is not allowed here",
        ),
        (
            "server { location / { hpkp_published_pins a; } }".into(),
            "\"hpkp_published_pins\" directive is not allowed here",
        ),
    ] {
        nginx.configure(&http);
        let said = nginx.test();
        assert_eq!(said.code, Some(1), "{http}: {}", said.text);
        assert!(said.text.contains(phrase), "{http}: {}", said.text);
        assert!(said.text.contains("nginx.conf:8"), "{http}: {}", said.text);
    }
}
