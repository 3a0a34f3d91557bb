//! `elbo completions`: scripts that complete the command line in a shell.

use crate::failure::Result;
use crate::output::say;
use clap::{Args, Command};
use clap_complete::Shell;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  elbo completions bash > ~/.local/share/bash-completion/completions/elbo
  elbo completions zsh > ~/.zfunc/_elbo        # a directory of $fpath
  elbo completions fish > ~/.config/fish/completions/elbo.fish
  elbo completions powershell >> $PROFILE
  elbo completions elvish >> ~/.config/elvish/rc.elv")]
pub struct CompletionsOptions {
    /// Shell: bash, zsh, fish, powershell or elvish
    #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
    pub shell: Shell,
}

pub fn run(args: &CompletionsOptions, mut command: Command) -> Result<()> {
    // To memory first: a reader of standard output that goes away is no failure.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "elbo", &mut script);
    say(String::from_utf8_lossy(&script).trim_end())
}
