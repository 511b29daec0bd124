//! Expressions of rules: a part of CEL, checked when a rule is applied and evaluated for every subject.
//!
//! What there is: fields of the subject, `"text"`, numbers, `true` and `false`, lists, `== != < <= > >= in`, `&& || !`,
//! `+ - * / %`, `has(...)`, `size(...)` and the methods `startsWith`, `endsWith` and `contains`. It means what it means
//! in CEL, where every number is a `double`. A figure that nobody has told is no number: what depends on it is not
//! known, and `false && unknown` is still false (docs/adr/0012).
//!
//! - [`lexer`]: words and their places; `parser`: the tree, and the type of each part; `eval`: its value

mod eval;
mod lexer;
mod parser;

use std::fmt;

pub use eval::Value;

use super::{
    facts::{Facts, Field, Kind},
    rule::On,
};

/// Bytes of an expression at most, parts of it, and parts within parts.
pub const BYTES_MAX: usize = 1024;
const PARTS_MAX: usize = 200;
const DEPTH_MAX: usize = 24;

/// An expression whose types fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    root: Part,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Bool(bool),
    Number(f64),
    Text(String),
    Field(Field),
    List(Vec<Part>),
    /// An entry of a map.
    Entry(Box<Part>, Box<Part>),
    Not(Box<Part>),
    Negative(Box<Part>),
    Binary(Binary, Box<Part>, Box<Part>),
    /// Whether it is known.
    Has(Box<Part>),
    Size(Box<Part>),
    Method(Method, Box<Part>, Box<Part>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    Or,
    And,
    Equal,
    Differs,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    In,
    Plus,
    Minus,
    Times,
    Over,
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    StartsWith,
    EndsWith,
    Contains,
}

/// What is wrong with an expression, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    /// Bytes from its beginning, and how many of them: none where it ends too early.
    pub at: usize,
    pub length: usize,
    pub problem: String,
    /// The line that it is in, from 1, and what the line says.
    line: usize,
    column: usize,
    text: String,
}

impl Expression {
    /// # Errors
    /// It cannot be read, or its types do not fit.
    pub fn parse(text: &str, on: On) -> Result<Self, ExpressionError> {
        let parsed = parser::parse(text, on);
        parsed.map_err(|(at, length, problem)| ExpressionError::new(text, at, length, problem))
    }

    /// One that is true or false.
    ///
    /// # Errors
    /// The same, and where it is something else.
    pub fn condition(text: &str, on: On) -> Result<Self, ExpressionError> {
        let parsed = Self::parse(text, on)?;
        if parsed.kind == Kind::Bool {
            return Ok(parsed);
        }
        let problem = format!("this is {}, and a condition is true or false", parsed.kind);
        let begin = text.len() - text.trim_start().len();
        Err(ExpressionError::new(text, begin, text.trim().len(), problem))
    }

    /// `None` where it is not known.
    pub fn value<'a>(&'a self, facts: &Facts<'a>) -> Option<Value<'a>> {
        self.root.value(facts)
    }

    /// What is not known is not so.
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        matches!(self.value(facts), Some(Value::Bool(true)))
    }
}

impl ExpressionError {
    pub(super) fn new(source: &str, at: usize, length: usize, problem: String) -> Self {
        let before = source.get(..at).unwrap_or(source);
        let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = source.get(begin..).unwrap_or_default().lines().next().unwrap_or_default();
        Self {
            at,
            length,
            problem,
            line: before.matches('\n').count() + 1,
            column: before.get(begin..).unwrap_or_default().chars().count() + 1,
            text: line.to_owned(),
        }
    }
}

/// The place, the problem, and below it the line with a mark.
impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, problem, text, length, .. } = self;
        let shown: String =
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect();
        let rest = shown.chars().count().saturating_sub(column - 1).max(1);
        let mark = "^".repeat((*length).clamp(1, rest));
        let indent = " ".repeat(column - 1);
        write!(f, "line {line}, column {column}: {problem}\n  {shown}\n  {indent}{mark}")
    }
}

impl std::error::Error for ExpressionError {}

#[cfg(test)]
mod tests;
