//! What each epoch of a training run came to, as a table.

use crate::data::formats::delimited::Delimited;
use crate::failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// One epoch. Losses in nats per example; `loss` is the objective's value, in training with the weights of
/// each step, in validation with those at the end of the annealing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean over the epoch's batches, each before its own update.
    pub train_loss: f64,
    pub train_reconstruction: f64,
    pub train_kl: f64,
    /// After the epoch.
    #[serde(alias = "test_loss")]
    pub validation_loss: f64,
    #[serde(alias = "test_reconstruction")]
    pub validation_reconstruction: f64,
    #[serde(alias = "test_kl")]
    pub validation_kl: f64,
    /// Latent dimensions whose mean has a variance above 0.01 on the validation data.
    #[serde(alias = "test_active_units")]
    pub validation_active_units: usize,
    /// Weight of the KL divergence at the last step.
    pub beta: f32,
    /// At the last step.
    pub learning_rate: f64,
    /// Training images per second of training time; `None` in a model file, whose bytes depend on no clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
}

/// An epoch in model files and checkpoints. They say `test` for the validation data, as they did before the
/// tool told the two apart: a model file has the same bytes as ever.
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
pub fn best(epochs: &[EpochRecord]) -> Option<&EpochRecord> {
    epochs.iter().min_by(|a, b| a.validation_loss.total_cmp(&b.validation_loss))
}

/// Returns the epochs without the time they took.
pub fn timeless(epochs: &[EpochRecord]) -> Vec<EpochRecord> {
    epochs.iter().map(|epoch| EpochRecord { images_per_second: None, ..epoch.clone() }).collect()
}

/// Writes the epochs as CSV, a header first.
pub fn write_csv(epochs: &[EpochRecord], file: impl Write) -> std::result::Result<(), csv::Error> {
    let mut table = csv::Writer::from_writer(file);
    for epoch in epochs {
        table.serialize(epoch)?;
    }
    table.flush()?;
    Ok(())
}

/// Reads what [`write_csv`] wrote.
pub fn read_csv(path: &Path) -> Result<Vec<EpochRecord>> {
    let name = path.display();
    let expected = "expected a history.csv that `elbo train` wrote";
    let text = Delimited::read(path)
        .map_err(|error| Failure::Run(format!("{name}: cannot read: {error}; {expected}")))?;
    let wrong = |error: csv::Error| {
        let line = text.line(error.position());
        let reason = match error.kind() {
            csv::ErrorKind::Deserialize { err, .. } => format!("line {line}: {}", err.kind()),
            csv::ErrorKind::UnequalLengths { .. } => format!("line {line} is cut short"),
            _ => "not a table".to_owned(),
        };
        Failure::Run(format!("{name}: {reason}; {expected}"))
    };
    let mut table = text.records();
    let epochs: Vec<EpochRecord> =
        table.deserialize().collect::<std::result::Result<_, _>>().map_err(wrong)?;
    if epochs.is_empty() {
        return Err(Failure::Run(format!("{name}: no epochs; {expected}")));
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
