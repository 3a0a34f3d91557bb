//! `elbo convert`: between this crate's model files and the state dicts of other programs.

mod map;

use crate::args::{Convert, LayoutName};
use crate::failure::{Failure, Result};
use crate::model;
use crate::notes::Notes;
use crate::output::say;
use elbo::vae::{Naming, Vae};

pub fn run(args: &Convert) -> Result<()> {
    let map = args.map.as_deref().map(map::read).transpose()?;
    let (from, to) = match args.to {
        LayoutName::Map => (None, map),
        LayoutName::Elbo => (map, None),
        LayoutName::Classic => (map, Some(Naming::classic())),
        LayoutName::Pythae => (map, Some(Naming::pythae())),
    };
    let (vae, notes) = match &from {
        Some(naming) => (Vae::load_as(&args.input, naming)?, Notes::default()),
        None => model::open(&args.input)?,
    };
    // The library gives the file its name when it is whole.
    let written = match &to {
        Some(naming) => vae.save_as(&args.out, naming),
        None if notes == Notes::default() => vae.save(&args.out),
        None => vae.save_with(&args.out, &notes),
    };
    written.map_err(|error| {
        Failure::Run(match error {
            elbo::Error::Io { path, source } => {
                format!("{}: cannot write: {source}", path.display())
            }
            elbo::Error::ModelFile { reason, .. } => {
                format!("{}: {reason}", args.input.display())
            }
            error => error.to_string(),
        })
    })?;
    let prepared = notes.data.preparation().join(" and ");
    if to.is_some() && !prepared.is_empty() {
        say(&format!(
            "note: the model saw data that were {prepared}; a state dict does not say so"
        ))?;
    }
    let config = vae.config();
    say(&format!(
        "{config}, {} layers, {} likelihood: {}",
        config.activation(),
        config.likelihood().name(),
        args.out.display()
    ))
}
