//! Identifiers and free text that come from outside: checked once, here, with the field named.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de::Visitor};

/// Bytes of a node id at most.
const NODE_ID_BYTES_MAX: usize = 64;
/// Bytes of a DNS name at most, and of one of its labels.
const NAME_BYTES_MAX: usize = 253;
const NAME_LABEL_BYTES_MAX: usize = 63;
/// Entries of a label map at most, and bytes of a key and of a value.
const LABELS_MAX: usize = 64;
const LABEL_KEY_BYTES_MAX: usize = 63;
const LABEL_VALUE_BYTES_MAX: usize = 255;

/// What is wrong with a value from outside, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The place, in the words of the wire, e.g. `node_id` or `labels[site]`.
    pub field: String,
    pub problem: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

// Every message names its node and its session again and again: they are shared, not copied.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(SharedText).map(Self)
            }
        }
    };
}

/// From where it stands into what is shared, without a `String` in between.
struct SharedText;

impl Visitor<'_> for SharedText {
    type Value = Arc<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.into())
    }
}

text_id!(
    /// The identity of a node: bound to its certificate, never reused, never a host name.
    NodeId
);
text_id!(
    /// The name of a node: a host name by the rules of DNS. Unique, regardless of case.
    NodeName
);
text_id!(
    /// One live connection of an agent, named by the master.
    SessionId
);
text_id!(
    /// A person or a program with a certificate of its own.
    UserName
);

impl NodeId {
    /// Letters, digits, `-`, `_` and `.`; begins with a letter or digit; 1 to 64 bytes.
    pub fn parse(field: &str, text: &str) -> Result<Self, FieldError> {
        check_word(field, text, NODE_ID_BYTES_MAX).map(Self)
    }
}

impl UserName {
    /// By the same rules as a node id.
    pub fn parse(field: &str, text: &str) -> Result<Self, FieldError> {
        check_word(field, text, NODE_ID_BYTES_MAX).map(Self)
    }
}

impl SessionId {
    /// Named by a shell from random bits, or by the simulator from its seed.
    pub fn new(text: impl Into<String>) -> Self {
        let text: String = text.into();
        Self(text.into())
    }
}

impl NodeName {
    /// Labels of 1 to 63 letters, digits and inner `-`, joined by `.`; 253 bytes at most.
    pub fn parse(field: &str, text: &str) -> Result<Self, FieldError> {
        let fail = |problem: &str| Err(FieldError::new(field, problem));
        if text.is_empty() {
            return fail("must not be empty");
        }
        if text.len() > NAME_BYTES_MAX {
            return fail("is longer than the 253 bytes of a host name");
        }
        for label in text.split('.') {
            if label.is_empty() || label.len() > NAME_LABEL_BYTES_MAX {
                return fail("each part between dots must have 1 to 63 characters");
            }
            if label.starts_with('-') || label.ends_with('-') {
                return fail("a part between dots must not begin or end with '-'");
            }
            if let Some(bad) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
                return fail(&format!(
                    "{bad:?} is not allowed in a host name (letters, digits, '-' and '.')"
                ));
            }
        }
        Ok(Self(text.into()))
    }

    /// What two names are compared by.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// Labels of a node: `site=seoul`.
pub type Labels = BTreeMap<String, String>;

pub fn check_labels(field: &str, labels: &Labels) -> Result<(), FieldError> {
    if labels.len() > LABELS_MAX {
        return Err(FieldError::new(
            field,
            format!("has {} entries, more than {LABELS_MAX}", labels.len()),
        ));
    }
    for (key, value) in labels {
        let place = format!("{field}[{}]", printable(key));
        check_label_key(&place, key)?;
        check_text(place, value, LABEL_VALUE_BYTES_MAX)?;
    }
    Ok(())
}

pub fn check_label_key(field: &str, key: &str) -> Result<(), FieldError> {
    let word = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if key.is_empty() || key.len() > LABEL_KEY_BYTES_MAX || !key.chars().all(word) {
        return Err(FieldError::new(
            field,
            "a key has 1 to 63 letters, digits, '-', '_', '.' or '/'",
        ));
    }
    Ok(())
}

