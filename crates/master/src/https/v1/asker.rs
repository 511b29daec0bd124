//! Who asks over HTTP, and how their question becomes the call that gRPC's callers make.
//!
//! Whoever asks shows an API token, a client certificate or the cookie of a session, looked at in this order. A route makes
//! the same request as `piccolo` does, and has it answered by the same function: role table, audit, limits and figures
//! are the call's own.

use axum::{
    extract::{
        FromRequestParts, Path, Query,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use piccolo_core::{
    api_server::{Call, Caller, Role},
    model::CredentialKind,
};
use piccolo_rpc::tls::acceptor::PeerInfo;
use serde::de::DeserializeOwned;

use super::{problem::Problem, tags::if_match};
use crate::api_server::{
    Api,
    caller::{OnlyAt, caller_of},
};

/// Of a session. The prefix holds browsers to `Secure`, to `Path=/` and to this very host.
pub(super) const COOKIE: &str = "__Host-piccolo";
/// A page of another origin cannot send it without asking first, and is never allowed to.
pub(super) const CSRF_HEADER: &str = "x-piccolo-csrf";

/// The one that asks.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(super) api: Api,
    pub(crate) by: Caller,
    pub(super) proof: Proof,
    /// Of a change that is asked for on a condition.
    only_at: Option<OnlyAt>,
    peer: Option<PeerInfo>,
}

/// How somebody has shown who they are.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    Nothing,
    Certificate,
    ApiToken(Secret),
    Session(Secret),
}

/// What was shown; no log has it.
#[derive(Clone)]
pub(super) struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Asker {
    /// The call's request, as if it had come over gRPC.
    pub(super) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.extensions_mut().insert(self.by.clone());
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        if let Some(only_at) = &self.only_at {
            request.extensions_mut().insert(only_at.clone());
        }
        request
    }

    /// Whether what was shown is good still. Then the connection may stay.
    pub(super) async fn recheck(&self) -> Result<(), Problem> {
        let from = self.by.from.clone();
        match &self.proof {
            Proof::Nothing | Proof::Certificate => {}
            Proof::ApiToken(secret) => {
                self.api.identify(CredentialKind::ApiToken, &secret.0, from).await?;
            }
            Proof::Session(secret) => {
                self.api.identify(CredentialKind::Session, &secret.0, from).await?;
            }
        }
        self.vouch();
        Ok(())
    }

    /// Whether they may make the call now, as if they did.
    pub(super) fn may(&self, call: Call) -> impl Future<Output = Result<(), Problem>> + use<> {
        let (api, by) = (self.api.clone(), self.by.clone());
        async move { Ok(api.check(&by, call).await?) }
    }

    pub(super) fn vouch(&self) {
        if let Some(peer) = &self.peer {
            peer.vouch();
        }
    }
}

impl FromRequestParts<Api> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let AtTheDoor(mut asker) = AtTheDoor::from_request_parts(parts, api).await?;
        let from = asker.by.from.clone();
        if let Some(token) = bearer(&parts.headers)? {
            asker.by = api.identify(CredentialKind::ApiToken, token, from).await?;
            asker.proof = Proof::ApiToken(Secret(token.to_owned()));
            asker.vouch();
        } else if asker.by.role != Role::Anonymous {
            asker.proof = Proof::Certificate;
        } else if let Some(session) = cookie(&parts.headers) {
            if !parts.method.is_safe() && !parts.headers.contains_key(CSRF_HEADER) {
                let detail = format!(
                    "a session's requests that change something need the header {CSRF_HEADER}"
                );
                return Err(Problem::new(StatusCode::FORBIDDEN, "CsrfHeaderMissing", detail));
            }
            asker.by = api.identify(CredentialKind::Session, session, from).await?;
            asker.proof = Proof::Session(Secret(session.to_owned()));
            asker.vouch();
        }
        if asker.by.role.is_user() {
            parts.extensions.insert(Known);
        }
        Ok(asker)
    }
}

/// Beside a request of somebody who has a role here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known;

/// Whoever knocks, by the connection alone: to sign in nothing else counts, and least a session that is over.
#[derive(Debug)]
pub(super) struct AtTheDoor(pub(super) Asker);

impl FromRequestParts<Api> for AtTheDoor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let mut only_at = None;
        if !parts.method.is_safe() {
            check_origin(parts)?;
            only_at = if_match(&parts.headers).map(OnlyAt);
        }
        let peer = parts.extensions.get::<PeerInfo>().cloned();
        let by = caller_of(peer.as_ref(), api.clock.seconds());
        Ok(Self(Asker { api: api.clone(), by, proof: Proof::Nothing, only_at, peer }))
    }
}

/// A browser says for which page it asks: only our own may change anything, with whatever right the browser has.
fn check_origin(parts: &Parts) -> Result<(), Problem> {
    let Some(origin) = parts.headers.get(header::ORIGIN) else { return Ok(()) };
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = parts.uri.authority().map(|authority| authority.as_str()).or(host);
    let own = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://"));
    if own.is_some() && own == host {
        return Ok(());
    }
    let detail = "a page of another origin may not change anything here";
    Err(Problem::new(StatusCode::FORBIDDEN, "ForeignOrigin", detail))
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if !token.is_empty() => Ok(Some(token)),
        Some(_) | None => {
            let detail = "Authorization is not of the form: Bearer TOKEN";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "BadAuthorization", detail))
        }
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| name.trim() == COOKIE).map(|(_, value)| value.trim())
}

/// The parameters behind `?`.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, api).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(bad_parameters(&error)),
        }
    }
}

/// One that is not known is named, and so are those that are.
pub(super) fn bad_parameters(error: &QueryRejection) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "BadParameters", error.body_text())
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

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};

    use super::*;

    fn parts(headers: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::try_from(*value).unwrap());
        }
        request.into_parts().0
    }

    #[test]
    fn only_pages_of_this_very_host_may_change_anything() {
        let check =
            |origin| check_origin(&parts(&[("host", "m:8443"), ("origin", origin)])).is_ok();
        assert!(check("https://m:8443"));
        for foreign in ["https://m", "http://m:8443", "https://evil.example", "null", ""] {
            assert!(!check(foreign), "{foreign}");
        }
        assert!(check_origin(&parts(&[("host", "m:8443")])).is_ok(), "no browser");
    }

    #[test]
    fn a_token_and_a_cookie_are_found_among_others() {
        let find = |value| {
            bearer(&parts(&[("authorization", value)]).headers).map(|t| t.map(str::to_owned))
        };
        assert_eq!(find("Bearer abc"), Ok(Some("abc".to_owned())));
        assert_eq!(find("bearer  abc "), Ok(Some("abc".to_owned())));
        for bad in ["Basic YTpi", "Bearer", "Bearer ", ""] {
            assert!(find(bad).is_err(), "{bad:?}");
        }
        let headers =
            parts(&[("cookie", "a=b; __Host-piccoloX=1"), ("cookie", "__Host-piccolo=s")]);
        assert_eq!(cookie(&headers.headers), Some("s"));
        assert_eq!(cookie(&parts(&[("cookie", "piccolo=s;;=")]).headers), None);
    }
}
