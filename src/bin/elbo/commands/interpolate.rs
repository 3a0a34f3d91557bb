//! `elbo interpolate`: codes between those of two rows.

use crate::data::Data;
use crate::data::domain::Accepted;
use crate::failure::Result;
use crate::model::ModelMetadata;
use crate::model::decode::{class_of, code_of, one_hot};
use crate::options::data::ModelAndData;
use crate::options::overwrite::OverwriteOption;
use crate::output::path::DecodedPath;
use crate::output::strips::{DecodedGrid, Strip};
use clap::Args;
use elbo::Compute;
use elbo::loss::Prior;
use elbo::vae::Vae;
use ndarray::{Array1, Array2, Axis, concatenate};

/// Interpolate between the codes of rows of a data set
#[derive(Debug, Args)]
#[command(after_long_help = "\
The mean codes of two rows are connected, and the codes between them are decoded. In a figure of images the rows \
themselves stand at both ends.

Examples:
  elbo interpolate --model elbo-out/model.safetensors --data t10k-images-idx3-ubyte.gz --rows 0,1,2 \
--out ways.png
  elbo interpolate --model m.safetensors --data table.csv --rows 4,17 --steps 5 --spherical --out way.csv")]
pub struct InterpolateOptions {
    #[command(flatten)]
    input: ModelAndData,

    /// Rows to interpolate between, counted from 0, such as 0,7
    ///
    /// A,B for one strip; A,B,C for one from A to B and one from B to C.
    #[arg(long, help_heading = None, value_name = "ROWS", value_parser = rows, allow_hyphen_values = true)]
    rows: RowList,

    /// Codes of a strip, both ends included
    #[arg(long, help_heading = None, value_name = "N", default_value_t = 10, value_parser = count_from_two,
          allow_negative_numbers = true)]
    steps: usize,

    /// Interpolate along an arc about the prior mean [default: a line]
    ///
    /// On the arc, codes stay as far from the mean as typical codes are.
    #[arg(long, help_heading = None)]
    spherical: bool,

    /// Class to decode (conditional models) [default: those of the rows]
    ///
    /// By default the classes of the rows are mixed as the codes are.
    #[arg(long, help_heading = None, value_name = "CLASS", allow_hyphen_values = true)]
    label: Option<String>,

    /// File to write: X.png, X.svg, X.npy, X.csv, or - for CSV
    ///
    /// .png or .svg: a figure; .npy: an array (float32, or float64 of scaled data, [strips × steps,
    /// features]); .csv: a table with the columns from, to, part and the features.
    #[arg(long, short, help_heading = None, value_name = "FILE")]
    out: DecodedPath,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

/// Rows in the order of their strips, at least two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowList(pub Vec<usize>);

fn rows(text: &str) -> std::result::Result<RowList, &'static str> {
    let numbers: Option<Vec<usize>> =
        text.split(',').map(|number| number.trim().parse().ok()).collect();
    numbers
        .filter(|numbers| numbers.len() >= 2)
        .map(RowList)
        .ok_or("expected at least two rows, counted from 0 and separated by commas, such as 0,7")
}

fn count_from_two(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n) if (2..=1000).contains(&n) => Ok(n),
        _ => Err("expected a whole number from 2 to 1000".to_owned()),
    }
}

pub fn run(args: &InterpolateOptions, compute: &Compute) -> Result<()> {
    let (vae, notes, data) =
        args.input.open_for(args.overwrite.of(args.out.path()), Accepted::Readable)?;
    for &row in &args.rows.0 {
        data.check_row("--rows: row", row)?;
    }
    let ends: Vec<End> = args
        .rows
        .0
        .iter()
        .map(|&row| End::of(row, args, &vae, &notes, &data, compute))
        .collect::<Result<_>>()?;
    let prior = vae.config().prior();
    let last = (args.steps - 1) as f64;
    let places: Vec<f64> = (0..args.steps).map(|step| step as f64 / last).collect();
    let (mut z, mut conditions): (Vec<f32>, Vec<f32>) = (Vec::new(), Vec::new());
    for pair in ends.windows(2) {
        for &place in &places {
            z.extend(between(&pair[0].code, &pair[1].code, place, args.spherical, prior));
            // A class that both rows have stays the same, bit for bit.
            conditions.extend(line(&pair[0].condition, &pair[1].condition, place));
        }
    }
    let rows = (ends.len() - 1) * places.len();
    let z = Array2::from_shape_vec((rows, vae.config().latent()), z).expect("codes of one width");
    let classes = vae.config().conditions();
    let outputs = if classes == 0 {
        vae.decode(compute, z.view())?
    } else {
        let conditions = Array2::from_shape_vec((rows, classes), conditions).expect("one a code");
        vae.decode_given(compute, z.view(), conditions.view())?
    };
    let strips = ends.windows(2).map(|pair| Strip {
        name: format!("row {} → {}", pair[0].row, pair[1].row),
        detail: String::new(),
        keys: vec![pair[0].row.to_string(), pair[1].row.to_string()],
        values: places.iter().map(|&place| place as f32).collect(),
        ends: Some(concatenate![Axis(0), pair[0].input, pair[1].input]),
    });
    let way = if args.spherical { "arcs" } else { "straight lines" };
    let image = args.input.reading.image.images(vae.config().features(), &notes.data)?;
    let decodings = DecodedGrid {
        vae: &vae,
        data: &notes.data,
        title: format!("Along {way} between the codes of rows"),
        along: "share of the way",
        strips: strips.collect(),
        places,
        outputs,
        keys: vec!["from", "to", "part"],
    };
    decodings.write(&args.out, image)
}

