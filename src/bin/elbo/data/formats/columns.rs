//! Selection of the columns of a table by name or number.

use crate::text::{counted, listed};
use std::collections::HashSet;

/// Columns of a table under the names that options and messages use.
pub struct Columns {
    /// Names in the header, or numbers from 1 on without a header.
    pub names: Vec<String>,
    /// True if the table has a header.
    pub named: bool,
}

impl Columns {
    /// Finds a column by its name or else by its number from 1 on.
    pub fn place(&self, column: &str) -> Result<usize, String> {
        let column = column.trim();
        let mut of_name = (0..self.names.len()).filter(|&i| self.names[i] == column);
        match (of_name.next(), of_name.next()) {
            (Some(_), Some(_)) => Err(format!(
                "two columns are called '{column}'; choose one by its number, 1 to {}",
                self.names.len()
            )),
            (Some(place), None) => Ok(place),
            (None, _) => match column.parse::<usize>() {
                Ok(number) if (1..=self.names.len()).contains(&number) => Ok(number - 1),
                _ => Err(format!("no column '{column}'; the file has {}", self.listed())),
            },
        }
    }

    /// Finds the columns of a list such as `age,income` or `1-5,7`. Names that contain a comma are quoted.
    pub fn places(&self, list: &str) -> Result<Vec<usize>, String> {
        let mut places = Vec::new();
        for item in items(list)? {
            match self.range(&item)? {
                Some(range) => places.extend(range),
                None => places.push(self.place(&item)?),
            }
        }
        let mut seen = HashSet::new();
        match places.iter().find(|&&place| !seen.insert(place)) {
            Some(&twice) => Err(format!("column '{}' is named twice", self.names[twice])),
            None => Ok(places),
        }
    }

    /// Parses a range of numbers such as `2-5`, unless it is the name of a column.
    fn range(&self, item: &str) -> Result<Option<std::ops::Range<usize>>, String> {
        let item = item.trim();
        let Some((first, last)) = item.split_once('-') else { return Ok(None) };
        let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>())
        else {
            return Ok(None);
        };
        if self.names.iter().any(|name| name == item) {
            return Ok(None);
        }
        if first < 1 || first > last || last > self.names.len() {
            return Err(format!(
                "no columns {item}; columns are numbered from 1 to {}",
                self.names.len()
            ));
        }
        Ok(Some(first - 1..last))
    }

    /// Names of the columns, for messages.
    pub fn listed(&self) -> String {
        if !self.named {
            return format!("{} and no header", counted(self.names.len(), "column"));
        }
        listed(&self.names)
    }
}

/// Splits a list at its commas.
fn items(list: &str) -> Result<Vec<String>, String> {
    let mut record = csv::StringRecord::new();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(list.as_bytes());
    match reader.read_record(&mut record) {
        Ok(true) => Ok(record.iter().map(str::to_owned).collect()),
        _ => Err("expected columns separated by commas, such as age,income or 1-5,7".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str]) -> Columns {
        Columns { names: names.iter().map(|&name| name.to_owned()).collect(), named: true }
    }

    #[test]
    fn finds_columns_by_name_before_number() {
        let columns = columns(&["a", "3", "b, c", "2-3", "e"]);
        assert_eq!(columns.places("e, a"), Ok(vec![4, 0]));
        assert_eq!(columns.places("3"), Ok(vec![1]));
        assert_eq!(columns.places("1,4-5"), Ok(vec![0, 3, 4]));
        assert_eq!(columns.places("\"b, c\",2-3"), Ok(vec![2, 3]));
    }

    #[test]
    fn names_missing_and_ambiguous_columns() {
        let some = columns(&["a", "b", "b"]);
        assert_eq!(some.places("x"), Err("no column 'x'; the file has a, b, b".to_owned()));
        assert!(
            some.places("b")
                .unwrap_err()
                .contains("two columns are called 'b'; choose one by its number")
        );
        assert_eq!(some.places("a,1"), Err("column 'a' is named twice".to_owned()));
        for list in ["0-2", "2-4", "3-2"] {
            assert!(some.places(list).unwrap_err().contains("numbered from 1 to 3"), "{list}");
        }
        assert!(some.places("").unwrap_err().starts_with("expected columns"));
        let unnamed = Columns { names: vec!["1".into(), "2".into()], named: false };
        assert_eq!(
            unnamed.places("0"),
            Err("no column '0'; the file has 2 columns and no header".into())
        );
    }
}
