//! The words that people write on the command line, as the wire has them.

use clap::ValueEnum;
use piccolo_rpc::v1;
pub use piccolo_rpc::view::words::*;

/// `--role` of a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NodeRoleArg {
    Master,
    Sub,
}

impl From<NodeRoleArg> for v1::NodeRole {
    fn from(role: NodeRoleArg) -> Self {
        match role {
            NodeRoleArg::Master => Self::Master,
            NodeRoleArg::Sub => Self::Sub,
        }
    }
}

/// `--role` of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UserRoleArg {
    /// May look
    Viewer,
    /// May operate nodes too
    Operator,
    /// May do everything
    Admin,
}

impl From<UserRoleArg> for v1::UserRole {
    fn from(role: UserRoleArg) -> Self {
        match role {
            UserRoleArg::Viewer => Self::Viewer,
            UserRoleArg::Operator => Self::Operator,
            UserRoleArg::Admin => Self::Admin,
        }
    }
}

/// `--severity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SeverityArg {
    Info,
    Warning,
    Critical,
}

impl From<SeverityArg> for v1::Severity {
    fn from(severity: SeverityArg) -> Self {
        match severity {
            SeverityArg::Info => Self::Info,
            SeverityArg::Warning => Self::Warning,
            SeverityArg::Critical => Self::Critical,
        }
    }
}
