//! Rows that a model can score, apart from those that it cannot.

use crate::data::Data;
use crate::data::location;
use crate::failure::{Failure, Result, option_for, row_of};
use crate::text::{counted, number, thousands};
use elbo::{Dataset, Error};
use ndarray::{ArrayView1, ArrayView2};

/// Rows that are tried at a time in the search for those that fail.
const CHUNK: usize = 256;

/// Rows that a warning names.
const NAMED: usize = 5;

/// A row that cannot be scored, such as an outlier whose square exceeds the range of the numbers.
#[derive(Debug)]
pub struct LeftOut {
    pub row: usize,
    pub reason: Error,
}

/// Result of a computation on the rows that can be scored.
pub struct OfUsable<T> {
    pub result: T,
    /// Rows that were left out, in order.
    pub left_out: Vec<LeftOut>,
}

/// [`of_any`], and an error that names the first row if no row is left.
pub fn of_usable<T>(
    used: &Data,
    data: &dyn Dataset,
    probe: impl Fn(&dyn Dataset) -> elbo::Result<()>,
    work: impl Fn(&dyn Dataset) -> elbo::Result<T>,
) -> Result<OfUsable<T>> {
    let OfUsable { result, left_out } = of_any(used, data, probe, work)?;
    match (result, left_out.first()) {
        (Some(result), _) => Ok(OfUsable { result, left_out }),
        (None, first) => {
            let first = first.expect("data without rows are refused on reading");
            Err(Failure::Run(format!(
                "{}: the model cannot score any of the rows (first: {}: {})",
                used.name,
                location(&used.lines, used.place(first.row)),
                first.reason()
            )))
        }
    }
}

/// Applies `work` to the rows of `data`. If it fails because of a row, the rows for which `probe` fails are left
/// out, and the result is that of the data without them, or `None` if no row is left. `used` are the data that
/// are read.
///
/// Returns any error that is not about a row.
pub fn of_any<T>(
    used: &Data,
    data: &dyn Dataset,
    probe: impl Fn(&dyn Dataset) -> elbo::Result<()>,
    work: impl Fn(&dyn Dataset) -> elbo::Result<T>,
) -> Result<OfUsable<Option<T>>> {
    let mut left_out: Vec<LeftOut> = Vec::new();
    let mut rows: Option<Vec<usize>> = None;
    loop {
        let result = match &rows {
            None => work(data),
            Some(rows) => work(&Subset { data, rows }),
        };
        // A row that could not be read is NaN.
        used.check_read()?;
        let mut error = match result {
            Ok(result) => {
                left_out.sort_by_key(|left_out| left_out.row);
                return Ok(OfUsable { result: Some(result), left_out });
            }
            Err(error) => error,
        };
        let Some(row) = row_of(&mut error).copied() else { return Err(option_for(&[], error)) };
        let all = rows.take().unwrap_or_else(|| (0..data.row_count()).collect());
        let mut failed = failures(data, &all, &probe);
        used.check_read()?;
        let named = all[row.min(all.len() - 1)];
        if !failed.iter().any(|left_out| left_out.row == named) {
            failed.push(LeftOut { row: named, reason: error });
        }
        let kept: Vec<usize> =
            all.into_iter().filter(|row| failed.iter().all(|out| out.row != *row)).collect();
        left_out.append(&mut failed);
        if kept.is_empty() {
            left_out.sort_by_key(|left_out| left_out.row);
            return Ok(OfUsable { result: None, left_out });
        }
        rows = Some(kept);
    }
}

/// Finds the rows for which `probe` fails.
fn failures(
    data: &dyn Dataset,
    rows: &[usize],
    probe: impl Fn(&dyn Dataset) -> elbo::Result<()>,
) -> Vec<LeftOut> {
    let mut failed = Vec::new();
    for chunk in rows.chunks(CHUNK).filter(|rows| probe(&Subset { data, rows }).is_err()) {
        for row in chunk {
            let alone = Subset { data, rows: std::slice::from_ref(row) };
            if let Err(mut reason) = probe(&alone)
                && row_of(&mut reason).is_some()
            {
                failed.push(LeftOut { row: *row, reason });
            }
        }
    }
    failed
}

/// Some rows of a data set.
pub struct Subset<'a> {
    pub data: &'a dyn Dataset,
    pub rows: &'a [usize],
}

impl Dataset for Subset<'_> {
    fn row_count(&self) -> usize {
        self.rows.len()
    }

    fn features(&self) -> usize {
        self.data.features()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        self.data.read_row(self.rows[row], out);
    }

    fn conditions(&self) -> usize {
        self.data.conditions()
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        self.data.read_condition(self.rows[row], out);
    }
}

impl LeftOut {
    fn reason(&self) -> String {
        match &self.reason {
            Error::TargetOutOfRange { value, accepted, .. } => {
                format!("the value {} is outside of {accepted}", number(*value))
            }
            Error::NotFiniteData { .. } => "a value is beyond the range of float32".to_owned(),
            Error::NotFiniteLoss { term, value, .. } => format!("the {term} is {value}"),
            Error::LogvarOverflow { value, .. } => {
                let sign = if *value < 0.0 { "-" } else { "" };
                format!("exp({sign}logvar) overflows at logvar = {value}")
            }
            error => error.to_string(),
        }
    }
}

