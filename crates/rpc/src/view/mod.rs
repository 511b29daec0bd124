//! The wire as programs read it: the documented JSON of `piccolo ... -o json` and of the REST API.
//!
//! Both are made of these, so that a script may take either. Numbers become words, times RFC 3339; what the master
//! does not say is null. Fields are added, never changed.

pub mod access;
pub mod alert;
pub mod cluster;
pub mod event;
pub mod log;
pub mod metrics;
pub mod node;
pub mod past;
pub mod recovery;
pub mod topology;
pub mod words;

use prost_types::Timestamp;

/// RFC 3339, or nothing where the master said nothing.
#[must_use]
pub fn time(at: Option<&Timestamp>) -> Option<String> {
    at.map(ToString::to_string)
}
