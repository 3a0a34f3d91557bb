//! Tests that every lane term must pass: one call checks a new one against its f64 twin.

use crate::Compute;
use crate::loss::kernel::batch::{KernelRows, total};
use crate::loss::kernel::{Term, row};
use crate::simd::InstructionSet;
use ndarray::{Array2, ArrayView2, s};
use proptest::prelude::*;
use pulp::{Simd, WithSimd};

/// A term, its twin, and how far apart they may be.
pub(in crate::loss) struct Conformance<T, const I: usize, const G: usize> {
    pub term: T,
    pub twin: fn([f64; I]) -> (f64, [f64; G]),
    /// Elements to compare one by one: ordinary, large, tiny.
    pub elements: Vec<[f32; I]>,
    /// The largest error of a value, in ULP of `value_size`.
    pub value_ulps: f64,
    /// The size that the value's error is relative to: the value itself, unless it is a difference.
    pub value_size: fn([f64; I], f64) -> f64,
    /// The largest error of each gradient, in ULP of `gradient_size`.
    pub gradient_ulps: [f64; G],
    /// An error that is always allowed, of value and gradients: what underflow may lose.
    pub underflow: f64,
    /// The size that the gradient's error is relative to, by default the gradient itself.
    pub gradient_size: fn([f64; I], [f64; G]) -> [f64; G],
    /// Elements away from kinks, at which the twin is differentiated numerically.
    pub smooth: Vec<[f32; I]>,
}

/// A unit in the last place of f32 at `exact`.
pub(in crate::loss) fn ulp(exact: f64) -> f64 {
    let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
    (exponent - 23.0).exp2()
}

/// `scale·∂term` and the sum of a row, dispatched.
struct OneRow<'a, T, const I: usize, const G: usize> {
    term: T,
    gradients: [&'a mut [f32]; G],
    inputs: [&'a [f32]; I],
    scale: f32,
}

impl<T: Term<I, G>, const I: usize, const G: usize> WithSimd for OneRow<'_, T, I, G> {
    type Output = f64;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        row(simd, self.term, self.gradients, self.inputs, self.scale).sum
    }
}

/// Value and gradients of one element.
pub(in crate::loss) fn element<T: Term<I, G>, const I: usize, const G: usize>(
    set: InstructionSet,
    term: T,
    element: [f32; I],
) -> (f64, [f32; G]) {
    let inputs = element.each_ref().map(std::slice::from_ref);
    let mut gradients = [f32::NAN; G];
    let places = gradients.each_mut().map(std::slice::from_mut);
    let value = set.dispatch(OneRow { term, gradients: places, inputs, scale: 1.0 });
    (value, gradients)
}

/// Equal to the last bit, or NaN both.
pub(in crate::loss) fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// A batch as one long row-major array for each argument, rows `stride` apart, the first one
/// starting at `shift`.
struct Arrays<const N: usize> {
    data: [Vec<f32>; N],
    shape: [usize; 2],
    stride: usize,
    shift: usize,
}

impl<const N: usize> Arrays<N> {
    fn new(shape: [usize; 2], gap: usize, shift: usize) -> Self {
        let stride = shape[1] + gap;
        let data = std::array::from_fn(|_| vec![f32::NAN; shape[0] * stride + shift]);
        Self { data, shape, stride, shift }
    }

    fn views(&self) -> [ArrayView2<'_, f32>; N] {
        self.data.each_ref().map(|data| {
            let whole = &data[self.shift..][..self.shape[0] * self.stride];
            let whole = ArrayView2::from_shape((self.shape[0], self.stride), whole).unwrap();
            whole.slice_move(s![.., ..self.shape[1]])
        })
    }

    fn views_mut(&mut self) -> [ndarray::ArrayViewMut2<'_, f32>; N] {
        let (shape, stride, shift) = (self.shape, self.stride, self.shift);
        self.data.each_mut().map(|data| {
            let whole = &mut data[shift..][..shape[0] * stride];
            let whole = ndarray::ArrayViewMut2::from_shape((shape[0], stride), whole).unwrap();
            whole.slice_move(s![.., ..shape[1]])
        })
    }
}

impl<T: Term<I, G>, const I: usize, const G: usize> Conformance<T, I, G> {
    pub(in crate::loss) fn check(&self) {
        self.elements_agree_with_the_twin();
        self.twin_has_the_gradient_of_its_value();
        self.rows_of_every_length_and_place();
        self.batches_do_not_depend_on_threads_or_sets();
        self.random_batches_agree_with_the_twin();
    }

