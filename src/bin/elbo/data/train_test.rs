//! Split of the data into training, validation and test rows.

use super::domain::{self, Accepted, DomainCheck, LikelihoodSource};
use super::formats::npz;
use super::labels::{self, Classes, LabelValues, Labeled, Labels, RawLabels};
use super::rounding;
use super::scaling::{Scaling, ScalingKind};
use super::{Data, DataDescription, DataView, ReadOptions, ReadPlan};
use crate::failure::{Failure, Result};
use elbo::Augmentation;
use elbo::Dataset;
use elbo::vae::Likelihood;
use std::collections::BTreeSet;
use std::iter;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Files, rows and scaling of the training, validation and test data.
pub struct SplitOptions {
    /// Training data; `None` for the embedded sample.
    pub data: Option<PathBuf>,
    pub labels: Option<PathBuf>,
    pub validation: HeldOut,
    pub test: TestRows,
    pub conditional: bool,
    pub scale: ScalingKind,
    pub clip_to_range: bool,
    pub signed: bool,
    /// Fraction of the training rows to leave out.
    pub trim: Option<f64>,
    pub augmentation: Augmentation,
    pub read: ReadOptions,
    /// Order of the columns to train on, if these are their names.
    pub columns: Vec<String>,
    /// Seed of the choice of held-out rows.
    pub seed: u64,
}

/// Rows that are not trained on.
pub enum HeldOut {
    File {
        path: PathBuf,
        labels: Option<PathBuf>,
    },
    /// A fraction of the rows of the training file.
    Fraction(f64),
}

/// Choice of the test rows.
pub enum TestRows {
    None,
    /// The validation rows, on which no choice depends in this run.
    Validation,
    Own(HeldOut),
}

impl TestRows {
    fn own(&self) -> Option<&HeldOut> {
        match self {
            Self::Own(held) => Some(held),
            Self::None | Self::Validation => None,
        }
    }
}

impl HeldOut {
    fn fraction(&self) -> Option<f64> {
        match self {
            Self::File { .. } => None,
            Self::Fraction(fraction) => Some(*fraction),
        }
    }
}

/// Training data, validation data, which decide early stopping and the best epoch, and test data, on which no
/// choice depends.
pub struct TrainTestSplit {
    pub data: Data,
    /// Training rows of `data`.
    pub train: Range<usize>,
    /// Training rows that are left out ([`SplitOptions::trim`]); they follow those of `train`.
    pub trimmed: Range<usize>,
    pub validation: Held,
    /// Test rows other than the validation rows.
    test: Option<Held>,
    /// True if the validation rows are the test rows.
    pub tests_on_validation: bool,
    /// Number of features that are constant in the training rows; 0 without scaling.
    pub constant: usize,
    /// True if `--size` says that the rows are images.
    sized: bool,
}

/// Part of the data that no step trains on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldOutPart {
    Validation,
    Test,
}

impl HeldOutPart {
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Rows of a file of their own or of the training file.
pub struct Held {
    file: Option<Data>,
    pub rows: Range<usize>,
}

impl TrainTestSplit {
    pub fn read(options: &SplitOptions, likelihood: Likelihood) -> Result<Self> {
        let Files { mut data, validation, test } = files(options)?;
        if options.conditional && data.labels.is_none() {
            return Err(Failure::Usage(format!(
                "--conditional: {} has no labels; give them with --labels or, in a table, with \
                 --label-column, or put the images of each class into a directory of its own",
                data.name
            )));
        }
        for file in [&validation, &test].into_iter().flatten() {
            file.check_width(data.width(), &data.name)?;
        }
        let held_out = |file: &Option<Data>, held: Option<&HeldOut>| {
            held.filter(|_| file.is_none()).and_then(HeldOut::fraction)
        };
        let fractions =
            [held_out(&validation, Some(&options.validation)), held_out(&test, options.test.own())];
        // Rows to train on, then test rows, then validation rows.
        let [test_start, validation_start] = data.hold_out(fractions, options.seed)?;
        let rows = |file: &Option<Data>, held: Range<usize>| match file {
            Some(file) => 0..file.len(),
            None => held,
        };
        let mut split = Self {
            train: 0..test_start,
            trimmed: test_start..test_start,
            validation: Held {
                rows: rows(&validation, validation_start..data.len()),
                file: validation,
            },
            test: options
                .test
                .own()
                .map(|_| Held { rows: rows(&test, test_start..validation_start), file: test }),
            data,
            tests_on_validation: matches!(options.test, TestRows::Validation),
            constant: 0,
            sized: options.read.size.is_some(),
        };
        if let Some(fraction) = options.trim {
            split.trim(fraction)?;
        }
        if options.conditional {
            split.check_classes()?;
        }
        split.scale(options.scale, options.clip_to_range)?;
        let rounded = rounding::warnings(&split.data)?;
        split.data.warnings.extend(rounded);
        let check = DomainCheck {
            likelihood,
            augmentation: options.augmentation,
            chosen: LikelihoodSource::CommandLine,
            accepted: Accepted::Readable,
        };
        // Rows that no step reads are left out of the means if they cannot be scored.
        let mut trained_on = split.trained_on();
        for data in split.files_mut() {
            data.signed = options.signed;
            data.conditional = options.conditional;
            let of_file = std::mem::take(&mut trained_on);
            check.run_for(data, |row| of_file.get(row).is_some_and(|trained| *trained))?;
        }
        Ok(split)
    }

