//! Whether reports arrive: not where they are sent to the very host that they are about, nor surely where
//! the host for reports is pinned itself (RFC 7469 section 2.1.4).

use super::messages::Scope;
use super::{Checker, Host, Uses};
use crate::finding::{Code, Text};
use crate::header::Kind;
use crate::policy::Policy;
use crate::published::{HostName, Matching, Origin};

impl<'a> Checker<'a> {
    pub(super) fn check_report_uri(&mut self, policy: &'a Policy, kind: Kind, uses: &Uses<'_>) {
        let Some(uri) = &policy.spec.report_uri else { return };
        let to = uri.host();
        let own = self.pinned_by_policy(to);
        let pinner = match own.first() {
            Some(host) => Some(format!("of server \"{}\"", self.deployment.hosts[*host].label)),
            None => self.pinned_on_record(to),
        };
        let Some(pinner) = pinner else { return };
        for (host, policy_use) in uses {
            let scope =
                Scope { policy: policy.name(), kind, at: &policy_use.at, each_place: false };
            let name = policy.shown();
            self.find(scope, kind, *host, Code::ReportUriOnPinnedHost, || match own.contains(host) {
                true => Text::new(format!(
                    "reports for policy \"{name}\" go to {to}, which has the same pins; a client that \
                     refuses its certificate cannot send its report there"
                ))
                .fix("use a host of another name for reports"),
                false => Text::new(format!(
                    "reports for policy \"{name}\" go to {to}, which has pins too ({pinner}); no report \
                     arrives there from a client that refuses the certificate of {to}"
                ))
                .fix("use a host without pins for reports"),
            });
        }
    }

    /// The servers whose header binds a host.
    fn pinned_by_policy(&self, to: &str) -> Vec<usize> {
        let uses = self.uses(Kind::Enforced);
        let binding = uses.filter(|(host, policy_use)| {
            let Host { names, tls, .. } = &self.deployment.hosts[*host];
            *tls && self.policies.get(policy_use.policy.as_str()).is_some_and(|policy| {
                let subdomains = policy.spec.binds_subdomains();
                names.iter().any(|name| covers(name, to, subdomains))
            })
        });
        binding.map(|(host, _)| host).collect()
    }

    /// Who has sent a header that binds a host, by the records.
    fn pinned_on_record(&self, to: &str) -> Option<String> {
        let host_set = (to.parse::<HostName>().ok()?, Matching::Exact);
        let binding = self.published?.binding(&host_set).into_iter();
        let header = binding.map(|(live, _)| live.record);
        let header =
            header.filter(|record| record.body.origin == Origin::Header).min_by_key(|r| r.at);
        header.map(|record| format!("sent by {}, by the records", record.writer))
    }
}

/// Whether a server of this name, noted by a client, covers `host`.
fn covers(name: &str, host: &str, include_subdomains: bool) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(domain) => below(domain) || (name.starts_with('.') && host == domain),
        None => name == host || (include_subdomains && below(&name)),
    }
}
