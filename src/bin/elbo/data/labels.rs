//! Labels: the class of each row, which a conditional model sees one-hot and pictures show.

use super::DataDescription;
use super::formats::columns::listed;
use super::formats::{file, idx, npy, table};
use crate::failure::{Failure, Result};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// The class of each row.
#[derive(Debug, PartialEq)]
pub struct Labels {
    /// What to call them in messages: the file's path, as the user gave it.
    pub name: String,
    /// From 0 to below `classes`.
    pub of_rows: Vec<u32>,
    /// How many classes there are.
    pub classes: usize,
    /// What they are called, in their order; empty where they are plain numbers.
    pub names: Vec<String>,
}

/// Labels as they stand in a file, before classes are made of them.
#[derive(Debug, PartialEq)]
pub struct Raw {
    pub name: String,
    pub cells: Cells,
}

/// What is written for each row.
#[derive(Debug, PartialEq)]
pub enum Cells {
    /// Of an array: these numbers, from 0 on.
    Numbers(Vec<u32>),
    /// Of a table or of folders: words, or numbers as text.
    Words(Vec<String>),
}

/// More classes than this are numbers that are no labels.
const MOST_CLASSES: u32 = 1 << 16;

/// What can be read, for messages.
const EXPECTED: &str =
    "expected IDX labels (plain or .gz), a .npy array of whole numbers, or a .csv of one column";

/// Reads a file of labels for the so many rows of a file: IDX, `.npy`, or text of one column. Text of one
/// line more has a header.
pub fn read(path: &Path, rows: usize, of: &str) -> Result<Raw> {
    let mut raw = parse(&path.display().to_string(), file::open(path, EXPECTED)?)?;
    raw.drop_header(rows);
    if raw.cells.len() == rows {
        return Ok(raw);
    }
    Err(Failure::Run(format!(
        "{}: {} labels; expected {rows}, one for each row of {of}",
        raw.name,
        raw.cells.len()
    )))
}

/// As [`read`], from a stream.
pub fn parse(name: &str, stream: impl Read) -> Result<Raw> {
    let wrong = |reason: String| Failure::Run(format!("{name}: {reason}"));
    let mut plain = file::plain(name, stream, EXPECTED)?;
    let start = file::start(name, &mut plain, EXPECTED)?;
    let (numbers, shape) = if start.starts_with(npy::MAGIC) {
        npy::read_integers(plain).map_err(|error| {
            wrong(match error {
                npy::NpyError::ElementType(descr) => format!(
                    "dtype {descr}; expected labels, whole numbers (in NumPy: `a.astype('uint8')`)"
                ),
                error => error.to_string(),
            })
        })?
    } else if start.starts_with(&[0, 0]) {
        let idx::Idx { bytes, shape } = idx::read_of_rank(1..=1, plain).map_err(|error| {
            wrong(match error {
                idx::IdxError::Rank(rank) => format!(
                    "IDX with {rank} dimensions; expected labels, which have 1 (are these the images?)"
                ),
                error => error.to_string(),
            })
        })?;
        (bytes.into_iter().map(i64::from).collect(), shape)
    } else if file::is_text(start) {
        let words = table::read_column(plain).map_err(|error| wrong(error.to_string()))?;
        return Ok(Raw { name: name.to_owned(), cells: Cells::Words(words) });
    } else {
        return Err(wrong(format!("neither IDX nor .npy nor text; {EXPECTED}")));
    };
    // A column of labels is as good as a row of them.
    if shape.iter().skip(1).any(|&n| n != 1) {
        return Err(wrong(format!("an array of shape {shape:?}; expected one label for each row")));
    }
    let label = |(row, number): (usize, i64)| {
        u32::try_from(number).ok().filter(|&label| label < MOST_CLASSES).ok_or_else(|| {
            let last = MOST_CLASSES - 1;
            wrong(format!("row {row}: {number}; expected labels, whole numbers from 0 to {last}"))
        })
    };
    let numbers = numbers.into_iter().enumerate().map(label).collect::<Result<Vec<_>>>()?;
    Ok(Raw { name: name.to_owned(), cells: Cells::Numbers(numbers) })
}

impl Cells {
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Words(words) => words.len(),
        }
    }

    /// As text.
    pub fn into_words(self) -> Vec<String> {
        match self {
            Self::Numbers(numbers) => numbers.iter().map(u32::to_string).collect(),
            Self::Words(words) => words,
        }
    }
}

impl Raw {
    fn drop_header(&mut self, rows: usize) {
        if let Cells::Words(words) = &mut self.cells
            && words.len() == rows + 1
        {
            words.remove(0);
        }
    }

