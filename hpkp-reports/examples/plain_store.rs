//! What the collector is compared with (ci/bench-reports): an axum handler that only appends the body to a file.
//!
//! `plain_store ADDRESS FILE`

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;

type Shared = Arc<Mutex<std::fs::File>>;

async fn store(State(file): State<Shared>, body: Bytes) -> StatusCode {
    let written = file.lock().map(|mut file| file.write_all(&body));
    match written {
        Ok(Ok(())) => StatusCode::NO_CONTENT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path] = arguments.as_slice() else {
        return Err(std::io::Error::other("usage: plain_store ADDRESS FILE"));
    };
    let file = std::fs::File::options().create(true).append(true).open(path)?;
    let routes = Router::new().route("/r/", post(store)).with_state(Arc::new(Mutex::new(file)));
    axum::serve(tokio::net::TcpListener::bind(address).await?, routes).await
}
