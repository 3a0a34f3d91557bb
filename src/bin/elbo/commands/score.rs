//! `elbo score`: how well a model knows each row.

use crate::data::Data;
use crate::failure::{Failure, Result, option_for};
use crate::model::ModelMetadata;
use crate::options::data::ModelAndData;
use crate::options::values::{MAX_WIDTH, count, fraction, seed};
use crate::output::path::TablePath;
use crate::output::thousands;
use crate::output::{npy, print, say, write_file};
use clap::Args;
use elbo::vae::{EvaluationOptions, Vae};
use elbo::{Augmentation, Compute};
use ndarray::Array2;
use std::io::Write;

/// Rows named in the summary, those of the highest scores.
const NAMED: usize = 5;

/// Score each row of a data set: how well the model knows it
#[derive(Debug, Args)]
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
pub struct ScoreOptions {
    #[command(flatten)]
    pub input: ModelAndData,

    /// Also estimate -ln p(x) of each row from K samples: column negative_bound
    #[arg(long, value_name = "K", value_parser = count(MAX_WIDTH), allow_negative_numbers = true,
          help_heading = "Scores")]
    pub importance_samples: Option<usize>,

    /// Seed of these samples; the other columns are without noise
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = seed,
          allow_negative_numbers = true, help_heading = "Scores")]
    pub seed: u64,

    /// Flag rows whose negative_elbo is above this quantile of the training rows', such as 0.99: column
    /// flagged, 0 or 1
    #[arg(long, value_name = "Q", value_parser = fraction, allow_negative_numbers = true,
          help_heading = "Scores")]
    pub flag_above: Option<f64>,

    /// X.csv, or X.npy for an array (float64, the same columns without row and label) [default: CSV on
    /// standard output]
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub out: Option<TablePath>,
}

pub fn run(args: &ScoreOptions, compute: &Compute) -> Result<()> {
    let (vae, notes, data) = match &args.out {
        None => args.input.open(Augmentation::None)?,
        Some(TablePath::Table(out) | TablePath::Array(out)) => args.input.open_for(out)?,
    };
    let threshold = args.flag_above.map(|part| threshold(&notes, part)).transpose()?;
    let table = ScoreTable::of(args, &vae, &data, threshold, compute)?;
    match &args.out {
        None => {
            let mut table_as_csv = Vec::new();
            let written = table.write_csv(&mut table_as_csv);
            written.map_err(|error| Failure::Run(format!("cannot write CSV: {error}")))?;
            print(&table_as_csv)
        }
        Some(TablePath::Table(path)) => {
            write_file(path, |file| table.write_csv(file))?;
            say(&table.summary(args.flag_above))
        }
        Some(TablePath::Array(path)) => {
            write_file(path, |file| npy::write(file, table.numbers().view()))?;
            say(&table.summary(args.flag_above))
        }
    }
}

/// The score above which this part of the training rows does not lie.
fn threshold(notes: &ModelMetadata, part: f64) -> Result<f64> {
    let scores = notes.training.as_ref().and_then(|training| training.scores.as_ref());
    let scores = scores.ok_or_else(|| {
        Failure::Run(
            "--flag-above: the model file holds no scores of training rows; `elbo train` writes them at the \
             end of a run, but not for --variance optimal"
                .to_owned(),
        )
    })?;
    Ok(scores.at(part))
}

/// The scores of all rows, in nats: the larger, the less the model expects the row.
struct ScoreTable {
    reconstruction: Vec<f64>,
    kl: Vec<f64>,
    negative_elbo: Vec<f64>,
    negative_bound: Option<Vec<f64>>,
    threshold: Option<f64>,
    labels: Option<Vec<String>>,
}

