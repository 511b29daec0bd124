//! Everything the stores promise, checked on the real things: SQLite files and Debian's etcd.

mod contract;
mod embedded;
mod etcd;
