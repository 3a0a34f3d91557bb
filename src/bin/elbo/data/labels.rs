//! Labels: the class of each row, which a conditional model is given and figures show.

use super::DataDescription;
use super::formats::{file, idx, npy, npz, table};
use super::rows::location;
use crate::failure::{Failure, Result};
use crate::text::{counted, listed};
use std::collections::BTreeSet;
use std::io::{Read, Seek};
use std::path::Path;

/// Class of each row.
#[derive(Debug, PartialEq)]
pub struct Labels {
    /// Path of their file as the user gave it, for messages.
    pub name: String,
    /// Class of each row, from 0 to below `classes`.
    pub of_rows: Vec<u32>,
    /// Number of classes.
    pub classes: usize,
    /// Names of the classes in order; empty if they are numbers.
    pub names: Vec<String>,
}

/// Labels as they are in a file, before they are assigned to classes.
#[derive(Debug, PartialEq)]
pub struct RawLabels {
    /// Path of the file as the user gave it, for messages.
    pub name: String,
    pub values: LabelValues,
    /// Line of each label in a text file, from 1 on; empty for other files.
    pub lines: Vec<u64>,
}

/// Values of labels in a file.
#[derive(Debug, PartialEq)]
pub enum LabelValues {
    /// Integers of an array, from 0 on.
    Numbers(Vec<u32>),
    /// Cells of a table or names of directories.
    Text(Vec<String>),
}

/// Largest number of classes; more are probably not labels.
const MOST_CLASSES: u32 = 1 << 16;

/// Accepted formats, for messages.
const EXPECTED: &str = "expected IDX labels (may be gzipped), a .npy array of integers, one in a .npz file \
                        (FILE.npz:NAME), or a .csv file of one column";

/// Reads a file of labels for the `rows` rows of the file `of`: IDX, `.npy`, or text of one column. The first
/// line of a text is a header if it has one line more than there are rows.
pub fn read(path: &Path, rows: usize, of: &str) -> Result<RawLabels> {
    let mut raw = parse_file(path)?;
    raw.drop_header(rows);
    if raw.values.len() == rows {
        return Ok(raw);
    }
    Err(Failure::Run(format!(
        "{}: the file has {}; expected {rows}, one per row of {of}",
        raw.name,
        counted(raw.values.len(), "label")
    )))
}

/// Reads a file of labels, or an array of an archive (`FILE.npz:NAME`).
fn parse_file(path: &Path) -> Result<RawLabels> {
    let name = path.display().to_string();
    let (path, named) = npz::split_name(path);
    let mut opened = file::open(path)?;
    let wrong = |reason: String| Failure::Run(format!("{name}: {reason}"));
    // An archive is read from its end, so it cannot come through a pipe.
    if opened.metadata().is_ok_and(|about| about.is_file()) {
        let mut start = Vec::new();
        let read = opened.by_ref().take(4).read_to_end(&mut start);
        read.and_then(|_| opened.rewind()).map_err(|error| Failure::cannot_read(&name, &error))?;
        if start == npz::MAGIC {
            let choice = npz::ArrayChoice { named, usual: None };
            let array = npz::with_array(opened, choice, |stream| integers(stream));
            let (numbers, shape) = array.map_err(wrong)?;
            return of_array(&name, numbers, &shape);
        }
    }
    if named.is_some() {
        return Err(wrong("the file is not a .npz archive".to_owned()));
    }
    parse(&name, opened)
}

/// Reads labels from a stream.
pub fn parse(name: &str, stream: impl Read) -> Result<RawLabels> {
    let wrong = |reason: String| Failure::Run(format!("{name}: {reason}"));
    let mut plain = file::plain(name, stream, EXPECTED)?;
    let start = file::start(name, &mut plain, EXPECTED)?;
    let (numbers, shape) = if start.starts_with(npy::MAGIC) {
        integers(plain).map_err(wrong)?
    } else if start.starts_with(&[0, 0]) {
        let idx::Idx { bytes, shape } = idx::read_of_rank(1..=1, plain).map_err(|error| {
            wrong(match error {
                idx::IdxError::Rank(rank) => format!(
                    "the IDX file has {rank} dimensions; expected labels, which have 1 (is this a file of \
                     images?)"
                ),
                error => error.to_string(),
            })
        })?;
        (bytes.into_iter().map(i64::from).collect(), shape)
    } else if file::is_text(start) {
        let (cells, lines) = table::read_column(plain).map_err(|error| wrong(error.to_string()))?;
        return Ok(RawLabels { name: name.to_owned(), values: LabelValues::Text(cells), lines });
    } else {
        return Err(wrong(format!("unknown format; {EXPECTED}")));
    };
    of_array(name, numbers, &shape)
}

