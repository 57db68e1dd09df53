//! The report as metrics in Prometheus' text format, for the textfile collector of its node exporter.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::Write as _;

use super::report::{Answer, Recorded, Report};

/// The metrics.
pub(super) fn render(report: &Report) -> String {
    let mut metrics = Metrics::default();
    of_run(report, &mut metrics);
    of_directories(report, &mut metrics);
    of_writers(report, &mut metrics);
    of_hosts(report, &mut metrics);
    of_servers(report, &mut metrics);
    metrics.text
}

fn of_run(report: &Report, metrics: &mut Metrics) {
    metrics.family("hpkp_status_timestamp_seconds", "When hpkp status ran, in seconds since 1970.");
    metrics.sample(&[], report.at.0);
    metrics.family("hpkp_status_problems", "What hpkp status found wrong, odd or unknown.");
    metrics.sample(&[], report.problems.len());
    metrics.family(
        "hpkp_last_drill_timestamp_seconds",
        "When a backup key was last restored in a drill and clients held its pin; absent if never.",
    );
    if let Some(drill) = &report.last_drill {
        metrics.sample(&[], drill.at.0);
    }
}

fn of_directories(report: &Report, metrics: &mut Metrics) {
    metrics.family(
        "hpkp_records_usable",
        "Whether the directory with records could be opened (1) or not (0).",
    );
    for one in &report.directories {
        metrics.sample(&[("directory", &one.path)], u8::from(one.usable));
    }
    metrics.family("hpkp_records_unreadable_files", "Files with records that could not be read.");
    for one in &report.directories {
        metrics.sample(&[("directory", &one.path)], one.unread.len());
    }
    metrics.family("hpkp_reserve_damaged_slots", "Damaged slots of the file hpkp-reserve.");
    for one in &report.directories {
        metrics.sample(&[("directory", &one.path)], one.damaged_slots);
    }
}

fn of_writers(report: &Report, metrics: &mut Metrics) {
    let kind = |own| if own { "own" } else { "peer" };
    metrics.family(
        "hpkp_last_configuration_timestamp_seconds",
        "When the last accepted configuration of a server was recorded that differs from the one before.",
    );
    for one in &report.writers {
        if let Some(at) = one.last_configuration {
            metrics.sample(&[("writer", &one.writer), ("kind", kind(one.own))], at.0);
        }
    }
    metrics.family("hpkp_last_record_timestamp_seconds", "When a writer last wrote a record.");
    for one in &report.writers {
        if let Some(at) = one.last_record {
            metrics.sample(&[("writer", &one.writer), ("kind", kind(one.own))], at.0);
        }
    }
    metrics.family(
        "hpkp_last_heard_timestamp_seconds",
        "When this machine last received a heartbeat of another writer; absent if never.",
    );
    for one in report.writers.iter().filter(|one| !one.own) {
        if let Some(at) = one.heard {
            metrics.sample(&[("writer", &one.writer)], at.0);
        }
    }
    metrics.family(
        "hpkp_peer_silence_seconds",
        "How long ago this machine last received a heartbeat of another writer, in seconds.",
    );
    for one in report.writers.iter().filter(|one| !one.own) {
        if let Some(age) = one.silent_for {
            metrics.sample(&[("writer", &one.writer)], age);
        }
    }
    metrics.family(
        "hpkp_configuration_unrecorded",
        "Whether the configuration that a server uses could not be recorded (1).",
    );
    for one in report.writers.iter().filter(|one| one.own) {
        let failed = matches!(one.recorded, Recorded::No | Recorded::Unknown);
        metrics.sample(&[("writer", &one.writer)], u8::from(failed));
    }
    metrics.family("hpkp_hosts_withheld", "Hosts whose header a server withholds.");
    for one in report.writers.iter().filter(|one| one.last_configuration.is_some()) {
        let labels = [("writer", one.writer.as_str()), ("kind", kind(one.own))];
        metrics.sample(&labels, one.withheld.len());
    }
    metrics.family(
        "hpkp_records_missing",
        "Writers whose records a server has read and that are missing.",
    );
    for one in report.writers.iter().filter(|one| one.own) {
        metrics.sample(&[("writer", &one.writer)], one.missing.len());
    }
}