/// A row at an end of a strip.
struct End {
    row: usize,
    /// `[1, D]`, as the model reads it.
    input: Array2<f32>,
    /// Mean of its posterior.
    code: Array1<f32>,
    /// Condition to decode it with; empty for a model without conditions.
    condition: Array1<f32>,
}

impl End {
    fn of(
        row: usize,
        args: &InterpolateOptions,
        vae: &Vae,
        notes: &ModelMetadata,
        data: &Data,
        compute: &Compute,
    ) -> Result<Self> {
        let classes = vae.config().conditions();
        let condition = match &args.label {
            Some(label) => one_hot(class_of(label, classes, &notes.data)?, classes),
            None if classes == 0 => Array1::zeros(0),
            None => data
                .conditions(row..row + 1)
                .map_or_else(|| Array1::zeros(classes), |conditions| conditions.row(0).to_owned()),
        };
        let code = code_of(vae, compute, data, row)?;
        Ok(Self { row, input: data.numbers(row..row + 1)?, code, condition })
    }
}

/// Returns the code at a part of the way, computed in f64.
fn between(
    from: &Array1<f32>,
    to: &Array1<f32>,
    part: f64,
    spherical: bool,
    prior: Prior,
) -> Vec<f32> {
    if spherical { arc(from, to, part, prior) } else { line(from, to, part) }
}

fn line(from: &Array1<f32>, to: &Array1<f32>, part: f64) -> Vec<f32> {
    let mixed = |(&a, &b): (&f32, &f32)| ((1.0 - part) * f64::from(a) + part * f64::from(b)) as f32;
    from.iter().zip(to).map(mixed).collect()
}

/// Spherical linear interpolation (Shoemake 1985; of latent codes White 2016), about the prior's mean.
///
/// Codes in the same or in opposite directions span no plane to turn in; they are connected by a line.
fn arc(from: &Array1<f32>, to: &Array1<f32>, part: f64, prior: Prior) -> Vec<f32> {
    let mean = f64::from(prior.mean);
    let pairs = || from.iter().zip(to).map(|(&a, &b)| (f64::from(a) - mean, f64::from(b) - mean));
    let (aa, bb, ab) =
        pairs().fold((0.0, 0.0, 0.0), |(aa, bb, ab), (a, b)| (aa + a * a, bb + b * b, ab + a * b));
    let angle = (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0).acos();
    // The angle is NaN if a code is the mean itself.
    if angle.is_nan() || angle.sin() < 1e-6 {
        return line(from, to, part);
    }
    let [a_share, b_share] = [1.0 - part, part].map(|part| (part * angle).sin() / angle.sin());
    pairs().map(|(a, b)| (mean + a_share * a + b_share * b) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    const PRIOR: Prior = Prior { mean: 0.0, std: 1.0 };

    #[test]
    fn lines_and_arcs_start_and_end_at_the_rows() {
        let (a, b) = (arr1(&[3.0_f32, 0.0, 0.5]), arr1(&[0.25_f32, 2.0, -1.0]));
        for spherical in [false, true] {
            for (part, end) in [(0.0, &a), (1.0, &b)] {
                for (found, known) in between(&a, &b, part, spherical, PRIOR).iter().zip(end) {
                    assert!((found - known).abs() < 1e-6);
                }
            }
        }
        assert_eq!(line(&a, &b, 0.5), [1.625, 1.0, -0.25]);
        assert_eq!(line(&a, &a, 0.3), a.to_vec());
    }

    #[test]
    fn arc_keeps_its_distance_from_the_mean() {
        let (a, b) = (arr1(&[2.0_f32, 1.0]), arr1(&[1.0_f32, 2.0]));
        let prior = Prior { mean: 1.0, std: 2.0 };
        for step in 0..=10 {
            let code = arc(&a, &b, f64::from(step) / 10.0, prior);
            let far = (code[0] - 1.0).hypot(code[1] - 1.0);
            assert!((far - 1.0).abs() < 1e-6, "{code:?}");
        }
        let middle = arc(&a, &b, 0.5, prior);
        assert!((middle[0] - middle[1]).abs() < 1e-6);
        // No plane to turn in.
        let opposite = arr1(&[-4.0_f32, -2.0]);
        assert_eq!(arc(&a, &opposite, 0.5, PRIOR), [-1.0, -0.5]);
        assert_eq!(arc(&a, &a, 0.5, PRIOR), a.to_vec());
        assert_eq!(arc(&arr1(&[0.0, 0.0]), &b, 0.5, PRIOR), [0.5, 1.0]);
    }

    #[test]
    fn requires_two_rows_and_two_steps() {
        for text in ["", "some", "1,", "-1", "1.5", "1"] {
            assert!(rows(text).is_err(), "{text}");
        }
        assert!(rows("4,4").is_ok());
        assert!(count_from_two("1").is_err() && count_from_two("2").is_ok());
    }
}