    fn elements_agree_with_the_twin(&self) {
        let mut worst = (0.0_f64, [f32::NAN; I]);
        for &inputs in &self.elements {
            let wide = inputs.map(f64::from);
            let (exact, dexact) = (self.twin)(wide);
            let (scalar, dscalar) = element(InstructionSet::SCALAR, self.term, inputs);
            for set in InstructionSet::available() {
                let (value, gradients) = element(set, self.term, inputs);
                assert!(same(value, scalar), "{set} {inputs:?}: {value}, scalar {scalar}");
                for g in 0..G {
                    let (a, b) = (gradients[g].into(), dscalar[g].into());
                    assert!(same(a, b), "{set} {inputs:?}: d{g} {a}, scalar {b}");
                }
            }
            if exact.abs() < f64::from(f32::MAX) {
                let size = (self.value_size)(wide, exact);
                let error = ((scalar - exact).abs() - self.underflow).max(0.0) / ulp(size);
                if error > worst.0 {
                    worst = (error, inputs);
                }
                assert!(
                    error <= self.value_ulps,
                    "{inputs:?}: {scalar}, twin {exact}: {error} ULP"
                );
            } else {
                assert_eq!(scalar, f64::INFINITY, "{inputs:?}");
            }
            let sizes = (self.gradient_size)(wide, dexact);
            for g in 0..G {
                let (found, exact) = (f64::from(dscalar[g]), dexact[g]);
                if exact.abs() >= f64::from(f32::MAX) {
                    continue;
                }
                let error = ((found - exact).abs() - self.underflow).max(0.0) / ulp(sizes[g]);
                assert!(
                    error <= self.gradient_ulps[g],
                    "{inputs:?}: d{g} {found}, twin {exact}: {error} ULP"
                );
            }
        }
        println!("{}: worst value {worst:?}", std::any::type_name::<T>());
    }

    /// The five-point central difference of the twin, to a relative 1e-6.
    fn twin_has_the_gradient_of_its_value(&self) {
        for &point in &self.smooth {
            let point = point.map(f64::from);
            let (_, gradients) = (self.twin)(point);
            for g in 0..G {
                let at = |step: f64| {
                    let mut moved = point;
                    moved[g] += step;
                    (self.twin)(moved).0
                };
                let h = 3e-4 * point[g].abs().max(0.1);
                let slope = (at(-2.0 * h) - at(2.0 * h) + 8.0 * (at(h) - at(-h))) / (12.0 * h);
                let error = (slope - gradients[g]).abs() / gradients[g].abs().max(1e-4);
                assert!(error < 1e-6, "{point:?} d{g}: {slope} {}: {error}", gradients[g]);
            }
        }
    }

    /// The twin's value of an element, and the size of which its error is a fraction.
    fn exact(&self, element: [f32; I]) -> [f64; 2] {
        let wide = element.map(f64::from);
        let (value, _) = (self.twin)(wide);
        [value, (self.value_size)(wide, value).abs()]
    }

    /// Element number `index` of a batch, drawn from the finite ones.
    fn drawn(&self, index: usize) -> [f32; I] {
        self.smooth[index.wrapping_mul(7919) % self.smooth.len()]
    }

    fn rows_of_every_length_and_place(&self) {
        for columns in 0..=67 {
            for shift in 0..16 {
                let elements: Vec<_> = (0..columns).map(|i| self.drawn(i + 31 * shift)).collect();
                let mut inputs = [const { Vec::new() }; I];
                for i in 0..I {
                    inputs[i] = vec![f32::NAN; shift];
                    inputs[i].extend(elements.iter().map(|e| e[i]));
                    inputs[i].push(f32::NAN);
                }
                let run = |set: InstructionSet| {
                    let mut outputs = [const { Vec::new() }; G];
                    outputs.fill(vec![f32::NAN; shift + columns + 1]);
                    let value = set.dispatch(OneRow {
                        term: self.term,
                        gradients: outputs.each_mut().map(|v| &mut v[shift..][..columns]),
                        inputs: inputs.each_ref().map(|v| &v[shift..][..columns]),
                        scale: 0.3,
                    });
                    (value, outputs)
                };
                let (value, outputs) = run(InstructionSet::SCALAR);
                let [exact, size] = elements.iter().fold([0.0, 0.0], |[exact, size], e| {
                    let [value, of] = self.exact(*e);
                    [exact + value, size + of]
                });
                assert!((value - exact).abs() <= 1e-6 * size, "{columns} columns");
                for (g, output) in outputs.iter().enumerate() {
                    let (row, after) = output[shift..].split_at(columns);
                    assert!(output[..shift].iter().chain(after).all(|v| v.is_nan()), "spilled");
                    for (i, &found) in row.iter().enumerate() {
                        let (_, gradients) =
                            element(InstructionSet::SCALAR, self.term, elements[i]);
                        assert_eq!(found, gradients[g] * 0.3, "{columns} columns, d{g}[{i}]");
                    }
                }
                for set in InstructionSet::available() {
                    let (other, others) = run(set);
                    assert_eq!(other.to_bits(), value.to_bits(), "{set}, {columns} columns");
                    for g in 0..G {
                        for (a, b) in others[g].iter().zip(&outputs[g]) {
                            assert!(same((*a).into(), (*b).into()), "{set}, {columns} columns");
                        }
                    }
                }
            }
        }
    }

