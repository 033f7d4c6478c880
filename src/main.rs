//! The `optipod` binary: see the library for what it is made of.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match optipod::cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            let _ = told.print();
            // Not clap's 2: that is damage, of `store verify` and `export`.
            return if told.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(optipod::cli::execute(cli))) {
        Ok(code) => code,
        Err(error) => {
            eprint!("{}", optipod::cli::told(&error));
            ExitCode::FAILURE
        }
    }
}
