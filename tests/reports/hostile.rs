//! Chains that are made to cost as much processor time as possible.

use hpkp_tests::pki::{P384, Pki};

use crate::collector::{Collector, now, report, small};
use crate::durable::NO_LIMITS;

const HOST: &str = "www.example.com";
const CA: &str = "basicConstraints=critical,CA:TRUE\n";

/// A chain of eight CA certificates: two for each of four names, so that sixteen paths lead to the public CA. Made with
/// the CA's own key, so that all signatures but the last are valid. Only a CA could make a more costly chain.
fn chain(pki: &Pki) -> Vec<String> {
    pki.key("public", P384);
    pki.self_signed("public", "/CN=public", &[]);
    let mut issuer = "public".to_owned();
    for level in 0..4 {
        let name = format!("{level}a");
        pki.key(&name, P384);
        for twin in ["a", "b"] {
            let file = format!("{level}{twin}");
            pki.sign_as(&file, &name, &format!("/CN=level {level}"), &issuer, CA);
        }
        issuer = name;
    }
    // A CA with the name of the lowest CA, but another key.
    pki.key("forger", P384);
    pki.self_signed("forger", "/CN=level 3", &[]);
    pki.key("leaf", P384);
    pki.sign("leaf", &format!("/CN={HOST}"), "forger", &format!("subjectAltName=DNS:{HOST}\n"));
    let levels = (0..4).flat_map(|level| ["a", "b"].map(|twin| format!("{level}{twin}")));
    let names = std::iter::once("leaf".to_owned()).chain(levels);
    names.map(|name| String::from_utf8(pki.read(&format!("{name}.pem"))).unwrap()).collect()
}

/// A report with this chain and with other known pins for each `n`, so that its verdict is not in the cache.
fn distinct(chain: &[String], n: u32) -> String {
    let pin = hpkp_core::pin::Pin::of_spki(&n.to_be_bytes()).to_string();
    let body = report(HOST, &now(), chain);
    body.replace("d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=", &pin)
}

fn collector(tables: &str) -> (Collector, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain(&Pki::new(dir.path()));
    let trusted = format!("trusted_certificates = {:?}", dir.path().join("public.pem"));
    (Collector::start_in(dir, &[HOST, "other.example.com"], &trusted, tables), chain)
}

/// The processor time of the collector, in hundredths of a second.
fn processor_time(collector: &Collector) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", collector.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_body_with_more_than_ten_costly_chains_gets_422() {
    let (collector, chain) = collector("");
    let item = |n: u32| format!("{{\"type\":\"pkp\",\"age\":1,\"body\":{}}}", distinct(&chain, n));
    let batch = |count: u32| {
        let items: Vec<String> = (0..count).map(item).collect();
        format!("[{}]", items.join(","))
    };
    let kind = [("content-type", "application/reports+json")];
    assert_eq!(collector.post_with(batch(11), &kind).status, 422);
    assert_eq!(collector.metric("hpkp_reports_refused_total{reason=\"chains\"}"), 1);
    assert_eq!(collector.total(), 0);
    assert_eq!(collector.post_with(batch(10), &kind).status, 204);
    assert_eq!(collector.findings(HOST), ["report-unverifiable-chain"]);
    // Ten of these verdicts are in the cache, so only one is costly.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(collector.post_with(batch(11), &kind).status, 204);
    assert_eq!(collector.total(), 21);
    // Chains that lead to no public CA are not costly, so any number is allowed.
    let pki = Pki::new(collector.dir.path());
    pki.ca("Home");
    pki.leaf("homemade", HOST, "Home");
    let home: Vec<String> = ["homemade", "Home"]
        .map(|name| String::from_utf8(pki.read(&format!("{name}.pem"))).unwrap())
        .into();
    let items: Vec<String> = (0..30)
        .map(|n| format!("{{\"type\":\"pkp\",\"age\":1,\"body\":{}}}", distinct(&home, n)))
        .collect();
    assert_eq!(collector.post_with(format!("[{}]", items.join(",")), &kind).status, 204);
}

#[test]
fn a_costly_chain_counts_as_many_reports() {
    let limits =
        "[limits]\nclient_per_minute = 1000000\nhost_per_second = 60\ntotal_per_second = 240\n";
    let (collector, chain) = collector(limits);
    let statuses: Vec<u16> = (0..20).map(|n| collector.post(distinct(&chain, n))).collect();
    assert!(statuses.contains(&204) && statuses.contains(&429), "{statuses:?}");
    // Reports for other hosts are still accepted.
    assert_eq!(collector.post(small("other.example.com", 1)), 204);
}

/// Prints the processor time for one report (`--nocapture`).
#[test]
fn the_most_costly_chain_gets_a_verdict() {
    let (collector, chain) = collector(NO_LIMITS);
    let before = processor_time(&collector);
    const COUNT: u32 = 50;
    for n in 0..COUNT {
        assert_eq!(collector.post(distinct(&chain, n)), 204);
    }
    let each = (processor_time(&collector) - before) * 10 / u64::from(COUNT);
    eprintln!("a report with the worst chain took {each} ms of processor time");
    assert_eq!(collector.findings(HOST), ["report-unverifiable-chain"]);
}

#[test]
fn decoys_in_the_served_chain_do_not_hide_the_validated_one() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    pki.ca("public");
    pki.intermediate("issuing", "public");
    pki.leaf("theirs", HOST, "issuing");
    let text = |name: &str| String::from_utf8(pki.read(&format!("{name}.pem"))).unwrap();
    let mut served = vec![text("theirs")];
    // Certificates with the name of the CA, placed before it.
    for n in 0..4 {
        let name = format!("decoy{n}");
        pki.key(&name, P384);
        pki.self_signed(&name, "/CN=issuing", &[]);
        served.push(text(&name));
    }
    served.push(text("issuing"));
    let mut body: serde_json::Value =
        serde_json::from_str(&report(HOST, &now(), &[text("theirs"), text("issuing")])).unwrap();
    body["served-certificate-chain"] = served.into();
    let trusted = format!("trusted_certificates = {:?}", pki.path("public.pem"));
    let collector = Collector::start_in(dir, &[HOST], &trusted, "");
    assert_eq!(collector.post(body.to_string()), 204);
    assert_eq!(collector.findings(HOST), ["report-public-ca-unknown-key"]);
}

/// The number of threads of the collector.
fn threads(collector: &Collector) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", collector.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn costly_chains_do_not_create_threads() {
    let (collector, chain) = collector(NO_LIMITS);
    std::thread::scope(|scope| {
        for client in 0..30 {
            let (collector, chain) = (&collector, &chain);
            scope.spawn(move || {
                for n in 0..4 {
                    assert_eq!(collector.post(distinct(chain, 4 * client + n)), 204);
                }
            });
        }
    });
    assert_eq!(collector.total(), 120);
    // The threads of the runtime, at most eight blocking ones, and those of the store and the alarms. An idle blocking
    // thread ends after ten seconds.
    let processors = std::thread::available_parallelism().unwrap().get();
    let count = threads(&collector);
    assert!(count <= processors + 8 + 4, "{count} threads");
}
