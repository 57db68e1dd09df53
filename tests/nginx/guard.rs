//! `hpkp_guard`: certificates named by variables may change in running workers. nginx presents a changed
//! certificate only if clients accept it, and otherwise the last good one.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use hpkp_core::published::{Body, Compromised, Event};
use hpkp_tests::client::Curl;
use hpkp_tests::clock::{Clock, DAY};
use hpkp_tests::nginx::{Nginx, Reload, codes, compile_module, load_modules, tls_server, version};
use hpkp_tests::pki::leaf_extensions;
use hpkp_tests::recorded::held_on_port;
use hpkp_tests::session::SessionClient;
use hpkp_tests::site::{B, prepared};
use hpkp_tests::{free_port, succeed};

const SERVED: &str = "kept-certificate-served";
const NOT_USED: &str = "kept-certificate-not-used";
const NOT_KEPT: &str = "certificate-not-kept";
const AT_HANDSHAKE: &str = "certificate-checked-at-handshake";
const AGAIN: &str = "is presented again: clients accept it";
const VARIABLES: &str =
    "ssl_certificate $hpkp_certificate; ssl_certificate_key $hpkp_certificate_key;";

/// How often a fresh connection is tried, so that both workers are asked.
const TRIES: usize = 6;

/// A server with two workers and a guard of `current.pem` and `current.key`.
struct Site {
    nginx: Nginx,
    port: u16,
    http: String,
    server: String,
    main: &'static str,
}

impl Site {
    /// With certificates `one`, `two`, `three` and `backup` for localhost. `one` is the given certificate;
    /// `one` and `backup` are pinned.
    fn new() -> Self {
        let mut nginx = prepared();
        let pki = nginx.pki();
        pki.records("records");
        pki.leaf("one", "localhost", "ca");
        pki.leaf("two", "localhost", "ca");
        pki.leaf("three", "localhost", "ca");
        pki.sign("backup", "/CN=localhost", "ca", &leaf_extensions("localhost"));
        nginx.expect_in_log(&[AT_HANDSHAKE, AGAIN]);
        let kept = nginx.path("kept");
        fs::create_dir(&kept).expect("a directory");
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o700)).expect("a mode");
        let pin = pki.pin("one.pem");
        let http = format!(
            "hpkp_published_pins records writer=web-1; hpkp_keep_certificates kept;\n\
             hpkp_policy site {{ pin {pin}; pin file:backup.csr; pin {B}; max_age 1d; }}\n"
        );
        let main = "worker_processes 2;";
        let server = "hpkp site; return 200 x;".to_owned();
        let site = Self { nginx, port: free_port(), http, server, main };
        site.give("one");
        site.configure();
        site
    }

    fn started() -> Self {
        let mut site = Self::new();
        site.nginx.start();
        site
    }

    /// Started, without a policy and a directory for kept certificates: only apps hold pins.
    fn of_apps(server: &str) -> Self {
        let mut site = Self::new();
        site.nginx.expect_in_log(&[SERVED]);
        site.http = "hpkp_published_pins records writer=web-1;\n".to_owned();
        site.server = server.to_owned();
        site.configure();
        site.nginx.start();
        site
    }

    /// Without a directory for kept certificates.
    fn in_memory() -> Self {
        let mut site = Self::new();
        site.http = site.http.replace("hpkp_keep_certificates kept;", "");
        site.configure();
        site.nginx.start();
        site
    }

    fn configure(&self) {
        self.configure_with(
            "map $ssl_server_name $current { default current; }",
            "hpkp_guard $current.pem $current.key;",
        );
    }

    fn configure_with(&self, http: &str, guard: &str) {
        let Self { port, server, .. } = self;
        self.nginx.configure_with(
            self.main,
            &format!(
                "{}{http}\nserver {{ listen 127.0.0.1:{port} ssl reuseport; server_name localhost;\n\
                 {guard}\n{VARIABLES}\n{server} }}",
                self.http
            ),
        );
    }

    /// Gives the running workers a certificate and its key.
    fn give(&self, name: &str) {
        self.give_pair(name, name);
    }

    fn give_pair(&self, certificate: &str, key: &str) {
        // A worker that shakes hands between the two renames finds a key that does not fit the certificate.
        for (from, to) in
            [(format!("{certificate}.pem"), "current.pem"), (format!("{key}.key"), "current.key")]
        {
            let new = self.nginx.path("new");
            fs::copy(self.nginx.path(&from), &new).expect("a copy");
            fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).expect("a mode");
            fs::rename(new, self.nginx.path(to)).expect("a file put in place");
        }
    }

    fn pin(&self, name: &str) -> String {
        self.nginx.pki().pin(&format!("{name}.pem"))
    }

    /// Fails unless the server presents the certificate `name` on each of some new connections.
    #[track_caller]
    fn presents(&self, name: &str) {
        let pin = format!("sha256//{}", self.pin(name));
        let curl = Curl::new(&self.nginx.path("ca.pem")).with(&["--pinnedpubkey", &pin]);
        for _ in 0..TRIES {
            let code = curl.exit_code(&self.url());
            assert_eq!(code, Some(0), "presents {name}: {}", self.nginx.log());
        }
    }

    fn headers(&self) -> usize {
        Curl::new(&self.nginx.path("ca.pem")).get(&self.url()).pins().len()
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/", self.port)
    }

    /// How many alerts with this code the log has.
    fn alerts(&self, code: &str) -> usize {
        let is_first = |line: &&str| {
            line.contains("[alert]")
                && line.contains(&format!("hpkp: [{code}] "))
                && line.contains("(configured at ")
        };
        self.nginx.log().lines().filter(is_first).count()
    }

    /// The files that workers keep.
    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.nginx.path("kept/web-1/guarded")) else {
            return Vec::new();
        };
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    fn restart(&mut self) {
        self.nginx.stop();
        self.nginx.start();
    }
}

