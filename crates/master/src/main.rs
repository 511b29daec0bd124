//! `piccolo-master`; see [`piccolo_master::program`].

use std::process::ExitCode;

/// Of the static build's two it is the one that does not come apart: musl's grows by 20 KiB a second under churn
/// (docs/adr/0011).
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    piccolo_master::program::main()
}
