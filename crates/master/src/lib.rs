//! The PICCOLO master as a library: what `main` puts together, and what tests may use by itself.

pub mod certificate_authority;
