//! Starts, runs and stops the collector.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;

use crate::arguments::Config;
use crate::configuration::Configuration;
use crate::exit::Exit;
use crate::output::log;
use crate::receive::listen::Listener;
use crate::receive::{self, Receiver, tls};
use crate::see::{self, Pages};
use crate::store::{Reader, StoreError, Writer, WriterSettings};
use crate::understand::alarm::Alarm;
use crate::understand::{Judge, Knowledge};

/// How often the certificate files are checked for changes.
const LOOK: Duration = Duration::from_secs(10);

/// After how many checks the records are read again: they change with each reload of a server.
const LEARN: u32 = 6;

/// The most threads besides those of the runtime, for queries of pages and files. Each needs memory.
const BLOCKING: usize = 8;

/// Why the collector does not run.
enum Failure {
    Invalid(String),
    Failed(String),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs the collector until SIGTERM or SIGINT.
pub(crate) fn run(arguments: &Config) -> Exit {
    ended(start(&arguments.config))
}

/// Checks the configuration and the files that it names.
pub(crate) fn check(arguments: &Config) -> Exit {
    let checked = read(&arguments.config).map(|(configuration, knowledge)| {
        warn(&configuration, &knowledge);
        println!(
            "{}: valid; entries of hosts: {}, public CAs: {}",
            arguments.config.display(),
            configuration.hosts.len(),
            knowledge.public.len()
        );
    });
    ended(checked)
}

fn ended(result: Result<(), Failure>) -> Exit {
    match result {
        Ok(()) => Exit::Fine,
        Err(Failure::Invalid(text)) => {
            log(&text);
            Exit::Invalid
        }
        Err(Failure::Failed(text)) => {
            log(&text);
            Exit::Failed
        }
    }
}

/// Logs the problems that may make verdicts wrong or prevent alarms.
fn warn(configuration: &Configuration, knowledge: &Knowledge) {
    for problem in knowledge.problems().cloned().chain(Alarm::problem(&configuration.alarms)) {
        log(&format!("warning: {problem}"));
    }
}

/// Reads the configuration and checks the files that it names.
fn read(path: &Path) -> Result<(Configuration, Knowledge), Failure> {
    let configuration = Configuration::read(path).map_err(|error| match error.is_unreadable {
        true => Failure::Failed(error.text),
        false => Failure::Invalid(error.text),
    })?;
    let invalid = |error: String| Failure::Invalid(Configuration::placed(path, &error));
    if let Some(files) = &configuration.tls {
        tls::Certificate::read(files).map_err(invalid)?;
    }
    see::Access::read(&configuration.pages, &configuration.trusted_proxies).map_err(invalid)?;
    Alarm::check(&configuration.alarms).map_err(invalid)?;
    let knowledge = Knowledge::read(&configuration)
        .map_err(|error| invalid(format!("private_roots: {error}")))?;
    Ok((configuration, knowledge))
}

fn start(path: &Path) -> Result<(), Failure> {
    let (configuration, knowledge) = read(path)?;
    warn(&configuration, &knowledge);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .build()
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let judge = Arc::new(Judge::new(knowledge));
    let settings = WriterSettings {
        name: configuration.store.clone(),
        days: configuration.retention.days,
        size: configuration.retention.size.0,
        groups_per_day: configuration.limits.groups_per_day,
        unexplained: configuration.alarms.unexplained,
    };
    let store = (settings.name.clone(), settings.size);
    let wakes = Arc::new(OnceLock::<Alarm>::new());
    let woken = Arc::clone(&wakes);
    let wake = move || {
        if let Some(alarm) = woken.get() {
            alarm.wake();
        }
    };
    let (writer, thread) = Writer::start(settings, wake)?;
    // Alarms start after the store has opened, and begin with those that wait in the store.
    let base = see::base_address(&configuration);
    let alarm = Alarm::start(&configuration.alarms, base, store).map_err(Failure::Failed)?;
    let _ = wakes.set(alarm);
    // The connection to a database must not be dropped inside the runtime, so this function keeps it longer.
    let reader = Arc::new(Reader::new(&configuration.store));
    let served =
        runtime.block_on(serve(configuration, judge, Arc::new(writer), Arc::clone(&reader)));
    // Connections that did not end in time still hold the writer. The shutdown drops them.
    runtime.shutdown_timeout(Duration::from_secs(2));
    drop(reader);
    let _ = thread.join();
    served
}

async fn serve(
    configuration: Configuration,
    judge: Arc<Judge>,
    writer: Arc<Writer>,
    reader: Arc<Reader>,
) -> Result<(), Failure> {
    // Handlers are set before the listeners open: a signal without a handler would kill the process.
    let signal = |kind| signal(kind).map_err(|error| Failure::Failed(error.to_string()));
    let hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let certificate = configuration.tls.as_ref().map(tls::Certificate::read);
    let certificate = certificate.transpose().map_err(Failure::Invalid)?;
    let settings = certificate.clone().map(tls::settings).transpose().map_err(Failure::Failed)?;
    let receiver = Arc::new(Receiver::new(&configuration, Arc::clone(&judge), Arc::clone(&writer)));
    let pages =
        Pages::new(&configuration, reader, Arc::clone(&judge), Arc::clone(&receiver), writer)
            .map_err(Failure::Invalid)?;
    let reports = layered(receive::routes(Arc::clone(&receiver)).merge(see::health_routes(&pages)));
    let pages = layered(see::routes(&pages));

    let (stop, stopped) = watch::channel(false);
    let mut listeners = Vec::new();
    let listen = configuration.listen;
    let is_one = configuration.pages.listen == Some(listen);
    let first =
        if is_one { receive::routes(Arc::clone(&receiver)).merge(pages.clone()) } else { reports };
    let bind = |address| Listener::bind(address, &configuration, settings.clone());
    let listener = bind(listen).await.map_err(Failure::Failed)?;
    say(&listener, "reports");
    listeners.push(tokio::spawn(listener.serve(layered(first), stopped.clone())));
    if let Some(address) = configuration.pages.listen.filter(|_| !is_one) {
        let listener = bind(address).await.map_err(Failure::Failed)?;
        say(&listener, "pages");
        listeners.push(tokio::spawn(listener.serve(pages, stopped.clone())));
    }
    let upkeep = tokio::spawn(upkeep(hangup, configuration, judge, receiver, certificate));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = stop.send(true);
    for listener in listeners {
        let _ = listener.await;
    }
    upkeep.abort();
    let _ = upkeep.await;
    Ok(())
}

fn say(listener: &Listener, what: &str) {
    if let Some(address) = listener.address() {
        log(&format!("{what} on {address}"));
    }
}

/// A panic in one request must not affect others.
fn layered(router: Router) -> Router {
    router.layer(CatchPanicLayer::new())
}

/// Reads the certificate files again when they change, and the records, trusted certificates and list of private roots
/// every minute. SIGHUP makes it read all of them at once.
async fn upkeep(
    mut hangup: Signal,
    configuration: Configuration,
    judge: Arc<Judge>,
    receiver: Arc<Receiver>,
    certificate: Option<Arc<tls::Certificate>>,
) {
    let mut count = 0;
    loop {
        let is_asked = tokio::select! {
            signal = hangup.recv() => signal.is_some(),
            () = tokio::time::sleep(LOOK) => false,
        };
        count += 1;
        if let Some(certificate) = &certificate {
            certificate.refresh(is_asked);
        }
        receiver.tidy();
        if is_asked || count % LEARN == 0 {
            let (known, configuration) = (judge.knowledge(), configuration.clone());
            let before: Vec<String> = known.problems().cloned().collect();
            let read = move || known.renewed(&configuration);
            let Ok(knowledge) = tokio::task::spawn_blocking(read).await else { continue };
            for problem in knowledge.problems().filter(|problem| !before.contains(problem)) {
                log(&format!("warning: {problem}"));
            }
            judge.learn(knowledge);
        }
    }
}
