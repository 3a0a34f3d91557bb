//! Remedies for a run whose loss or gradient is no longer finite.

use super::options::TrainOptions;
use crate::data::scaling::ScalingKind;
use crate::failure::{Failure, what_diverged};

/// Returns the message of a failure of a run. That of a number that is not finite names the options that help and
/// are not set yet.
pub fn message(failure: &Failure, args: &TrainOptions, is_table: bool) -> String {
    let Failure::Diverged { place, error } = failure else { return failure.to_string() };
    let scaled = args.data.scale != ScalingKind::None;
    let is_logvar = matches!(error, elbo::Error::LogvarOverflow { .. });
    let clipped = args.optimizer.clip().is_some();
    let remedies = [
        (is_table && !scaled, "scale the columns (--scale standardize)"),
        (true, "lower the learning rate (--lr)"),
        (!clipped, "clip the gradient (--clip-norm 5)"),
        (is_logvar && args.model.logvar_clamp.is_none(), "clamp logvar (--logvar-clamp -10,10)"),
        (
            is_table && scaled && args.data.trim.is_none(),
            "leave out the rows that are far from the others (--trim 0.1)",
        ),
    ];
    let remedies: Vec<&str> =
        remedies.iter().filter(|(helps, _)| *helps).map(|(_, remedy)| *remedy).collect();
    let remedies = match remedies.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => remedies.concat(),
    };
    format!("{}; {remedies}", what_diverged(place.as_deref(), error))
}
