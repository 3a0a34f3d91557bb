//! `elbo man`: manual pages from the definition of the command line.

use crate::failure::Result;
use crate::options::overwrite::OverwriteOption;
use crate::output::{Console, Inputs, OutputDirectory, Staged, say};
use clap::{Args, Command};
use clap_mangen::roff::{Roff, roman};
use std::io;
use std::path::PathBuf;

/// Print the manual page, or write one for each command
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  elbo man | man -l -
  elbo man --out ~/.local/share/man/man1       # elbo.1, elbo-train.1 and so on")]
pub struct ManOptions {
    /// Directory for the pages of the tool and of each command
    ///
    /// Created if it does not exist [default: print the page of the tool].
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

pub fn run(args: &ManOptions, command: Command, console: Console) -> Result<()> {
    let mut tool = command
        .disable_help_subcommand(true)
        .mut_subcommands(|command| command.disable_help_subcommand(true));
    // Gives the pages of commands their whole name and the options of all commands.
    tool.build();
    let Some(path) = &args.out else {
        let page = page(&tool, "elbo").expect("memory takes any page");
        return say(String::from_utf8_lossy(&page).trim_end());
    };
    let mut pages = Vec::new();
    collect(&tool, "elbo".to_owned(), &mut pages);
    let names: Vec<String> = pages.iter().map(|(_, name)| format!("{name}.1")).collect();
    let folder =
        OutputDirectory::prepare(path, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    for name in &names {
        args.overwrite.of(&folder.join(name)).check("--out", &Inputs::default())?;
    }
    let mut staged = Staged::default();
    for ((command, name), file) in pages.iter().zip(&names) {
        staged.add_bytes(&folder.join(file), page(command, name))?;
    }
    staged.commit()?;
    console.note(&format!("in {}: {}", path.display(), names.join(", ")));
    Ok(())
}

/// Collects a command and those below it, with the names of their pages.
fn collect<'a>(command: &'a Command, name: String, pages: &mut Vec<(&'a Command, String)>) {
    for below in command.get_subcommands() {
        collect(below, format!("{name}-{}", below.get_name()), pages);
    }
    pages.push((command, name));
}

/// Renders a page in roff.
fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().after_long_help(None))
        .title(name)
        .source(concat!("elbo ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    let mut roff = Roff::new();
    let mut code = false;
    for (i, line) in text.lines().enumerate() {
        // Indented lines are code and are not filled.
        if line.starts_with(' ') != code {
            code = !code;
            roff.control(if code { "nf" } else { "fi" }, []);
        }
        match line {
            "Example:" | "Examples:" => roff.control("SH", ["EXAMPLES"]),
            "" => roff.control("PP", []),
            _ if i == 0 => roff.control("SH", ["DETAILS"]).text([roman(line)]),
            _ => roff.text([roman(line)]),
        };
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}
