//! Limits for unauthenticated senders.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::address::network;
use super::refused::Refused;
use crate::configuration;

/// The number of buckets for clients. It bounds the memory, and a flood from many networks still spares most others.
const CLIENTS: u64 = 1 << 17;

/// The most KiB of bodies in memory at a time.
const ROOM: usize = 64 << 10;

type Keyed<Key> = RateLimiter<Key, DashMapStateStore<Key>, DefaultClock>;

/// The limits.
#[derive(Debug)]
pub(super) struct Limits {
    /// The most bytes of a body.
    pub(super) body: usize,
    /// The most seconds for a body.
    pub(super) seconds: u64,
    clients: Keyed<u64>,
    per_client: NonZeroU32,
    /// The key of the hash that assigns clients to buckets, so that nobody outside can compute a bucket.
    secret: RandomState,
    per_host: NonZeroU32,
    hosts: Keyed<usize>,
    strangers: DefaultDirectRateLimiter,
    /// The reserved share of each host in the limit for all hosts, so that a flood for others does not starve it.
    shares: Keyed<usize>,
    common: DefaultDirectRateLimiter,
    per_common: NonZeroU32,
    room: Semaphore,
}

impl Limits {
    /// The limits as configured, for `hosts` entries of the list of hosts.
    pub(super) fn new(limits: &configuration::Limits, hosts: usize) -> Self {
        let number = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let total = limits.total_per_second;
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX).max(1);
        let (share, per_common) = (number(total / 2 / hosts), number(total - total / 2));
        let per_host = number(limits.host_per_second);
        let per_client = number(limits.client_per_minute);
        Self {
            body: usize::try_from(limits.body.0).unwrap_or(usize::MAX),
            seconds: limits.seconds,
            clients: RateLimiter::dashmap(Quota::per_minute(per_client)),
            per_client,
            secret: RandomState::new(),
            per_host,
            hosts: RateLimiter::dashmap(Quota::per_second(per_host)),
            strangers: RateLimiter::direct(Quota::per_second(per_host)),
            shares: RateLimiter::dashmap(Quota::per_second(share)),
            common: RateLimiter::direct(Quota::per_second(per_common)),
            per_common,
            room: Semaphore::new(ROOM),
        }
    }

    /// Whether a client may send `count` more requests.
    pub(super) fn client(&self, address: IpAddr, count: usize) -> bool {
        let key = self.secret.hash_one(network(address)) % CLIENTS;
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        matches!(self.clients.check_key_n(&key, count.min(self.per_client)), Ok(Ok(())))
    }

    /// Whether `count` more reports for this entry of the list are within the limits. A batch that is larger than a
    /// limit uses all of it, since it could never pass otherwise.
    pub(super) fn host(&self, place: usize, count: usize) -> Result<(), Refused> {
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        let count = count.min(self.per_host);
        if !matches!(self.hosts.check_key_n(&place, count), Ok(Ok(()))) {
            return Err(Refused::HostRate);
        }
        let has_share = matches!(self.shares.check_key_n(&place, count), Ok(Ok(())));
        let has_room = || matches!(self.common.check_n(count.min(self.per_common)), Ok(Ok(())));
        if has_share || has_room() { Ok(()) } else { Err(Refused::Total) }
    }

    /// Whether one more report for an unlisted host is within the limit. The limit is the same as for a listed host, so
    /// that a sender cannot learn from refusals which hosts are listed.
    pub(super) fn stranger(&self) -> bool {
        self.strangers.check().is_ok()
    }

    /// Waits until there is room for the next bytes of a body.
    pub(super) async fn grow<'a>(&'a self, room: &mut Option<SemaphorePermit<'a>>, bytes: usize) {
        let wanted = u32::try_from((bytes >> 10) + 1).unwrap_or(u32::MAX);
        let held = room.as_ref().map_or(0, |room| u32::try_from(room.num_permits()).unwrap_or(0));
        let Ok(more) = self.room.acquire_many(wanted.saturating_sub(held)).await else { return };
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
    }

    pub(super) fn tidy(&self) {
        self.clients.retain_recent();
        self.clients.shrink_to_fit();
    }
}
