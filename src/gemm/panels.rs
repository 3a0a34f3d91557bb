//! Weights of a dense layer in the order in which the register tile reads them.

use crate::error::{Result, expect_length};
use crate::simd::LANES;
use crate::simd::aligned::AlignedBuffer;
use ndarray::{Array1, Array2, ArrayView2, s};
use std::ops::{Deref, DerefMut, Range};

/// Outputs in a full panel: three AVX-512 registers, which with eight rows of scalars make a tile of 24
/// accumulators. The same on every machine, so that a buffer can be read by any instruction set.
const PANEL: usize = 3 * LANES;

/// Inputs that are packed or unpacked at a time: so many rows of a panel, 12 kB, stay in the first-level cache
/// while its outputs pass.
const AT_ONCE: usize = 64;

/// Number of outputs, or of columns of an activation, rounded up to a multiple of 16.
pub(crate) const fn padded(columns: usize) -> usize {
    columns.next_multiple_of(LANES)
}

/// Layout of the panels of a layer with `inputs` = K and `outputs` = N.
///
/// The outputs, rounded up to a multiple of 16, are cut into panels 48 wide. A rest of 16 would
/// make a thin panel that keeps only a third of the multipliers busy, so the last 64 outputs are
/// then cut into two panels of 32. Each panel is a block of K+1 rows: the bias, then the
/// weights from input 0, 1, … K−1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanelLayout {
    /// K, the inputs of the layer.
    pub inputs: usize,
    /// N, its outputs.
    pub outputs: usize,
}

/// One panel: outputs `start .. start + width`, padding included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panel {
    /// Its first output.
    pub(crate) start: usize,
    /// 48, 32 or 16.
    pub(crate) width: usize,
    /// Outputs in it that are not padding.
    pub(crate) outputs: usize,
    /// Position of its bias row in the layer's buffer.
    pub(crate) offset: usize,
}

fn copy<'a, 'b>(
    to: impl IntoIterator<Item = &'a mut f32>,
    from: impl IntoIterator<Item = &'b f32>,
) {
    to.into_iter().zip(from).for_each(|(to, &from)| *to = from);
}

impl Panel {
    /// The given outputs that lie in this panel, without its padding, and the column of the first one; `None`
    /// for none.
    fn part(self, outputs: Range<usize>) -> Option<(Range<usize>, usize)> {
        let start = outputs.start.max(self.start);
        let end = outputs.end.min(self.start + self.outputs);
        (start < end).then(|| (start..end, start - self.start))
    }
}

impl PanelLayout {
    /// Elements of the layer's buffer, padding included: (K+1) · N rounded up to a multiple of 16.
    ///
    /// # Panics
    /// If the number exceeds `usize`.
    #[must_use]
    pub fn len(self) -> usize {
        let rows = self.inputs.checked_add(1);
        let columns = self.outputs.checked_next_multiple_of(LANES);
        let len = rows.zip(columns).and_then(|(rows, columns)| rows.checked_mul(columns));
        len.expect("the panels of a layer do not fit into memory")
    }

