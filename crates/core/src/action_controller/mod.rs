//! ActionController: what is done about what happens (HLD §3.2, §10).
//!
//! - [`recovery`]: what is done when something fails, step by step, and why nothing is done

pub mod recovery;
