//! All weights of a model in one flat buffer.
//!
//! Weights, gradients and the optimizer's moments are four buffers of one [`Layout`]: element i
//! of each belongs to the same weight. So an optimizer is a loop over flat slices, a norm or a
//! sum over ranks sees one vector, and a tile of the weight gradient finds its moments where it
//! finds its weights. The layout is that of the register tile (see [`gemm`](crate::gemm)):
//! layer after layer, each in panels. Tensors in the `[out, in]` form of PyTorch are views by
//! name, converted as they are read or written.

use super::Config;
use crate::error::{Error, Result, expect_length, expect_shape};
use crate::gemm::PanelLayout;
use crate::random::{Generator, Stream};
use crate::simd::InstructionSet;
use crate::simd::aligned::AlignedBuffer;
use crate::simd::environment::FloatEnvironment;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use std::collections::HashMap;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

/// One dense layer in the flat buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) panels: PanelLayout,
    /// Offset of its panels in the flat buffer: a multiple of 16.
    pub(crate) offset: usize,
}

impl Layer {
    pub(crate) fn range(self) -> Range<usize> {
        self.offset..self.offset + self.panels.len()
    }
}

/// One layer, as PyTorch would name it: `encoder.0`, `mu`, `logvar`, `decoder.1`, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedLayer {
    pub(crate) name: String,
    /// The dense layer that it is, or is part of.
    pub(crate) layer: usize,
    /// The outputs of that layer that are its own: `mu` and `logvar` share one.
    pub(crate) outputs: Range<usize>,
}

/// Role of a vector of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VectorRole {
    /// Gain of the layer normalization after this dense layer.
    Gain(usize),
    /// Shift of the layer normalization after this dense layer.
    Shift(usize),
    /// ln σ² of a Gaussian likelihood.
    Logvar,
}

/// A vector of parameters beside the dense layers.
///
/// It lies in the flat buffer as a layer without inputs, whose bias it is: its gradient is then a
/// bias's, summed over the rows of a batch in their order by the same code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vector {
    pub(crate) role: VectorRole,
    pub(crate) name: String,
    pub(crate) layer: Layer,
}

/// Layout of a model's flat buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The dense layers in the order of the forward pass.
    pub(crate) layers: Vec<Layer>,
    pub(crate) names: Vec<NamedLayer>,
    /// The other parameters, behind the layers.
    pub(crate) vectors: Vec<Vector>,
    /// Position of each name in `names`, and of each vector's in `vectors`: models may have many layers.
    index: HashMap<String, usize>,
    vector_index: HashMap<String, usize>,
    /// Set if each hidden layer has a gain and a shift, which come first among the vectors.
    layer_norm: bool,
    /// The layer whose outputs are μ and logvar.
    pub(crate) heads: usize,
    /// Elements of a flat buffer, padding included.
    pub(crate) len: usize,
}

impl Layout {
    pub(crate) fn new(config: &Config) -> Self {
        let heads = config.encoder().len();
        let (mut layers, mut names, mut len) = (Vec::new(), Vec::new(), 0);
        for (index, (inputs, outputs)) in config.layers().enumerate() {
            let panels = PanelLayout { inputs, outputs };
            layers.push(Layer { panels, offset: len });
            len += panels.len();
            let mut name = |name: String, outputs| {
                names.push(NamedLayer { name, layer: index, outputs });
            };
            if index < heads {
                name(format!("encoder.{index}"), 0..outputs);
            } else if index == heads {
                name("mu".to_owned(), 0..config.latent());
                name("logvar".to_owned(), config.latent()..outputs);
            } else {
                name(format!("decoder.{}", index - heads - 1), 0..outputs);
            }
        }
        let mut vectors = Vec::new();
        let mut vector = |role, name: String, outputs| {
            let panels = PanelLayout { inputs: 0, outputs };
            vectors.push(Vector { role, name, layer: Layer { panels, offset: len } });
            len += panels.len();
        };
        if config.layer_norm() {
            let last = layers.len() - 1;
            for (index, layer) in layers.iter().enumerate() {
                let name = match index {
                    _ if index == heads || index == last => continue,
                    _ if index < heads => format!("encoder_norm.{index}"),
                    _ => format!("decoder_norm.{}", index - heads - 1),
                };
                let width = layer.panels.outputs;
                vector(VectorRole::Gain(index), format!("{name}.weight"), width);
                vector(VectorRole::Shift(index), format!("{name}.bias"), width);
            }
        }
        let variances = config.likelihood().learned_variances(config.features());
        if variances > 0 {
            vector(VectorRole::Logvar, "likelihood.logvar".to_owned(), variances);
        }
        let index = names.iter().enumerate().map(|(i, named)| (named.name.clone(), i)).collect();
        let vector_index =
            vectors.iter().enumerate().map(|(i, vector)| (vector.name.clone(), i)).collect();
        let layer_norm = config.layer_norm();
        Self { layers, names, vectors, index, vector_index, layer_norm, heads, len }
    }

