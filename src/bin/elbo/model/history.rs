//! Losses of each epoch of a training run, as a table.

use crate::data::formats::csv_table::CsvTable;
use crate::failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Results of one epoch. Losses are in nats per example. The train loss is the objective with the weights of
/// each step, the validation loss the objective with the weights at the end of the annealing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, from 1 on.
    pub epoch: usize,
    /// Mean over the batches of the epoch, each before its own update.
    pub train_loss: f64,
    pub train_reconstruction: f64,
    pub train_kl: f64,
    /// Mean over the validation data after the epoch.
    #[serde(alias = "test_loss")]
    pub validation_loss: f64,
    #[serde(alias = "test_reconstruction")]
    pub validation_reconstruction: f64,
    #[serde(alias = "test_kl")]
    pub validation_kl: f64,
    /// Number of latent dimensions whose mean has a variance above 0.01 over the validation data.
    #[serde(alias = "test_active_units")]
    pub validation_active_units: usize,
    /// Weight of the KL divergence in the last step.
    pub beta: f32,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Training images per second of training; `None` in a model file, whose bytes do not depend on a clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
}

/// An epoch in model files and checkpoints, which keep the former name `test` of the validation data, so that
/// the bytes of a model file do not change.
#[derive(Serialize, Deserialize)]
#[serde(remote = "EpochRecord")]
struct StoredEpoch {
    epoch: usize,
    train_loss: f64,
    train_reconstruction: f64,
    train_kl: f64,
    #[serde(rename = "test_loss")]
    validation_loss: f64,
    #[serde(rename = "test_reconstruction")]
    validation_reconstruction: f64,
    #[serde(rename = "test_kl")]
    validation_kl: f64,
    #[serde(rename = "test_active_units")]
    validation_active_units: usize,
    beta: f32,
    learning_rate: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    images_per_second: Option<f64>,
}

/// Serializes a history under the names of model files: for `#[serde(with = "stored")]`.
pub mod stored {
    use super::{EpochRecord, StoredEpoch};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Stored(#[serde(with = "StoredEpoch")] EpochRecord);

    pub fn serialize<S: Serializer>(
        epochs: &[EpochRecord],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(epochs.iter().map(|epoch| Stored(epoch.clone())))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<EpochRecord>, D::Error> {
        let epochs = Vec::<Stored>::deserialize(deserializer)?;
        Ok(epochs.into_iter().map(|Stored(epoch)| epoch).collect())
    }
}

/// Returns the epoch of the lowest validation loss, the first of several.
pub fn best<'a>(epochs: impl IntoIterator<Item = &'a EpochRecord>) -> Option<&'a EpochRecord> {
    epochs.into_iter().min_by(|a, b| a.validation_loss.total_cmp(&b.validation_loss))
}

/// Copies the epochs without their speed.
pub fn timeless(epochs: &[EpochRecord]) -> Vec<EpochRecord> {
    epochs.iter().map(|epoch| EpochRecord { images_per_second: None, ..epoch.clone() }).collect()
}

/// Writes the epochs as CSV with a header.
pub fn write_csv(epochs: &[EpochRecord], file: impl Write) -> csv::Result<()> {
    let mut table = csv::Writer::from_writer(file);
    for epoch in epochs {
        table.serialize(epoch)?;
    }
    table.flush()?;
    Ok(())
}

/// Writes the epochs as JSON, one a line.
pub fn write_lines(epochs: &[EpochRecord], mut file: impl Write) -> io::Result<()> {
    epochs.iter().try_for_each(|epoch| {
        let line = serde_json::to_string(epoch).map_err(io::Error::other)?;
        writeln!(file, "{line}")
    })
}

/// Reads the lines that [`write_lines`] writes; the last one may be cut off in a run that was killed.
pub fn read_lines(path: &Path) -> Result<Vec<EpochRecord>> {
    let text =
        fs::read_to_string(path).map_err(|error| Failure::cannot_read(&path.display(), &error))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |(i, line)| {
        serde_json::from_str(line).map_err(|error| {
            Failure::Run(format!(
                "{}: line {}: {error}; expected a history.jsonl written by `elbo train`",
                path.display(),
                i + 1
            ))
        })
    };
    let epochs: Vec<EpochRecord> = whole.lines().enumerate().map(parse).collect::<Result<_>>()?;
    if epochs.is_empty() {
        return Err(Failure::Run(format!("{}: no epoch is complete yet", path.display())));
    }
    Ok(epochs)
}

/// Reads the CSV that [`write_csv`] writes.
pub fn read_csv(path: &Path) -> Result<Vec<EpochRecord>> {
    let expected = "a history.csv written by `elbo train`";
    let epochs: Vec<EpochRecord> =
        CsvTable::read(path, expected)?.deserialize().map_err(|error| {
            Failure::Run(format!("{}: {error}; expected {expected}", path.display()))
        })?;
    if epochs.is_empty() {
        return Err(Failure::Run(format!("{}: no epochs; expected {expected}", path.display())));
    }
    Ok(epochs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_columns_by_name() {
        let epoch = EpochRecord {
            epoch: 1,
            train_loss: 3.5,
            train_reconstruction: 2.5,
            train_kl: 1.0,
            validation_loss: 3.25,
            validation_reconstruction: 2.25,
            validation_kl: 1.0,
            validation_active_units: 7,
            beta: 0.1,
            learning_rate: 0.001,
            images_per_second: Some(1000.0),
        };
        let mut file = Vec::new();
        write_csv(std::slice::from_ref(&epoch), &mut file).unwrap();
        assert_eq!(
            String::from_utf8(file).unwrap(),
            "epoch,train_loss,train_reconstruction,train_kl,validation_loss,\
             validation_reconstruction,validation_kl,validation_active_units,beta,learning_rate,images_per_second\n\
             1,3.5,2.5,1.0,3.25,2.25,1.0,7,0.1,0.001,1000.0\n"
        );

        // Model files keep the names that they had before.
        #[derive(Serialize, Deserialize)]
        struct File(#[serde(with = "stored")] Vec<EpochRecord>);
        let stored = serde_json::to_string(&File(vec![epoch.clone()])).unwrap();
        let names = ["test_loss", "test_reconstruction", "test_kl", "test_active_units"];
        assert!(names.iter().all(|name| stored.contains(&format!("\"{name}\":"))), "{stored}");
        assert!(!stored.contains("validation"), "{stored}");
        assert_eq!(serde_json::from_str::<File>(&stored).unwrap().0, [epoch]);
    }
}
