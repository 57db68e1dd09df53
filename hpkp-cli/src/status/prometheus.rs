//! Prints the report as metrics in Prometheus' text format, for the textfile collector of its node
//! exporter.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::fmt::{Display, Write as _};

use super::report::{Answer, HostReport, Recorded, Report, Served, WriterReport};

/// The metrics.
pub(super) fn render(report: &Report) -> String {
    let mut metrics = Metrics::default();
    of_run(report, &mut metrics);
    of_directories(report, &mut metrics);
    of_writers(report, &mut metrics);
    of_hosts(report, &mut metrics);
    of_servers(report, &mut metrics);
    metrics.0
}

fn of_run(report: &Report, metrics: &mut Metrics) {
    metrics.family(
        "hpkp_status_timestamp_seconds",
        "When hpkp status ran, in seconds since 1970.",
        [([], report.at.0)],
    );
    metrics.family(
        "hpkp_status_problems",
        "What hpkp status found wrong, odd or unknown.",
        [([], report.problems.len())],
    );
    metrics.family(
        "hpkp_last_drill_timestamp_seconds",
        "When a backup key was last restored in a drill and clients held its pin; absent if never.",
        report.last_drill.iter().map(|drill| ([], drill.at.0)),
    );
}

fn of_directories(report: &Report, metrics: &mut Metrics) {
    let all = || report.directories.iter().map(|one| ([("directory", &*one.path)], one));
    metrics.family(
        "hpkp_records_usable",
        "Whether the directory with records could be opened (1) or not (0).",
        all().map(|(labels, one)| (labels, u8::from(one.usable))),
    );
    metrics.family(
        "hpkp_records_unreadable_files",
        "Files with records that could not be read.",
        all().map(|(labels, one)| (labels, one.unread.len())),
    );
    metrics.family(
        "hpkp_reserve_damaged_slots",
        "Damaged slots of the file hpkp-reserve.",
        all().map(|(labels, one)| (labels, one.damaged_slots)),
    );
}

fn of_writers(report: &Report, metrics: &mut Metrics) {
    let all = || {
        report.writers.iter().map(|one| {
            let kind = if one.own { "own" } else { "peer" };
            ([("writer", &*one.writer), ("kind", kind)], one)
        })
    };
    let own = |own: bool| {
        let all = report.writers.iter().filter(move |one| one.own == own);
        all.map(|one| ([("writer", &*one.writer)], one))
    };
    metrics.family(
        "hpkp_last_configuration_timestamp_seconds",
        "When the last accepted configuration of a server was recorded that differs from the one before.",
        all().filter_map(|(labels, one)| Some((labels, one.last_configuration?.0))),
    );
    metrics.family(
        "hpkp_last_record_timestamp_seconds",
        "When a writer last wrote a record.",
        all().filter_map(|(labels, one)| Some((labels, one.last_record?.0))),
    );
    metrics.family(
        "hpkp_last_heard_timestamp_seconds",
        "When this machine last received a heartbeat of another writer; absent if never.",
        own(false).filter_map(|(labels, one)| Some((labels, one.heard?.0))),
    );
    metrics.family(
        "hpkp_peer_silence_seconds",
        "How long ago this machine last received a heartbeat of another writer, in seconds.",
        own(false).filter_map(|(labels, one)| Some((labels, one.silent_for?))),
    );
    let has_failed = |one: &WriterReport| matches!(one.recorded, Recorded::No | Recorded::Unknown);
    metrics.family(
        "hpkp_configuration_unrecorded",
        "Whether the configuration that a server uses could not be recorded (1).",
        own(true).map(|(labels, one)| (labels, u8::from(has_failed(one)))),
    );
    metrics.family(
        "hpkp_hosts_withheld",
        "Hosts whose header a server withholds.",
        all()
            .filter(|(_, one)| one.last_configuration.is_some())
            .map(|(labels, one)| (labels, one.withheld.len())),
    );
    metrics.family(
        "hpkp_records_missing",
        "Writers whose records a server has read and that are missing.",
        own(true).map(|(labels, one)| (labels, one.missing.len())),
    );
}

