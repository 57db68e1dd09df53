//! nginx and httpd for these tests: with a clock, with kept certificates, with signals and crashes.

use std::fmt::Write as _;
use std::process::Command;

use hpkp_core::pin::Pin;
use hpkp_tests::bound;
use hpkp_tests::httpd::{Httpd, Restart, listen, tls_vhost};
use hpkp_tests::instance::{Reload, wait};
use hpkp_tests::layout::Site;
use hpkp_tests::nginx::{Nginx, tls_server};

use crate::clients::HOST;
use hpkp_tests::random::Random;

/// The part of the configuration that changes over the years.
#[derive(Clone, Debug)]
pub struct Policy {
    pub pins: Vec<Pin>,
    /// Days.
    pub max_age: i64,
}

pub trait Server: Site {
    /// The argument of its command that reloads it.
    const RELOAD: &'static str;

    /// Writes the configuration, for a certificate `tls/site`; without a policy where it has no pins. `more`
    /// are directives of the server, by the part of their names that both servers share, and their values.
    fn configure_years(&self, port: u16, policy: &Policy, more: &[(&str, &str)]);

    fn server_command(&self) -> Command;

    /// Sends a signal that reloads, without a config test before it, and waits for the result.
    fn bare_signal(&mut self, random: &mut Random);

    /// Sends a signal that changes nothing for clients.
    fn reopen(&mut self);

    /// Kills the parent, and then its remaining children, as a service manager does; no process listens on `port`
    /// afterwards.
    fn crash(&mut self, port: u16) {
        let mut parent = self.hand_over();
        let group = parent.id() as libc::pid_t;
        parent.kill().expect("a signal");
        parent.wait().expect("an end");
        // SAFETY: `group` is the process group of our own child, which was made with it; a signal to an empty
        // group reaches no process.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        assert!(wait(|| bound(port).is_some()), "children are left");
    }
}

fn pins(policy: &Policy, word: &str, end: &str) -> String {
    let mut text = String::new();
    for pin in &policy.pins {
        write!(text, "{word} sha256/{pin}{end}").expect("a text");
    }
    text
}

impl Server for Nginx {
    const RELOAD: &'static str = "-s reload";

    fn configure_years(&self, port: u16, policy: &Policy, more: &[(&str, &str)]) {
        // nginx clears the environment of its workers, which would then have the machine's time.
        let main = "worker_processes 2; env FAKETIME_TIMESTAMP_FILE; env FAKETIME_NO_CACHE; \
                    env FAKETIME_DONT_FAKE_MONOTONIC; env NO_FAKE_STAT;";
        let more: String =
            more.iter().map(|(name, value)| format!("hpkp_{name} {value}; ")).collect();
        let is_used = if policy.pins.is_empty() { "" } else { "hpkp site; " };
        let server = tls_server(port, HOST, "tls/site", &format!("{is_used}{more}return 200 x;"));
        let policy = match policy.pins.is_empty() {
            true => String::new(),
            false => format!(
                "hpkp_policy site {{ {}max_age {}d; }}",
                pins(policy, "pin", "; "),
                policy.max_age
            ),
        };
        self.configure_with(
            main,
            &format!(
                "hpkp_published_pins records writer=web-1; hpkp_keep_certificates kept;\n\
                 hpkp_trusted_certificate root.pem;\n{policy}\n{server}"
            ),
        );
    }

    fn server_command(&self) -> Command {
        self.command()
    }

    fn bare_signal(&mut self, _: &mut Random) {
        let _: Reload = self.reload();
    }

    fn reopen(&mut self) {
        let before = self.log().len();
        self.signal(libc::SIGUSR1);
        assert!(wait(|| self.log()[before..].contains("reopening logs")));
    }
}

impl Server for Httpd {
    const RELOAD: &'static str = "-k graceful";

    fn configure_years(&self, port: u16, policy: &Policy, more: &[(&str, &str)]) {
        let mut within: String = more
            .iter()
            .map(|(name, value)| {
                let name = match *name {
                    "check" => "HPKPCheck",
                    "renewal_key" => "HPKPRenewalKey",
                    other => panic!("no directive {other}"),
                };
                format!("{name} {value}\n")
            })
            .collect();
        if !policy.pins.is_empty() {
            within.push_str("HPKPUse site");
        }
        let block = match policy.pins.is_empty() {
            true => String::new(),
            false => format!(
                "<HPKPPolicy site>\n{}HPKPMaxAge {}d\n</HPKPPolicy>\n",
                pins(policy, "HPKPPin", "\n"),
                policy.max_age
            ),
        };
        self.configure(&format!(
            "{}HPKPPublishedPins records writer=web-1\nHPKPKeepCertificates kept\n\
             HPKPTrustedCertificate root.pem\n{block}{}",
            listen(&[port]),
            tls_vhost(port, HOST, "tls/site", &within)
        ));
    }

    fn server_command(&self) -> Command {
        self.command()
    }

    fn bare_signal(&mut self, random: &mut Random) {
        let signal = *random.one_of(&[libc::SIGUSR1, libc::SIGHUP]);
        if let Restart::Ended(log) = self.restart(signal) {
            panic!("the server has ended:\n{log}");
        }
    }

    /// httpd has no signal that only reopens its logs.
    fn reopen(&mut self) {}
}
