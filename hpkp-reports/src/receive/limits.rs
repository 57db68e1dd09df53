//! What strangers may use up.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::address::network;
use super::refused::Refused;
use crate::configuration;

/// Clients that are told apart. Beyond that, new ones share one quota: memory is bounded.
const MAX_CLIENTS: usize = 100_000;

/// KiB of bodies that may be in memory at a time.
const ROOM: usize = 64 << 10;

/// The limits.
#[derive(Debug)]
pub(super) struct Limits {
    /// Bytes of a body.
    pub(super) body: usize,
    /// Seconds for a body.
    pub(super) seconds: u64,
    clients: RateLimiter<IpAddr, DashMapStateStore<IpAddr>, DefaultClock>,
    others: DefaultDirectRateLimiter,
    hosts: RateLimiter<usize, DashMapStateStore<usize>, DefaultClock>,
    total: DefaultDirectRateLimiter,
    room: Semaphore,
}

impl Limits {
    pub(super) fn new(limits: &configuration::Limits) -> Self {
        let number = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let client = Quota::per_minute(number(limits.client_per_minute));
        Self {
            body: usize::try_from(limits.body.0).unwrap_or(usize::MAX),
            seconds: limits.seconds,
            clients: RateLimiter::dashmap(client),
            others: RateLimiter::direct(client),
            hosts: RateLimiter::dashmap(Quota::per_second(number(limits.host_per_second))),
            total: RateLimiter::direct(Quota::per_second(number(limits.total_per_second))),
            room: Semaphore::new(ROOM),
        }
    }

    /// Whether a client may send one more.
    pub(super) fn client(&self, address: IpAddr) -> bool {
        if self.clients.len() >= MAX_CLIENTS {
            self.clients.retain_recent();
        }
        if self.clients.len() >= MAX_CLIENTS {
            return self.others.check().is_ok();
        }
        self.clients.check_key(&network(address)).is_ok()
    }

    /// Whether there may be one more for this entry of the list.
    pub(super) fn host(&self, place: usize) -> Result<(), Refused> {
        self.hosts.check_key(&place).map_err(|_| Refused::HostRate)?;
        self.total.check().map_err(|_| Refused::Total)
    }

    /// Waits until there is room for a body.
    pub(super) async fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let wanted = u32::try_from((bytes >> 10) + 1).unwrap_or(u32::MAX);
        self.room.acquire_many(wanted).await.ok()
    }

    pub(super) fn tidy(&self) {
        self.clients.retain_recent();
        self.clients.shrink_to_fit();
    }
}
