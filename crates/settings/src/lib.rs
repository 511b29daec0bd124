//! Settings of a service: a YAML file, then the environment, then flags; the later wins.
//!
//! A service has one table of [`Setting`]s. A setting's key, such as `podman.socket`, is its place in the file and, in
//! capitals behind a prefix, its variable in the environment: [`Schema`] reads both by that table. Each value goes through
//! the same [`Reader`] whichever way it came ([`value`]), and a wrong one is an [`Error`] that names the file with line
//! and column, or the variable, what was found there and what was expected. [`Origins`] knows afterwards who set what.

mod error;
mod field;
mod origin;
mod schema;
#[cfg(test)]
mod tests;
mod tree;
pub mod value;
mod yaml;

pub use error::{Clash, Error, Problem};
pub use field::{Field, Given, List, Maybe, One, Pairs, Shown};
pub use origin::{Origin, Origins};
pub use schema::{Loaded, Schema, Setting, process_environment};
pub use tree::Position;
pub use value::{Reader, by, read};
