//! The directives in every place that httpd's configuration syntax allows, and httpd's messages for invalid ones.

use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Module, Mpm, listen, tls_vhost};
use hpkp_tests::site::{A, B};

use crate::policy;

fn prepared() -> (Httpd, String, u16) {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    httpd.load(&["macro"]);
    let live = httpd.pki().pin("live.pem");
    (httpd, live, free_port())
}

/// Invalid directives in a policy, httpd's message for each, and its line.
const IN_A_POLICY: [(&str, &str, usize); 8] = [
    ("HPKPNonsense 1", "HPKPNonsense", 1),
    ("ServerAdmin x@example.com", "ServerAdmin", 1),
    ("HPKPUse site", "HPKPUse", 1),
    ("HPKPPin", "HPKPPin", 1),
    ("HPKPMaxAge 1d 2d", "HPKPMaxAge", 1),
    ("HPKPMaxAge 1d\nHPKPMaxAge 2d", "HPKPMaxAge", 2),
    ("HPKPReportURI https://a.example/\nHPKPReportURI https://b.example/", "HPKPReportURI", 2),
    ("HPKPIncludeSubDomains maybe", "HPKPIncludeSubDomains", 1),
];

/// Invalid directives outside a policy, httpd's message for each, and its line.
const ELSEWHERE: [(&str, &str, usize); 17] = [
    ("HPKPPin x", "HPKPPin", 0),
    ("HPKPMaxAge 1d", "HPKPMaxAge", 0),
    ("HPKPIncludeSubDomains on", "HPKPIncludeSubDomains", 0),
    ("HPKPReportURI https://r.example/", "HPKPReportURI", 0),
    ("<VirtualHost *:1>\nHPKPPin x\n</VirtualHost>", "HPKPPin", 1),
    ("HPKPUse", "HPKPUse takes one argument", 0),
    ("HPKPUse a b", "HPKPUse takes one argument", 0),
    ("HPKPUseReportOnly", "HPKPUseReportOnly takes one argument", 0),
    ("HPKPCheck maybe", "HPKPCheck", 0),
    ("HPKPOnStart on", "HPKPOnStart", 0),
    (
        "<VirtualHost *:1>\nHPKPOnStart warn\n</VirtualHost>",
        "HPKPOnStart cannot occur within <VirtualHost> section",
        1,
    ),
    ("<Location />\nHPKPUse x\n</Location>", "HPKPUse not allowed", 1),
    ("<Directory />\nHPKPCheck warn\n</Directory>", "HPKPCheck not allowed", 1),
    ("<Files x>\nHPKPTrustedCertificate x\n</Files>", "HPKPTrustedCertificate not allowed", 1),
    ("HPKPPublishedPins", "HPKPPublishedPins: missing directory", 0),
    (
        "<VirtualHost *:1>\nHPKPPublishedPins a\n</VirtualHost>",
        "HPKPPublishedPins cannot occur within <VirtualHost> section",
        1,
    ),
    ("<Location />\nHPKPPublishedPins a\n</Location>", "HPKPPublishedPins", 1),
];

/// httpd's own messages, and our messages in the same form.
#[test]
fn httpd_s_own_phrases() {
    let (httpd, live, _) = prepared();
    let block = |body: &str| format!("<HPKPPolicy site>\n{body}\n</HPKPPolicy>");
    let rest = format!("HPKPPin {live}\nHPKPPin {B}\nHPKPMaxAge 1d");
    let blocks = [
        (format!("<Location />\n{}\n</Location>", block(&rest)), "not allowed", 1),
        (
            format!("<VirtualHost *:1>\n{}\n</VirtualHost>", block(&rest)),
            "cannot occur within <VirtualHost> section",
            1,
        ),
        (format!("<Directory />\n{}\n</Directory>", block(&rest)), "not allowed", 1),
        (format!("<HPKPPolicy>\n{rest}\n</HPKPPolicy>"), "HPKPPolicy", 0),
        (format!("<HPKPPolicy a b>\n{rest}\n</HPKPPolicy>"), "HPKPPolicy", 0),
        (format!("<HPKPPolicy site\n{rest}\n</HPKPPolicy>"), "HPKPPolicy", 0),
        (format!("<HPKPPolicy site>\n{rest}"), "HPKPPolicy", 0),
        (block(&format!("{}\n", block(&rest))), "HPKPPolicy", 1),
    ];
    let inside = |(body, phrase, line): (&str, _, _)| (block(body), phrase, line);
    let outside = |(text, phrase, line): (&str, _, _)| (text.to_owned(), phrase, line);
    let all = blocks.into_iter().chain(IN_A_POLICY.map(inside)).chain(ELSEWHERE.map(outside));
    for (text, phrase, line) in all {
        httpd.configure(&text);
        let outcome = httpd.test();
        outcome.refused_for(phrase, "httpd.conf", Httpd::FIRST_LINE + line);
        assert!(outcome.codes().is_empty(), "{text}: {outcome:?}");
    }
}

