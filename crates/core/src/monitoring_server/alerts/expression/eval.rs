//! The value of an expression, for one subject at one moment.

use std::collections::BTreeMap;

use super::{Binary, Method, Part};
use crate::monitoring_server::alerts::facts::{Facts, Field};

#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Bool(bool),
    Number(f64),
    Text(&'a str),
    Texts(Vec<&'a str>),
    TextMap(&'a BTreeMap<String, String>),
    /// Entries that are numbers; others are not known.
    NumberMap(&'a BTreeMap<String, String>),
}

impl Part {
    /// The types were checked: what does not fit cannot be, and would not be known.
    pub(super) fn value<'a>(&'a self, facts: &Facts<'a>) -> Option<Value<'a>> {
        match self {
            Self::Bool(value) => Some(Value::Bool(*value)),
            Self::Number(value) => Some(Value::Number(*value)),
            Self::Text(text) => Some(Value::Text(text)),
            Self::Field(field) => field.value(facts),
            Self::List(parts) => {
                parts.iter().map(|part| part.text(facts)).collect::<Option<_>>().map(Value::Texts)
            }
            Self::Entry(map, key) => entry(map.value(facts)?, key.text(facts)?),
            Self::Not(part) => Some(Value::Bool(!part.bool(facts)?)),
            Self::Negative(part) => Some(Value::Number(-part.number(facts)?)),
            Self::Binary(operator, left, right) => operator.value(left, right, facts),
            Self::Has(part) => Some(Value::Bool(part.value(facts).is_some())),
            Self::Size(part) => {
                let size = size(&part.value(facts)?)?;
                Some(Value::Number(f64::from(u32::try_from(size).unwrap_or(u32::MAX))))
            }
            Self::Method(method, of, argument) => {
                let (text, part) = (of.text(facts)?, argument.text(facts)?);
                Some(Value::Bool(match method {
                    Method::StartsWith => text.starts_with(part),
                    Method::EndsWith => text.ends_with(part),
                    Method::Contains => text.contains(part),
                }))
            }
        }
    }

    fn bool(&self, facts: &Facts<'_>) -> Option<bool> {
        let Value::Bool(value) = self.value(facts)? else { return None };
        Some(value)
    }

    fn number(&self, facts: &Facts<'_>) -> Option<f64> {
        let Value::Number(value) = self.value(facts)? else { return None };
        Some(value)
    }

    fn text<'a>(&'a self, facts: &Facts<'a>) -> Option<&'a str> {
        let Value::Text(value) = self.value(facts)? else { return None };
        Some(value)
    }
}

impl Binary {
    fn value<'a>(self, left: &'a Part, right: &'a Part, facts: &Facts<'a>) -> Option<Value<'a>> {
        let compared = |holds: fn(f64, f64) -> bool| {
            Some(Value::Bool(holds(left.number(facts)?, right.number(facts)?)))
        };
        match self {
            Self::And => either(left, right, facts, false),
            Self::Or => either(left, right, facts, true),
            Self::Equal => Some(Value::Bool(left.value(facts)? == right.value(facts)?)),
            Self::Differs => Some(Value::Bool(left.value(facts)? != right.value(facts)?)),
            Self::Less => compared(|a, b| a < b),
            Self::LessOrEqual => compared(|a, b| a <= b),
            Self::More => compared(|a, b| a > b),
            Self::MoreOrEqual => compared(|a, b| a >= b),
            Self::In => {
                let text = left.text(facts)?;
                // the usual lists are looked through where they are
                if let Part::List(parts) = right {
                    return among(text, parts, facts).map(Value::Bool);
                }
                if let Part::Field(Field::NodeConditions) = right {
                    let held = &facts.node?.record.conditions;
                    return Some(Value::Bool(held.iter().any(|held| held.kind.name() == text)));
                }
                Some(Value::Bool(match right.value(facts)? {
                    Value::Texts(texts) => texts.contains(&text),
                    Value::TextMap(map) | Value::NumberMap(map) => map.contains_key(text),
                    Value::Bool(_) | Value::Number(_) | Value::Text(_) => return None,
                }))
            }
            Self::Plus | Self::Minus | Self::Times | Self::Over | Self::Rest => {
                self.computed(left.number(facts)?, right.number(facts)?).map(Value::Number)
            }
        }
    }

    /// Of arithmetic; what is no number, as 1 / 0, is not known.
    pub(super) fn computed(self, a: f64, b: f64) -> Option<f64> {
        let number = match self {
            Self::Plus => a + b,
            Self::Minus => a - b,
            Self::Times => a * b,
            Self::Over => a / b,
            Self::Rest => a % b,
            Self::Or | Self::And | Self::Equal | Self::Differs | Self::In => return None,
            Self::Less | Self::LessOrEqual | Self::More | Self::MoreOrEqual => return None,
        };
        Some(number).filter(|number| number.is_finite())
    }
}

/// `decisive` on either side decides, known or not what the other is.
fn either<'a>(left: &Part, right: &Part, facts: &Facts<'_>, decisive: bool) -> Option<Value<'a>> {
    let left = left.bool(facts);
    if left == Some(decisive) {
        return left.map(Value::Bool);
    }
    let right = right.bool(facts);
    // the left one is not known, or the other way round
    let known = left.is_some() || right == Some(decisive);
    right.filter(|_| known).map(Value::Bool)
}

/// One with a part that is not known is not known.
fn among(text: &str, parts: &[Part], facts: &Facts<'_>) -> Option<bool> {
    let mut found = false;
    for part in parts {
        found |= part.text(facts)? == text;
    }
    Some(found)
}

fn entry<'a>(map: Value<'a>, key: &str) -> Option<Value<'a>> {
    match map {
        Value::TextMap(map) => Some(Value::Text(map.get(key)?)),
        Value::NumberMap(map) => {
            let number = map.get(key)?.parse::<f64>().ok()?;
            Some(Value::Number(number)).filter(|_| number.is_finite())
        }
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Texts(_) => None,
    }
}

fn size(value: &Value<'_>) -> Option<usize> {
    match value {
        Value::Text(text) => Some(text.chars().count()),
        Value::Texts(texts) => Some(texts.len()),
        Value::TextMap(map) | Value::NumberMap(map) => Some(map.len()),
        Value::Bool(_) | Value::Number(_) => None,
    }
}
