//! argv → library → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    alloy_gateway::cli::main()
}
