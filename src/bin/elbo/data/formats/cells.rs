//! Recognition of numbers and missing values in the cells of a table.

/// Returns true if a cell is empty or a word for a missing value.
pub fn is_missing(cell: &str) -> bool {
    let words = ["", "na", "n/a", "nan", "null", "none", "?", "-"];
    words.iter().any(|word| cell.eq_ignore_ascii_case(word))
}

/// Returns true if a cell looks like a number, even if it has a decimal comma or separators of thousands.
pub fn is_number(cell: &str) -> bool {
    let finite = |cell: &str| cell.parse().is_ok_and(f64::is_finite);
    finite(cell) || finite(&cell.replace(',', ".")) || thousands(cell).is_some()
}

/// Finds a word for a missing value among labels that are otherwise numbers, where it is no class.
pub fn missing_among_numbers(labels: &[String]) -> Option<usize> {
    let missing = labels.iter().position(|label| !label.is_empty() && is_missing(label))?;
    let numbers = labels.iter().filter(|label| !is_missing(label));
    let mut numbers = numbers.map(|label| label.parse().is_ok_and(f64::is_finite)).peekable();
    (numbers.peek().is_some() && numbers.all(|is| is)).then_some(missing)
}

/// Certainty that the commas in a number separate thousands.
pub enum Thousands {
    Perhaps,
    Surely,
}

/// Recognizes a number in which three digits follow each comma.
pub fn thousands(cell: &str) -> Option<Thousands> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = cell.split_once('.').map_or((cell, None), |(w, f)| (w, Some(f)));
    let mut groups = whole.strip_prefix(['+', '-']).unwrap_or(whole).split(',');
    let first = groups.next()?;
    let groups: Vec<&str> = groups.collect();
    let grouped = (1..=3).contains(&first.len())
        && !first.starts_with('0')
        && !groups.is_empty()
        && groups.iter().all(|group| group.len() == 3 && digits(group))
        && digits(first)
        && fraction.is_none_or(digits);
    let surely = groups.len() > 1 || fraction.is_some();
    grouped.then_some(if surely { Thousands::Surely } else { Thousands::Perhaps })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_numbers_in_any_notation() {
        for cell in ["1", "-4.5e1", ".5", "1,5", "1,234", "1,234,567.5"] {
            assert!(is_number(cell), "{cell}");
        }
        for cell in ["", "a", "1 2", "inf", "nan", "1,23,456", "0x10"] {
            assert!(!is_number(cell), "{cell}");
        }
    }

    #[test]
    fn finds_words_for_missing_values_among_numbers() {
        let find = |labels: &[&str]| {
            missing_among_numbers(&labels.iter().map(|&l| l.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(find(&["1", "nan", "0"]), Some(1));
        assert_eq!(find(&["1", "0"]), None);
        // Names of classes.
        assert_eq!(find(&["Na", "Mg"]), None);
        assert_eq!(find(&["none", "none"]), None);
    }
}
