//! The filter of GetNodes and WatchNodes: `status=Ready,role=sub,name~HPC`.
//!
//! Terms are joined by commas, and all of them must hold. `=` and `!=` compare the whole value, `~` looks
//! for a part; none minds case. Keys: `id name ip role kind status` and `label.<key>`.

use super::{Code, Refusal};
use crate::model::NodeRecord;

/// Bytes of a filter at most, and terms.
const FILTER_BYTES_MAX: usize = 1024;
const TERMS_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    key: Key,
    operator: Operator,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Id,
    Name,
    Ip,
    Role,
    Kind,
    Status,
    Label(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    Contains,
}

impl Selector {
    /// An empty filter selects everything.
    pub fn parse(filter: &str) -> Result<Self, Refusal> {
        if filter.len() > FILTER_BYTES_MAX {
            return Err(bad(format!("filter has more than {FILTER_BYTES_MAX} bytes")));
        }
        if filter.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut terms = Vec::new();
        let mut column = 1;
        for text in filter.split(',') {
            terms.push(Term::parse(text).map_err(|problem| {
                bad(format!("filter, column {column}, {:?}: {problem}", text.trim()))
            })?);
            column += text.chars().count() + 1;
        }
        if terms.len() > TERMS_MAX {
            return Err(bad(format!("filter has more than {TERMS_MAX} terms")));
        }
        Ok(Self { terms })
    }

    pub fn selects(&self, node: &NodeRecord) -> bool {
        self.terms.iter().all(|term| term.holds(node))
    }

    /// The id or name by which a node is meant that is none of these.
    pub fn missing<'n>(&self, nodes: impl Iterator<Item = &'n NodeRecord> + Clone) -> Option<&str> {
        let is_one =
            |term: &&Term| term.operator == Operator::Is && matches!(term.key, Key::Id | Key::Name);
        let missing = |term: &&Term| !nodes.clone().any(|node| term.holds(node));
        self.terms.iter().filter(is_one).find(missing).map(|term| term.value.as_str())
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, operator, value) = if let Some((key, value)) = text.split_once("!=") {
            (key, Operator::IsNot, value)
        } else if let Some((key, value)) = text.split_once('=') {
            (key, Operator::Is, value)
        } else if let Some((key, value)) = text.split_once('~') {
            (key, Operator::Contains, value)
        } else {
            return Err("expected key=value, key!=value or key~part".to_owned());
        };
        let key = match key.trim() {
            "id" => Key::Id,
            "name" => Key::Name,
            "ip" => Key::Ip,
            "role" => Key::Role,
            "kind" => Key::Kind,
            "status" => Key::Status,
            other => match other.strip_prefix("label.") {
                Some(label) if !label.is_empty() => Key::Label(label.to_owned()),
                Some(_) | None => {
                    return Err(format!(
                        "{other:?} is not a key (id, name, ip, role, kind, status, label.<key>)"
                    ));
                }
            },
        };
        let value = value.trim().to_lowercase();
        check_value(&key, operator, &value)?;
        Ok(Self { key, operator, value })
    }

    fn holds(&self, node: &NodeRecord) -> bool {
        let actual = match &self.key {
            Key::Id => node.id.as_str().to_lowercase(),
            Key::Name => node.name.key(),
            Key::Ip => node.ip.to_lowercase(),
            Key::Role => node.role.to_string(),
            Key::Kind => node.kind.to_string(),
            Key::Status => node.status.to_string().to_lowercase(),
            Key::Label(label) => match node.labels.get(label) {
                Some(value) => value.to_lowercase(),
                None => return self.operator == Operator::IsNot,
            },
        };
        match self.operator {
            Operator::Is => actual == self.value,
            Operator::IsNot => actual != self.value,
            Operator::Contains => actual.contains(&self.value),
        }
    }
}

/// A value that no node can ever have is a mistake, not an empty answer.
fn check_value(key: &Key, operator: Operator, value: &str) -> Result<(), String> {
    let allowed: &[&str] = match key {
        Key::Role => &["master", "sub"],
        Key::Kind => &["embedded", "cloud"],
        Key::Status => {
            &["pending", "initializing", "ready", "notready", "maintenance", "terminating"]
        }
        Key::Id | Key::Name | Key::Ip | Key::Label(_) => return Ok(()),
    };
    if operator == Operator::Contains || allowed.contains(&value) {
        return Ok(());
    }
    Err(format!("{value:?} is none of {}", allowed.join(", ")))
}

fn bad(message: String) -> Refusal {
    Refusal {
        field: Some("filter".to_owned()),
        ..Refusal::new(Code::InvalidArgument, "BadFilter", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_manager::fixtures::node_record;

    #[track_caller]
    fn check(filter: &str, expect: Result<bool, &str>) {
        let mut node = node_record("n1", "HPC-1");
        node.labels.insert("site".to_owned(), "Seoul".to_owned());
        match (Selector::parse(filter).map(|s| s.selects(&node)), expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got, expect, "{filter}"),
            (Err(got), Err(part)) => assert!(got.message.contains(part), "{}", got.message),
            (got, expect) => panic!("{filter}: got {got:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn all_terms_must_hold() {
        check("", Ok(true));
        check("status=Ready,role=sub,name~hpc", Ok(true));
        check(" name = HPC-1 ", Ok(true));
        check("role!=master", Ok(true));
        check("status=NotReady", Ok(false));
        check("label.site=seoul", Ok(true));
        check("label.rack=1", Ok(false));
        check("label.rack!=1", Ok(true));
    }

    #[test]
    fn a_bad_filter_names_the_place() {
        check("status=Ready,hue=red", Err("column 14, \"hue=red\": \"hue\" is not a key"));
        check("status", Err("column 1"));
        check("status=Reddy", Err("none of pending"));
        check("role=sub,,", Err("column 10"));
        check("label.=x", Err("is not a key"));
        check(&"a".repeat(2000), Err("more than 1024 bytes"));
    }

    proptest::proptest! {
        #[test]
        fn no_filter_panics_and_a_bad_one_is_named(filter in ".{0,200}") {
            let node = node_record("n1", "HPC-1");
            match Selector::parse(&filter) {
                Ok(selector) => drop(selector.selects(&node)),
                Err(refusal) => proptest::prop_assert_eq!(refusal.field.as_deref(), Some("filter")),
            }
        }

        #[test]
        fn a_term_and_its_contrary_never_agree(
            key in "id|name|ip|label\\.[a-z]{1,8}",
            value in "[a-zA-Z0-9-]{1,12}",
        ) {
            let mut node = node_record("n1", "HPC-1");
            node.labels.insert("site".to_owned(), "Seoul".to_owned());
            let is = Selector::parse(&format!("{key}={value}")).unwrap().selects(&node);
            let is_not = Selector::parse(&format!("{key}!={value}")).unwrap().selects(&node);
            proptest::prop_assert!(is != is_not);
        }
    }
}
