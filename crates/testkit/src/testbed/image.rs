//! The root folder that all hosts share, made once by `image.sh` and read by everybody afterwards.
//!
//! It is made beside its place and renamed, so that a half-made one is never taken for a whole one; its
//! stamp says of which recipe it was made, so that a changed recipe makes a new one.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::cluster::{Error, Result, io};

const RECIPE: &str = include_str!("image.sh");
const INIT: &str = include_str!("init.sh");
/// Bytes of the log that are shown when it could not be made.
const TAIL_BYTES: usize = 2000;

/// The image below `folder`, if it is there and of the present recipe.
#[must_use]
pub fn present(folder: &Path) -> Option<PathBuf> {
    let image = folder.join("image");
    let stamp = fs::read_to_string(image.join("stamp")).ok()?;
    (stamp == stamp_of_recipe()).then(|| image.join("root"))
}

/// Makes it; takes minutes. The caller holds the folder's lock, and no host uses an older one.
pub(super) fn make(folder: &Path) -> Result<PathBuf> {
    let half_made = folder.join("image.half-made");
    let image = folder.join("image");
    for old in [&half_made, &image] {
        if old.exists() {
            fs::remove_dir_all(old).map_err(io("an old image cannot be removed"))?;
        }
    }
    fs::create_dir_all(&half_made).map_err(io("the image has no folder"))?;
    for (name, text) in [("image.sh", RECIPE), ("init.sh", INIT)] {
        fs::write(half_made.join(name), text).map_err(io("the recipe cannot be written"))?;
    }
    let log_path = folder.join("image.log");
    let log = fs::File::create(&log_path).map_err(io("the image's log"))?;
    let both = log.try_clone().map_err(io("the image's log"))?;
    let status = Command::new("bash")
        .arg(half_made.join("image.sh"))
        .arg(half_made.join("root"))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(both)
        .status()
        .map_err(io("cannot run bash"))?;
    if !status.success() {
        let text = fs::read(&log_path).unwrap_or_default();
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]);
        let path = log_path.display();
        return Err(Error::Unexpected(format!(
            "the image of the hosts could not be made ({status}); all of it is in {path}:\n{tail}"
        )));
    }
    fs::write(half_made.join("stamp"), stamp_of_recipe()).map_err(io("the image's stamp"))?;
    fs::rename(&half_made, &image).map_err(io("the image cannot be put in its place"))?;
    Ok(image.join("root"))
}

/// Changes with the recipe, and for nothing else that matters.
fn stamp_of_recipe() -> String {
    let mut hasher = DefaultHasher::new();
    (RECIPE, INIT).hash(&mut hasher);
    format!("{:016x}\n", hasher.finish())
}
