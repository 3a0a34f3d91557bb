//! Labels: the class of each row, which a conditional model is given and figures show.

use super::DataDescription;
use super::formats::cells::{is_missing, missing_among_numbers};
use super::formats::{file, idx, npy, npz, separator, table};
use super::rows::Places;
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
    pub places: Places,
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
    pub places: Places,
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

/// Rows that a file of labels is for.
pub struct Labeled<'a> {
    pub rows: usize,
    /// Name of their file, for messages.
    pub of: &'a str,
    /// Name of the label column of the training data, which may be the header of the file.
    pub header: Option<&'a str>,
    /// Names of the classes of the training data; empty if they are not known.
    pub classes: &'a [String],
}

/// Names that a header of labels may have, in any case, besides that of the training data.
const HEADERS: [&str; 7] = ["category", "class", "classes", "label", "labels", "target", "targets"];

/// Reads a file of labels: IDX, `.npy`, or text of one column; `-` is standard input.
pub fn read(path: &Path, labeled: &Labeled) -> Result<RawLabels> {
    checked(parse_file(path)?, labeled)
}

/// Removes a header, and checks that there is one label per row.
fn checked(mut raw: RawLabels, labeled: &Labeled) -> Result<RawLabels> {
    raw.drop_header(labeled)?;
    raw.check_missing()?;
    let Labeled { rows, of, .. } = labeled;
    if raw.values.len() == *rows {
        return Ok(raw);
    }
    let header = match &raw.values {
        LabelValues::Text(cells) if cells.len() == rows + 1 && raw.places.of(0) == "line 1" => {
            "; if the first line is a header, call it 'label'"
        }
        _ => "",
    };
    Err(Failure::Run(format!(
        "{}: the file has {}; expected {rows}, one per row of {of}{header}",
        raw.name,
        counted(raw.values.len(), "label")
    )))
}

/// Reads a file of labels, or an array of an archive (`FILE.npz:NAME`).
fn parse_file(path: &Path) -> Result<RawLabels> {
    if path == Path::new("-") {
        let (name, stream) = file::open_or_stdin(path)?;
        return parse(&name, stream);
    }
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
            let (numbers, shape) = array.map_err(|reason| match named {
                Some(_) if reason.starts_with(npz::NO_ARRAY) => {
                    Failure::Usage(format!("{name}: {reason}"))
                }
                _ => wrong(reason),
            })?;
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
    } else if let Some(reason) = file::unsupported(start) {
        return Err(wrong(reason.to_owned()));
    } else if file::is_text(start) {
        let (cells, lines) = table::read_column(plain, separator::of_name(name))
            .map_err(|error| wrong(error.to_string()))?;
        let (values, places) = (LabelValues::Text(cells), Places::Lines(lines));
        return Ok(RawLabels { name: name.to_owned(), values, places });
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
    Ok(RawLabels { name: name.to_owned(), values, places: Places::Rows })
}

impl Labels {
    /// Name of a class.
    pub fn class(&self, class: usize) -> String {
        self.names.get(class).cloned().unwrap_or_else(|| class.to_string())
    }
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
    /// Removes the first line of a text if it is a header.
    ///
    /// The number of lines alone does not tell: a file may have a label too many or too few. A word above numbers
    /// is a header, and a number or a label that occurs again is none; of other words, those of `HEADERS` are, and any
    /// that makes one line more than there are rows.
    fn drop_header(&mut self, labeled: &Labeled) -> Result<()> {
        let LabelValues::Text(cells) = &mut self.values else { return Ok(()) };
        let Some((first, rest)) = cells.split_first() else { return Ok(()) };
        let is_number = |cell: &String| cell.parse().is_ok_and(f64::is_finite);
        let known = labeled.header == Some(first)
            || HEADERS.iter().any(|header| header.eq_ignore_ascii_case(first));
        let above_numbers = !rest.is_empty() && rest.iter().all(is_number);
        let is_label = is_number(first)
            || above_numbers && is_missing(first)
            || labeled.classes.contains(first)
            || rest.contains(first);
        if !is_label && (known || above_numbers || cells.len() == labeled.rows + 1) {
            cells.remove(0);
            if let Places::Lines(lines) = &mut self.places {
                lines.remove(0);
            }
        } else if !is_label && !rest.is_empty() && cells.len() == labeled.rows {
            return Err(Failure::Run(format!(
                "{}: {}: '{first}' may be a header or a label; call a header 'label', or write a line \
                 'label' above the labels",
                self.name,
                self.places.of(0)
            )));
        }
        Ok(())
    }

