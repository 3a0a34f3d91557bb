//! The command line: what can be asked for, and what makes no sense.

mod choice;
mod completions;
mod convert;
mod data;
mod export;
mod files;
mod inspect;
mod man;
mod model;
mod objective;
mod optimizer;
mod plot;
mod preset;
mod reading;
mod score;
mod train;
mod traverse;
mod values;

pub use completions::Completions;
pub use convert::{Convert, LayoutName};
pub use data::{Augment, Course, Input, Model, Shape, TrainingData};
pub use export::{Export, PartName};
pub use files::{Decoded, Format, Picture};
pub use inspect::Inspect;
pub use man::Man;
pub use model::{Architecture, Output};
pub use objective::{Importance, Weight};
pub use optimizer::Descent;
pub use plot::{Figure, History, Kl, KlPerDimension, Latent, Plot, Roc};
pub use preset::Preset;
pub use reading::{Reading, Stream};
pub use score::Score;
pub use train::{Keep, Train};
pub use traverse::{Dimensions, Interpolate, Traverse};
pub use values::{PictureOrArray, TableOrArray};

use crate::failure::Result;
use clap::builder::{StringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use elbo::Compute;
use elbo::simd::InstructionSet;
use std::path::PathBuf;
use values::{MAX_WIDTH, array_name, count, seed};

/// Train and use MLP variational autoencoders: the same bits on any thread count and any
/// instruction set.
#[derive(Debug, Parser)]
#[command(name = "elbo", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    #[command(flatten)]
    pub machine: Machine,
}

/// How the work is done. Neither option changes a bit of any result.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct Machine {
    /// Threads to compute on [default: as many as the process may use]
    #[arg(long, global = true, value_name = "N", value_parser = count(4096), allow_negative_numbers = true)]
    threads: Option<usize>,

    /// Instruction set: auto (the widest there is), scalar, v3 (AVX2 and FMA), v4 (AVX-512),
    /// neon
    #[arg(long, global = true, value_name = "SET", default_value = "auto", value_parser = simd())]
    simd: InstructionSet,
}

impl Machine {
    /// The instruction set and the threads that were asked for.
    pub fn compute(&self) -> Result<Compute> {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Compute::new(self.simd, self.threads.unwrap_or_else(available))?)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model and leave it in a folder with its history and pictures
    #[command(
        args_override_self = true,
        after_help = "\
Without --data it trains on an embedded sample of MNIST (5,000 images; the test takes 1,000 others). \
The folder then holds model.safetensors, history.csv and history.jsonl (a line for each epoch; history.jsonl.part while the run goes on), run.toml \
(the options of the run), samples.png, reconstructions.png (inputs above outputs) and loss.png.

Of a table (.csv, .tsv, commas, semicolons, tabs or | between the columns) every column is a feature but \
that of the labels; a missing value is an error that names its line. Most tables want --scale standardize \
--likelihood gaussian. Parquet and Arrow are not read, as that would more than double what the tool is \
built of; in Python, `pandas.read_parquet('t.parquet').to_csv('t.csv', index=False)` makes a table of \
them. Pictures of one folder, or of one folder for each class, are read in the order of their names, gray \
unless --rgb says otherwise.

A long run can be interrupted: Ctrl-C finishes the step, writes a checkpoint and says how to go on; with \
--checkpoint-every a run that is killed loses no more than that. Resumed, it comes to the same bits as if \
nothing had happened.

Examples:
  elbo train
  elbo train --data train-images-idx3-ubyte.gz --test t10k-images-idx3-ubyte.gz --out mnist
  elbo train --data table.csv --label-column kind --scale standardize --likelihood gaussian
  elbo train --data table.csv --columns 2-9,12 --scale min-max --test-fraction 0.2
  elbo train --data photos --size 64x48 --rgb --out faces
  elbo train --data train.npz --array x_train
  elbo train --data table.npy --hidden 256,64 --latent 8 --epochs 50 --json --quiet
  elbo train --encoder 512,256 --decoder 256,512 --activation gelu --layer-norm --dropout 0.1
  elbo train --likelihood continuous-bernoulli
  elbo train --data table.npy --likelihood gaussian --variance per-feature
  elbo train --signed --likelihood squared-error --output tanh --beta 0.5
  elbo train --beta 4 --anneal cyclical --cycles 4
  elbo train --free-bits 0.1 --free-bits-per dimension
  elbo train --capacity 25 --capacity-gamma 100 --capacity-over 2000steps
  elbo train --total-correlation --beta 6
  elbo train --importance-samples 5 --estimator dreg --augment binarize
  elbo train --optimizer adamw --weight-decay 0.01 --schedule cosine --warm-up 100 --clip-norm 5
  elbo train --conditional --latent 5 --hidden 256 --batch 32 --epochs 30
  elbo train --epochs 500 --patience 20 --checkpoint-every 10epochs --out long
  elbo train --resume long
  elbo train --preset beta-vae --beta 2
  elbo train --config long/run.toml --seed 2 --out second

At the end it warns of two ways in which a run goes wrong. Posterior collapse: most latent dimensions \
carry less than 0.01 nats of the test data. Reconstruction drowns the KL: over the first 1,000 test rows, \
the aggregate posterior of an active latent dimension is on average more than 0.8 nats from the prior, so \
that codes drawn from the prior are not such as the decoder has learned."
    )]
    Train(Box<Train>),

    /// Measure a model's loss on a data set
    #[command(after_help = "\
