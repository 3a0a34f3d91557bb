//! Whether data are in the range that a likelihood accepts.

use super::Data;
use super::scaling::Scaling;
use crate::failure::{Failure, Result};
use elbo::Augmentation;
use elbo::vae::Likelihood;

/// Where a likelihood comes from: only what is being chosen can be chosen otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LikelihoodSource {
    CommandLine,
    Model,
}

/// Fails at the first number that the likelihood does not accept, or that does not fit what is to be
/// done to it on the way.
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
            "--signed makes data -1 to 1, and the likelihood {name} is for data from 0 to 1; {}",
            match chosen {
                LikelihoodSource::CommandLine =>
                    "choose --likelihood squared-error --output tanh, or gaussian",
                LikelihoodSource::Model => "this model is one of data without --signed",
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
        let expected = format!("expected numbers in [{low}, 1] {why}");
        let other = if data.signed { "leave --signed out" } else { "--likelihood gaussian" };
        return Err(Failure::Usage(format!(
            "--scale standardize makes numbers of any size; {expected}; choose --scale min-max, or {other}"
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
        return Err(Failure::Run(format!("{place}; expected finite numbers")));
    }
    if let Scaling::MinMax { low, high, .. } = &data.scaling {
        let (low, high) = (low[wrong.column] as f32, high[wrong.column] as f32);
        return Err(Failure::Run(format!(
            "{place}: outside of the training rows, {low} to {high}, which --scale min-max takes to [0, 1]; \
             --clip-to-range reads it as the nearer end, --scale standardize --likelihood gaussian needs no \
             range"
        )));
    }
    // With an augmentation the likelihoods for other numbers would be refused.
    let remedy = match (chosen, data.signed || augmentation != Augmentation::None) {
        (LikelihoodSource::CommandLine, false) => wrong.remedy(),
        (LikelihoodSource::CommandLine, true) if wrong.all != Within::Anything => {
            "; --scale min-max makes them so"
        }
        _ => "",
    };
    Err(Failure::Run(format!("{place}; expected numbers in [{low}, 1] {why}{remedy}")))
}

/// Fails at the first number that is none.
pub fn check_finite(data: &Data) -> Result<()> {
    if data.rows.are_bytes() {
        return Ok(());
    }
    data.rows.each(|row, numbers| match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(column) => {
            let wrong = OutOfDomain { row, column, value: numbers[column], all: Within::Anything };
            Err(Failure::Run(format!("{}; expected finite numbers", wrong.place(data))))
        }
    })
}

/// The first number out of range, as it stands in the file.
struct OutOfDomain {
    row: usize,
    column: usize,
    value: f32,
    /// Where all numbers of the data are.
    all: Within,
}

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Within {
    /// [−1, 1].
    SignedUnit,
    Finite,
    Anything,
}

impl OutOfDomain {
    fn first(data: &Data, low: f32, high: f32) -> Result<Option<Self>> {
        let mut first: Option<Self> = None;
        let mut all = Within::SignedUnit;
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
                    let within = if value.is_finite() { Within::Finite } else { Within::Anything };
                    all = if within > all { within } else { all };
                }
            }
            Ok(())
        })?;
        Ok(first.map(|first| Self { all, ..first }))
    }

    fn place(&self, data: &Data) -> String {
        let Self { row, column, value, .. } = self;
        match data.columns.get(*column) {
            Some(name) => format!("{}: row {row}, column '{name}': {value}", data.name),
            None => format!("{}: row {row}, column {column}: {value}", data.name),
        }
    }

    /// Which likelihood the numbers would be for.
    fn remedy(&self) -> &'static str {
        match self.all {
            Within::Anything => "",
            Within::SignedUnit => {
                "; numbers in [-1, 1] go with --likelihood squared-error --output tanh, or with \
                 --likelihood gaussian"
            }
            Within::Finite => {
                "; any finite numbers go with --scale standardize --likelihood gaussian, or are taken to \
                 [0, 1] by --scale min-max"
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
    fn a_message_says_where_and_which_likelihood_would_do() {
        let tanh = "; numbers in [-1, 1] go with --likelihood squared-error --output tanh, or with \
                    --likelihood gaussian";
        let any = "; any finite numbers go with --scale standardize --likelihood gaussian, or are \
                   taken to [0, 1] by --scale min-max";
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
                        "x: row 1, column 1: {text}; expected numbers in [0, 1] (or uint8, which is \
                         divided by 255) for the likelihood {}{remedy}",
                        likelihood.name()
                    )
                );
            }
        }
        assert_eq!(
            message(1.5, Likelihood::TanhSquaredError),
            format!(
                "x: row 1, column 1: 1.5; expected numbers in [-1, 1] for the likelihood \
                 tanh-squared-error{any}"
            )
        );
        let gaussian = Likelihood::Gaussian(Variance::Shared);
        assert_eq!(message(f32::NAN, gaussian), "x: row 1, column 1: NaN; expected finite numbers");
        let model = check(
            &data(-0.1, false),
            Likelihood::Bernoulli,
            Augmentation::None,
            LikelihoodSource::Model,
        );
        assert!(model.unwrap_err().to_string().ends_with("for the likelihood bernoulli"));
    }

    #[test]
    fn each_likelihood_accepts_its_range() {
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
    fn scaled_data_are_checked_as_the_model_sees_them() {
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
            message.starts_with("x: row 1, column 'b': 2.5: outside of the training rows, 0 to 2,")
                && message.contains("--clip-to-range"),
            "{message}"
        );
        let nan = with(f32::NAN, min_max(true), bernoulli).unwrap_err().to_string();
        assert_eq!(nan, "x: row 1, column 'b': NaN; expected finite numbers");
        let standard = || Scaling::Standardize { mean: vec![0.0; 2], std: vec![1.0; 2] };
        assert!(matches!(with(0.5, standard(), bernoulli), Err(Failure::Usage(_))));
        assert!(with(-7.0, standard(), Likelihood::Gaussian(Variance::Shared)).is_ok());
        assert!(
            check_finite(&data(f32::NAN, false)).is_err()
                && check_finite(&data(9.0, false)).is_ok()
        );
    }
}
