//! Whether violation reports can arrive: not if they are sent to the host that violates the pins, and perhaps not if
//! the host for reports has pins of its own (RFC 7469 section 2.1.4).

use std::collections::{BTreeSet, HashMap};

use super::messages::Scope;
use super::{Checker, Host, Uses};
use crate::finding::{Code, Text};
use crate::header::Kind;
use crate::policy::Policy;
use crate::published::{HostName, Matching, Origin};

impl<'a> Checker<'a> {
    pub(super) fn check_report_uri(
        &mut self,
        policy: &'a Policy,
        kind: Kind,
        uses: &Uses<'_>,
        senders: &Senders,
    ) {
        let Some(uri) = &policy.spec.report_uri else { return };
        let to = uri.host();
        let own = binding(senders, to);
        let pinner = match own.first() {
            Some(host) => Some(format!("of server \"{}\"", self.deployment.hosts[*host].label)),
            None => self.pinned_on_record(to),
        };
        let Some(pinner) = pinner else { return };
        for (host, policy_use) in uses {
            let scope =
                Scope { policy: policy.name(), kind, at: &policy_use.at, each_place: false };
            let name = policy.label();
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

    /// The servers that send a header, by their names in lower case.
    pub(super) fn senders(&self) -> Senders {
        let mut senders = Senders::new();
        for (host, policy_use) in self.uses(Kind::Enforced) {
            let Host { names, tls, .. } = &self.deployment.hosts[host];
            let policy = self.policies.get(policy_use.policy.as_str()).filter(|_| *tls);
            for (policy, name) in
                policy.into_iter().flat_map(|policy| names.iter().map(move |name| (policy, name)))
            {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                senders.entry(name).or_default().push((host, policy.spec.binds_subdomains()));
            }
        }
        senders
    }

    /// A writer that has sent a header that binds the host, according to the records.
    fn pinned_on_record(&self, to: &str) -> Option<String> {
        let host_set = (to.parse::<HostName>().ok()?, Matching::Exact);
        let binding = self.published?.binding(&host_set).into_iter();
        let header = binding.map(|(live, _)| live.record);
        let header =
            header.filter(|record| record.body.origin == Origin::Header).min_by_key(|r| r.at);
        header.map(|record| format!("sent by {}, by the records", record.writer))
    }
}

/// Servers and whether the pins that each sends count for subdomains, by server name.
pub(super) type Senders = HashMap<String, Vec<(usize, bool)>>;

/// The servers whose header binds a host: by its own name, by a wildcard, or by a domain above it with
/// includeSubDomains. In the order of the configuration.
fn binding(senders: &Senders, to: &str) -> BTreeSet<usize> {
    let those = |name: &str| senders.get(name).into_iter().flatten();
    let mut hosts: BTreeSet<usize> = [to.to_owned(), format!(".{to}")]
        .iter()
        .flat_map(|name| those(name))
        .map(|(host, _)| *host)
        .collect();
    let above = to.match_indices('.').map(|(dot, _)| &to[dot + 1..]);
    for domain in above {
        hosts.extend(those(domain).filter(|(_, subdomains)| *subdomains).map(|(host, _)| *host));
        for wildcard in [format!("*.{domain}"), format!(".{domain}")] {
            hosts.extend(those(&wildcard).map(|(host, _)| *host));
        }
    }
    hosts
}
