//! What each epoch of a training run came to, as a table.

use crate::data::formats::delimited::Delimited;
use crate::failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// One epoch. Losses in nats per example; `loss` is what the objective makes of the two terms, in
/// training with the weights of each step, in the test with those at the end of the annealing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean over the epoch's batches, each as it was before its own update.
    pub train_loss: f64,
    pub train_reconstruction: f64,
    pub train_kl: f64,
    /// After the epoch.
    pub test_loss: f64,
    pub test_reconstruction: f64,
    pub test_kl: f64,
    /// Latent dimensions whose mean varies over the test data by more than 0.01.
    pub test_active_units: usize,
    /// Weight of the KL divergence, as it was for the last step.
    pub beta: f32,
    /// As it was for the last step.
    pub learning_rate: f64,
    /// Training images over training time, the test not counted; `None` in a model file, whose bytes
    /// depend on no clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
}

/// The epoch of the lowest test loss, the first of several.
pub fn best(epochs: &[EpochRecord]) -> Option<&EpochRecord> {
    epochs.iter().min_by(|a, b| a.test_loss.total_cmp(&b.test_loss))
}

/// The epochs without the time they took.
pub fn timeless(epochs: &[EpochRecord]) -> Vec<EpochRecord> {
    epochs.iter().map(|epoch| EpochRecord { images_per_second: None, ..epoch.clone() }).collect()
}

/// Writes the epochs as CSV, a header first.
pub fn write_csv(
    epochs: &[EpochRecord],
    file: &mut impl Write,
) -> std::result::Result<(), csv::Error> {
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
    fn columns_have_their_names() {
        let epoch = EpochRecord {
            epoch: 1,
            train_loss: 3.5,
            train_reconstruction: 2.5,
            train_kl: 1.0,
            test_loss: 3.25,
            test_reconstruction: 2.25,
            test_kl: 1.0,
            test_active_units: 7,
            beta: 0.1,
            learning_rate: 0.001,
            images_per_second: Some(1000.0),
        };
        let mut file = Vec::new();
        write_csv(&[epoch], &mut file).unwrap();
        assert_eq!(
            String::from_utf8(file).unwrap(),
            "epoch,train_loss,train_reconstruction,train_kl,test_loss,test_reconstruction,\
             test_kl,test_active_units,beta,learning_rate,images_per_second\n\
             1,3.5,2.5,1.0,3.25,2.25,1.0,7,0.1,0.001,1000.0\n"
        );
    }
}
