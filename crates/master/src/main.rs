//! `piccolo-master`; see [`piccolo_master::program`].

use std::process::ExitCode;

fn main() -> ExitCode {
    piccolo_master::program::main()
}
