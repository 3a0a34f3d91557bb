//! Conversion between the units of the data and those of the model, by the scaling fitted in training.
//!
//! The arithmetic is in float64, as in the rest of the tool. The input and the output are float64 too where float32
//! would round numbers noticeably, such as timestamps.

use super::graph::{Attribute, Graph};
use super::messages::{DOUBLE, FLOAT};
use crate::data::DataDescription;
use crate::data::domain::domain_of;
use crate::data::scaling::{Scaling, divisor};
use elbo::vae::Likelihood;

/// Distance of a feature from 0, in standard deviations or ranges, from which its numbers are float64: float32
/// rounds them by up to 1/4,096 of that unit.
const FAR: f64 = 4096.0;

/// Type of numbers in the units of the data.
pub fn element_type(notes: &DataDescription) -> i32 {
    let far =
        |from: &[f64], by: &[f64]| from.iter().zip(by).any(|(x, &by)| x.abs() > FAR * divisor(by));
    let wide = match &notes.scaling {
        Scaling::None => false,
        Scaling::Standardize { mean, std } => far(mean, std),
        Scaling::MinMax { low, high, .. } => far(low, &ranges(low, high)),
    };
    if wide { DOUBLE } else { FLOAT }
}

/// Adds the conversion of `x` from the units of the data to those of the model.
pub fn enter(
    graph: &mut Graph,
    notes: &DataDescription,
    likelihood: Likelihood,
    x: String,
) -> String {
    graph.enter("scaling");
    let x = match &notes.scaling {
        Scaling::None => x,
        Scaling::Standardize { mean, std } => {
            let wide = widened(graph, notes, x);
            scaled(graph, wide, mean, std)
        }
        Scaling::MinMax { low, high, clip } => {
            let mut wide = widened(graph, notes, x);
            let domain = domain_of(likelihood, notes.signed).filter(|_| !clip);
            if let Some([below, _]) = domain.or(clip.then_some([0.0, 1.0])) {
                let below = f64::from(below);
                let lowest: Vec<f64> = low
                    .iter()
                    .zip(high)
                    .map(|(&low, &high)| low + below * divisor(high - low))
                    .collect();
                let highest: Vec<f64> = match domain {
                    // A constant feature has the range 1.
                    Some(_) => low.iter().zip(high).map(|(&l, &h)| l + divisor(h - l)).collect(),
                    None => high.clone(),
                };
                let [lowest, highest] = [("low", &lowest), ("high", &highest)]
                    .map(|(name, bounds)| graph.wide_tensor(name, bounds));
                wide = graph.node("Max", &[&wide, &lowest]);
                wide = graph.node("Min", &[&wide, &highest]);
            }
            scaled(graph, wide, low, &ranges(low, high))
        }
    };
    if !notes.signed {
        return x;
    }
    graph.enter("signed");
    let [two, one] = [2.0, 1.0].map(|number| graph.number(number));
    let twice = graph.node("Mul", &[&x, &two]);
    graph.node("Sub", &[&twice, &one])
}

/// Adds the conversion of the output `y` to the units of the data.
pub fn leave(graph: &mut Graph, notes: &DataDescription, y: String) -> String {
    let mut y = y;
    if notes.signed {
        graph.enter("unsigned");
        let [one, half] = [1.0, 0.5].map(|number| graph.number(number));
        y = graph.node("Add", &[&y, &one]);
        y = graph.node("Mul", &[&y, &half]);
    }
    graph.enter("unscaling");
    match &notes.scaling {
        Scaling::None => y,
        Scaling::Standardize { mean, std } => unscaled(graph, notes, y, mean, std),
        Scaling::MinMax { low, high, .. } => unscaled(graph, notes, y, low, &ranges(low, high)),
    }
}

/// `x` in float64.
fn widened(graph: &mut Graph, notes: &DataDescription, x: String) -> String {
    if element_type(notes) == DOUBLE { x } else { cast(graph, &x, DOUBLE) }
}

/// `(x − from) / by`, in float32.
fn scaled(graph: &mut Graph, x: String, from: &[f64], by: &[f64]) -> String {
    let by: Vec<f64> = by.iter().copied().map(divisor).collect();
    let [from, by] =
        [("offset", from), ("divisor", &by)].map(|(name, values)| graph.wide_tensor(name, values));
    let x = graph.node("Sub", &[&x, &from]);
    let x = graph.node("Div", &[&x, &by]);
    cast(graph, &x, FLOAT)
}

