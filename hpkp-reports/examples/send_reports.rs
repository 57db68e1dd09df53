//! Generates load (ci/bench-reports): many connections, each of which sends one report after the other.
//!
//! `send_reports ADDRESS BODIES`: each line of the file BODIES is a body; they are sent in turn.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Send reports and measure the answers.
#[derive(Clone, Parser)]
struct Arguments {
    address: SocketAddr,
    bodies: std::path::PathBuf,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Addresses of this machine's loopback network that the connections are from; 0 for the usual one.
    #[arg(long, default_value_t = 0)]
    clients: usize,
    /// The number of the first of those addresses.
    #[arg(long, default_value_t = 256)]
    first: usize,
    #[arg(long, default_value_t = u64::MAX)]
    requests: u64,
    #[arg(long, default_value_t = 86_400.0)]
    seconds: f64,
    /// Requests a second, of all connections; without it each sends as soon as it has an answer.
    #[arg(long)]
    rate: Option<f64>,
}

/// The answers to one connection.
#[derive(Default)]
struct Answers {
    /// The time of each answer in microseconds.
    times: Vec<u32>,
    statuses: BTreeMap<String, u64>,
}

impl Answers {
    fn count(&mut self, what: &str) {
        *self.statuses.entry(what.to_owned()).or_default() += 1;
    }
}

async fn connect(arguments: &Arguments, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if arguments.clients > 0 {
        let [.., high, low] = ((number % arguments.clients + arguments.first) as u32).to_be_bytes();
        socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into())?;
    }
    let stream = socket.connect(arguments.address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends one request. Returns the status, and whether the connection stays open.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<(String, bool)> {
    stream.write_all(request).await?;
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let status = text.split(' ').nth(1).unwrap_or("?").to_owned();
    Ok((status, !text.contains("connection: close")))
}

async fn send(arguments: Arguments, number: usize, requests: Arc<Vec<Vec<u8>>>) -> Answers {
    let mut answers = Answers::default();
    let mut stream = None;
    let begin = Instant::now();
    let share = arguments.requests / arguments.connections as u64;
    let pause = arguments.rate.map(|rate| arguments.connections as f64 / rate);
    for turn in 0..share {
        if let Some(pause) = pause {
            let phase = number as f64 / arguments.connections as f64;
            let due = begin + Duration::from_secs_f64((turn as f64 + phase) * pause);
            tokio::time::sleep_until(due.into()).await;
        }
        if begin.elapsed().as_secs_f64() > arguments.seconds {
            break;
        }
        let at = Instant::now();
        if stream.is_none() {
            stream = connect(&arguments, number).await.ok();
        }
        let Some(open) = &mut stream else {
            answers.count("no connection");
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let place = (turn as usize * arguments.connections + number) % requests.len();
        let answer =
            tokio::time::timeout(Duration::from_secs(60), exchange(open, &requests[place])).await;
        let goes_on = match answer {
            Ok(Ok((status, goes_on))) => {
                answers.times.push(at.elapsed().as_micros() as u32);
                answers.count(&status);
                goes_on
            }
            Ok(Err(_)) => {
                answers.count("closed");
                false
            }
            Err(_) => {
                answers.count("no answer");
                false
            }
        };
        if !goes_on {
            stream = None;
        }
    }
    answers
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let bodies = std::fs::read_to_string(&arguments.bodies)?;
    let request = |body: &str| {
        let head = format!(
            "POST /r/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body.as_bytes()].concat()
    };
    let requests: Arc<Vec<Vec<u8>>> = Arc::new(bodies.lines().map(request).collect());
    let begin = Instant::now();
    let tasks: Vec<_> = (0..arguments.connections)
        .map(|number| tokio::spawn(send(arguments.clone(), number, Arc::clone(&requests))))
        .collect();
    let (mut times, mut statuses) = (Vec::new(), BTreeMap::new());
    for task in tasks {
        let answers = task.await?;
        times.extend(answers.times);
        for (status, count) in answers.statuses {
            *statuses.entry(status).or_insert(0) += count;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    times.sort_unstable();
    let part = |part: f64| {
        let place = (times.len() as f64 * part) as usize;
        times.get(place).map_or(0.0, |time| f64::from(*time) / 1000.0)
    };
    let statuses: Vec<String> =
        statuses.into_iter().map(|(status, count)| format!("{status}:{count}")).collect();
    println!(
        "{:.0} requests/s, p50 {:.1} ms, p99 {:.1} ms, {}",
        times.len() as f64 / seconds,
        part(0.5),
        part(0.99),
        statuses.join(" ")
    );
    Ok(())
}
