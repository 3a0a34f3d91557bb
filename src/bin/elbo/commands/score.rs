//! `elbo score`: a score per row, for finding unusual ones.

use crate::data::Data;
use crate::data::domain::Accepted;
use crate::failure::{Failure, Result};
use crate::model::usable::{self, LeftOut, OfUsable, of_any};
use crate::model::{Explained, Explanations, ModelMetadata};
use crate::options::data::ModelAndData;
use crate::options::overwrite::OverwriteOption;
use crate::options::values::{MAX_WIDTH, count, fraction, seed};
use crate::output::path::TablePath;
use crate::output::table::write_csv;
use crate::output::{Console, is_stdout, npy, write_file};
use crate::text::{counted, number, thousands};
use clap::Args;
use elbo::vae::{EvaluationOptions, Vae};
use elbo::{Compute, Dataset};
use ndarray::{Array2, Axis, concatenate};
use std::io::Write;

/// Rows of the highest scores that the summary names.
const NAMED: usize = 5;

/// Score how unusual each row of a data set is
#[derive(Debug, Args)]
#[command(after_long_help = "\
The columns, in nats: reconstruction, -ln p(x|z) with the decoder at the mean of the row's latent code; kl, the \
divergence of the code from the prior; negative_elbo, their sum: the larger, the more unusual the row. They are \
a function of the row and the model alone, without noise. A row that cannot be scored, because a value or a \
variance is beyond the range of the numbers or of the likelihood, has infinite scores, and a warning names it. \
With --scale min-max and a likelihood of [0, 1], values outside of the range of the training rows are clipped \
to it, and their distance from it, in units of the range, is added to reconstruction. --flag-above compares the negative_elbo with a \
quantile over the training rows (at most 262,144 of them, those left out by --trim too), which the model file \
holds. Rows are counted from 0; the last column is the label, if the data have labels.

--explain K adds the columns explain_1, explain_1_nats to explain_K, explain_K_nats: the features that contribute \
most to negative_elbo (of an image: the row and the column of the pixel, from 0) and the contribution of each, \
in descending order. The kl counts as one contribution, (kl). All contributions of a row add up to its \
negative_elbo; those of a density can be negative. A row that cannot be scored names its features of the largest \
values, as the model reads them. negative_bound is not explained.

Examples:
  elbo score --model elbo-out/model.safetensors --data table.csv --out scores.csv
  elbo score --model elbo-out/model.safetensors --data new.csv --flag-above 0.99 --out scores.csv
  elbo score --model elbo-out/model.safetensors --data new.csv --explain 3
  elbo score --model elbo-out/model.safetensors --data new.npy --importance-samples 500 --out scores.npy")]
pub struct ScoreOptions {
    #[command(flatten)]
    input: ModelAndData,

    /// Flag rows above this quantile of the training rows, such as 0.99
    ///
    /// By negative_elbo, in the column flagged, 0 or 1.
    #[arg(long, help_heading = None, value_name = "Q", value_parser = fraction, allow_negative_numbers = true)]
    flag_above: Option<f64>,

    /// Estimate -ln p(x) of each row from K samples, too
    ///
    /// In the column negative_bound.
    #[arg(long, help_heading = None, value_name = "K", value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    importance_samples: Option<usize>,

    /// Seed of the samples of --importance-samples
    #[arg(long, help_heading = None, value_name = "SEED", default_value_t = 1, value_parser = seed,
          allow_negative_numbers = true)]
    seed: u64,

    /// Name the K features that contribute most to the score of each row
    ///
    /// In the columns explain_1, explain_1_nats and so on, by their part of negative_elbo.
    #[arg(long, help_heading = None, value_name = "K", value_parser = count(MAX_WIDTH), allow_negative_numbers = true)]
    explain: Option<usize>,

    /// File to write: X.csv or X.npy [default: CSV on standard output]
    ///
    /// A .npy array is float64, with the same columns without row and label; --explain then writes the positions
    /// of the features, from 0, and the number of features for (kl). - is CSV on standard output.
    #[arg(long, short, help_heading = None, value_name = "FILE", default_value = "-", hide_default_value = true)]
    out: TablePath,

    #[command(flatten)]
    overwrite: OverwriteOption,
}

pub fn run(args: &ScoreOptions, compute: &Compute, console: Console) -> Result<()> {
    let (vae, metadata, data) =
        args.input.open_for(args.overwrite.of(args.out.path()), Accepted::MostReadable)?;
    let threshold = args.flag_above.map(|part| threshold(&metadata, part)).transpose()?;
    let table = ScoreTable::of(args, &vae, &metadata, &data, threshold, compute, console)?;
    match &args.out {
        TablePath::Csv(path) => write_file(path, |file| table.write_csv(file))?,
        TablePath::Npy(path) => {
            write_file(path, |file| npy::write(file, table.all_numbers().view()))?
        }
    }
    if !is_stdout(args.out.path()) {
        console.note(&table.summary(args.flag_above));
    }
    Ok(())
}

