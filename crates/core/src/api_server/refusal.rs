//! A refusal: a sentence for the operator and a fact for the caller.

use std::fmt;

use crate::model::FieldError;

/// As gRPC has them; `piccolo_rpc` maps them one to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    Aborted,
    ResourceExhausted,
    Unavailable,
}

/// Why a request was not carried out. Nothing was changed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// One CamelCase word for programs, e.g. `TokenExpired`.
    pub reason: &'static str,
    pub message: String,
    /// The field that is wrong, where one is.
    pub field: Option<String>,
    /// What to do about it.
    pub help: Option<&'static str>,
    /// Seconds until it is worth asking again, where that is known.
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), field: None, help: None, retry_after_s: None }
    }

    #[must_use]
    pub fn help(self, help: &'static str) -> Self {
        Self { help: Some(help), ..self }
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self {
            message: error.to_string(),
            field: Some(error.field),
            ..Self::new(Code::InvalidArgument, "InvalidField", "")
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
