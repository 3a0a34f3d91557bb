//! `elbo eval`: the loss of a model on a data set.

use crate::data::domain::Accepted;
use crate::failure::Result;
use crate::model::usable::{self, OfUsable, of_usable};
use crate::options::data::{AugmentOption, ModelAndData};
use crate::options::objective::KlOptions;
use crate::options::values::{MAX_WIDTH, count, seed};
use crate::output::{Console, say, say_json};
use crate::text::counted;
use clap::Args;
use elbo::loss::Decomposition;
use elbo::train::Options;
use elbo::vae::{Evaluation, EvaluationOptions, MarginalLikelihood, Objective, Penalty, Vae};
use elbo::{Compute, Dataset};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Measure a model's loss on a data set
#[derive(Debug, Args)]
#[command(mut_arg("beta", |option| {
    option
        .help("Weight of the KL divergence [default: that of the training]")
        .long_help("Weight of the KL divergence [default: that of the training]\n\nloss = reconstruction + beta × KL")
}))]
#[command(after_long_help = "\
The loss is that of the objective the model was trained with, at the end of its annealing; --beta, --free-bits, \
--capacity and --total-correlation replace it. The data are not augmented unless --augment is given. The noise \
is a function of the seed and of the row, so the result is deterministic. The parts of the KL divergence \
(mutual information, total correlation and dimension-wise KL, which add up to it) are estimated from the first \
10,000 rows; this estimate of the mutual information is at most the logarithm of the number of rows. Rows \
whose loss is not finite, such as outliers of 1e36, are left out, and a warning names them.

Examples:
  elbo eval --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz --json
  elbo eval --model m.safetensors --data t10k-images-idx3-ubyte.gz --augment binarize \
--importance-samples 5000
  elbo eval --model m.safetensors --data digits.gz --labels labels.gz --total-correlation --beta 6")]
pub struct EvalOptions {
    #[command(flatten)]
    input: ModelAndData,

    /// Estimate ln p(x) of each example from K samples, too
    ///
    /// The marginal log-likelihood, with its standard error over the examples (Burda et al. 2016, who take
    /// 5000 samples).
    #[arg(long, help_heading = None, value_name = "K", value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    importance_samples: Option<usize>,

    /// Seed of the noise
    #[arg(long, help_heading = None, value_name = "SEED", default_value_t = 1, value_parser = seed,
          allow_negative_numbers = true)]
    seed: u64,

    /// Print the result as one line of JSON
    ///
    /// rows, loss, reconstruction, kl, kl_per_dimension, mutual_information, total_correlation,
    /// dimension_wise_kl (nats per example), active_units (latent dimensions whose mean has a variance above
    /// 0.01 over the data), collapsed_units (those that carry less than 0.01 nats), beta (weight of the KL in the
    /// loss; 1 where the objective has another term); with --importance-samples also
    /// importance_samples, marginal_log_likelihood, standard_error; rows_left_out if any rows were.
    #[arg(long, help_heading = None)]
    json: bool,

    #[command(flatten)]
    augment: AugmentOption,

    #[command(flatten)]
    kl: KlOptions,
}

pub fn run(args: &EvalOptions, compute: &Compute, console: Console) -> Result<()> {
    let given = args.kl.objective(|_| {})?;
    let augmentation = args.augment.augment;
    args.augment.check(args.input.signed)?;
    let (vae, metadata, data) = args.input.open(augmentation, Accepted::Finite)?;
    args.augment.check(data.signed)?;
    let own = metadata.training.map(|training| training.objective);
    let objective = own.filter(|_| !args.kl.is_given()).unwrap_or(given);
    Options { objective, augmentation, ..Options::default() }.validate_for(vae.config())?;
    let options = EvaluationOptions { objective, augmentation, seed: args.seed };
    let probe = |rows: &dyn Dataset| vae.evaluate(compute, rows, &options).map(drop);
    let work = |rows: &dyn Dataset| {
        Ok(EvalResults {
            evaluation: vae.evaluate(compute, rows, &options)?,
            parts: vae.decompose(compute, rows, &options)?,
            marginal: args
                .importance_samples
                .map(|samples| marginal(&vae, compute, rows, samples, &options, console))
                .transpose()?,
            left_out: 0,
        })
    };
    let OfUsable { result, left_out } = of_usable(&data, &data.view(0..data.len()), probe, work)?;
    console.warn_all(usable::warning(&left_out, &data, "which the results leave out"));
    let results = EvalResults { left_out: left_out.len(), ..result };
    if args.json { say_json(&results.report(&objective)) } else { say(&results.text(&objective)) }
}