    /// A batch of drawn elements in arrays of wider rows.
    fn batch(&self, shape: [usize; 2], gap: usize, shift: usize) -> Arrays<I> {
        let mut arrays = Arrays::new(shape, gap, shift);
        let mut views = arrays.views_mut();
        for r in 0..shape[0] {
            for c in 0..shape[1] {
                let drawn = self.drawn(r * shape[1] + c);
                for i in 0..I {
                    views[i][[r, c]] = drawn[i];
                }
            }
        }
        arrays
    }

    fn run(&self, compute: &Compute, inputs: &Arrays<I>, scale: f32) -> (f64, [Array2<f32>; G]) {
        let named = inputs.views().map(|view| ("input", view));
        let forward = KernelRows::<_, I, G>::new(self.term, None, named, scale).unwrap();
        let [forward, _] = total(compute, forward).unwrap();
        let mut outputs = Arrays::<G>::new(inputs.shape, 3, 1);
        let gradients = outputs.views_mut().map(|view| ("gradient", view));
        let rows = KernelRows::new(self.term, Some(gradients), named, scale).unwrap();
        let [value, _] = total(compute, rows).unwrap();
        assert_eq!(value.to_bits(), forward.to_bits(), "forward and backward differ");
        (value, outputs.views().map(|view| view.to_owned()))
    }

    fn batches_do_not_depend_on_threads_or_sets(&self) {
        for (rows, columns) in [(0, 5), (1, 37), (64, 3), (65, 20), (200, 29), (333, 0), (513, 17)]
        {
            let inputs = self.batch([rows, columns], 5, 2);
            let run = |set, threads| self.run(&Compute::new(set, threads).unwrap(), &inputs, 0.7);
            let (value, outputs) = run(InstructionSet::SCALAR, 1);
            assert!(value.is_finite());
            assert!(outputs.iter().all(|o| o.iter().all(|v| v.is_finite())));
            for set in InstructionSet::available() {
                for threads in [1, 2, 5] {
                    let (other, others) = run(set, threads);
                    assert_eq!(other.to_bits(), value.to_bits(), "{set}, {threads} threads");
                    assert_eq!(others, outputs, "{set}, {threads} threads");
                }
            }
        }
    }

    fn random_batches_agree_with_the_twin(&self) {
        let compute = Compute::serial();
        proptest!(|(rows in 1_usize..200, columns in 1_usize..70, gap in 0_usize..4,
                    shift in 0_usize..1000, scale in 1e-4_f32..4.0)| {
            let inputs = self.batch([rows, columns], gap, shift);
            let views = inputs.views();
            let (mut exact, mut size) = (0.0, 0.0);
            for r in 0..rows {
                for c in 0..columns {
                    let [value, of] = self.exact(views.each_ref().map(|v| v[[r, c]]));
                    (exact, size) = (exact + value, size + of);
                }
            }
            let (value, outputs) = self.run(&compute, &inputs, scale);
            prop_assert!((value - exact).abs() <= 1e-6 * size);
            for r in 0..rows {
                for c in 0..columns {
                    let inputs = views.each_ref().map(|v| v[[r, c]]);
                    let (_, gradients) = element(InstructionSet::detect(), self.term, inputs);
                    for g in 0..G {
                        prop_assert_eq!(outputs[g][[r, c]], gradients[g] * scale);
                    }
                }
            }
        });
    }
}
