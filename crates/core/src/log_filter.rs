//! What a person writes to say how much is logged, in words that cannot be misread.
//!
//! The parser of the logging library takes a word that it does not know for the name of a module, logs that module
//! alone, and says nothing: `blah`, or `piccolo_mastr=debug`, would end all logging. And a bare `debug` would drown
//! what PICCOLO says in the frames of its HTTP/2 library. So a bare word must be a level; it is that of PICCOLO's
//! own modules, and libraries never say more than `info` unless they are named.

/// From nothing to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Where nobody says otherwise, and what libraries say at most.
const INFO: usize = 3;
/// Every module of ours has a name that begins so.
const OURS: &str = "piccolo";
/// Bytes of a filter at most.
pub const FILTER_BYTES_MAX: usize = 256;

/// The filter for the library: libraries' level, our modules' level, then what was named.
///
/// # Errors
/// A sentence that says what is wrong and what was expected.
pub fn explicit(filter: &str) -> Result<String, String> {
    if filter.len() > FILTER_BYTES_MAX {
        return Err(format!("a log filter has {FILTER_BYTES_MAX} bytes at most"));
    }
    let mut ours = None;
    let mut named = String::new();
    for part in filter.split(',').map(str::trim) {
        let is_level = |text: &str| LEVELS.iter().position(|l| l.eq_ignore_ascii_case(text));
        match part.split_once('=') {
            None if ours.is_some() && is_level(part).is_some() => {
                return Err(wrong(filter, "it has two levels without a module"));
            }
            None => match is_level(part) {
                Some(level) => ours = Some(level),
                None => return Err(wrong(filter, &format!("{part:?} is no level"))),
            },
            Some((module, level)) => {
                if module.is_empty() || is_level(level).is_none() {
                    return Err(wrong(filter, &format!("{part:?} is not MODULE=LEVEL")));
                }
                named.push_str(&format!(",{module}={level}"));
            }
        }
    }
    let ours = ours.unwrap_or(INFO);
    let [libraries, ours] = [ours.min(INFO), ours].map(|level| LEVELS[level]);
    Ok(format!("{libraries},{OURS}={ours}{named}"))
}

fn wrong(filter: &str, why: &str) -> String {
    format!(
        "{filter:?} is not a log filter: {why}; expected a level ({}), or a list such as \
         info,piccolo_master=debug",
        LEVELS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_of_our_modules_and_libraries_stay_quiet() {
        for (filter, expected) in [
            ("debug", "info,piccolo=debug"),
            ("TRACE", "info,piccolo=trace"),
            ("warn", "warn,piccolo=warn"),
            ("off", "off,piccolo=off"),
            ("debug,h2=debug", "info,piccolo=debug,h2=debug"),
            ("piccolo_master=debug", "info,piccolo=info,piccolo_master=debug"),
            ("info, piccolo_rpc::tls=trace", "info,piccolo=info,piccolo_rpc::tls=trace"),
        ] {
            assert_eq!(explicit(filter).as_deref(), Ok(expected), "{filter}");
        }
    }

    #[test]
    fn a_typo_is_refused_instead_of_ending_all_logging() {
        for bad in ["", "blah", "debgu", "info,", "info,blah", "5", "h2=loud", "=debug", "a=b=c"] {
            let why = explicit(bad).unwrap_err();
            assert!(
                why.contains("expected a level (off, error, warn, info, debug, trace)"),
                "{why}"
            );
        }
        assert!(explicit("info,debug").unwrap_err().contains("two levels"));
        assert!(explicit(&"x".repeat(FILTER_BYTES_MAX + 1)).unwrap_err().contains("256 bytes"));
    }
}
