//! Labels: the class of each row, which a conditional model sees one-hot.

use crate::failure::{Failure, Result};
use crate::{idx, npy, stream};
use std::io::Read;
use std::path::Path;

/// The class of each row.
#[derive(Debug)]
pub struct Labels {
    /// What to call them in messages: the file's path, as the user gave it.
    pub name: String,
    /// From 0 to below `classes`.
    pub of_rows: Vec<u32>,
    /// How many classes there are.
    pub classes: usize,
}

/// More classes than this are numbers that are no labels.
const MOST_CLASSES: u32 = 1 << 16;

/// What can be read, for messages.
const EXPECTED: &str = "expected IDX labels (plain or .gz) or a .npy array of whole numbers";

/// Reads a file, IDX or `.npy`. There are as many classes as the largest label asks for.
pub fn read(path: &Path) -> Result<Labels> {
    parse(&path.display().to_string(), stream::open(path, EXPECTED)?)
}

/// As [`read`], from a stream.
pub fn parse(name: &str, stream: impl Read) -> Result<Labels> {
    let wrong = |reason: String| Failure::Run(format!("{name}: {reason}"));
    let mut plain = stream::plain(name, stream, EXPECTED)?;
    let start = stream::start(name, &mut plain, EXPECTED)?;
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
    } else {
        return Err(wrong(format!("neither IDX nor .npy; {EXPECTED}")));
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
    let of_rows = numbers.into_iter().enumerate().map(label).collect::<Result<Vec<_>>>()?;
    let classes = of_rows.iter().max().map_or(0, |&most| most as usize + 1);
    Ok(Labels { name: name.to_owned(), of_rows, classes })
}

impl Labels {
    /// The same labels among so many classes.
    pub fn of_classes(self, classes: usize) -> Result<Self> {
        if let Some(row) = self.of_rows.iter().position(|&label| label as usize >= classes) {
            return Err(Failure::Run(format!(
                "{}: row {row}: {}; the model has {classes} classes, numbered from 0",
                self.name, self.of_rows[row]
            )));
        }
        Ok(Self { classes, ..self })
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
            let labels = parse("x", &file[..]).unwrap();
            assert_eq!((&labels.of_rows[..], labels.classes), (&[7, 0, 2][..], 8));
        }
        let mut column = Vec::new();
        arr2(&[[1_i64], [3]]).write_npy(&mut column).unwrap();
        assert_eq!(parse("x", &column[..]).unwrap().of_rows, [1, 3]);
    }

    #[test]
    fn each_way_to_be_wrong_has_its_message() {
        assert_eq!(message(b""), format!("x: the file is empty; {EXPECTED}"));
        assert_eq!(message(b"7\n2\n"), format!("x: neither IDX nor .npy; {EXPECTED}"));
        assert!(message(&[0, 0, 8, 1, 0, 0, 0, 3, 7]).starts_with("x: truncated"));
        let images = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7];
        assert!(message(&images).contains("expected labels, which have 1 (are these the images?)"));
        assert!(message(&npy(arr1(&[0.5_f32]))).contains("dtype <f4; expected labels"));
        assert!(message(&npy(arr1(&[0_i64, -1]))).starts_with("x: row 1: -1; expected labels"));
        assert!(message(&npy(arr1(&[u64::MAX]))).starts_with("x: row 0: "));
        let mut table = Vec::new();
        arr2(&[[1_i64, 2], [3, 4]]).write_npy(&mut table).unwrap();
        assert_eq!(message(&table), "x: an array of shape [2, 2]; expected one label for each row");
        let few = parse("x", &npy(arr1(&[0_u8, 5]))[..]).unwrap().of_classes(5);
        assert_eq!(
            few.unwrap_err().to_string(),
            "x: row 1: 5; the model has 5 classes, numbered from 0"
        );
    }
}
