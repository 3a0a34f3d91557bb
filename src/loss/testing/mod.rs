//! Tests that apply to every term, and the f64 twins.

pub(super) mod conformance;
mod every_term;
pub(crate) mod reference;