    /// Warnings about the files, each once.
    pub fn warnings(&self) -> Vec<&String> {
        let test = self.test.as_ref().and_then(|test| test.file.as_ref());
        let files = [Some(&self.data), self.validation.file.as_ref(), test];
        let mut all = Vec::new();
        for warning in files.into_iter().flatten().flat_map(|data| &data.warnings) {
            if !all.contains(&warning) {
                all.push(warning);
            }
        }
        all
    }

    /// Leaves out the training rows that are farthest from the others, and such rows among the validation rows,
    /// unless these have a file of their own.
    fn trim(&mut self, fraction: f64) -> Result<()> {
        let held_out = match self.validation.file {
            Some(_) => 0..0,
            None => self.validation.rows.clone(),
        };
        let kept = self.data.trim(self.train.clone(), held_out.clone(), fraction)?;
        (self.train, self.trimmed) = (0..kept.train, kept.train..self.train.end);
        if self.validation.file.is_none() {
            self.validation.rows = held_out.start..held_out.start + kept.validation;
        }
        Ok(())
    }

    fn files_mut(&mut self) -> impl Iterator<Item = &mut Data> {
        let test = self.test.as_mut().and_then(|test| test.file.as_mut());
        [Some(&mut self.data), self.validation.file.as_mut(), test].into_iter().flatten()
    }

    /// Checks that each class of the validation and test rows is that of a training row: the model would be
    /// conditional on a class that it was never trained on.
    fn check_classes(&self) -> Result<()> {
        let Some(labels) = &self.data.labels else { return Ok(()) };
        let class = |data: &Data, labels: &Labels, row| labels.of_rows[data.place(row)] as usize;
        let mut trained = vec![false; labels.classes];
        self.train.clone().for_each(|row| trained[class(&self.data, labels, row)] = true);
        for held in iter::once(&self.validation).chain(&self.test) {
            let data = held.file.as_ref().unwrap_or(&self.data);
            let Some(labels) = &data.labels else { continue };
            let unknown = |row: &usize| !trained[class(data, labels, *row)];
            let Some(row) = held.rows.clone().filter(unknown).min_by_key(|&row| data.place(row))
            else {
                continue;
            };
            let remedy = match held.file {
                Some(_) => "remove such rows, or train on rows of that class",
                None => {
                    "the rows of that class are all held out; draw others with --seed, or hold out a smaller \
                     fraction"
                }
            };
            return Err(Failure::Run(format!(
                "{}: {}: no training row has the class '{}'; {remedy}",
                labels.name,
                labels.places.of(data.place(row)),
                labels.class(class(data, labels, row)),
            )));
        }
        Ok(())
    }

