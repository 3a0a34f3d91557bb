//! Rows that are left out of training because they are far from the others.
//!
//! A share of unusual rows pulls every fitted number toward itself, first the means and deviations of the columns
//! and then the weights, until the model describes these rows as well as the others. So the rows of the largest
//! sums of squared z-scores are left out before anything is fitted: a trimmed estimate (Rousseeuw 1985, of which
//! this is the diagonal case). The means and deviations are those of the rows that stay, so they are found in
//! turns:
//!
//! 1. Mean and deviation of each column over the rows that stay; at first all of them.
//! 2. Distance of each row: the sum of its squared z-scores.
//! 3. The rows of the smallest distances stay.

use super::scaling::{Scaling, ScalingKind, divisor};
use super::{Data, domain};
use crate::failure::Result;
use std::ops::Range;

/// Turns of the three steps. A glitch of 10³⁶ hides everything else in the first.
const TURNS: usize = 3;

/// Smallest deviation of a column, relative to that over all rows: a column may be constant in the rows that stay.
const LEAST_DEVIATION: f64 = 0.1;

/// Number of rows that stay in each part.
#[derive(Debug, PartialEq)]
pub struct Kept {
    pub train: usize,
    pub validation: usize,
}

impl Data {
    /// Moves the rows to leave out to the end of their part: the `fraction` of the training rows that are farthest
    /// from the others, and the validation rows that are farther than all training rows that stay. At least one
    /// row of each part stays; the others keep their order.
    pub fn trim(
        &mut self,
        train: Range<usize>,
        validation: Range<usize>,
        fraction: f64,
    ) -> Result<Kept> {
        domain::check_finite(self)?;
        let count = train.len() - ((fraction * train.len() as f64) as usize).min(train.len() - 1);
        let mut stays = vec![false; self.len()];
        train.clone().for_each(|row| stays[self.place(row)] = true);
        let mut distances = Vec::new();
        let (mut limit, mut over_all) = (f64::INFINITY, None);
        for _ in 0..TURNS {
            // 1.
            let (mean, std) = self.moments(&stays)?;
            let over_all: &Vec<f64> = over_all.get_or_insert_with(|| std.clone());
            let std: Vec<f64> =
                std.iter().zip(over_all).map(|(std, all)| std.max(LEAST_DEVIATION * all)).collect();
            // 2.
            distances = self.squared_distances(&mean, &std)?;
            // 3.
            let mut order: Vec<usize> = train.clone().map(|row| self.place(row)).collect();
            order.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
            stays.fill(false);
            order[..count].iter().for_each(|&place| stays[place] = true);
            limit = distances[order[count - 1]];
        }
        let nearest =
            validation.clone().map(|row| distances[self.place(row)]).fold(f64::INFINITY, f64::min);
        for row in validation.clone() {
            let place = self.place(row);
            stays[place] = distances[place] <= limit.max(nearest);
        }
        let validation_count = validation.clone().filter(|&row| stays[self.place(row)]).count();
        let mut order: Vec<u32> = (0..self.len()).map(|row| self.place(row) as u32).collect();
        for part in [train, validation] {
            order[part].sort_by_key(|&place| !stays[place as usize]);
        }
        self.order = Some(order);
        Ok(Kept { train: count, validation: validation_count })
    }

    /// Mean and standard deviation of each column over the rows that stay; 1 for a constant column.
    fn moments(&self, stays: &[bool]) -> Result<(Vec<f64>, Vec<f64>)> {
        let fitted = Scaling::fit(ScalingKind::Standardize, false, self.width(), |work| {
            self.rows.each(|place, row| {
                if stays[place] {
                    work(row);
                }
                Ok(())
            })
        })?;
        match fitted.0 {
            Scaling::Standardize { mean, std } => {
                Ok((mean, std.into_iter().map(divisor).collect()))
            }
            Scaling::None | Scaling::MinMax { .. } => unreachable!("the kind that was asked for"),
        }
    }

    /// Sum of the squared z-scores of each row, in the order of the file.
    fn squared_distances(&self, mean: &[f64], std: &[f64]) -> Result<Vec<f64>> {
        let mut distances = Vec::with_capacity(self.len());
        self.rows.each(|_, row| {
            let columns = row.iter().zip(mean).zip(std);
            let scores = columns.map(|((x, mean), std)| (x - mean) / std);
            distances.push(scores.map(|z| z * z).sum());
            Ok(())
        })?;
        Ok(distances)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Rows;
    use ndarray::Array2;

    /// Rows around (0, 0) but for rows 3 and 7, the second of which hides the first in the first turn.
    fn data() -> Data {
        let rows = Array2::from_shape_fn((20, 2), |(row, column)| match row {
            3 => 40.0,
            7 => 1e30,
            _ => ((row * 7 + column * 3) % 5) as f32 - 2.0,
        });
        Data::new("x", Rows::F32(rows))
    }

    fn order(data: &Data) -> Vec<u32> {
        data.order.clone().unwrap()
    }

    #[test]
    fn farthest_rows_move_to_the_end_of_the_training_rows() {
        let mut data = data();
        assert_eq!(data.trim(0..20, 20..20, 0.1).unwrap(), Kept { train: 18, validation: 0 });
        let found = order(&data);
        assert_eq!(found[18..], [3, 7]);
        assert!(found[..18].is_sorted());
    }

    #[test]
    fn test_rows_stay_and_validation_rows_are_compared_with_training_rows() {
        // Row 3 is in the validation part, row 7 in the test part before it.
        let mut data = data();
        let places: Vec<u32> =
            (0..20).filter(|row| ![7, 3, 5].contains(row)).chain([7, 5, 3]).collect();
        data.order = Some(places.clone());
        assert_eq!(data.trim(0..17, 18..20, 0.01).unwrap(), Kept { train: 17, validation: 1 });
        assert_eq!(order(&data), places);
        // One row stays, whatever its distance.
        assert_eq!(data.trim(0..17, 19..20, 0.99).unwrap(), Kept { train: 1, validation: 1 });
    }

    #[test]
    fn column_that_is_constant_in_the_rows_that_stay_keeps_its_unit() {
        // The second column is 1000 in one of 20 rows only; its deviation over all rows is 218.
        let rows = Array2::from_shape_fn((20, 2), |(row, column)| match (row, column) {
            (4, 1) => 1000.0,
            (_, 1) => 0.0,
            _ => (row % 3) as f32,
        });
        let mut data = Data::new("x", Rows::F32(rows));
        assert_eq!(data.trim(0..20, 20..20, 0.05).unwrap().train, 19);
        assert_eq!(order(&data)[19], 4);
    }
}
