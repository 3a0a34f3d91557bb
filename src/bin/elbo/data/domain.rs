//! Checks that data are in the domain of a likelihood.

use super::Data;
use super::location;
use super::scaling::Scaling;
use crate::failure::{Failure, Result};
use crate::text::{number, thousands};
use elbo::Augmentation;
use elbo::vae::Likelihood;

/// Source of a likelihood: messages suggest another one only where it can still be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LikelihoodSource {
    CommandLine,
    Model,
}

/// Rows that a command accepts although the model cannot read them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Accepted {
    /// None.
    Readable,
    /// Rows with numbers beyond the range of float32.
    Finite,
    /// Rows with any finite numbers, unless all rows are out of the domain.
    MostReadable,
}

/// Checks the rows of a data set for a likelihood.
#[derive(Clone, Copy)]
pub struct DomainCheck {
    pub likelihood: Likelihood,
    pub augmentation: Augmentation,
    pub chosen: LikelihoodSource,
    pub accepted: Accepted,
}

impl DomainCheck {
    /// Returns an error at the first value that the likelihood, the augmentation or `--signed` does not accept.
    ///
    /// Values that min-max scaling maps out of the domain are not in the range of the training rows: they will
    /// be clipped to the domain, and a warning counts the rows.
    pub fn run(self, data: &mut Data) -> Result<()> {
        self.run_for(data, |_| true)
    }

    /// [`Self::run`] for a file of which only some rows are trained on. The others may have values beyond the range of
    /// float32 if the likelihood accepts any.
    pub fn run_for(self, data: &mut Data, is_trained: impl Fn(usize) -> bool) -> Result<()> {
        let Domain { low, why } = self.domain(data)?;
        data.warnings.extend(dark(data));
        let any = low == f32::MIN;
        if data.rows.are_bytes() && data.scaling == Scaling::None {
            return Ok(());
        }
        let clips = !any && matches!(data.scaling, Scaling::MinMax { .. });
        let bounds = if any { f32::MIN..=f32::MAX } else { low..=1.0 };
        let mut found = Unreadable::default();
        let (mut scaled, mut all) = (vec![0.0; data.width()], ValueRange::SignedUnit);
        data.rows.each(|row, numbers| {
            data.scaling.apply_to(numbers, &mut scaled);
            let mut outside = None;
            for (column, (&value, x)) in numbers.iter().zip(&scaled).enumerate() {
                // `contains` is false for NaN.
                if !bounds.contains(x) {
                    outside.get_or_insert(Value { row, column, value });
                    if !value.is_finite() {
                        found.not_finite.get_or_insert(Value { row, column, value });
                    }
                }
                all = all.max(ValueRange::of(value));
            }
            if let Some(value) = outside.filter(|_| !any || is_trained(row)) {
                found.rows += 1;
                found.first.get_or_insert(value);
            }
            Ok(())
        })?;
        if let Some(wrong) = found.not_finite
            && (any || clips)
        {
            return Err(Failure::Run(format!("{}; expected finite values", wrong.place(data))));
        }
        let Some(first) = found.first else { return Ok(()) };
        if clips {
            data.clip = Some([low, 1.0]);
            data.warnings.push(clipping(data, found.rows, first));
            return Ok(());
        }
        let most = found.rows < data.len() && found.not_finite.is_none();
        if self.accepted == Accepted::MostReadable && most
            || self.accepted == Accepted::Finite && any
        {
            return Ok(());
        }
        let place = found.not_finite.filter(|_| self.accepted == Accepted::MostReadable);
        let place = place.unwrap_or(first).place(data);
        if any {
            let remedy = match (self.chosen, &data.scaling) {
                (LikelihoodSource::CommandLine, Scaling::None) => " (--scale standardize)",
                _ => "",
            };
            return Err(Failure::Run(format!(
                "{place}; expected values in the range of float32, up to 3.4e38, after scaling{remedy}"
            )));
        }
        // With an augmentation or --signed, the likelihoods for other values would be rejected too.
        let remedy = match (self.chosen, data.signed || self.augmentation != Augmentation::None) {
            (LikelihoodSource::CommandLine, false) => all.remedy(),
            (LikelihoodSource::CommandLine, true) if all != ValueRange::Anything => {
                "; --scale min-max maps them to that range"
            }
            _ => "",
        };
        Err(Failure::Run(format!("{place}; expected values in [{low}, 1] {why}{remedy}")))
    }

