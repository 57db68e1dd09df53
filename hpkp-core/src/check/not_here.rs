//! Names that the operator declared to be served elsewhere.

use super::messages::{Found, Scope};
use super::records::Published;
use super::{Checker, record_messages as text};
use crate::finding::{Check, Code, Location, Text};
use crate::header::Kind;

impl Checker<'_> {
    /// Reports declared names that a block here has, and warns that no pins are compared for the other declared names.
    pub(super) fn check_not_served_here(&mut self, published: &Published<'_>) {
        let Some(first) = self.deployment.not_served_here.first() else { return };
        let directive = self.deployment.names.not_served_here;
        for one in &self.deployment.not_served_here {
            let name = text::name_and_port(one);
            let scope =
                Scope { policy: &name, kind: Kind::Enforced, at: &one.at, each_place: true };
            for host in published.routing.having(one) {
                let code = Code::NotServedHereConflict;
                self.find(scope, Kind::Enforced, host, code, || {
                    text::served_here(&name, directive)
                });
            }
        }
        let all = self.deployment.not_served_here.iter();
        let names: Vec<String> = all.map(text::name_and_port).collect();
        self.find_of_none(&first.at, Code::NotServedHere, || {
            text::not_served_here(&names, directive)
        });
    }

    /// Records a warning that is about no host in particular.
    pub(super) fn find_of_none<T: Into<Text>>(
        &mut self,
        at: &Location,
        code: Code,
        summary: impl FnOnce() -> T,
    ) {
        let scope = Scope { policy: "", kind: Kind::Enforced, at, each_place: false };
        let class = code.class();
        let found = Found { code, class, check: Check::Refuse, has_header: false };
        self.findings.add(scope, found, "-", summary);
    }
}