#[test]
fn the_last_good_certificate_is_presented_in_place_of_a_refused_one() {
    let mut site = Site::in_memory();
    site.nginx.expect_in_log(&[SERVED, "exited on signal 9"]);
    site.presents("one");
    assert_eq!(site.headers(), 1);
    site.give("two");
    site.presents("one");
    assert_eq!((site.headers(), site.alerts(SERVED)), (1, 1));
    let log = site.nginx.log();
    let two = site.pin("two");
    assert!(log.contains(&format!("given: CN=localhost, key sha256/{two}, expires ")), "{log}");
    assert!(log.contains("until it expires at 2"), "{log}");
    // The last good certificate survives a reload and killed workers.
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    site.presents("one");
    for _ in 0..3 {
        site.nginx.replace_workers();
        site.presents("one");
    }
    assert_eq!((site.headers(), site.alerts(SERVED)), (1, 1));
    // A given certificate that clients accept is presented, and becomes the last good one.
    site.give("backup");
    site.presents("backup");
    assert_eq!(site.nginx.log().matches(AGAIN).count(), 1, "{}", site.nginx.log());
    site.give("two");
    site.presents("backup");
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    site.presents("backup");
    site.give("one");
    site.presents("one");
    site.nginx.stop();
}

#[test]
fn a_start_presents_the_kept_certificate() {
    let mut site = Site::started();
    site.nginx.expect_in_log(&[SERVED, NOT_USED]);
    site.presents("one");
    let files = site.files();
    assert_eq!(files.len(), 1, "{files:?}");
    let directory = fs::metadata(site.nginx.path("kept/web-1/guarded")).expect("a directory");
    assert_eq!(directory.mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(&files[0]).expect("a file").mode() & 0o7777, 0o600);
    site.give("two");
    for _ in 0..2 {
        site.restart();
        site.presents("one");
        assert_eq!(site.headers(), 1);
    }
    // The master and all workers crash.
    site.nginx.kill_all();
    site.nginx.start();
    site.presents("one");
    // The file of the replaced certificate is gone.
    site.give("backup");
    site.presents("backup");
    assert_eq!(site.files().len(), 1);
    assert_ne!(site.files(), files);
    site.give("two");
    site.restart();
    site.presents("backup");
    // Without the directory a restart loses the last good certificate, and reports that.
    site.http = site.http.replace("hpkp_keep_certificates kept;", "");
    site.configure();
    site.restart();
    site.presents("two");
    assert_eq!((site.headers(), site.alerts(NOT_USED)), (0, 1));
    site.nginx.stop();
}

/// The certificate presented before the guard was configured is the guard's first last good certificate.
#[test]
fn a_new_guard_keeps_the_certificate_loaded_before_it() {
    let mut site = Site::new();
    site.nginx.expect_in_log(&[SERVED]);
    let map = "map $ssl_server_name $current { default current; }";
    let configuration = |site: &Site, tls: &str| {
        site.nginx.configure_with(
            "worker_processes 2;",
            &format!(
                "{}{map}\nserver {{ listen 127.0.0.1:{} ssl; server_name localhost;\n{tls}\n\
                 hpkp site; return 200 x; }}",
                site.http, site.port
            ),
        );
    };
    let loaded = "ssl_certificate current.pem; ssl_certificate_key current.key;";
    let guarded = format!("hpkp_guard $current.pem $current.key; {VARIABLES}");
    configuration(&site, loaded);
    site.nginx.start();
    site.presents("one");
    site.give("two");
    configuration(&site, &guarded);
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    site.presents("one");
    assert_eq!(site.headers(), 1);
    // A restart presents the same certificate.
    site.nginx.stop();
    site.nginx.start();
    site.presents("one");
    // A certificate that clients accept takes its place.
    site.give("backup");
    site.presents("backup");
    site.give("two");
    site.presents("backup");
    assert_eq!(site.files().len(), 1);
    site.nginx.stop();
}

