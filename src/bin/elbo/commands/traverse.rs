//! `elbo traverse`: one latent dimension varies at a time, the others stay fixed.

use crate::data::Data;
use crate::data::domain::Accepted;
use crate::failure::{Failure, Result};
use crate::model::ModelMetadata;
use crate::model::decode::{class_of, code_of, one_hot};
use crate::options::data::{ModelAndData, ModelFile};
use crate::options::overwrite::OverwriteOption;
use crate::options::reading::ReadingOptions;
use crate::options::values::{count, positive};
use crate::output::path::DecodedPath;
use crate::output::strips::{DecodedGrid, Strip};
use crate::text::counted;
use clap::Args;
use elbo::Compute;
use elbo::vae::{ACTIVE_VARIANCE, EvaluationOptions, Vae};
use ndarray::{Array1, Array2};
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

/// Vary one latent dimension at a time and decode
#[derive(Debug, Args)]
#[command(after_long_help = "\
Each row of the figure is a latent dimension, which moves in equal steps while the others stay fixed. For the \
model of a table the outputs are drawn as lines: those of the five columns that change most.

Examples:
  elbo traverse --model elbo-out/model.safetensors --out traversals.png
  elbo traverse --model m.safetensors --dimensions active --steps 15 --range 2 --out active.svg
  elbo traverse --model m.safetensors --data t10k-images-idx3-ubyte.gz --row 5 --out five.png
  elbo traverse --model table.safetensors --dimensions 0,3 --out moves.csv")]
pub struct TraverseOptions {
    #[command(flatten)]
    model: ModelFile,

    /// Dimensions to vary: all, active, or a list such as 0,3,5
    ///
    /// active: those whose mean has a variance above 0.01 over the data, the most active first; the model file
    /// of `elbo train` knows them.
    #[arg(long, value_name = "WHICH", default_value = "all")]
    dimensions: Dimensions,

    /// Steps of each dimension, both ends included
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = count(1000),
          allow_negative_numbers = true)]
    steps: usize,

    /// Largest move, in standard deviations of the prior
    #[arg(long, value_name = "R", default_value_t = 3.0, value_parser = positive::<f64>,
          allow_negative_numbers = true)]
    range: f64,

    /// Move around the code of a row of this data [default: prior mean]
    ///
    /// In any format of `elbo train`; - for standard input. The center is the mean of the row's code.
    #[arg(long, value_name = "FILE", alias = "from-data")]
    data: Option<PathBuf>,

    /// Row of --data, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = row, requires = "data",
          allow_negative_numbers = true)]
    row: usize,

    /// Labels of --data, one per row (conditional models)
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Class to decode (conditional models) [default: that of the row]
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    label: Option<String>,

    /// Clip values outside the training range (models of --scale min-max)
    #[arg(long, requires = "data")]
    clip_to_range: bool,

    /// Map data from [0, 1] to [-1, 1] (models not written by elbo)
    #[arg(long)]
    signed: bool,

    /// File to write: X.png, X.svg, X.npy, X.csv, or - for CSV
    ///
    /// .png or .svg: a figure with one dimension per row; .npy: an array (float32, or float64 of scaled
    /// data, [dimensions × steps, features]); .csv: a table with the columns dimension, value and the features.
    #[arg(long, short, value_name = "FILE")]
    out: DecodedPath,

    #[command(flatten)]
    overwrite: OverwriteOption,

    #[command(flatten)]
    reading: ReadingOptions,
}

/// A choice of latent dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimensions {
    All,
    Active,
    These(Vec<usize>),
}

impl FromStr for Dimensions {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match &text.trim().to_lowercase()[..] {
            "all" => Ok(Self::All),
            "active" => Ok(Self::Active),
            list => list
                .split(',')
                .map(|number| number.trim().parse().ok())
                .collect::<Option<Vec<_>>>()
                .map(Self::These)
                .ok_or("expected all, active, or numbers of dimensions such as 0,3,5"),
        }
    }
}

fn row(text: &str) -> std::result::Result<usize, &'static str> {
    text.parse().map_err(|_| "expected the number of a row, 0 or more")
}

