//! The program `registry-proxy`: parses arguments, starts telemetry and the runtime, and turns the
//! result into an exit status.

use std::process::ExitCode;

use clap::Parser as _;
use oci_mirror::http::server::activation::Inherited;
use registry_proxy::cli::{self, Arguments};
use registry_proxy::log::Log;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = Log::start();
    // Before there are threads: it changes the environment.
    let sockets = match Inherited::take() {
        Ok(sockets) => sockets,
        Err(error) => return cli::report(&error.into()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return cli::report(&anyhow::Error::from(error).context("cannot start the runtime"));
        }
    };
    match runtime.block_on(cli::run(arguments, log, sockets)) {
        Ok(code) => code,
        Err(error) => cli::report(&error),
    }
}
