//! Lane functions: elementary functions of a register, with one error bound each.

pub(crate) mod fixed_point;
pub(crate) mod trig;