pub fn run(args: &TraverseOptions, compute: &Compute) -> Result<()> {
    let (vae, notes, data) = match &args.data {
        None => {
            let (vae, mut notes) = args.model.open_for(args.overwrite.of(args.out.path()), &[])?;
            notes.data.signed |= args.signed;
            (vae, notes, None)
        }
        Some(path) => {
            let (vae, notes, data) = args
                .input(path)
                .open_for(args.overwrite.of(args.out.path()), Accepted::Readable)?;
            data.check_row("--row", args.row)?;
            (vae, notes, Some(data))
        }
    };
    let known = DimensionStatistics::of(&vae, &notes, data.as_ref(), compute)?;
    let dimensions = chosen(&args.dimensions, vae.config().latent(), known.as_ref())?;
    let (prior, steps) = (vae.config().prior(), args.steps);
    let center = match &data {
        None => Array1::from_elem(vae.config().latent(), prior.mean),
        Some(data) => code_of(&vae, compute, data, args.row)?,
    };
    let places: Vec<f64> = (0..steps).map(|step| place(step, steps, args.range)).collect();
    let moved =
        |dimension: usize, place: f64| center[dimension] + (place * f64::from(prior.std)) as f32;

    let mut z = Array2::zeros((dimensions.len() * steps, center.len()));
    for (row, mut code) in z.rows_mut().into_iter().enumerate() {
        code.assign(&center);
        let dimension = dimensions[row / steps];
        code[dimension] = moved(dimension, places[row % steps]);
    }
    let outputs = match condition(args, &vae, &notes, data.as_ref())? {
        None => vae.decode(compute, z.view())?,
        Some(condition) => {
            let conditions = condition.broadcast((z.nrows(), condition.len()));
            vae.decode_given(compute, z.view(), conditions.expect("one row for all"))?
        }
    };
    let strips = dimensions.iter().map(|&dimension| Strip {
        name: format!("dimension {dimension}"),
        detail: known
            .as_ref()
            .map_or_else(String::new, |k| format!("KL {:.2} nats", k.kl[dimension])),
        keys: vec![dimension.to_string()],
        values: places.iter().map(|&place| moved(dimension, place)).collect(),
        ends: None,
    });
    let image = args.reading.image.images(vae.config().features(), &notes.data)?;
    let decodings = DecodedGrid {
        vae: &vae,
        data: &notes.data,
        title: title(args, data.as_ref()),
        along: "change (standard deviations of the prior)",
        strips: strips.collect(),
        places,
        outputs,
        keys: vec!["dimension", "value"],
    };
    decodings.write(&args.out, image)
}

fn title(args: &TraverseOptions, data: Option<&Data>) -> String {
    let center = match data {
        None => "the mean of the prior".to_owned(),
        Some(data) => format!("row {} of {}", args.row, data.file_name()),
    };
    let class = args.label.as_ref().map_or_else(String::new, |label| format!(", class {label}"));
    format!("Latent traversals around {center}{class}")
}

impl TraverseOptions {
    /// Returns the model and the data in the form of other commands.
    fn input(&self, data: &Path) -> ModelAndData {
        ModelAndData {
            model: self.model.clone(),
            data: data.to_owned(),
            labels: self.labels.clone(),
            clip_to_range: self.clip_to_range,
            signed: self.signed,
            reading: self.reading.clone(),
        }
    }
}

/// Returns step `step` of `steps` from −range to range; a single step is in the middle.
fn place(step: usize, steps: usize, range: f64) -> f64 {
    if steps < 2 {
        return 0.0;
    }
    // Symmetric to the last bit.
    range * (2.0 * step as f64 - (steps - 1) as f64) / (steps - 1) as f64
}

/// KL divergence and variance of each latent dimension.
struct DimensionStatistics {
    kl: Vec<f64>,
    mu_variance: Vec<f64>,
}

impl DimensionStatistics {
    /// Takes them from the model file, or else from data.
    fn of(
        vae: &Vae,
        notes: &ModelMetadata,
        data: Option<&Data>,
        compute: &Compute,
    ) -> Result<Option<Self>> {
        let latent = vae.config().latent();
        if let Some(training) = &notes.training
            && [&training.kl_per_dimension, &training.mu_variance].iter().all(|v| v.len() == latent)
        {
            let (kl, mu_variance) =
                (training.kl_per_dimension.clone(), training.mu_variance.clone());
            return Ok(Some(Self { kl, mu_variance }));
        }
        let Some(data) = data else { return Ok(None) };
        let rows = data.view(0..data.len());
        let found = data.used(vae.evaluate(compute, &rows, &EvaluationOptions::default()))?;
        Ok(Some(Self { kl: found.kl_per_dimension, mu_variance: found.mu_variance }))
    }
}

