//! End-to-end tests with the real executables: `tests/` has one file per theme, each test is a story.
//!
//! What they stand on is `piccolo_testkit::cluster`. They need the executables to be built
//! (`cargo build --workspace`), root for network namespaces, and Podman; `cargo xtask test` sees to it all.
