//! Which alerts a silence or a channel is about: `rule=NodeNotReady,label.site=seoul`.

use serde::{Deserialize, Serialize};

use crate::model::FieldError;

/// Bytes of a filter at most, and terms.
const BYTES_MAX: usize = 1024;
const TERMS_MAX: usize = 16;

/// Terms joined by commas, all of which must hold: `key=value`, `key!=value`, `key~part`. Keys are an alert's labels
/// and `rule severity node container group`; none minds case.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Matcher(String);

impl Matcher {
    /// # Errors
    /// Names the term that cannot be read.
    pub fn parse(field: &str, text: &str) -> Result<Self, FieldError> {
        let wrong = |problem: String| Err(FieldError::new(field, problem));
        if text.len() > BYTES_MAX {
            return wrong(format!("has more than {BYTES_MAX} bytes"));
        }
        let terms: Vec<_> = text.split(',').filter(|term| !term.trim().is_empty()).collect();
        if terms.len() > TERMS_MAX {
            return wrong(format!("has more than {TERMS_MAX} terms"));
        }
        for term in &terms {
            if split(term).is_none_or(|(key, _, _)| key.is_empty()) {
                return wrong(format!("{term:?} is no term: KEY=VALUE, KEY!=VALUE or KEY~PART"));
            }
        }
        Ok(Self(terms.join(",")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `values` gives the values of a key: an alert of many nodes has many.
    pub(super) fn matches<'a>(&self, values: impl Fn(&str) -> Vec<&'a str>) -> bool {
        self.0.split(',').filter_map(split).all(|(key, operator, value)| {
            let mut found = values(key).into_iter();
            match operator {
                "!=" => found.all(|is| !is.eq_ignore_ascii_case(value)),
                "~" => found.any(|is| is.to_lowercase().contains(&value.to_lowercase())),
                _ => found.any(|is| is.eq_ignore_ascii_case(value)),
            }
        })
    }
}

fn split(term: &str) -> Option<(&str, &'static str, &str)> {
    let at = term.find(['=', '!', '~'])?;
    let (key, rest) = term.split_at(at);
    let operator = ["!=", "=", "~"].into_iter().find(|operator| rest.starts_with(operator))?;
    Some((key.trim(), operator, rest.get(operator.len()..)?.trim()))
}
