//! What strangers may cost the master: bounds on connections, per address and in all.
//!
//! A connection is a stranger's until its handshake is done, and even then it may be one without a
//! certificate. So the bounds count addresses, not identities. An IPv6 address counts by its /64,
//! which is what one machine commonly owns.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Bounds for one listening port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the accepted connection to the end of the handshake.
    pub handshake_deadline: Duration,
    /// Handshakes under way at once, all addresses together.
    pub handshakes_max: usize,
    /// When all places are taken, a handshake that has taken this long loses its place. An honest
    /// one is done in milliseconds.
    pub handshake_evictable_after: Duration,
    /// From the end of the handshake to the first byte of the application.
    pub first_byte_deadline: Duration,
    /// Of a connection without a certificate, from its first byte to its end. Whoever joins or asks for
    /// health is done in seconds; whoever stays would keep a place that a board needs.
    pub stranger_deadline: Duration,
    /// Connections open at once, all addresses together.
    pub connections_max: usize,
    /// Connections open at once from one address.
    pub connections_per_address_max: usize,
    /// New connections per second from one address, in the long run.
    pub connections_per_address_per_second: u32,
    /// New connections from one address in one moment, after a pause.
    pub connections_per_address_burst: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            handshake_deadline: Duration::from_secs(5),
            handshakes_max: 256,
            handshake_evictable_after: Duration::from_secs(1),
            first_byte_deadline: Duration::from_secs(10),
            stranger_deadline: Duration::from_secs(60),
            connections_max: 8_192,
            connections_per_address_max: 512,
            connections_per_address_per_second: 100,
            connections_per_address_burst: 200,
        }
    }
}

/// A budget per address: `burst` at once, `per_second` in the long run. Also for anything else that
/// strangers may try only so often, such as join tokens.
#[derive(Debug)]
pub struct AddressRate {
    per_second: f64,
    burst: f64,
    addresses: BTreeMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// Addresses remembered at once. When all are busy a new one is refused: memory stays bounded
/// whoever floods.
pub const ADDRESSES_MAX: usize = 4_096;

impl AddressRate {
    /// `per_second` may be a fraction; at least one in `burst`.
    #[must_use]
    pub fn new(per_second: f64, burst: u32) -> AddressRate {
        AddressRate {
            per_second: per_second.max(0.0),
            burst: f64::from(burst.max(1)),
            addresses: BTreeMap::new(),
        }
    }

    /// Takes one from the address's budget; false if it is used up.
    pub fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let address = owner_of(address);
        if !self.addresses.contains_key(&address) && self.addresses.len() >= ADDRESSES_MAX {
            self.forget_rested(now);
            if self.addresses.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let (per_second, burst) = (self.per_second, self.burst);
        let bucket = self.addresses.entry(address).or_insert(Bucket { left: burst, at: now });
        bucket.left = refilled(bucket, now, per_second).min(burst);
        bucket.at = bucket.at.max(now);
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }

    /// An address whose budget is full again is as good as one never seen.
    fn forget_rested(&mut self, now: Instant) {
        let (per_second, burst) = (self.per_second, self.burst);
        self.addresses.retain(|_, bucket| refilled(bucket, now, per_second) < burst);
    }
}

fn refilled(bucket: &Bucket, now: Instant, per_second: f64) -> f64 {
    bucket.left + now.saturating_duration_since(bucket.at).as_secs_f64() * per_second
}

/// Open connections by address.
#[derive(Debug, Default)]
pub(super) struct OpenConnections {
    by_address: BTreeMap<IpAddr, usize>,
    total: usize,
}

impl OpenConnections {
    /// Counts one more, unless a bound is reached.
    pub(super) fn open(&mut self, address: IpAddr, limits: &Limits) -> Result<(), Refusal> {
        if self.total >= limits.connections_max {
            return Err(Refusal::Total);
        }
        let open = self.by_address.entry(owner_of(address)).or_insert(0);
        if *open >= limits.connections_per_address_max {
            return Err(Refusal::Address);
        }
        *open += 1;
        self.total += 1;
        Ok(())
    }

    pub(super) fn close(&mut self, address: IpAddr) {
        let address = owner_of(address);
        if let Some(open) = self.by_address.get_mut(&address) {
            self.total = self.total.saturating_sub(1);
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }
}

/// Why a connection was closed before its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("too many connections")]
    Total,
    #[error("too many connections from this address")]
    Address,
    #[error("too many new connections from this address")]
    Rate,
}

fn owner_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn host(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    fn taken(rate: &mut AddressRate, address: IpAddr, now: Instant, tries: usize) -> usize {
        (0..tries).filter(|_| rate.take(address, now)).count()
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let start = Instant::now();
        let mut rate = AddressRate::new(2.0, 5);
        assert_eq!(taken(&mut rate, host(1), start, 20), 5);
        assert_eq!(taken(&mut rate, host(1), start + Duration::from_secs(1), 20), 2);
        assert_eq!(taken(&mut rate, host(1), start + Duration::from_secs(3_600), 20), 5);
    }

    #[test]
    fn one_address_does_not_use_up_anothers_budget() {
        let now = Instant::now();
        let mut rate = AddressRate::new(1.0, 1);
        assert_eq!(taken(&mut rate, host(1), now, 3), 1);
        assert_eq!(taken(&mut rate, host(2), now, 3), 1);
    }

    #[test]
    fn one_ipv6_network_is_one_address_and_mapped_ipv4_is_ipv4() {
        let now = Instant::now();
        let mut rate = AddressRate::new(1.0, 1);
        assert!(rate.take("2001:db8::1".parse().unwrap(), now));
        assert!(!rate.take("2001:db8::2".parse().unwrap(), now));
        assert!(rate.take("2001:db8:0:1::1".parse().unwrap(), now));
        assert!(rate.take("192.0.2.1".parse().unwrap(), now));
        assert!(!rate.take("::ffff:192.0.2.1".parse().unwrap(), now));
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_forgotten_when_rested() {
        let start = Instant::now();
        let mut rate = AddressRate::new(1.0, 2);
        let flood = u32::try_from(ADDRESSES_MAX).unwrap();
        assert!((0..flood).all(|number| rate.take(host(number), start)));
        assert!(!rate.take(host(flood), start));
        assert!(rate.take(host(flood), start + Duration::from_secs(1)));
        assert_eq!(rate.addresses.len(), 1);
    }

    #[test]
    fn connections_are_bounded_per_address_and_in_all() {
        let limits =
            Limits { connections_max: 3, connections_per_address_max: 2, ..Limits::default() };
        let mut open = OpenConnections::default();
        assert_eq!(open.open(host(1), &limits), Ok(()));
        assert_eq!(open.open(host(1), &limits), Ok(()));
        assert_eq!(open.open(host(1), &limits), Err(Refusal::Address));
        assert_eq!(open.open(host(2), &limits), Ok(()));
        assert_eq!(open.open(host(3), &limits), Err(Refusal::Total));
        open.close(host(1));
        assert_eq!(open.open(host(3), &limits), Ok(()));
        open.close(host(1));
        open.close(host(2));
        open.close(host(3));
        assert!(open.by_address.is_empty());
        assert_eq!(open.total(), 0);
    }
}
