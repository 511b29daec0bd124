//! The wire and the model, each way (HLD §6.1, §7.1).
//!
//! From the wire everything is checked: an unknown enum number, an absurd time or a malformed id is a
//! [`FieldError`] that names its place in the words of the wire. To the wire every value of the model has
//! a place. Nothing is decided here; what a value *means* is `piccolo_core`'s business.
//!
//! - `node`: nodes, containers, conditions, registrations
//! - `check`: what the system check of a node found
//! - `recovery`: where recovery stands, and probes
//! - `session`: what agents and the master say to each other, in both directions
//! - `logs`: lines of logs, and who asks for which
//! - `alert`: alerts, their rules and channels
//! - `past`: nodes as they were
//! - `topology`, `event`, `access`: the rest of the model

mod access;
mod alert;
mod check;
mod event;
mod logs;
mod monitoring;
mod node;
mod past;
mod recovery;
mod session;
#[cfg(test)]
mod tests;
mod topology;

use std::time::Duration;

use piccolo_core::{model::FieldError, time::WallTime};
use prost_types::Timestamp;

pub use self::{
    access::{user_role, user_role_to_wire},
    alert::{alert_channel, alert_id, alert_rule, alert_silence},
    check::{check_level, check_level_to_wire},
    event::{severity, severity_to_wire},
    logs::{kept_lines, log_filter, log_places},
    monitoring::metrics_query,
    node::{
        RegistrationText, node_kind, node_kind_to_wire, node_role, node_role_to_wire, node_status,
        node_status_to_wire,
    },
    recovery::recovery_step,
    session::{AgentFrame, ConfigPoll, MasterFrame, ReportFrom},
    topology::{topology_type, topology_type_to_wire},
};

/// First and last second that a protobuf timestamp may carry: the years 1 and 9999.
const SECONDS_MIN: i64 = -62_135_596_800;
const SECONDS_MAX: i64 = 253_402_300_799;

/// A time from outside, whole milliseconds.
///
/// # Errors
/// [`FieldError`] for a time outside the years 1 to 9999, or fractions that are none.
pub fn wall_time(field: &str, wire: &Timestamp) -> Result<WallTime, FieldError> {
    if !(SECONDS_MIN..=SECONDS_MAX).contains(&wire.seconds) {
        return Err(FieldError::new(field, "is not in the years 1 to 9999"));
    }
    if !(0..1_000_000_000).contains(&wire.nanos) {
        return Err(FieldError::new(field, "has nanoseconds outside 0 to 999999999"));
    }
    Ok(WallTime(wire.seconds * 1000 + i64::from(wire.nanos / 1_000_000)))
}

/// A time that may be left out.
pub(crate) fn optional_time(
    field: &str,
    wire: Option<&Timestamp>,
) -> Result<Option<WallTime>, FieldError> {
    wire.map(|wire| wall_time(field, wire)).transpose()
}

/// A time that counts as 1970 where it is left out.
pub(crate) fn time_or_epoch(field: &str, wire: Option<&Timestamp>) -> Result<WallTime, FieldError> {
    Ok(optional_time(field, wire)?.unwrap_or_default())
}

/// To the wire; a time that the wire cannot carry becomes the nearest that it can.
#[must_use]
pub fn timestamp(time: WallTime) -> Timestamp {
    let seconds = time.0.div_euclid(1000);
    if seconds < SECONDS_MIN {
        return Timestamp { seconds: SECONDS_MIN, nanos: 0 };
    }
    if seconds > SECONDS_MAX {
        return Timestamp { seconds: SECONDS_MAX, nanos: 999_000_000 };
    }
    let ms = i32::try_from(time.0.rem_euclid(1000)).unwrap_or(0);
    Timestamp { seconds, nanos: ms * 1_000_000 }
}

/// Milliseconds for the wire; what is longer than 49 days is cut.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Whole seconds for the wire, rounded up so that "soon" is never "at once".
#[must_use]
pub fn whole_seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

pub(crate) fn unknown_number(field: &str, number: i32) -> FieldError {
    let problem = if number == 0 {
        "must be set".to_owned()
    } else {
        format!("{number} is not a value of it")
    };
    FieldError::new(field, problem)
}

/// Puts the place of a part before what is wrong in it.
pub(crate) fn within(outer: &str) -> impl Fn(FieldError) -> FieldError + '_ {
    move |error| FieldError::new(format!("{outer}.{}", error.field), error.problem)
}

/// Empty text on the wire is nothing in the model.
pub(crate) fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
