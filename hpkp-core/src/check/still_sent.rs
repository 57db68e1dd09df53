//! Waived pins that a host still sends: a waiver covers whoever notes them from now on.

use super::messages::Scope;
use super::presented::Enough;
use super::records::{Published, Relation};
use super::routing::HostSet;
use super::{Checker, Records, record_messages as text};
use crate::finding::Code;
use crate::header::Kind;
use crate::published::state::{Live, Retention};
use crate::published::{self, Origin, PinValidation};

impl Checker<'_> {
    /// Reports the hosts that send pins of `binding` which an operator has waived. They are recorded anew only when
    /// another policy is published.
    pub(super) fn report_still_sent(
        &mut self,
        records: &Records,
        published: &Published<'_>,
        host_set: &HostSet,
        binding: &[(Live<'_>, Relation)],
    ) {
        let is_sent = |(live, relation): &&(Live<'_>, Relation)| {
            live.waiver.is_some()
                && *relation == Relation::Own
                && live.record.body.origin == Origin::Header
                && matches!(live.retention, Retention::WhilePublished(_))
                && records.writer.as_ref() == Some(&live.record.writer)
        };
        let sent: Vec<_> = binding.iter().filter(is_sent).collect();
        if sent.is_empty() {
            return;
        }
        let deployment = self.deployment;
        for target in published.routing.targets(host_set) {
            let Some(policy_use) = &deployment.hosts[target.host].enforced else { continue };
            let Some(policy) = self.policies.get(policy_use.policy.as_str()) else { continue };
            let pins = policy.sorted_pins();
            let is_same = |body: &published::Published| body.pins == pins;
            let enough = [Enough::Pins(published::Scope::Chain, pins.clone())];
            let is_met = published.presented[target.host].meet(&enough) != PinValidation::Fails;
            if !is_met
                || !published.was_published(host_set, policy)
                || !sent.iter().any(|(live, _)| is_same(&live.record.body))
            {
                continue;
            }
            let label = policy.label().to_string();
            let at = &policy_use.at;
            let scope = Scope { policy: &label, kind: Kind::Enforced, at, each_place: false };
            self.find(scope, Kind::Enforced, target.host, Code::Waived, || {
                text::still_sent(&label)
            });
        }
    }
}
