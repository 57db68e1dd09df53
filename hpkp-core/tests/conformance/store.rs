//! store.jsonl: the pins in a user agent's store, step by step.

use std::path::Path;

use hpkp_core::ua::FieldKind;
use hpkp_core::ua::host::Host;
use hpkp_core::ua::hosts::{
    Connection, DueReport, Fate, Fields, KnownPinnedHosts, Noting, Options, Outcome, Transport,
};
use serde_json::{Value, json};

use super::headers::host;
use super::{bytes, compare, items, pin_set, pins, string};

pub(super) fn check(_: &Path, case: &Value) -> Result<(), String> {
    let mut hosts = KnownPinnedHosts::new(Options {
        max_age_cap: case["options"]["max_age_cap"].as_u64(),
        skip_local_anchors: case["options"]["skip_local_anchors"] == true,
    });
    for (number, step) in (1..).zip(items(&case["steps"])) {
        match string(&step["op"]) {
            "connect" => connect(&mut hosts, step),
            "query" => query(&hosts, step),
            "clear" => {
                match step["host"].as_str().map(host) {
                    Some(Host::Name(name)) => drop(hosts.forget(&name)),
                    Some(Host::Address(_)) => {}
                    None => hosts.clear(),
                }
                Ok(())
            }
            other => Err(format!("unknown operation {other}")),
        }
        .map_err(|why| format!("step {number}: {why}"))?;
    }
    Ok(())
}

fn connect(hosts: &mut KnownPinnedHosts, step: &Value) -> Result<(), String> {
    let host = host(string(&step["host"]));
    let chain = pins(&step["chain_pins"]);
    let transport = if step["scheme"] == "http" {
        Transport::Plain
    } else if step["tls_ok"] == false {
        Transport::FaultyTls
    } else {
        Transport::Tls { chain: &chain, local_anchor: step["local_anchor"] == true }
    };
    let connection = Connection { host: &host, transport, now: step["t"].as_i64().unwrap() };
    let enforced: Vec<_> = items(&step["headers"]["pkp"]).iter().map(bytes).collect();
    let report_only: Vec<_> = items(&step["headers"]["pkp-ro"]).iter().map(bytes).collect();
    let enforced: Vec<&[u8]> = enforced.iter().map(Vec::as_slice).collect();
    let report_only: Vec<&[u8]> = report_only.iter().map(Vec::as_slice).collect();
    let fields = Fields { enforced: &enforced, report_only: &report_only };
    let validation = hosts.validate(&connection);
    let received = hosts.receive(&connection, &validation, fields);

    let reports = [&validation.report, &received.report];
    let actual = [
        ("validation", json!(outcome(validation.outcome))),
        ("governing", json!(validation.governing.as_ref().map(ToString::to_string))),
        ("connection", json!(fate(validation.fate))),
        ("noting", json!(noting(received.noting))),
        ("reports", reports.into_iter().flatten().map(report).collect()),
    ];
    for (key, actual) in actual {
        // A step may omit results that it does not check.
        if let Some(expected) = step["expect"].get(key) {
            compare(key, &actual, expected, &step["acceptable"])?;
        }
    }
    Ok(())
}

fn query(hosts: &KnownPinnedHosts, step: &Value) -> Result<(), String> {
    let host = host(string(&step["host"]));
    let expected = &step["expect"];
    let acceptable = &step["acceptable"];
    let found = hosts.governing(&host, step["t"].as_i64().unwrap());
    let pinned = json!(found.is_some());
    compare("pinned", &pinned, &expected["pinned"], acceptable)?;
    let Some((name, entry)) = found.filter(|_| expected["pinned"] == true) else {
        return Ok(());
    };
    let noted: std::collections::BTreeSet<_> = entry.pins.iter().copied().collect();
    if expected.get("pins").is_some() && noted != pin_set(&expected["pins"]) {
        return Err(format!("pins: {:?}", entry.pins));
    }
    let uri = entry.report_uri.as_ref().map(ToString::to_string);
    for (key, actual) in [
        ("governing", json!(name.to_string())),
        ("expires", json!(entry.expires)),
        ("include_subdomains", json!(entry.include_subdomains)),
        ("report_uri", json!(uri)),
    ] {
        if let Some(expected) = expected.get(key) {
            compare(key, &actual, expected, acceptable)?;
        }
    }
    Ok(())
}

fn report(report: &DueReport) -> Value {
    json!({
        "kind": match report.kind {
            FieldKind::Enforced => "pkp",
            FieldKind::ReportOnly => "pkp-ro",
        },
        "to": report.to.as_str(),
        "noted_hostname": report.noted_hostname,
        "include_subdomains": report.include_subdomains,
        "effective_expiration": report.expires,
    })
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplicable => "n/a",
        Outcome::NotPinned => "not-pinned",
        Outcome::Pass => "pass",
        Outcome::Fail => "fail",
        Outcome::Skipped => "skipped",
        Outcome::TlsError => "tls-error",
    }
}

fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Proceed => "proceed",
        Fate::Abort => "abort",
        Fate::UserDecides => "user-decides",
    }
}

fn noting(noting: Noting) -> &'static str {
    match noting {
        Noting::None => "none",
        Noting::Noted => "noted",
        Noting::Updated => "updated",
        Noting::Removed => "removed",
        Noting::Ignored => "ignored",
    }
}
