//! Conversion between the units of the data and those of the model, by the scaling fitted in training.
//!
//! The arithmetic is in float64, as in the rest of the tool.

use super::graph::{Attribute, Graph};
use super::messages::{DOUBLE, FLOAT};
use crate::data::DataDescription;
use crate::data::scaling::{Scaling, range};

/// Adds the conversion of `x` from the units of the data to those of the model.
pub fn enter(graph: &mut Graph, notes: &DataDescription, x: String) -> String {
    graph.enter("scaling");
    let x = match &notes.scaling {
        Scaling::None => x,
        Scaling::Standardize { mean, std } => {
            let wide = cast(graph, &x, DOUBLE);
            scaled(graph, wide, mean, std)
        }
        Scaling::MinMax { low, high, clip } => {
            let mut wide = cast(graph, &x, DOUBLE);
            if *clip {
                let [low, high] = [("low", low), ("high", high)]
                    .map(|(name, bounds)| graph.wide_tensor(name, bounds));
                wide = graph.node("Max", &[&wide, &low]);
                wide = graph.node("Min", &[&wide, &high]);
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
        Scaling::Standardize { mean, std } => unscaled(graph, y, mean, std),
        Scaling::MinMax { low, high, .. } => unscaled(graph, y, low, &ranges(low, high)),
    }
}

/// `(x − from) / by`, in float32.
fn scaled(graph: &mut Graph, x: String, from: &[f64], by: &[f64]) -> String {
    let [from, by] =
        [("offset", from), ("divisor", by)].map(|(name, values)| graph.wide_tensor(name, values));
    let x = graph.node("Sub", &[&x, &from]);
    let x = graph.node("Div", &[&x, &by]);
    cast(graph, &x, FLOAT)
}

/// `y·by + from`, in float32.
fn unscaled(graph: &mut Graph, y: String, from: &[f64], by: &[f64]) -> String {
    let y = cast(graph, &y, DOUBLE);
    let [by, from] =
        [("factor", by), ("offset", from)].map(|(name, values)| graph.wide_tensor(name, values));
    let y = graph.node("Mul", &[&y, &by]);
    let y = graph.node("Add", &[&y, &from]);
    cast(graph, &y, FLOAT)
}

/// The divisor of each feature.
fn ranges(low: &[f64], high: &[f64]) -> Vec<f64> {
    low.iter().zip(high).map(|(&low, &high)| range(low, high)).collect()
}

fn cast(graph: &mut Graph, x: &str, to: i32) -> String {
    graph.node_with("Cast", &[x], &[Attribute::Int("to", i64::from(to))])
}
