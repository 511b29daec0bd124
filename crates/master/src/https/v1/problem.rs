//! Why a request was not carried out, as problem details (RFC 9457).
//!
//! The call behind a route answers with a gRPC status, as it does on the other port; here is the one place where that becomes
//! an HTTP status.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use piccolo_rpc::status::ErrorView;
use serde::Serialize;
use tonic::{Code, Status};

/// Seconds until a caller may ask again, where the refusal does not know better.
const RETRY_AFTER_S: u32 = 5;
/// How a caller that showed nothing may show who it is, beside a certificate.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"piccolo\"");

const HOW_TO_BE_KNOWN: &str = "send Authorization: Bearer TOKEN (piccolo api-token create), sign in, or show a client certificate";

/// A refusal, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Problem {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    status: u16,
    /// What happened, for a person.
    detail: String,
    /// One CamelCase word for programs, e.g. `NoSuchNode`.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    /// The field that is wrong, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<Box<str>>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<Box<str>>,
    /// Of the header of that name; 0 where it is not known.
    #[serde(skip)]
    retry_after_s: u32,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, reason: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: detail.into(),
            reason: reason.to_owned(),
            field: None,
            help: None,
            retry_after_s: 0,
        }
    }

    pub(crate) fn field(self, field: impl Into<Box<str>>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    pub(crate) fn help(self, help: impl Into<Box<str>>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Of who has shown nothing.
    pub(super) fn of_a_stranger(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "CertificateRequired", detail).help(HOW_TO_BE_KNOWN)
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<&Status> for Problem {
    fn from(status: &Status) -> Self {
        let view = ErrorView::from(status);
        let mut problem =
            Self::new(http_status(view.code, &view.reason), &view.reason, view.message);
        problem.field = view.field.map(Into::into);
        problem.help = view.help.map(Into::into);
        problem.retry_after_s =
            view.retry_after_s.map_or(0, |seconds| seconds.try_into().unwrap_or(u32::MAX));
        if view.reason == "CertificateRequired" {
            problem.help = Some(HOW_TO_BE_KNOWN.into());
        }
        problem
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        Self::from(&status)
    }
}

/// What a caller of HTTP understands by it.
fn http_status(code: Code, reason: &str) -> StatusCode {
    match (code, reason) {
        (Code::ResourceExhausted, "TooManyBytes") => StatusCode::PAYLOAD_TOO_LARGE,
        // the change was asked for on a condition
        (Code::Aborted, "GenerationOutdated") => StatusCode::PRECONDITION_FAILED,
        // the node's condition and not the master's: asking again does not help before it is back
        (Code::Unavailable, "NotConnected") => StatusCode::CONFLICT,
        (Code::InvalidArgument | Code::OutOfRange, _) => StatusCode::BAD_REQUEST,
        (Code::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
        (Code::PermissionDenied, _) => StatusCode::FORBIDDEN,
        (Code::NotFound, _) => StatusCode::NOT_FOUND,
        (Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted, _) => StatusCode::CONFLICT,
        (Code::ResourceExhausted, _) => StatusCode::TOO_MANY_REQUESTS,
        (Code::Unavailable | Code::Cancelled, _) => StatusCode::SERVICE_UNAVAILABLE,
        (Code::DeadlineExceeded, _) => StatusCode::GATEWAY_TIMEOUT,
        (Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss, _) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match status {
            StatusCode::UNAUTHORIZED => drop(headers.insert(header::WWW_AUTHENTICATE, CHALLENGE)),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let known = Some(self.retry_after_s).filter(|seconds| *seconds > 0);
                headers.insert(header::RETRY_AFTER, known.unwrap_or(RETRY_AFTER_S).into());
            }
            _ => {}
        }
        response
    }
}

/// What every route may answer, for its document.
#[derive(Debug, utoipa::IntoResponses)]
#[allow(dead_code, reason = "read by the document alone")]
pub(crate) enum Problems {
    #[response(
        status = 400,
        description = "The request is malformed.",
        content_type = "application/problem+json"
    )]
    BadRequest(Problem),
    #[response(
        status = 401,
        description = "Nothing shows who asks, or it is not good any more.",
        content_type = "application/problem+json"
    )]
    Unauthorized(Problem),
    #[response(
        status = 403,
        description = "Whoever asks may not.",
        content_type = "application/problem+json"
    )]
    Forbidden(Problem),
    #[response(
        status = 429,
        description = "Too much at once; Retry-After says when to ask again.",
        content_type = "application/problem+json"
    )]
    TooMany(Problem),
    #[response(
        status = 503,
        description = "The store is away, or the master starts or stops.",
        content_type = "application/problem+json"
    )]
    Unavailable(Problem),
    #[response(
        status = 504,
        description = "The node, or the master itself, has not answered in time.",
        content_type = "application/problem+json"
    )]
    Late(Problem),
}

/// What a route that changes something, or names one thing, may answer besides.
#[derive(Debug, utoipa::IntoResponses)]
#[allow(dead_code, reason = "read by the document alone")]
pub(crate) enum Refusals {
    #[response(
        status = 404,
        description = "There is no such thing.",
        content_type = "application/problem+json"
    )]
    NotFound(Problem),
    #[response(
        status = 408,
        description = "The body was not complete in time.",
        content_type = "application/problem+json"
    )]
    TooSlow(Problem),
    #[response(
        status = 409,
        description = "Its state does not allow it.",
        content_type = "application/problem+json"
    )]
    Conflict(Problem),
    #[response(
        status = 412,
        description = "It is not what `If-Match` names any more.",
        content_type = "application/problem+json"
    )]
    Outdated(Problem),
    #[response(
        status = 413,
        description = "The body is too large.",
        content_type = "application/problem+json"
    )]
    TooLarge(Problem),
    #[response(
        status = 415,
        description = "The body is not JSON.",
        content_type = "application/problem+json"
    )]
    NotJson(Problem),
    #[response(
        status = 422,
        description = "The body is JSON of another shape.",
        content_type = "application/problem+json"
    )]
    WrongShape(Problem),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_status() {
        for (code, reason, status) in [
            (Code::InvalidArgument, "BadFilter", 400),
            (Code::Unauthenticated, "CertificateRequired", 401),
            (Code::PermissionDenied, "RoleNotAllowed", 403),
            (Code::NotFound, "NoSuchNode", 404),
            (Code::AlreadyExists, "UserExists", 409),
            (Code::FailedPrecondition, "WrongStatus", 409),
            (Code::Unavailable, "NotConnected", 409),
            (Code::Aborted, "GenerationOutdated", 412),
            (Code::ResourceExhausted, "TooManyBytes", 413),
            (Code::ResourceExhausted, "TooManyTokens", 429),
            (Code::Unavailable, "StoreUnavailable", 503),
        ] {
            assert_eq!(http_status(code, reason), status, "{code:?} {reason}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_show_and_when_to_come_back() {
        let header = |status, name| {
            let response = Problem::new(status, "X", "x").into_response();
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let challenge = header(StatusCode::UNAUTHORIZED, header::WWW_AUTHENTICATE);
        assert!(challenge.unwrap().starts_with("Bearer"));
        assert!(header(StatusCode::TOO_MANY_REQUESTS, header::RETRY_AFTER).is_some());
        assert_eq!(header(StatusCode::NOT_FOUND, header::RETRY_AFTER), None);
    }
}
