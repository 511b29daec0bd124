//! Text for people: ages, sizes, times, and the cleaning of what nodes say.

use std::{borrow::Cow, fmt::Write as _};

pub use piccolo_core::near::closest;
pub use piccolo_rpc::view::words::parse_duration;
use prost_types::Timestamp;

/// Where nothing is known.
pub const NOTHING: &str = "-";

/// Text from a node or the network, fit for a terminal: control characters (escape sequences among
/// them) and characters that turn the direction of writing are shown as `\u{..}`.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hostile(c) {
            cleaned.extend(c.escape_default());
        } else {
            cleaned.push(c);
        }
    }
    Cow::Owned(cleaned)
}

/// The same for a document (JSON, YAML): lines stay, and what JSON leaves as it is (`DEL` and the
/// C1 controls) is escaped the way both formats read back.
pub fn clean_document(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| is_hostile(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hostile(c) && c != '\n' {
            // All of them lie in the basic plane: one \uXXXX is enough.
            let _ = write!(cleaned, "\\u{:04x}", u32::from(c));
        } else {
            cleaned.push(c);
        }
    }
    Cow::Owned(cleaned)
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cleaned, or `-` where empty.
pub fn or_nothing(text: &str) -> String {
    if text.is_empty() { NOTHING.to_owned() } else { clean(text).into_owned() }
}

/// How long ago, in the two largest units that say enough: `45s`, `5m`, `3h12m`, `2d4h`.
/// A moment that is not past (clocks differ) is `0s`.
pub fn age(now: Timestamp, then: Option<&Timestamp>) -> String {
    then.map_or_else(|| NOTHING.to_owned(), |then| span(seconds_between(then, &now)))
}

/// How long until `then`: `29d`, or `expired`.
pub fn until(now: Timestamp, then: Option<&Timestamp>) -> String {
    let Some(then) = then else { return NOTHING.to_owned() };
    match seconds_between(&now, then) {
        0 => "expired".to_owned(),
        seconds => span(seconds),
    }
}

/// A length of time as [`age`] writes it.
pub fn span(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    let two = |large: u64, word: char, small: u64, small_word: char| match small {
        0 => format!("{large}{word}"),
        small => format!("{large}{word}{small}{small_word}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, 'm', seconds % MINUTE, 's'),
        600..7_200 => format!("{}m", seconds / MINUTE),
        7_200..36_000 => two(seconds / HOUR, 'h', seconds % HOUR / MINUTE, 'm'),
        36_000..172_800 => format!("{}h", seconds / HOUR),
        172_800..864_000 => two(seconds / DAY, 'd', seconds % DAY / HOUR, 'h'),
        864_000..63_072_000 => format!("{}d", seconds / DAY),
        _ => two(seconds / YEAR, 'y', seconds % YEAR / DAY, 'd'),
    }
}

/// Whole seconds from one moment to a later one; 0 where it is not later.
pub fn seconds_between(from: &Timestamp, to: &Timestamp) -> u64 {
    u64::try_from(to.seconds.saturating_sub(from.seconds)).unwrap_or(0)
}

/// RFC 3339 in UTC, to the second: for people.
pub fn moment(at: Option<&Timestamp>) -> String {
    at.map_or_else(
        || NOTHING.to_owned(),
        |at| Timestamp { seconds: at.seconds, nanos: 0 }.to_string(),
    )
}

/// RFC 3339 in UTC, to the millisecond: `2026-11-23T18:00:00.250Z`.
pub fn precise_moment(at: &Timestamp) -> String {
    let whole = Timestamp { seconds: at.seconds, nanos: 0 }.to_string();
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), at.nanos.max(0) / 1_000_000)
}

/// `1 rule`, `2 rules`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `512 B`, `12.3 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let word = UNITS.get(unit).copied().unwrap_or_default();
    if value < 10.0 { format!("{value:.1} {word}") } else { format!("{value:.0} {word}") }
}

/// Hundredths of a per cent.
pub fn percent(basis_points: u64) -> String {
    format!("{:.1} %", basis_points as f64 / 100.0)
}

/// Of what takes no minute: `0.31 ms`, `24 ms`, `1.20 s`.
pub fn short(seconds: f64) -> String {
    match seconds * 1000.0 {
        ms if ms >= 999.5 => format!("{seconds:.2} s"),
        ms if ms >= 9.995 => format!("{ms:.0} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_text_cannot_steer_the_terminal() {
        assert_eq!(clean("plain 보드 €"), "plain 보드 €");
        assert_eq!(clean("a\u{1b}[2Jb\r\n"), "a\\u{1b}[2Jb\\r\\n");
        assert_eq!(clean("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(clean("\u{202e}evil"), "\\u{202e}evil");
        assert_eq!(clean_document("{\n\"a\": \"\u{9b}\u{7f}\"}"), "{\n\"a\": \"\\u009b\\u007f\"}");
    }

    proptest! {
        #[test]
        fn nothing_hostile_is_left_and_nothing_harmless_is_lost(text: String) {
            let cleaned = clean(&text);
            prop_assert!(!cleaned.chars().any(is_hostile), "{cleaned:?}");
            let harmless = text.chars().filter(|c| !is_hostile(*c)).count();
            prop_assert!(cleaned.chars().count() >= harmless);
        }

        #[test]
        fn any_text_is_a_length_of_time_or_refused(text in "([0-9]{0,25}[a-z]{0,3}){0,4}|.{0,20}") {
            if let Err(problem) = parse_duration(&text) {
                prop_assert!(problem.contains("such as"), "{problem}");
            }
        }
    }

    #[test]
    fn ages_keep_what_matters() {
        for (seconds, expect) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (305, "5m5s"),
            (600, "10m"),
            (7_199, "119m"),
            (11_520, "3h12m"),
            (36_000, "10h"),
            (187_200, "2d4h"),
            (864_000, "10d"),
            (63_072_000, "2y"),
            (63_072_000 + 86_400, "2y1d"),
        ] {
            assert_eq!(span(seconds), expect, "{seconds}");
        }
    }

    #[test]
    fn a_moment_in_the_future_has_no_age_and_one_in_the_past_is_over() {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        assert_eq!(age(at(100), Some(&at(200))), "0s");
        assert_eq!(age(at(100), None), "-");
        assert_eq!(until(at(100), Some(&at(100))), "expired");
        assert_eq!(until(at(100), Some(&at(145))), "45s");
    }

    #[test]
    fn moments_are_rfc_3339() {
        let at = Timestamp { seconds: 1_795_459_800, nanos: 250_900_000 };
        assert_eq!(moment(Some(&at)), "2026-11-23T18:50:00Z");
        assert_eq!(precise_moment(&at), "2026-11-23T18:50:00.250Z");
    }

    #[test]
    fn sizes_have_two_digits_that_matter() {
        for (count, expect) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (12_900_000, "12 MiB"),
            (1_048_575, "1.0 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(count), expect);
        }
        assert_eq!(percent(1234), "12.3 %");
    }

    #[test]
    fn lengths_of_time_are_read_or_refused_with_the_reason() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "5 s", "-5s", "0s", "1w", "99999999999999999999s", "5s5", "1.5h"]
        {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("such as"), "{text}: {error}");
        }
        for (text, part) in [
            ("0s", "\"0s\" is no time at all"),
            ("10y", "\"y\" is no unit"),
            ("5", "\"5\" lacks a unit"),
            ("99999999999999999999s", "is too long"),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
