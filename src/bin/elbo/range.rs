//! Whether data are in the range that a likelihood accepts.

use crate::data::{Data, Rows};
use crate::failure::{Failure, Result};
use elbo::Augmentation;
use elbo::vae::Likelihood;

/// Where a likelihood comes from: only what is being chosen can be chosen otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chosen {
    ByOption,
    ByModel,
}

/// Fails at the first number that the likelihood does not accept, or that does not fit what is to be
/// done to it on the way.
pub fn check(
    data: &Data,
    likelihood: Likelihood,
    augmentation: Augmentation,
    chosen: Chosen,
) -> Result<()> {
    use Likelihood::{Gaussian, SquaredError, TanhSquaredError};
    let name = likelihood.name();
    let any = matches!(likelihood, SquaredError | Gaussian(_));
    if data.signed && !any && likelihood != TanhSquaredError {
        return Err(Failure::Usage(format!(
            "--signed makes data -1 to 1, and the likelihood {name} is for data from 0 to 1; {}",
            match chosen {
                Chosen::ByOption => "choose --likelihood squared-error --output tanh, or gaussian",
                Chosen::ByModel => "this model is one of data without --signed",
            }
        )));
    }
    let Rows::F32(numbers) = &data.rows else { return Ok(()) };
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
    let high = if low == f32::MIN { f32::MAX } else { 1.0 };
    // `contains` is false for NaN.
    let wrong = numbers.indexed_iter().find(|(_, value)| !(low..=high).contains(*value));
    let Some(((row, column), value)) = wrong else { return Ok(()) };
    let place = format!("{}: row {row}, column {column}: {value}", data.name);
    if low == f32::MIN {
        return Err(Failure::Run(format!("{place}; expected finite numbers")));
    }
    // With an augmentation the likelihoods for other numbers would be refused.
    let remedy = match (chosen, data.signed || augmentation != Augmentation::None) {
        (Chosen::ByOption, false) => remedy(numbers.iter().copied()),
        _ => "",
    };
    Err(Failure::Run(format!("{place}; expected numbers in [{low}, {high}] {why}{remedy}")))
}

/// Which likelihood the numbers would be for.
fn remedy(mut numbers: impl Iterator<Item = f32> + Clone) -> &'static str {
    if numbers.clone().any(|x| !x.is_finite()) {
        ""
    } else if numbers.all(|x| (-1.0..=1.0).contains(&x)) {
        "; numbers in [-1, 1] go with --likelihood squared-error --output tanh, or with --likelihood \
         gaussian"
    } else {
        "; any finite numbers go with --likelihood gaussian, or with --likelihood squared-error"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elbo::vae::Variance;
    use ndarray::arr2;

    fn data(value: f32, signed: bool) -> Data {
        let rows = Rows::F32(arr2(&[[0.0, 1.0], [0.5, value]]));
        Data { name: "x".into(), rows, image: None, labels: None, signed }
    }

    fn message(value: f32, likelihood: Likelihood) -> String {
        let result = check(&data(value, false), likelihood, Augmentation::None, Chosen::ByOption);
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_message_says_where_and_which_likelihood_would_do() {
        let tanh = "; numbers in [-1, 1] go with --likelihood squared-error --output tanh, or with \
                    --likelihood gaussian";
        let any = "; any finite numbers go with --likelihood gaussian, or with --likelihood \
                   squared-error";
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
        let model =
            check(&data(-0.1, false), Likelihood::Bernoulli, Augmentation::None, Chosen::ByModel);
        assert!(model.unwrap_err().to_string().ends_with("for the likelihood bernoulli"));
    }

    #[test]
    fn each_likelihood_accepts_its_range() {
        let accepts = |value, likelihood, signed| {
            check(&data(value, signed), likelihood, Augmentation::None, Chosen::ByOption).is_ok()
        };
        let gaussian = Likelihood::Gaussian(Variance::Fixed(1.0));
        let tanh = Likelihood::TanhSquaredError;
        assert!(accepts(-0.0, Likelihood::Bernoulli, false));
        assert!(accepts(-1.0, tanh, false) && !accepts(-1.5, tanh, false));
        assert!(accepts(-1e30, gaussian, false) && accepts(7.0, Likelihood::SquaredError, false));
        assert!(accepts(0.5, tanh, true) && accepts(0.5, gaussian, true));
        assert!(!accepts(-0.5, tanh, true) && !accepts(0.5, Likelihood::Bernoulli, true));
        let levels = Augmentation::Dequantise { levels: 256 };
        assert!(check(&data(-0.5, false), gaussian, levels, Chosen::ByOption).is_err());
    }
}
