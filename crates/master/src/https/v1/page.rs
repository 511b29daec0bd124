//! Lists: `{"items": [...], "revision": N}`, a page at a time.

use axum::http::StatusCode;
use piccolo_core::hex::hex;
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// Items of a page.
pub(super) const LIMIT_DEFAULT: u32 = 500;
pub(super) const LIMIT_MAX: u32 = 1000;

/// A page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// What the list was read at. A watch from here misses nothing.
    pub(super) revision: u64,
    /// For `continue`, where there is more.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub(super) go_on: Option<String>,
}

/// Which page.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// Items at most.
    #[param(minimum = 1, maximum = 1000, default = 500)]
    pub(super) limit: Option<u32>,
    /// What the page before said.
    #[serde(rename = "continue")]
    pub(super) go_on: Option<String>,
}

pub(super) fn check_limit(limit: Option<u32>) -> Result<usize, Problem> {
    match limit.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit as usize),
        other => {
            let detail = format!("limit: {other} is not between 1 and {LIMIT_MAX}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "InvalidField", detail).field("limit"))
        }
    }
}

/// Where a page has ended, with a mark by which what was made up, or was cut short, is told from it: a list that has
/// nothing behind such a place would look as if it were over.
fn cursor(key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    format!("{key}~{}", hex(digest.as_ref().get(..4).unwrap_or_default()))
}

/// The key that a cursor was made of.
fn key_of(given: &str) -> Result<&str, Problem> {
    let key = given.rsplit_once('~').map(|(key, _)| key);
    key.filter(|key| cursor(key) == given).ok_or_else(|| {
        let detail = "continue: is nothing that a page has ended with";
        Problem::new(StatusCode::BAD_REQUEST, "InvalidField", detail)
            .field("continue")
            .help("begin again without it")
    })
}

impl<T> Page<T> {
    /// The page of what is sorted by `key`, and lies after where the last page ended.
    pub(super) fn of<S>(
        all: Vec<S>,
        revision: u64,
        page: &PageParams,
        key: impl Fn(&S) -> &str,
        convert: impl Fn(&S) -> T,
    ) -> Result<Self, Problem> {
        let limit = check_limit(page.limit)?;
        let after = page.go_on.as_deref().map(key_of).transpose()?;
        let first = after.map_or(0, |after| all.partition_point(|item| key(item) <= after));
        let rest = all.get(first..).unwrap_or_default();
        let shown = rest.get(..limit).unwrap_or(rest);
        let more = rest.len() > shown.len();
        let go_on = shown.last().filter(|_| more).map(|last| cursor(key(last)));
        Ok(Self { items: shown.iter().map(convert).collect(), revision, go_on })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_until_there_is_no_more() {
        let page = |limit, go_on: Option<&str>| {
            let params = PageParams { limit: Some(limit), go_on: go_on.map(cursor) };
            let all = vec!["a", "b", "d"];
            let page = Page::of(all, 7, &params, |item| item, |item| (*item).to_owned()).unwrap();
            let go_on = page.go_on.as_deref().map(|go_on| key_of(go_on).unwrap().to_owned());
            (page.items.concat(), go_on)
        };
        assert_eq!(page(2, None), ("ab".to_owned(), Some("b".to_owned())));
        assert_eq!(page(2, Some("b")), ("d".to_owned(), None));
        assert_eq!(
            page(1, Some("c")),
            ("d".to_owned(), None),
            "what went meanwhile leaves no hole"
        );
        assert_eq!(page(3, None), ("abd".to_owned(), None));
        assert_eq!(page(3, Some("z")), (String::new(), None));
    }

    #[test]
    fn what_no_page_has_ended_with_is_refused() {
        let made = cursor("board-1");
        assert_eq!(key_of(&made), Ok("board-1"));
        for bad in ["zzz", "", "~", "board-1", "board-1~00000000", &made[..made.len() - 1]] {
            assert_eq!(key_of(bad).unwrap_err().status(), StatusCode::BAD_REQUEST, "{bad}");
        }
    }

    #[test]
    fn a_limit_has_limits() {
        for (limit, good) in [(None, true), (Some(1), true), (Some(1000), true), (Some(0), false)] {
            assert_eq!(check_limit(limit).is_ok(), good, "{limit:?}");
        }
        assert!(check_limit(Some(1001)).is_err());
    }
}
