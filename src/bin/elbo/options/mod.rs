//! Groups of options that several commands share.

pub mod data;
pub mod dependent;
pub mod objective;
pub mod overwrite;
pub mod reading;
pub mod values;