Deterministic: the noise is a function of the seed and of the row. The model file holds the likelihood \
and the prior, but neither objective nor augmentation: what is not said here is the ELBO of the data as \
they are. An annealed weight and a capacity count with their last value. Mutual information, total \
correlation and dimension-wise KL, whose sum is the KL divergence, are estimated from the first 10,000 \
rows; the mutual information so found is at most the logarithm of their number.

Examples:
  elbo eval --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz --json
  elbo eval --model m.safetensors --data t10k-images-idx3-ubyte.gz --augment binarize \
--importance-samples 5000
  elbo eval --model m.safetensors --data digits.gz --labels labels.gz --total-correlation --beta 6")]
    Eval(Box<Eval>),

    /// Score each row of a data set: how well the model knows it
    #[command(after_help = "\
A row's columns, in nats: reconstruction, -ln p(x|z) with the decoder at the mean of the row's latent code; \
kl, the divergence of the code from the prior; negative_elbo, their sum: the larger, the more unusual the \
row. They are a function of the row and of the model alone. The threshold of --flag-above is a quantile of \
the negative_elbo of the rows that the model was trained on, which the model file holds (of at most \
262,144 of them). Rows are counted from 0; labels, where the data have some, are the last column.

Examples:
  elbo score --model elbo-out/model.safetensors --data table.csv --out scores.csv
  elbo score --model elbo-out/model.safetensors --data new.csv --flag-above 0.99 --out scores.csv
  elbo score --model elbo-out/model.safetensors --data new.npy --importance-samples 500 --out scores.npy")]
    Score(Score),

    /// Show what is in a model file
    #[command(after_help = "\
Layers and parameters, likelihood and prior, how the data were read, how training went, and the KL \
divergence of each latent dimension over the test data. A file from elsewhere has no more than the layers.

Examples:
  elbo inspect elbo-out/model.safetensors
  elbo inspect elbo-out/model.safetensors --json")]
    Inspect(Inspect),

    /// Draw examples from a model
    #[command(after_help = "\
Deterministic: sample i is a function of the seed and of i (and of its class).

Examples:
  elbo sample --model elbo-out/model.safetensors --count 100 --seed 7 --out samples.png
  elbo sample --model table/model.safetensors --count 1000 --out rows.csv
  elbo sample --model conditional.safetensors --label 7 --out sevens.png
  elbo sample --model conditional.safetensors --count 50 --out classes.svg")]
    Sample(Sample),

    /// Show what a model makes of a data set: each example encoded to its mean and decoded
    #[command(after_help = "\
Deterministic: the mean of the latent code is decoded, without noise.

Example:
  elbo reconstruct --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--out reconstructions.png")]
    Reconstruct(Reconstruct),

    /// Write the latent code of each example of a data set
    #[command(after_help = "\
With Z latent dimensions, row i of the array (float32, [rows, 2·Z]) holds the mean mu of example i in \
columns 0 to Z-1 and the logarithm of its variance, logvar, in columns Z to 2·Z-1.

