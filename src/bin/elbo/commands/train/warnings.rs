//! Warnings of a run: at its beginning, schedules that do not fit in it; at its end, two common failures of
//! training, each measured by a number.

use crate::text::thousands;
use elbo::loss::Decomposition;
use elbo::optim::{Decay, Span};
use elbo::train::Options;
use elbo::vae::{Annealing, Evaluation, Penalty};

/// Validation rows that the parts of the KL divergence are estimated from, from all their pairs.
pub const ROWS: usize = 1000;
/// With fewer rows, the mixture of posteriors is too rough an estimate of the aggregate posterior.
const FEWEST_ROWS: usize = 200;
/// Distance of the aggregate posterior of one dimension from the prior, in nats: that of a normal
/// distribution twice as wide.
const FAR: f64 = 0.8;

/// Returns one line per schedule that does not end within a run, with the value that it reaches.
pub fn unfinished(options: &Options, epochs: u64, steps_per_epoch: u64) -> Vec<String> {
    let Options { objective, schedule, .. } = options;
    let steps = epochs * steps_per_epoch;
    let (step, epoch) = (steps.saturating_sub(1), epochs.saturating_sub(1));
    let warning = |what: &str,
                   option: &str,
                   value: &str,
                   over: Span,
                   [from, reached, asked]: [f64; 3]| {
        let (run, unit) = match over {
            Span::Steps(_) => (steps, "step"),
            Span::Epochs(_) => (epochs, "epoch"),
        };
        let counted =
            |n: u64| format!("{} {unit}{}", thousands(n as f64), if n == 1 { "" } else { "s" });
        let missed = (asked - reached).abs() > 0.01 * (asked - from).abs();
        (over.count() > run || missed).then(|| {
            format!(
                "{what} takes {} and the run has {}: in its last step {value} is {} of {}; use more \
                 --epochs or a shorter {option}",
                counted(over.count()),
                counted(run),
                significant(reached),
                significant(asked),
            )
        })
    };
    let beta = [objective.beta_at(step, epoch), objective.beta].map(f64::from);
    let annealing = match objective.annealing {
        Annealing::Constant => None,
        Annealing::Linear { from, over } | Annealing::Cosine { from, over } => {
            Some((over, f64::from(from)))
        }
        Annealing::Cyclical { over, .. } => Some((over, 0.0)),
    };
    let annealing = annealing.and_then(|(over, from)| {
        warning("the annealing of beta", "--anneal-over", "beta", over, [from, beta[0], beta[1]])
    });
    let capacity = match objective.penalty {
        Penalty::Capacity { capacity, over, .. } => {
            let values = [0.0, objective.capacity_at(step, epoch).into(), capacity.into()];
            warning("the growth of the capacity", "--capacity-over", "the capacity", over, values)
        }
        _ => None,
    };
    let rate = options.optimizer.learning_rate();
    let warm_up = Span::Steps(schedule.warm_up);
    let values = [0.0, rate * (steps as f64 / schedule.warm_up.max(1) as f64).min(1.0), rate];
    let name = "the learning rate";
    let warm_up = warning("the warm-up of the learning rate", "--warm-up", name, warm_up, values);
    let decay = match schedule.decay {
        Decay::Cosine { over, floor } => {
            let values = [rate, rate * schedule.factor(step, epoch), rate * floor];
            // A span of as many epochs as the run has ends with it.
            (over.progress(steps, epochs) < 1.0).then(|| {
                warning("the decay of the learning rate", "--decay-over", name, over, values)
            })
        }
        _ => None,
    };
    [annealing, capacity, warm_up, decay.flatten()].into_iter().flatten().collect()
}

/// Formats a number with three significant digits.
fn significant(x: f64) -> String {
    format!("{x:.2e}").parse().map_or_else(|_| x.to_string(), |x: f64| x.to_string())
}

/// Returns one line per failure, with what usually helps.
pub fn warnings(evaluation: &Evaluation, parts: &Decomposition) -> Vec<String> {
    let dimensions = evaluation.kl_per_dimension.len();
    let collapsed = collapse(evaluation.collapsed_units(), dimensions);
    let outweighed = if evaluation.rows < FEWEST_ROWS {
        None
    } else {
        outweighed(parts.dimension_wise_kl, evaluation.active_units())
    };
    collapsed.into_iter().chain(outweighed).collect()
}