    fn domain(self, data: &Data) -> Result<Domain> {
        let name = self.likelihood.name();
        let any = domain_of(self.likelihood, false).is_none();
        if data.signed && !any && self.likelihood != Likelihood::TanhSquaredError {
            return Err(Failure::Usage(format!(
                "--signed maps data to [-1, 1], but the likelihood {name} needs data in [0, 1]; {}",
                match self.chosen {
                    LikelihoodSource::CommandLine =>
                        "use --likelihood squared-error --output tanh, or --likelihood gaussian",
                    LikelihoodSource::Model => "the model was trained without --signed",
                }
            )));
        }
        let (low, why) = if data.signed {
            (0.0, "for --signed to map to [-1, 1]".to_owned())
        } else if self.augmentation != Augmentation::None {
            (0.0, format!("for --augment {}", self.augmentation))
        } else if any {
            (f32::MIN, String::new())
        } else if self.likelihood == Likelihood::TanhSquaredError {
            (-1.0, format!("for the likelihood {name}"))
        } else {
            let bytes = match data.white {
                None => "(or uint8, which is divided by 255)".to_owned(),
                Some(white) => format!("after a division by {white} (--white)"),
            };
            (0.0, format!("{bytes} for the likelihood {name}"))
        };
        if low != f32::MIN && matches!(data.scaling, Scaling::Standardize { .. }) {
            let other = if data.signed { "remove --signed" } else { "--likelihood gaussian" };
            return Err(Failure::Usage(format!(
                "--scale standardize gives values of any size; expected values in [{low}, 1] {why}; use --scale \
                 min-max or {other}"
            )));
        }
        Ok(Domain { low, why })
    }
}

/// Range of the values that a likelihood accepts, or that `--signed` maps to [−1, 1]; `None` for any numbers.
pub fn domain_of(likelihood: Likelihood, signed: bool) -> Option<[f32; 2]> {
    match likelihood {
        _ if signed => Some([0.0, 1.0]),
        Likelihood::SquaredError | Likelihood::Gaussian(_) => None,
        Likelihood::TanhSquaredError => Some([-1.0, 1.0]),
        _ => Some([0.0, 1.0]),
    }
}

/// Lowest scaled value that is accepted, `f32::MIN` if any value is, and the reason.
struct Domain {
    low: f32,
    why: String,
}

/// Warning about bytes or pixels that use less than half of their range, such as masks of zeros and ones. With a
/// scaling, the range does not matter.
fn dark(data: &Data) -> Option<String> {
    if data.deepest == 0 || data.white.is_some() || data.scaling != Scaling::None {
        return None;
    }
    let deepest = f32::from(data.deepest);
    let largest = data.rows.largest_below(0.5).filter(|&largest| largest > 0.0)?;
    let value = (largest * deepest).round();
    // Two digits, however small it is.
    let read: f32 = format!("{:.1e}", value / deepest).parse().expect("a number");
    Some(format!(
        "{}: the largest value is {value} (of {deepest}), which is read as {}; to read {value} as 1, use \
         --white {value}",
        data.name,
        number(read)
    ))
}

/// Warning about rows with values that are clipped; `first` is one of the values.
fn clipping(data: &Data, rows: usize, first: Value) -> String {
    let have = if rows == 1 { "row has" } else { "rows have" };
    let range = match &data.scaling {
        Scaling::MinMax { low, high, .. } => {
            format!("{} to {}", low[first.column], high[first.column])
        }
        _ => String::new(),
    };
    format!(
        "{}: {} {have} values outside of the range of the training rows, which are clipped to it (first: {}, \
         expected {range})",
        data.name,
        thousands(rows as f64),
        first.place_in_file(data),
    )
}

/// Returns an error at the first value that is NaN or infinite.
pub fn check_finite(data: &Data) -> Result<()> {
    if data.rows.are_bytes() {
        return Ok(());
    }
    data.rows.each(|row, numbers| match numbers.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(column) => {
            let wrong = Value { row, column, value: numbers[column] };
            Err(Failure::Run(format!("{}; expected finite values", wrong.place(data))))
        }
    })
}

/// Values out of the domain.
#[derive(Default)]
struct Unreadable {
    /// Number of rows with such values.
    rows: usize,
    first: Option<Value>,
    /// First that is NaN or infinite.
    not_finite: Option<Value>,
}

/// A value as it is in the file.
#[derive(Clone, Copy)]
struct Value {
    row: usize,
    column: usize,
    value: f64,
}

impl Value {
    fn place(self, data: &Data) -> String {
        format!("{}: {}", data.name, self.place_in_file(data))
    }

