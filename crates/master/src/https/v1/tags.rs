//! Entity tags (RFC 9110 §8.8.3): what has not changed is not sent again, and what has changed is not overwritten.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::problem::Problem;

/// Those of a header that has a list of them.
fn listed(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default());
    lines.flat_map(|line| line.split(',')).map(|tag| tag.trim().to_owned()).collect()
}

/// Answers a GET without what the asker has already, as `If-None-Match` says.
pub(super) async fn not_again(request: Request, next: Next) -> Response {
    let reads = *request.method() == Method::GET;
    let known = listed(request.headers(), &header::IF_NONE_MATCH);
    let mut answer = next.run(request).await;
    let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let has =
        |known: &String| known == "*" || tag == Some(known.strip_prefix("W/").unwrap_or(known));
    if reads && tag.is_some() && answer.status() == StatusCode::OK && known.iter().any(has) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer.headers_mut().remove(header::CONTENT_TYPE);
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        *answer.body_mut() = Body::empty();
    }
    answer
}

/// The generation of `If-Match`, where there is one: `"7"`, or `*`, which is 0, for any. Of several it is the `newest`,
/// which is asked for only then, if it is among them.
pub(super) async fn if_match(
    headers: &HeaderMap,
    newest: impl Future<Output = Result<u64, Problem>>,
) -> Result<Option<u64>, Problem> {
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(None);
    }
    let tags = listed(headers, &header::IF_MATCH);
    if tags == ["*"] {
        return Ok(Some(0));
    }
    let number = |tag: &String| tag.strip_prefix('"')?.strip_suffix('"')?.parse::<u64>().ok();
    let numbers: Vec<u64> = tags.iter().filter_map(number).filter(|number| *number > 0).collect();
    match numbers.as_slice() {
        [] => {
            let detail = "If-Match: is no ETag that was given out here";
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, "GenerationOutdated", detail)
                .field("If-Match"))
        }
        [only] => Ok(Some(*only)),
        [first, ..] => {
            let newest = newest.await?;
            Ok(Some(if numbers.contains(&newest) { newest } else { *first }))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn of_several_tags_the_newest_counts() {
        for (given, expect) in [
            ("\"7\"", Some(7)),
            ("*", Some(0)),
            ("\"5\", \"9\"", Some(9)),
            ("\"5\",\"6\"", Some(5)),
            ("\"strange\", \"9\"", Some(9)),
            ("W/\"9\"", None),
            ("9", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(given));
            let found = if_match(&headers, async { Ok(9) }).await;
            assert_eq!(found.ok().flatten(), expect, "{given}");
        }
        let none = if_match(&HeaderMap::new(), async { Ok(9) }).await;
        assert_eq!(none, Ok(None));
    }
}
