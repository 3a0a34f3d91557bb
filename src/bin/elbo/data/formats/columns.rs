//! Selection of the columns of a table by name or number.

use crate::text::{counted, listed};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Columns of a table under the names that options and messages use.
pub struct Columns {
    /// Names in the header, or numbers from 1 on without a header.
    pub names: Vec<String>,
    /// True if the table has a header.
    pub named: bool,
    /// True if the columns are those of a model, so that no option can exclude one.
    pub fixed: bool,
    /// Places of each name.
    places: HashMap<String, Vec<usize>>,
    /// Places that are excluded from the search by name.
    hidden: HashSet<usize>,
}

impl Columns {
    pub fn new(names: Vec<String>, named: bool, fixed: bool) -> Self {
        let mut places: HashMap<String, Vec<usize>> = HashMap::with_capacity(names.len());
        for (place, name) in names.iter().enumerate() {
            places.entry(name.clone()).or_default().push(place);
        }
        Self { names, named, fixed, places, hidden: HashSet::new() }
    }

    /// Excludes columns from the search by name.
    pub fn hide(&mut self, hidden: &HashSet<usize>) {
        if hidden.is_empty() {
            return;
        }
        self.places.retain(|_, places| {
            places.retain(|place| !hidden.contains(place));
            !places.is_empty()
        });
        self.hidden.clone_from(hidden);
    }

    /// Places of the columns that [`Self::hide`] does not exclude.
    pub fn visible(&self) -> impl Iterator<Item = usize> {
        (0..self.names.len()).filter(|place| !self.hidden.contains(place))
    }

    /// Finds a column by its name.
    pub fn find(&self, name: &str) -> Result<Option<usize>, String> {
        match self.places.get(name).map(Vec::as_slice) {
            None => Ok(None),
            Some([place]) => Ok(Some(*place)),
            Some(places) => {
                let numbers: Vec<String> = places.iter().map(|i| (i + 1).to_string()).collect();
                Err(format!(
                    "two columns are called '{name}' (numbers {}); rename or remove one, or exclude one with \
                     --drop-columns",
                    numbers.join(", ")
                ))
            }
        }
    }

    /// Finds a column that an option asks for by its name or else by its number from 1 on.
    pub fn place(&self, column: &str) -> Result<usize, String> {
        let column = column.trim();
        match self.places.get(column).map(Vec::as_slice) {
            None => {}
            Some([place]) => return Ok(*place),
            Some(places) => {
                let numbers: Vec<String> = places.iter().map(|&i| self.number(i)).collect();
                return Err(format!(
                    "two columns are called '{column}'; choose one by its number ({})",
                    numbers.join(", ")
                ));
            }
        }
        match column.parse::<usize>() {
            Ok(number) if (1..=self.names.len()).contains(&number) => Ok(number - 1),
            _ => match self.range(column)? {
                Some(range) if range.len() == 1 => Ok(range.start),
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
    fn range(&self, item: &str) -> Result<Option<Range<usize>>, String> {
        let Some((first, last)) = bounds(item) else { return Ok(None) };
        if self.places.contains_key(item.trim()) {
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

    /// Number of a column, from 1 on, as an option takes it: `3`, or `3-3` if a column is called `3`.
    pub fn number(&self, place: usize) -> String {
        let number = (place + 1).to_string();
        if self.named && self.places.contains_key(&number) {
            format!("{number}-{number}")
        } else {
            number
        }
    }

    /// Names of the columns, for messages.
    pub fn listed(&self) -> String {
        if !self.named {
            return format!("{} and no header", counted(self.names.len(), "column"));
        }
        listed(&self.names)
    }
}

/// Parses the bounds of a range of numbers such as `2-5`.
fn bounds(item: &str) -> Option<(usize, usize)> {
    let (first, last) = item.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// Returns true if a list of columns names one by a word, as only a table with a header allows.
pub fn has_names(list: &str) -> bool {
    let number = |item: &String| item.trim().parse::<usize>().is_ok() || bounds(item).is_some();
    items(list).is_ok_and(|items| !items.iter().all(number))
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
        Columns::new(names.iter().map(|&name| name.to_owned()).collect(), true, false)
    }

    #[test]
    fn finds_columns_by_name_before_number() {
        let columns = columns(&["a", "3", "b, c", "2-3", "e"]);
        assert_eq!(columns.places("e, a"), Ok(vec![4, 0]));
        assert_eq!(columns.places("3"), Ok(vec![1]));
        assert_eq!(columns.places("1,4-5"), Ok(vec![0, 3, 4]));
        assert_eq!(columns.places("\"b, c\",2-3"), Ok(vec![2, 3]));
        // A range is always by number.
        assert_eq!(columns.places("3-3"), Ok(vec![2]));
        assert_eq!(columns.place("3-3"), Ok(2));
        assert_eq!([0, 2].map(|place| columns.number(place)), ["1", "3-3"]);
    }

    #[test]
    fn names_missing_and_ambiguous_columns() {
        let some = columns(&["a", "b", "b"]);
        assert_eq!(some.places("x"), Err("no column 'x'; the file has a, b, b".to_owned()));
        assert_eq!(
            some.places("b"),
            Err("two columns are called 'b'; choose one by its number (2, 3)".to_owned())
        );
        assert_eq!(some.places("a,1"), Err("column 'a' is named twice".to_owned()));
        for list in ["0-2", "2-4", "3-2"] {
            assert!(some.places(list).unwrap_err().contains("numbered from 1 to 3"), "{list}");
        }
        assert!(some.places("").unwrap_err().starts_with("expected columns"));
        let unnamed = Columns::new(vec!["1".into(), "2".into()], false, false);
        assert_eq!(
            unnamed.places("0"),
            Err("no column '0'; the file has 2 columns and no header".into())
        );
    }

    #[test]
    fn tells_names_from_numbers() {
        assert!(["age", "1,age", "\"a,b\"", "1.5"].iter().all(|list| has_names(list)));
        assert!(!["1", "1-5, 7", ""].iter().any(|list| has_names(list)));
    }
}
