//! A real master on loopback, and real clients over mutual TLS.

mod harness;
mod join;
mod sessions;