/// Reads a `.npy` file of integers and its shape.
fn integers(stream: impl Read) -> std::result::Result<(Vec<i64>, Vec<usize>), String> {
    npy::read_integers(stream).map_err(|error| match error {
        npy::NpyError::ElementType(descr) => format!(
            "dtype {descr} is not supported for labels; expected integers (in NumPy: `a.astype('uint8')`; save words as a .csv of one column)"
        ),
        error => error.to_string(),
    })
}

/// Labels in an array of this shape.
fn of_array(name: &str, numbers: Vec<i64>, shape: &[usize]) -> Result<RawLabels> {
    let wrong = |reason: String| Failure::Run(format!("{name}: {reason}"));
    // A column of labels is accepted like a row of them.
    if shape.iter().skip(1).any(|&n| n != 1) {
        return Err(wrong(format!("the array has shape {shape:?}; expected one label per row")));
    }
    let label = |(row, number): (usize, i64)| {
        u32::try_from(number).ok().filter(|&label| label < MOST_CLASSES).ok_or_else(|| {
            let last = MOST_CLASSES - 1;
            wrong(format!(
                "row {row}: expected an integer from 0 to {last} as the label, found {number}"
            ))
        })
    };
    let numbers = numbers.into_iter().enumerate().map(label).collect::<Result<Vec<_>>>()?;
    let values = LabelValues::Numbers(numbers);
    Ok(RawLabels { name: name.to_owned(), values, lines: Vec::new() })
}

impl LabelValues {
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Text(cells) => cells.len(),
        }
    }

    /// Formats numbers as text.
    pub fn into_text(self) -> Vec<String> {
        match self {
            Self::Numbers(numbers) => numbers.iter().map(u32::to_string).collect(),
            Self::Text(cells) => cells,
        }
    }
}

impl RawLabels {
    fn drop_header(&mut self, rows: usize) {
        if let LabelValues::Text(cells) = &mut self.values
            && cells.len() == rows + 1
        {
            cells.remove(0);
            self.lines.remove(0);
        }
    }

    /// Assigns the labels to the classes of a model, by name if the classes have names.
    pub fn among(self, classes: usize, names: &[String]) -> Result<Labels> {
        let class = |label: &str| match names {
            [] => label.parse().ok().filter(|&class: &u32| (class as usize) < classes),
            names => names.iter().position(|name| name == label).map(|class| class as u32),
        };
        let known = |row: usize, label: &str| {
            class(label).ok_or_else(|| {
                let (name, place) = (&self.name, location(&self.lines, row));
                let classes = match names {
                    [] => format!("{classes} classes, numbered from 0"),
                    names => format!("the classes {}", listed(names)),
                };
                Failure::Run(format!(
                    "{name}: {place}: the model does not know the class '{label}'; it has {classes}"
                ))
            })
        };
        let of_rows: Result<Vec<u32>> = match &self.values {
            LabelValues::Numbers(numbers) => {
                let numbers = numbers.iter().enumerate();
                numbers.map(|(row, number)| known(row, &number.to_string())).collect()
            }
            LabelValues::Text(cells) => {
                cells.iter().enumerate().map(|(row, cell)| known(row, cell)).collect()
            }
        };
        Ok(Labels { of_rows: of_rows?, classes, names: names.to_vec(), name: self.name })
    }

    /// Assigns the labels for figures of a model without conditions: to its classes if it knows them all,
    /// else to their own.
    pub fn for_figures(self, data: &DataDescription) -> Result<Labels> {
        let own = Classes::of([&self])?;
        if own.names.iter().all(|name| data.classes.contains(name)) && !own.names.is_empty() {
            return self.among(data.classes.len(), &data.classes);
        }
        self.among(own.count, &own.names)
    }
}

/// Classes that labels belong to.
#[derive(Debug, PartialEq)]
pub struct Classes {
    pub count: usize,
    /// Names of the classes; empty if they are numbers.
    pub names: Vec<String>,
}

