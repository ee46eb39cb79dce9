//! The program: arguments in, exit status out.

use std::process::ExitCode;

use clap::Parser as _;
use mirror_tool::cli::{self, Cli};
use mirror_tool::exit;
use mirror_tool::export::MAX_TRANSFERS;

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.start_telemetry();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Far more than transfers, which keep a thread each; all that ends by itself needs some too.
        .max_blocking_threads(8 * MAX_TRANSFERS)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(Err(error.into())),
    };
    let result = runtime.block_on(cli::run(cli));
    // A credential helper or a slow disk must not hold up the end.
    runtime.shutdown_background();
    exit::report(result)
}
