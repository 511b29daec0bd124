//! Tokens, users and the log level (HLD §9). Secrets are made here: the machine has no randomness,
//! and sees hashes only.

use std::{sync::Arc, time::Duration};

use piccolo_core::{
    api_server::{Call, Refusal},
    log_level,
    model::{FieldError, NodeName, UserName, check_text},
    session::AgentCommand,
    state_manager::{Answer, Request, TokenRequest},
};
use piccolo_rpc::{
    convert::{node_role, user_role},
    tls::{
        names::{self, check_id},
        token::{JoinToken, hash_secret},
    },
    v1,
};
use tonic::{Request as Asked, Response, Status};

use super::{
    Answered, Api,
    caller::{DEADLINE, unexpected},
    nodes::named,
};
use crate::certificate_authority::{Issued, SignError, Subject};

/// Of a user's certificate, where the request says nothing; as the machine has it.
const USER_TTL_DEFAULT: Duration = Duration::from_secs(365 * 86_400);
/// Bytes of a log filter at most.
const FILTER_BYTES_MAX: usize = 1024;
/// The target of a log level that is this process and no node.
const MASTER: &str = "master";

pub(super) async fn create_token(
    api: &Api,
    request: Asked<v1::CreateTokenRequest>,
) -> Answered<v1::CreateTokenResponse> {
    let token = JoinToken::generate(api.authority.digest())
        .map_err(|error| Status::internal(error.to_string()))?;
    let hash = hash_secret(token.secret());
    let convert = |w: v1::CreateTokenRequest| {
        let node_name = match w.node_name.as_str() {
            "" => None,
            name => Some(NodeName::parse("node_name", name)?),
        };
        Ok(Request::CreateToken(TokenRequest {
            hash,
            role: node_role("role", w.role)?,
            ttl: Duration::from_secs(w.ttl_seconds.into()),
            uses: w.uses,
            node_name,
        }))
    };
    let answer = api.call(request, Call::CreateToken, convert).await?;
    let Answer::Token(record) = answer else { return Err(unexpected(Call::CreateToken)) };
    let info = Some(record.into());
    Ok(Response::new(v1::CreateTokenResponse { token: token.expose(), info }))
}

pub(super) async fn list_tokens(
    api: &Api,
    request: Asked<v1::ListTokensRequest>,
) -> Answered<v1::ListTokensResponse> {
    let answer = api.call(request, Call::ListTokens, |_| Ok(Request::ListTokens)).await?;
    let Answer::Tokens(tokens) = answer else { return Err(unexpected(Call::ListTokens)) };
    let tokens = tokens.into_iter().map(Into::into).collect();
    Ok(Response::new(v1::ListTokensResponse { tokens }))
}

pub(super) async fn revoke_token(
    api: &Api,
    request: Asked<v1::RevokeTokenRequest>,
) -> Answered<v1::RevokeTokenResponse> {
    let convert = |w: v1::RevokeTokenRequest| {
        check_text("id", &w.id, 128)?;
        Ok(Request::RevokeToken(w.id))
    };
    api.call(request, Call::RevokeToken, convert).await?;
    Ok(Response::new(v1::RevokeTokenResponse {}))
}

/// Signs first and asks then: the record carries the serial. What is not allowed is thrown away unseen.
pub(super) async fn create_user(
    api: &Api,
    request: Asked<v1::CreateUserRequest>,
) -> Answered<v1::CreateUserResponse> {
    let call = Call::CreateUser;
    let by = api.admit(&request, call).await?;
    let (request, issued) = match sign_user(api, request.into_inner()) {
        Ok(signed) => signed,
        Err(refusal) => return Err(api.refuse(by, call, refusal).await),
    };
    let answer = api.ask(by, call, request, DEADLINE).await?;
    let Answer::User(user) = answer else { return Err(unexpected(call)) };
    Ok(Response::new(v1::CreateUserResponse {
        user: Some(user.into()),
        certificate: issued.chain_pem.into_bytes(),
        ca_certificate: api.authority.certificate_pem().into_bytes(),
    }))
}

