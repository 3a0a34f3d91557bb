//! `elbo plot history`: the learning curves of a run.

use crate::failure::{Failure, Result};
use crate::figure::history::HistoryFigure;
use crate::model::history::{self, EpochRecord};
use crate::model::{self, ModelMetadata, TrainingMetadata};
use crate::options::overwrite::OverwriteOption;
use crate::output::path::FigurePath;
use crate::output::{Inputs, write_figure};
use clap::{ArgGroup, Args};
use elbo::vae::{Likelihood, Objective, Vae};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["run", "history", "model"]))]
pub struct HistoryOptions {
    /// Read the epochs from DIR, the output of `elbo train`
    ///
    /// From history.csv, or from history.jsonl.part if the run is under way or was interrupted; the objective
    /// from model.safetensors or from the checkpoint, if there is one.
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,

    /// Read the epochs from FILE, a history.csv or history.jsonl
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,

    /// Read the epochs from FILE, a model.safetensors written by `elbo train`
    #[arg(long, short, value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// Write the figure to FILE, a .png or .svg
    #[arg(long, short, value_name = "FILE")]
    pub out: FigurePath,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

pub fn run(args: &HistoryOptions) -> Result<()> {
    let inputs = [("--history", &args.history), ("--model", &args.model)];
    let inputs = Inputs::new(inputs.map(|(option, path)| (option, path.as_ref())))?;
    args.overwrite.of(&args.out.path).check("--out", &inputs)?;
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
        let lines =
            [".jsonl", ".jsonl.part"].iter().any(|end| path.display().to_string().ends_with(end));
        return Ok((
            if lines { history::read_lines(path) } else { history::read_csv(path) }?,
            None,
        ));
    }
    let directory: PathBuf = args.run.iter().collect();
    // During a run, this is its history; the other files may be those of an earlier one.
    let so_far = directory.join("history.jsonl.part");
    let (epochs, models) = if so_far.exists() {
        (history::read_lines(&so_far)?, ["checkpoint.safetensors", "model.safetensors"])
    } else {
        let epochs = history::read_csv(&directory.join("history.csv"))?;
        (epochs, ["model.safetensors", "checkpoint.safetensors"])
    };
    // Without a model file, only the title and the unit of the loss are unknown.
    let opened = models.iter().find_map(|name| model::open(&directory.join(name)).ok());
    Ok((epochs, opened.and_then(of_model).map(|(_, loss)| loss)))
}
