//! Real surroundings for tests. Never shipped.
//!
//! - [`kept::Kept`]: processes that a later run finds again
//! - [`podman::PrivatePodman`]: a Podman with storage, socket and namespace of its own
//! - [`cluster::Cluster`]: the real executables on loopback, perhaps in a network where cables can be cut
//! - [`testbed::Testbed`]: hosts with systemd, sshd and Podman, whose cables and power can be cut

pub mod cluster;
pub mod kept;
pub mod podman;
pub mod testbed;
