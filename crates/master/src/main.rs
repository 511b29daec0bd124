//! `piccolo-master`; see [`piccolo_master::program`].

use std::process::ExitCode;

/// In place of musl's, which comes apart by 20 KiB a second under churn (docs/adr/0011).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    piccolo_master::program::main()
}
