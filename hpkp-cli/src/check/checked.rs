//! The result that the reader of each kind of configuration returns.

use hpkp_core::check::{Deployment, Verdict};
use hpkp_core::finding::Finding;
use hpkp_server::failure::{self, OnStart, Phase};
use hpkp_server::journal::{Journal, Predecessor};

use super::problem::Problems;

/// The contents of a configuration, and the core's verdict.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) deployment: Deployment,
    pub(super) verdict: Verdict,
    pub(super) on_start: OnStart,
}

impl Checked {
    /// `problems` are the findings of the reader.
    pub(super) fn new(
        deployment: Deployment,
        mut verdict: Verdict,
        on_start: Option<OnStart>,
        problems: Problems,
    ) -> Self {
        verdict.findings.extend(problems.into_findings());
        // The same order as in the core: the most serious class first.
        verdict.findings.sort_by_key(|finding| finding.class);
        Self { deployment, verdict, on_start: on_start.unwrap_or_default() }
    }

    /// The findings for which a config test refuses the configuration.
    pub(super) fn refused(&self) -> impl Iterator<Item = &Finding> {
        self.verdict.findings.iter().filter(|finding| {
            let answer = failure::answer(finding.class, finding.check, Phase::Test, self.on_start);
            answer == failure::Answer::Refuse
        })
    }

    /// Records what the server presents from now on, unless a config test refuses the configuration. A
    /// failed write is a finding.
    pub(super) fn record(&mut self, journal: &Journal) {
        if self.refused().next().is_none() {
            let finding = journal.record(&self.deployment, &mut self.verdict, Predecessor::None);
            self.verdict.findings.extend(finding);
        }
    }

    /// A configuration without a policy and without records.
    pub(super) fn nothing(problems: Problems) -> Self {
        let verdict = Verdict { findings: Vec::new(), hosts: Vec::new(), paths: Vec::new() };
        Self::new(Deployment::default(), verdict, None, problems)
    }

    /// The result if reading stopped at an error.
    pub(super) fn unread(finding: Finding) -> Self {
        let verdict = Verdict { findings: vec![finding], hosts: Vec::new(), paths: Vec::new() };
        let deployment = Deployment::default();
        Self { deployment, verdict, on_start: OnStart::default() }
    }
}
