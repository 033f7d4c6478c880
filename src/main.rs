//! The `optipod` binary: see the library for what it is made of.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = optipod::cli::Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(optipod::cli::execute(cli))) {
        Ok(code) => code,
        Err(error) => {
            eprint!("{}", optipod::cli::told(&error));
            ExitCode::FAILURE
        }
    }
}
