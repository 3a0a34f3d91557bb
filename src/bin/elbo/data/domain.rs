//! Checks that data are in the domain of a likelihood.

use super::Data;
use super::rows::location;
use super::scaling::Scaling;
use crate::failure::{Failure, Result};
use elbo::Augmentation;
use elbo::vae::Likelihood;

/// Source of a likelihood: messages suggest another one only where it can still be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LikelihoodSource {
    CommandLine,
    Model,
}

/// Returns an error at the first value that the likelihood, the augmentation or `--signed` does not accept.
pub fn check(
    data: &Data,
    likelihood: Likelihood,
    augmentation: Augmentation,
    chosen: LikelihoodSource,
) -> Result<()> {
    use Likelihood::{Gaussian, SquaredError, TanhSquaredError};
    let name = likelihood.name();
    let any = matches!(likelihood, SquaredError | Gaussian(_));
    if data.signed && !any && likelihood != TanhSquaredError {
        return Err(Failure::Usage(format!(
            "--signed maps data to [-1, 1], but the likelihood {name} needs data in [0, 1]; {}",
            match chosen {
                LikelihoodSource::CommandLine =>
                    "use --likelihood squared-error --output tanh, or --likelihood gaussian",
                LikelihoodSource::Model => "the model was trained without --signed",
            }
        )));
    }
    let (low, why) = if data.signed {
        (0.0, "for --signed to map to [-1, 1]".to_owned())
    } else if augmentation != Augmentation::None {
        (0.0, format!("for --augment {augmentation}"))
    } else if any {
        (f32::MIN, String::new())
    } else if likelihood == TanhSquaredError {
        (-1.0, format!("for the likelihood {name}"))
    } else {
        let bytes = "(or uint8, which is divided by 255) for the likelihood";
        (0.0, format!("{bytes} {name}"))
    };
    if low != f32::MIN && matches!(data.scaling, Scaling::Standardize { .. }) {
        let other = if data.signed { "remove --signed" } else { "--likelihood gaussian" };
        return Err(Failure::Usage(format!(
            "--scale standardize gives values of any size; expected values in [{low}, 1] {why}; use --scale \
             min-max or {other}"
        )));
    }
    if data.rows.are_bytes() && data.scaling == Scaling::None {
        return Ok(());
    }
    let Some(wrong) = OutOfDomain::first(data, low, if low == f32::MIN { f32::MAX } else { 1.0 })?
    else {
        return Ok(());
    };
    let place = wrong.place(data);
    if low == f32::MIN || !wrong.value.is_finite() && data.scaling != Scaling::None {
        return Err(Failure::Run(format!("{place}; expected finite values")));
    }
    if let Scaling::MinMax { low, high, .. } = &data.scaling {
        let (low, high) = (low[wrong.column] as f32, high[wrong.column] as f32);
        return Err(Failure::Run(format!(
            "{place}; outside of {low} to {high}, the range of the training rows that --scale min-max maps to \
             [0, 1]; clamp such values with --clip-to-range, or train with --scale standardize --likelihood \
             gaussian, which has no range"
        )));
    }
    // With an augmentation or --signed, the likelihoods for other values would be rejected too.
    let remedy = match (chosen, data.signed || augmentation != Augmentation::None) {
        (LikelihoodSource::CommandLine, false) => wrong.remedy(),
        (LikelihoodSource::CommandLine, true) if wrong.all != ValueRange::Anything => {
            "; --scale min-max maps them to that range"
        }
        _ => "",
    };
    Err(Failure::Run(format!("{place}; expected values in [{low}, 1] {why}{remedy}")))
}

/// Returns an error at the first value that is NaN or infinite.
pub fn check_finite(data: &Data) -> Result<()> {
    if data.rows.are_bytes() {
        return Ok(());
    }
    data.rows.each(|row, numbers| match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(column) => {
            let wrong =
                OutOfDomain { row, column, value: numbers[column], all: ValueRange::Anything };
            Err(Failure::Run(format!("{}; expected finite values", wrong.place(data))))
        }
    })
}

/// First value out of the domain, as it is in the file.
struct OutOfDomain {
    row: usize,
    column: usize,
    value: f32,
    /// Range of all values of the data.
    all: ValueRange,
}

/// Range of the values of a data set, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum ValueRange {
    /// [−1, 1].
    SignedUnit,
    Finite,
    Anything,
}

impl OutOfDomain {
    fn first(data: &Data, low: f32, high: f32) -> Result<Option<Self>> {
        let mut first: Option<Self> = None;
        let mut all = ValueRange::SignedUnit;
        let mut scaled = vec![0.0; data.width()];
        data.rows.each(|row, numbers| {
            scaled.copy_from_slice(numbers);
            data.scaling.apply(&mut scaled);
            for (column, (&value, x)) in numbers.iter().zip(&scaled).enumerate() {
                // `contains` is false for NaN.
                if first.is_none() && !(low..=high).contains(x) {
                    first = Some(Self { row, column, value, all });
                }
                if !(-1.0..=1.0).contains(&value) {
                    let within =
                        if value.is_finite() { ValueRange::Finite } else { ValueRange::Anything };
                    all = if within > all { within } else { all };
                }
            }
            Ok(())
        })?;
        Ok(first.map(|first| Self { all, ..first }))
    }

    fn place(&self, data: &Data) -> String {
        let (name, row) = (&data.name, location(&data.lines, self.row));
        match data.columns.get(self.column) {
            Some(column) => format!("{name}: {row}, column '{column}': found {}", self.value),
            None => format!("{name}: {row}, column {}: found {}", self.column, self.value),
        }
    }

