//! Everything the stores promise, checked on the real things: SQLite files and Debian's etcd.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod embedded;
mod etcd;
mod migration;
mod model;
mod sealed;
