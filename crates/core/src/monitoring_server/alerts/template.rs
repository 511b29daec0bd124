//! Messages of rules: text with expressions in it, `node {{ node.name }} is {{ node.status }}`.

use super::{
    expression::{Expression, ExpressionError, Value},
    facts::Facts,
    rule::On,
};

/// Bytes of what comes out at most; containers' and labels' texts are other people's.
const SHOWN_BYTES_MAX: usize = 512;
/// Items of a list that are shown.
const LIST_MAX: usize = 10;

#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Value(Expression),
}

impl Template {
    /// # Errors
    /// An expression in it cannot be read, or has no end.
    pub fn parse(text: &str, on: On) -> Result<Self, ExpressionError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            pieces.push(Piece::Text(before.to_owned()));
            let Some((inside, behind)) = after.split_once("}}") else {
                let at = text.len() - after.len() - 2;
                return Err(ExpressionError::new(text, at, 2, "{{ has no }}".to_owned()));
            };
            pieces.push(Piece::Value(Expression::parse(inside, on)?));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// One line, of bounded length.
    pub fn render(&self, facts: &Facts<'_>) -> String {
        let mut shown = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => shown.push_str(text),
                Piece::Value(expression) => shown.push_str(&display(expression.value(facts))),
            }
        }
        line(&shown)
    }
}

/// Without control characters, and not longer than is good.
pub(super) fn line(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() + c.len_utf8() > SHOWN_BYTES_MAX {
            break;
        }
        shown.push(if c.is_control() { ' ' } else { c });
    }
    shown
}

fn display(value: Option<Value<'_>>) -> String {
    match value {
        None => "unknown".to_owned(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Number(number)) if number.fract() == 0.0 => format!("{number:.0}"),
        Some(Value::Number(number)) => format!("{number:.1}"),
        Some(Value::Text(text)) => text.to_owned(),
        Some(Value::Texts(mut texts)) => {
            texts.truncate(LIST_MAX);
            texts.join(", ")
        }
        Some(Value::TextMap(map) | Value::NumberMap(map)) => {
            let entries = map.iter().take(LIST_MAX).map(|(key, value)| format!("{key}={value}"));
            entries.collect::<Vec<_>>().join(", ")
        }
    }
}
