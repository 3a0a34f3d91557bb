//! Optimisers, element-wise and therefore indifferent to the order in which weights lie.

pub mod adam;

pub use adam::Adam;
