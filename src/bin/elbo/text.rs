//! Text of counts, numbers, names and paths in messages.

use std::fmt;
use std::path::Path;

/// More names than this are not listed in a message.
const MOST_LISTED: usize = 20;

/// Joins names with commas, such as `a, b, c`; of a long list, the first of them.
pub fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MOST_LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Formats a count with its noun, such as `1 row`, `1,234 rows` or `2 classes`.
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if noun.ends_with('s') { "es" } else { "s" };
    format!("{} {noun}{}", thousands(count as f64), if count == 1 { "" } else { plural })
}

/// Groups the digits of a number, such as `1,234,567`.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats an `f32` or an `f64` with the fewest digits that parse to the same number.
pub fn number<T: Copy + Into<f64> + fmt::Display + fmt::LowerExp>(x: T) -> String {
    let size = x.into().abs();
    if size == 0.0 || (1e-5..1e16).contains(&size) || !size.is_finite() {
        x.to_string()
    } else {
        format!("{x:e}")
    }
}

/// Quotes a path for a shell, if necessary.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortens_long_lists() {
        let names = vec!["n".to_owned(); 22];
        assert_eq!(listed(&names[..2]), "n, n");
        assert_eq!(listed(&names).matches('n').count(), 20 + 1);
        assert!(listed(&names).ends_with(" and 2 more"));
    }

    #[test]
    fn counts_one_thing_in_the_singular() {
        let rows = [0, 1, 1234].map(|count| counted(count, "row"));
        assert_eq!(rows, ["0 rows", "1 row", "1,234 rows"]);
        assert_eq!([1, 2].map(|count| counted(count, "class")), ["1 class", "2 classes"]);
    }

    #[test]
    fn quotes_paths_for_a_shell() {
        for (path, text) in [("a/b-1.x", "a/b-1.x"), ("my run", "'my run'"), ("it's", "'it'\\''s'")]
        {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }

    #[test]
    fn numbers_parse_to_the_same_bits() {
        for x in [0.1_f32, 1.0 / 3.0, f32::MAX, f32::MIN_POSITIVE, -0.0, 16_777_217.0, 1e16] {
            assert_eq!(number(x).parse::<f32>().unwrap().to_bits(), x.to_bits());
        }
        for x in [0.1_f64, 1_700_000_031.0, -0.0, 5e-324, f64::MAX, 1e16, 9_007_199_254_740_993.0] {
            assert_eq!(number(x).parse::<f64>().unwrap().to_bits(), x.to_bits());
        }
        let texts =
            [number(1_700_000_031.5), number(1e40), number(-1e-7_f32), number(f64::INFINITY)];
        assert_eq!(texts, ["1700000031.5", "1e40", "-1e-7", "inf"]);
    }

    #[test]
    fn groups_thousands() {
        let cases = [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1234567.0, "1,234,567")];
        for (value, text) in cases {
            assert_eq!(thousands(value), text);
        }
    }
}
