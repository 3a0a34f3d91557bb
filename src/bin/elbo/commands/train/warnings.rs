//! Warnings at the end of a run: two common failures of training, each measured by a number.

use elbo::loss::Decomposition;
use elbo::vae::Evaluation;

/// Validation rows that the parts of the KL divergence are estimated from, from all their pairs.
pub const ROWS: usize = 1000;
/// With fewer rows, the mixture of posteriors is too rough an estimate of the aggregate posterior.
const FEWEST_ROWS: usize = 200;
/// Distance of the aggregate posterior of one dimension from the prior, in nats: that of a normal
/// distribution twice as wide.
const FAR: f64 = 0.8;

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
