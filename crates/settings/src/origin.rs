//! Who set what.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::error::{Clash, Error};
use crate::tree::Position;

/// Who gave a setting its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    File { path: PathBuf, at: Position },
    Variable(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, at } => write!(f, "{}:{}", path.display(), at.line),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("a flag"),
        }
    }
}

/// The settings that were given, by their keys; all others are at their defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    #[must_use]
    pub fn of(&self, key: &str) -> Option<&Origin> {
        self.0.get(key)
    }

    pub(crate) fn set(&mut self, key: &str, origin: Origin) {
        self.0.insert(key.to_owned(), origin);
    }

    /// A flag, where it was given, over what is there.
    pub fn flag<T>(&mut self, key: &str, place: &mut T, flag: Option<T>) {
        if let Some(value) = flag {
            *place = value;
            self.set(key, Origin::Flag);
        }
    }

    /// A flag that may be given several times. A list is never put together from several sources.
    pub fn flags<T: Clone, L: FromIterator<T>>(&mut self, key: &str, place: &mut L, flags: &[T]) {
        let given = (!flags.is_empty()).then(|| flags.iter().cloned().collect());
        self.flag(key, place, given);
    }

    /// The place of the first of the settings that was given.
    #[must_use]
    pub fn blame(&self, clash: Clash) -> Error {
        let problem = clash.problem;
        match clash.keys.iter().find_map(|key| self.of(key)) {
            Some(Origin::File { path, at }) => Error::File { path: path.clone(), at: *at, problem },
            Some(Origin::Variable(name)) => Error::Environment { variable: name.clone(), problem },
            Some(Origin::Flag) | None => Error::Together(problem),
        }
    }
}
