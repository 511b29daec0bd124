//! The words of PICCOLO as types (HLD §6.1, §6.2): validated where they come in, plain data after that.

mod access;
mod container;
mod event;
mod ids;
mod node;
mod recovery;
mod system_check;

pub use access::{
    AuditEnds, AuditEntry, AuditOutcome, ChainError, CredentialKind, CredentialRecord, SpeaksFor,
    TokenRecord, UserRecord, verify_chain,
};
pub use container::{ContainerReport, LastContainers, RestartPolicy};
pub use event::{Event, EventKind, JournalEntry, Severity};
pub(crate) use ids::has_controls;
pub use ids::{
    FieldError, Labels, NodeId, NodeName, SessionId, UserName, check_address, check_label_key,
    check_labels, check_text,
};
pub use node::{
    AlertReport, Condition, ConditionKind, NodeKind, NodeRecord, NodeRole, NodeStatus, NodeView,
    Resources, SystemInfo,
};
pub use recovery::{
    PROBE_PARTS_MAX, ProbePart, ProbeReport, RECOVERY_LINES_MAX, RecoveryLine, RecoveryReport,
};
pub use system_check::{
    CheckLevel, FINDING_TEXT_BYTES_MAX, FINDINGS_MAX, Finding, SYSTEM_CHECK_BYTES_MAX, SystemCheck,
};
