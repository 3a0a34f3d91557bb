//! `elbo traverse`: one latent dimension after the other is moved, the others are held.

use crate::data::Data;
use crate::failure::{Failure, Result};
use crate::model::ModelMetadata;
use crate::model::decode::{class_of, code_of, one_hot};
use crate::options::data::{ImageSize, ModelAndData, ModelFile};
use crate::options::reading::ReadingOptions;
use crate::options::values::{self, count};
use crate::output::path::DecodedPath;
use crate::output::strips::{DecodedGrid, Strip};
use clap::Args;
use elbo::Compute;
use elbo::vae::{ACTIVE_VARIANCE, EvaluationOptions, Vae};
use ndarray::{Array1, Array2};
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

/// Show what each latent dimension means: move one at a time and decode
#[derive(Debug, Args)]
#[command(after_help = "\
Each row of the picture is a latent dimension, moved in equal steps while the others are held. Outputs of a \
table's model are drawn as lines: those of the five columns that change most.

Examples:
  elbo traverse --model elbo-out/model.safetensors --out traversals.png
  elbo traverse --model m.safetensors --dimensions active --steps 15 --range 2 --out active.svg
  elbo traverse --model m.safetensors --from-data t10k-images-idx3-ubyte.gz --row 5 --out five.png
  elbo traverse --model table.safetensors --dimensions 0,3 --out moves.csv")]
pub struct TraverseOptions {
    #[command(flatten)]
    pub model: ModelFile,

    /// The latent dimensions to move: all, active (those whose mean varies over the data by more than 0.01,
    /// most active first; the model file of `elbo train` knows them), or numbers such as 0,3,5
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub dimensions: Dimensions,

    /// Values of each dimension, the first and the last one included
    #[arg(long, value_name = "N", default_value_t = 11, value_parser = count(1000),
          allow_negative_numbers = true)]
    pub steps: usize,

    /// How far a dimension moves in each direction, in standard deviations of the prior
    #[arg(long, value_name = "R", default_value_t = 3.0, value_parser = values::above_zero,
          allow_negative_numbers = true)]
    pub range: f64,

    /// Move around the mean code of a row of this data file [default: around the mean of the prior]
    #[arg(long, value_name = "FILE")]
    pub from_data: Option<PathBuf>,

    /// The row of --from-data, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = row, requires = "from_data",
          allow_negative_numbers = true)]
    pub row: usize,

    /// Labels of --from-data, which a conditional model needs to encode a row
    #[arg(long, value_name = "FILE", requires = "from_data")]
    pub labels: Option<PathBuf>,

    /// Of a model of --scale min-max: read a number of --from-data outside of the training rows' range as
    /// the nearer end of it
    #[arg(long, requires = "from_data")]
    pub clip_to_range: bool,

    /// Of a conditional model: the class to decode [default: that of the row of --from-data]
    #[arg(long, value_name = "CLASS", allow_hyphen_values = true)]
    pub label: Option<String>,

    /// Data from -1 to 1: of a model from elsewhere that was trained so
    #[arg(long)]
    pub signed: bool,

    /// X.png or X.svg for a picture, one dimension a row; X.npy for an array (float32, [dimensions × steps,
    /// features]); X.csv for a table with the columns dimension, value and the features
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: DecodedPath,

    #[command(flatten)]
    pub shape: ImageSize,

    #[command(flatten)]
    pub reading: ReadingOptions,
}

/// Which latent dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimensions {
    All,
    Active,
    These(Vec<usize>),
}

impl FromStr for Dimensions {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text.trim() {
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
    let (vae, notes, data) = match &args.from_data {
        None => {
            let (vae, mut notes) = args.model.open()?;
            notes.data.signed |= args.signed;
            (vae, notes, None)
        }
        Some(path) => {
            let (vae, notes, data) = args.input(path).open_for(args.out.path())?;
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
    let image = args.shape.images(vae.config().features(), &notes.data)?;
    let decodings = DecodedGrid {
        vae: &vae,
        data: &notes.data,
        title: title(args, data.as_ref()),
        along: "moved by (standard deviations of the prior)",
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
    /// The model and the data to start from, as other commands read them.
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

/// Step `step` of `steps` from −range to range; a single one is in the middle.
fn place(step: usize, steps: usize, range: f64) -> f64 {
    if steps < 2 {
        return 0.0;
    }
    // Symmetric to the last bit.
    range * (2.0 * step as f64 - (steps - 1) as f64) / (steps - 1) as f64
}

/// What is known about the dimensions.
struct DimensionStatistics {
    kl: Vec<f64>,
    mu_variance: Vec<f64>,
}

impl DimensionStatistics {
    /// From the model's notes, or else from data.
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
                    "--dimensions active: the model file does not say which are; name data with \
                     --from-data"
                        .to_owned(),
                )
            })?;
            let variance = |dimension: &usize| known.mu_variance[*dimension];
            let mut active: Vec<usize> =
                (0..latent).filter(|d| variance(d) > ACTIVE_VARIANCE).collect();
            active.sort_by(|a, b| variance(b).total_cmp(&variance(a)));
            if active.is_empty() {
                return Err(Failure::Run(format!(
                    "--dimensions active: no dimension's mean varies by more than {ACTIVE_VARIANCE}: the posterior \
                     has collapsed; --dimensions all shows them nevertheless"
                )));
            }
            Ok(active)
        }
    }
}

/// The class that is decoded, one-hot; `None` of a model without conditions.
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
            "--label: missing; the model is conditional, with {classes} classes: which is to be decoded?"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_symmetric() {
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
    fn active_dimensions_come_in_the_order_of_their_variance() {
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
        assert!(message.contains("--from-data"), "{message}");
    }

    #[test]
    fn lists_are_of_numbers() {
        assert_eq!("all".parse(), Ok(Dimensions::All));
        assert_eq!("active".parse(), Ok(Dimensions::Active));
        assert_eq!("0, 3,5".parse(), Ok(Dimensions::These(vec![0, 3, 5])));
        for text in ["", "some", "1,", "-1", "1.5"] {
            assert!(text.parse::<Dimensions>().is_err(), "{text}");
        }
    }
}
