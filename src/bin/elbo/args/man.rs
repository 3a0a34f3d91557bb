//! `elbo man`.

use clap::Args;
use std::path::PathBuf;

pub const AFTER_HELP: &str = "\
Examples:
  elbo man | man -l -
  elbo man --out ~/.local/share/man/man1       # elbo.1, elbo-train.1 and so on";

#[derive(Debug, Args)]
pub struct Man {
    /// Folder for the page of the tool and one for each command; made if it is not there [default:
    /// the page of the tool, on standard output]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