/// The workers run as another user than the master, and cannot reach the directory by its path.
#[test]
fn workers_of_another_user_can_keep_certificates() {
    // SAFETY: geteuid takes no argument and always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("not tested: only root can have workers of another user");
        return;
    }
    let mut site = Site::new();
    site.nginx.expect_in_log(&[SERVED, NOT_KEPT]);
    let nobody = |site: &Site| {
        site.configure();
        let file = site.nginx.path("nginx.conf");
        let text = fs::read_to_string(&file).expect("a configuration");
        fs::write(&file, text.replacen("user root;", "user nobody nogroup;", 1))
            .expect("a configuration");
    };
    for path in ["", "tmp"] {
        let path = site.nginx.path(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    nobody(&site);
    site.nginx.start();
    site.presents("one");
    let directory = site.nginx.path("kept/web-1/guarded");
    let owner = fs::metadata(&directory).expect("a directory");
    assert_eq!((owner.mode() & 0o7777, owner.uid()), (0o700, 65534));
    let files = site.files();
    let file = fs::metadata(&files[0]).expect("a file");
    assert_eq!((files.len(), file.mode() & 0o7777, file.uid()), (1, 0o600, 65534));
    let above = fs::metadata(site.nginx.path("kept/web-1")).expect("a directory");
    assert_eq!((above.mode() & 0o7777, above.uid()), (0o700, 0));
    site.give("two");
    site.restart();
    site.presents("one");
    // A worker that cannot write reports it. The next reload gives the directory to the workers again, and they
    // write the file.
    std::os::unix::fs::chown(&directory, Some(0), Some(0)).expect("an owner");
    site.give("backup");
    site.presents("backup");
    assert_eq!(site.alerts(NOT_KEPT), 1, "{}", site.nginx.log());
    assert_eq!(site.files(), files);
    nobody(&site);
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    site.presents("backup");
    assert_eq!(site.files().len(), 1);
    assert_ne!(site.files(), files);
    // From the next reload on the workers run as another user.
    site.configure();
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    assert_eq!(fs::metadata(&directory).expect("a directory").uid(), 0);
    site.give("two");
    site.presents("backup");
    site.nginx.stop();
}

#[test]
fn an_unusable_given_certificate_is_not_presented() {
    let mut site = Site::started();
    site.nginx.expect_in_log(&[SERVED]);
    site.presents("one");
    let mut alerts = 0;
    let mut is_reported = |site: &Site, why: &str| {
        site.presents("one");
        assert_eq!(site.headers(), 1, "{why}");
        // Another reason is logged at once, but at most one alert every ten seconds.
        alerts += 1;
        assert!(alerts > 1 || site.nginx.log().contains(why), "{why}: {}", site.nginx.log());
    };
    site.give_pair("backup", "two");
    is_reported(&site, "the private key does not fit the certificate");
    for (file, text) in [("current.pem", "x"), ("current.key", ""), ("current.pem", "")] {
        fs::write(site.nginx.path(file), text).expect("a file");
        is_reported(&site, "it has no certificate");
        site.give("one");
    }
    for file in ["current.pem", "current.key"] {
        fs::remove_file(site.nginx.path(file)).expect("a file");
        is_reported(&site, "no such file");
        fs::create_dir(site.nginx.path(file)).expect("a directory");
        is_reported(&site, "not a regular file");
        fs::remove_dir(site.nginx.path(file)).expect("a directory");
        site.give("one");
    }
    // A certificate for the pinned key that has expired.
    let pki = site.nginx.pki();
    let dir = |file: &str| pki.path(file).display().to_string();
    fs::copy(pki.path("one.key"), pki.path("old.key")).expect("a copy");
    pki.request("old", "/CN=localhost");
    let mut sign = Command::new("openssl");
    sign.args(["x509", "-req", "-in", &dir("old.csr"), "-CA", &dir("ca.pem")]);
    sign.args(["-CAkey", &dir("ca.key"), "-CAcreateserial", "-days", "1"]);
    // Newer versions of openssl refuse an end before the start, so the clock is wrong instead.
    let yesterday = Clock::ahead(&pki.path("."), -2 * DAY);
    succeed(sign.args(["-out", &dir("old.pem")]).envs(yesterday.environment()));
    site.give("old");
    let subject = Curl::new(&site.nginx.path("ca.pem")).get(&site.url());
    assert_eq!(subject.status, 200, "the expired one would be refused: {}", site.nginx.log());
    site.nginx.stop();
}

/// A pin of an app is recorded while the server runs.
#[test]
fn pins_recorded_while_the_server_runs_refuse_a_given_certificate() {
    let mut site = Site::of_apps("return 200 x;");
    site.presents("one");
    // No client holds pins, so any given certificate is presented.
    site.give("two");
    site.presents("two");
    held_on_port(&site.nginx.path("records/app.jsonl"), "localhost", site.port, &site.pin("two"));
    // Before a certificate takes the place of the last good one, the worker compares it with the newest records.
    site.give("one");
    site.presents("two");
    let log = site.nginx.log();
    assert!(log.contains("not presented: [published-pins-unmet]"), "{log}");
    site.nginx.stop();
}

/// One worker has accepted another certificate meanwhile, and the other worker has not seen that one.
#[test]
fn a_worker_reads_new_records_before_it_goes_back_to_a_certificate() {
    let mut site = Site::of_apps("add_header X-Worker $pid; return 200 x;");
    let worker = |name: &str| {
        let pin = format!("sha256//{}", site.pin(name));
        let curl = Curl::new(&site.nginx.path("ca.pem")).with(&["--pinnedpubkey", &pin]);
        let response = curl.try_get(&site.url());
        response
            .unwrap_or_else(|| panic!("does not present {name}: {}", site.nginx.log()))
            .all("x-worker")[0]
            .to_owned()
    };
    let first = worker("one");
    let second =
        (0..100).map(|_| worker("one")).find(|worker| *worker != first).expect("another worker");
    site.give("two");
    let accepted = worker("two");
    held_on_port(&site.nginx.path("records/app.jsonl"), "localhost", site.port, &site.pin("two"));
    site.give("one");
    let other = if accepted == first { second } else { first };
    assert!((0..100).any(|_| worker("two") == other), "the other worker did not answer");
    site.nginx.stop();
}

#[test]
fn a_compromised_certificate_is_not_presented_any_more() {
    let mut site = Site::started();
    site.nginx.expect_in_log(&[SERVED, NOT_USED]);
    site.presents("one");
    site.give("two");
    site.presents("one");
    let pin = site.pin("one").parse().expect("a pin");
    let body = Body::Compromised(Compromised { pin, why: "stolen".into() });
    let event = Event::new(1_790_000_000, 1, "ops".parse().expect("a writer"), body);
    fs::write(site.nginx.path("records/ops.jsonl"), format!("{}\n", event.line()))
        .expect("records");
    std::thread::sleep(std::time::Duration::from_secs(6));
    site.presents("two");
    assert!(site.files().is_empty(), "{:?}", site.files());
    // A restart does not bring the compromised certificate back.
    site.restart();
    site.presents("two");
    site.nginx.stop();
}

/// With `hpkp_check warn` the operator's certificate is presented in spite of a mismatch.
#[test]
fn with_hpkp_check_warn() {
    let mut site = Site::new();
    site.nginx.expect_in_log(&[NOT_USED]);
    site.server = "hpkp site; hpkp_check warn; return 200 x;".to_owned();
    site.configure();
    site.nginx.start();
    site.presents("one");
    site.give("two");
    site.presents("two");
    assert_eq!((site.headers(), site.alerts(NOT_USED)), (0, 1));
    site.nginx.stop();
}

/// A module with variables whose values are the certificate and the key themselves, and change in running workers.
const CHANGING: &str = r#"
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

static ngx_int_t value(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data)
{
    const char *name = data ? "current.key" : "current.pem";
    FILE *file = fopen(name, "r");
    u_char *text = ngx_pnalloc(r->pool, 65536);
    ngx_memcpy(text, "data:", 5);
    v->len = 5 + (file ? fread(text + 5, 1, 65000, file) : 0);
    if (file) fclose(file);
    v->valid = 1; v->no_cacheable = 0; v->not_found = 0; v->data = text;
    return NGX_OK;
}

static ngx_int_t add(ngx_conf_t *cf)
{
    ngx_str_t names[] = { ngx_string("changing_certificate"), ngx_string("changing_certificate_key") };
    for (int i = 0; i < 2; i++) {
        ngx_http_variable_t *v = ngx_http_add_variable(cf, &names[i], 0);
        v->get_handler = value; v->data = i;
    }
    return NGX_OK;
}

static ngx_http_module_t context = { add, NULL, NULL, NULL, NULL, NULL, NULL, NULL };
static ngx_command_t commands[] = { ngx_null_command };
ngx_module_t changing_module = {
    NGX_MODULE_V1, &context, commands, NGX_HTTP_MODULE, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING
};
ngx_module_t *ngx_modules[] = { &changing_module, NULL };
char *ngx_module_names[] = { "changing_module", NULL };
char *ngx_module_order[] = { NULL };
"#;

/// A site whose variables have the certificate itself; `None` with another nginx than Debian's.
fn with_data() -> Option<Site> {
    if std::env::var_os("HPKP_NGINX").is_some() {
        eprintln!("not tested: the module is for Debian's nginx");
        return None;
    }
    let site = Site::new();
    let module =
        compile_module(&site.nginx, "changing", CHANGING, &["http", "http/modules", "http/v2"]);
    let main = format!("worker_processes 2; load_module {module};");
    let site = Site { main: main.leak(), ..site };
    site.configure_with("", "hpkp_guard $changing_certificate $changing_certificate_key;");
    Some(site)
}

#[test]
fn a_guard_of_variables_with_the_certificate_itself() {
    let Some(mut site) = with_data() else { return };
    site.nginx.expect_in_log(&[SERVED, "exited on signal 9"]);
    // The variables read files of the directory in which nginx was started.
    let file = site.nginx.path("nginx.conf");
    let text = fs::read_to_string(&file).expect("a configuration");
    let directory = site.nginx.path("").display().to_string();
    let text = text.replacen(
        "worker_processes 2;",
        &format!("worker_processes 2; working_directory {directory};"),
        1,
    );
    fs::write(&file, text).expect("a configuration");
    site.nginx.start();
    site.presents("one");
    site.give("two");
    site.presents("one");
    assert_eq!((site.headers(), site.alerts(SERVED)), (1, 1));
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    site.presents("one");
    site.nginx.replace_workers();
    site.presents("one");
    site.give_pair("backup", "one");
    site.presents("one");
    site.restart();
    site.presents("one");
    site.nginx.kill_all();
    site.nginx.start();
    site.presents("one");
    site.give("backup");
    site.presents("backup");
    site.nginx.replace_workers();
    site.give("two");
    site.presents("backup");
    site.nginx.stop();
}

/// nginx with `ssl_certificate_cache` caches certificates of variables by their content.
#[test]
fn with_a_cache_of_certificates() {
    if version() < (1, 27, 4) {
        eprintln!("not tested: this nginx has no ssl_certificate_cache");
        return;
    }
    let mut site = Site::new();
    site.nginx.expect_in_log(&[SERVED]);
    site.http.push_str("ssl_certificate_cache max=16 inactive=1d valid=1d;\n");
    site.configure();
    site.nginx.start();
    for (given, presented) in
        [("one", "one"), ("two", "one"), ("backup", "backup"), ("two", "backup"), ("one", "one")]
    {
        site.give(given);
        site.presents(presented);
    }
    site.give_pair("backup", "two");
    site.presents("one");
    site.nginx.stop();
}

/// With `hpkp_keep_certificates off` the last good certificate is in memory only. When no server is guarded any
/// more, the files are removed.
#[test]
fn files_of_unguarded_or_unkept_servers_are_removed() {
    let mut site = Site::new();
    site.nginx.expect_in_log(&[SERVED, NOT_USED]);
    site.server = "hpkp site; hpkp_keep_certificates off; return 200 x;".to_owned();
    site.configure();
    site.nginx.start();
    site.presents("one");
    site.give("two");
    site.presents("one");
    assert!(site.files().is_empty(), "{:?}", site.files());
    site.server = "hpkp site; return 200 x;".to_owned();
    site.configure();
    site.give("one");
    site.restart();
    site.presents("one");
    assert_eq!(site.files().len(), 1);
    site.nginx.configure_with(
        site.main,
        &format!("{}{}", site.http, tls_server(site.port, "localhost", "one", "hpkp site;")),
    );
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    assert!(site.files().is_empty(), "{:?}", site.files());
    site.nginx.stop();
}

/// `stream` has neither the directive nor the variables.
#[test]
fn a_guard_in_stream_is_not_allowed() {
    let site = Site::new();
    let port = free_port();
    for (names, more, error) in [
        (VARIABLES, "", "unknown \"hpkp_certificate\" variable"),
        (VARIABLES, "hpkp_guard one.pem one.key;", "\"hpkp_guard\" directive is not allowed here"),
    ] {
        site.nginx.configure_around(
            &load_modules(&["stream"]),
            "",
            &format!(
                "stream {{ server {{ listen 127.0.0.1:{port} ssl; {more} {names} return x; }} }}"
            ),
        );
        let outcome = site.nginx.run(&["-t"]);
        assert!(outcome.code == Some(1) && outcome.text.contains(error), "{}", outcome.text);
    }
}

/// A resumed connection counts with the certificate that its client saw at the full handshake.
#[test]
fn resumed_connections() {
    let mut site = Site::new();
    site.nginx.expect_in_log(&[SERVED]);
    site.http.push_str("ssl_protocols TLSv1.2 TLSv1.3;\n");
    site.configure();
    site.nginx.start();
    for version in ["-tls1_2", "-tls1_3"] {
        let client = SessionClient::new(&site.nginx.path("session"), &[version]);
        site.give("one");
        assert_eq!(client.begin(site.port, "localhost", "localhost").sent(), 1);
        site.give("two");
        for _ in 0..3 {
            let answer = client.ask(site.port, "localhost", "localhost");
            assert_eq!((answer.resumed, answer.sent()), (true, 1), "{version}");
        }
        assert_eq!(client.begin(site.port, "localhost", "localhost").sent(), 1, "{version}");
    }
    site.nginx.stop();
}

/// Mounts a small disk on a directory. Only this thread and the processes that it starts see the mount, which ends
/// with them. Returns false where mounting is not allowed: it takes root with all capabilities.
fn mount_disk(at: &Path, options: &str, flags: libc::c_ulong) -> bool {
    let text = |text: &str| std::ffi::CString::new(text).expect("no NUL");
    let (at, options) = (text(&at.display().to_string()), text(options));
    let none = std::ptr::null();
    // SAFETY: the strings end with a null byte and outlive the calls. unshare gives only this thread a mount namespace
    // of its own.
    unsafe {
        if flags & libc::MS_REMOUNT == 0 {
            if libc::unshare(libc::CLONE_NEWNS) != 0 {
                eprintln!("not tested: a disk of its own is not allowed");
                return false;
            }
            let private = libc::MS_REC | libc::MS_PRIVATE;
            assert_eq!(libc::mount(none, c"/".as_ptr(), none, private, none.cast()), 0);
        }
        let kind = c"tmpfs".as_ptr();
        assert_eq!(libc::mount(kind, at.as_ptr(), kind, flags, options.as_ptr().cast()), 0);
    }
    true
}

/// A certificate `large` of the key `backup`, whose chain is larger than 32 KB.
fn large(site: &Site) {
    let pki = site.nginx.pki();
    pki.large_bundle("large.pem", "backup.pem");
    fs::copy(pki.path("backup.key"), pki.path("large.key")).expect("a copy");
    assert!(fs::metadata(pki.path("large.pem")).expect("a file").len() > 33_000);
}

#[test]
fn a_disk_that_is_full() {
    let mut site = Site::new();
    site.nginx.expect_in_log(&[SERVED, NOT_KEPT, "exited on signal 9"]);
    large(&site);
    let disk = site.nginx.path("kept");
    if !mount_disk(&disk, "size=32k,mode=0700", 0) {
        return;
    }
    site.nginx.start();
    site.presents("one");
    let kept = site.files();
    assert_eq!((kept.len(), site.alerts(NOT_KEPT)), (1, 0), "{}", site.nginx.log());
    // The disk becomes full while the next certificate is being written.
    site.give("large");
    site.presents("backup");
    assert_eq!((site.headers(), site.alerts(NOT_KEPT)), (1, 1), "{}", site.nginx.log());
    assert!(site.nginx.log().contains("no space left on device"), "{}", site.nginx.log());
    assert_eq!(site.files(), kept, "nothing is left of what was begun");
    // The new certificate is in memory, also in new workers.
    site.give("two");
    site.presents("backup");
    site.nginx.replace_workers();
    site.presents("backup");
    assert_eq!((site.files(), site.alerts(NOT_KEPT)), (kept.clone(), 1));
    // A start presents the certificate whose file is whole.
    site.restart();
    site.presents("one");
    assert_eq!(site.headers(), 1);
    // Once there is room, a reload writes the file.
    site.give("large");
    site.presents("backup");
    assert_eq!(site.files(), kept);
    assert!(mount_disk(&disk, "size=1m", libc::MS_REMOUNT));
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    site.presents("backup");
    assert_eq!(site.files().len(), 1);
    assert_ne!(site.files(), kept);
    site.give("two");
    site.restart();
    site.presents("backup");
    site.nginx.stop();
}

/// The disk is full before the server starts.
#[test]
fn a_disk_that_was_full_before() {
    let mut site = Site::new();
    site.nginx.expect_in_log(&[SERVED, NOT_USED, NOT_KEPT, "exited on signal 9"]);
    let disk = site.nginx.path("kept");
    if !mount_disk(&disk, "size=32k,mode=0700", 0) {
        return;
    }
    let filler = disk.join("filler");
    fs::write(&filler, [0; 64 << 10]).expect_err("no room");
    site.nginx.start();
    site.presents("one");
    assert_eq!((site.headers(), site.alerts(NOT_KEPT)), (1, 1), "{}", site.nginx.log());
    site.give("two");
    site.presents("one");
    site.nginx.replace_workers();
    site.presents("one");
    assert!(site.files().is_empty(), "{:?}", site.files());
    // A restart loses a certificate that is in no file.
    site.restart();
    site.presents("two");
    assert_eq!((site.headers(), site.alerts(NOT_USED)), (0, 1));
    fs::remove_file(filler).expect("a file");
    site.give("one");
    site.presents("one");
    site.give("two");
    site.restart();
    site.presents("one");
    site.nginx.stop();
}

/// A key named by a `store:` URI. nginx before 1.29.0 takes the URI for the name of a file, which does not exist.
#[test]
fn a_guard_takes_a_key_of_a_store_from_1_29_0_on() {
    let mut site = Site::started();
    site.presents("one");
    let file = site.nginx.path("current.key").display().to_string();
    site.configure_with(
        "map $ssl_server_name $current { default current; }",
        &format!("hpkp_guard $current.pem store:file:{file};"),
    );
    let is_known = version() >= (1, 29, 0);
    if !is_known {
        site.nginx.expect_in_log(&[SERVED]);
    }
    assert_eq!(site.nginx.reload(), Reload::Accepted);
    site.presents("one");
    assert_eq!((site.headers(), site.alerts(SERVED)), (1, usize::from(!is_known)));
    if is_known {
        site.give("backup");
        site.presents("backup");
        // The URI is the same but the key behind it is replaced: the last good certificate has lost its key.
        site.nginx.expect_in_log(&[SERVED, "key values mismatch", "SSL_do_handshake() failed"]);
        site.give("two");
        let curl = Curl::new(&site.nginx.path("ca.pem"));
        assert_eq!(curl.exit_code(&site.url()), Some(35), "{}", site.nginx.log());
    }
    site.nginx.stop();
}

/// The base64 lines of a private key in PEM.
fn key_lines(text: &str) -> Vec<String> {
    let inside = text.split("PRIVATE KEY-----").nth(1).expect("a key");
    let lines = inside.lines().filter(|line| line.len() > 16 && !line.starts_with('-'));
    lines.map(str::to_owned).collect()
}

/// The variables have no value in a client's request, and no log contains a key.
#[test]
fn no_key_leaves_the_handshake() {
    let mut site = Site::new();
    site.nginx.expect_in_log(&[SERVED]);
    site.http.push_str(
        "log_format all '$hpkp_certificate_key|$hpkp_certificate|'; access_log all.log all;\n",
    );
    site.server = "hpkp site; add_header Key \"<$hpkp_certificate_key>\" always; \
                   return 200 \"$hpkp_certificate$hpkp_certificate_key.\";"
        .to_owned();
    site.configure();
    site.nginx.start();
    site.presents("one");
    let curl = Curl::new(&site.nginx.path("ca.pem"));
    assert_eq!(curl.get(&site.url()).all("key"), ["<>"]);
    site.give("two");
    site.presents("one");
    site.give_pair("backup", "one");
    site.presents("one");
    assert_eq!(curl.get(&site.url()).all("key"), ["<>"]);
    site.nginx.stop();
    let keys = ["one", "two", "backup"].map(|name| {
        key_lines(&fs::read_to_string(site.nginx.path(&format!("{name}.key"))).expect("a key"))
    });
    for log in ["error.log", "all.log", "access.log"] {
        let text = fs::read_to_string(site.nginx.path(log)).expect("a log");
        assert!(!text.is_empty(), "{log}");
        for line in keys.iter().flatten() {
            assert!(!text.contains(line.as_str()), "{log} has a key");
        }
    }
    let outcome = fs::read_to_string(site.nginx.path("all.log")).expect("a log");
    assert!(outcome.lines().all(|line| line == "-|-|"), "{outcome}");
}

/// A certificate with a wildcard: each name that a client sends is compared with the pins for that name.
#[test]
fn each_name_of_a_certificate_is_compared_with_its_own_pins() {
    let mut site = Site::new();
    site.nginx.expect_in_log(&[SERVED]);
    let pki = site.nginx.pki();
    for name in ["one", "two"] {
        pki.sign(name, "/CN=x", "ca", "subjectAltName=DNS:*.example.test,DNS:example.test");
    }
    site.http = "hpkp_published_pins records writer=web-1;\n".to_owned();
    site.server = "server_name *.example.test example.test; return 200 x;".to_owned();
    site.give("one");
    site.configure();
    held_on_port(
        &site.nginx.path("records/app.jsonl"),
        "api.example.test",
        site.port,
        &site.pin("one"),
    );
    site.nginx.start();
    let presents = |site: &Site, host: &str, name: &str| {
        let address = format!("{host}:{}:127.0.0.1", site.port);
        let pin = format!("sha256//{}", site.pin(name));
        let curl = Curl::new(&site.nginx.path("ca.pem"));
        let curl = curl.with(&["--pinnedpubkey", &pin, "--resolve", &address]);
        curl.exit_code(&format!("https://{host}:{}/", site.port)) == Some(0)
    };
    for host in ["api.example.test", "www.example.test", "example.test"] {
        for _ in 0..TRIES {
            assert!(presents(&site, host, "one"), "{host}");
        }
    }
    site.give("two");
    for _ in 0..TRIES {
        // Only clients of api.example.test hold pins.
        assert!(presents(&site, "api.example.test", "one"), "{}", site.nginx.log());
        for host in ["www.example.test", "x1.example.test", "example.test"] {
            assert!(presents(&site, host, "two"), "{host}: {}", site.nginx.log());
        }
    }
    assert_eq!(site.alerts(SERVED), 1, "{}", site.nginx.log());
    site.nginx.stop();
}

#[test]
fn invalid_arguments_of_the_directive_are_refused() {
    let site = Site::new();
    let port = site.port;
    for (directive, error) in [
        ("hpkp_guard $a;", "invalid number of arguments in \"hpkp_guard\" directive"),
        ("hpkp_guard $a $b $c;", "invalid number of arguments in \"hpkp_guard\" directive"),
        ("hpkp_guard \"\" $b;", "empty value in \"hpkp_guard\" directive"),
        ("hpkp_guard $b \"\";", "empty value in \"hpkp_guard\" directive"),
        (
            "hpkp_guard $hpkp_certificate $hpkp_certificate_key;",
            "invalid value \"$hpkp_certificate\" in \"hpkp_guard\" directive",
        ),
        (
            "hpkp_guard one.pem ${hpkp_certificate_key};",
            "invalid value \"${hpkp_certificate_key}\" in \"hpkp_guard\" directive",
        ),
        (
            "hpkp_guard one.pem one.key; hpkp_guard one.pem one.key;",
            "\"hpkp_guard\" directive is duplicate",
        ),
        (
            "location / { hpkp_guard one.pem one.key; }",
            "\"hpkp_guard\" directive is not allowed here",
        ),
        ("hpkp_guard $ $b;", "invalid variable name"),
    ] {
        site.configure_with("", directive);
        let outcome = site.nginx.run(&["-t"]);
        assert_eq!(outcome.code, Some(1), "{directive}: {}", outcome.text);
        assert!(outcome.text.contains(error), "{directive}: {}", outcome.text);
        let line = Nginx::FIRST_LINE + 4;
        assert!(
            outcome.text.contains(&format!("nginx.conf:{line}")),
            "{directive}: {}",
            outcome.text
        );
    }
    // The directive in `http`, with another one in a server.
    let http = format!("{}hpkp_guard one.pem one.key;\n", site.http);
    let server = |name: &str, more: &str| {
        format!(
            "server {{ listen 127.0.0.1:{port} ssl; server_name {name};\n{VARIABLES} hpkp site; {more} }}\n"
        )
    };
    site.nginx.configure(&format!(
        "{http}{}{}",
        server("a.example", ""),
        server("b.example", "hpkp_guard two.pem two.key;")
    ));
    site.nginx.test().accepted(&[AT_HANDSHAKE]);
}

#[test]
fn misplaced_and_unused_guards_are_reported() {
    let site = Site::new();
    let port = site.port;
    let misplaced = "guard-variable-misplaced";
    let server = |certificate: &str, key: &str, more: &str| {
        format!(
            "server {{ listen 127.0.0.1:{port} ssl; server_name localhost; ssl_certificate {certificate}; \
             ssl_certificate_key {key};\n{more} }}\n"
        )
    };
    let (certificate, key) = ("$hpkp_certificate", "$hpkp_certificate_key");
    let guard = "hpkp_guard one.pem one.key;";
    for (certificate, key, more) in [
        (certificate, key, ""),
        (key, certificate, guard),
        (certificate, "one.key", guard),
        ("one.pem", key, guard),
    ] {
        site.nginx.configure(&server(certificate, key, more));
        let outcome = site.nginx.test();
        assert_eq!(outcome.code, Some(1), "{certificate} {key} {more}: {}", outcome.text);
        assert_eq!(codes(&outcome.text), [misplaced], "{}", outcome.text);
        assert!(
            outcome.text.contains(&format!("nginx.conf:{}", Nginx::FIRST_LINE)),
            "{}",
            outcome.text
        );
    }
    // RSA beside ECDSA: the second certificate would not be guarded.
    let pki = site.nginx.pki();
    pki.key("rsa", hpkp_tests::pki::RSA);
    pki.sign("rsa", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    let rsa = "ssl_certificate rsa.pem; ssl_certificate_key rsa.key;";
    let names = format!("map $ssl_server_name $rsa {{ default rsa; }}\n{}", site.http);
    for (http, beside) in [
        ("", rsa.to_owned()),
        (&names, rsa.replace("rsa.", "$rsa.")),
        ("", format!("ssl_certificate {certificate}; ssl_certificate_key {key};")),
    ] {
        site.nginx.configure(&format!(
            "{http}\n{}",
            server(certificate, key, &format!("{guard} {beside}"))
        ));
        let outcome = site.nginx.test();
        assert_eq!(outcome.code, Some(1), "{beside}: {}", outcome.text);
        assert_eq!(codes(&outcome.text), [misplaced], "{}", outcome.text);
        assert!(outcome.text.contains("RSA beside ECDSA is not possible"), "{}", outcome.text);
    }
    // No server uses the variables of the guard.
    site.nginx.configure(&server("one.pem", "one.key", guard));
    site.nginx.test().accepted(&["guard-not-used"]);
    site.nginx.configure(&format!("{guard}\n{}", server("one.pem", "one.key", "")));
    site.nginx.test().accepted(&["guard-not-used"]);
    // Without a policy or records there is nothing to compare, and no finding.
    site.nginx.configure(&server(certificate, key, guard));
    site.nginx.test().accepted(&[]);
    // A policy whose pins follow the certificate (`pin leaf`) sends no header.
    site.nginx.configure(&format!(
        "hpkp_published_pins records writer=web-1;\n\
         hpkp_policy site {{ pin leaf; pin {B}; max_age 1d; }}\n{}",
        server(certificate, key, &format!("{guard} hpkp site;"))
    ));
    site.nginx.test().accepted(&["certificate-not-known-at-load"]);
}
