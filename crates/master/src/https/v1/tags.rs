//! Entity tags (RFC 9110 §8.8.3): what has not changed is not sent again, and what has changed is not overwritten.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};

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

/// The versions of which `If-Match` names one at least: then a change is made only to one of these. None is named by
/// `*`, which is any that there is; tags that were not given out here are versions of nothing.
pub(super) fn if_match(headers: &HeaderMap) -> Option<Vec<u64>> {
    let tags = listed(headers, &header::IF_MATCH);
    if !headers.contains_key(header::IF_MATCH) || tags == ["*"] {
        return None;
    }
    let number = |tag: &String| tag.strip_prefix('"')?.strip_suffix('"')?.parse::<u64>().ok();
    Some(tags.iter().filter_map(number).filter(|number| *number > 0).collect())
}

/// Of a GET whose answer has a tag.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "read by the document alone")]
pub(super) struct IfNoneMatch {
    /// ETags that were read, or `*`: what is still one of these is not sent again.
    #[param(rename = "If-None-Match", example = "*")]
    if_none_match: Option<String>,
}

/// Of a change of what has a tag.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "read by the document alone")]
pub(super) struct IfMatch {
    /// ETags that were read, or `*`: it is changed only if it is still one of these.
    #[param(rename = "If-Match", example = "\"1\"")]
    if_match: Option<String>,
}

/// What a GET whose answer has a tag may answer besides.
#[derive(utoipa::IntoResponses)]
#[response(status = 304, description = "It is what `If-None-Match` names; nothing is sent again.")]
#[allow(dead_code, reason = "read by the document alone")]
pub(super) struct Unchanged;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_condition_names_versions_that_were_given_out_here() {
        for (given, expect) in [
            ("\"7\"", Some(&[7][..])),
            ("*", None),
            ("\"5\", \"9\"", Some(&[5, 9])),
            ("\"strange\", \"9\"", Some(&[9])),
            ("\"0\"", Some(&[])),
            ("W/\"9\"", Some(&[])),
            ("9", Some(&[])),
            ("", Some(&[])),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(given));
            assert_eq!(if_match(&headers).as_deref(), expect, "{given}");
        }
        assert_eq!(if_match(&HeaderMap::new()), None);
    }
}