fn collapse(collapsed: usize, dimensions: usize) -> Option<String> {
    (2 * collapsed > dimensions).then(|| {
        format!(
            "posterior collapse: {collapsed} of {dimensions} latent dimensions carry less than 0.01 \
             nats; try annealing (--anneal linear), free bits (--free-bits 0.1), a smaller --beta, a \
             weaker decoder (--decoder) or fewer dimensions (--latent)"
        )
    })
}

fn outweighed(dimension_wise_kl: f64, active: usize) -> Option<String> {
    let each = dimension_wise_kl / active.max(1) as f64;
    (each > FAR).then(|| {
        format!(
            "reconstruction outweighs the KL: the aggregate posterior of an active latent dimension is \
             {each:.2} nats from the prior on average (more than {FAR}), so samples from the prior will \
             not look like the data; try more epochs, a larger --beta or, with --likelihood gaussian, one \
             variance for all features (--variance shared or optimal)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announces_schedules_that_do_not_end_within_the_run() {
        use elbo::optim::LearningRateSchedule;
        use elbo::vae::Objective;
        let annealed = |annealing| Options {
            objective: Objective { beta: 4.0, annealing, ..Objective::default() },
            ..Options::default()
        };
        let linear = |over| annealed(Annealing::Linear { from: 0.0, over });
        // 5 epochs of 10 steps. The weight of the last step: 4 · 4/100 and 4 · 49/100.
        for (over, part) in [
            (
                Span::Epochs(100),
                "takes 100 epochs and the run has 5 epochs: in its last step beta is 0.16 of 4;",
            ),
            (
                Span::Steps(100),
                "takes 100 steps and the run has 50 steps: in its last step beta is 1.96 of 4;",
            ),
            (
                Span::Epochs(5),
                "takes 5 epochs and the run has 5 epochs: in its last step beta is 3.2 of 4;",
            ),
        ] {
            let found = unfinished(&linear(over), 5, 10);
            assert!(found.len() == 1 && found[0].contains(part), "{found:?}");
        }
        for over in [Span::Epochs(4), Span::Steps(49)] {
            assert_eq!(unfinished(&linear(over), 5, 10), [""; 0]);
        }
        // Half of a cosine: 4 · ½(1 − cos(π·40/80)) = 2.
        let cosine = annealed(Annealing::Cosine { from: 0.0, over: Span::Epochs(80) });
        assert!(unfinished(&cosine, 41, 1)[0].contains("beta is 2 of 4"));
        // The whole run in steps, the default of cyclical annealing, ends at its weight; twice the run is
        // in the middle of the second of two cycles after 3/4 of it.
        let cyclical = |count| {
            let over = Span::Steps(count);
            annealed(Annealing::Cyclical { cycles: 2, ratio: 1.0, over })
        };
        assert_eq!(
            unfinished(
                &annealed(Annealing::Cyclical { cycles: 4, ratio: 0.5, over: Span::Steps(50) }),
                5,
                10
            ),
            [""; 0]
        );
        assert!(unfinished(&cyclical(100), 76, 1)[0].contains("beta is 2 of 4"));
        let penalty = Penalty::Capacity {
            gamma: 1.0,
            capacity: 25.0,
            over: Span::Steps(98),
            per: elbo::loss::CapacityPer::Batch,
        };
        let objective = Objective { penalty, ..Objective::default() };
        let capacity = Options { objective, ..Options::default() };
        assert!(unfinished(&capacity, 5, 10)[0].contains("the capacity is 12.5 of 25; use more"));
        let schedule = LearningRateSchedule { warm_up: 200, decay: Decay::Constant };
        let warm = Options { schedule, ..Options::default() };
        assert!(unfinished(&warm, 5, 10)[0].contains("the learning rate is 0.00025 of 0.001;"));
        assert_eq!(unfinished(&Options::default(), 5, 10), [""; 0]);
    }

    #[test]
    fn warns_if_most_dimensions_collapsed() {
        assert_eq!(collapse(10, 20), None);
        assert!(collapse(11, 20).unwrap().starts_with("posterior collapse: 11 of 20"));
        assert!(collapse(1, 1).is_some());
    }

    #[test]
    fn warns_if_active_dimensions_are_far_from_the_prior() {
        assert_eq!(outweighed(1.5, 2), None);
        assert!(outweighed(1.7, 2).unwrap().contains("0.85 nats from the prior on average"));
        assert_eq!(outweighed(0.0, 0), None);
        // A normal distribution twice as wide as the standard one.
        let wide: f64 = 0.5 * (2.0_f64.powi(2) - 1.0 - 2.0 * 2.0_f64.ln());
        assert!((wide - FAR).abs() < 0.01, "{wide}");
    }
}
