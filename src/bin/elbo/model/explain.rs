//! The features that contribute most to the score of each row.

use super::usable::{LeftOut, Subset};
use crate::data::{Data, DataDescription, ImageShape};
use crate::failure::Result;
use elbo::vae::Vae;
use elbo::{Compute, Dataset};
use ndarray::{Array2, ArrayView1};

/// Rows that are explained at a time.
const PIECE: usize = 1024;

/// Name of the contribution of the KL divergence.
const KL: &str = "(kl)";

/// The largest contributions to each row's score, in descending order.
pub struct Explanations {
    /// Names of the features, then that of the KL divergence.
    pub names: Vec<String>,
    /// Contributions of each row, in nats, with the position of their name.
    pub of_rows: Vec<Vec<(usize, f64)>>,
}

/// Rows whose scores are explained.
pub struct Explained<'a> {
    pub vae: &'a Vae,
    pub data: &'a Data,
    pub description: &'a DataDescription,
    /// The KL divergence of each row.
    pub kl: &'a [f64],
    /// Rows that could not be scored.
    pub left_out: &'a [LeftOut],
}

impl Explained<'_> {
    /// Finds the `most` largest among the reconstruction terms of the features and the KL divergence. All of them
    /// add up to the negative ELBO. Of a row that could not be scored all are infinite, in the order of the size of
    /// the features.
    pub fn most(&self, compute: &Compute, most: usize) -> Result<Explanations> {
        let Self { vae, data, description, kl, left_out } = *self;
        let features = vae.config().features();
        let view = data.view(0..data.len());
        let mut of_rows = vec![Vec::new(); data.len()];
        let excess = excess(data, features)?;
        let is_left_out = |row: &usize| left_out.iter().any(|left_out| left_out.row == *row);
        let (unscored, scored): (Vec<usize>, Vec<usize>) = (0..data.len()).partition(is_left_out);
        for rows in scored.chunks(PIECE) {
            let elements = data.used(vae.score_features(compute, &Subset { data: &view, rows }))?;
            for (elements, &row) in elements.rows().into_iter().zip(rows) {
                let mut parts = elements.to_vec();
                if let Some(excess) = &excess {
                    parts
                        .iter_mut()
                        .zip(excess.row(row))
                        .for_each(|(part, excess)| *part += excess);
                }
                parts.push(kl[row]);
                of_rows[row] = largest(&parts, most);
            }
        }
        let mut numbers = vec![0.0; features];
        for row in unscored {
            view.read_row(row, &mut numbers);
            let sizes =
                numbers.iter().map(|x| if x.is_nan() { f64::INFINITY } else { f64::from(x.abs()) });
            let parts: Vec<f64> = sizes.chain([f64::NEG_INFINITY]).collect();
            of_rows[row] = largest(&parts, most);
            of_rows[row].iter_mut().for_each(|part| part.1 = f64::INFINITY);
        }
        data.check_read()?;
        let names = (0..features).map(|i| name(description, i)).chain([KL.to_owned()]);
        Ok(Explanations { names: names.collect(), of_rows })
    }
}

impl Explanations {
    /// Number of contributions of each row.
    pub fn count(&self) -> usize {
        self.of_rows.first().map_or(0, Vec::len)
    }
}

/// Distance of each feature of each row from the range to which it is clipped, if rows are.
fn excess(data: &Data, features: usize) -> Result<Option<Array2<f64>>> {
    let Some(domain) = data.clip else { return Ok(None) };
    let mut excess = Array2::zeros((data.len(), features));
    data.rows.each(|row, numbers| {
        let of_row = ArrayView1::from(&data.scaling.excess_of_features(numbers, domain)).to_owned();
        excess.row_mut(row).assign(&of_row);
        Ok(())
    })?;
    Ok(Some(excess))
}

/// The `most` largest parts in descending order, with their positions.
fn largest(parts: &[f64], most: usize) -> Vec<(usize, f64)> {
    let mut parts: Vec<(usize, f64)> = parts.iter().copied().enumerate().collect();
    let descending = |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if most < parts.len() {
        parts.select_nth_unstable_by(most, descending);
        parts.truncate(most);
    }
    parts.sort_by(descending);
    parts
}

/// Name of a feature; of an image, the row and the column of the pixel, and its channel.
fn name(data: &DataDescription, feature: usize) -> String {
    let Some(ImageShape { height, width, channels, channels_first }) = data.image else {
        return data.feature(feature);
    };
    let (pixel, channel) = match channels_first {
        true => (feature % (height * width), feature / (height * width)),
        false => (feature / channels, feature % channels),
    };
    let place = format!("row {} column {}", pixel / width, pixel % width);
    match channels {
        1 => place,
        _ => format!("{place} {}", ["red", "green", "blue"].get(channel).unwrap_or(&"alpha")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_columns_and_pixels() {
        let table = DataDescription { columns: vec!["age".into()], ..DataDescription::default() };
        assert_eq!((name(&table, 0), name(&table, 1)), ("age".into(), "x1".into()));
        let mut image = ImageShape::new(2, 3, 1);
        let named = |image, i| name(&DataDescription { image: Some(image), ..table.clone() }, i);
        assert_eq!(named(image, 5), "row 1 column 2");
        image.channels = 3;
        assert_eq!(named(image, 16), "row 1 column 2 green");
        image.channels_first = true;
        assert_eq!(named(image, 11), "row 1 column 2 green");
    }
}