/// Estimates the marginal log-likelihood, with a progress bar on a terminal.
fn marginal(
    vae: &Vae,
    compute: &Compute,
    rows: &dyn Dataset,
    samples: usize,
    options: &EvaluationOptions,
    console: Console,
) -> elbo::Result<MarginalLikelihood> {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}%, {eta} left")
        .expect("a template that indicatif knows");
    // On standard error, and only if that is a terminal.
    let bar = match console.quiet {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(rows.row_count() as u64),
    };
    let bar = bar.with_style(style);
    bar.set_message(format!("{} per row", counted(samples, "sample")));
    let counted = CountedRows { rows, bar: &bar };
    let result = vae.marginal_log_likelihood(compute, &counted, samples, options);
    bar.finish_and_clear();
    result
}

/// Rows that advance the bar when they are read, each of them once.
struct CountedRows<'a> {
    rows: &'a dyn Dataset,
    bar: &'a ProgressBar,
}

impl Dataset for CountedRows<'_> {
    fn row_count(&self) -> usize {
        self.rows.row_count()
    }

    fn features(&self) -> usize {
        self.rows.features()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.rows.read_row(row, out);
        self.bar.inc(1);
    }

    fn conditions(&self) -> usize {
        self.rows.conditions()
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        self.rows.read_condition(row, out);
    }
}

struct EvalResults {
    evaluation: Evaluation,
    parts: Decomposition,
    marginal: Option<MarginalLikelihood>,
    /// Number of rows that could not be evaluated.
    left_out: usize,
}

#[derive(Serialize)]
struct EvalReport<'a> {
    rows: usize,
    /// Absent if no row was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_left_out: Option<usize>,
    loss: f64,
    beta: f32,
    reconstruction: f64,
    kl: f64,
    kl_per_dimension: &'a [f64],
    mutual_information: f64,
    total_correlation: f64,
    dimension_wise_kl: f64,
    active_units: usize,
    collapsed_units: usize,
    #[serde(flatten)]
    marginal: Option<MarginalReport>,
}

#[derive(Serialize)]
struct MarginalReport {
    importance_samples: usize,
    marginal_log_likelihood: f64,
    standard_error: f64,
}

impl EvalResults {
    fn report(&self, objective: &Objective) -> EvalReport<'_> {
        let Self { evaluation, parts, marginal, left_out } = self;
        EvalReport {
            rows: evaluation.rows,
            rows_left_out: (*left_out > 0).then_some(*left_out),
            loss: evaluation.loss,
            beta: objective.beta,
            reconstruction: evaluation.reconstruction,
            kl: evaluation.kl,
            kl_per_dimension: &evaluation.kl_per_dimension,
            mutual_information: parts.mutual_information,
            total_correlation: parts.total_correlation,
            dimension_wise_kl: parts.dimension_wise_kl,
            active_units: evaluation.active_units(),
            collapsed_units: evaluation.collapsed_units(),
            marginal: marginal.as_ref().map(|marginal| MarginalReport {
                importance_samples: marginal.samples,
                marginal_log_likelihood: marginal.log_likelihood,
                standard_error: marginal.standard_error,
            }),
        }
    }

    fn text(&self, objective: &Objective) -> String {
        let Self { evaluation, parts, marginal, left_out } = self;
        let without = match left_out {
            0 => String::new(),
            _ => format!(" (without {})", counted(*left_out, "row")),
        };
        let weight = match objective.penalty {
            Penalty::Kl => format!(" (times {} in the loss)", objective.beta),
            _ => " (in the loss as the objective weighs it)".to_owned(),
        };
        let dimensions = evaluation.kl_per_dimension.len();
        let mut text = format!(
            "{}{without}, nats per example\n\
             loss            {:10.4}\n\
             reconstruction  {:10.4}\n\
             KL              {:10.4}{weight}\n",
            counted(evaluation.rows, "row"),
            evaluation.loss,
            evaluation.reconstruction,
            evaluation.kl,
        );
        if let Some(marginal) = marginal {
            text.push_str(&format!(
                "ln p(x)         {:10.4} ± {:.4} ({} per row; ± one standard error)\n",
                marginal.log_likelihood,
                marginal.standard_error,
                counted(marginal.samples, "sample"),
            ));
        }
        text.push_str(&format!(
            "Parts of the KL, estimated from one code per row\n\
             mutual information  {:10.4} of the data and the code\n\
             total correlation   {:10.4} among the latent dimensions\n\
             dimension-wise KL   {:10.4} from the prior, summed over the dimensions\n\
             active units    {} of {dimensions} (variance of the mean over the data above 0.01)\n\
             collapsed units {} of {dimensions} (KL below 0.01 nats)\n\
             KL per latent dimension",
            parts.mutual_information,
            parts.total_correlation,
            parts.dimension_wise_kl,
            evaluation.active_units(),
            evaluation.collapsed_units(),
        ));
        for (dimension, kl) in evaluation.kl_per_dimension.iter().enumerate() {
            text.push_str(&format!("\n{dimension:>14}  {kl:10.4}"));
        }
        text
    }
}
