//! The command-line tool.
#![forbid(unsafe_code)]

mod chart;
mod data;
mod failure;
mod history;
mod idx;
mod npy;
mod output;
mod pictures;

fn main() {}