impl ScoreTable {
    fn of(
        args: &ScoreOptions,
        vae: &Vae,
        data: &Data,
        threshold: Option<f64>,
        compute: &Compute,
    ) -> Result<Self> {
        let rows = data.view(0..data.len());
        let scores = data.used(vae.score(compute, &rows))?;
        let bound = |samples| -> Result<Vec<f64>> {
            let options = EvaluationOptions { seed: args.seed, ..EvaluationOptions::default() };
            let marginal = vae.marginal_log_likelihood(compute, &rows, samples, &options);
            data.check_read()?;
            let marginal = marginal.map_err(|error| option_for(&[], error))?;
            Ok(marginal.of_rows.iter().map(|value| -value).collect())
        };
        Ok(Self {
            negative_elbo: scores.negative_elbo().collect(),
            reconstruction: scores.reconstruction,
            kl: scores.kl,
            negative_bound: args.importance_samples.map(bound).transpose()?,
            threshold,
            labels: data.label_names(),
        })
    }

    fn is_flagged(&self, row: usize) -> bool {
        self.threshold.is_some_and(|threshold| self.negative_elbo[row] > threshold)
    }

    /// Names of the columns that are numbers.
    fn names(&self) -> Vec<&'static str> {
        let mut names = vec!["reconstruction", "kl", "negative_elbo"];
        names.extend(self.negative_bound.as_ref().map(|_| "negative_bound"));
        names.extend(self.threshold.map(|_| "flagged"));
        names
    }

    /// `[rows, columns]`.
    fn numbers(&self) -> Array2<f64> {
        let flag = |row| f64::from(u8::from(self.is_flagged(row)));
        let flags: Option<Vec<f64>> =
            self.threshold.map(|_| (0..self.kl.len()).map(flag).collect());
        let mut columns = vec![&self.reconstruction, &self.kl, &self.negative_elbo];
        columns.extend(&self.negative_bound);
        columns.extend(&flags);
        Array2::from_shape_fn((self.kl.len(), columns.len()), |(row, column)| columns[column][row])
    }

    fn write_csv(&self, file: impl Write) -> std::result::Result<(), csv::Error> {
        let mut table = csv::Writer::from_writer(file);
        let label = self.labels.as_ref().map(|_| "label");
        table.write_record([&["row"], &self.names()[..], label.as_slice()].concat())?;
        for (row, numbers) in self.numbers().rows().into_iter().enumerate() {
            table.write_field(row.to_string())?;
            for number in numbers {
                table.write_field(number.to_string())?;
            }
            if let Some(labels) = &self.labels {
                table.write_field(&labels[row])?;
            }
            table.write_record(None::<&[u8]>)?;
        }
        table.flush()?;
        Ok(())
    }

    fn summary(&self, part: Option<f64>) -> String {
        let rows = self.negative_elbo.len();
        let mean = self.negative_elbo.iter().sum::<f64>() / rows as f64;
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by(|&a, &b| self.negative_elbo[b].total_cmp(&self.negative_elbo[a]));
        let highest: Vec<String> = order
            .iter()
            .take(NAMED)
            .map(|&row| format!("{row} ({:.2})", self.negative_elbo[row]))
            .collect();
        let flagged = match (self.threshold, part) {
            (Some(threshold), Some(part)) => format!(
                "{} of {} rows flagged, above {threshold:.2}, the {part} quantile of the training rows; ",
                thousands((0..rows).filter(|&row| self.is_flagged(row)).count() as f64),
                thousands(rows as f64),
            ),
            _ => format!("{} rows; ", thousands(rows as f64)),
        };
        format!("{flagged}mean {mean:.2} nats; highest: row {}", highest.join(", "))
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
            labels: Some(vec!["a".into(), "b, c".into(), "a".into()]),
        }
    }

    #[test]
    fn rows_are_written_with_all_that_is_known_of_them() {
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
    fn the_summary_counts_what_is_flagged_and_names_the_highest() {
        assert_eq!(
            table().summary(Some(0.99)),
            "1 of 3 rows flagged, above 2.25, the 0.99 quantile of the training rows; mean 4.08 nats; \
             highest: row 1 (8.50), 2 (2.25), 0 (1.50)"
        );
    }
}
