//! Tokens, API tokens, users and the audit log (HLD §9).

use axum::response::Response;
use piccolo_core::api_server::Call;
use piccolo_rpc::{
    v1::{self, api_server_service_server::ApiServerService as _},
    view::access::{ApiTokenView, EntryView, TokenView, UserView, VerifiedView},
};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Done, Shown,
    asker::{Asker, Named, Params},
    body::Digested,
    once::Once,
    page::{Page, PageParams, check_limit},
    problem::{Problem, Problems, Refusals},
    reads::OrderParam,
};

/// What a board becomes.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum NodeRole {
    Master,
    Sub,
}

/// What a person or a program may.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum UserRole {
    Viewer,
    Operator,
    Admin,
}

impl UserRole {
    fn wire(self) -> i32 {
        let role = match self {
            Self::Viewer => v1::UserRole::Viewer,
            Self::Operator => v1::UserRole::Operator,
            Self::Admin => v1::UserRole::Admin,
        };
        role.into()
    }
}

/// A join token that is wanted.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    role: NodeRole,
    /// Absent: an hour; a year at most.
    #[serde(default)]
    ttl_seconds: u32,
    /// Absent: 1; 1000 at most.
    #[serde(default)]
    uses: u32,
    /// Only the board of this host name may join with it.
    #[serde(default)]
    node_name: String,
}

/// A join token, shown this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CreatedToken {
    token: String,
    info: TokenView,
}

/// Make a token with which boards join.
#[utoipa::path(post, path = "/tokens", tag = "access", request_body = NewToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same again is not carried out twice.")),
    responses((status = 201, description = "The token.", body = CreatedToken), Refusals, Problems))]
pub(super) async fn create_token(
    asker: Asker,
    once: Once,
    Digested(given, digest): Digested<NewToken>,
) -> Result<Response, Problem> {
    let (who, may) = (asker.by.who(), asker.may(Call::CreateToken));
    once.carry_out(who, digest, may, make_token(asker, given)).await
}

async fn make_token(asker: Asker, given: NewToken) -> Answer<CreatedToken> {
    let request = asker.request(v1::CreateTokenRequest {
        role: match given.role {
            NodeRole::Master => v1::NodeRole::Master.into(),
            NodeRole::Sub => v1::NodeRole::Sub.into(),
        },
        ttl_seconds: given.ttl_seconds,
        uses: given.uses,
        node_name: given.node_name,
    });
    let answer = asker.api.create_token(request).await?.into_inner();
    let info = TokenView::from(&answer.info.unwrap_or_default());
    Ok(Shown::created(CreatedToken { token: answer.token, info }))
}

/// Tokens with which boards join.
#[utoipa::path(get, path = "/tokens", tag = "access", params(PageParams),
    responses((status = 200, description = "A page of them.", body = Page<TokenView>), Problems))]
pub(super) async fn list_tokens(
    asker: Asker,
    Params(page): Params<PageParams>,
) -> Answer<Page<TokenView>> {
    let tokens = asker.api.list_tokens(asker.request(v1::ListTokensRequest {})).await?.into_inner();
    let revision = asker.api.board.revision();
    Page::of(tokens.tokens, revision, &page, |token| &token.id, |token| TokenView::from(token))
        .map(Shown::ok)
}

/// Make a token worthless; nodes that joined with it stay.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "access",
    params(("id" = String, Path, description = "As the list has it.")),
    responses((status = 200, description = "It is worthless.", body = Done), Refusals, Problems))]
pub(super) async fn revoke_token(asker: Asker, Named(id): Named) -> Answer<Done> {
    asker.api.revoke_token(asker.request(v1::RevokeTokenRequest { id })).await?;
    Ok(Shown::ok(Done {}))
}

/// An API token that is wanted.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewApiToken {
    name: String,
    role: UserRole,
    /// Absent: 30 days; a year at most.
    #[serde(default)]
    ttl_seconds: u32,
}

/// An API token, shown this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CreatedApiToken {
    token: String,
    info: ApiTokenView,
}

