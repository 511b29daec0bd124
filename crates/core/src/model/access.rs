//! Tokens, users and the audit chain (HLD §9).

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{NodeId, NodeName, NodeRole, UserName};
use crate::{
    api_server::{Caller, Role},
    hex::hex,
    time::WallTime,
};

/// A join token. Only the hash of its secret is known here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// SHA-256 of the secret, hexadecimal; the first 12 digits are the id.
    pub hash: String,
    pub role: NodeRole,
    pub created_at: WallTime,
    pub expires_at: WallTime,
    pub uses_left: u32,
    /// Only a node of this name may join with it.
    pub node_name: Option<NodeName>,
    pub created_by: String,
    pub used_by: BTreeSet<NodeId>,
}

impl TokenRecord {
    pub const ID_DIGITS: usize = 12;

    pub fn id(&self) -> &str {
        self.hash.get(..Self::ID_DIGITS).unwrap_or(&self.hash)
    }
}

/// A user's certificate is as good as this record: without it every call is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    pub name: UserName,
    pub role: Role,
    pub created_at: WallTime,
    pub expires_at: WallTime,
    /// Of the certificate, hexadecimal.
    pub serial: String,
    pub created_by: String,
}

/// What kind of secret somebody shows instead of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialKind {
    /// Of a program, as long as it was made for.
    ApiToken,
    /// Opens one session, within a minute.
    Code,
    /// Of a browser.
    Session,
}

/// A secret that speaks for somebody. Only its hash is known here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRecord {
    /// SHA-256 of the secret, hexadecimal; the first 12 digits are the id.
    pub hash: String,
    pub kind: CredentialKind,
    /// Of an API token; empty else.
    pub name: String,
    pub role: Role,
    pub created_at: WallTime,
    pub expires_at: WallTime,
    pub created_by: String,
    pub speaks_for: SpeaksFor,
}

/// Whom a credential speaks for: a session ends with the right of whoever opened it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeaksFor {
    /// As the audit log names it behind the role: `token/NAME`, or a user's name.
    pub id: String,
    /// The hash of the API token.
    pub credential: Option<String>,
    /// Of the user's certificate, where it was one.
    pub serial: String,
    /// The end of that certificate or API token.
    #[serde(default)]
    pub expires_at: Option<WallTime>,
}

impl CredentialRecord {
    pub const ID_DIGITS: usize = 12;

    pub fn id(&self) -> &str {
        self.hash.get(..Self::ID_DIGITS).unwrap_or(&self.hash)
    }

    /// Who shows it, from an address that is not known here.
    pub fn caller(&self) -> Caller {
        Caller {
            role: self.role,
            id: self.speaks_for.id.clone(),
            credential: Some(self.hash.clone()),
            expires_at: Some(self.expires_at),
            ..Caller::anonymous("")
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditOutcome {
    Done,
    Refused(String),
}

impl fmt::Display for AuditOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("ok"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// One link of the audit chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Without gaps, from 1.
    pub id: u64,
    pub at: WallTime,
    pub who: String,
    pub from: String,
    pub call: String,
    pub target: String,
    pub outcome: AuditOutcome,
    pub previous_hash: String,
    pub hash: String,
}

impl AuditEntry {
    /// The hash that this entry must carry: over all its fields, lengths included.
    pub fn expected_hash(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.id.to_be_bytes());
        digest.update(self.at.0.to_be_bytes());
        let outcome = self.outcome.to_string();
        for part in [&self.who, &self.from, &self.call, &self.target, &outcome, &self.previous_hash]
        {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        hex(&digest.finalize())
    }
}

/// Where the audit chain begins and ends. Stored with every entry, sealed: who can change the store, but lacks the
/// key, can cut entries off and cannot say that they were never there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEnds {
    /// The oldest entry that is kept; the next one while there is none.
    pub first: u64,
    /// The newest entry, 0 before there is one, and its hash.
    pub last: u64,
    pub last_hash: String,
    /// Before this entry there was no record of the ends.
    pub since: u64,
}

/// Where an audit chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("audit entry {id} {problem}")]
pub struct ChainError {
    pub id: u64,
    pub problem: &'static str,
}

/// Checks consecutive entries, oldest first. The first one's predecessor may have been retired.
pub fn verify_chain<'a>(
    entries: impl IntoIterator<Item = &'a AuditEntry>,
) -> Result<u64, ChainError> {
    let mut count = 0;
    let mut previous: Option<&AuditEntry> = None;
    for entry in entries {
        let fail = |problem| Err(ChainError { id: entry.id, problem });
        if entry.hash != entry.expected_hash() {
            return fail("was changed after it was written");
        }
        if let Some(before) = previous {
            if entry.id != before.id + 1 {
                return fail("does not follow the one before it: entries are missing");
            }
            if entry.previous_hash != before.hash {
                return fail("does not link to the one before it");
            }
        }
        previous = Some(entry);
        count += 1;
    }
    Ok(count)
}