Example:
  elbo encode --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz --out codes.npy
  python3 -c \"import numpy as np; mu, logvar = np.split(np.load('codes.npy'), 2, axis=1)\"")]
    Encode(Encode),

    /// Show what each latent dimension means: move one at a time and decode
    #[command(after_help = "\
Each row of the picture is a latent dimension, moved in equal steps while the others are held. Outputs of a \
table's model are drawn as lines: those of the five columns that change most.

Examples:
  elbo traverse --model elbo-out/model.safetensors --out traversals.png
  elbo traverse --model m.safetensors --dimensions active --steps 15 --range 2 --out active.svg
  elbo traverse --model m.safetensors --from-data t10k-images-idx3-ubyte.gz --row 5 --out five.png
  elbo traverse --model table.safetensors --dimensions 0,3 --out moves.csv")]
    Traverse(Traverse),

    /// Go from one row of a data file to another by way of their codes
    #[command(after_help = "\
The mean codes of two rows are joined, and each code on the way is decoded. In the picture the rows \
themselves stand at both ends.

Examples:
  elbo interpolate --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz --rows 0,1,2 \
--out ways.png
  elbo interpolate --model m.safetensors --data table.csv --rows 4,17 --steps 5 --spherical --out way.csv")]
    Interpolate(Interpolate),

    /// Draw figures: of a run, of a model's codes, of scores, of the KL divergence
    #[command(after_help = "\
Each figure is a PNG or an SVG, as the name after --out says; `elbo plot FIGURE --help` says more.

Examples:
  elbo plot history --run elbo-out --out history.png
  elbo plot latent --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz \
--labels t10k-labels-idx1-ubyte.gz --out latent.svg
  elbo plot roc --scores scores.csv --positive malignant --out roc.png
  elbo plot kl --out kl.png")]
    Plot(Plot),

    /// Measure the kernels on this machine, each beside what the machine can do at most
    #[command(after_help = "\
A case is measured on one thread and on --threads, and beside it its limit: the rate of fused \
multiply-adds that the processor reaches on those threads (peak), or the memory's triad a = b + s*c \
on arrays of the same length. `fraction` is value / limit. A share means something on a machine that \
does nothing else.

Cases: peak, triad, train_step (gathering rows, noise, loss, backward, Adam), loss (BCE + KL with \
gradients), product (of one layer: forward, input gradient, weight gradient), math, noise (normal \
numbers), infer (encode to the mean, decode, sigmoid), marginal (the likelihood of four rows from 5,000 \
samples each).

Examples:
  elbo bench
  elbo bench --filter train_step/784-400-20/128 --threads 2
  elbo bench --filter 'product/784-400 input gradient'
  elbo bench --json --simd v3 > v3.jsonl")]
    Bench(Bench),

    /// Turn a model file into a PyTorch state dict, or a state dict into a model file
    #[command(after_help = convert::AFTER_HELP)]
    Convert(Convert),

    /// Write a model for other programs to run
    #[command(after_help = export::AFTER_HELP)]
    Export(Export),

    /// Print a script that completes commands and options in a shell
    #[command(after_help = completions::AFTER_HELP)]
    Completions(Completions),

    /// Print the manual page, or write one for each command
    #[command(after_help = man::AFTER_HELP)]
    Man(Man),
}

#[derive(Debug, Args)]
pub struct Eval {
    #[command(flatten)]
    pub input: Input,

    #[command(flatten)]
    pub augment: Augment,

    #[command(flatten)]
    pub weight: Weight,

