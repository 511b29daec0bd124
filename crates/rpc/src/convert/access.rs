//! Tokens, users and the audit log (HLD §9).

use piccolo_core::{
    api_server::Role,
    model::{AuditEntry, CredentialRecord, FieldError, TokenRecord, UserRecord},
};

use super::{node_role_to_wire, timestamp, unknown_number};
use crate::v1;

/// # Errors
/// [`FieldError`] for 0 and for a number that is none.
pub fn user_role(field: &str, number: i32) -> Result<Role, FieldError> {
    match v1::UserRole::try_from(number) {
        Ok(v1::UserRole::Viewer) => Ok(Role::Viewer),
        Ok(v1::UserRole::Operator) => Ok(Role::Operator),
        Ok(v1::UserRole::Admin) => Ok(Role::Admin),
        Ok(v1::UserRole::Unspecified) | Err(_) => Err(unknown_number(field, number)),
    }
}

/// Roles that no user has are unspecified on the wire.
#[must_use]
pub fn user_role_to_wire(role: Role) -> v1::UserRole {
    match role {
        Role::Viewer => v1::UserRole::Viewer,
        Role::Operator => v1::UserRole::Operator,
        Role::Admin => v1::UserRole::Admin,
        Role::Anonymous | Role::Master | Role::Sub | Role::Cluster => v1::UserRole::Unspecified,
    }
}

/// Without the hash: whoever sees the list cannot tell one token's secret from another's.
impl From<TokenRecord> for v1::JoinToken {
    fn from(token: TokenRecord) -> Self {
        Self {
            id: token.id().to_owned(),
            role: node_role_to_wire(token.role).into(),
            created_at: Some(timestamp(token.created_at)),
            expires_at: Some(timestamp(token.expires_at)),
            uses_left: token.uses_left,
            node_name: token.node_name.map(|name| name.to_string()).unwrap_or_default(),
            created_by: token.created_by,
            used_by: token.used_by.into_iter().map(|id| id.to_string()).collect(),
        }
    }
}

impl From<UserRecord> for v1::User {
    fn from(user: UserRecord) -> Self {
        Self {
            name: user.name.to_string(),
            role: user_role_to_wire(user.role).into(),
            created_at: Some(timestamp(user.created_at)),
            expires_at: Some(timestamp(user.expires_at)),
            serial: user.serial,
            created_by: user.created_by,
        }
    }
}

impl From<CredentialRecord> for v1::ApiToken {
    fn from(token: CredentialRecord) -> Self {
        Self {
            id: token.id().to_owned(),
            role: user_role_to_wire(token.role).into(),
            created_at: Some(timestamp(token.created_at)),
            expires_at: Some(timestamp(token.expires_at)),
            created_by: token.created_by,
            name: token.name,
        }
    }
}

impl From<AuditEntry> for v1::AuditEntry {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: Some(timestamp(entry.at)),
            who: entry.who,
            from: entry.from,
            call: entry.call,
            target: entry.target,
            outcome: entry.outcome.to_string(),
            previous_hash: unhex(&entry.previous_hash),
            hash: unhex(&entry.hash),
        }
    }
}

/// Hashes are hexadecimal in the store; what is not hexadecimal was tampered with, and is not a hash.
fn unhex(text: &str) -> Vec<u8> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.unwrap_or_default();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
