//! Sessions of the console: a cookie for an API token, or for a code of `piccolo console`.

use axum::http::{HeaderValue, header};
use piccolo_core::{api_server::Call, model::CredentialKind, state_manager::SESSION_IDLE_MAX};
use piccolo_rpc::{
    convert::timestamp,
    v1::{self, api_server_service_server::ApiServerService as _},
    view::time,
};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Done, Shown,
    asker::{Asker, AtTheDoor, COOKIE, Proof},
    body::Small,
    problem::{Problem, Problems, Refusals},
};

/// One of the two.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SignIn {
    /// An API token.
    Token(String),
    /// Of `POST session/code`, or what `piccolo console` has shown.
    Code(String),
}

/// Who asks, and what they may.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct WhoAmI {
    /// As the audit log has it.
    who: String,
    /// `viewer`, `operator` or `admin`.
    role: String,
    /// `certificate`, `api-token` or `session`.
    proof: &'static str,
    /// The session, API token or certificate ends then, whatever happens.
    expires_at: Option<String>,
    /// The session ends when it was not used for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_seconds: Option<u64>,
}

/// Sign in: an API token or a code becomes the cookie of a session.
#[utoipa::path(
    post,
    path = "/session",
    tag = "session",
    request_body = SignIn,
    security(()),
    responses(
        (status = 201, description = "The session; Set-Cookie has its secret.", body = WhoAmI),
        (status = 408, description = "The body was not complete in time.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Too large.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "JSON of another shape.", body = Problem, content_type = "application/problem+json"),
        Problems
    )
)]
pub(super) async fn sign_in(
    AtTheDoor(asker): AtTheDoor,
    Small(shown): Small<SignIn>,
) -> Answer<WhoAmI> {
    let (kind, secret) = match shown {
        SignIn::Token(secret) => (CredentialKind::ApiToken, secret),
        SignIn::Code(secret) => (CredentialKind::Code, secret),
    };
    let by = asker.api.identify(kind, &secret, asker.by.from.clone()).await?;
    let (secret, record) = asker.api.open_session(by.clone()).await?;
    asker.vouch();
    let mut shown = Shown::created(WhoAmI {
        who: by.who(),
        role: by.role.to_string(),
        proof: "session",
        expires_at: time(Some(&timestamp(record.expires_at))),
        idle_seconds: Some(SESSION_IDLE_MAX.as_secs()),
    });
    shown.headers.insert(header::SET_COOKIE, cookie(&secret, ""));
    Ok(shown)
}

/// A code, shown this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CreatedCode {
    code: String,
    /// The console, below the address that was asked. What lies behind `#` goes into no log of a server.
    path: String,
    expires_at: Option<String>,
}

/// Make a code that opens one session of whoever asks, within a minute.
#[utoipa::path(
    post,
    path = "/session/code",
    tag = "session",
    responses((status = 201, description = "The code.", body = CreatedCode), Refusals, Problems)
)]
pub(super) async fn create_code(asker: Asker) -> Answer<CreatedCode> {
    let opened = asker.api.open_console(asker.request(v1::OpenConsoleRequest {})).await?;
    let v1::OpenConsoleResponse { code, expires_at, .. } = opened.into_inner();
    let path = format!("/#code={code}");
    let expires_at = time(expires_at.as_ref());
    Ok(Shown::created(CreatedCode { code, path, expires_at }))
}

/// Who am I?
#[utoipa::path(
    get,
    path = "/session",
    tag = "session",
    responses((status = 200, description = "Who asks.", body = WhoAmI), Problems)
)]
pub(super) async fn who_am_i(asker: Asker) -> Answer<WhoAmI> {
    // each page asks before anybody has signed in: nothing was tried, and nothing goes into the audit log
    if matches!(asker.proof, Proof::Nothing) {
        return Err(Problem::of_a_stranger("nobody is signed in"));
    }
    asker.api.check(&asker.by, Call::GetSession).await?;
    let (proof, idle_seconds) = match asker.proof {
        Proof::ApiToken(_) => ("api-token", None),
        Proof::Session(_) => ("session", Some(SESSION_IDLE_MAX.as_secs())),
        Proof::Certificate | Proof::Nothing => ("certificate", None),
    };
    let (who, role) = (asker.by.who(), asker.by.role.to_string());
    let expires_at = time(asker.by.expires_at.map(timestamp).as_ref());
    Ok(Shown::ok(WhoAmI { who, role, proof, expires_at, idle_seconds }))
}

/// Sign out.
#[utoipa::path(
    delete,
    path = "/session",
    tag = "session",
    responses(
        (status = 200, description = "The session is over.", body = Done),
        (status = 409, description = "There is no session.", body = Problem, content_type = "application/problem+json"),
        Problems
    )
)]
pub(super) async fn sign_out(asker: Asker) -> Answer<Done> {
    asker.api.close_session(asker.by).await?;
    let mut shown = Shown::ok(Done {});
    shown.headers.insert(header::SET_COOKIE, cookie("", "; Max-Age=0"));
    Ok(shown)
}

/// For this host alone, never for a script and never for another page.
fn cookie(secret: &str, more: &str) -> HeaderValue {
    let text = format!("{COOKIE}={secret}; Path=/; Secure; HttpOnly; SameSite=Strict{more}");
    // our own hexadecimal digits
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
