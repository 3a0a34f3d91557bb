//! `elbo traverse`: one latent dimension after the other is moved, the others are held.

use crate::args::{self, Dimensions, Input};
use crate::data::Data;
use crate::decoded::{Decodings, Strip};
use crate::failure::{Failure, Result};
use crate::generate::{class_of, code_of};
use crate::notes::Notes;
use elbo::Compute;
use elbo::vae::{ACTIVE_VARIANCE, EvaluationOptions, Vae};
use ndarray::{Array1, Array2};
use std::path::Path;

pub fn run(args: &args::Traverse, compute: &Compute) -> Result<()> {
    let (vae, notes, data) = match &args.from_data {
        None => {
            let (vae, mut notes) = args.model.open()?;
            notes.data.signed |= args.signed;
            (vae, notes, None)
        }
        Some(path) => {
            let (vae, notes, data) = args.input(path).open_for(args.out.path())?;
            check_row("--row", args.row, &data)?;
            (vae, notes, Some(data))
        }
    };
    let known = Known::of(&vae, &notes, data.as_ref(), compute)?;
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
    let decodings = Decodings {
        vae: &vae,
        notes: &notes,
        title: title(args, data.as_ref()),
        along: "moved by (standard deviations of the prior)",
        strips: strips.collect(),
        places,
        outputs,
        keys: vec!["dimension", "value"],
    };
    decodings.write(&args.out, &args.shape)
}

fn title(args: &args::Traverse, data: Option<&Data>) -> String {
    let center = match data {
        None => "the mean of the prior".to_owned(),
        Some(data) => format!("row {} of {}", args.row, file_name(data)),
    };
    let class = args.label.as_ref().map_or_else(String::new, |label| format!(", class {label}"));
    format!("Latent traversals around {center}{class}")
}

/// The file of the data without its folder, for titles.
pub fn file_name(data: &Data) -> String {
    let name = Path::new(&data.name).file_name();
    name.map_or_else(|| data.name.clone(), |name| name.to_string_lossy().into_owned())
}

impl args::Traverse {
    /// The model and the data to start from, as other commands read them.
    fn input(&self, data: &Path) -> Input {
        Input {
            model: self.model.clone(),
            data: data.to_owned(),
            labels: self.labels.clone(),
            clip_to_range: self.clip_to_range,
            signed: self.signed,
            reading: self.reading.clone(),
        }
    }
}

/// That the data have the row that `option` asks for.
pub fn check_row(option: &str, row: usize, data: &Data) -> Result<()> {
    if row < data.len() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{option} {row}: {} has {} rows, 0 to {}",
        data.name,
        data.len(),
        data.len() - 1
    )))
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
struct Known {
    kl: Vec<f64>,
    mu_variance: Vec<f64>,
}

impl Known {
    /// From the model's notes, or else from data.
    fn of(
        vae: &Vae,
        notes: &Notes,
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
        let rows = data.part(0..data.len());
        let found = data.used(vae.evaluate(compute, &rows, &EvaluationOptions::default()))?;
        Ok(Some(Self { kl: found.kl_per_dimension, mu_variance: found.mu_variance }))
    }
}

fn chosen(dimensions: &Dimensions, latent: usize, known: Option<&Known>) -> Result<Vec<usize>> {
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
    args: &args::Traverse,
    vae: &Vae,
    notes: &Notes,
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

pub fn one_hot(class: usize, classes: usize) -> Array1<f32> {
    Array1::from_shape_fn(classes, |i| f32::from(u8::from(i == class)))
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
        let known = Known { kl: vec![0.0; 4], mu_variance: vec![0.02, 0.001, 0.9, 0.01] };
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
}
