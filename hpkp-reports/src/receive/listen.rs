//! Accepts connections, with limits on their number in total and per client, and on their duration.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use axum::middleware::{Next, from_fn};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::address::{Peer, network};
use crate::configuration::Configuration;
use crate::output;
use crate::proxies::Proxies;

/// The most simultaneous requests on one HTTP/2 connection.
const STREAMS: u32 = 16;

/// How long running requests may take after the signal to stop.
const PARTING: Duration = Duration::from_secs(10);

/// How long a request may take in addition to the limit for its sender: the store may wait for the database, and a
/// reader for a page.
const LONGEST: Duration = Duration::from_secs(120);

/// The number of open connections of each network.
type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A listener.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    all: Arc<Semaphore>,
    open: Open,
    each: usize,
    proxies: Proxies,
    time: Duration,
}

impl Listener {
    /// Listens at `address`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(
        address: SocketAddr,
        configuration: &Configuration,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self, String> {
        let socket = TcpListener::bind(address)
            .await
            .map_err(|error| format!("cannot listen on {address}: {}", output::os(&error)))?;
        let limits = &configuration.limits;
        Ok(Self {
            socket,
            tls,
            all: Arc::new(Semaphore::new(limits.connections)),
            open: Open::default(),
            each: limits.client_connections,
            proxies: configuration.trusted_proxies.clone(),
            time: Duration::from_secs(limits.seconds),
        })
    }

    /// The address of the listener.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// Serves until `stop` becomes true, then waits for running requests.
    pub async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let router = give_way(router, Arc::clone(&self.all));
        loop {
            if self.all.available_permits() == 0 {
                output::log_seldom("connections", || "all connections are in use".to_owned());
            }
            let permit = tokio::select! {
                permit = Arc::clone(&self.all).acquire_owned() => permit,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let Ok(permit) = permit else { break };
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // For instance too many open files, so a later attempt may succeed.
                    output::log_seldom("accept", || format!("accept: {}", output::os(&error)));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let peer = peer.ip().to_canonical();
            let Some(place) = self.place(peer, permit) else { continue };
            self.connection(stream, peer, place, router.clone(), &graceful);
        }
        drop(self.socket);
        let _ = tokio::time::timeout(PARTING, graceful.shutdown()).await;
    }

    /// Reserves a place for one more connection of a client; none if the client has reached its limit.
    fn place(&self, peer: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        let key = network(peer);
        let mut open = self.open.lock().ok()?;
        let count = open.entry(key).or_default();
        if *count >= self.each && !self.proxies.contain(peer) {
            output::log_seldom("client", || "a client has too many connections".to_owned());
            return None;
        }
        *count += 1;
        Some(Place { key, open: Arc::clone(&self.open), _permit: permit })
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        place: Place,
        router: Router,
        graceful: &GracefulShutdown,
    ) {
        let _ = stream.set_nodelay(true);
        let watcher = graceful.watcher();
        let (tls, time) = (self.tls.clone(), self.time);
        tokio::spawn(async move {
            let _place = place;
            match tls {
                None => exchange(stream, peer, router, time, watcher).await,
                Some(settings) => {
                    let handshake = TlsAcceptor::from(settings).accept(stream);
                    if let Ok(Ok(stream)) = tokio::time::timeout(time, handshake).await {
                        exchange(stream, peer, router, time, watcher).await;
                    }
                }
            }
        });
    }
}

/// While all connections are in use, closes each connection after an answer, so that clients with busy connections do
/// not lock out others.
fn give_way(router: Router, all: Arc<Semaphore>) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let is_full = request.version() <= Version::HTTP_11 && all.available_permits() == 0;
        async move {
            let mut response = next.run(request).await;
            if is_full {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
    router: Router,
    time: Duration,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let activity = Activity::new();
    let of_requests = activity.clone();
    let service =
        hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            let running = of_requests.begin();
            let answer = router.clone().oneshot(request);
            async move {
                // The request counts as running until its answer is written.
                let answer = answer.await?;
                Ok::<_, Infallible>(answer.map(|body| {
                    body.map_frame(move |frame| {
                        let _ = &running;
                        frame
                    })
                }))
            }
        });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(time).max_buf_size(32 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(time))
        .keep_alive_timeout(time)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(32 << 10);
    let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // Errors of a connection are not logged: the client causes them.
        _ = connection => {}
        () = activity.end(time) => {}
    }
}

/// The running requests of a connection. An idle connection is closed, since its place is needed for others.
#[derive(Clone)]
struct Activity(Arc<Mutex<(usize, Instant)>>);

impl Activity {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((0, Instant::now()))))
    }

    fn begin(&self) -> Running {
        self.change(|running| running + 1);
        Running(self.clone())
    }

    fn change(&self, count: impl FnOnce(usize) -> usize) {
        if let Ok(mut state) = self.0.lock() {
            *state = (count(state.0), Instant::now());
        }
    }

    /// Returns when the connection was idle for `time`, or when no running request has ended for much longer.
    async fn end(&self, time: Duration) {
        loop {
            let Ok((running, since)) = self.0.lock().map(|state| *state) else { return };
            let limit = if running == 0 { time } else { time + LONGEST };
            let rest = limit.saturating_sub(since.elapsed());
            if rest.is_zero() {
                return;
            }
            // Requests that begin or end meanwhile move the deadline.
            tokio::time::sleep(rest).await;
        }
    }
}

/// A running request.
struct Running(Activity);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.change(|running| running.saturating_sub(1));
    }
}

/// The place of a connection, released when the connection ends.
struct Place {
    key: IpAddr,
    open: Open,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Ok(mut open) = self.open.lock() else { return };
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}
