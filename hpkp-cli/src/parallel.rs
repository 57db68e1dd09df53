//! Processes many items in several threads. An item that hangs does not delay the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The results of `work` for the items, in their order, with at most `threads` threads. `done` is called
/// with the number of finished items.
pub(crate) fn map<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
    done: impl Fn(usize) + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    let run = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return };
            let result = work(item);
            let count = {
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                results.push((at, result));
                results.len()
            };
            done(count);
        }
    };
    std::thread::scope(|scope| {
        // If no thread can be created, this one does all the work.
        for _ in 1..threads.min(items.len()) {
            let _ = std::thread::Builder::new().spawn_scoped(scope, run);
        }
        run();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..40).collect();
        let work = |item: &u64| {
            std::thread::sleep(std::time::Duration::from_millis((40 - item) % 3));
            item * 2
        };
        let most = AtomicUsize::new(0);
        let done = |count| {
            most.fetch_max(count, Ordering::Relaxed);
        };
        assert_eq!(map(&items, 8, work, done), (0..80).step_by(2).collect::<Vec<_>>());
        assert_eq!(most.into_inner(), 40);
        assert!(map(&[], 8, work, |_| {}).is_empty());
    }
}
