//! Keywords in policies: replaces them with the keys that each server has loaded, so that each server gets a policy of
//! its own.

use std::collections::{HashMap, HashSet};

use super::{Certificates, Deployment};
use crate::path::Chain;
use crate::policy::Policy;

impl Deployment {
    /// Replaces the keywords in the policy of each host with pins. Hosts that present the same keys
    /// still share a policy. If the keys of a host are not known, its policy keeps the keywords,
    /// and its header is not sent.
    pub fn bind_keywords(&mut self) {
        let with_keywords: HashMap<String, Policy> = self
            .policies
            .iter()
            .filter(|policy| !policy.is_bound)
            .map(|policy| (policy.name().to_owned(), policy.clone()))
            .collect();
        if with_keywords.is_empty() {
            return;
        }
        let mut known = HashSet::new();
        for host in &mut self.hosts {
            let contexts = host.contexts.iter().map(|context| &self.contexts[*context]);
            let chains: Option<Vec<&[Chain]>> = contexts
                .map(|context| match &context.certificates {
                    Certificates::Loaded(chains) => Some(chains.as_slice()),
                    _ => None,
                })
                .collect();
            let Some(chains) = chains.filter(|chains| !chains.is_empty()) else { continue };
            let chains: Vec<&Chain> = chains.into_iter().flatten().collect();
            for policy_use in [&mut host.enforced, &mut host.report_only].into_iter().flatten() {
                let Some(policy) = with_keywords.get(&policy_use.policy) else { continue };
                let bound = policy.bound(&chains);
                bound.name().clone_into(&mut policy_use.policy);
                if known.insert(bound.name().to_owned()) {
                    self.policies.push(bound);
                }
            }
        }
    }
}
