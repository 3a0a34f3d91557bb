//! `elbo plot history`: how the loss and its parts went from epoch to epoch.

use crate::failure::{Failure, Result};
use crate::figure::history::HistoryFigure;
use crate::model;
use crate::model::history::{self, EpochRecord};
use crate::output::path::FigurePath;
use crate::output::write_figure;
use clap::{ArgGroup, Args};
use elbo::vae::{Likelihood, Objective};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["run", "history", "model"]))]
pub struct HistoryOptions {
    /// The folder of a run: its history.csv is drawn
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,

    /// A history.csv that `elbo train` wrote
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,

    /// A model.safetensors that `elbo train` wrote: its history is drawn
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// The picture to write, X.png or X.svg
    #[arg(long, value_name = "FILE")]
    pub out: FigurePath,
}

pub fn run(args: &HistoryOptions) -> Result<()> {
    let (epochs, known) = read(args)?;
    let figure = match &known {
        None => HistoryFigure::new(&epochs, None),
        Some(known) => HistoryFigure::new(&epochs, Some(&known.objective)).of(known.likelihood),
    };
    write_figure(&figure, &args.out)
}

/// What a model file says of the loss.
struct TrainedObjective {
    objective: Objective,
    likelihood: Likelihood,
}

/// The epochs, and what was optimized where a model file says so.
fn read(args: &HistoryOptions) -> Result<(Vec<EpochRecord>, Option<TrainedObjective>)> {
    if let Some(path) = &args.model {
        let (vae, notes) = model::open(path)?;
        let training = notes.training.ok_or_else(|| {
            Failure::Run(format!(
                "{}: the file holds no history; expected a model.safetensors that `elbo train` wrote",
                path.display()
            ))
        })?;
        return Ok((
            training.history,
            Some(TrainedObjective {
                objective: training.objective,
                likelihood: vae.config().likelihood(),
            }),
        ));
    }
    if let Some(path) = &args.history {
        return Ok((history::read_csv(path)?, None));
    }
    let folder: PathBuf = args.run.iter().collect();
    let epochs = history::read_csv(&folder.join("history.csv"))?;
    // The table is drawn also where the model has gone.
    let opened = model::open(&folder.join("model.safetensors")).ok();
    let known = opened.and_then(|(vae, notes)| {
        notes.training.map(|training| TrainedObjective {
            objective: training.objective,
            likelihood: vae.config().likelihood(),
        })
    });
    Ok((epochs, known))
}
