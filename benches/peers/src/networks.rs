//! Networks, batches and products to measure.

/// Widths of a network and its batch size.
#[derive(Clone, Copy)]
pub struct Network {
    /// Features, hidden units, latent dimensions.
    pub widths: [usize; 3],
    /// Rows of a batch.
    pub batch: usize,
}

impl Network {
    /// Formats the widths, such as `784-400-20`.
    #[must_use]
    pub fn shape(&self) -> String {
        self.widths.map(|w| w.to_string()).join("-")
    }
}

/// Networks of the training steps.
pub const TRAIN: [Network; 4] = [
    Network { widths: [784, 400, 20], batch: 128 },
    Network { widths: [784, 400, 20], batch: 1024 },
    Network { widths: [2048, 1024, 64], batch: 256 },
    Network { widths: [30, 64, 8], batch: 64 },
];

/// Networks of the reconstructions.
pub const INFER: [Network; 2] =
    [Network { widths: [784, 400, 20], batch: 1 }, Network { widths: [784, 400, 20], batch: 64 }];

/// Inputs K and outputs N of the dense layers whose three products are measured at
/// [`PRODUCT_ROWS`] rows.
pub const PRODUCTS: [[usize; 2]; 4] = [[784, 400], [400, 40], [20, 400], [400, 784]];

/// Rows of a product.
pub const PRODUCT_ROWS: usize = 128;
