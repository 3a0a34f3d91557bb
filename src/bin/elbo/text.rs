//! Text of counts, numbers, names and paths in messages.

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

/// Formats a count with its noun, such as `1 row` or `1,234 rows`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(count as f64), if count == 1 { "" } else { "s" })
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
    }

    #[test]
    fn quotes_paths_for_a_shell() {
        for (path, text) in [("a/b-1.x", "a/b-1.x"), ("my run", "'my run'"), ("it's", "'it'\\''s'")]
        {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }

    #[test]
    fn groups_thousands() {
        let cases = [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1234567.0, "1,234,567")];
        for (value, text) in cases {
            assert_eq!(thousands(value), text);
        }
    }
}
