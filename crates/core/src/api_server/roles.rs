//! Which role may call what: one table, tested row by row (HLD §9.1.3).
//!
//! A sub node can speak only for itself: its id is taken from its certificate, never from a message.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Code, Refusal};
use crate::{mutant::mutant, time::WallTime};

/// Whom a certificate speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// No certificate at all: may join, and see that the server is alive.
    Anonymous,
    /// The agent of a master node.
    Master,
    /// The agent of a sub node.
    Sub,
    /// A child cluster (HLD §8.2.2).
    Cluster,
    Viewer,
    Operator,
    Admin,
}

impl Role {
    pub const ALL: [Self; 7] = [
        Self::Anonymous,
        Self::Master,
        Self::Sub,
        Self::Cluster,
        Self::Viewer,
        Self::Operator,
        Self::Admin,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Master => "master",
            Self::Sub => "sub",
            Self::Cluster => "cluster",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    pub fn is_node(self) -> bool {
        matches!(self, Self::Master | Self::Sub)
    }

    pub fn is_user(self) -> bool {
        matches!(self, Self::Viewer | Self::Operator | Self::Admin)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who calls: from the certificate of the connection, never from a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub role: Role,
    /// Node id or user name; empty for anonymous.
    pub id: String,
    /// Address, for the audit log.
    pub from: String,
    /// SHA-256 of the certificate's public key, hexadecimal.
    pub key_fingerprint: String,
    /// Of the certificate, hexadecimal.
    pub serial: String,
    /// The hash of what was shown instead of a certificate: an API token, a code or a session.
    pub credential: Option<String>,
    /// When the certificate began to hold.
    pub valid_from: WallTime,
    /// The end of what was shown, certificate or credential.
    pub expires_at: Option<WallTime>,
    /// The certificate's time is over: good for grace re-issue and nothing else.
    pub expired: bool,
}

impl Caller {
    pub fn anonymous(from: impl Into<String>) -> Self {
        Self {
            role: Role::Anonymous,
            id: String::new(),
            from: from.into(),
            key_fingerprint: String::new(),
            serial: String::new(),
            credential: None,
            valid_from: WallTime::default(),
            expires_at: None,
            expired: false,
        }
    }

    /// As the audit log writes it: `admin:first`.
    pub fn who(&self) -> String {
        match self.role {
            Role::Anonymous => "anonymous".to_owned(),
            Role::Master
            | Role::Sub
            | Role::Cluster
            | Role::Viewer
            | Role::Operator
            | Role::Admin => format!("{}:{}", self.role, self.id),
        }
    }
}

macro_rules! calls {
    ($($name:ident),* $(,)?) => {
        /// Every call that the master answers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Call { $($name),* }

        impl Call {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As the wire has it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

calls! {
    RegisterNode, Session, Heartbeat, ReportStatus, ReceiveConfig,
    GetNodes, GetNode, GetTopology, WatchNodes, ListEvents, WatchEvents, GetClusterStatus,
    QueryMetrics, Metrics, Reflection, ReadLogs, ReadContainerLogs,
    UpdateTopology, ApproveNode, RejectNode, SetMaintenance, RemoveNode, LabelNode,
    ResetNodeIdentity, RestartContainer, CheckNode, SetLogLevel,
    PauseRecovery, ForceRecovery, ProbeNode,
    CreateToken, ListTokens, RevokeToken, CreateUser, ListUsers, RevokeUser,
    ListAudit, VerifyAudit, GetSettings,
    CreateApiToken, ListApiTokens, RevokeApiToken, OpenConsole, OpenSession, GetSession, CloseSession,
    ListAlerts, WatchAlerts, AcknowledgeAlerts, SilenceAlerts, UnsilenceAlerts,
    ListAlertRules, ApplyAlertRules, DeleteAlertRule,
    ListAlertChannels, ApplyAlertChannels, DeleteAlertChannel, SwitchAlertChannel,
    TestAlertChannel, ResendDeadLetters, ClearDeadLetters,
}

/// The table.
pub fn may(role: Role, call: Call) -> bool {
    use Role::{Admin, Anonymous, Cluster, Master, Operator, Sub, Viewer};
    match call {
        // a token, or the certificate to renew, is checked by admission
        Call::RegisterNode => matches!(role, Anonymous | Master | Sub),
        Call::Session | Call::Heartbeat | Call::ReportStatus | Call::ReceiveConfig => {
            matches!(role, Master | Sub)
        }
        Call::GetNodes
        | Call::GetNode
        | Call::GetTopology
        | Call::WatchNodes
        | Call::GetClusterStatus => matches!(role, Master | Cluster | Viewer | Operator | Admin),
        Call::ListEvents
        | Call::WatchEvents
        | Call::QueryMetrics
        | Call::Metrics
        | Call::ListAlerts
        | Call::WatchAlerts
        | Call::ListAlertRules
        | Call::Reflection
        // all three give no more than the caller has
        | Call::OpenConsole
        | Call::OpenSession
        | Call::GetSession
        | Call::CloseSession
        | Call::ReadLogs => matches!(role, Viewer | Operator | Admin),
        Call::ApproveNode
        | Call::RejectNode
        | Call::SetMaintenance
        | Call::LabelNode
        | Call::RestartContainer
        | Call::CheckNode
        | Call::SetLogLevel
        | Call::PauseRecovery
        | Call::ForceRecovery
        | Call::ProbeNode
        // they may hold secrets of what runs there; so may units that are not ours
        | Call::ReadContainerLogs
        | Call::AcknowledgeAlerts
        | Call::SilenceAlerts
        | Call::UnsilenceAlerts
        | Call::ListAlertChannels
        | Call::ResendDeadLetters
        | Call::ClearDeadLetters
        // they tell paths and addresses of the master's machine
        | Call::GetSettings
        | Call::ListTokens => matches!(role, Operator | Admin),
        Call::UpdateTopology
        | Call::RemoveNode
        | Call::ResetNodeIdentity
        | Call::CreateToken
        | Call::RevokeToken
        | Call::CreateApiToken
        | Call::ListApiTokens
        | Call::RevokeApiToken
        | Call::CreateUser
        | Call::ListUsers
        | Call::RevokeUser
        | Call::ListAudit
        | Call::VerifyAudit
        | Call::ApplyAlertRules
        | Call::DeleteAlertRule
        | Call::ApplyAlertChannels
        | Call::DeleteAlertChannel
        | Call::SwitchAlertChannel
        | Call::TestAlertChannel => role == Admin,
    }
}

impl Caller {
    /// The table, applied. An expired certificate may only be renewed.
    pub fn check(&self, call: Call) -> Result<(), Refusal> {
        if self.expired && !mutant!("expired certificates are good") && call != Call::RegisterNode {
            return Err(self.lapsed());
        }
        if may(self.role, call) || mutant!("roles are not checked") {
            return Ok(());
        }
        Err(match self.role {
            Role::Anonymous => Refusal::new(
                Code::Unauthenticated,
                "CertificateRequired",
                format!("{} needs a client certificate", call.name()),
            )
            .help("use the admin context, or ask an admin for one: piccolo user create"),
            Role::Master
            | Role::Sub
            | Role::Cluster
            | Role::Viewer
            | Role::Operator
            | Role::Admin => Refusal::new(
                Code::PermissionDenied,
                "RoleNotAllowed",
                format!("role {} may not call {}", self.role, call.name()),
            )
            .help("ask an admin for a certificate of a role that may"),
        })
    }

    /// What is said to one whose certificate has ended.
    pub fn lapsed(&self) -> Refusal {
        let message = format!("the certificate of {} has expired", self.who());
        Refusal::new(Code::Unauthenticated, "CertificateExpired", message)
            .help("an agent renews it by itself; a user asks an admin for a new one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_row_by_row() {
        let mut table = String::from("                   anon mast sub  clus view oper admi\n");
        for call in Call::ALL {
            let row: Vec<_> =
                Role::ALL.iter().map(|r| if may(*r, *call) { "x   " } else { ".   " }).collect();
            table += &format!("{:<18} {}\n", call.name(), row.join(" ").trim_end());
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn an_expired_certificate_is_good_for_renewal_only() {
        for role in Role::ALL {
            let caller = Caller { role, expired: true, ..Caller::anonymous("127.0.0.1") };
            for call in Call::ALL {
                let allowed = caller.check(*call).is_ok();
                assert!(!allowed || *call == Call::RegisterNode, "{role} {call:?}");
            }
        }
    }
}
