//! `elbo completions`: what a shell needs to complete the command line.

use crate::args::{Cli, Completions};
use crate::failure::Result;
use crate::output::say;
use clap::CommandFactory;

pub fn run(args: &Completions) -> Result<()> {
    // To memory first: a reader of standard output that goes away is no failure.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "elbo", &mut script);
    say(String::from_utf8_lossy(&script).trim_end())
}
