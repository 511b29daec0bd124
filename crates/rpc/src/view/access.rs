//! Tokens, users and the audit log (HLD §9).

use piccolo_core::hex::hex;
use serde::Serialize;

use super::{time, words};
use crate::v1;

/// `piccolo token list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Tokens))]
pub struct TokensView {
    pub tokens: Vec<TokenView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Token))]
pub struct TokenView {
    pub id: String,
    pub role: String,
    pub created_at: Option<String>,
    pub expires_at: Option<String>,
    pub uses_left: u32,
    /// The host name it is bound to.
    pub node_name: Option<String>,
    pub created_by: String,
    /// Ids of the nodes that joined with it.
    pub used_by: Vec<String>,
}

impl From<&v1::JoinToken> for TokenView {
    fn from(token: &v1::JoinToken) -> Self {
        Self {
            id: token.id.clone(),
            role: words::role(token.role),
            created_at: time(token.created_at.as_ref()),
            expires_at: time(token.expires_at.as_ref()),
            uses_left: token.uses_left,
            node_name: Some(token.node_name.clone()).filter(|name| !name.is_empty()),
            created_by: token.created_by.clone(),
            used_by: token.used_by.clone(),
        }
    }
}

/// `piccolo user list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Users))]
pub struct UsersView {
    pub users: Vec<UserView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = User))]
pub struct UserView {
    pub name: String,
    pub role: String,
    pub created_at: Option<String>,
    pub expires_at: Option<String>,
    /// Of the certificate, hexadecimal.
    pub serial: String,
    pub created_by: String,
}

impl From<&v1::User> for UserView {
    fn from(user: &v1::User) -> Self {
        Self {
            name: user.name.clone(),
            role: words::user_role(user.role),
            created_at: time(user.created_at.as_ref()),
            expires_at: time(user.expires_at.as_ref()),
            serial: user.serial.clone(),
            created_by: user.created_by.clone(),
        }
    }
}

/// `piccolo api-token list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ApiTokens))]
pub struct ApiTokensView {
    pub tokens: Vec<ApiTokenView>,
}

/// What a program shows instead of a certificate.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ApiToken))]
pub struct ApiTokenView {
    pub id: String,
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    pub created_at: Option<String>,
    pub expires_at: Option<String>,
    pub created_by: String,
}

impl From<&v1::ApiToken> for ApiTokenView {
    fn from(token: &v1::ApiToken) -> Self {
        Self {
            id: token.id.clone(),
            name: token.name.clone(),
            role: words::user_role(token.role),
            created_at: time(token.created_at.as_ref()),
            expires_at: time(token.expires_at.as_ref()),
            created_by: token.created_by.clone(),
        }
    }
}

/// `piccolo audit list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Audit))]
pub struct AuditView {
    pub entries: Vec<EntryView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Entry))]
pub struct EntryView {
    pub id: u64,
    pub at: Option<String>,
    pub who: String,
    pub from: String,
    pub call: String,
    pub target: String,
    /// `ok`, or the refusal.
    pub outcome: String,
    /// SHA-256, hexadecimal.
    pub previous_hash: String,
    pub hash: String,
}

impl From<&v1::AuditEntry> for EntryView {
    fn from(entry: &v1::AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: time(entry.at.as_ref()),
            who: entry.who.clone(),
            from: entry.from.clone(),
            call: entry.call.clone(),
            target: entry.target.clone(),
            outcome: entry.outcome.clone(),
            previous_hash: hex(&entry.previous_hash),
            hash: hex(&entry.hash),
        }
    }
}

/// `piccolo audit verify`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Verified))]
pub struct VerifiedView {
    pub entries: u64,
    pub intact: bool,
    pub first_bad_id: Option<u64>,
    pub message: String,
}

impl From<&v1::VerifyAuditResponse> for VerifiedView {
    fn from(answer: &v1::VerifyAuditResponse) -> Self {
        Self {
            entries: answer.entries,
            intact: answer.intact,
            first_bad_id: (!answer.intact).then_some(answer.first_bad_id),
            message: answer.message.clone(),
        }
    }
}
