//! Places for values: one, perhaps none, a list, or pairs of texts.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::Problem;
use crate::tree::{Content, Node};
use crate::value::{Reader, read};

/// What was written for a setting.
#[derive(Debug)]
pub struct Given<'a>(pub(crate) Written<'a>);

#[derive(Debug)]
pub(crate) enum Written<'a> {
    InFile(&'a Node),
    /// Lists and pairs are separated by commas.
    InEnvironment(&'a str),
}

/// A place for what was written.
pub trait Field {
    /// Takes it over.
    ///
    /// # Errors
    /// What was expected and what was found; the field is then as before.
    fn set(&mut self, given: &Given<'_>) -> Result<(), Problem>;
    /// As it would be written.
    fn show(&self) -> Shown;
}

/// A value as it would be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Nothing,
    Text(String),
    List(Vec<String>),
    Pairs(BTreeMap<String, String>),
}

impl fmt::Display for Shown {
    /// On one line, as in the environment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::List(texts) => f.write_str(&texts.join(",")),
            Self::Pairs(pairs) => {
                let pairs: Vec<_> =
                    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
                f.write_str(&pairs.join(","))
            }
        }
    }
}

/// A value that is always there.
pub struct One<'a, R: Reader>(pub &'a mut R::Value, pub R);
/// A value that need not be there.
pub struct Maybe<'a, R: Reader>(pub &'a mut Option<R::Value>, pub R);
/// Any number of values; an empty list in the environment is a list without a value.
pub struct List<'a, R: Reader>(pub &'a mut Vec<R::Value>, pub R);
/// Texts by texts, each judged by itself.
pub struct Pairs<'a>(
    pub &'a mut BTreeMap<String, String>,
    pub fn(&str, &str) -> Result<(), String>,
);

impl<R: Reader> Field for One<'_, R> {
    fn set(&mut self, given: &Given<'_>) -> Result<(), Problem> {
        *self.0 = single(given, &self.1)?;
        Ok(())
    }

    fn show(&self) -> Shown {
        Shown::Text(self.1.show(self.0))
    }
}

impl<R: Reader> Field for Maybe<'_, R> {
    fn set(&mut self, given: &Given<'_>) -> Result<(), Problem> {
        *self.0 = Some(single(given, &self.1)?);
        Ok(())
    }

    fn show(&self) -> Shown {
        self.0.as_ref().map_or(Shown::Nothing, |value| Shown::Text(self.1.show(value)))
    }
}

impl<R: Reader> Field for List<'_, R> {
    fn set(&mut self, given: &Given<'_>) -> Result<(), Problem> {
        *self.0 = match &given.0 {
            Written::InEnvironment(text) => {
                parts(text).map(|part| read(&self.1, part)).collect::<Result<_, _>>()?
            }
            Written::InFile(Node { content: Content::List(nodes), .. }) => {
                let given = nodes.iter().map(|node| Given(Written::InFile(node)));
                given.map(|given| single(&given, &self.1)).collect::<Result<_, _>>()?
            }
            Written::InFile(node) => return Err(misshapen(node, "a list")),
        };
        Ok(())
    }

    fn show(&self) -> Shown {
        Shown::List(self.0.iter().map(|value| self.1.show(value)).collect())
    }
}

impl Field for Pairs<'_> {
    fn set(&mut self, given: &Given<'_>) -> Result<(), Problem> {
        let mut pairs = BTreeMap::new();
        match &given.0 {
            Written::InEnvironment(text) => {
                for part in parts(text) {
                    let (key, value) = pair(part)?;
                    (self.1)(&key, &value)?;
                    pairs.insert(key, value);
                }
            }
            Written::InFile(Node { content: Content::Map(entries), .. }) => {
                for entry in entries {
                    let value = match &entry.value.content {
                        Content::Text(text) => text.clone(),
                        Content::Nothing => String::new(),
                        Content::List(_) | Content::Map(_) => {
                            return Err(misshapen(&entry.value, "a single value"));
                        }
                    };
                    (self.1)(&entry.key, &value)
                        .map_err(|problem| Problem::at(entry.value.at, problem))?;
                    pairs.insert(entry.key.clone(), value);
                }
            }
            Written::InFile(node) => return Err(misshapen(node, "a mapping")),
        }
        *self.0 = pairs;
        Ok(())
    }

    fn show(&self) -> Shown {
        Shown::Pairs(self.0.clone())
    }
}

/// `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.trim().split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("expected KEY=VALUE, found `{}`", crate::error::shown(text.trim()))),
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|part| !part.trim().is_empty())
}

fn single<R: Reader>(given: &Given<'_>, reader: &R) -> Result<R::Value, Problem> {
    match &given.0 {
        Written::InEnvironment(text) => Ok(read(reader, text)?),
        Written::InFile(Node { at, content: Content::Text(text) }) => {
            read(reader, text).map_err(|problem| Problem::at(*at, problem))
        }
        Written::InFile(node) => Err(misshapen(node, &reader.expected())),
    }
}

pub(crate) fn misshapen(node: &Node, expected: &str) -> Problem {
    Problem::at(node.at, format!("expected {expected}, found {}", node.content.name()))
}

impl<R: Reader> fmt::Debug for One<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.show())
    }
}

impl<R: Reader> fmt::Debug for Maybe<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.show())
    }
}

impl<R: Reader> fmt::Debug for List<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.show())
    }
}

impl fmt::Debug for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.show())
    }
}
