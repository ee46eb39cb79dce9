//! The program `registry-proxy`: parses arguments, starts telemetry and the runtime, and turns the
//! result into an exit status.

use std::process::ExitCode;

use clap::Parser as _;
use registry_proxy::cli::{self, Arguments};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::start_logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return cli::report(&anyhow::Error::from(error).context("cannot start the runtime"));
        }
    };
    match runtime.block_on(cli::run(arguments)) {
        Ok(code) => code,
        Err(error) => cli::report(&error),
    }
}