    /// Returns an error if a word such as `nan` stands for a missing label.
    pub fn check_missing(&self) -> Result<()> {
        let LabelValues::Text(cells) = &self.values else { return Ok(()) };
        match missing_among_numbers(cells) {
            None => Ok(()),
            Some(row) => Err(Failure::Run(format!(
                "{}: {}: missing label ({})",
                self.name,
                self.places.of(row),
                cells[row]
            ))),
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
                let (name, place) = (&self.name, self.places.of(row));
                let classes = match names {
                    [] => format!("{}, numbered from 0", counted(classes, "class")),
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
        let (of_rows, names) = (of_rows?, names.to_vec());
        Ok(Labels { of_rows, classes, names, name: self.name, places: self.places })
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
        // A missing label has no name.
        let mut named = names.iter().filter(|name| !name.is_empty());
        if named.all(|name| name.parse().is_ok_and(f64::is_finite)) {
            let number = |name: &String| name.parse::<f64>().unwrap_or(f64::INFINITY);
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
        let rows = text.lines().count() - 1;
        raw.drop_header(&Labeled { rows, of: "x", header: None, classes: &[] }).unwrap();
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

    /// Reads the text of a file of labels for `rows` rows, and returns its labels.
    fn of_rows(text: &str, rows: usize, header: Option<&str>, classes: &[&str]) -> Result<String> {
        let classes: Vec<String> = classes.iter().map(|&class| class.to_owned()).collect();
        let labeled = Labeled { rows, of: "d.csv", header, classes: &classes };
        let raw = checked(parse("l.csv", text.as_bytes())?, &labeled)?;
        Ok(raw.values.into_text().join(" "))
    }

    #[test]
    fn tells_a_header_from_a_label_by_the_lines_below() {
        let none: &[&str] = &[];
        for (text, rows, header, classes, expected) in [
            ("label\n0\n1\n", 2, None, none, "0 1"),
            ("kind\n0\n1\n", 2, None, none, "0 1"),
            ("0\n1\n1\n", 3, None, none, "0 1 1"),
            ("kind\na\nb\na\n", 3, None, none, "a b a"),
            ("a\nb\na\n", 3, None, none, "a b a"),
            ("Label\na\nb\n", 2, None, none, "a b"),
            ("sep=;\r\n\"label\"\r\na\r\nb\r\n", 2, None, none, "a b"),
            ("z\n", 1, None, none, "z"),
            ("\u{feff}kind\na\nb\n\n\n", 2, Some("kind"), none, "a b"),
            // Classes of the model are labels.
            ("z\na\na\n", 3, None, &["a", "z"], "z a a"),
            ("label\na\na\n", 3, None, &["a", "label"], "label a a"),
            // A word for a missing value may be a class among words.
            ("none\nfew\nnone\n", 3, None, none, "none few none"),
        ] {
            let found = of_rows(text, rows, header, classes);
            assert_eq!(found.unwrap_or_else(|e| e.to_string()), expected, "{text:?}");
        }
    }

    #[test]
    fn rejects_a_label_file_one_line_off() {
        let none: &[&str] = &[];
        let count = |found: usize, expected: usize| {
            let s = if found == 1 { "" } else { "s" };
            format!("the file has {found} label{s}; expected {expected}, one per row of d.csv")
        };
        let header = "; if the first line is a header, call it 'label'";
        for (text, rows, classes, expected) in [
            // A label too many, and one too few below a header.
            ("0\n1\n1\n0\n", 3, none, count(4, 3) + header),
            ("a\nb\na\nb\n", 3, none, count(4, 3) + header),
            ("label\n0\n1\n", 3, none, count(2, 3)),
            ("kind\n0\n1\n", 3, none, count(2, 3)),
            ("label\na\nb\n", 3, none, count(2, 3)),
            ("z\na\n", 1, &["a", "z"], count(2, 1) + header),
            ("a\nb\n", 3, none, count(2, 3)),
            (
                "kind\na\na\n",
                3,
                none,
                "line 1: 'kind' may be a header or a label; call a header 'label', or write a line 'label' \
                 above the labels"
                    .into(),
            ),
            // Empty lines are missing labels.
            ("0\n1\n\n0\n", 3, none, "line 3: missing label".into()),
            ("\na\nb\n", 2, none, "line 1: missing label".into()),
            ("label\n\n0\n1\n", 2, none, "line 2: missing label".into()),
            ("label\n0\n\"\"\n", 2, none, "line 3: missing label".into()),
            ("1\nnan\n0\n", 3, none, "line 2: missing label (nan)".into()),
            ("NA\n1\n0\n", 3, none, "line 1: missing label (NA)".into()),
            ("1;a\n2;b\n", 2, none, "line 1 has 2 columns, separated by ';'; expected a single column of \
                 labels (quote a label that contains the separator)".into()),
        ] {
            let found = of_rows(text, rows, None, classes).unwrap_err().to_string();
            assert_eq!(found, format!("l.csv: {expected}"), "{text:?}");
        }
    }

    #[test]
    fn rejects_what_is_not_one_label_per_row() {
        assert_eq!(message(b""), format!("x: the file is empty; {EXPECTED}"));
        assert_eq!(message(b"P5\0"), format!("x: unknown format; {EXPECTED}"));
        assert_eq!(
            message(b"a,b\n1,2\n"),
            "x: line 1 has 2 columns, separated by ','; expected a single column of labels (quote a label that \
             contains the separator)"
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
