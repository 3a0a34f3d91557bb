//! What the values of options are made of: numbers with their domains, widths, spans, file names.

use clap::builder::{StringValueParser, TypedValueParser};
use elbo::optim::Span;
use std::str::FromStr;

/// More units in one layer fit no machine.
pub const MAX_WIDTH: usize = 1 << 24;

/// Whole numbers from 1 on.
pub fn count(most: usize) -> impl TypedValueParser<Value = usize> {
    StringValueParser::new().try_map(move |text| match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from 1 to {most}")),
    })
}

/// A seed: any number of 64 bits.
pub fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

/// A learning rate.
pub fn learning_rate(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        _ => Err("expected a number above 0, such as 0.001"),
    }
}

/// A weight of a term, or a threshold in nats.
pub fn weight(text: &str) -> Result<f32, &'static str> {
    match text.parse() {
        Ok(weight) if weight >= 0.0 && f32::is_finite(weight) => Ok(weight),
        _ => Err("expected a number, 0 or more"),
    }
}

/// As [`positive`], for what the library holds in 64 bits.
pub fn above_zero(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err("expected a number above 0"),
    }
}

/// As [`weight`], for what the library holds in 64 bits.
pub fn not_negative(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(number) if number >= 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err("expected a number, 0 or more"),
    }
}

/// A number above 0.
pub fn positive(text: &str) -> Result<f32, &'static str> {
    match text.parse() {
        Ok(number) if number > 0.0 && f32::is_finite(number) => Ok(number),
        _ => Err("expected a number above 0"),
    }
}

/// A factor above 0 and below 1.
pub fn fraction(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(number) if number > 0.0 && number < 1.0 => Ok(number),
        _ => Err("expected a number above 0 and below 1"),
    }
}

/// A part of a whole, and not nothing.
pub fn ratio(text: &str) -> Result<f32, &'static str> {
    match text.parse() {
        Ok(number) if number > 0.0 && number <= 1.0 => Ok(number),
        _ => Err("expected a number above 0 and at most 1"),
    }
}

/// A number from 0 to below 1, such as a probability of dropping a unit.
pub fn below_one<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, &'static str> {
    match text.parse() {
        Ok(number) if (T::from(0)..T::from(1)).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to below 1"),
    }
}

/// Any finite number.
pub fn finite(text: &str) -> Result<f32, &'static str> {
    text.parse().ok().filter(|number: &f32| number.is_finite()).ok_or("expected a finite number")
}

/// What the library has a name for.
pub fn named<T: FromStr<Err = elbo::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| match error {
        // Clap names the option and the value.
        elbo::Error::Config { expected, .. } => format!("expected {expected}"),
        error => error.to_string(),
    })
}

/// A length of training: `10epochs`, `2000steps`, or a bare number of epochs.
pub fn span(text: &str) -> Result<Span, &'static str> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim() {
        "" | "epoch" | "epochs" => Span::Epochs,
        "step" | "steps" => Span::Steps,
        _ => return Err(SPAN),
    };
    number.parse().ok().filter(|&n| n > 0).map(unit).ok_or(SPAN)
}

const SPAN: &str = "expected a number of epochs or steps, 1 or more, such as 10epochs or 2000steps";

/// Two bounds in ascending order, such as `-10,10`.
pub fn interval(text: &str) -> Result<[f32; 2], &'static str> {
    let bounds = text.split_once(',').map(|(low, high)| [low, high].map(|b| finite(b.trim()).ok()));
    match bounds {
        Some([Some(low), Some(high)]) if low < high => Ok([low, high]),
        _ => {
            Err("expected two numbers in ascending order with a comma between them, such as -10,10")
        }
    }
}

/// Widths of hidden layers.
#[derive(Clone, Debug)]
pub struct Widths(pub Vec<usize>);

impl FromStr for Widths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "none" {
            return Ok(Self(Vec::new()));
        }
        let widths: Option<Vec<usize>> = text
            .split(',')
            .map(|width| width.trim().parse().ok().filter(|n| (1..=MAX_WIDTH).contains(n)))
            .collect();
        widths.map(Self).ok_or_else(|| {
            format!("expected widths from 1 to {MAX_WIDTH}, separated by commas, such as 512,256; or none")
        })
    }
}

/// Height and width of an image, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct HeightWidth(pub [usize; 2]);

impl FromStr for HeightWidth {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sides = text
            .split_once(['x', '×'])
            .and_then(|(height, width)| Some([height.parse().ok()?, width.parse().ok()?]));
        match sides {
            Some(sides) if !sides.contains(&0) => Ok(Self(sides)),
            _ => Err("expected height and width in pixels, such as 28x28"),
        }
    }
}

/// Width and height of an image, in pixels: the order in which programs for pictures have them.
#[derive(Clone, Copy, Debug)]
pub struct WidthHeight(pub [u32; 2]);

impl FromStr for WidthHeight {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sides = text
            .split_once(['x', '×'])
            .and_then(|(width, height)| Some([width.parse().ok()?, height.parse().ok()?]));
        match sides {
            Some(sides) if sides.iter().all(|side| (1..=1 << 14).contains(side)) => Ok(Self(sides)),
            _ => Err("expected width and height in pixels, up to 16384, such as 64x48"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_of_epochs_unless_they_are_of_steps() {
        for text in ["10", "10epochs", "10 epochs", "10epoch"] {
            assert_eq!(span(text), Ok(Span::Epochs(10)), "{text}");
        }
        assert_eq!(span("2000steps"), Ok(Span::Steps(2000)));
        for text in ["", "0", "-1", "1.5", "steps", "10 weeks", "99999999999999999999"] {
            assert_eq!(span(text), Err(SPAN), "{text}");
        }
    }

    #[test]
    fn intervals_ascend() {
        assert_eq!(interval("-10, 4.5"), Ok([-10.0, 4.5]));
        for text in ["", "1", "2,1", "1,1", "NaN,1", "0,inf", "1,2,3"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_stay_in_their_domains() {
        assert_eq!(below_one::<f32>("0.5"), Ok(0.5));
        for text in ["1", "-0.1", "NaN", "x"] {
            assert!(below_one::<f32>(text).is_err() && fraction(text).is_err(), "{text}");
        }
        assert!(fraction("0").is_err() && positive("0").is_err() && weight("0").is_ok());
        assert!(finite("-3").is_ok() && finite("inf").is_err());
    }
}