/// Returns the `part` quantile of the scores of the training rows.
fn threshold(notes: &ModelMetadata, part: f64) -> Result<f64> {
    let scores = notes.training.as_ref().and_then(|training| training.scores.as_ref());
    let scores = scores.ok_or_else(|| {
        Failure::Run(
            "--flag-above: the model file holds no scores of training rows; `elbo train` writes them at the \
             end of a run, except with --variance optimal"
                .to_owned(),
        )
    })?;
    Ok(scores.at(part))
}

/// Distance of each row from the range of the training rows to which it is clipped, if rows are.
fn excess(data: &Data) -> Result<Option<Vec<f64>>> {
    let Some(domain) = data.clip else { return Ok(None) };
    let mut excess = Vec::with_capacity(data.len());
    data.rows.each(|_, numbers| {
        excess.push(data.scaling.excess(numbers, domain));
        Ok(())
    })?;
    Ok(Some(excess))
}

/// Inserts infinite scores for the rows that were left out.
fn with_infinite(scores: Vec<f64>, left_out: &[LeftOut]) -> Vec<f64> {
    let mut left_out = left_out.iter().map(|left_out| left_out.row).peekable();
    let mut scores = scores.into_iter();
    let mut all = Vec::with_capacity(scores.len() + left_out.len());
    loop {
        if left_out.next_if_eq(&all.len()).is_some() {
            all.push(f64::INFINITY);
        } else if let Some(score) = scores.next() {
            all.push(score);
        } else {
            return all;
        }
    }
}

/// Scores of all rows, in nats; larger is more unusual.
struct ScoreTable {
    reconstruction: Vec<f64>,
    kl: Vec<f64>,
    negative_elbo: Vec<f64>,
    negative_bound: Option<Vec<f64>>,
    threshold: Option<f64>,
    explanations: Option<Explanations>,
    labels: Option<Vec<String>>,
}

impl ScoreTable {
    fn of(
        args: &ScoreOptions,
        vae: &Vae,
        metadata: &ModelMetadata,
        data: &Data,
        threshold: Option<f64>,
        compute: &Compute,
        console: Console,
    ) -> Result<Self> {
        let rows = data.view(0..data.len());
        let excess = excess(data)?;
        let score = |rows: &dyn Dataset| vae.score(compute, rows);
        let probe = |rows: &dyn Dataset| score(rows).map(drop);
        let OfUsable { result: scores, left_out } = of_any(data, &rows, probe, score)?;
        console.warn_all(usable::warning(&left_out, data, "whose score is infinite"));
        let complete = |scores: Vec<f64>| with_infinite(scores, &left_out);
        let added = |scores: Vec<f64>| match &excess {
            None => scores,
            Some(excess) => {
                scores.iter().zip(excess).map(|(score, excess)| score + excess).collect()
            }
        };
        let bound = |samples| -> Result<Vec<f64>> {
            let options = EvaluationOptions { seed: args.seed, ..EvaluationOptions::default() };
            let bound =
                |rows: &dyn Dataset| vae.marginal_log_likelihood(compute, rows, samples, &options);
            let OfUsable { result, left_out } = of_any(data, &rows, probe, bound)?;
            let bounds = result.map(|result| result.of_rows).unwrap_or_default();
            let negative = bounds.iter().map(|value| -value).collect();
            Ok(added(with_infinite(negative, &left_out)))
        };
        let (reconstruction, kl) =
            scores.map(|scores| (scores.reconstruction, scores.kl)).unwrap_or_default();
        let kl = complete(kl);
        let reconstruction = added(complete(reconstruction));
        let explain = |most| {
            let of =
                Explained { vae, data, description: &metadata.data, kl: &kl, left_out: &left_out };
            of.most(compute, most)
        };
        let explanations = args.explain.map(explain).transpose()?;
        Ok(Self {
            negative_elbo: reconstruction.iter().zip(&kl).map(|(a, b)| a + b).collect(),
            reconstruction,
            kl,
            negative_bound: args.importance_samples.map(bound).transpose()?,
            threshold,
            explanations,
            labels: data.label_names(),
        })
    }

    fn is_flagged(&self, row: usize) -> bool {
        self.threshold.is_some_and(|threshold| self.negative_elbo[row] > threshold)
    }

    /// Names of the numeric columns.
    fn names(&self) -> Vec<String> {
        let mut names = vec!["reconstruction", "kl", "negative_elbo"];
        names.extend(self.negative_bound.as_ref().map(|_| "negative_bound"));
        names.extend(self.threshold.map(|_| "flagged"));
        let explained = self.explanations.as_ref().map_or(0, Explanations::count);
        let explained =
            (1..=explained).flat_map(|i| [format!("explain_{i}"), format!("explain_{i}_nats")]);
        names.into_iter().map(str::to_owned).chain(explained).collect()
    }

    /// Explanations of a row as cells.
    fn explained(&self, row: usize) -> Vec<String> {
        let Some(Explanations { names, of_rows }) = &self.explanations else { return Vec::new() };
        let cells = of_rows[row].iter().flat_map(|&(i, nats)| [names[i].clone(), number(nats)]);
        cells.collect()
    }