    /// The labels among the classes of a model: so many, with these names if they have any.
    pub fn among(self, classes: usize, names: &[String]) -> Result<Labels> {
        let wrong = |row: usize, found: &str, expected: &str| {
            Failure::Run(format!("{}: row {row}: {found}; {expected}", self.name))
        };
        let numbered = format!("the model has {classes} classes, numbered from 0");
        let named = format!("the model has the classes {}", listed(names));
        let of_name = |row: usize, name: &str| {
            let place = names.iter().position(|known| known == name);
            place.map(|place| place as u32).ok_or_else(|| wrong(row, name, &named))
        };
        let of_rows = match (&self.cells, names) {
            (Cells::Numbers(numbers), []) => {
                match numbers.iter().position(|&label| label as usize >= classes) {
                    Some(row) => return Err(wrong(row, &numbers[row].to_string(), &numbered)),
                    None => numbers.clone(),
                }
            }
            (Cells::Numbers(numbers), _) => numbers
                .iter()
                .enumerate()
                .map(|(row, number)| of_name(row, &number.to_string()))
                .collect::<Result<_>>()?,
            (Cells::Words(words), []) => words
                .iter()
                .enumerate()
                .map(|(row, word)| match word.parse::<u32>() {
                    Ok(label) if (label as usize) < classes => Ok(label),
                    _ => Err(wrong(row, word, &numbered)),
                })
                .collect::<Result<_>>()?,
            (Cells::Words(words), _) => words
                .iter()
                .enumerate()
                .map(|(row, word)| of_name(row, word))
                .collect::<Result<_>>()?,
        };
        Ok(Labels { name: self.name, of_rows, classes, names: names.to_vec() })
    }

    /// The labels for pictures of a model that has no conditions: among its classes if it knows them all,
    /// else among their own.
    pub fn for_pictures(self, notes: &DataDescription) -> Result<Labels> {
        let own = Classes::of([&self])?;
        if own.names.iter().all(|name| notes.classes.contains(name)) && !own.names.is_empty() {
            return self.among(notes.classes.len(), &notes.classes);
        }
        self.among(own.count, &own.names)
    }
}

/// The classes that labels are among.
#[derive(Debug, PartialEq)]
pub struct Classes {
    pub count: usize,
    /// Empty where they are plain numbers.
    pub names: Vec<String>,
}

