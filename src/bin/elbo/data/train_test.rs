//! What to train on, and what to test on.

use super::domain::{self, LikelihoodSource};
use super::labels::{self, Classes, Raw};
use super::scaling::{Kind, Scaling};
use super::{Data, DataDescription, DataView, Plan, ReadOptions};
use crate::failure::{Failure, Result};
use elbo::Augmentation;
use elbo::Dataset;
use elbo::vae::Likelihood;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Files and rows to train and to test on, and what is done to them.
pub struct SplitOptions {
    pub data: Option<PathBuf>,
    pub test: Option<PathBuf>,
    /// The part of the rows of `data` that is held out where there is no `test`.
    pub test_fraction: f64,
    pub labels: Option<PathBuf>,
    pub test_labels: Option<PathBuf>,
    pub conditional: bool,
    pub scale: Kind,
    pub clip_to_range: bool,
    pub signed: bool,
    pub augmentation: Augmentation,
    pub read: ReadOptions,
    /// Of the rows held out.
    pub seed: u64,
}

pub struct TrainTestSplit {
    pub data: Data,
    /// Rows of `data`.
    pub train: Range<usize>,
    /// Test data in a file of their own.
    other: Option<Data>,
    /// Rows of `other`, if there is one, else of `data`.
    pub test: Range<usize>,
    /// Features that are the same in every training row, where they were to be scaled.
    pub constant: usize,
}

impl TrainTestSplit {
    pub fn read(args: &SplitOptions, likelihood: Likelihood) -> Result<Self> {
        let (mut data, other) = files(args)?;
        if args.conditional && data.labels.is_none() {
            return Err(Failure::Usage(format!(
                "--conditional: {} has no labels; name them with --labels, or a column of a table with \
                 --label-column, or give each class of pictures a folder",
                data.name
            )));
        }
        let kept = match &other {
            Some(test) => {
                test.check_width(data.width(), &data.name)?;
                data.len()
            }
            None => data.hold_out(args.test_fraction, args.seed)?,
        };
        let mut sets = Self {
            train: 0..kept,
            test: other.as_ref().map_or(kept..data.len(), |test| 0..test.len()),
            data,
            other,
            constant: 0,
        };
        sets.scale(args.scale, args.clip_to_range)?;
        for data in [Some(&mut sets.data), sets.other.as_mut()].into_iter().flatten() {
            data.signed = args.signed;
            data.conditional = args.conditional;
            domain::check(data, likelihood, args.augmentation, LikelihoodSource::CommandLine)?;
        }
        Ok(sets)
    }

    /// Fits the scaling to the training rows, for all rows.
    fn scale(&mut self, kind: Kind, clip: bool) -> Result<()> {
        if kind == Kind::None {
            return Ok(());
        }
        domain::check_finite(&self.data)?;
        let mut trained_on = vec![false; self.data.len()];
        self.train.clone().for_each(|row| trained_on[self.data.place(row)] = true);
        let (scaling, constant) = Scaling::fit(kind, clip, self.data.width(), |work| {
            self.data.rows.each(|row, numbers| {
                if trained_on[row] {
                    work(numbers);
                }
                Ok(())
            })
        })?;
        self.constant = constant;
        if let Some(other) = &mut self.other {
            other.scaling = scaling.clone();
        }
        self.data.scaling = scaling;
        Ok(())
    }

    pub fn test_data(&self) -> &Data {
        self.other.as_ref().unwrap_or(&self.data)
    }

    pub fn train_view(&self) -> DataView<'_> {
        self.data.view(self.train.clone())
    }

    pub fn test_view(&self) -> DataView<'_> {
        self.test_data().view(self.test.clone())
    }

    /// What came of using the rows of either.
    pub fn used<T>(&self, result: elbo::Result<T>) -> Result<T> {
        self.data.check_read()?;
        self.test_data().used(result)
    }

    /// How the data were read, to be kept with the model.
    pub fn notes(&self) -> DataDescription {
        self.data.notes()
    }

    /// A number that other data would not have: of how they were read, and of rows here and there.
    pub fn fingerprint(&self) -> Result<u64> {
        /// Of either part.
        const ROWS: usize = 256;
        // FNV-1a.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let notes = serde_json::to_vec(&self.notes());
        notes.expect("plain data").into_iter().for_each(&mut add);
        let mut numbers = vec![0.0; self.data.width()];
        for part in [self.train_view(), self.test_view()] {
            let rows = part.row_count();
            let mut condition = vec![0.0; part.conditions()];
            for row in (0..rows).step_by(rows.div_ceil(ROWS)).chain([rows - 1]) {
                part.read_row(row, &mut numbers);
                part.read_condition(row, &mut condition);
                let all = numbers.iter().chain(&condition);
                all.flat_map(|number| number.to_le_bytes()).for_each(&mut add);
            }
        }
        self.used(Ok(hash))
    }

    /// Whether rows have columns with names, and are no pictures.
    pub fn is_table(&self) -> bool {
        self.notes().is_table()
    }

    /// What to call the rows.
    pub fn noun(&self) -> &'static str {
        if self.is_table() { "rows" } else { "images" }
    }

    /// The first rows to test on, as many as there are up to `most`.
    pub fn first_of_test(&self, most: usize) -> Range<usize> {
        self.test.start..self.test.end.min(self.test.start + most)
    }

    /// How many classes the model is conditional on; 0 for none.
    pub fn classes(&self) -> usize {
        self.data
            .labels
            .as_ref()
            .filter(|_| self.data.conditional)
            .map_or(0, |labels| labels.classes)
    }
}

/// The data sets with their labels.
fn files(args: &SplitOptions) -> Result<(Data, Option<Data>)> {
    let Some(path) = &args.data else {
        let (train, test) = Data::sample()?;
        return Ok((train, Some(test)));
    };
    let options = &args.read;
    let labeled = args.conditional;
    let mut data = Data::read(path, Plan { options, like: None, labeled })?;
    let Some(path) = &args.test else {
        if let Some(raw) = raw_labels(&mut data, args.labels.as_deref())? {
            let Classes { count, names } = Classes::of([&raw])?;
            data.labels = Some(raw.among(count, &names)?);
        }
        return Ok((data, None));
    };
    let like = data.notes();
    let of_test = options.for_more_of_the_same();
    let mut other = Data::read(path, Plan { options: &of_test, like: Some(&like), labeled })?;
    let of_data = raw_labels(&mut data, args.labels.as_deref())?;
    let of_other = raw_labels(&mut other, args.test_labels.as_deref())?;
    // A class may be in one of the files alone.
    let Classes { count, names } = Classes::of([&of_data, &of_other].into_iter().flatten())?;
    for (data, raw) in [(&mut data, of_data), (&mut other, of_other)] {
        data.labels = raw.map(|raw| raw.among(count, &names)).transpose()?;
    }
    if args.conditional && data.labels.is_some() && other.labels.is_none() {
        return Err(Failure::Usage(format!(
            "--conditional: {} has no labels; name them with --test-labels",
            other.name
        )));
    }
    Ok((data, Some(other)))
}

/// The labels of a file of labels, or those that came with the rows.
fn raw_labels(data: &mut Data, path: Option<&Path>) -> Result<Option<Raw>> {
    match path {
        Some(path) => labels::read(path, data.len(), &data.name).map(Some),
        None => Ok(data.found.take()),
    }
}
