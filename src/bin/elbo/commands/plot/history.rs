//! `elbo plot history`: the learning curves of a run.

use crate::failure::{Failure, Result};
use crate::figure::history::HistoryFigure;
use crate::model::history::{self, EpochRecord};
use crate::model::{self, ModelMetadata, TrainingMetadata};
use crate::output::path::FigurePath;
use crate::output::write_figure;
use clap::{ArgGroup, Args};
use elbo::vae::{Likelihood, Objective, Vae};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["run", "history", "model"]))]
pub struct HistoryOptions {
    /// Read the epochs from DIR, the output of `elbo train`
    ///
    /// From history.csv, and the objective from model.safetensors, if it is there.
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,

    /// Read the epochs from FILE, a history.csv written by `elbo train`
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,

    /// Read the epochs from FILE, a model.safetensors written by `elbo train`
    #[arg(long, short, value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// Write the figure to FILE, a .png or .svg
    #[arg(long, short, value_name = "FILE")]
    pub out: FigurePath,
}

pub fn run(args: &HistoryOptions) -> Result<()> {
    let (epochs, known) = read(args)?;
    let figure = match &known {
        None => HistoryFigure::new(&epochs, None),
        Some((objective, likelihood)) => {
            HistoryFigure::new(&epochs, Some(objective)).of(*likelihood)
        }
    };
    write_figure(&figure, &args.out)
}

/// The loss of a run, which the title and the axis name.
type LossName = (Objective, Likelihood);

/// Reads the epochs, and the loss from a model file if there is one.
fn read(args: &HistoryOptions) -> Result<(Vec<EpochRecord>, Option<LossName>)> {
    let of_model = |(vae, metadata): (Vae, ModelMetadata)| {
        let TrainingMetadata { history, objective, .. } = metadata.training?;
        Some((history, (objective, vae.config().likelihood())))
    };
    if let Some(path) = &args.model {
        let (epochs, loss) = of_model(model::open(path)?).ok_or_else(|| {
            Failure::Run(format!(
                "{}: the file has no history; expected a model.safetensors written by `elbo train`",
                path.display()
            ))
        })?;
        return Ok((epochs, Some(loss)));
    }
    if let Some(path) = &args.history {
        return Ok((history::read_csv(path)?, None));
    }
    let directory: PathBuf = args.run.iter().collect();
    let epochs = history::read_csv(&directory.join("history.csv"))?;
    // Without the model file, only the title and the unit of the loss are unknown.
    let opened = model::open(&directory.join("model.safetensors")).ok();
    Ok((epochs, opened.and_then(of_model).map(|(_, loss)| loss)))
}