    /// Suggestion of a likelihood that accepts all values.
    fn remedy(&self) -> &'static str {
        match self.all {
            ValueRange::Anything => "",
            ValueRange::SignedUnit => {
                "; for values in [-1, 1] use --likelihood squared-error --output tanh, or --likelihood gaussian"
            }
            ValueRange::Finite => {
                "; for any finite values use --scale standardize --likelihood gaussian, or --scale min-max to \
                 map them to [0, 1]"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Rows;
    use elbo::vae::Variance;
    use ndarray::arr2;

    fn data(value: f32, signed: bool) -> Data {
        let rows = Rows::F32(arr2(&[[0.0, 1.0], [0.5, value]]));
        Data { signed, ..Data::new("x", rows) }
    }

    fn message(value: f32, likelihood: Likelihood) -> String {
        let result = check(
            &data(value, false),
            likelihood,
            Augmentation::None,
            LikelihoodSource::CommandLine,
        );
        result.unwrap_err().to_string()
    }

    #[test]
    fn reports_the_place_and_a_likelihood_that_fits() {
        let tanh = "; for values in [-1, 1] use --likelihood squared-error --output tanh, or \
                    --likelihood gaussian";
        let any = "; for any finite values use --scale standardize --likelihood gaussian, or --scale \
                   min-max to map them to [0, 1]";
        for (value, text, remedy) in [
            (f32::NAN, "NaN", ""),
            (f32::INFINITY, "inf", ""),
            (1.5, "1.5", any),
            (-0.1, "-0.1", tanh),
        ] {
            for likelihood in [Likelihood::Bernoulli, Likelihood::ContinuousBernoulli] {
                assert_eq!(
                    message(value, likelihood),
                    format!(
                        "x: row 1, column 1: found {text}; expected values in [0, 1] (or uint8, which is \
                         divided by 255) for the likelihood {}{remedy}",
                        likelihood.name()
                    )
                );
            }
        }
        assert_eq!(
            message(1.5, Likelihood::TanhSquaredError),
            format!(
                "x: row 1, column 1: found 1.5; expected values in [-1, 1] for the likelihood \
                 tanh-squared-error{any}"
            )
        );
        let gaussian = Likelihood::Gaussian(Variance::Shared);
        assert_eq!(
            message(f32::NAN, gaussian),
            "x: row 1, column 1: found NaN; expected finite values"
        );
        let model = check(
            &data(-0.1, false),
            Likelihood::Bernoulli,
            Augmentation::None,
            LikelihoodSource::Model,
        );
        assert!(model.unwrap_err().to_string().ends_with("for the likelihood bernoulli"));
    }

    #[test]
    fn accepts_the_domain_of_each_likelihood() {
        let accepts = |value, likelihood, signed| {
            check(
                &data(value, signed),
                likelihood,
                Augmentation::None,
                LikelihoodSource::CommandLine,
            )
            .is_ok()
        };
        let gaussian = Likelihood::Gaussian(Variance::Fixed(1.0));
        let tanh = Likelihood::TanhSquaredError;
        assert!(accepts(-0.0, Likelihood::Bernoulli, false));
        assert!(accepts(-1.0, tanh, false) && !accepts(-1.5, tanh, false));
        assert!(accepts(-1e30, gaussian, false) && accepts(7.0, Likelihood::SquaredError, false));
        assert!(accepts(0.5, tanh, true) && accepts(0.5, gaussian, true));
        assert!(!accepts(-0.5, tanh, true) && !accepts(0.5, Likelihood::Bernoulli, true));
        let levels = Augmentation::Dequantize { levels: 256 };
        assert!(
            check(&data(-0.5, false), gaussian, levels, LikelihoodSource::CommandLine).is_err()
        );
    }

    #[test]
    fn checks_values_after_scaling() {
        let min_max = |clip| Scaling::MinMax { low: vec![0.0; 2], high: vec![4.0, 2.0], clip };
        let with = |value, scaling, likelihood| {
            let data =
                Data { scaling, columns: vec!["a".into(), "b".into()], ..data(value, false) };
            check(&data, likelihood, Augmentation::None, LikelihoodSource::CommandLine)
        };
        let bernoulli = Likelihood::Bernoulli;
        assert!(with(2.0, min_max(false), bernoulli).is_ok());
        assert!(with(9.0, min_max(true), bernoulli).is_ok());
        assert!(with(9.0, min_max(false), Likelihood::SquaredError).is_ok());
        let message = with(2.5, min_max(false), bernoulli).unwrap_err().to_string();
        assert!(
            message.starts_with("x: row 1, column 'b': found 2.5; outside of 0 to 2, the range")
                && message.contains("--clip-to-range"),
            "{message}"
        );
        let nan = with(f32::NAN, min_max(true), bernoulli).unwrap_err().to_string();
        assert_eq!(nan, "x: row 1, column 'b': found NaN; expected finite values");
        let standard = || Scaling::Standardize { mean: vec![0.0; 2], std: vec![1.0; 2] };
        assert!(matches!(with(0.5, standard(), bernoulli), Err(Failure::Usage(_))));
        assert!(with(-7.0, standard(), Likelihood::Gaussian(Variance::Shared)).is_ok());
        assert!(
            check_finite(&data(f32::NAN, false)).is_err()
                && check_finite(&data(9.0, false)).is_ok()
        );
    }
}