impl Classes {
    /// Those of all the labels together. Plain numbers are classes from 0 to the largest of them; words are
    /// sorted, as numbers where all of them are numbers.
    pub fn of<'a>(raws: impl IntoIterator<Item = &'a Raw>) -> Result<Self> {
        let (mut most, mut words, mut any_words) = (None, BTreeSet::new(), false);
        let mut name = String::new();
        for raw in raws {
            name.clone_from(&raw.name);
            match &raw.cells {
                Cells::Numbers(numbers) => {
                    most = most.max(numbers.iter().copied().max());
                    words.extend(
                        numbers.iter().collect::<BTreeSet<_>>().into_iter().map(u32::to_string),
                    );
                }
                Cells::Words(found) => {
                    any_words = true;
                    words.extend(found.iter().cloned());
                }
            }
        }
        if !any_words {
            return Ok(Self { count: most.map_or(0, |most| most as usize + 1), names: Vec::new() });
        }
        if words.len() > MOST_CLASSES as usize {
            return Err(Failure::Run(format!(
                "{name}: {} different labels; expected at most {MOST_CLASSES} classes",
                words.len()
            )));
        }
        let mut names: Vec<String> = words.into_iter().collect();
        let numbers: Option<Vec<f64>> = names.iter().map(|name| name.parse().ok()).collect();
        if numbers.is_some_and(|numbers| numbers.iter().all(|x| x.is_finite())) {
            let number = |name: &String| name.parse::<f64>().unwrap_or_default();
            names.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.cmp(b)));
        }
        let count = names.len();
        if names.iter().enumerate().all(|(i, name)| *name == i.to_string()) {
            names.clear();
        }
        Ok(Self { count, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, arr1, arr2};
    use ndarray_npy::{WritableElement, WriteNpyExt};

    fn npy<T: WritableElement>(numbers: Array1<T>) -> Vec<u8> {
        let mut file = Vec::new();
        numbers.write_npy(&mut file).unwrap();
        file
    }

    fn message(file: &[u8]) -> String {
        parse("x", file).unwrap_err().to_string()
    }

    /// Labels for as many rows as there are lines after the first.
    fn words(text: &str) -> Raw {
        let mut raw = parse("w", text.as_bytes()).unwrap();
        raw.drop_header(text.lines().count() - 1);
        raw
    }

    fn among_own(raw: Raw) -> Labels {
        let Classes { count, names } = Classes::of([&raw]).unwrap();
        raw.among(count, &names).unwrap()
    }

    #[test]
    fn any_whole_numbers_are_labels() {
        let files = [
            vec![0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 2],
            npy(arr1(&[7_u8, 0, 2])),
            npy(arr1(&[7_i8, 0, 2])),
            npy(arr1(&[7_i16, 0, 2])),
            npy(arr1(&[7_u16, 0, 2])),
            npy(arr1(&[7_i32, 0, 2])),
            npy(arr1(&[7_u32, 0, 2])),
            npy(arr1(&[7_i64, 0, 2])),
            npy(arr1(&[7_u64, 0, 2])),
        ];
        for file in files {
            let labels = among_own(parse("x", &file[..]).unwrap());
            assert_eq!((&labels.of_rows[..], labels.classes), (&[7, 0, 2][..], 8));
        }
        let mut column = Vec::new();
        arr2(&[[1_i64], [3]]).write_npy(&mut column).unwrap();
        assert_eq!(parse("x", &column[..]).unwrap().cells, Cells::Numbers(vec![1, 3]));
    }

    #[test]
    fn words_are_sorted_and_numbers_keep_their_order() {
        let labels = among_own(words("kind\nversicolor\nsetosa\nversicolor\n"));
        assert_eq!((&labels.of_rows[..], labels.classes), (&[1, 0, 1][..], 2));
        assert_eq!(labels.names, ["setosa", "versicolor"]);
        // From 0 on they are plain numbers, as in an array.
        let plain = among_own(words("label\n2\n0\n1\n2\n"));
        assert_eq!((&plain.of_rows[..], plain.names.len()), (&[2, 0, 1, 2][..], 0));
        let named = among_own(words("label\n10\n9\n10\n-1\n"));
        assert_eq!(
            (&named.of_rows[..], &named.names.join(" ")[..]),
            (&[2, 1, 2, 0][..], "-1 9 10")
        );
    }

    #[test]
    fn files_share_their_classes() {
        let (text, array) =
            (words("label\nb\n3\nb\n"), parse("x", &npy(arr1(&[3_u8, 1]))[..]).unwrap());
        let classes = Classes::of([&text, &array]).unwrap();
        assert_eq!(classes.names, ["1", "3", "b"]);
        assert_eq!(text.among(3, &classes.names).unwrap().of_rows, [2, 1, 2]);
        assert_eq!(array.among(3, &classes.names).unwrap().of_rows, [1, 0]);
        assert_eq!(words("label\n1\n0\n").among(5, &[]).unwrap().of_rows, [1, 0]);
    }

    #[test]
    fn pictures_take_the_classes_of_the_model_where_it_knows_them() {
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        let notes = DataDescription { classes, ..DataDescription::default() };
        let known = words("label\nc\na\n").for_pictures(&notes).unwrap();
        assert_eq!((&known.of_rows[..], known.classes), (&[2, 0][..], 3));
        let own = words("label\nc\nz\n").for_pictures(&notes).unwrap();
        assert_eq!((&own.of_rows[..], &own.names.join(" ")[..]), (&[0, 1][..], "c z"));
    }

    #[test]
    fn each_way_to_be_wrong_has_its_message() {
        assert_eq!(message(b""), format!("x: the file is empty; {EXPECTED}"));
        assert_eq!(message(b"P5\0"), format!("x: neither IDX nor .npy nor text; {EXPECTED}"));
        assert_eq!(message(b"a,b\n1,2\n"), "x: line 1: 2 columns; expected one, of labels");
        assert_eq!(message(b"a\n\"\"\n"), "x: line 2: a missing label");
        assert!(message(&[0, 0, 8, 1, 0, 0, 0, 3, 7]).starts_with("x: truncated"));
        let images = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7];
        assert!(message(&images).contains("expected labels, which have 1 (are these the images?)"));
        assert!(message(&npy(arr1(&[0.5_f32]))).contains("dtype <f4; expected labels"));
        assert!(message(&npy(arr1(&[0_i64, -1]))).starts_with("x: row 1: -1; expected labels"));
        assert!(message(&npy(arr1(&[u64::MAX]))).starts_with("x: row 0: "));
        let mut table = Vec::new();
        arr2(&[[1_i64, 2], [3, 4]]).write_npy(&mut table).unwrap();
        assert_eq!(message(&table), "x: an array of shape [2, 2]; expected one label for each row");
        let few = parse("x", &npy(arr1(&[0_u8, 5]))[..]).unwrap().among(5, &[]);
        assert_eq!(
            few.unwrap_err().to_string(),
            "x: row 1: 5; the model has 5 classes, numbered from 0"
        );
        let other = words("label\nc\nd\n").among(2, &["b".to_owned(), "c".to_owned()]);
        assert_eq!(other.unwrap_err().to_string(), "w: row 1: d; the model has the classes b, c");
    }
}
