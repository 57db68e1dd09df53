//! The baseline for the collector (ci/bench-reports): an axum handler that only appends the body to a file. With `sync`
//! it also waits for the disk, as the collector does.
//!
//! `plain_store ADDRESS FILE [sync]`

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;

struct Store {
    file: Mutex<std::fs::File>,
    waits: bool,
}

impl Store {
    fn append(&self, body: &[u8]) -> std::io::Result<()> {
        let mut file = self.file.lock().map_err(|_| std::io::ErrorKind::Other)?;
        file.write_all(body)?;
        if self.waits { file.sync_data() } else { Ok(()) }
    }
}

async fn store(State(store): State<Arc<Store>>, body: Bytes) -> StatusCode {
    let appended = match store.waits {
        false => store.append(&body),
        true => tokio::task::spawn_blocking(move || store.append(&body))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error))),
    };
    match appended {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, rest @ ..] = arguments.as_slice() else {
        return Err(std::io::Error::other("usage: plain_store ADDRESS FILE [sync]"));
    };
    let file = std::fs::File::options().create(true).append(true).open(path)?;
    let waits = rest.iter().any(|one| one == "sync");
    let routes = Router::new()
        .route("/r/", post(store))
        .with_state(Arc::new(Store { file: Mutex::new(file), waits }));
    axum::serve(tokio::net::TcpListener::bind(address).await?, routes).await
}
