//! What only the embedded store promises: one file that is never trusted blindly.

use std::{path::Path, sync::Arc};

use piccolo_store::{EmbeddedOptions, EmbeddedStore, Error};

use crate::contract::passes_the_contract;

#[tokio::test]
async fn the_embedded_store_passes_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    passes_the_contract(Arc::new(create(&folder.path().join("store")))).await;
}

pub(crate) fn create(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(EmbeddedOptions::new(path).create()).unwrap()
}

#[test]
fn a_missing_file_is_not_made_unless_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    assert!(matches!(EmbeddedStore::open(EmbeddedOptions::new(&path)), Err(Error::Io { .. })));
    assert!(!path.exists());
}