    /// The index in `vectors` of the vector of this role, if there is one.
    pub(crate) fn vector(&self, role: VectorRole) -> Option<usize> {
        let index = match role {
            VectorRole::Gain(layer) | VectorRole::Shift(layer) => {
                let is_hidden = layer != self.heads && layer + 1 < self.layers.len();
                if !self.layer_norm || !is_hidden {
                    return None;
                }
                // Two for each hidden layer before this one, the heads not being one.
                let before = 2 * (layer - usize::from(layer > self.heads));
                before + usize::from(matches!(role, VectorRole::Shift(_)))
            }
            VectorRole::Logvar => self.vectors.len().checked_sub(1)?,
        };
        (self.vectors[index].role == role).then_some(index)
    }

    /// Floating-point operations of one training step on `rows` rows, in the products: forward,
    /// weight gradient, and input gradient for all layers but the first.
    pub(crate) fn step_flop(&self, rows: usize) -> usize {
        let weights = |layer: &Layer| layer.panels.inputs * layer.panels.outputs;
        let all: usize = self.layers.iter().map(weights).sum();
        2 * rows * (3 * all - self.layers.first().map_or(0, weights))
    }
}

/// A flat buffer over all weights of a model: the weights, their gradient, or a moment.
///
/// Dereferences to its elements in the order of the register tile. Buffers of models of one shape
/// agree in that order. It includes the padding of each layer to whole registers, which is 0 and which
/// any optimizer that leaves weights without gradient alone leaves at 0. Code that adds noise to all
/// elements fills it too, and a norm of all elements then counts it;
/// [`clear_padding`](Self::clear_padding) makes it 0 again. A [`Trainer`](crate::train::Trainer) does so
/// with the weights that it is given and with a gradient that it is told to apply.
#[derive(Clone)]
pub struct Parameters {
    layout: Arc<Layout>,
    data: AlignedBuffer,
}

impl Parameters {
    /// Creates a buffer of zeros for a model of this shape.
    #[must_use]
    pub fn zeros(config: &Config) -> Self {
        Self::of_layout(Arc::new(Layout::new(config)))
    }

    pub(crate) fn of_layout(layout: Arc<Layout>) -> Self {
        let data = AlignedBuffer::zeros(layout.len);
        Self { layout, data }
    }

    /// Creates initial weights as `torch.nn.Linear` does: weights and biases uniform in ±1/√K, K the inputs
    /// of the layer. Weight `[n, k]` of the i-th name is a function of (seed, i, n, k) alone.
    /// [Vectors](Self::vectors) start at 0, gains at 1.
    #[must_use]
    pub fn initialized(config: &Config, seed: u64) -> Self {
        let _environment = FloatEnvironment::standard();
        let mut parameters = Self::zeros(config);
        let Self { layout, data } = &mut parameters;
        let (generator, simd) = (Generator::new(seed), InstructionSet::detect());
        for (index, named) in layout.names.iter().enumerate() {
            let Layer { panels, offset } = layout.layers[named.layer];
            let bound = 1.0 / (panels.inputs as f32).sqrt();
            // Column 0 is the bias, column k+1 the weight from input k.
            let mut values = Array2::zeros((named.outputs.len(), panels.inputs + 1));
            generator
                .uniform(simd, values.view_mut(), Stream::Initialize, index as u64, 0)
                .expect("widths of a configuration are within the generator's limits");
            values.mapv_inplace(|u| (2.0 * u - 1.0) * bound);
            let (bias, weight) = values.view().split_at(Axis(1), 1);
            let bias: Vec<f32> = bias.iter().copied().collect();
            panels.pack(&mut data[offset..][..panels.len()], named.outputs.start, weight, &bias);
        }
        for vector in layout.vectors.iter().filter(|v| matches!(v.role, VectorRole::Gain(_))) {
            data[vector.layer.offset..][..vector.layer.panels.outputs].fill(1.0);
        }
        parameters
    }