/// `.htaccess` may be written by the site's users, so our directives are not allowed in it.
#[test]
fn directives_in_htaccess_are_not_allowed() {
    let (mut httpd, live, port) = prepared();
    httpd.pki().write("html/.htaccess", "HPKPUse off\n");
    httpd.pki().write("html/file.txt", "x");
    let directory = httpd.path("html").display().to_string();
    httpd.configure(&format!(
        "{}{}<Directory {directory}>\nAllowOverride All\n</Directory>\n{}",
        listen(&[port]),
        policy("site", &[&live, B]),
        tls_vhost(port, "localhost", "live", "HPKPUse site"),
    ));
    httpd.expect_in_log(&["HPKPUse not allowed here"]);
    httpd.start();
    let url = format!("https://localhost:{port}/file.txt");
    let response = Curl::new(&httpd.path("ca.pem")).get(&url);
    assert_eq!((response.status, response.pins().len()), (500, 1));
    httpd.stop();
}

/// Fails unless `text`, which may include `sound`, is accepted, and refused once its pin does not match.
#[track_caller]
fn is_read(httpd: &Httpd, text: &str, sound: &str, live: &str) {
    let pki = httpd.pki();
    pki.write("policy.inc", sound);
    pki.write("pins.inc", format!("HPKPPin {live}\nHPKPPin {B}\n"));
    httpd.configure(text);
    let outcome = httpd.test();
    assert_eq!((outcome.code, outcome.codes().len()), (Some(0), 0), "{text}: {outcome:?}");
    // With another pin in place of the pin of the key in use, the configuration is refused.
    pki.write("policy.inc", sound.replace(live, A));
    pki.write("pins.inc", format!("HPKPPin {A}\nHPKPPin {B}\n"));
    httpd.configure(&text.replace(live, A));
    let outcome = httpd.test();
    assert_eq!(outcome.code, Some(1), "{text}: {outcome:?}");
    assert_eq!(outcome.codes(), ["no-pin-in-chain"], "{text}: {outcome:?}");
}