/// `y·by + from`, in the type of the data.
fn unscaled(
    graph: &mut Graph,
    notes: &DataDescription,
    y: String,
    from: &[f64],
    by: &[f64],
) -> String {
    let y = cast(graph, &y, DOUBLE);
    let [by, from] =
        [("factor", by), ("offset", from)].map(|(name, values)| graph.wide_tensor(name, values));
    let y = graph.node("Mul", &[&y, &by]);
    let y = graph.node("Add", &[&y, &from]);
    if element_type(notes) == DOUBLE { y } else { cast(graph, &y, FLOAT) }
}

/// The range of each feature.
fn ranges(low: &[f64], high: &[f64]) -> Vec<f64> {
    low.iter().zip(high).map(|(low, high)| high - low).collect()
}

fn cast(graph: &mut Graph, x: &str, to: i32) -> String {
    graph.node_with("Cast", &[x], &[Attribute::Int("to", i64::from(to))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{ExportedPart, model};
    use elbo::vae::{Config, Vae, Variance};

    fn standardized(mean: f64, std: f64) -> DataDescription {
        let scaling = Scaling::Standardize { mean: vec![0.0, mean], std: vec![1.0, std] };
        DataDescription { scaling, ..DataDescription::default() }
    }

    #[test]
    fn numbers_far_from_0_enter_and_leave_in_float64() {
        assert_eq!(element_type(&DataDescription::default()), FLOAT);
        assert_eq!(element_type(&standardized(2000.0, 5.0)), FLOAT);
        let timestamps = standardized(1.7e9, 18.5);
        assert_eq!(element_type(&timestamps), DOUBLE);
        let scaling = Scaling::MinMax { low: vec![-1e6], high: vec![-1e6 + 1.0], clip: true };
        assert_eq!(
            element_type(&DataDescription { scaling, ..DataDescription::default() }),
            DOUBLE
        );

        let likelihood = Likelihood::Gaussian(Variance::Shared);
        let vae = Vae::new(Config::builder(2, 1).likelihood(likelihood).build().unwrap(), 1);
        for (notes, casts) in [(&timestamps, 2), (&standardized(1.0, 1.0), 4)] {
            let graph = model(&vae, notes, ExportedPart::Reconstruct).unwrap().graph.unwrap();
            let of = |value: &super::super::messages::ValueInfoProto| {
                value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().elem_type
            };
            let types = [of(&graph.input[0]), of(&graph.output[0])];
            assert_eq!(types, [element_type(notes); 2]);
            let found = graph.node.iter().filter(|node| node.op_type == "Cast").count();
            assert_eq!(found, casts);
        }
    }

    #[test]
    fn values_are_clipped_as_the_tool_clips_them() {
        let bounds = |likelihood, signed, clip| {
            let scaling = Scaling::MinMax { low: vec![2.0, 7.0], high: vec![6.0, 7.0], clip };
            let notes = DataDescription { scaling, signed, ..DataDescription::default() };
            let mut graph = Graph::default();
            let x = graph.input("x", 2, "");
            enter(&mut graph, &notes, likelihood, x);
            let graph = graph.finish("", "y", 2, "", FLOAT);
            let bound = |name: &str| {
                let tensor = graph.initializer.iter().find(|tensor| tensor.name == name)?;
                let numbers = tensor.raw_data.as_chunks().0.iter();
                Some(numbers.map(|&bytes| f64::from_le_bytes(bytes)).collect::<Vec<_>>())
            };
            bound("scaling/low").zip(bound("scaling/high"))
        };
        let (bernoulli, tanh) = (Likelihood::Bernoulli, Likelihood::TanhSquaredError);
        assert_eq!(bounds(bernoulli, false, false), Some((vec![2.0, 7.0], vec![6.0, 8.0])));
        assert_eq!(bounds(bernoulli, false, true), Some((vec![2.0, 7.0], vec![6.0, 7.0])));
        assert_eq!(bounds(tanh, false, false), Some((vec![-2.0, 6.0], vec![6.0, 8.0])));
        assert_eq!(bounds(tanh, true, false), Some((vec![2.0, 7.0], vec![6.0, 8.0])));
        assert_eq!(bounds(Likelihood::SquaredError, false, false), None);
        assert_eq!(
            bounds(Likelihood::SquaredError, false, true),
            Some((vec![2.0, 7.0], vec![6.0, 7.0]))
        );
    }
}
