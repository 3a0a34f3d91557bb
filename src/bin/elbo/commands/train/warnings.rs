//! What a finished run says about itself: two ways in which training goes wrong, each by a number.

use elbo::loss::Decomposition;
use elbo::vae::Evaluation;

/// Rows of the test data that the parts of the KL divergence are estimated from: all pairs count.
pub const ROWS: usize = 1000;
/// Of fewer rows the mixture of posteriors is too rough an estimate of the aggregate posterior.
const FEWEST_ROWS: usize = 200;
/// Distance of the aggregate posterior of one dimension from the prior, in nats: that of a normal
/// distribution twice as wide.
const FAR: f64 = 0.8;

/// What is wrong, and what usually helps; one line each.
pub fn warnings(evaluation: &Evaluation, parts: &Decomposition) -> Vec<String> {
    let dimensions = evaluation.kl_per_dimension.len();
    let collapsed = collapse(evaluation.collapsed_units(), dimensions);
    let drowned = if evaluation.rows < FEWEST_ROWS {
        None
    } else {
        drowned(parts.dimension_wise_kl, evaluation.active_units())
    };
    collapsed.into_iter().chain(drowned).collect()
}

fn collapse(collapsed: usize, dimensions: usize) -> Option<String> {
    (2 * collapsed > dimensions).then(|| {
        format!(
            "posterior collapse: {collapsed} of {dimensions} latent dimensions carry less than 0.01 \
             nats; what usually helps where the KL has a weight: annealing (--anneal linear), free bits \
             (--free-bits 0.1), a smaller --beta; else a weaker decoder (--decoder); or fewer \
             dimensions were enough (--latent)"
        )
    })
}

fn drowned(dimension_wise_kl: f64, active: usize) -> Option<String> {
    let each = dimension_wise_kl / active.max(1) as f64;
    (each > FAR).then(|| {
        format!(
            "reconstruction drowns the KL: the aggregate posterior of an active latent dimension is on \
             average {each:.2} nats from the prior (more than {FAR}), so samples from the prior will not \
             look like the data; what usually helps: more epochs, where there were few; a larger --beta, \
             where there is one; with --likelihood gaussian one variance for all (--variance shared \
             or optimal)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_dimensions_must_have_collapsed() {
        assert_eq!(collapse(10, 20), None);
        assert!(collapse(11, 20).unwrap().starts_with("posterior collapse: 11 of 20"));
        assert!(collapse(1, 1).is_some());
    }

    #[test]
    fn the_distance_is_that_of_an_active_dimension() {
        assert_eq!(drowned(1.5, 2), None);
        assert!(drowned(1.7, 2).unwrap().contains("on average 0.85 nats"));
        assert_eq!(drowned(0.0, 0), None);
        // A normal distribution twice as wide as the standard one.
        let wide: f64 = 0.5 * (2.0_f64.powi(2) - 1.0 - 2.0 * 2.0_f64.ln());
        assert!((wide - FAR).abs() < 0.01, "{wide}");
    }
}