/// Make an API token, with which a program asks here.
#[utoipa::path(post, path = "/api-tokens", tag = "access", request_body = NewApiToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same again is not carried out twice.")),
    responses((status = 201, description = "The token.", body = CreatedApiToken), Refusals, Problems))]
pub(super) async fn create_api_token(
    asker: Asker,
    once: Once,
    Digested(given, digest): Digested<NewApiToken>,
) -> Result<Response, Problem> {
    let (who, may) = (asker.by.who(), asker.may(Call::CreateApiToken));
    once.carry_out(who, digest, may, make_api_token(asker, given)).await
}

async fn make_api_token(asker: Asker, given: NewApiToken) -> Answer<CreatedApiToken> {
    let request = asker.request(v1::CreateApiTokenRequest {
        name: given.name,
        role: given.role.wire(),
        ttl_seconds: given.ttl_seconds,
    });
    let answer = asker.api.create_api_token(request).await?.into_inner();
    let info = ApiTokenView::from(&answer.info.unwrap_or_default());
    Ok(Shown::created(CreatedApiToken { token: answer.token, info }))
}

/// API tokens; their secrets are known to nobody.
#[utoipa::path(get, path = "/api-tokens", tag = "access", params(PageParams),
    responses((status = 200, description = "A page of them.", body = Page<ApiTokenView>), Problems))]
pub(super) async fn list_api_tokens(
    asker: Asker,
    Params(page): Params<PageParams>,
) -> Answer<Page<ApiTokenView>> {
    let request = asker.request(v1::ListApiTokensRequest {});
    let tokens = asker.api.list_api_tokens(request).await?.into_inner().tokens;
    let revision = asker.api.board.revision();
    Page::of(tokens, revision, &page, |token| &token.id, |token| ApiTokenView::from(token))
        .map(Shown::ok)
}

/// Make an API token worthless; its sessions end.
#[utoipa::path(delete, path = "/api-tokens/{token}", tag = "access",
    params(("token" = String, Path, description = "Name or id.")),
    responses((status = 200, description = "It is worthless.", body = Done), Refusals, Problems))]
pub(super) async fn revoke_api_token(asker: Asker, Named(token): Named) -> Answer<Done> {
    asker.api.revoke_api_token(asker.request(v1::RevokeApiTokenRequest { token })).await?;
    Ok(Shown::ok(Done {}))
}

/// A user who is wanted.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    name: String,
    role: UserRole,
    /// Absent: a year; five years at most.
    #[serde(default)]
    ttl_seconds: u32,
    /// PEM, made where the key stays.
    certificate_signing_request: String,
}

/// A user, and the certificate that stands for them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CreatedUser {
    user: UserView,
    /// PEM chain.
    certificate: String,
    /// PEM.
    ca_certificate: String,
}

/// Make a user.
#[utoipa::path(post, path = "/users", tag = "access", request_body = NewUser,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same again is not carried out twice.")),
    responses((status = 201, description = "The user.", body = CreatedUser), Refusals, Problems))]
pub(super) async fn create_user(
    asker: Asker,
    once: Once,
    Digested(given, digest): Digested<NewUser>,
) -> Result<Response, Problem> {
    let (who, may) = (asker.by.who(), asker.may(Call::CreateUser));
    once.carry_out(who, digest, may, make_user(asker, given)).await
}

async fn make_user(asker: Asker, given: NewUser) -> Answer<CreatedUser> {
    let request = asker.request(v1::CreateUserRequest {
        name: given.name,
        role: given.role.wire(),
        ttl_seconds: given.ttl_seconds,
        certificate_signing_request: given.certificate_signing_request.into_bytes(),
    });
    let answer = asker.api.create_user(request).await?.into_inner();
    Ok(Shown::created(CreatedUser {
        user: UserView::from(&answer.user.unwrap_or_default()),
        certificate: String::from_utf8(answer.certificate).unwrap_or_default(),
        ca_certificate: String::from_utf8(answer.ca_certificate).unwrap_or_default(),
    }))
}

