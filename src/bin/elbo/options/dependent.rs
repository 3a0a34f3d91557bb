//! Options that belong to the choice of another one.

use crate::failure::{Failure, Result};

/// An option was given although the choice it belongs to was not made.
///
/// `chosen` is what was chosen in its place, with the option that chose it: a message names both.
pub fn only_with(given: bool, option: &str, choice: &str, chosen: &str) -> Result<()> {
    if !given {
        return Ok(());
    }
    Err(Failure::Usage(format!("{option} belongs to {choice}; here it is {chosen}")))
}

/// As [`only_with`], where the option it belongs to has no value or was left out.
pub fn needs(given: bool, option: &str, other: &str) -> Result<()> {
    if !given {
        return Ok(());
    }
    Err(Failure::Usage(format!("{option} belongs to {other}, which is not there")))
}