    /// Also estimate the marginal log-likelihood ln p(x) of each example from K samples, and its standard
    /// error over the examples (Burda et al. 2016, who take 5000)
    #[arg(long, value_name = "K", value_parser = count(MAX_WIDTH), allow_negative_numbers = true,
          help_heading = "Evaluation")]
    pub importance_samples: Option<usize>,

    /// Seed of the noise: one draw for each row
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = seed,
        allow_negative_numbers = true, help_heading = "Evaluation")]
    pub seed: u64,

    /// Print one line of JSON: rows, loss, reconstruction, kl, kl_per_dimension, mutual_information,
    /// total_correlation, dimension_wise_kl (nats per example), active_units, collapsed_units; with
    /// --importance-samples also importance_samples, marginal_log_likelihood, standard_error
    #[arg(long, help_heading = "Results")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Sample {
    #[command(flatten)]
    pub model: Model,

    /// Samples to draw
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    pub count: usize,

    /// Seed of the latent codes
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = seed,
        allow_negative_numbers = true)]
    pub seed: u64,

    /// Of a conditional model: the class to draw, by its name or else its number from 0 on [default: all
    /// classes in turn, each a column of the picture]
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    pub label: Option<String>,

    /// Map outputs from -1 to 1 to 0 to 1, of a model from elsewhere whose data were mapped there (the file
    /// of `elbo train --signed` says so itself); pictures show a tanh output so in any case
    #[arg(long)]
    pub signed: bool,

    /// X.png for a sheet of images, X.svg for the same with a title and the classes over their columns; X.npy
    /// for an array (float32, [count, features]), X.csv for a table with
    /// a header and the class, if there is one; in the units of the training data, what the likelihood has
    /// for its mean
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: PictureOrArray,

    #[command(flatten)]
    pub shape: Shape,
}

#[derive(Debug, Args)]
pub struct Reconstruct {
    #[command(flatten)]
    pub input: Input,

    /// Examples to reconstruct, from the first one on [default: 40 for a picture, else all]
    #[arg(long, value_name = "N", value_parser = count(MAX_WIDTH), allow_negative_numbers = true,
          help_heading = "Results")]
    pub count: Option<usize>,

    /// X.png for a sheet of images, inputs above outputs, X.svg for the same with a title and names; X.npy for the outputs as an array (float32, [rows,
    /// features]), X.csv as a table with a header; in the units of the training data, what the likelihood
    /// has for its mean
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: PictureOrArray,

    #[command(flatten)]
    pub shape: Shape,
}

#[derive(Debug, Args)]
pub struct Encode {
    #[command(flatten)]
    pub input: Input,

    /// X.npy, the array to write, or X.csv, a table with the header mu_0 … logvar_0 …
    #[arg(long, value_name = "FILE", value_parser = array_name, help_heading = "Results")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// Only the cases whose name, case/shape/batch, contains NAME
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,

    /// Repetitions of a case, of some 30 ms or one call each; the best and the median are shown
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = count(1000), allow_negative_numbers = true)]
    pub repetitions: usize,

    /// Print one line of JSON for each case: case, shape, batch, threads, simd, value (the best), unit,
    /// limit, limit_unit, fraction, median, milliseconds (a call, in the best repetition), gigabytes_per_second (of the triad)
    #[arg(long)]
    pub json: bool,
}

fn simd() -> impl TypedValueParser<Value = InstructionSet> {
    StringValueParser::new().try_map(|name| name.parse::<InstructionSet>())
}

#[cfg(test)]
mod tests {
    use super::values::HeightWidth;
    use super::*;
    use crate::failure::Failure;
    use crate::notes::ImageShape;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_documented() {
        fn check(name: &str, command: &clap::Command) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(name), "{name}: no example");
            for option in command.get_arguments() {
                assert!(option.get_help().is_some(), "{name}: {option}");
            }
            for below in command.get_subcommands() {
                check(&format!("{name} {}", below.get_name()), below);
            }
        }
        for command in Cli::command().get_subcommands() {
            check(&format!("elbo {}", command.get_name()), command);
        }
    }

    #[test]
    fn shapes_must_fit() {
        let shape = Shape { shape: Some("20x30".parse().unwrap()) };
        let image = |height, width, channels| ImageShape { height, width, channels };
        assert_eq!(shape.of(600, None).unwrap(), image(20, 30, 1));
        assert_eq!(shape.of(1800, None).unwrap(), image(20, 30, 3));
        assert!(matches!(shape.of(784, None), Err(Failure::Usage(_))));
        let known = Some(image(10, 20, 3));
        assert_eq!(Shape { shape: None }.of(600, known).unwrap(), image(10, 20, 3));
        assert_eq!(Shape { shape: None }.of(600, None).unwrap(), image(24, 25, 1));
        assert!("28".parse::<HeightWidth>().is_err() && "0x3".parse::<HeightWidth>().is_err());
    }
}
