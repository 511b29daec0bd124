//! Where in a file a setting is that is wrong only beside others: looked up when it is found to be wrong.

use std::{collections::HashMap, path::Path};

use serde::{Deserialize, de::IgnoredAny};
use serde_saphyr::Spanned;

use super::{error::Error, layer};

/// A setting, such as `thresholds` and its part `cpu`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    pub part: Option<String>,
}

type Parts = HashMap<String, Spanned<IgnoredAny>>;

/// The settings that are judged together.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Places {
    masters: Option<Spanned<IgnoredAny>>,
    disks: Option<Spanned<IgnoredAny>>,
    labels: Option<Spanned<Parts>>,
    thresholds: Option<Spanned<Parts>>,
}

/// The error with the place in the file, if it is about a setting that the file has.
pub(super) fn found_in(path: &Path, error: Error) -> Error {
    let Error::Together { setting, problem } = error else { return error };
    let place = layer::text(path).ok().and_then(|text| locate(&text, &setting));
    match place {
        Some((line, column)) => Error::File { path: path.to_owned(), line, column, problem },
        None => Error::Together { setting, problem },
    }
}

/// Line and column, both from 1.
fn locate(text: &str, setting: &Setting) -> Option<(u64, u64)> {
    let places: Places = serde_saphyr::from_str::<Option<Places>>(text).ok()??;
    let of_part = |parts: Option<Spanned<Parts>>| {
        let parts = parts?;
        match &setting.part {
            Some(part) => parts.value.get(part).map(|part| part.referenced),
            None => Some(parts.referenced),
        }
    };
    let at = match setting.name {
        "masters" => places.masters.map(|list| list.referenced),
        "disks" => places.disks.map(|list| list.referenced),
        "labels" => of_part(places.labels),
        "thresholds" => of_part(places.thresholds),
        _ => None,
    }?;
    Some((at.line(), at.column()))
}
