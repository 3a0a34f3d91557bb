//! What to train on, and what to test on.

use crate::args::TrainingData;
use crate::data::Data;
use crate::failure::Result;
use crate::labels;
use crate::notes::DataNotes;
use crate::part::Part;
use crate::range::{self, Chosen};
use elbo::vae::Likelihood;
use std::ops::Range;

pub struct Sets {
    pub data: Data,
    /// Rows of `data`.
    pub train: Range<usize>,
    /// Test data in a file of their own.
    other: Option<Data>,
    /// Rows of `other`, if there is one, else of `data`.
    pub test: Range<usize>,
}

impl Sets {
    pub fn read(args: &TrainingData, likelihood: Likelihood, seed: u64) -> Result<Self> {
        let (mut data, mut other) = match (&args.data, &args.test) {
            (None, _) => {
                let (train, test) = Data::sample(args.conditional)?;
                (train, Some(test))
            }
            (Some(data), None) => (Data::read(data)?, None),
            (Some(data), Some(test)) => (Data::read(data)?, Some(Data::read(test)?)),
        };
        for data in [Some(&mut data), other.as_mut()].into_iter().flatten() {
            data.signed = args.signed;
            range::check(data, likelihood, args.augment.augment, Chosen::ByOption)?;
        }
        if let Some(path) = &args.labels {
            let labels = labels::read(path)?;
            let tested = args.test_labels.as_deref().map(labels::read).transpose()?;
            // A class may be in one of the files alone.
            let classes = tested.as_ref().map_or(0, |tested| tested.classes).max(labels.classes);
            data.label(labels.of_classes(classes)?)?;
            if let (Some(other), Some(tested)) = (&mut other, tested) {
                other.label(tested.of_classes(classes)?)?;
            }
        }
        let rows = data.len();
        match other {
            Some(test) => {
                test.check_width(data.width(), &data.name)?;
                Ok(Self { train: 0..rows, test: 0..test.len(), data, other: Some(test) })
            }
            None => {
                let kept = data.hold_out_a_tenth(seed)?;
                Ok(Self { data, train: 0..kept, other: None, test: kept..rows })
            }
        }
    }

    pub fn test_data(&self) -> &Data {
        self.other.as_ref().unwrap_or(&self.data)
    }

    pub fn train_part(&self) -> Part<'_> {
        self.data.part(self.train.clone())
    }

    pub fn test_part(&self) -> Part<'_> {
        self.test_data().part(self.test.clone())
    }

    /// How the data were read, to be kept with the model.
    pub fn notes(&self) -> DataNotes {
        DataNotes { signed: self.data.signed, ..DataNotes::default() }
    }

    /// The first rows to test on, as many as there are up to `most`.
    pub fn first_of_test(&self, most: usize) -> Range<usize> {
        self.test.start..self.test.end.min(self.test.start + most)
    }

    /// How many classes the rows have; 0 without labels.
    pub fn classes(&self) -> usize {
        self.data.labels.as_ref().map_or(0, |labels| labels.classes)
    }
}
