//! placeholder
pub(crate) const INCOMPLETE: &str = "/piccolo/internal/migration-incomplete";
