//! Refusals as gRPC statuses with `google.rpc` details, and back (design §6, §12).
//!
//! A status carries an ErrorInfo (`reason`, domain `piccolo`), a BadRequest where one field is to blame and a
//! Help with what to do about it, and a RetryInfo where it is known when. The messages of `google.rpc` are written here by
//! hand: the four of them are smaller than the crate that has them all.

use piccolo_core::{
    api_server::{Code, Refusal},
    model::FieldError,
};
use prost::Message;
use prost_types::Any;
use tonic::Status;

/// Of every ErrorInfo of ours.
pub const DOMAIN: &str = "piccolo";
/// Bytes of encoded details at most: they travel in a header, and headers are bounded.
const DETAILS_BYTES_MAX: usize = 4096;
/// Bytes of a message at most, for the same reason.
const MESSAGE_BYTES_MAX: usize = 1024;

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const HELP: &str = "type.googleapis.com/google.rpc.Help";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// What a client learns from a status, ours or any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorView {
    pub code: tonic::Code,
    /// One CamelCase word for programs; empty where the status is not PICCOLO's.
    pub reason: String,
    pub message: String,
    /// The field that is wrong, where one is.
    pub field: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// Seconds until it is worth asking again, where that is known.
    pub retry_after_s: Option<u64>,
}

/// The one place where a refusal becomes a gRPC code.
#[must_use]
pub fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::Aborted => tonic::Code::Aborted,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
    }
}

/// A refusal for the wire.
#[must_use]
pub fn status(refusal: &Refusal) -> Status {
    let code = grpc_code(refusal.code);
    let info = ErrorInfo { reason: refusal.reason.to_owned(), domain: DOMAIN.to_owned() };
    let mut details = vec![packed(ERROR_INFO, &info)];
    if let Some(field) = &refusal.field {
        let description = bounded(&refusal.message);
        let violation = FieldViolation { field: bounded(field), description };
        details.push(packed(BAD_REQUEST, &BadRequest { field_violations: vec![violation] }));
    }
    if let Some(help) = refusal.help {
        let link = HelpLink { description: help.to_owned(), url: String::new() };
        details.push(packed(HELP, &Help { links: vec![link] }));
    }
    if let Some(seconds) = refusal.retry_after_s.and_then(|seconds| seconds.try_into().ok()) {
        let retry_delay = Some(prost_types::Duration { seconds, nanos: 0 });
        details.push(packed(RETRY_INFO, &RetryInfo { retry_delay }));
    }
    let message = bounded(&refusal.message);
    let rpc = RpcStatus { code: code.into(), message: message.clone(), details };
    let encoded = rpc.encode_to_vec();
    if encoded.len() > DETAILS_BYTES_MAX {
        return Status::new(code, message);
    }
    Status::with_details(code, message, encoded.into())
}

/// A field of a message that could not be converted.
#[must_use]
pub fn field_status(error: FieldError) -> Status {
    status(&error.into())
}

impl From<&Status> for ErrorView {
    /// Details that cannot be read, or are not ours, are left out.
    fn from(status: &Status) -> Self {
        let mut view = Self {
            code: status.code(),
            reason: String::new(),
            message: status.message().to_owned(),
            field: None,
            help: None,
            retry_after_s: None,
        };
        let details = match status.details() {
            bytes if bytes.len() <= DETAILS_BYTES_MAX => RpcStatus::decode(bytes),
            _ => return view,
        };
        for detail in details.map(|status| status.details).unwrap_or_default() {
            match detail.type_url.as_str() {
                ERROR_INFO => {
                    let info = ErrorInfo::decode(detail.value.as_slice()).unwrap_or_default();
                    if info.domain == DOMAIN {
                        view.reason = info.reason;
                    }
                }
                BAD_REQUEST => {
                    let bad = BadRequest::decode(detail.value.as_slice()).unwrap_or_default();
                    view.field = bad.field_violations.into_iter().next().map(|v| v.field);
                }
                HELP => {
                    let help = Help::decode(detail.value.as_slice()).unwrap_or_default();
                    view.help = help.links.into_iter().next().map(|link| link.description);
                }
                RETRY_INFO => {
                    let info = RetryInfo::decode(detail.value.as_slice()).unwrap_or_default();
                    view.retry_after_s = info.retry_delay.and_then(|d| d.seconds.try_into().ok());
                }
                _ => {}
            }
        }
        view
    }
}

fn packed(type_url: &str, message: &impl Message) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`, without its metadata.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

/// `google.rpc.Help`.
#[derive(Clone, PartialEq, Message)]
struct Help {
    #[prost(message, repeated, tag = "1")]
    links: Vec<HelpLink>,
}

#[derive(Clone, PartialEq, Message)]
struct HelpLink {
    #[prost(string, tag = "1")]
    description: String,
    #[prost(string, tag = "2")]
    url: String,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_client_gets_back_all_that_a_refusal_says() {
        let refusal = Refusal {
            field: Some("node_id".to_owned()),
            retry_after_s: Some(60),
            ..Refusal::new(Code::NotFound, "NoSuchNode", "node_id: there is no node \"x\"")
        }
        .help("piccolo node list");
        let view = ErrorView::from(&status(&refusal));
        assert_eq!(view.code, tonic::Code::NotFound);
        assert_eq!(view.reason, "NoSuchNode");
        assert_eq!(view.message, refusal.message);
        assert_eq!(view.field, refusal.field);
        assert_eq!(view.help.as_deref(), refusal.help);
        assert_eq!(view.retry_after_s, Some(60));
    }

    #[test]
    fn a_status_of_somebody_else_is_read_as_far_as_it_goes() {
        let view = ErrorView::from(&Status::unavailable("no route"));
        assert_eq!(view.message, "no route");
        assert_eq!((view.reason.as_str(), view.field, view.help), ("", None, None));
    }

    #[test]
    fn a_huge_message_still_fits_a_header() {
        let field = FieldError::new("é".repeat(5000), "is too long");
        let status = field_status(field);
        assert!(status.message().len() <= MESSAGE_BYTES_MAX);
        assert!(status.details().len() <= DETAILS_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn details_of_any_bytes_are_read_or_left(bytes: Vec<u8>) {
            let status = Status::with_details(tonic::Code::Internal, "x", bytes.into());
            prop_assert_eq!(ErrorView::from(&status).message, "x");
        }
    }
}
