//! A real master on loopback, and real clients over mutual TLS.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks for one message among many")]

mod alerts;
mod backups;
mod bad_input;
mod harness;
mod https;
mod join;
mod kept_logs;
mod lists;
mod load;
mod logs;
mod monitoring;
mod noise;
mod otlp;
mod people;
mod program;
mod rest;
mod sessions;
mod signing_in;
mod stores;
mod trust;
mod unary;
mod unreadable;
mod watches;