fn of_hosts(report: &Report, metrics: &mut Metrics) {
    let keys = report.hosts.iter().flat_map(|host| {
        host.next_keys.iter().map(|key| ([("host", &*host.host), ("pin", &*key.pin)], key))
    });
    metrics.family(
        "hpkp_next_key_usable_timestamp_seconds",
        "From when on a next key may be used; absent where its pin is not published or nobody can tell.",
        keys.filter_map(|(labels, key)| Some((labels, key.usable_from?.0))),
    );
    let all = || report.hosts.iter().map(|host| ([("host", &*host.host)], host));
    metrics.family(
        "hpkp_host_pins_held",
        "Records of pins that clients of a host may hold.",
        all().map(|(labels, host)| (labels, host.published.len())),
    );
    let expiry = || all().filter_map(|(labels, host)| Some((labels, host.earliest_expiry?.0)));
    metrics.family(
        "hpkp_host_earliest_expiry_timestamp_seconds",
        "When the first of the pins expire that clients of a host hold; absent where none has an end yet.",
        expiry(),
    );
    metrics.family(
        "hpkp_host_earliest_expiry_seconds",
        "In how many seconds the first of the pins expire that clients of a host hold.",
        expiry().map(|(labels, at)| (labels, at.saturating_sub(report.at.0))),
    );
    metrics.family(
        "hpkp_host_free_timestamp_seconds",
        "When the last of the pins expire that clients of a host hold; absent where some have no end yet.",
        all().filter_map(|(labels, host)| Some((labels, host.free_from?.0))),
    );
    metrics.family(
        "hpkp_host_withheld",
        "Servers that withhold the header of a host.",
        all().map(|(labels, host)| (labels, host.withheld_by.len())),
    );
}

fn of_servers(report: &Report, metrics: &mut Metrics) {
    let served =
        report.hosts.iter().flat_map(|host| host.served.iter().map(move |one| (host, one)));
    let served: Vec<(&HostReport, &Served, String)> =
        served.map(|(host, one)| (host, one, one.port.to_string())).collect();
    let all = || {
        served.iter().map(|(host, one, port)| {
            ([("host", &*host.host), ("port", &**port), ("address", &*one.address)], *one)
        })
    };
    metrics.family(
        "hpkp_host_reached",
        "Whether a server presented a certificate for a host (1) or not (0).",
        all().map(|(labels, one)| (labels, u8::from(!one.chains.is_empty()))),
    );
    let answer = |one: &Served| match one.answer {
        Answer::Yes => 1,
        Answer::No => 0,
        Answer::Unknown | Answer::NotAsked => -1,
    };
    metrics.family(
        "hpkp_host_pins_satisfied",
        "Whether clients accept the presented keys: 1 yes, 0 no, -1 unknown.",
        all().map(|(labels, one)| (labels, answer(one))),
    );
    metrics.family(
        "hpkp_host_certificate_expiry_timestamp_seconds",
        "When the first of the certificates expires that a server presents for a host.",
        all().filter_map(|(labels, one)| Some((labels, one.not_after?.0))),
    );
    metrics.family(
        "hpkp_host_key_unrecorded",
        "Whether a server presents a key that no record names for the host (1).",
        all().filter_map(|(labels, one)| Some((labels, u8::from(!one.as_on_record?)))),
    );
}

/// The text of the metrics.
#[derive(Default)]
struct Metrics(String);

impl Metrics {
    /// Adds a family of metrics: each sample has labels and a value. A family without samples is omitted.
    fn family<'a, const N: usize, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([(&'a str, &'a str); N], V)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
        }
        for (labels, value) in samples {
            let labels = labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
            let labels = match N {
                0 => String::new(),
                _ => format!("{{{}}}", labels.join(",")),
            };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_empty_families_left_out() {
        let mut metrics = Metrics::default();
        metrics.family::<0, u8>("hpkp_empty", "Nothing.", []);
        metrics.family("hpkp_one", "One.", [([("directory", "a\"b\\c\nz")], 1)]);
        metrics.family("hpkp_two", "Two.", [([], 2)]);
        assert_eq!(
            metrics.0,
            "# HELP hpkp_one One.\n# TYPE hpkp_one gauge\nhpkp_one{directory=\"a\\\"b\\\\c\\nz\"} 1\n\
             # HELP hpkp_two Two.\n# TYPE hpkp_two gauge\nhpkp_two 2\n"
        );
    }
}
