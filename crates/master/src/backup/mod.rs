//! Backups of a master: its state, its certificate authority, its seal key and its configuration, in one sealed
//! file (HLD §10.3).
//!
//! - `create`: reads everything at one revision, beside a master that goes on
//! - `survey`: what a backup holds, and whether it could be restored
//! - `restore`: puts it in place, whole or not at all; and the same from nothing but the authority's file
//! - `schedule`: backups that the master makes by itself
//! - `records`, `sealing`, `passphrase`: the file
//! - `progress`: for whoever waits at a terminal
//!
//! What a restored master does about everything that it does not know is decided in
//! `piccolo_core::state_manager::restoration`.

pub(crate) mod commands;
mod create;
mod passphrase;
mod progress;
mod records;
mod restore;
pub(crate) mod schedule;
mod sealing;
mod survey;

pub(crate) use restore::{discard, finish};

/// The files of a state folder that are part of its state.
const AUTHORITY: &str = "ca.pem";
const SEAL_KEY: &str = "seal.key";
const ADMIN_CONTEXT: &str = "admin.context.yaml";
const STORE: &str = "store.db";
/// The settings that were in force.
const CONFIGURATION: &str = "master.yaml";
/// The name under which they are restored: another host has other addresses.
const RESTORED_CONFIGURATION: &str = "master.yaml.from-backup";

/// Sorts as time does, and can stand in a file name: `20261125T211500Z`.
fn stamp(ms: i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(ms / 1000);
    let time = time.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

/// The moment that [`stamp`] has written so.
fn parse_stamp(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u8>().ok();
    let year = text.get(0..4)?.parse().ok()?;
    let month = time::Month::try_from(number(4, 6)?).ok()?;
    let date = time::Date::from_calendar_date(year, month, number(6, 8)?).ok()?;
    let clock = time::Time::from_hms(number(9, 11)?, number(11, 13)?, number(13, 15)?).ok()?;
    let at = time::PrimitiveDateTime::new(date, clock).assume_utc().unix_timestamp() * 1000;
    (stamp(at) == text).then_some(at)
}

/// What this machine's clock shows, in milliseconds since 1970.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_sorts_as_time_does() {
        assert_eq!(stamp(0), "19700101T000000Z");
        assert_eq!(stamp(1_764_105_301_999), "20251125T211501Z");
        assert_eq!(parse_stamp("20251125T211501Z"), Some(1_764_105_301_000));
        for odd in ["", "20251125", "20251325T211501Z", "20251125T211501Zx", "2025\u{e9}125T21150Z"]
        {
            assert_eq!(parse_stamp(odd), None, "{odd}");
        }
    }
}