    /// Returns true if there are no outputs.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.outputs == 0
    }

    /// Number of panels 48 wide, number of narrower ones after them, and the width of those.
    const fn widths(self) -> (usize, usize, usize) {
        // Every three groups form a panel; one or two groups may remain.
        let groups = padded(self.outputs) / LANES;
        match (groups / 3, groups % 3) {
            (threes, 0) => (threes, 0, 32),
            // At most 16 outputs in all: nothing to share the thin panel with.
            (0, 1) => (0, 1, 16),
            // 48 + 16 become 32 + 32.
            (threes, 1) => (threes - 1, 2, 32),
            (threes, _) => (threes, 1, 32),
        }
    }

    /// Number of panels.
    pub(crate) const fn panel_count(self) -> usize {
        let (wide, narrow, _) = self.widths();
        wide + narrow
    }

    /// Panel `index`, counted from the left.
    #[inline]
    pub(crate) const fn panel(self, index: usize) -> Panel {
        let (wide, _, narrow_width) = self.widths();
        let (start, width) = if index < wide {
            (index * PANEL, PANEL)
        } else {
            (wide * PANEL + (index - wide) * narrow_width, narrow_width)
        };
        // Only the last panel can have padding.
        let rest = self.outputs - start;
        let outputs = if rest < width { rest } else { width };
        Panel { start, width, outputs, offset: (self.inputs + 1) * start }
    }

    /// The panels from left to right.
    pub(crate) fn panels(self) -> impl Iterator<Item = Panel> {
        (0..self.panel_count()).map(move |index| self.panel(index))
    }

    /// Cuts the layer in two, with about `outputs` of the outputs in the first part: its buffer is that of the
    /// first part, then that of the second. `None` unless something follows a panel of full width.
    pub(crate) fn cut(self, outputs: usize) -> Option<(Self, Self)> {
        let (wide, narrow, _) = self.widths();
        // Whole panels alone, so that both parts are cut into panels as the layer was.
        let most = if narrow == 0 { wide.saturating_sub(1) } else { wide };
        let first = ((outputs + PANEL / 2) / PANEL).clamp(most.min(1), most) * PANEL;
        let part = |outputs| Self { outputs, ..self };
        (first > 0).then(|| (part(first), part(self.outputs - first)))
    }

    /// Position of weight `[output, input]` in the buffer.
    #[must_use]
    pub fn weight_index(self, output: usize, input: usize) -> usize {
        self.index(output, input + 1)
    }

    /// Position of the bias of `output` in the buffer.
    #[must_use]
    pub fn bias_index(self, output: usize) -> usize {
        self.index(output, 0)
    }

    fn index(self, output: usize, row: usize) -> usize {
        let (wide, _, narrow_width) = self.widths();
        let index = if output < wide * PANEL {
            output / PANEL
        } else {
            wide + (output - wide * PANEL) / narrow_width
        };
        let panel = self.panel(index);
        // The block of the panel, its row, and the column in it.
        panel.offset + row * panel.width + (output - panel.start)
    }

    /// Writes outputs `first .. first + W.nrows()` of a buffer of this layout.
    pub(crate) fn pack(
        self,
        panels: &mut [f32],
        first: usize,
        weight: ArrayView2<'_, f32>,
        bias: &[f32],
    ) {
        debug_assert_eq!(weight.dim(), (bias.len(), self.inputs));
        for panel in self.panels() {
            let Some((outputs, column)) = panel.part(first..first + bias.len()) else { continue };
            let block = &mut panels[panel.offset..][..(self.inputs + 1) * panel.width];
            // The bias is row 0; W[n, k] becomes column n of row k + 1.
            let (bias_row, rows) = block.split_at_mut(panel.width);
            let outputs = outputs.start - first..outputs.end - first;
            bias_row[column..][..outputs.len()].copy_from_slice(&bias[outputs.clone()]);
            for (rows, k) in rows.chunks_mut(AT_ONCE * panel.width).zip((0..).step_by(AT_ONCE)) {
                let inputs = k..k + rows.len() / panel.width;
                for (n, column) in outputs.clone().zip(column..) {
                    let from = weight.row(n);
                    let to = rows[column..].iter_mut().step_by(panel.width);
                    match from.to_slice() {
                        Some(from) => copy(to, &from[inputs.clone()]),
                        // A view of another matrix.
                        None => copy(to, from.slice(s![inputs.clone()])),
                    }
                }
            }
        }
    }

    /// Reads the weights `[outputs.len(), K]` of some outputs of a buffer of this layout.
    pub(crate) fn unpack_weight(self, panels: &[f32], outputs: Range<usize>) -> Array2<f32> {
        let first = outputs.start;
        let mut weight = Array2::zeros((outputs.len(), self.inputs));
        for panel in self.panels() {
            let Some((outputs, column)) = panel.part(outputs.clone()) else { continue };
            let rows = &panels[panel.offset + panel.width..][..self.inputs * panel.width];
            for (rows, k) in rows.chunks(AT_ONCE * panel.width).zip((0..).step_by(AT_ONCE)) {
                let inputs = k..k + rows.len() / panel.width;
                for (n, column) in outputs.clone().zip(column..) {
                    let to = &mut weight.row_mut(n - first).into_slice().expect("a new matrix")
                        [inputs.clone()];
                    copy(to, rows[column..].iter().step_by(panel.width));
                }
            }
        }
        weight
    }

    /// Reads the bias of some outputs of a buffer of this layout.
    pub(crate) fn unpack_bias(self, panels: &[f32], outputs: Range<usize>) -> Array1<f32> {
        outputs.map(|n| panels[self.bias_index(n)]).collect()
    }
}

/// The weights and the bias of one dense layer in panels, or their gradient, or a moment of an
/// optimizer.
///
/// Dereferences to its elements, padding included. The padding is zero and stays zero under any
/// element-wise optimizer that does not change a weight of 0 with a gradient of 0.
#[derive(Clone)]
pub struct Panels {
    layout: PanelLayout,
    data: AlignedBuffer,
}

