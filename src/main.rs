//! The `foregate` command: arguments in, exit status out.
//!
//! The allocator and the one crypto backend of the process are chosen here; the commands are in
//! `cli`.

use std::process::ExitCode;

use clap::Parser;
use foregate::cli::Command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One crypto backend in the whole process; nothing else installs one, so this cannot fail.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Command::parse().run()
}
