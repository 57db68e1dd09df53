//! What stands in a writer's file, read as strictly as the servers read it.

use std::fs;
use std::path::Path;

use hpkp_core::pin::Pin;
use hpkp_core::published::{Body, Event, Lifetime, Origin, Published, Scope, file};

/// The events of a file; none where there is no file. A last line that was never finished is none.
#[track_caller]
pub fn events(file: &Path) -> Vec<Event> {
    let bytes = fs::read(file).unwrap_or_default();
    match file::read(&bytes) {
        Ok(contents) => contents.events,
        Err(error) => panic!("{}: {error}\n{}", file.display(), String::from_utf8_lossy(&bytes)),
    }
}

/// Pins that clients of an app hold for one host, and that do not expire.
#[must_use]
pub fn held(host: &str, mut pins: Vec<Pin>) -> Published {
    pins.sort_unstable();
    Published::of_one(
        host.parse().expect("a name"),
        pins,
        Lifetime::Open,
        Origin::Other("release 7".into()),
    )
}

/// Writes a record of clients that hold a pin of the leaf's key for a port, as those of a TLSA record
/// 3 1 1 do. The file is that of a writer.
pub fn held_on_port(file: &Path, host: &str, port: u16, pin: &str) {
    let pin = pin.parse().expect("a pin");
    hold(file, Published { scope: Scope::Leaf, port: Some(port), ..held(host, vec![pin]) });
}

/// Writes a record of an app's clients that hold a pin for a host. The file is that of a writer.
pub fn held_by_an_app(file: &Path, host: &str, pin: &str) {
    hold(file, held(host, vec![pin.parse().expect("a pin")]));
}

/// Writes a record of these clients. The file is that of a writer.
pub fn hold(file: &Path, body: Published) {
    let writer = file.file_stem().and_then(|stem| stem.to_str()).expect("a writer's file");
    let writer = writer.parse().expect("a writer");
    let event = Event::new(1_790_000_000, 1, writer, Body::Published(body));
    fs::write(file, format!("{}\n", event.line())).expect("a file");
}

/// The kinds of the events of a file, as it names them.
#[track_caller]
pub fn kinds(file: &Path) -> Vec<&'static str> {
    events(file).iter().map(|event| kind(event.body())).collect()
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::Writer(_) => "writer",
        Body::Published(_) => "published",
        Body::Presents(_) => "presents",
        Body::Ended(_) => "ended",
        Body::Waived(_) => "waived",
        Body::Compromised(_) => "compromised",
        Body::Withheld(_) => "withheld",
        Body::Gone(_) => "gone",
        Body::Again(_) => "again",
        Body::Seen(_) => "seen",
    }
}

/// The sets of pins that a file has ever said to be published, as a header has them but sorted.
#[track_caller]
pub fn published(file: &Path) -> Vec<Vec<String>> {
    let pins = |event: &Event| match event.body() {
        Body::Published(published) => {
            let mut pins: Vec<String> = published.pins.iter().map(ToString::to_string).collect();
            pins.sort();
            Some(pins)
        }
        _ => None,
    };
    events(file).iter().filter_map(pins).collect()
}
