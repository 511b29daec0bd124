//! The `piccolo` executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    piccolo_cli::main()
}
