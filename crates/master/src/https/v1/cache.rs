//! The newest list of nodes as it was written: as long as nothing changes, who asks again costs a copy.
//!
//! One list is kept, of one page and filter: it is the same that scripts and screens ask for all the time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;

/// Bytes of a list that is kept.
const LIST_BYTES_MAX: usize = 1024 * 1024;

/// Which list: the parameters as they came, and the revision that it was read at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) query: String,
    pub(super) revision: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Newest(Arc<Mutex<Option<(Which, Bytes)>>>);

impl Newest {
    pub(super) fn find(&self, which: &Which) -> Option<Bytes> {
        let kept = self.lock();
        let (of, list) = kept.as_ref()?;
        (of == which).then(|| list.clone())
    }

    pub(super) fn keep(&self, which: Which, list: Bytes) {
        if list.len() <= LIST_BYTES_MAX {
            *self.lock() = Some((which, list));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Which, Bytes)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_list_that_was_asked_for_comes_again() {
        let which = |query: &str, revision| Which { query: query.to_owned(), revision };
        let newest = Newest::default();
        newest.keep(which("limit=2", 7), Bytes::from_static(b"list"));
        assert_eq!(newest.find(&which("limit=2", 7)), Some(Bytes::from_static(b"list")));
        assert_eq!(newest.find(&which("limit=2", 8)), None, "something has changed");
        assert_eq!(newest.find(&which("limit=3", 7)), None);
        newest.keep(which("", 7), vec![0; LIST_BYTES_MAX + 1].into());
        assert_eq!(newest.find(&which("", 7)), None, "too large to be kept");
    }
}
