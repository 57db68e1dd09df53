//! The checks of one policy for one field: its text, its files and the hosts that use it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::messages::{self, Scope};
use super::satisfying::{self, Satisfying};
use super::{Checker, Sending, Uses};
use crate::finding::{Code, Location, Text};
use crate::header::{self, Header, Kind};
use crate::max_age::MaxAge;
use crate::pin::Pin;
use crate::policy::Policy;
use crate::text::Excerpt;

impl<'a> Checker<'a> {
    /// Checks every policy used for `kind`, with all its hosts, and says what each host sends.
    pub(super) fn check_uses(&mut self, kind: Kind) -> Vec<Option<Sending>> {
        let mut sending = vec![None; self.deployment.hosts.len()];
        let mut order = Vec::new();
        let mut uses: HashMap<&'a str, Uses<'a>> = HashMap::new();
        for (host, policy_use) in self.uses(kind) {
            uses.entry(&policy_use.policy)
                .or_insert_with(|| {
                    order.push(policy_use.policy.as_str());
                    Vec::new()
                })
                .push((host, policy_use));
        }
        let mut satisfying = Satisfying::new(self.paths);
        let senders = self.senders();
        for name in order {
            let uses = &uses[name];
            let Some(&policy) = self.policies.get(name) else {
                self.unknown_policy(name, kind, uses);
                continue;
            };
            let uses_on_tls = self.without_plain_servers(policy, kind, uses);
            if uses_on_tls.is_empty() {
                continue;
            }
            let header = self.check_text(policy, kind, &uses_on_tls);
            self.check_mistaken(policy, kind, &uses_on_tls);
            self.check_certificates(policy, kind, &uses_on_tls);
            if kind == Kind::Enforced {
                // An incomplete policy has a finding already; one about its backup pin would not help.
                if header::missing_or_excessive(policy, kind).is_empty() {
                    self.check_backup(policy, &uses_on_tls);
                }
                self.check_names(policy, &uses_on_tls);
            }
            self.check_report_uri(policy, kind, &uses_on_tls, &senders);

            let contexts = satisfying.contexts(policy);
            for (host, _) in uses_on_tls {
                let may_send = !self.withheld.contains(&(host, kind));
                // A report-only policy is also sent where it does not match: clients are to report that.
                let own: &[usize] = match kind {
                    Kind::Enforced => &[],
                    Kind::ReportOnly => &self.deployment.hosts[host].contexts,
                };
                sending[host] = Some(Sending {
                    header: header.clone().filter(|_| may_send),
                    contexts: satisfying::with(&contexts, own),
                });
            }
        }
        sending
    }

    fn unknown_policy(&mut self, name: &str, kind: Kind, uses: &Uses<'_>) {
        for (host, policy_use) in uses {
            let scope = Scope { policy: name, kind, at: &policy_use.at, each_place: true };
            self.find(scope, kind, *host, Code::UnknownPolicy, || {
                Text::new(format!("policy \"{}\" is not defined", Excerpt::new(name)))
                    .fix("define it, or correct the name")
            });
        }
    }

