//! The reductions of a batch's terms to one number.

/// Reduction of a loss to one number, the same for the reconstruction and for the KL divergence.
///
/// For a batch of `B` rows, each with `D` features and `Z` latent dimensions:
///
/// | reduction | reconstruction | KL divergence | the loss is |
/// |---|---|---|---|
/// | [`Sum`](Self::Sum) | sum over B and D | sum over B and Z | nats in the batch |
/// | [`BatchMean`](Self::BatchMean) | sum over D, mean over B | sum over Z, mean over B | nats an example: the negative ELBO |
/// | [`Mean`](Self::Mean) | mean over B and D | mean over B and Z | not a bound: see below |
///
/// # What a mean does to β
/// `Mean` divides the reconstruction by `B·D` and the KL by `B·Z`. Against the ELBO, which sums
/// both, the KL so weighs `D/Z` times as much: with 784 pixels and 20 latents, β = 1 under
/// `Mean` is β = 39.2 under `Sum` or `BatchMean`. To keep an effective weight of β under `Mean`,
/// pass β·Z/D.
///
/// `Sum` and `BatchMean` differ in the size of the gradient alone, by a factor of `B`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "safetensors", derive(serde::Serialize, serde::Deserialize))]
pub enum Reduction {
    /// The sum over everything; 0 for no rows.
    Sum,
    /// The sum over columns, the mean over rows. Needs a row.
    #[default]
    BatchMean,
    /// The mean over all elements. Needs an element.
    Mean,
}

impl Reduction {
    /// Returns the divisor of the sum over an array of `rows` by `columns`; `None` for the mean of
    /// nothing.
    pub(crate) fn divisor(self, rows: usize, columns: usize) -> Option<f64> {
        let terms = match self {
            Self::Sum => 1.0,
            Self::BatchMean => rows as f64,
            Self::Mean => rows as f64 * columns as f64,
        };
        (terms > 0.0).then_some(terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors() {
        assert_eq!(Reduction::default(), Reduction::BatchMean);
        assert_eq!(Reduction::Sum.divisor(3, 5), Some(1.0));
        assert_eq!(Reduction::BatchMean.divisor(3, 5), Some(3.0));
        assert_eq!(Reduction::Mean.divisor(3, 5), Some(15.0));
        assert_eq!(Reduction::Sum.divisor(0, 5), Some(1.0));
        assert_eq!(Reduction::BatchMean.divisor(0, 5), None);
        assert_eq!(Reduction::BatchMean.divisor(3, 0), Some(3.0));
        assert_eq!(Reduction::Mean.divisor(3, 0), None);
    }
}