/// Everything that httpd does with the text before it calls a module.
#[test]
fn ways_to_write_a_configuration() {
    let (httpd, live, port) = prepared();
    let pki = httpd.pki();
    let start = listen(&[port]);
    let sound = policy("site", &[&live, B]);
    let vhost = tls_vhost(port, "localhost", "live", "HPKPUse site");
    std::fs::create_dir(pki.path("sites")).expect("a directory");
    pki.write("sites/1.conf", &vhost);
    let macros = format!(
        "<Macro Pinned $name $certificate $policy>\n{}</Macro>\n",
        tls_vhost(port, "$name", "$certificate", "HPKPUse $policy")
    );
    for text in [
        format!("{start}Include policy.inc\nIncludeOptional sites/*.conf"),
        format!(
            "{start}<HPKPPolicy site>\nInclude pins.inc\nHPKPMaxAge 1d\n</HPKPPolicy>\n{vhost}"
        ),
        format!(
            "{start}Define LIVE {live}\nDefine NAME site\n{}",
            format!("{sound}{vhost}").replace(&live, "${LIVE}").replace("site", "${NAME}")
        ),
        format!("{start}<IfModule hpkp_module>\n{sound}</IfModule>\n{vhost}"),
        format!(
            "{start}{sound}{}",
            tls_vhost(
                port,
                "localhost",
                "live",
                "<IfModule mod_hpkp.c>\nHPKPUse site\n</IfModule>\n<IfModule !hpkp_module>\nnonsense\n</IfModule>"
            )
        ),
        format!("{start}<IfDefine !NOTHING>\n{sound}</IfDefine>\n{vhost}"),
        format!(
            "{start}<HPKPPolicy site>\n<IfModule ssl_module>\nHPKPPin {live}\n</IfModule>\n\
             HPKPPin {B}\nHPKPMaxAge 1d\n</HPKPPolicy>\n{vhost}"
        ),
        format!("{start}{macros}{sound}Use Pinned localhost live site\nUndefMacro Pinned"),
        format!(
            "{start}<Macro Policy $name $age>\n{}</Macro>\nUse Policy site 1d\n{vhost}",
            policy("$name", &[&live, B]).replace("MaxAge 1d", "MaxAge $age")
        ),
        // Line ends of another system, and continued lines.
        format!("{start}{sound}{vhost}").replace('\n', "\r\n"),
        format!("{start}{sound}{vhost}")
            .replace("HPKPPin ", "HPKPPin \\\n   ")
            .replace("HPKPUse site", "HPKPUse \\\nsite"),
        format!("{start}{sound}{vhost}")
            .replace("HPKPPin", "  hpkppin\t")
            .replace("HPKPUse", "hpkpuse"),
        format!("{start}{}{vhost}", sound.replace("<HPKPPolicy site>", "<hpkppolicy \"site\" >")),
        format!(
            "# a comment\n\n{start}{}{vhost}",
            sound.replace("HPKPMaxAge", "# a comment\n\nHPKPMaxAge")
        ),
    ] {
        is_read(&httpd, &text, &sound, &live);
    }
}

#[test]
fn places_in_included_files_and_macros() {
    let (httpd, live, port) = prepared();
    let start = listen(&[port]);
    let vhost = tls_vhost(port, "localhost", "live", "HPKPUse site");
    httpd.pki().write("pins.inc", format!("HPKPPin {live}\nHPKPPin nonsense\n"));
    httpd.configure(&format!(
        "{start}<HPKPPolicy site>\nInclude pins.inc\nHPKPMaxAge 1d\n</HPKPPolicy>\n{vhost}"
    ));
    httpd.test().refused_for("hpkp: [malformed-pin]", "pins.inc", 2);

    httpd.pki().write("site.inc", &vhost);
    httpd.configure(&format!("{start}{}Include site.inc\n", policy("site", &[A, B])));
    httpd.test().refused_for("hpkp: [no-pin-in-chain]", "site.inc", 6);

    // A macro has no file; httpd names its text after the macro.
    httpd.configure(&format!(
        "{start}{}<Macro Pinned>\n{vhost}</Macro>\nUse Pinned\n",
        policy("site", &[A, B])
    ));
    let outcome = httpd.test();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let first =
        outcome.text.lines().find(|line| line.contains("hpkp: [no-pin-in-chain] localhost:"));
    // Nested macros and their arguments can make such a name of any length.
    let first = first.expect("a finding");
    assert!(first.to_lowercase().contains("macro 'pinned'"), "{first}");
}

#[test]
fn a_directory_of_its_own_is_where_relative_paths_begin() {
    let (mut httpd, live, port) = prepared();
    httpd.load(&["dir"]);
    let pki = httpd.pki();
    pki.write("html/index.html", "x");
    std::fs::create_dir(pki.path("pins")).expect("a directory");
    std::fs::rename(pki.path("backup.csr"), pki.path("pins/backup.csr")).expect("a file moved");
    let absolute = pki.path("pins/backup.csr").display().to_string();
    for backup in ["file:pins/backup.csr", &format!("file:{absolute}")] {
        httpd.configure(&format!(
            "{}{}{}",
            listen(&[port]),
            policy("site", &[&live, backup]),
            tls_vhost(port, "localhost", "live", "HPKPUse site"),
        ));
        httpd.test().accepted(&[]);
        httpd.start();
        let url = format!("https://localhost:{port}/");
        let response = Curl::new(&httpd.path("ca.pem")).get(&url);
        let expected = httpd.pki().pin("pins/backup.csr");
        assert!(response.pins()[0].contains(&expected), "{response:?}");
        httpd.stop();
    }
}
