//! API tokens, codes and sessions (HLD §9.1.3). Secrets are made here and shown once; the machine sees hashes only.

use std::time::Duration;

use piccolo_core::{
    api_server::{Call, Caller, Code, Refusal},
    hex::hex,
    model::{CredentialKind, CredentialRecord, UserName, check_text},
    state_manager::{Answer, Request},
};
use piccolo_rpc::{convert::user_role, v1};
use ring::digest::{SHA256, digest};
use tonic::{Request as Asked, Response, Status};

use super::{
    Answered, Api,
    caller::{DEADLINE, unexpected},
};
use crate::state_manager::CallError;

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Bytes of what somebody shows at most; ours are shorter.
const SHOWN_BYTES_MAX: usize = 256;

/// A new secret and its hash.
struct Secret {
    text: String,
    hash: String,
}

impl Secret {
    /// The prefix says what it is to whoever finds it where it should not be.
    fn generate(kind: CredentialKind) -> Result<Self, Status> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|_| Status::internal("the operating system gave no random bytes"))?;
        let prefix = match kind {
            CredentialKind::ApiToken => "piccolo_api_",
            CredentialKind::Code => "piccolo_code_",
            CredentialKind::Session => "piccolo_session_",
        };
        let text = format!("{prefix}{}", hex(&bytes));
        Ok(Self { hash: hash(&text), text })
    }
}

fn hash(secret: &str) -> String {
    hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

impl Api {
    /// Who shows this secret.
    ///
    /// # Errors
    /// It is not good, or its address has guessed too often; audited.
    pub(crate) async fn identify(
        &self,
        kind: CredentialKind,
        secret: &str,
        from: String,
    ) -> Result<Caller, Status> {
        if secret.len() > SHOWN_BYTES_MAX {
            let refusal =
                Refusal::new(Code::Unauthenticated, "TooLong", "that is no secret of ours");
            return Err(piccolo_rpc::status::status(&refusal));
        }
        let found = self.state.identify(kind, hash(secret), from).await;
        found.map_err(|error| self.failed(Call::OpenSession, error))
    }

    /// Opens a session for whoever has shown an API token or a code; the secret is for the cookie.
    pub(crate) async fn open_session(
        &self,
        by: Caller,
    ) -> Result<(String, CredentialRecord), Status> {
        let call = Call::OpenSession;
        let secret = Secret::generate(CredentialKind::Session)?;
        let request = Request::OpenSession { hash: secret.hash };
        let answer = self.ask(by, call, request, DEADLINE).await?;
        let Answer::Credential(record) = answer else { return Err(unexpected(call)) };
        Ok((secret.text, record))
    }

    pub(crate) async fn close_session(&self, by: Caller) -> Result<(), Status> {
        self.ask(by, Call::CloseSession, Request::CloseSession, DEADLINE).await.map(drop)
    }

    /// Whether whoever asks is somebody, and still is.
    pub(crate) async fn check(&self, by: &Caller, call: Call) -> Result<(), Status> {
        let checked: Result<(), CallError> = self.state.check(by.clone(), call).await;
        checked.map_err(|error| self.failed(call, error))?;
        self.figures.called(call.name(), tonic::Code::Ok);
        Ok(())
    }
}

pub(super) async fn create_api_token(
    api: &Api,
    request: Asked<v1::CreateApiTokenRequest>,
) -> Answered<v1::CreateApiTokenResponse> {
    let call = Call::CreateApiToken;
    let Secret { text, hash } = Secret::generate(CredentialKind::ApiToken)?;
    let convert = |w: v1::CreateApiTokenRequest| {
        let name = UserName::parse("name", &w.name)?;
        let role = user_role("role", w.role)?;
        let ttl = Duration::from_secs(w.ttl_seconds.into());
        Ok(Request::CreateApiToken { name, role, ttl, hash })
    };
    let answer = api.call(request, call, convert).await?;
    let Answer::Credential(record) = answer else { return Err(unexpected(call)) };
    Ok(Response::new(v1::CreateApiTokenResponse { token: text, info: Some(record.into()) }))
}

pub(super) async fn list_api_tokens(
    api: &Api,
    request: Asked<v1::ListApiTokensRequest>,
) -> Answered<v1::ListApiTokensResponse> {
    let call = Call::ListApiTokens;
    let answer = api.call(request, call, |_| Ok(Request::ListApiTokens)).await?;
    let Answer::Credentials(records) = answer else { return Err(unexpected(call)) };
    let tokens = records.into_iter().map(Into::into).collect();
    Ok(Response::new(v1::ListApiTokensResponse { tokens }))
}

pub(super) async fn revoke_api_token(
    api: &Api,
    request: Asked<v1::RevokeApiTokenRequest>,
) -> Answered<v1::RevokeApiTokenResponse> {
    let convert = |w: v1::RevokeApiTokenRequest| {
        check_text("token", &w.token, 128)?;
        Ok(Request::RevokeApiToken(w.token))
    };
    api.call(request, Call::RevokeApiToken, convert).await?;
    Ok(Response::new(v1::RevokeApiTokenResponse {}))
}

pub(super) async fn open_console(
    api: &Api,
    request: Asked<v1::OpenConsoleRequest>,
) -> Answered<v1::OpenConsoleResponse> {
    let call = Call::OpenConsole;
    let Secret { text, hash } = Secret::generate(CredentialKind::Code)?;
    let answer = api.call(request, call, |_| Ok(Request::OpenConsole { hash })).await?;
    let Answer::Credential(record) = answer else { return Err(unexpected(call)) };
    Ok(Response::new(v1::OpenConsoleResponse {
        code: text,
        expires_at: Some(piccolo_rpc::convert::timestamp(record.expires_at)),
        https_port: api.connections.https_port().into(),
    }))
}
