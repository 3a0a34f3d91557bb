//! The networks and batches that are measured.

/// The widths of a network and the rows it takes at once.
#[derive(Clone, Copy)]
pub struct Network {
    /// Features, hidden units, latent dimensions.
    pub widths: [usize; 3],
    /// Rows.
    pub batch: usize,
}

impl Network {
    /// `784-400-20`.
    #[must_use]
    pub fn shape(&self) -> String {
        self.widths.map(|w| w.to_string()).join("-")
    }
}

/// Training steps.
pub const TRAIN: [Network; 4] = [
    Network { widths: [784, 400, 20], batch: 128 },
    Network { widths: [784, 400, 20], batch: 1024 },
    Network { widths: [2048, 1024, 64], batch: 256 },
    Network { widths: [30, 64, 8], batch: 64 },
];

/// Reconstructions.
pub const INFER: [Network; 2] =
    [Network { widths: [784, 400, 20], batch: 1 }, Network { widths: [784, 400, 20], batch: 64 }];

/// The products of a dense layer: inputs K and outputs N. Each is measured in its three
/// directions at [`PRODUCT_ROWS`] rows.
pub const PRODUCTS: [[usize; 2]; 4] = [[784, 400], [400, 40], [20, 400], [400, 784]];

/// Rows of a product.
pub const PRODUCT_ROWS: usize = 128;