fn chosen(
    dimensions: &Dimensions,
    latent: usize,
    known: Option<&DimensionStatistics>,
) -> Result<Vec<usize>> {
    match dimensions {
        Dimensions::All => Ok((0..latent).collect()),
        Dimensions::These(list) => match list.iter().find(|&&dimension| dimension >= latent) {
            None => Ok(list.clone()),
            Some(wrong) => Err(Failure::Usage(format!(
                "--dimensions: {wrong}: the model has {latent} latent dimension{}, numbered from 0",
                if latent == 1 { "" } else { "s" }
            ))),
        },
        Dimensions::Active => {
            let known = known.ok_or_else(|| {
                Failure::Usage(
                    "--dimensions active requires --data: the model file does not say which dimensions \
                     are active"
                        .to_owned(),
                )
            })?;
            let variance = |dimension: &usize| known.mu_variance[*dimension];
            let mut active: Vec<usize> =
                (0..latent).filter(|d| variance(d) > ACTIVE_VARIANCE).collect();
            active.sort_by(|a, b| variance(b).total_cmp(&variance(a)));
            if active.is_empty() {
                return Err(Failure::Run(format!(
                    "--dimensions active: no dimension's mean has a variance above {ACTIVE_VARIANCE}: the \
                     posterior has collapsed; --dimensions all shows the dimensions nevertheless"
                )));
            }
            Ok(active)
        }
    }
}

/// Returns the class to decode, one-hot; `None` for a model without conditions.
fn condition(
    args: &TraverseOptions,
    vae: &Vae,
    notes: &ModelMetadata,
    data: Option<&Data>,
) -> Result<Option<Array1<f32>>> {
    let classes = vae.config().conditions();
    if let Some(label) = &args.label {
        let class = class_of(label, classes, &notes.data)?;
        return Ok(Some(one_hot(class, classes)));
    }
    if classes == 0 {
        return Ok(None);
    }
    let row = data.and_then(|data| data.conditions(args.row..args.row + 1));
    row.map(|row| Some(row.row(0).to_owned())).ok_or_else(|| {
        Failure::Usage(format!(
            "--label: missing; the model is conditional on {}; name the class to decode",
            counted(classes, "class")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_symmetric() {
        let places: Vec<f64> = (0..5).map(|step| place(step, 5, 3.0)).collect();
        assert_eq!(places, [-3.0, -1.5, 0.0, 1.5, 3.0]);
        assert_eq!(place(0, 1, 3.0), 0.0);
        for steps in 2..40 {
            for step in 0..steps {
                let (left, right) = (place(step, steps, 0.7), place(steps - 1 - step, steps, 0.7));
                assert_eq!(left, -right);
            }
        }
    }

    #[test]
    fn active_dimensions_are_sorted_by_variance() {
        let known =
            DimensionStatistics { kl: vec![0.0; 4], mu_variance: vec![0.02, 0.001, 0.9, 0.01] };
        let of = |dimensions| chosen(&dimensions, 4, Some(&known));
        assert_eq!(of(Dimensions::Active).unwrap(), [2, 0]);
        assert_eq!(of(Dimensions::All).unwrap(), [0, 1, 2, 3]);
        assert_eq!(of(Dimensions::These(vec![3, 0])).unwrap(), [3, 0]);
        assert!(
            of(Dimensions::These(vec![4])).unwrap_err().to_string().contains("4: the model has 4")
        );
        let message = chosen(&Dimensions::Active, 4, None).unwrap_err().to_string();
        assert!(message.contains("--data"), "{message}");
    }

    #[test]
    fn parses_dimensions() {
        assert_eq!("all".parse(), Ok(Dimensions::All));
        assert_eq!("active".parse(), Ok(Dimensions::Active));
        assert_eq!("0, 3,5".parse(), Ok(Dimensions::These(vec![0, 3, 5])));
        for text in ["", "some", "1,", "-1", "1.5"] {
            assert!(text.parse::<Dimensions>().is_err(), "{text}");
        }
    }
}
