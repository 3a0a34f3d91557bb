//! Tests that apply to every term, and the f64 twins.

mod bounds;
pub(super) mod conformance;
mod every_term;
pub(crate) mod reference;
mod special_pairs;
