//! The commands, each with its options, its help and what it does.

pub mod bench;
pub mod convert;
pub mod encode;
pub mod eval;
pub mod export;
pub mod inspect;
pub mod interpolate;
pub mod plot;
pub mod reconstruct;
pub mod sample;
pub mod score;
pub mod train;
pub mod traverse;
