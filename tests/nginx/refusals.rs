//! Bad input: the cases for both servers, and nginx's own phrases.

use hpkp_tests::nginx::Nginx;
use hpkp_tests::site::prepared;

hpkp_tests::refusals!(Nginx);
hpkp_tests::policies!(Nginx);
hpkp_tests::published_pins!(Nginx);
hpkp_tests::reached!(Nginx);

/// Invalid directives in a policy, and nginx's message for each.
const IN_A_POLICY: [(&str, &str); 8] = [
    ("nonsense 1;", "unknown directive \"nonsense\" in "),
    ("nonsense;", "unknown directive \"nonsense\" in "),
    ("pin;", "invalid number of arguments in \"pin\" directive in "),
    ("max_age 1d 2d;", "invalid number of arguments in \"max_age\" directive in "),
    ("max_age 1d; max_age 1d;", "\"max_age\" directive is duplicate in "),
    (
        "report_uri https://a.example/; report_uri https://b.example/;",
        "\"report_uri\" directive is duplicate in ",
    ),
    (
        "include_subdomains on; include_subdomains off;",
        "\"include_subdomains\" directive is duplicate in ",
    ),
    (
        "include_subdomains yes;",
        "invalid value \"yes\" in \"include_subdomains\" directive, it must be \"on\" or \"off\" in ",
    ),
];

/// Invalid directives outside a policy, and nginx's message for each.
const ELSEWHERE: [(&str, &str); 22] = [
    ("hpkp_policy;", "directive \"hpkp_policy\" has no opening \"{\" in "),
    ("hpkp_policy { }", "invalid number of arguments in \"hpkp_policy\" directive in "),
    ("hpkp;", "invalid number of arguments in \"hpkp\" directive in "),
    ("hpkp_policy x;", "directive \"hpkp_policy\" has no opening \"{\" in "),
    ("hpkp a; hpkp b;", "\"hpkp\" directive is duplicate in "),
    ("hpkp off; hpkp off;", "\"hpkp\" directive is duplicate in "),
    ("hpkp a b;", "invalid parameter \"b\" in "),
    ("hpkp_report_only a; hpkp_report_only a;", "\"hpkp_report_only\" directive is duplicate in "),
    ("hpkp_check warn; hpkp_check warn;", "\"hpkp_check\" directive is duplicate in "),
    ("hpkp_check maybe;", "invalid value \"maybe\" in \"hpkp_check\" directive, "),
    ("hpkp_on_start on;", "invalid value \"on\" in \"hpkp_on_start\" directive, "),
    ("server { hpkp_on_start warn; }", "\"hpkp_on_start\" directive is not allowed here"),
    ("server { hpkp_policy x { } }", "\"hpkp_policy\" directive is not allowed here"),
    ("server { location / { hpkp x; } }", "\"hpkp\" directive is not allowed here"),
    ("pin x;", "unknown directive \"pin\" in "),
    ("hpkp_policy x { pin { } }", "unexpected \"{\" in "),
    ("hpkp_policy x { pin }", "unexpected \"}\" in "),
    (
        "hpkp_trusted_certificate a; hpkp_trusted_certificate b;",
        "\"hpkp_trusted_certificate\" directive is duplicate in ",
    ),
    (
        "hpkp_published_pins;",
        "invalid number of arguments in \"hpkp_published_pins\" directive in ",
    ),
    (
        "hpkp_published_pins a writer=b read_only c;",
        "invalid number of arguments in \"hpkp_published_pins\" directive in ",
    ),
    ("server { hpkp_published_pins a; }", "\"hpkp_published_pins\" directive is not allowed here"),
    (
        "server { location / { hpkp_published_pins a; } }",
        "\"hpkp_published_pins\" directive is not allowed here",
    ),
];

#[test]
fn nginx_s_own_phrases() {
    let nginx = prepared();
    let inside = |(body, phrase)| (format!("hpkp_policy site {{ {body} }}"), phrase);
    let outside = |(http, phrase): (&str, _)| (http.to_owned(), phrase);
    let all = IN_A_POLICY.map(inside).into_iter().chain(ELSEWHERE.map(outside));
    for (http, phrase) in all {
        nginx.configure(&http);
        let outcome = nginx.test();
        assert_eq!(outcome.code, Some(1), "{http}: {}", outcome.text);
        assert!(outcome.text.contains(phrase), "{http}: {}", outcome.text);
        assert!(outcome.text.contains("nginx.conf:8"), "{http}: {}", outcome.text);
    }
}
