//! A user agent of RFC 7469 for demonstrations: it validates a connection with the core's own store of Known Pinned
//! Hosts, notes the header, and prints the violation report if there is a violation.
//!
//! `report_as_ua HOST PORT CHAIN.pem HEADERS`: the chain that was served (and is taken as validated), and a file with
//! the header section of the response. Exit status 1 if there is no report.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use hpkp_core::certificate::Certificate;
use hpkp_core::pem;
use hpkp_core::ua::host::Host;
use hpkp_core::ua::hosts::{Connection, Fields, KnownPinnedHosts, Options, Transport};
use hpkp_core::ua::report::Report;

fn main() -> ExitCode {
    match run() {
        Ok(Some(report)) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Ok(None) => {
            eprintln!("no report is due");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

fn run() -> Result<Option<String>, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, chain, headers] = arguments.as_slice() else {
        return Err("usage: report_as_ua HOST PORT CHAIN.pem HEADERS".into());
    };
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let name = Host::parse(host).map_err(|_| "invalid host name")?;
    let file = std::fs::read(chain)?;
    let blocks = pem::blocks(&file).filter_map(Result::ok).filter(|block| block.is_certificate());
    let chain: Vec<Vec<u8>> = blocks.filter_map(|block| block.decode().ok()).collect();
    let pins: Vec<_> =
        chain.iter().filter_map(|der| Certificate::from_der(der).ok()?.pin()).collect();
    let text = std::fs::read_to_string(headers)?;
    let values = |wanted: &str| -> Vec<Vec<u8>> {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let ours = lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        ours.map(|(_, value)| value.trim().as_bytes().to_vec()).collect()
    };
    let (enforced, report_only) =
        (values("public-key-pins"), values("public-key-pins-report-only"));
    let enforced: Vec<&[u8]> = enforced.iter().map(Vec::as_slice).collect();
    let report_only: Vec<&[u8]> = report_only.iter().map(Vec::as_slice).collect();

    let mut store = KnownPinnedHosts::new(Options::default());
    let transport = Transport::Tls { chain: &pins, local_anchor: false };
    let connection = Connection { host: &name, transport, now };
    let validation = store.validate(&connection);
    let fields = Fields { enforced: &enforced, report_only: &report_only };
    let received = store.receive(&connection, &validation, fields);
    let due = validation.report.or(received.report);
    Ok(due.map(|due| {
        Report::new(&due, host, port.parse().unwrap_or(443), now, chain.clone(), chain).to_json()
    }))
}