/// Users.
#[utoipa::path(get, path = "/users", tag = "access", params(PageParams),
    responses((status = 200, description = "A page of them.", body = Page<UserView>), Problems))]
pub(super) async fn list_users(
    asker: Asker,
    Params(page): Params<PageParams>,
) -> Answer<Page<UserView>> {
    let users = asker.api.list_users(asker.request(v1::ListUsersRequest {})).await?.into_inner();
    let revision = asker.api.board.revision();
    Page::of(users.users, revision, &page, |user| &user.name, |user| UserView::from(user))
        .map(Shown::ok)
}

/// Make a user's certificate worthless; their connections and sessions end.
#[utoipa::path(delete, path = "/users/{name}", tag = "access",
    params(("name" = String, Path, description = "The name.")),
    responses((status = 200, description = "They may nothing any more.", body = Done), Refusals, Problems))]
pub(super) async fn revoke_user(asker: Asker, Named(name): Named) -> Answer<Done> {
    asker.api.revoke_user(asker.request(v1::RevokeUserRequest { name })).await?;
    Ok(Shown::ok(Done {}))
}

#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OutcomeParam {
    Ok,
    Refused,
}

/// Which entries.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParams {
    /// The oldest after this entry, instead of the newest.
    after: Option<u64>,
    /// With `order=desc`: the newest before this entry.
    #[param(minimum = 1)]
    before: Option<u64>,
    /// `asc`: in the order in which they were written; `desc`: the newest first, page by page back to the oldest.
    #[serde(default)]
    #[param(inline)]
    order: OrderParam,
    /// Entries at most.
    #[param(minimum = 1, maximum = 1000, default = 500)]
    limit: Option<u32>,
    /// A part of who it was.
    #[param(example = "token/ci")]
    who: Option<String>,
    /// What was done, or what was refused.
    #[param(inline)]
    outcome: Option<OutcomeParam>,
}

/// Entries, in the order that was asked for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AuditPage {
    items: Vec<EntryView>,
    /// The newest entry that there is, whether it is among these or not.
    revision: u64,
    /// The oldest entry that is kept.
    first_kept_id: u64,
    /// For `after`, or with `order=desc` for `before`, where there may be more.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    go_on: Option<u64>,
}

/// The newest entries of the audit log, or those after one or before one.
#[utoipa::path(get, path = "/audit", tag = "access", params(AuditParams),
    responses((status = 200, description = "Entries.", body = AuditPage), Problems))]
pub(super) async fn list_audit(
    asker: Asker,
    Params(params): Params<AuditParams>,
) -> Answer<AuditPage> {
    params.order.check(params.after, params.before)?;
    let limit = check_limit(params.limit)?;
    let outcome = match params.outcome {
        None => "",
        Some(OutcomeParam::Ok) => "ok",
        Some(OutcomeParam::Refused) => "refused",
    };
    let request = asker.request(v1::ListAuditRequest {
        after_id: params.after.unwrap_or(0),
        limit: limit as u32,
        newest: params.after.is_none(),
        before_id: params.before.unwrap_or(0),
        who: params.who.unwrap_or_default(),
        outcome: outcome.to_owned(),
    });
    let listed = asker.api.list_audit(request).await?.into_inner();
    let (first_kept_id, last_id) = (listed.first_kept_id, listed.last_id);
    let kept = (first_kept_id, last_id);
    let (entries, go_on) =
        params.order.page(listed.entries, |entry| entry.id, kept, limit, params.after);
    Ok(Shown::ok(AuditPage {
        items: entries.iter().map(EntryView::from).collect(),
        revision: last_id,
        first_kept_id,
        go_on,
    }))
}

/// Read the whole audit log: does each entry link to the one before it?
#[utoipa::path(post, path = "/audit/verify", tag = "access",
    responses((status = 200, description = "Whether it is intact.", body = VerifiedView), Problems))]
pub(super) async fn verify_audit(asker: Asker) -> Answer<VerifiedView> {
    let answer = asker.api.verify_audit(asker.request(v1::VerifyAuditRequest {})).await?;
    Ok(Shown::ok(VerifiedView::from(&answer.into_inner())))
}