    fn place_in_file(self, data: &Data) -> String {
        let row = location(&data.lines, self.row);
        let column = data.column_name(self.column);
        // A float32 has fewer digits than the f64 of the same value.
        let value =
            if data.rows.are_wide() { number(self.value) } else { number(self.value as f32) };
        format!("{row}, {column}: found {value}")
    }
}

/// Range of the values of a data set, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ValueRange {
    /// [−1, 1].
    SignedUnit,
    Finite,
    Anything,
}

impl ValueRange {
    fn of(value: f64) -> Self {
        match value {
            _ if !value.is_finite() => Self::Anything,
            -1.0..=1.0 => Self::SignedUnit,
            _ => Self::Finite,
        }
    }

    /// Suggestion of a likelihood that accepts all values.
    fn remedy(self) -> &'static str {
        match self {
            Self::Anything => "",
            Self::SignedUnit => {
                "; for values in [-1, 1] use --likelihood squared-error --output tanh, or --likelihood gaussian"
            }
            Self::Finite => {
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

    fn of(likelihood: Likelihood) -> DomainCheck {
        DomainCheck {
            likelihood,
            augmentation: Augmentation::None,
            chosen: LikelihoodSource::CommandLine,
            accepted: Accepted::Readable,
        }
    }

    fn message(value: f32, likelihood: Likelihood) -> String {
        of(likelihood).run(&mut data(value, false)).unwrap_err().to_string()
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
        let model = DomainCheck { chosen: LikelihoodSource::Model, ..of(Likelihood::Bernoulli) }
            .run(&mut data(-0.1, false));
        assert!(model.unwrap_err().to_string().ends_with("for the likelihood bernoulli"));
    }

    #[test]
    fn names_white_if_a_value_exceeds_it() {
        let mut data = Data { white: Some(10), ..data(1.5, false) };
        assert_eq!(
            of(Likelihood::Bernoulli)
                .run(&mut data)
                .unwrap_err()
                .to_string()
                .split(';')
                .take(2)
                .collect::<Vec<_>>(),
            [
                "x: row 1, column 1: found 1.5",
                " expected values in [0, 1] after a division by 10 (--white) for the likelihood bernoulli"
            ]
        );
    }

    #[test]
    fn warns_about_bytes_of_a_small_range() {
        let warnings = |bytes: [u8; 2], change: fn(&mut Data)| {
            let rows = Rows::U8(arr2(&[[0, 0], bytes]));
            let mut data = Data { deepest: 255, ..Data::new("x", rows) };
            change(&mut data);
            of(Likelihood::Bernoulli).run(&mut data).unwrap();
            data.warnings
        };
        assert_eq!(
            warnings([1, 0], |_| {}),
            [
                "x: the largest value is 1 (of 255), which is read as 0.0039; to read 1 as 1, use --white 1"
            ]
        );
        assert!(warnings([3, 15], |_| {})[0].contains("15 (of 255), which is read as 0.059;"));
        for bytes in [[0, 0], [0, 128], [255, 1]] {
            assert!(warnings(bytes, |_| {}).is_empty(), "{bytes:?}");
        }
        assert!(warnings([1, 0], |data| data.white = Some(255)).is_empty());
        assert!(warnings([1, 0], |data| data.deepest = 0).is_empty());
        let min_max = |data: &mut Data| {
            data.scaling = Scaling::MinMax { low: vec![0.0; 2], high: vec![1.0; 2], clip: false };
        };
        assert!(warnings([1, 0], min_max).is_empty());
    }

    #[test]
    fn accepts_the_domain_of_each_likelihood() {
        let accepts =
            |value, likelihood, signed| of(likelihood).run(&mut data(value, signed)).is_ok();
        let gaussian = Likelihood::Gaussian(Variance::Fixed(1.0));
        let tanh = Likelihood::TanhSquaredError;
        assert!(accepts(-0.0, Likelihood::Bernoulli, false));
        assert!(accepts(-1.0, tanh, false) && !accepts(-1.5, tanh, false));
        assert!(accepts(-1e30, gaussian, false) && accepts(7.0, Likelihood::SquaredError, false));
        assert!(accepts(0.5, tanh, true) && accepts(0.5, gaussian, true));
        assert!(!accepts(-0.5, tanh, true) && !accepts(0.5, Likelihood::Bernoulli, true));
        let levels = Augmentation::Dequantize { levels: 256 };
        let dequantized = DomainCheck { augmentation: levels, ..of(gaussian) };
        assert!(dequantized.run(&mut data(-0.5, false)).is_err());
    }

    #[test]
    fn checks_values_after_scaling() {
        let with = |value, scaling, likelihood| {
            let mut data = Data { scaling, ..data(value, false) };
            of(likelihood).run(&mut data)
        };
        let bernoulli = Likelihood::Bernoulli;
        let standard = || Scaling::Standardize { mean: vec![0.0; 2], std: vec![1.0; 2] };
        assert!(matches!(with(0.5, standard(), bernoulli), Err(Failure::Usage(_))));
        assert!(with(-7.0, standard(), Likelihood::Gaussian(Variance::Shared)).is_ok());
        assert!(
            check_finite(&data(f32::NAN, false)).is_err()
                && check_finite(&data(9.0, false)).is_ok()
        );
    }

    #[test]
    fn clips_values_outside_of_the_training_range_and_counts_their_rows() {
        let with = |value, clip, likelihood| {
            let scaling = Scaling::MinMax { low: vec![0.0; 2], high: vec![4.0, 2.0], clip };
            let columns = vec!["a".into(), "b".into()];
            let mut data = Data { scaling, columns, lines: vec![2, 5], ..data(value, false) };
            of(likelihood).run(&mut data).map(|()| (data.numbers(1..2).unwrap()[[0, 1]], data))
        };
        let bernoulli = Likelihood::Bernoulli;
        let (x, data) = with(2.5, false, bernoulli).unwrap();
        assert_eq!((x, data.clip), (1.0, Some([0.0, 1.0])));
        assert_eq!(
            data.warnings,
            [
                "x: 1 row has values outside of the range of the training rows, which are clipped to it \
              (first: line 5, column 'b': found 2.5, expected 0 to 2)"
            ]
        );
        assert_eq!(with(-3.0, false, bernoulli).unwrap().0, 0.0);
        // Values in the range, values that --clip-to-range clips, and a likelihood without a domain.
        for (value, clip, likelihood, x) in [
            (2.0, false, bernoulli, 1.0),
            (9.0, true, bernoulli, 1.0),
            (9.0, false, Likelihood::SquaredError, 4.5),
            (-1.0, false, Likelihood::TanhSquaredError, -0.5),
        ] {
            let (found, data) = with(value, clip, likelihood).unwrap();
            assert_eq!((found, data.clip, data.warnings.len()), (x, None, 0), "{value}");
        }
        assert_eq!(with(-9.0, false, Likelihood::TanhSquaredError).unwrap().0, -1.0);
        for value in [f32::NAN, f32::INFINITY] {
            let message = with(value, true, bernoulli).err();
            let message = message.or_else(|| with(value, false, bernoulli).err());
            let expected = number(value);
            assert_eq!(
                message.unwrap().to_string(),
                format!("x: line 5, column 'b': found {expected}; expected finite values")
            );
        }
    }

    #[test]
    fn scoring_accepts_some_rows_that_cannot_be_read() {
        let accepts = |accepted, likelihood, rows: [[f64; 2]; 2]| {
            let mut data = Data::new("x", Rows::F64(arr2(&rows)));
            DomainCheck { accepted, ..of(likelihood) }.run(&mut data).is_ok()
        };
        let (bernoulli, any) = (Likelihood::Bernoulli, Likelihood::SquaredError);
        let (one_wild, both_wild) = ([[0.0, 1.0], [0.5, 7.0]], [[2.0, 1.0], [0.5, 7.0]]);
        let (huge, nan) = ([[0.0, 1.0], [0.5, 1e39]], [[0.0, 1.0], [0.5, f64::NAN]]);
        for (policy, likelihood, rows, accepted) in [
            (Accepted::Readable, bernoulli, one_wild, false),
            (Accepted::Finite, bernoulli, one_wild, false),
            (Accepted::MostReadable, bernoulli, one_wild, true),
            (Accepted::MostReadable, bernoulli, both_wild, false),
            (Accepted::MostReadable, bernoulli, nan, false),
            (Accepted::Readable, any, huge, false),
            (Accepted::Finite, any, huge, true),
            (Accepted::MostReadable, any, huge, true),
            (Accepted::MostReadable, any, nan, false),
            (Accepted::Finite, any, nan, false),
        ] {
            assert_eq!(accepts(policy, likelihood, rows), accepted, "{policy:?} {rows:?}");
        }
        let mut data = Data::new("x", Rows::F64(arr2(&[[0.0, 1e40]])));
        assert_eq!(
            of(any).run(&mut data).unwrap_err().to_string(),
            "x: row 0, column 1: found 1e40; expected values in the range of float32, up to 3.4e38, after \
             scaling (--scale standardize)"
        );
    }
}
