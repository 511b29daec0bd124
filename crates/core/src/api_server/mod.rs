//! What the API Server decides: who may call what, who may join, which nodes a filter means.

mod admission;
mod refusal;
mod roles;
mod selector;

pub(crate) use admission::owner_of;
pub use admission::{JoinLimiter, Registration};
pub use refusal::{Code, Refusal};
pub use roles::{Call, Caller, Role, may};
pub use selector::Selector;
