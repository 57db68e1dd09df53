//! Prints a plan as text and as JSON.

use std::io;

use hpkp_core::date;
use serde::Serialize;

use super::configuration;
use super::model::{Key, Plan, Policy, Step, kind_name};
use crate::arguments::PlanArguments;
use crate::output::{self, JSON_VERSION};

/// The JSON output.
#[derive(Debug, Serialize)]
struct PlanView<'a> {
    v: u32,
    host: &'a str,
    goal: &'static str,
    safe: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    servers: &'a [String],
    steps: Vec<StepView<'a>>,
    notes: &'a [String],
}

#[derive(Debug, Serialize)]
struct StepView<'a> {
    not_before: String,
    what: &'a str,
    /// The pin of the certificate's key after the step; null if any key may be used, or if there are
    /// several certificates.
    key: Option<String>,
    /// The keys of all certificates after the step; empty if any keys may be used.
    certificates: Vec<CertificateView>,
    policy: Option<PolicyView>,
    commands: &'a [String],
}

#[derive(Debug, Serialize)]
struct CertificateView {
    key: String,
    /// The kind of key, such as `RSA`.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct PolicyView {
    pins: Vec<String>,
    max_age: u32,
    include_subdomains: bool,
    nginx: String,
    httpd: String,
}

impl PolicyView {
    fn new(name: &str, policy: &Policy) -> Self {
        Self {
            pins: policy.pins.iter().map(|pin| format!("sha256/{pin}")).collect(),
            max_age: policy.max_age.seconds(),
            include_subdomains: policy.include_subdomains,
            nginx: configuration::nginx(name, policy).join("\n"),
            httpd: configuration::httpd(name, policy).join("\n"),
        }
    }
}

impl<'a> StepView<'a> {
    fn new(name: &str, step: &'a Step) -> Self {
        let pin = |key: &Key| format!("sha256/{}", key.pin);
        Self {
            not_before: date::format(step.from),
            what: &step.what,
            key: match &step.keys[..] {
                [one] => Some(pin(one)),
                _ => None,
            },
            certificates: step
                .keys
                .iter()
                .map(|key| CertificateView { key: pin(key), kind: key.kind.map(kind_name) })
                .collect(),
            policy: step.policy.as_ref().map(|policy| PolicyView::new(name, policy)),
            commands: &step.commands,
        }
    }
}

pub(super) fn json(plan: &Plan) -> io::Result<()> {
    output::json(&PlanView {
        v: JSON_VERSION,
        host: &plan.host,
        goal: plan.goal,
        safe: true,
        reason: None,
        servers: &plan.servers,
        steps: plan.steps.iter().map(|step| StepView::new(&plan.policy_name, step)).collect(),
        notes: &plan.notes,
    })
}

/// Prints why there is no plan.
pub(super) fn unsafe_plan(arguments: &PlanArguments, reason: &str) -> io::Result<()> {
    if !arguments.records.json {
        output::complain(&format!("no safe plan: {reason}"));
        return Ok(());
    }
    output::json(&PlanView {
        v: JSON_VERSION,
        host: arguments.host.as_str(),
        goal: arguments.to.as_str(),
        safe: false,
        reason: Some(reason),
        servers: &[],
        steps: Vec::new(),
        notes: &[],
    })
}

pub(super) fn text(plan: &Plan) -> io::Result<()> {
    output::line(&format!("plan for {}: {}", plan.host, plan.goal))?;
    if plan.servers.len() > 1 {
        let servers = plan.servers.join(", ");
        output::line(&format!("take each step on all servers before the next one: {servers}"))?;
    }
    if plan.steps.is_empty() {
        output::line("nothing to do: the servers send this already")?;
    }
    for (number, step) in (1..).zip(&plan.steps) {
        let from = output::accent(output::GOOD, &date::format(step.from));
        output::line("")?;
        output::line(&format!("step {number}, not before {from}: {}", step.what))?;
        for key in &step.keys {
            let kind = match key.kind {
                Some(kind) if step.keys.len() > 1 => format!("{} ", kind_name(kind)),
                _ => String::new(),
            };
            output::line(&format!("    key of the {kind}certificate: sha256/{}", key.pin))?;
        }
        configured(plan, step.policy.as_ref(), before(plan, number))?;
        for command in &step.commands {
            output::line(&format!("    {command}"))?;
        }
    }
    if !plan.notes.is_empty() {
        output::line("")?;
    }
    plan.notes.iter().try_for_each(|note| {
        output::line(&format!("{} {note}", output::accent(output::NOTE, "note:")))
    })
}

/// The policy before the step with this number.
fn before(plan: &Plan, number: usize) -> Option<&Policy> {
    plan.steps.get(number.checked_sub(2)?)?.policy.as_ref()
}

fn configured(plan: &Plan, policy: Option<&Policy>, before: Option<&Policy>) -> io::Result<()> {
    let Some(policy) = policy else { return output::line("    no policy") };
    if Some(policy) == before {
        return output::line("    the policy of the step before");
    }
    let name = &plan.policy_name;
    let nginx = configuration::nginx(name, policy).into_iter();
    let mut lines = nginx.chain(configuration::httpd(name, policy));
    lines.try_for_each(|line| output::line(&format!("        {line}")))
}