    /// The names of the layers: `encoder.0` …, `mu`, `logvar`, `decoder.0` …. Each has a
    /// [weight](Self::weight) and a [bias](Self::bias).
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.layout.names.iter().map(|named| named.name.as_str())
    }

    /// A copy of the weight matrix `[out, in]` of the layer of this name, if there is one.
    #[must_use]
    pub fn weight(&self, name: &str) -> Option<Array2<f32>> {
        self.named(name).map(|(named, layer)| {
            layer.panels.unpack_weight(&self.data[layer.range()], named.outputs.clone())
        })
    }

    /// A copy of the bias `[out]` of the layer of this name, if there is one.
    #[must_use]
    pub fn bias(&self, name: &str) -> Option<Array1<f32>> {
        self.named(name).map(|(named, layer)| {
            layer.panels.unpack_bias(&self.data[layer.range()], named.outputs.clone())
        })
    }

    /// Overwrites the layer of this name.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no layer of this name, [`Error::Shape`] if its shape is
    /// another.
    pub fn set(
        &mut self,
        name: &str,
        weight: ArrayView2<'_, f32>,
        bias: ArrayView1<'_, f32>,
    ) -> Result<()> {
        let Some((named, layer)) = self.named(name) else {
            let expected = "the name of one of the model's layers, such as `mu` or `decoder.0`";
            return Err(Error::config("name", expected, name));
        };
        let outputs = named.outputs.clone();
        expect_shape("weight", [outputs.len(), layer.panels.inputs], weight.shape())?;
        expect_length("bias", outputs.len(), bias.len())?;
        let bias: Vec<f32> = bias.to_vec();
        layer.panels.pack(&mut self.data[layer.range()], outputs.start, weight, &bias);
        Ok(())
    }

    /// The names of the vectors that are learned besides the layers: gain and shift of each layer
    /// normalization (`encoder_norm.0.weight`, `encoder_norm.0.bias`, …), the log-variances of a
    /// Gaussian likelihood (`likelihood.logvar`).
    pub fn vectors(&self) -> impl Iterator<Item = &str> {
        self.layout.vectors.iter().map(|vector| vector.name.as_str())
    }

    /// The vector of this name, if there is one.
    #[must_use]
    pub fn vector(&self, name: &str) -> Option<ArrayView1<'_, f32>> {
        let index = *self.layout.vector_index.get(name)?;
        Some(ArrayView1::from(self.vector_at(index)))
    }

    /// Overwrites the vector of this name.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no vector of this name, [`Error::Shape`] if its length is
    /// another.
    pub fn set_vector(&mut self, name: &str, values: ArrayView1<'_, f32>) -> Result<()> {
        let Some(&index) = self.layout.vector_index.get(name) else {
            let expected = "the name of one of the model's vectors, such as `likelihood.logvar`";
            return Err(Error::config("name", expected, name));
        };
        let Layer { panels, offset } = self.layout.vectors[index].layer;
        expect_length("values", panels.outputs, values.len())?;
        for (to, &from) in self.data[offset..].iter_mut().zip(values) {
            *to = from;
        }
        Ok(())
    }

    /// Vector `index` of the layout, without its padding. Its panels, each of one row, lie side by
    /// side.
    pub(crate) fn vector_at(&self, index: usize) -> &[f32] {
        let Layer { panels, offset } = self.layout.vectors[index].layer;
        &self.data[offset..][..panels.outputs]
    }

    /// The log-variances of a Gaussian likelihood that are learned; empty if none are.
    pub(crate) fn learned_logvar_mut(&mut self) -> &mut [f32] {
        let Some(index) = self.layout.vector(VectorRole::Logvar) else { return &mut [] };
        let Layer { panels, offset } = self.layout.vectors[index].layer;
        &mut self.data[offset..][..panels.outputs]
    }

    /// Sets the elements to 0 that belong to no weight.
    ///
    /// ```
    /// use elbo::vae::{Config, Parameters};
    ///
    /// let config = Config::builder(3, 1).hidden(&[]).build()?;
    /// let mut noise = Parameters::zeros(&config);
    /// noise.fill(1.0);
    /// noise.clear_padding();
    /// assert_eq!(noise.iter().sum::<f32>(), config.parameters() as f32);
    /// # Ok::<(), elbo::Error>(())
    /// ```
    pub fn clear_padding(&mut self) {
        let Self { layout, data } = self;
        let vectors = layout.vectors.iter().map(|vector| vector.layer);
        for Layer { panels, offset } in layout.layers.iter().copied().chain(vectors) {
            // Only the last panel of a layer has padding, behind the outputs of each of its rows.
            for panel in panels.panels().filter(|panel| panel.outputs < panel.width) {
                let rows = (panels.inputs + 1) * panel.width;
                let rows = &mut data[offset + panel.offset..][..rows];
                for row in rows.chunks_exact_mut(panel.width) {
                    row[panel.outputs..].fill(0.0);
                }
            }
        }
    }

    /// [`Self::learned_logvar_mut`], to be read.
    pub(crate) fn learned_logvar(&self) -> &[f32] {
        self.layout.vector(VectorRole::Logvar).map_or(&[], |index| self.vector_at(index))
    }

    fn named(&self, name: &str) -> Option<(&NamedLayer, Layer)> {
        let named = &self.layout.names[*self.layout.index.get(name)?];
        Some((named, self.layout.layers[named.layer]))
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The panels of one layer.
    #[inline]
    pub(crate) fn layer(&self, index: usize) -> (&[f32], PanelLayout) {
        let layer = self.layout.layers[index];
        (&self.data[layer.range()], layer.panels)
    }
}

