//! Nodes as programs read them: the documented shapes of `-o json` and `-o yaml`.

pub use piccolo_rpc::view::{node::*, time};
