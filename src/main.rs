//! The `optipod` binary: see the library for what it is made of.

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let cli = optipod::cli::Cli::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(optipod::cli::execute(cli))
}
