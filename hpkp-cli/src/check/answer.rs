//! The answer of `hpkp check`: what the server's config test does about each finding.

use hpkp_core::check::{Certificates, Context};
use hpkp_core::date;
use hpkp_core::finding::{Class, Finding, Location};
use hpkp_core::path::Chain;
use hpkp_core::sorted::distinct;
use hpkp_server::failure::{self, Phase};
use serde::Serialize;

use super::checked::Checked;
use crate::exit::Exit;

/// Whether a reload would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// A reload would pass.
    Pass,
    /// The config test would refuse the configuration, because of a lock-out or an invalid directive.
    Refused,
    /// The config test would refuse the configuration, because something cannot be read.
    Undetermined,
}

/// A finding, and what the config test does about it.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) finding: Finding,
    /// `refuse`, `alarm`, `withhold` or `warn`.
    pub(super) answer: &'static str,
    pub(super) is_refused: bool,
    /// The server's log lines, without the line about the certificate that the running server keeps.
    pub(super) lines: Vec<String>,
}

/// A server of the configuration.
#[derive(Debug, Serialize)]
pub(super) struct ServerView {
    pub(super) label: String,
    pub(super) names: Vec<String>,
    pub(super) tls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hpkp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hpkp_report_only: Option<String>,
    /// The leaf certificates.
    pub(super) certificates: Vec<CertificateView>,
}

/// A certificate that a server presents.
#[derive(Debug, Serialize)]
pub(super) struct CertificateView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    pub(super) subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pin: Option<String>,
    pub(super) not_after: String,
}

/// The result of the check.
#[derive(Debug)]
pub(super) struct Answer {
    /// The configuration or the certificates that were checked.
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) judged: Vec<Judged>,
    pub(super) servers: Vec<ServerView>,
    /// Whether certificates were compared with records.
    pub(super) has_records: bool,
    /// How many policies are in use.
    pub(super) policies: usize,
    /// The directories with records, if the certificates were compared with records alone.
    records_alone: Option<Vec<String>>,
}

impl Answer {
    pub(super) fn new(checked: Checked, name: String, records_alone: Option<Vec<String>>) -> Self {
        let Checked { deployment, verdict, on_start } = checked;
        let judged: Vec<Judged> = verdict
            .findings
            .into_iter()
            .map(|finding| {
                let answer = failure::answer(finding.class, finding.check, Phase::Test, on_start);
                Judged {
                    lines: lines(&finding),
                    finding,
                    answer: match answer {
                        failure::Answer::Refuse => "refuse",
                        failure::Answer::Alarm => "alarm",
                        failure::Answer::Withhold => "withhold",
                        failure::Answer::Warn => "warn",
                    },
                    is_refused: answer == failure::Answer::Refuse,
                }
            })
            .collect();
        let refused = || judged.iter().filter(|judged| judged.is_refused);
        let outcome = if refused().any(|judged| judged.finding.class != Class::Unsure) {
            Outcome::Refused
        } else if refused().next().is_some() {
            Outcome::Undetermined
        } else {
            Outcome::Pass
        };
        let servers = deployment.hosts.iter().map(|host| ServerView {
            label: host.label.clone(),
            names: host.names.clone(),
            tls: host.tls,
            hpkp: host.enforced.as_ref().map(|policy| policy.policy.clone()),
            hpkp_report_only: host.report_only.as_ref().map(|policy| policy.policy.clone()),
            certificates: host
                .contexts
                .iter()
                .flat_map(|context| leaves(&deployment.contexts[*context]))
                .collect(),
        });
        let servers: Vec<ServerView> = servers.collect();
        let used = servers.iter().flat_map(|one| one.hpkp.iter().chain(&one.hpkp_report_only));
        let policies = distinct(used).len();
        let has_records = deployment.records.is_some();
        Self { name, outcome, judged, servers, has_records, policies, records_alone }
    }

    /// The exit code.
    pub(super) fn exit(&self, deny_warnings: bool) -> Exit {
        match self.outcome {
            Outcome::Refused => Exit::No,
            Outcome::Undetermined => Exit::Undetermined,
            Outcome::Pass if deny_warnings && !self.judged.is_empty() => Exit::No,
            Outcome::Pass => Exit::Fine,
        }
    }

    /// The servers whose certificates were compared with a policy or with records.
    pub(super) fn compared(&self) -> impl Iterator<Item = &ServerView> {
        self.servers.iter().filter(|server| {
            server.tls
                && (self.has_records || server.hpkp.is_some() || server.hpkp_report_only.is_some())
        })
    }

    /// The result in one line.
    pub(super) fn summary(&self) -> String {
        let count = self.compared().count();
        let servers = crate::output::counted(count, "TLS server");
        let with = match (self.policies, self.has_records) {
            (0, false) => {
                return "nothing to check: no policy is in use and no records are named".to_owned();
            }
            (0, true) => match &self.records_alone {
                // Names the directories, because pins that a configuration has and that are not on record
                // yet are not compared.
                Some(directories) => format!(
                    "the published pins in {}, and not with the policies of a server",
                    crate::output::printable(&directories.join(", "))
                ),
                None => "published pins".to_owned(),
            },
            (policies, false) => policies_of(policies),
            (policies, true) => format!("{} and published pins", policies_of(policies)),
        };
        let alarms = self.judged.iter().filter(|judged| judged.answer == "alarm").count();
        let alarms = match alarms {
            0 => String::new(),
            alarms => {
                let alarms = crate::output::counted(alarms, "finding");
                format!("; passes in spite of {alarms} that would be refused without check warn")
            }
        };
        format!("compared {servers} with {with}{alarms}")
    }
}

/// The lines of a finding, with the place in the first.
fn lines(finding: &Finding) -> Vec<String> {
    let mut lines: Vec<String> = finding.lines().collect();
    if let (Some(first), Some(place)) = (lines.first_mut(), place(&finding.at)) {
        first.push_str(&format!(" (configured at {place})"));
    }
    lines
}

/// A place for people. `None` for standard input and for text without a file.
pub(super) fn place(at: &Location) -> Option<String> {
    match (&*at.file, at.line) {
        ("-" | "", _) => None,
        (file, 0) => Some(file.to_owned()),
        (file, line) => Some(format!("{file}:{line}")),
    }
}

fn policies_of(count: usize) -> String {
    if count == 1 { "1 policy".to_owned() } else { format!("{count} policies") }
}

fn leaves(context: &Context) -> Vec<CertificateView> {
    let Certificates::Loaded(chains) = &context.certificates else { return Vec::new() };
    let view = |chain: &Chain| {
        let leaf = chain.leaf();
        CertificateView {
            file: chain.file().map(|file| file.path.clone()),
            subject: leaf.subject().to_owned(),
            pin: leaf.pin().map(|pin| format!("sha256/{pin}")),
            not_after: date::format(leaf.not_after()),
        }
    };
    chains.iter().map(view).collect()
}