    /// Fits the scaling to the training rows and applies it to all rows.
    fn scale(&mut self, kind: ScalingKind, clip: bool) -> Result<()> {
        if kind == ScalingKind::None {
            return Ok(());
        }
        domain::check_finite(&self.data)?;
        let trained_on = self.trained_on();
        let (scaling, constant) = Scaling::fit(kind, clip, self.data.width(), |work| {
            self.data.rows.each(|row, numbers| {
                if trained_on[row] {
                    work(numbers);
                }
                Ok(())
            })
        })?;
        self.constant = constant;
        self.files_mut().for_each(|data| data.scaling = scaling.clone());
        Ok(())
    }

    /// Returns for each row of the training file whether it is trained on.
    fn trained_on(&self) -> Vec<bool> {
        let mut trained_on = vec![false; self.data.len()];
        self.train.clone().for_each(|row| trained_on[self.data.place(row)] = true);
        trained_on
    }

    pub fn validation_data(&self) -> &Data {
        self.validation.file.as_ref().unwrap_or(&self.data)
    }

    pub fn train_view(&self) -> DataView<'_> {
        self.data.view(self.train.clone())
    }

    /// The training rows and those that were left out.
    pub fn untrimmed_view(&self) -> DataView<'_> {
        self.data.view(self.train.start..self.trimmed.end)
    }

    pub fn validation_view(&self) -> DataView<'_> {
        self.validation_data().view(self.validation.rows.clone())
    }

    /// Number of test rows, if there are any.
    pub fn test_rows(&self) -> Option<usize> {
        match self.tests_on_validation {
            true => Some(self.validation.rows.len()),
            false => self.test.as_ref().map(|test| test.rows.len()),
        }
    }

    /// The test rows, if there are any.
    pub fn test_view(&self) -> Option<DataView<'_>> {
        self.held_out(HeldOutPart::Test).map(|(data, rows)| data.view(rows))
    }

    /// Rows of a part, with the data that they belong to.
    pub fn held_out(&self, part: HeldOutPart) -> Option<(&Data, Range<usize>)> {
        let held = match part {
            HeldOutPart::Validation => &self.validation,
            HeldOutPart::Test if self.tests_on_validation => &self.validation,
            HeldOutPart::Test => self.test.as_ref()?,
        };
        Some((held.file.as_ref().unwrap_or(&self.data), held.rows.clone()))
    }

    /// Returns `result`, or the failure to read a row of any of the files.
    pub fn used<T>(&self, result: elbo::Result<T>) -> Result<T> {
        self.data.check_read()?;
        if let Some(file) = self.test.as_ref().and_then(|test| test.file.as_ref()) {
            file.check_read()?;
        }
        self.validation_data().used(result)
    }

    /// Description of the data for the model file.
    pub fn description(&self) -> DataDescription {
        self.data.description()
    }

    /// Hashes the description and a sample of the rows, so that a resumed run can tell other data.
    pub fn fingerprint(&self) -> Result<u64> {
        self.hash_of_rows(256)
    }

    /// Hashes the description and all rows, so that ranks can tell whether they have the same data. Of rows that are
    /// read from the file when they are needed, a sample.
    pub fn fingerprint_of_all(&self) -> Result<u64> {
        self.hash_of_rows(if self.data.is_streamed() { 256 } else { usize::MAX })
    }

    /// Hashes the description and at least so many rows of each part, or all that it has.
    fn hash_of_rows(&self, at_least: usize) -> Result<u64> {
        // FNV-1a.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        // Earlier versions did not know the width.
        let description = DataDescription { table_width: None, ..self.description() };
        let description = serde_json::to_vec(&description);
        description.expect("plain data").into_iter().for_each(&mut add);
        let mut numbers = vec![0.0; self.data.width()];
        let parts = [Some(self.train_view()), Some(self.validation_view()), self.test_view()];
        for part in parts.into_iter().flatten() {
            let rows = part.row_count();
            let mut condition = vec![0.0; part.conditions()];
            for row in (0..rows).step_by(rows.div_ceil(at_least)).chain([rows - 1]) {
                part.read_row(row, &mut numbers);
                part.read_condition(row, &mut condition);
                let all = numbers.iter().chain(&condition);
                all.flat_map(|number| number.to_le_bytes()).for_each(&mut add);
            }
        }
        self.used(Ok(hash))
    }

    /// Returns true if the rows are not images.
    pub fn is_table(&self) -> bool {
        !self.sized && self.description().is_table(self.data.width())
    }

    /// Noun for the rows in messages.
    pub fn noun(&self) -> &'static str {
        if self.is_table() { "rows" } else { "images" }
    }

    /// The first validation rows, up to `most`.
    pub fn first_of_validation(&self, most: usize) -> Range<usize> {
        let rows = &self.validation.rows;
        rows.start..rows.end.min(rows.start + most)
    }

    /// Number of classes that the model is conditional on; 0 for none.
    pub fn classes(&self) -> usize {
        self.data
            .labels
            .as_ref()
            .filter(|_| self.data.conditional)
            .map_or(0, |labels| labels.classes)
    }
}

