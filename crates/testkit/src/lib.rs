//! Real surroundings for tests. Never shipped.
//!
//! - [`podman::PrivatePodman`]: a Podman with storage, socket and namespace of its own

pub mod podman;