fn of_hosts(report: &Report, metrics: &mut Metrics) {
    metrics.family(
        "hpkp_next_key_usable_timestamp_seconds",
        "From when on a next key may be used; absent where its pin is not published or nobody can tell.",
    );
    for host in &report.hosts {
        for key in &host.next_keys {
            if let Some(at) = key.usable_from {
                metrics.sample(&[("host", &host.host), ("pin", &key.pin)], at.0);
            }
        }
    }
    metrics.family("hpkp_host_pins_held", "Records of pins that clients of a host may hold.");
    for host in &report.hosts {
        metrics.sample(&[("host", &host.host)], host.published.len());
    }
    metrics.family(
        "hpkp_host_earliest_expiry_timestamp_seconds",
        "When the first of the pins expire that clients of a host hold; absent where none has an end yet.",
    );
    for host in &report.hosts {
        if let Some(at) = host.earliest_expiry {
            metrics.sample(&[("host", &host.host)], at.0);
        }
    }
    metrics.family(
        "hpkp_host_earliest_expiry_seconds",
        "In how many seconds the first of the pins expire that clients of a host hold.",
    );
    for host in &report.hosts {
        if let Some(at) = host.earliest_expiry {
            metrics.sample(&[("host", &host.host)], at.0.saturating_sub(report.at.0));
        }
    }
    metrics.family(
        "hpkp_host_free_timestamp_seconds",
        "When the last of the pins expire that clients of a host hold; absent where some have no end yet.",
    );
    for host in &report.hosts {
        if let Some(at) = host.free_from {
            metrics.sample(&[("host", &host.host)], at.0);
        }
    }
    metrics.family("hpkp_host_withheld", "Servers that withhold the header of a host.");
    for host in &report.hosts {
        metrics.sample(&[("host", &host.host)], host.withheld_by.len());
    }
}

fn of_servers(report: &Report, metrics: &mut Metrics) {
    let servers = || {
        report.hosts.iter().flat_map(|host| host.served.iter().map(move |one| (&host.host, one)))
    };
    metrics.family(
        "hpkp_host_reached",
        "Whether a server presented a certificate for a host (1) or not (0).",
    );
    for (host, one) in servers() {
        let labels =
            [("host", host.as_str()), ("port", &one.port.to_string()), ("address", &one.address)];
        metrics.sample(&labels, u8::from(!one.chains.is_empty()));
    }
    metrics.family(
        "hpkp_host_pins_satisfied",
        "Whether clients accept the presented keys: 1 yes, 0 no, -1 unknown.",
    );
    for (host, one) in servers() {
        let labels =
            [("host", host.as_str()), ("port", &one.port.to_string()), ("address", &one.address)];
        let answer = match one.answer {
            Answer::Yes => 1,
            Answer::No => 0,
            Answer::Unknown | Answer::NotAsked => -1,
        };
        metrics.sample(&labels, answer);
    }
    metrics.family(
        "hpkp_host_certificate_expiry_timestamp_seconds",
        "When the first of the certificates expires that a server presents for a host.",
    );
    for (host, one) in servers() {
        let labels =
            [("host", host.as_str()), ("port", &one.port.to_string()), ("address", &one.address)];
        if let Some(at) = one.not_after {
            metrics.sample(&labels, at.0);
        }
    }
    metrics.family(
        "hpkp_host_key_unrecorded",
        "Whether a server presents a key that no record names for the host (1).",
    );
    for (host, one) in servers() {
        let labels =
            [("host", host.as_str()), ("port", &one.port.to_string()), ("address", &one.address)];
        if let Some(as_on_record) = one.as_on_record {
            metrics.sample(&labels, u8::from(!as_on_record));
        }
    }
}

/// The text as it grows. A family without samples leaves nothing: a type alone is of no use.
#[derive(Default)]
struct Metrics {
    text: String,
    name: &'static str,
    /// The lines that come before the first sample.
    heading: String,
}

impl Metrics {
    fn family(&mut self, name: &'static str, help: &str) {
        self.name = name;
        self.heading = format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(&std::mem::take(&mut self.heading));
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_empty_families_left_out() {
        let mut metrics = Metrics::default();
        metrics.family("hpkp_empty", "Nothing.");
        metrics.family("hpkp_one", "One.");
        metrics.sample(&[("directory", "a\"b\\c\nz")], 1);
        metrics.sample(&[], 2);
        assert_eq!(
            metrics.text,
            "# HELP hpkp_one One.\n# TYPE hpkp_one gauge\nhpkp_one{directory=\"a\\\"b\\\\c\\nz\"} 1\n\
             hpkp_one 2\n"
        );
    }
}