impl Classes {
    /// Collects the classes of several sets of labels. Integers are classes from 0 to the largest of them;
    /// text is sorted, by value if all of it is numeric.
    pub fn of<'a>(raws: impl IntoIterator<Item = &'a RawLabels>) -> Result<Self> {
        let (mut most, mut texts, mut any_text) = (None, BTreeSet::new(), false);
        let mut name = String::new();
        for raw in raws {
            name.clone_from(&raw.name);
            match &raw.values {
                LabelValues::Numbers(numbers) => {
                    most = most.max(numbers.iter().copied().max());
                    texts.extend(
                        numbers.iter().collect::<BTreeSet<_>>().into_iter().map(u32::to_string),
                    );
                }
                LabelValues::Text(cells) => {
                    any_text = true;
                    texts.extend(cells.iter().cloned());
                }
            }
        }
        if !any_text {
            return Ok(Self { count: most.map_or(0, |most| most as usize + 1), names: Vec::new() });
        }
        if texts.len() > MOST_CLASSES as usize {
            return Err(Failure::Run(format!(
                "{name}: found {} different labels; expected at most {MOST_CLASSES} classes",
                texts.len()
            )));
        }
        let mut names: Vec<String> = texts.into_iter().collect();
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

    /// Labels of a text whose first line is a header.
    fn with_header(text: &str) -> RawLabels {
        let mut raw = parse("w", text.as_bytes()).unwrap();
        raw.drop_header(text.lines().count() - 1);
        raw
    }

    fn among_own(raw: RawLabels) -> Labels {
        let Classes { count, names } = Classes::of([&raw]).unwrap();
        raw.among(count, &names).unwrap()
    }

    #[test]
    fn reads_any_type_of_integers() {
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
        assert_eq!(parse("x", &column[..]).unwrap().values, LabelValues::Numbers(vec![1, 3]));
    }

    #[test]
    fn sorts_classes_by_name_or_value() {
        let labels = among_own(with_header("kind\nversicolor\nsetosa\nversicolor\n"));
        assert_eq!((&labels.of_rows[..], labels.classes), (&[1, 0, 1][..], 2));
        assert_eq!(labels.names, ["setosa", "versicolor"]);
        // Numbers from 0 on are classes without names, as in an array.
        let plain = among_own(with_header("label\n2\n0\n1\n2\n"));
        assert_eq!((&plain.of_rows[..], plain.names.len()), (&[2, 0, 1, 2][..], 0));
        let named = among_own(with_header("label\n10\n9\n10\n-1\n"));
        assert_eq!(
            (&named.of_rows[..], &named.names.join(" ")[..]),
            (&[2, 1, 2, 0][..], "-1 9 10")
        );
    }

    #[test]
    fn files_share_classes() {
        let (text, array) =
            (with_header("label\nb\n3\nb\n"), parse("x", &npy(arr1(&[3_u8, 1]))[..]).unwrap());
        let classes = Classes::of([&text, &array]).unwrap();
        assert_eq!(classes.names, ["1", "3", "b"]);
        assert_eq!(text.among(3, &classes.names).unwrap().of_rows, [2, 1, 2]);
        assert_eq!(array.among(3, &classes.names).unwrap().of_rows, [1, 0]);
        assert_eq!(with_header("label\n1\n0\n").among(5, &[]).unwrap().of_rows, [1, 0]);
    }

    #[test]
    fn figures_use_the_classes_of_the_model_if_it_knows_all() {
        let classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        let data = DataDescription { classes, ..DataDescription::default() };
        let known = with_header("label\nc\na\n").for_figures(&data).unwrap();
        assert_eq!((&known.of_rows[..], known.classes), (&[2, 0][..], 3));
        let own = with_header("label\nc\nz\n").for_figures(&data).unwrap();
        assert_eq!((&own.of_rows[..], &own.names.join(" ")[..]), (&[0, 1][..], "c z"));
    }

    #[test]
    fn rejects_what_is_not_one_label_per_row() {
        assert_eq!(message(b""), format!("x: the file is empty; {EXPECTED}"));
        assert_eq!(message(b"P5\0"), format!("x: unknown format; {EXPECTED}"));
        assert_eq!(
            message(b"a,b\n1,2\n"),
            "x: line 1 has 2 columns; expected a single column of labels"
        );
        assert_eq!(message(b"a\n\"\"\n"), "x: line 2: missing label");
        assert!(message(&[0, 0, 8, 1, 0, 0, 0, 3, 7]).starts_with("x: truncated"));
        let images = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7];
        assert!(
            message(&images).contains("expected labels, which have 1 (is this a file of images?)")
        );
        assert!(message(&npy(arr1(&[0.5_f32]))).contains("dtype <f4 is not supported for labels"));
        assert!(message(&npy(arr1(&[0_i64, -1]))).ends_with("as the label, found -1"));
        assert!(message(&npy(arr1(&[u64::MAX]))).starts_with("x: row 0: "));
        let mut table = Vec::new();
        arr2(&[[1_i64, 2], [3, 4]]).write_npy(&mut table).unwrap();
        assert_eq!(message(&table), "x: the array has shape [2, 2]; expected one label per row");
        let few = parse("x", &npy(arr1(&[0_u8, 5]))[..]).unwrap().among(5, &[]);
        assert_eq!(
            few.unwrap_err().to_string(),
            "x: row 1: the model does not know the class '5'; it has 5 classes, numbered from 0"
        );
        let other = with_header("label\nc\nd\n").among(2, &["b".to_owned(), "c".to_owned()]);
        assert_eq!(
            other.unwrap_err().to_string(),
            "w: line 3: the model does not know the class 'd'; it has the classes b, c"
        );
    }
}
