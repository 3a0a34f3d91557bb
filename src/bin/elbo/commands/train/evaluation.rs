//! Evaluation of the rows that no step trains on.
//!
//! As in `elbo eval`, rows that the model cannot score are left out of the means, and a warning names them. What is
//! left out of the loss of an epoch depends on the model after that epoch alone, so a resumed run has the history
//! of an uninterrupted one. A model that cannot score most of the validation rows has diverged.

use crate::data::Data;
use crate::data::train_test::{HeldOutPart, TrainTestSplit};
use crate::failure::{Failure, Result, row_of};
use crate::model::usable::{self, LeftOut, OfUsable, of_any};
use crate::text::thousands;
use elbo::loss::Decomposition;
use elbo::vae::{Evaluation, EvaluationOptions, Vae};
use elbo::{Compute, Dataset};
use std::collections::BTreeSet;
use std::ops::Range;

pub struct HeldOutEvaluation<'a> {
    pub split: &'a TrainTestSplit,
    pub compute: &'a Compute,
    pub options: EvaluationOptions,
}

impl HeldOutEvaluation<'_> {
    /// Evaluates a model on the validation rows, and returns those that it cannot score.
    ///
    /// Returns an error if they are more than half.
    pub fn validate(&self, vae: &Vae) -> Result<(Evaluation, Vec<LeftOut>)> {
        let part = HeldOutPart::Validation;
        let (data, rows) = self.split.held_out(part).expect("each run has validation rows");
        let count = rows.len();
        let OfUsable { result, mut left_out } = self.evaluate(vae, data, rows)?;
        match result {
            Some(evaluation) if 2 * left_out.len() <= count => Ok((evaluation, left_out)),
            _ => {
                let all = thousands(count as f64);
                let none = thousands(left_out.len() as f64);
                let LeftOut { row, reason: mut error } = left_out.swap_remove(0);
                let place = data.place(row);
                row_of(&mut error).into_iter().for_each(|row| *row = place);
                let first = data.name_row(place, part_name(part, self.split));
                let place = format!(
                    "{}: the model cannot score {none} of the {all} rows, because the run has diverged or these \
                     rows are far from the training rows; first, {first}",
                    data.name
                );
                Err(Failure::Diverged { place: Some(place), error })
            }
        }
    }

    /// Evaluates a model on the test rows, if there are any.
    pub fn test(&self, vae: &Vae) -> Result<Option<OfUsable<Option<Evaluation>>>> {
        let test = self.split.held_out(HeldOutPart::Test);
        test.map(|(data, rows)| self.evaluate(vae, data, rows)).transpose()
    }

    /// Estimates the parts of the KL divergence from the first validation rows; `None` if it can score none.
    pub fn decompose(&self, vae: &Vae, most: usize) -> Result<Option<Decomposition>> {
        let data = self.split.validation_data();
        let decompose = |rows: &dyn Dataset| vae.decompose(self.compute, rows, &self.options);
        let rows = data.view(self.split.first_of_validation(most));
        Ok(of_any(data, &rows, |rows| decompose(rows).map(drop), decompose)?.result)
    }

    fn evaluate(
        &self,
        vae: &Vae,
        data: &Data,
        rows: Range<usize>,
    ) -> Result<OfUsable<Option<Evaluation>>> {
        let evaluate = |rows: &dyn Dataset| vae.evaluate(self.compute, rows, &self.options);
        let view = data.view(rows.clone());
        let mut found = of_any(data, &view, |rows| evaluate(rows).map(drop), evaluate)?;
        found.left_out.iter_mut().for_each(|left_out| left_out.row += rows.start);
        found.left_out.sort_by_key(|left_out| data.place(left_out.row));
        Ok(found)
    }
}

/// Name of a part in messages. Without a choice by the validation loss, the test rows take the place of the validation
/// rows.
fn part_name(part: HeldOutPart, split: &TrainTestSplit) -> &'static str {
    if split.tests_on_validation { HeldOutPart::Test.name() } else { part.name() }
}

/// Rows that were left out, of which each is named in one warning.
#[derive(Default)]
pub struct LeftOutRows {
    named: BTreeSet<(&'static str, usize)>,
    warnings: Vec<String>,
}

impl LeftOutRows {
    /// Returns the warning about the rows that no warning has named yet.
    pub fn warning(
        &mut self,
        left_out: Vec<LeftOut>,
        part: HeldOutPart,
        split: &TrainTestSplit,
    ) -> Option<&str> {
        let (data, rows) = split.held_out(part)?;
        let (name, none_left) = (part_name(part, split), left_out.len() == rows.len());
        let new: Vec<LeftOut> =
            left_out.into_iter().filter(|out| self.named.insert((name, out.row))).collect();
        let consequence = match none_left {
            true => format!("so there is no {name} loss"),
            false => format!("which the {name} loss leaves out"),
        };
        self.warnings.push(usable::warning(&new, data, &consequence)?);
        self.warnings.last().map(String::as_str)
    }

    /// Returns all warnings so far.
    pub fn into_warnings(self) -> Vec<String> {
        self.warnings
    }
}
