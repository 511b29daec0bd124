//! Who asks over HTTP, and how their question becomes the call that gRPC's callers make.
//!
//! A route makes the same request as `piccolo` does, and has it answered by the same function: role table, audit, limits
//! and figures are the call's own.

use axum::{
    extract::{FromRequestParts, Path, Query, rejection::PathRejection},
    http::{StatusCode, request::Parts},
};
use piccolo_core::api_server::Caller;
use piccolo_rpc::tls::acceptor::PeerInfo;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::api_server::{Api, caller::caller_of};

/// The one that asks.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) api: Api,
    pub(super) by: Caller,
    peer: Option<PeerInfo>,
}

impl Asker {
    /// The call's request, as if it had come over gRPC.
    pub(super) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.extensions_mut().insert(self.by.clone());
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        request
    }
}

impl FromRequestParts<Api> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<PeerInfo>().cloned();
        let by = caller_of(peer.as_ref(), api.clock.seconds());
        Ok(Self { api: api.clone(), by, peer })
    }
}

/// The parameters behind `?`.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, api).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => {
                Err(Problem::new(StatusCode::BAD_REQUEST, "BadParameters", error.body_text()))
            }
        }
    }
}

/// What a path names: one thing, by id or name.
#[derive(Debug)]
pub(super) struct Named<T = String>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, api).await;
        match path {
            Ok(Path(name)) => Ok(Self(name)),
            Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, "BadPath", error.body_text())),
        }
    }
}