/// Warning about rows that were left out; `consequence` says what became of them.
pub fn warning(left_out: &[LeftOut], data: &Data, consequence: &str) -> Option<String> {
    let first = left_out.first()?;
    let places: Vec<String> =
        left_out.iter().take(NAMED).map(|out| location(&data.lines, data.place(out.row))).collect();
    let more = match left_out.len() - places.len() {
        0 => String::new(),
        more => format!(" and {} more", thousands(more as f64)),
    };
    Some(format!(
        "{}: the model cannot score {}, {consequence}: {}{more} (first: {})",
        data.name,
        counted(left_out.len(), "row"),
        places.join(", "),
        first.reason(),
    ))
}

/// Warning about rows whose codes or reconstructions are not finite.
pub fn not_finite(results: ArrayView2<f32>, data: &Data) -> Option<String> {
    let not_finite = |row: &ArrayView1<f32>| row.iter().any(|x| !x.is_finite());
    let mut rows = results.rows().into_iter().enumerate().filter(|(_, row)| not_finite(row));
    let (first, _) = rows.next()?;
    Some(format!(
        "{}: the results of {} are not finite, because values are beyond the range of float32 (first: {})",
        data.name,
        counted(1 + rows.count(), "row"),
        location(&data.lines, data.place(first)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Rows;
    use elbo::Compute;
    use elbo::vae::{Config, EvaluationOptions, Likelihood, Vae, Variance};
    use ndarray::{Array2, Axis};

    fn rows(count: usize) -> Array2<f32> {
        Array2::from_shape_fn((count, 5), |(i, j)| ((i * 7 + j * 3) % 11) as f32 / 5.0 - 1.0)
    }

    fn data(rows: &Array2<f32>) -> Data {
        Data::new("x", Rows::F32(rows.clone()))
    }

    fn vae() -> Vae {
        let likelihood = Likelihood::Gaussian(Variance::Shared);
        Vae::new(Config::builder(5, 2).hidden(&[6]).likelihood(likelihood).build().unwrap(), 3)
    }

    #[test]
    fn result_is_that_of_the_other_rows() {
        let (vae, compute) = (vae(), Compute::serial());
        let clean = rows(600);
        let mut wild = clean.clone();
        let outliers = [3, 255, 256, 599];
        for (row, value) in outliers.into_iter().zip([1e36, -1e38, f32::INFINITY, 1e25]) {
            wild[[row, 2]] = value;
        }
        let others: Vec<usize> = (0..600).filter(|row| !outliers.contains(row)).collect();
        let expected = data(&clean.select(Axis(0), &others));
        let wild = data(&wild);
        let options = EvaluationOptions::default();
        let score = |data: &dyn Dataset| vae.score(&compute, data);
        let evaluate = |data: &dyn Dataset| vae.evaluate(&compute, data, &options);
        let bound = |data: &dyn Dataset| vae.marginal_log_likelihood(&compute, data, 70, &options);

        let probe = |data: &dyn Dataset| score(data).map(drop);
        let found = of_usable(&wild, &wild.view(0..600), probe, score).unwrap();
        assert_eq!(found.left_out.iter().map(|out| out.row).collect::<Vec<_>>(), outliers);
        assert_eq!(found.result, score(&expected.view(0..596)).unwrap());
        let found = of_usable(&wild, &wild.view(0..600), probe, evaluate).unwrap();
        assert_eq!(found.result, evaluate(&expected.view(0..596)).unwrap());
        let found = of_usable(&wild, &wild.view(0..600), probe, bound).unwrap();
        assert_eq!(found.result, bound(&expected.view(0..596)).unwrap());
        // The row that the error names is left out even if the probe finds none.
        let found = of_usable(&wild, &wild.view(0..600), |_| Ok(()), score).unwrap();
        assert_eq!(found.left_out.iter().map(|out| out.row).collect::<Vec<_>>(), outliers);
        let found = of_usable(&expected, &expected.view(0..596), probe, score).unwrap();
        assert!(found.left_out.is_empty());
    }

    #[test]
    fn fails_if_no_row_is_left() {
        let (vae, compute) = (vae(), Compute::serial());
        let wild = data(&rows(3).mapv(|x| 1e37 * (x + 2.0)));
        let score = |data: &dyn Dataset| vae.score(&compute, data);
        let probe = |data: &dyn Dataset| score(data).map(drop);
        let error = of_usable(&wild, &wild.view(0..3), probe, score).err().unwrap().to_string();
        assert!(
            error.contains("the model cannot score any of the rows (first: row 0: "),
            "{error}"
        );
        // An error that is not about a row.
        let narrow = data(&Array2::zeros((3, 4)));
        let error = of_usable(&narrow, &narrow.view(0..3), probe, score).err().unwrap();
        assert!(error.to_string().contains("expected shape [3, 5]"), "{error}");
    }
}