impl Panels {
    /// Creates panels that are all zero.
    #[must_use]
    pub fn zeros(inputs: usize, outputs: usize) -> Self {
        let layout = PanelLayout { inputs, outputs };
        Self { layout, data: AlignedBuffer::zeros(layout.len()) }
    }

    /// Packs a weight matrix `[N, K]` and a bias `[N]`, as `torch.nn.Linear` stores them.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the bias does not have N elements.
    pub fn pack(weight: ArrayView2<'_, f32>, bias: &[f32]) -> Result<Self> {
        let (outputs, inputs) = weight.dim();
        expect_length("bias", outputs, bias.len())?;
        let mut panels = Self::zeros(inputs, outputs);
        panels.layout.pack(&mut panels.data, 0, weight, bias);
        Ok(panels)
    }

    /// The weights, `[N, K]`.
    #[must_use]
    pub fn weight(&self) -> Array2<f32> {
        self.layout.unpack_weight(&self.data, 0..self.layout.outputs)
    }

    /// The bias, `[N]`.
    #[must_use]
    pub fn bias(&self) -> Array1<f32> {
        self.layout.unpack_bias(&self.data, 0..self.layout.outputs)
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> PanelLayout {
        self.layout
    }
}

impl Deref for Panels {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data
    }
}

impl DerefMut for Panels {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_same_panels_as_the_whole() {
        for outputs in 0..=500 {
            let layout = PanelLayout { inputs: 3, outputs };
            let whole: Vec<_> = layout.panels().collect();
            for at in [0, outputs / 3, outputs / 2, outputs] {
                let Some((left, right)) = layout.cut(at) else {
                    assert!(whole.len() <= 1 || outputs <= 64, "{outputs}");
                    continue;
                };
                let moved = right.panels().map(|panel| Panel {
                    start: panel.start + left.outputs,
                    offset: panel.offset + left.len(),
                    ..panel
                });
                assert_eq!(left.panels().chain(moved).collect::<Vec<_>>(), whole, "{outputs}");
            }
        }
    }

    #[test]
    fn panels_cover_each_output_once_and_none_is_thin() {
        for outputs in 0..=800 {
            let layout = PanelLayout { inputs: 3, outputs };
            let panels: Vec<_> = layout.panels().collect();
            let mut start = 0;
            for panel in &panels {
                assert_eq!(panel.start, start, "N={outputs}");
                assert_eq!(panel.offset, 4 * start);
                assert!(panel.outputs > 0);
                assert!(panel.width == 48 || panel.width == 32 || outputs <= 16, "N={outputs}");
                start += panel.width;
            }
            assert_eq!(start, padded(outputs));
            assert_eq!(panels.iter().map(|p| p.outputs).sum::<usize>(), outputs);
        }
    }

    #[test]
    fn unpacking_inverts_packing_and_the_padding_stays_zero() {
        for (inputs, outputs) in [(0, 5), (1, 1), (3, 20), (7, 64), (16, 49), (37, 112), (50, 129)]
        {
            let weight =
                Array2::from_shape_fn((outputs, inputs), |(n, k)| (n * 1000 + k + 1) as f32);
            let bias: Vec<f32> = (0..outputs).map(|n| -1.0 - n as f32).collect();
            let panels = Panels::pack(weight.view(), &bias).unwrap();
            assert_eq!(panels.weight(), weight);
            assert_eq!(panels.bias().to_vec(), bias);
            let used = panels.iter().filter(|&&v| v != 0.0).count();
            assert_eq!(used, (inputs + 1) * outputs);
            // Each element where its index says.
            for ((n, k), &value) in weight.indexed_iter() {
                assert_eq!(panels[panels.layout().weight_index(n, k)], value);
            }
            for (n, &value) in bias.iter().enumerate() {
                assert_eq!(panels[panels.layout().bias_index(n)], value);
            }
            // Views of any strides, a part of the outputs at a time.
            let turned = weight.t().to_owned();
            let mut parts = Panels::zeros(inputs, outputs);
            let layout = parts.layout();
            for (at, cut) in [(0, outputs / 3), (outputs / 3, outputs)] {
                let rows = turned.t().slice_move(s![at..cut, ..]);
                layout.pack(&mut parts, at, rows, &bias[at..cut]);
            }
            assert_eq!(parts[..], panels[..]);
            let middle = outputs / 4..outputs - outputs / 5;
            let expected = weight.slice(s![middle.clone(), ..]);
            assert_eq!(layout.unpack_weight(&panels, middle), expected);
        }
    }
}