    /// Reports policies in servers without TLS, where they have no effect (RFC 7469 section 2.2.2), and returns the
    /// uses in servers with TLS. An inherited directive is not reported: it is meant for the other servers.
    fn without_plain_servers(&mut self, policy: &Policy, kind: Kind, uses: &Uses<'a>) -> Uses<'a> {
        let (tls, plain): (Uses<'a>, Uses<'a>) =
            uses.iter().partition(|(host, _)| self.deployment.hosts[*host].tls);
        for (host, policy_use) in plain.into_iter().filter(|(_, policy_use)| policy_use.own) {
            let scope =
                Scope { policy: policy.name(), kind, at: &policy_use.at, each_place: false };
            self.find(scope, kind, host, Code::NoTls, || {
                Text::new(format!(
                    "policy \"{}\" is used in a server that does not listen on TLS, so its header is \
                     never sent there",
                    policy.label()
                ))
                .fix("move the directive to the server that listens on TLS")
            });
        }
        tls
    }

    /// Whether the server records what it publishes, or would if the records could be read.
    fn keeps_records(&self) -> bool {
        self.deployment.records.as_ref().is_some_and(|records| {
            let is_unreadable =
                |(code, ..): &(Code, Text, Location)| *code == Code::RecordsUnreadable;
            records.writer.is_some() || records.problems.iter().any(is_unreadable)
        })
    }

    /// Reports problems in the policy's text and files, and returns its header if there are none.
    fn check_text(
        &mut self,
        policy: &'a Policy,
        kind: Kind,
        uses: &Uses<'_>,
    ) -> Option<Arc<Header>> {
        let names = self.deployment.names;
        for code in header::missing_or_excessive(policy, kind) {
            let scope =
                Scope { policy: policy.name(), kind, at: &policy.spec.at, each_place: false };
            for (host, _) in uses {
                self.find(scope, kind, *host, code, || messages::incomplete(policy, code, &names));
            }
        }
        // With max-age=0 no client remembers the pins, so records are not needed.
        if !self.keeps_records() && !policy.spec.is_unpinning() {
            for (role, at) in policy.spec.roles() {
                let scope = Scope { policy: policy.name(), kind, at, each_place: true };
                for (host, _) in uses {
                    self.find(scope, kind, *host, Code::KeywordPinWithoutPublishedPins, || {
                        messages::keyword(role, &names)
                    });
                }
            }
        }
        for problem in &policy.problems {
            let scope = Scope { policy: policy.name(), kind, at: &problem.at, each_place: true };
            for (host, _) in uses {
                self.find(scope, kind, *host, problem.code, || problem.text.clone());
            }
        }
        let mut first: HashMap<Pin, &Location> = HashMap::new();
        for pin in &policy.pins {
            let Some(earlier) = first.get(&pin.pin) else {
                first.insert(pin.pin, &pin.at);
                continue;
            };
            let scope = Scope { policy: policy.name(), kind, at: &pin.at, each_place: true };
            for (host, _) in uses {
                self.find(scope, kind, *host, Code::DuplicatePin, || {
                    Text::new(format!(
                        "duplicate pin sha256/{} in policy \"{}\", first configured at {earlier}; it is \
                         sent once",
                        pin.pin,
                        policy.label()
                    ))
                    .fix("remove one of the two")
                });
            }
        }
        let enforced = policy.spec.max_age.filter(|_| kind == Kind::Enforced);
        if let Some(age) = enforced.filter(|age| *age > MaxAge::USER_AGENTS_CAP) {
            let scope =
                Scope { policy: policy.name(), kind, at: &policy.spec.at, each_place: false };
            for (host, _) in uses {
                self.find(scope, kind, *host, Code::MaxAgeTooLong, || {
                    messages::max_age_too_long(policy, age, &names)
                });
            }
        }
        Header::render(policy, kind).ok().map(Arc::new)
    }

    /// User agents note no IP addresses (RFC 7469 section 2.3.3).
    fn check_names(&mut self, policy: &'a Policy, uses: &Uses<'_>) {
        for (position, policy_use) in uses {
            let host = &self.deployment.hosts[*position];
            let address = host.names.iter().find(|name| {
                let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
                name.parse::<IpAddr>().is_ok()
            });
            let Some(address) = address else { continue };
            let scope = Scope {
                policy: policy.name(),
                kind: Kind::Enforced,
                at: &policy_use.at,
                each_place: false,
            };
            self.find(scope, Kind::Enforced, *position, Code::IpAddressHost, || {
                format!(
                    "the server name {address} is an IP address; clients ignore pins for addresses (RFC \
                     7469 section 2.3.3), so pins do not protect them"
                )
            });
        }
    }
}
