//! The binary: parses arguments, starts tracing, calls [`issuerwatch::cli`], turns the result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    issuerwatch::cli::main()
}