/// Data sets with their labels.
struct Files {
    data: Data,
    validation: Option<Data>,
    test: Option<Data>,
}

fn files(options: &SplitOptions) -> Result<Files> {
    let Some(path) = &options.data else {
        let (data, validation) = Data::sample()?;
        return Ok(Files { data, validation: Some(validation), test: None });
    };
    let read = &options.read;
    let labeled = options.conditional;
    let mut data = Data::read(path, ReadPlan { options: read, like: None, labeled, fixed: false })?;
    data.arrange_columns(&options.columns);
    let like = data.description();
    let mut of_others = read.for_second_file();
    if let (_, Some(named)) = npz::split_name(path) {
        of_others.usual_array = Some(named.to_owned());
    }
    let mut raw = vec![raw_labels(&mut data, options.labels.as_deref(), &[])?];
    let known: Vec<String> = match raw[0].as_ref().map(|raw| &raw.values) {
        Some(LabelValues::Text(cells)) => cells.iter().collect::<BTreeSet<_>>(),
        _ => BTreeSet::new(),
    }
    .into_iter()
    .cloned()
    .collect();
    let mut other = |held: Option<&HeldOut>| -> Result<Option<Data>> {
        let Some(HeldOut::File { path, labels }) = held else { return Ok(None) };
        expect_other_array(path, options)?;
        let plan = ReadPlan { options: &of_others, like: Some(&like), labeled, fixed: false };
        let mut data = Data::read(path, plan)?;
        raw.push(raw_labels(&mut data, labels.as_deref(), &known)?);
        Ok(Some(data))
    };
    let mut validation = other(Some(&options.validation))?;
    let mut test = other(options.test.own())?;
    if raw.iter().all(Option::is_none) {
        return Ok(Files { data, validation, test });
    }
    // A class may occur in only one of the files.
    let Classes { count, names } = Classes::of(raw.iter().flatten())?;
    let all = [Some(&mut data), validation.as_mut(), test.as_mut()];
    for (data, raw) in all.into_iter().flatten().zip(raw) {
        data.labels = raw.map(|raw| raw.among(count, &names)).transpose()?;
    }
    let validation_labels = match options.test {
        TestRows::Validation => "--test-labels",
        _ => "--validation-labels",
    };
    for (file, option) in [(&validation, validation_labels), (&test, "--test-labels")] {
        if let Some(file) = file.as_ref().filter(|file| file.labels.is_none())
            && options.conditional
            && data.labels.is_some()
        {
            return Err(Failure::Usage(format!(
                "--conditional: {} has no labels; give them with {option}",
                file.name
            )));
        }
    }
    Ok(Files { data, validation, test })
}

/// Returns an error if a file without the name of an array is the archive of the training data: the training
/// rows would be validated or tested on.
fn expect_other_array(path: &Path, options: &SplitOptions) -> Result<()> {
    let Some(data) = &options.data else { return Ok(()) };
    let (archive, named) = npz::split_name(data);
    let array = named.or(options.read.array.as_deref());
    let same = || path == archive || path.canonicalize().ok() == archive.canonicalize().ok();
    match array {
        Some(array) if same() => Err(Failure::Usage(format!(
            "{}: the array '{array}' of this file is the training data; name another array, as in {0}:x_test",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Reads labels from a file, or takes those that came with the rows.
fn raw_labels(
    data: &mut Data,
    path: Option<&Path>,
    classes: &[String],
) -> Result<Option<RawLabels>> {
    let Some(path) = path else { return Ok(data.found.take()) };
    let labeled = Labeled { rows: data.len(), of: &data.name, header: None, classes };
    labels::read(path, &labeled).map(Some)
}