/// Free text: bounded, and without control characters, so that it can be printed anywhere. Where it stands is put into
/// words only if something is wrong.
pub fn check_text(
    field: impl fmt::Display,
    text: &str,
    bytes_max: usize,
) -> Result<(), FieldError> {
    let wrong = |problem: String| Err(FieldError::new(field.to_string(), problem));
    if text.len() > bytes_max {
        return wrong(format!("has {} bytes, more than {bytes_max}", text.len()));
    }
    if has_controls(text) {
        return wrong("contains control characters".to_owned());
    }
    Ok(())
}

/// Whether some of it cannot be printed.
pub(crate) fn has_controls(text: &str) -> bool {
    // in UTF-8 only these bytes can begin a control character; without a branch, many of them are looked at at once
    let may_begin = |byte: u8| (byte < b' ') | (byte == 0x7f) | (byte == 0xc2);
    text.bytes().fold(false, |some, byte| some | may_begin(byte))
        && text.chars().any(char::is_control)
}

/// An IP address as text.
pub fn check_address(field: &str, text: &str) -> Result<IpAddr, FieldError> {
    text.parse()
        .map_err(|_| FieldError::new(field, format!("{:?} is not an IP address", printable(text))))
}

fn check_word(field: &str, text: &str, bytes_max: usize) -> Result<Arc<str>, FieldError> {
    let fail = |problem: String| Err(FieldError::new(field, problem));
    if text.is_empty() {
        return fail("must not be empty".to_owned());
    }
    if text.len() > bytes_max {
        return fail(format!("has {} bytes, more than {bytes_max}", text.len()));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return fail("must begin with a letter or a digit".to_owned());
    }
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
        Some(bad) => fail(format!("{bad:?} is not allowed (letters, digits, '-', '_', '.')")),
        None => Ok(text.into()),
    }
}

/// The beginning of a hostile text, fit for an error message.
fn printable(text: &str) -> String {
    text.chars().take(40).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_name(text: &str, expect: Result<(), &str>) {
        let got = NodeName::parse("hostname", text).map(|_| ()).map_err(|e| e.to_string());
        match (got, expect) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(part)) => assert!(got.contains(part), "{got:?} lacks {part:?}"),
            (got, expect) => panic!("{text:?}: got {got:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn names_follow_the_rules_of_dns() {
        for good in ["HPC", "ZONE", "cloud", "aws-ec2", "qm.host", "a", &"a".repeat(63)] {
            check_name(good, Ok(()));
        }
        check_name("", Err("hostname: must not be empty"));
        check_name("-a", Err("begin or end with '-'"));
        check_name("a-", Err("begin or end with '-'"));
        check_name("a..b", Err("1 to 63"));
        check_name(&"a".repeat(64), Err("1 to 63"));
        check_name("a_b", Err("'_' is not allowed"));
        check_name("a b", Err("' ' is not allowed"));
        check_name("보드", Err("is not allowed"));
        check_name(&"a.".repeat(127), Err("253"));
    }

    #[test]
    fn ids_are_words() {
        for bad in ["", "../../etc", "a/b", "-a", ".a", "a b", "a\n", &"x".repeat(65)] {
            assert!(NodeId::parse("node_id", bad).is_err(), "{bad:?}");
        }
        assert!(NodeId::parse("node_id", "6f1c2d3e-0000-4000-8000-001122334455").is_ok());
    }

    #[test]
    fn labels_name_the_bad_place() {
        let one = |k: &str, v: &str| Labels::from([(k.to_owned(), v.to_owned())]);
        assert!(check_labels("labels", &one("site", "seoul")).is_ok());
        assert!(check_labels("labels", &one("soc/board.name", "")).is_ok());
        let error = check_labels("labels", &one("a b", "x")).unwrap_err();
        assert_eq!(error.field, "labels[a b]");
        let error = check_labels("labels", &one("a", "x\u{1b}[2J")).unwrap_err();
        assert!(error.problem.contains("control"));
        let many = (0..65).map(|i| (i.to_string(), String::new())).collect();
        assert!(check_labels("labels", &many).is_err());
    }
}
