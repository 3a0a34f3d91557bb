//! `elbo completions`.

use clap::Args;
use clap_complete::Shell;

pub const AFTER_HELP: &str = "\
Examples:
  elbo completions bash > ~/.local/share/bash-completion/completions/elbo
  elbo completions zsh > ~/.zfunc/_elbo        # a folder of $fpath
  elbo completions fish > ~/.config/fish/completions/elbo.fish
  elbo completions powershell >> $PROFILE
  elbo completions elvish >> ~/.config/elvish/rc.elv";

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell: bash, zsh, fish, powershell or elvish
    #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
    pub shell: Shell,
}