    /// Numbers of the `.npy` file, `[rows, columns]`.
    fn all_numbers(&self) -> Array2<f64> {
        let numbers = self.numbers();
        let Some(explanations) = &self.explanations else { return numbers };
        let explained =
            Array2::from_shape_fn((numbers.nrows(), 2 * explanations.count()), |(row, column)| {
                let (feature, nats) = explanations.of_rows[row][column / 2];
                if column % 2 == 0 { feature as f64 } else { nats }
            });
        concatenate![Axis(1), numbers, explained]
    }

    /// Numbers but for the explanations, `[rows, columns]`.
    fn numbers(&self) -> Array2<f64> {
        let flag = |row| f64::from(u8::from(self.is_flagged(row)));
        let flags: Option<Vec<f64>> =
            self.threshold.map(|_| (0..self.kl.len()).map(flag).collect());
        let mut columns = vec![&self.reconstruction, &self.kl, &self.negative_elbo];
        columns.extend(&self.negative_bound);
        columns.extend(&flags);
        Array2::from_shape_fn((self.kl.len(), columns.len()), |(row, column)| columns[column][row])
    }

    fn write_csv(&self, file: impl Write) -> csv::Result<()> {
        let label = self.labels.as_ref().map(|_| "label");
        let header = std::iter::once("row".to_owned()).chain(self.names());
        let header = header.chain(label.map(str::to_owned));
        let numbers = self.numbers();
        let records = numbers.rows().into_iter().enumerate().map(|(row, numbers)| {
            let label = self.labels.as_ref().map(|labels| labels[row].clone());
            [row.to_string()]
                .into_iter()
                .chain(numbers.into_iter().map(|&x| number(x)))
                .chain(self.explained(row))
                .chain(label)
        });
        write_csv(file, header, records)
    }

    fn summary(&self, part: Option<f64>) -> String {
        let rows = self.negative_elbo.len();
        let finite = || self.negative_elbo.iter().filter(|score| score.is_finite());
        let infinite = rows - finite().count();
        let mean = finite().sum::<f64>() / (rows - infinite).max(1) as f64;
        let of = match infinite {
            0 => String::new(),
            _ => format!(" without {}", counted(infinite, "infinite score")),
        };
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by(|&a, &b| self.negative_elbo[b].total_cmp(&self.negative_elbo[a]));
        let highest: Vec<String> = order
            .iter()
            .take(NAMED)
            .map(|&row| format!("{row} ({:.2})", self.negative_elbo[row]))
            .collect();
        let flagged = match (self.threshold, part) {
            (Some(threshold), Some(part)) => format!(
                "{} of {} flagged, above {threshold:.2}, the {part} quantile of the training rows; ",
                thousands((0..rows).filter(|&row| self.is_flagged(row)).count() as f64),
                counted(rows, "row"),
            ),
            _ => format!("{}; ", counted(rows, "row")),
        };
        format!("{flagged}mean {mean:.2} nats{of}; highest: row {}", highest.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ScoreTable {
        ScoreTable {
            reconstruction: vec![1.0, 7.5, 2.0],
            kl: vec![0.5, 1.0, 0.25],
            negative_elbo: vec![1.5, 8.5, 2.25],
            negative_bound: Some(vec![1.25, 8.0, 2.0]),
            threshold: Some(2.25),
            explanations: None,
            labels: Some(vec!["a".into(), "b, c".into(), "a".into()]),
        }
    }

    #[test]
    fn an_infinite_score_is_flagged_and_not_part_of_the_mean() {
        let mut table = table();
        table.negative_elbo[2] = f64::INFINITY;
        table.kl[2] = 4.5e73;
        assert_eq!(
            table.summary(Some(0.99)),
            "2 of 3 rows flagged, above 2.25, the 0.99 quantile of the training rows; mean 5.00 nats without 1 \
             infinite score; highest: row 2 (inf), 1 (8.50), 0 (1.50)"
        );
        let mut file = Vec::new();
        table.write_csv(&mut file).unwrap();
        assert!(String::from_utf8(file).unwrap().ends_with("2,2,4.5e73,inf,2,1,a\n"));
    }

    #[test]
    fn writes_all_columns_that_are_known() {
        let mut file = Vec::new();
        table().write_csv(&mut file).unwrap();
        assert_eq!(
            String::from_utf8(file).unwrap(),
            "row,reconstruction,kl,negative_elbo,negative_bound,flagged,label\n\
             0,1,0.5,1.5,1.25,0,a\n1,7.5,1,8.5,8,1,\"b, c\"\n2,2,0.25,2.25,2,0,a\n"
        );
        let plain = ScoreTable { negative_bound: None, threshold: None, labels: None, ..table() };
        let mut file = Vec::new();
        plain.write_csv(&mut file).unwrap();
        assert!(file.starts_with(b"row,reconstruction,kl,negative_elbo\n0,1,0.5,1.5\n"));
    }

    #[test]
    fn summary_counts_flagged_rows_and_names_the_highest() {
        assert_eq!(
            table().summary(Some(0.99)),
            "1 of 3 rows flagged, above 2.25, the 0.99 quantile of the training rows; mean 4.08 nats; \
             highest: row 1 (8.50), 2 (2.25), 0 (1.50)"
        );
    }
}
