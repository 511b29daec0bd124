//! Who may join: what a registration says, and how often an address may try.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Code, Refusal};
use crate::{
    model::{
        FieldError, Labels, NodeId, NodeKind, NodeName, NodeRole, Resources, SystemInfo,
        check_address, check_labels,
    },
    time::Timestamp,
};

/// Failed attempts of one address per minute at most.
const FAILURES_PER_MINUTE_MAX: u32 = 20;
/// Addresses that are remembered at most; the oldest is forgotten first.
const ADDRESSES_MAX: usize = 1024;
const MINUTE_US: u64 = 60_000_000;

/// A registration whose every field was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub node: NodeId,
    pub name: NodeName,
    pub ip: String,
    pub role: NodeRole,
    pub kind: NodeKind,
    pub resources: Resources,
    pub labels: Labels,
    pub system: SystemInfo,
    /// SHA-256 of the token's secret, where one was given.
    pub token_hash: Option<String>,
    /// SHA-256 of the public key to be certified, hexadecimal.
    pub key_fingerprint: String,
}

impl Registration {
    /// Checks what the types do not.
    pub fn check(&self) -> Result<(), FieldError> {
        check_address("ip_address", &self.ip)?;
        check_labels("labels", &self.labels)?;
        self.resources.check("resources")?;
        self.system.check()
    }
}

/// Slows down whoever guesses tokens.
#[derive(Debug, Clone, Default)]
pub struct JoinLimiter {
    failures: BTreeMap<String, (Timestamp, u32)>,
}

impl JoinLimiter {
    pub fn check(&self, address: &str, now: Timestamp) -> Result<(), Refusal> {
        match self.failures.get(&owner_of(address)) {
            Some((since, count))
                if *count >= FAILURES_PER_MINUTE_MAX && now.0 - since.0 < MINUTE_US =>
            {
                Err(Refusal::new(
                    Code::ResourceExhausted,
                    "TooManyAttempts",
                    format!("too many failed attempts to join from {address}"),
                )
                .help("wait a minute; check the token"))
            }
            _ => Ok(()),
        }
    }

    pub fn failed(&mut self, address: &str, now: Timestamp) {
        let entry = self.failures.entry(owner_of(address)).or_insert((now, 0));
        if now.0 - entry.0.0 >= MINUTE_US {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        if self.failures.len() > ADDRESSES_MAX {
            let oldest = self.failures.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(address) = oldest.map(|(address, _)| address.clone()) {
                self.failures.remove(&address);
            }
        }
    }
}

/// An IPv6 address counts by its /64, which is what one machine commonly owns; an IPv4 address for itself, also on a
/// socket of both families.
pub(crate) fn owner_of(address: &str) -> String {
    match address.parse().map(|address: IpAddr| address.to_canonical()) {
        Ok(IpAddr::V6(v6)) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Ok(IpAddr::V4(v4)) => v4.to_string(),
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_many_addresses_tries_as_often_as_who_has_one() {
        assert_eq!(owner_of("2001:db8:1:2:3:4:5:6"), owner_of("2001:db8:1:2:ffff::1"));
        assert_ne!(owner_of("2001:db8:1:2::1"), owner_of("2001:db8:1:3::1"));
        assert_ne!(owner_of("::ffff:10.0.0.1"), owner_of("::ffff:10.0.0.2"), "a neighbour");
        assert_eq!(owner_of("::ffff:10.0.0.1"), owner_of("10.0.0.1"));
        let mut limiter = JoinLimiter::default();
        for n in 0..FAILURES_PER_MINUTE_MAX {
            limiter.failed(&format!("2001:db8:1:2::{n:x}"), Timestamp(0));
        }
        assert!(limiter.check("2001:db8:1:2::ffff", Timestamp(1)).is_err());
        assert!(limiter.check("2001:db8:1:3::1", Timestamp(1)).is_ok());
    }

    #[test]
    fn the_twenty_first_failure_in_a_minute_is_refused_unseen() {
        let mut limiter = JoinLimiter::default();
        let at = |s: u64| Timestamp::from_millis(s * 1000);
        for _ in 0..FAILURES_PER_MINUTE_MAX {
            assert!(limiter.check("10.0.0.9", at(1)).is_ok());
            limiter.failed("10.0.0.9", at(1));
        }
        assert!(limiter.check("10.0.0.9", at(2)).is_err());
        assert!(limiter.check("10.0.0.8", at(2)).is_ok(), "another address is not slowed");
        assert!(limiter.check("10.0.0.9", at(62)).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let mut limiter = JoinLimiter::default();
        for i in 0..5000u64 {
            limiter.failed(&format!("10.0.{}.{}", i / 256, i % 256), Timestamp(i));
        }
        assert_eq!(limiter.failures.len(), ADDRESSES_MAX);
    }
}
