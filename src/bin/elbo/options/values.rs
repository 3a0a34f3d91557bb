//! Parsers of option values: numbers in a domain, layer widths, spans, image sizes.

use clap::builder::{StringValueParser, TypedValueParser};
use elbo::optim::Span;
use std::str::FromStr;

/// Largest width of a layer, and largest count.
pub const MAX_WIDTH: usize = 1 << 24;

/// A whole number from 1 to `most`.
pub fn count(most: usize) -> impl TypedValueParser<Value = usize> {
    StringValueParser::new().try_map(move |text| match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("expected a whole number from 1 to {most}")),
    })
}

/// A seed: any 64-bit number.
pub fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

/// A finite number in a domain.
fn number<T: FromStr + Copy + Into<f64>>(
    text: &str,
    accepts: impl Fn(f64) -> bool,
    expected: &'static str,
) -> Result<T, &'static str> {
    let finite = |number: &T| (*number).into().is_finite() && accepts((*number).into());
    text.parse().ok().filter(finite).ok_or(expected)
}

/// A number above 0.
pub fn positive<T: FromStr + Copy + Into<f64>>(text: &str) -> Result<T, &'static str> {
    number(text, |x| x > 0.0, "expected a number above 0")
}

/// A number from 0, such as the weight of a term.
pub fn not_negative<T: FromStr + Copy + Into<f64>>(text: &str) -> Result<T, &'static str> {
    number(text, |x| x >= 0.0, "expected a number, 0 or more")
}

/// A number above 0 and below 1.
pub fn fraction(text: &str) -> Result<f64, &'static str> {
    number(text, |x| x > 0.0 && x < 1.0, "expected a number above 0 and below 1")
}

/// A share of rows to hold out for validation, which no run is without.
pub fn validation_fraction(text: &str) -> Result<f64, String> {
    fraction(text).map_err(|expected| match text.parse() {
        Ok(0.0) => format!(
            "{expected}: a run needs validation rows; to train on all rows, give others as --validation \
             or --test"
        ),
        _ => expected.to_owned(),
    })
}

/// A number above 0 and at most 1.
pub fn ratio(text: &str) -> Result<f32, &'static str> {
    number(text, |x| x > 0.0 && x <= 1.0, "expected a number above 0 and at most 1")
}

/// A number from 0 to below 1, such as a dropout probability.
pub fn below_one<T: FromStr + Copy + Into<f64>>(text: &str) -> Result<T, &'static str> {
    number(text, |x| (0.0..1.0).contains(&x), "expected a number from 0 to below 1")
}

/// A finite number.
pub fn finite(text: &str) -> Result<f32, &'static str> {
    number(text, |_| true, "expected a finite number")
}

/// A value that the library parses from its name, in any letter case.
pub fn named<T: FromStr<Err = elbo::Error>>(text: &str) -> Result<T, String> {
    text.to_lowercase().parse().map_err(|error| match error {
        // Clap names the option and the value.
        elbo::Error::Config { expected, .. } => format!("expected {expected}"),
        error => error.to_string(),
    })
}

/// A span of training: `10epochs`, `2000steps`, or a bare number of epochs.
pub fn span(text: &str) -> Result<Span, &'static str> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match &unit.trim().to_lowercase()[..] {
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
        if text.trim().eq_ignore_ascii_case("none") {
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

/// Refuses the former `--shape HxW`, which had the sides in the other order than `--size`.
pub fn former_shape(text: &str) -> Result<WidthHeight, String> {
    // The order makes no difference to a square.
    if let Ok(WidthHeight([width, height])) = text.parse()
        && width == height
    {
        return Ok(WidthHeight([width, height]));
    }
    let sides = text.split_once(['x', '×']);
    let size = sides.map_or("WxH".to_owned(), |(height, width)| format!("{width}x{height}"));
    Err(format!("use --size, which has the width first: --size {size}"))
}

/// Width and height of an image, in pixels.
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
    fn parses_spans() {
        for text in ["10", "10epochs", "10 epochs", "10epoch"] {
            assert_eq!(span(text), Ok(Span::Epochs(10)), "{text}");
        }
        assert_eq!(span("2000steps"), Ok(Span::Steps(2000)));
        for text in ["", "0", "-1", "1.5", "steps", "10 weeks", "99999999999999999999"] {
            assert_eq!(span(text), Err(SPAN), "{text}");
        }
    }

    #[test]
    fn parses_intervals() {
        assert_eq!(interval("-10, 4.5"), Ok([-10.0, 4.5]));
        for text in ["", "1", "2,1", "1,1", "NaN,1", "0,inf", "1,2,3"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rejects_numbers_outside_the_domain() {
        assert_eq!(below_one::<f32>("0.5"), Ok(0.5));
        for text in ["1", "-0.1", "NaN", "x"] {
            assert!(below_one::<f32>(text).is_err() && fraction(text).is_err(), "{text}");
        }
        assert!(fraction("0").is_err() && positive::<f32>("0").is_err());
        assert!(not_negative::<f32>("0").is_ok() && ratio("1").is_ok());
        // Finite in the type of the option.
        assert!(positive::<f64>("1e300").is_ok() && positive::<f32>("1e300").is_err());
        assert!(positive::<f64>("1e-60").is_ok() && positive::<f32>("1e-60").is_err());
        assert!(finite("-3").is_ok() && finite("inf").is_err());
    }
}
