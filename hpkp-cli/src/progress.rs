//! Displays the progress of work that takes longer than a second, on a terminal only.

use std::io::{self, IsTerminal as _};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Work that is done within this time displays no progress.
const DELAY: Duration = Duration::from_secs(1);

/// Displays progress after the first second, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bar: Arc<OnceLock<ProgressBar>>,
    stop: Option<mpsc::Sender<()>>,
    timer: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts the delay. Nothing is displayed if standard error is not a terminal.
    pub(crate) fn start(what: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self::default();
        }
        let bar = Arc::new(OnceLock::new());
        let (stop, stopped) = mpsc::channel::<()>();
        let (shared, what) = (Arc::clone(&bar), what.to_owned());
        let timer = std::thread::Builder::new().spawn(move || {
            if stopped.recv_timeout(DELAY) == Err(mpsc::RecvTimeoutError::Timeout) {
                let bar = shared.get_or_init(|| spinner(what));
                bar.enable_steady_tick(Duration::from_millis(200));
            }
        });
        Self { bar, stop: Some(stop), timer: timer.ok() }
    }

    /// Updates the message.
    pub(crate) fn set(&self, message: impl FnOnce() -> String) {
        if let Some(bar) = self.bar.get() {
            bar.set_message(message());
        }
    }

    /// Prints other text without disturbing the progress display.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match self.bar.get() {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

fn spinner(what: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what);
    match ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(timer) = self.timer.take() {
            let _ = timer.join();
        }
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
