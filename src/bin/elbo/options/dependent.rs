//! Options that apply only with a certain value of another one, and options that exclude each other.
//!
//! One table serves two purposes: an option that does not apply is refused, and an option of a preset or a
//! configuration file is dropped when a later layer replaces the choice that it depended on.

use crate::failure::Failure;

/// An option that applies only if another one has one of some values.
pub struct Dependent {
    pub option: &'static str,
    pub on: &'static str,
    /// Empty: any value will do, but the option must be given.
    pub values: &'static [&'static str],
}

const fn dependent(
    option: &'static str,
    on: &'static str,
    values: &'static [&'static str],
) -> Dependent {
    Dependent { option, on, values }
}

/// Options that are refused without the choice they depend on.
pub const DEPENDENT: &[Dependent] = &[
    dependent("pos-weight", "likelihood", &["bernoulli"]),
    dependent("output", "likelihood", &["squared-error"]),
    dependent("variance", "likelihood", &["gaussian"]),
    dependent("anneal-over", "anneal", &[]),
    dependent("anneal-from", "anneal", &["linear", "cosine"]),
    dependent("cycles", "anneal", &["cyclical"]),
    dependent("cycle-ratio", "anneal", &["cyclical"]),
    dependent("free-bits-per", "free-bits", &[]),
    dependent("capacity-gamma", "capacity", &[]),
    dependent("capacity-over", "capacity", &[]),
    dependent("capacity-per", "capacity", &[]),
    dependent("tc-alpha", "total-correlation", &[]),
    dependent("tc-gamma", "total-correlation", &[]),
    dependent("estimator", "importance-samples", &[]),
    dependent("momentum", "optimizer", &["sgd"]),
    dependent("nesterov", "optimizer", &["sgd"]),
    dependent("decay-every", "schedule", &["step"]),
    dependent("decay-factor", "schedule", &["step", "plateau"]),
    dependent("decay-over", "schedule", &["cosine"]),
    dependent("decay-floor", "schedule", &["cosine"]),
    dependent("decay-patience", "schedule", &["plateau"]),
    dependent("clip-to-range", "scale", &["min-max"]),
    dependent("white", "data", &[]),
    dependent("validation", "data", &[]),
    dependent("validation-fraction", "data", &[]),
    dependent("test", "data", &[]),
    dependent("test-fraction", "data", &[]),
    dependent("labels", "data", &[]),
    dependent("validation-labels", "validation", &[]),
    dependent("test-labels", "test", &[]),
];

/// Values of options that go with certain likelihoods: the beginning of the value, and the rule. They are
/// dropped with the likelihood, but not refused without it: the data and the library find out later whether
/// they fit, and have a better message.
pub const USUAL_WITH: &[(&str, Dependent)] = &[
    ("standardi", dependent("scale", "likelihood", &["gaussian", "squared-error"])),
    ("true", dependent("signed", "likelihood", &["gaussian", "squared-error"])),
    ("binari", dependent("augment", "likelihood", &["bernoulli", "bernoulli-probabilities"])),
];

/// Options of which at most one can be given.
pub const EXCLUSIVE: &[&[&str]] = &[
    &["free-bits", "capacity", "total-correlation", "importance-samples"],
    &["capacity", "anneal"],
    &["importance-samples", "anneal"],
    &["clip-norm", "clip-value"],
    &["validation", "validation-fraction"],
    &["test", "test-fraction"],
    &["labels", "label-column"],
];

/// Options that replace others, either way round, although some of their values go together.
const AT_ODDS: &[[&str; 2]] = &[["capacity", "beta"], ["importance-samples", "beta"]];

/// Files of labels, which have a row for each row of another file.
const ROW_BY_ROW: &[[&str; 2]] =
    &[["data", "labels"], ["validation", "validation-labels"], ["test", "test-labels"]];

/// The options of an earlier layer that `option` replaces when a later layer gives it.
pub fn replaced_by(option: &str) -> Vec<&'static str> {
    let exclusive = EXCLUSIVE.iter().filter(|group| group.contains(&option)).copied().flatten();
    let at_odds = AT_ODDS.iter().filter(|pair| pair.contains(&option)).flatten();
    let followers = ROW_BY_ROW.iter().filter(|[first, _]| *first == option).map(|[_, last]| last);
    exclusive.chain(at_odds).chain(followers).copied().filter(|other| *other != option).collect()
}

/// Returns the option that is wrong and why, where the options that were given do not go together.
///
/// `given` returns whether an option was given, `value` its value or its default, or `None` if the command has
/// no such option.
pub fn conflict(
    given: impl Fn(&str) -> bool,
    value: impl Fn(&str) -> Option<Option<String>>,
) -> std::result::Result<(), (&'static str, Failure)> {
    for group in EXCLUSIVE {
        let mut both = group.iter().filter(|option| given(option));
        if let (Some(first), Some(second)) = (both.next(), both.next()) {
            let why = match (*first, *second) {
                ("capacity", "anneal") => {
                    ": the weight is --capacity-gamma, and --capacity-over is what grows"
                }
                ("importance-samples", "anneal") => ": the bound has no weight",
                _ => "",
            };
            let message =
                format!("--{first} and --{second} cannot be used together{why}; choose one");
            return Err((second, Failure::Usage(message)));
        }
    }
    for rule in DEPENDENT.iter().filter(|rule| given(rule.option)) {
        let Some(found) = value(rule.on) else { continue };
        if rule.holds(found.as_deref()) {
            continue;
        }
        let Dependent { option, on, values } = rule;
        let message = match (values, found) {
            ([], _) => format!("--{option} requires --{on}"),
            (_, None) => format!("--{option} requires --{on} {}", values.join(" or ")),
            (_, Some(found)) => format!(
                "--{option} applies only with --{on} {} (here: {found})",
                values.join(" or ")
            ),
        };
        return Err((option, Failure::Usage(message)));
    }
    Ok(())
}

impl Dependent {
    /// Returns whether the option applies if the other has this value.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let is_one = |value: &str| self.values.iter().any(|one| one.eq_ignore_ascii_case(value));
        value.is_some_and(|value| self.values.is_empty() || is_one(value))
    }
}
