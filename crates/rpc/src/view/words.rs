//! The wire's numbers as the words that people write, and back.
//!
//! A number that this version does not know is shown as a number, never dropped: a newer master may
//! have more words.

use std::time::Duration;

use crate::v1;

/// `Ready`, `NotReady`, ...
#[must_use]
pub fn status(number: i32) -> String {
    use v1::NodeStatus;
    let word = match NodeStatus::try_from(number) {
        Ok(NodeStatus::Unspecified) => "Unknown",
        Ok(NodeStatus::Pending) => "Pending",
        Ok(NodeStatus::Initializing) => "Initializing",
        Ok(NodeStatus::Ready) => "Ready",
        Ok(NodeStatus::NotReady) => "NotReady",
        Ok(NodeStatus::Maintenance) => "Maintenance",
        Ok(NodeStatus::Terminating) => "Terminating",
        Err(_) => return unknown(number),
    };
    word.to_owned()
}

/// `master` or `sub`.
#[must_use]
pub fn role(number: i32) -> String {
    use v1::NodeRole;
    let word = match NodeRole::try_from(number) {
        Ok(NodeRole::Unspecified) => "unknown",
        Ok(NodeRole::Master) => "master",
        Ok(NodeRole::Sub) => "sub",
        Err(_) => return unknown(number),
    };
    word.to_owned()
}

/// `embedded` or `cloud`.
#[must_use]
pub fn kind(number: i32) -> String {
    use v1::NodeKind;
    let word = match NodeKind::try_from(number) {
        Ok(NodeKind::Unspecified) => "unknown",
        Ok(NodeKind::Embedded) => "embedded",
        Ok(NodeKind::Cloud) => "cloud",
        Err(_) => return unknown(number),
    };
    word.to_owned()
}

/// `ok`, `warning` or `error`.
#[must_use]
pub fn check_level(number: i32) -> String {
    use v1::CheckLevel;
    let word = match CheckLevel::try_from(number) {
        Ok(CheckLevel::Unspecified) => "unknown",
        Ok(CheckLevel::Ok) => "ok",
        Ok(CheckLevel::Warning) => "warning",
        Ok(CheckLevel::Error) => "error",
        Err(_) => return unknown(number),
    };
    word.to_owned()
}

/// `info`, `warning` or `critical`.
#[must_use]
pub fn severity(number: i32) -> String {
    use v1::Severity;
    let word = match Severity::try_from(number) {
        Ok(Severity::Unspecified) => "unknown",
        Ok(Severity::Info) => "info",
        Ok(Severity::Warning) => "warning",
        Ok(Severity::Critical) => "critical",
        Err(_) => return unknown(number),
    };
    word.to_owned()
}

/// Of syslog: `emerg` to `debug`.
#[must_use]
pub fn log_level(number: u32) -> String {
    let names = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// `viewer`, `operator` or `admin`.
#[must_use]
pub fn user_role(number: i32) -> String {
    use v1::UserRole;
    let word = match UserRole::try_from(number) {
        Ok(UserRole::Unspecified) => "unknown",
        Ok(UserRole::Viewer) => "viewer",
        Ok(UserRole::Operator) => "operator",
        Ok(UserRole::Admin) => "admin",
        Err(_) => return unknown(number),
    };
    word.to_owned()
}

const TOPOLOGIES: [(v1::TopologyType, &str); 4] = [
    (v1::TopologyType::BasicEmbedded, "BasicEmbedded"),
    (v1::TopologyType::EdgeCloudHybrid, "EdgeCloudHybrid"),
    (v1::TopologyType::MultiEmbedded, "MultiEmbedded"),
    (v1::TopologyType::GeoDistributed, "GeoDistributed"),
];

/// `BasicEmbedded`, ... (HLD §5.2.2).
#[must_use]
pub fn topology(number: i32) -> String {
    TOPOLOGIES
        .iter()
        .find(|(kind, _)| *kind as i32 == number)
        .map_or_else(|| unknown(number), |(_, word)| (*word).to_owned())
}

/// The reverse of [`topology`]; neither case nor `-` and `_` matter.
///
/// # Errors
/// A sentence with the words that there are.
pub fn parse_topology(word: &str) -> Result<v1::TopologyType, String> {
    let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
    TOPOLOGIES
        .iter()
        .find(|(_, known)| plain(known) == plain(word))
        .map(|(kind, _)| *kind)
        .ok_or_else(|| {
            let known: Vec<_> = TOPOLOGIES.iter().map(|(_, word)| *word).collect();
            format!("{word:?} is not a topology type ({})", known.join(", "))
        })
}

fn unknown(number: i32) -> String {
    format!("unknown({number})")
}

/// `30s`, `5m`, `2h`, `7d`, `500ms`, `1h30m`: what people write after `--timeout` or `--ttl`.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const SUCH_AS: &str = "such as 500ms, 30s, 5m, 2h, 7d or 1h30m";
    let expected = || format!("{text:?} is not a length of time {SUCH_AS}");
    let too_long = || format!("{text:?} is too long; write one {SUCH_AS}");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err(expected());
        }
        let number: u64 = number.parse().map_err(|_| too_long())?;
        let millis_each: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err(format!("{text:?} lacks a unit; write one {SUCH_AS}")),
            unit => {
                return Err(format!(
                    "{unit:?} is no unit (ms, s, m, h and d are); write a length of time {SUCH_AS}"
                ));
            }
        };
        let millis = number.checked_mul(millis_each).ok_or_else(too_long)?;
        total = total.checked_add(Duration::from_millis(millis)).ok_or_else(too_long)?;
        rest = tail;
    }
    match (text.is_empty(), total.is_zero()) {
        (true, _) => Err(expected()),
        (false, true) => Err(format!("{text:?} is no time at all; write one {SUCH_AS}")),
        (false, false) => Ok(total),
    }
}

/// At least one: 0 would mean the default.
#[must_use]
pub fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs().max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_model() {
        for status in piccolo_core::model::NodeStatus::ALL {
            let name = format!("NODE_STATUS_{}", screaming(&status.to_string()));
            let wire = v1::NodeStatus::from_str_name(&name).unwrap();
            assert_eq!(super::status(wire as i32), status.to_string());
        }
    }

    #[test]
    fn numbers_of_a_newer_master_are_shown() {
        assert_eq!(status(42), "unknown(42)");
        assert_eq!(topology(-1), "unknown(-1)");
    }

    #[test]
    fn topology_types_are_read_however_they_are_spelled() {
        for word in ["BasicEmbedded", "basic-embedded", "BASIC_EMBEDDED"] {
            assert_eq!(parse_topology(word), Ok(v1::TopologyType::BasicEmbedded));
        }
        assert!(parse_topology("ring").unwrap_err().contains("GeoDistributed"));
    }

    fn screaming(word: &str) -> String {
        let mut text = String::new();
        for (index, c) in word.chars().enumerate() {
            if c.is_uppercase() && index > 0 {
                text.push('_');
            }
            text.push(c.to_ascii_uppercase());
        }
        text
    }
}