fn sign_user(api: &Api, wire: v1::CreateUserRequest) -> Result<(Request, Issued), Refusal> {
    let name = UserName::parse("name", &wire.name)?;
    check_id("name", name.as_str()).map_err(|error| FieldError::new("name", error.to_string()))?;
    let role = user_role("role", wire.role)?;
    let ttl = Duration::from_secs(wire.ttl_seconds.into());
    let subject = Subject {
        role: match wire.role() {
            v1::UserRole::Admin => names::Role::Admin,
            v1::UserRole::Operator => names::Role::Operator,
            v1::UserRole::Viewer | v1::UserRole::Unspecified => names::Role::Viewer,
        },
        id: name.as_str(),
        label: name.as_str(),
    };
    let life = if ttl.is_zero() { USER_TTL_DEFAULT } else { ttl };
    let request = &wire.certificate_signing_request;
    let issued = api.authority.sign_user(request, subject, life, api.clock.seconds());
    let issued = issued.map_err(|error| {
        if let SignError::Request(problem) = error {
            return FieldError::new("certificate_signing_request", problem.to_string());
        }
        FieldError::new("ttl_seconds", error.to_string())
    })?;
    let serial = issued.serial.clone();
    Ok((Request::CreateUser { name, role, ttl, serial }, issued))
}

pub(super) async fn list_users(
    api: &Api,
    request: Asked<v1::ListUsersRequest>,
) -> Answered<v1::ListUsersResponse> {
    let answer = api.call(request, Call::ListUsers, |_| Ok(Request::ListUsers)).await?;
    let Answer::Users(users) = answer else { return Err(unexpected(Call::ListUsers)) };
    let users = users.into_iter().map(Into::into).collect();
    Ok(Response::new(v1::ListUsersResponse { users }))
}

/// The certificate is worth nothing from the commit on; then the connections that use it end.
pub(super) async fn revoke_user(
    api: &Api,
    request: Asked<v1::RevokeUserRequest>,
) -> Answered<v1::RevokeUserResponse> {
    let name = request.get_ref().name.clone();
    let convert = |w: v1::RevokeUserRequest| {
        check_text("name", &w.name, 128)?;
        Ok(Request::RevokeUser(w.name))
    };
    api.call(request, Call::RevokeUser, convert).await?;
    Arc::clone(&api.connections).close_user_soon(name);
    Ok(Response::new(v1::RevokeUserResponse {}))
}

pub(super) async fn set_log_level(
    api: &Api,
    request: Asked<v1::SetLogLevelRequest>,
) -> Answered<v1::SetLogLevelResponse> {
    let call = Call::SetLogLevel;
    let v1::SetLogLevelRequest { target, filter, for_seconds } = request.get_ref().clone();
    let convert = |w: v1::SetLogLevelRequest| {
        check_text("filter", &w.filter, FILTER_BYTES_MAX)?;
        if w.filter.trim().is_empty() {
            return Err(FieldError::new("filter", "must not be empty").into());
        }
        let span = log_level::span(w.for_seconds);
        let span = span.map_err(|why| FieldError::new("for_seconds", why))?;
        // no node has to be asked what a filter is
        crate::logging::check(&w.filter).map_err(|why| FieldError::new("filter", why))?;
        if w.target == MASTER {
            let target = format!("{MASTER} {}", log_level::words(&w.filter, span));
            return Ok(Request::Allow { call, target });
        }
        let command = AgentCommand::SetLogLevel { filter: w.filter, span };
        Ok(Request::Command { node: named(w.target)?, command })
    };
    let answer = api.call(request, call, convert).await?;
    if let Answer::Command(message) = answer {
        return Ok(Response::new(v1::SetLogLevelResponse { message }));
    }
    if answer != Answer::Done || target != MASTER {
        return Err(unexpected(call));
    }
    let span = log_level::span(for_seconds).map_err(Status::invalid_argument)?;
    api.log_level.set(&filter, span).map_err(Status::internal)?;
    let words = log_level::words(&filter, span);
    tracing::info!(filter = words, "the log level was changed");
    let message = format!("the master logs {words}");
    Ok(Response::new(v1::SetLogLevelResponse { message }))
}