impl Deref for Parameters {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data
    }
}

impl DerefMut for Parameters {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::builder(37, 3).hidden(&[29, 17]).build().unwrap()
    }

    #[test]
    fn has_the_names_and_shapes_of_a_torch_module() {
        let parameters = Parameters::initialized(&config(), 1);
        let shapes: Vec<_> = parameters
            .names()
            .map(|name| (name.to_owned(), parameters.weight(name).unwrap().dim()))
            .collect();
        let expected = [
            ("encoder.0", (29, 37)),
            ("encoder.1", (17, 29)),
            ("mu", (3, 17)),
            ("logvar", (3, 17)),
            ("decoder.0", (17, 3)),
            ("decoder.1", (29, 17)),
            ("decoder.2", (37, 29)),
        ];
        assert_eq!(shapes.len(), expected.len());
        for ((name, shape), (expected_name, expected_shape)) in shapes.iter().zip(expected) {
            assert_eq!((name.as_str(), *shape), (expected_name, expected_shape));
        }
        assert!(parameters.weight("encoder.2").is_none());
    }

    #[test]
    fn initial_weights_fill_the_interval_of_torch_and_depend_on_seed_layer_and_row() {
        let parameters = Parameters::initialized(&config(), 1);
        let weight = parameters.weight("encoder.0").unwrap();
        let bound = 1.0 / 37_f32.sqrt();
        assert!(weight.iter().all(|w| w.abs() <= bound));
        let largest = weight.iter().fold(0.0_f32, |a, w| a.max(w.abs()));
        assert!(largest > 0.99 * bound, "{largest} of {bound}");
        let mean: f32 = weight.mean().unwrap();
        assert!(mean.abs() < 0.02, "{mean}");
        // Another seed, another layer of the same shape, another row: other numbers.
        assert_ne!(Parameters::initialized(&config(), 2).weight("encoder.0").unwrap(), weight);
        assert_ne!(parameters.weight("mu"), parameters.weight("logvar"));
        assert_ne!(weight.row(0), weight.row(1));
    }

    #[test]
    fn set_overwrites_one_layer_alone() {
        let mut parameters = Parameters::initialized(&config(), 1);
        let before = parameters.clone();
        let weight = Array2::from_shape_fn((3, 17), |(n, k)| (n * 17 + k) as f32);
        let bias = Array1::from(vec![1.0, 2.0, 3.0]);
        parameters.set("logvar", weight.view(), bias.view()).unwrap();
        for name in before.names() {
            if name == "logvar" {
                assert_eq!(parameters.weight(name).unwrap(), weight);
                assert_eq!(parameters.bias(name).unwrap(), bias);
            } else {
                assert_eq!(parameters.weight(name), before.weight(name));
                assert_eq!(parameters.bias(name), before.bias(name));
            }
        }
        let wrong = parameters.set("mu", weight.t(), bias.view()).unwrap_err().to_string();
        assert_eq!(wrong, "`weight`: expected shape [3, 17], found [17, 3]");
    }
}
