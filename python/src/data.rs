//! Rows of NumPy arrays as training and inference read them: chosen, scaled, never copied as a whole.

use crate::arrays::{matrix, matrix_of, vector_of};
use elbo::Dataset;
use ndarray::{Array2, ArrayView1, ArrayView2};
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Rows of an array, in any order, with the scaling of their features and their conditions.
///
/// `x` is an array `[rows, D]` of float32 or float64, or of uint8, which is divided by 255 as it is read. `order`
/// (uint32) lists the rows to read; all of them by default. With `shift` and `divisor` (float64 `[D]`) a row is
/// read as `(x - shift) / divisor`, computed in float64; `limits` clamps the result. `conditions` is an
/// array `[rows, C]` of float32.
#[pyclass(frozen, module = "elbo_vae._core")]
pub struct Data {
    x: Py<PyAny>,
    order: Option<Py<PyAny>>,
    scaling: Option<(Py<PyAny>, Py<PyAny>)>,
    limits: Option<(f32, f32)>,
    conditions: Option<Py<PyAny>>,
}

#[pymethods]
impl Data {
    /// Refers to arrays; they are checked here and borrowed when they are used.
    #[new]
    #[pyo3(signature = (x, *, order=None, shift=None, divisor=None, limits=None, conditions=None))]
    fn new(
        py: Python<'_>,
        x: Py<PyAny>,
        order: Option<Py<PyAny>>,
        shift: Option<Py<PyAny>>,
        divisor: Option<Py<PyAny>>,
        limits: Option<(f32, f32)>,
        conditions: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let scaling = match (shift, divisor) {
            (None, None) => None,
            (Some(shift), Some(divisor)) => Some((shift, divisor)),
            _ => return Err(PyValueError::new_err("`shift` and `divisor` belong together")),
        };
        let data = Self { x, order, scaling, limits, conditions };
        data.borrow(py)?;
        Ok(data)
    }

    /// Number of rows.
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.borrow(py)?.rows().row_count())
    }

    /// Returns the rows as a model reads them, float32 `[rows, D]`: a copy.
    fn read<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let borrowed = self.borrow(py)?;
        let rows = borrowed.rows();
        let read = py.detach(|| rows.read(0, rows.row_count()));
        Ok(read.into_pyarray(py))
    }

    /// Position of the first row with a NaN or an infinite number, as `(row, column)` of `x`, if there is one.
    fn first_not_finite(&self, py: Python<'_>) -> PyResult<Option<(usize, usize)>> {
        let borrowed = self.borrow(py)?;
        let rows = borrowed.rows();
        Ok(py.detach(|| rows.first_not_finite()))
    }
}

impl Data {
    /// Borrows the arrays.
    pub fn borrow<'py>(&self, py: Python<'py>) -> PyResult<Borrowed<'py>> {
        let x = self.x.bind(py);
        let dtype = x.cast::<PyUntypedArray>().map(|array| array.dtype().to_string());
        let x = match dtype.as_deref() {
            Ok("float64") => Values::F64(matrix_of("x", x, "float64")?),
            Ok("uint8") => Values::U8(matrix_of("x", x, "uint8")?),
            _ => Values::F32(matrix("x", x)?),
        };
        let (rows, features) = x.dim();
        let vector = |name, array: &Py<PyAny>| vector_of::<f64>(name, array.bind(py), "float64");
        let scaling = match &self.scaling {
            None => None,
            Some((shift, divisor)) => Some((vector("shift", shift)?, vector("divisor", divisor)?)),
        };
        if let Some((shift, divisor)) = &scaling
            && (shift.len() != features || divisor.len() != features)
        {
            return Err(PyValueError::new_err(format!(
                "`x`: expected {} features, as the scaling has, found {features}",
                shift.len()
            )));
        }
        let order = match &self.order {
            None => None,
            Some(order) => Some(vector_of::<u32>("order", order.bind(py), "uint32")?),
        };
        if let Some(order) = &order
            && let Some(row) = order.as_array().iter().find(|&&row| row as usize >= rows)
        {
            let message = format!("`order`: row {row} is not among the {rows} rows of `x`");
            return Err(PyValueError::new_err(message));
        }
        let conditions = match &self.conditions {
            None => None,
            Some(conditions) => Some(matrix("conditions", conditions.bind(py))?),
        };
        if let Some(conditions) = &conditions
            && conditions.shape()[0] != rows
        {
            return Err(PyValueError::new_err(format!(
                "`conditions`: expected {rows} rows, one for each of `x`, found {}",
                conditions.shape()[0]
            )));
        }
        Ok(Borrowed { x, order, scaling, limits: self.limits, conditions })
    }
}

enum Values<'py> {
    F32(PyReadonlyArray2<'py, f32>),
    F64(PyReadonlyArray2<'py, f64>),
    U8(PyReadonlyArray2<'py, u8>),
}

impl Values<'_> {
    fn dim(&self) -> (usize, usize) {
        match self {
            Self::F32(x) => x.as_array().dim(),
            Self::F64(x) => x.as_array().dim(),
            Self::U8(x) => x.as_array().dim(),
        }
    }
}

/// Borrowed arrays of a [`Data`].
pub struct Borrowed<'py> {
    x: Values<'py>,
    order: Option<PyReadonlyArray1<'py, u32>>,
    scaling: Option<(PyReadonlyArray1<'py, f64>, PyReadonlyArray1<'py, f64>)>,
    limits: Option<(f32, f32)>,
    conditions: Option<PyReadonlyArray2<'py, f32>>,
}

impl Borrowed<'_> {
    /// The rows, for threads without the interpreter's lock.
    pub fn rows(&self) -> Rows<'_> {
        Rows {
            x: match &self.x {
                Values::F32(x) => Numbers::F32(x.as_array()),
                Values::F64(x) => Numbers::F64(x.as_array()),
                Values::U8(x) => Numbers::U8(x.as_array()),
            },
            order: self.order.as_ref().map(|order| order.as_array()),
            scaling: self.scaling.as_ref().map(|(shift, by)| (shift.as_array(), by.as_array())),
            limits: self.limits,
            conditions: self.conditions.as_ref().map(|conditions| conditions.as_array()),
        }
    }
}

#[derive(Clone, Copy)]
enum Numbers<'a> {
    F32(ArrayView2<'a, f32>),
    F64(ArrayView2<'a, f64>),
    U8(ArrayView2<'a, u8>),
}

/// Rows of arrays, as a data set.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    x: Numbers<'a>,
    order: Option<ArrayView1<'a, u32>>,
    scaling: Option<(ArrayView1<'a, f64>, ArrayView1<'a, f64>)>,
    limits: Option<(f32, f32)>,
    conditions: Option<ArrayView2<'a, f32>>,
}

impl Rows<'_> {
    /// Number of the row of the array.
    fn place(&self, row: usize) -> usize {
        self.order.map_or(row, |order| order[row] as usize)
    }

    /// The array, if its rows are read as they are.
    pub fn plain(&self) -> Option<ArrayView2<'_, f32>> {
        let is_plain = self.order.is_none()
            && self.scaling.is_none()
            && self.limits.is_none()
            && self.conditions.is_none();
        match self.x {
            Numbers::F32(x) if is_plain => Some(x),
            _ => None,
        }
    }

    /// Reads `count` rows from row `first` on.
    pub fn read(&self, first: usize, count: usize) -> Array2<f32> {
        let mut out = Array2::zeros((count, self.features()));
        for (i, mut row) in out.rows_mut().into_iter().enumerate() {
            self.read_row(first + i, row.as_slice_mut().expect("a fresh array"));
        }
        out
    }

    /// Reads the conditions of `count` rows from row `first` on; `None` if there are none.
    pub fn read_conditions(&self, first: usize, count: usize) -> Option<Array2<f32>> {
        let mut out = Array2::zeros((count, self.conditions?.ncols()));
        for (i, mut row) in out.rows_mut().into_iter().enumerate() {
            self.read_condition(first + i, row.as_slice_mut().expect("a fresh array"));
        }
        Some(out)
    }

    /// Calls `visit` with each row in float64, before scaling.
    pub fn each(&self, mut visit: impl FnMut(&[f64])) {
        let mut numbers = vec![0.0; self.features()];
        for row in 0..self.row_count() {
            let place = self.place(row);
            match self.x {
                Numbers::F32(x) => assign(&mut numbers, x.row(place), |x| f64::from(*x)),
                Numbers::F64(x) => assign(&mut numbers, x.row(place), |x| *x),
                Numbers::U8(x) => {
                    assign(&mut numbers, x.row(place), |x| f64::from(f32::from(*x) / 255.0));
                }
            }
            visit(&numbers);
        }
    }

    fn first_not_finite(&self) -> Option<(usize, usize)> {
        let is_finite_in = |row: usize| {
            let place = self.place(row);
            let column = match self.x {
                Numbers::F32(x) => x.row(place).iter().position(|x| !x.is_finite()),
                Numbers::F64(x) => x.row(place).iter().position(|x| !x.is_finite()),
                Numbers::U8(_) => None,
            };
            column.map(|column| (place, column))
        };
        (0..self.row_count()).find_map(is_finite_in)
    }
}

/// Overwrites `out` with the converted elements of a row.
fn assign<T, O>(out: &mut [O], row: ArrayView1<'_, T>, convert: impl Fn(&T) -> O) {
    match row.to_slice() {
        Some(row) => out.iter_mut().zip(row).for_each(|(out, x)| *out = convert(x)),
        None => out.iter_mut().zip(row).for_each(|(out, x)| *out = convert(x)),
    }
}

impl Dataset for Rows<'_> {
    fn row_count(&self) -> usize {
        match (self.order, self.x) {
            (Some(order), _) => order.len(),
            (None, Numbers::F32(x)) => x.nrows(),
            (None, Numbers::F64(x)) => x.nrows(),
            (None, Numbers::U8(x)) => x.nrows(),
        }
    }

    fn features(&self) -> usize {
        match self.x {
            Numbers::F32(x) => x.ncols(),
            Numbers::F64(x) => x.ncols(),
            Numbers::U8(x) => x.ncols(),
        }
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        let place = self.place(row);
        match (self.x, self.scaling) {
            (Numbers::F32(x), None) => assign(out, x.row(place), |x| *x),
            (Numbers::F64(x), None) => assign(out, x.row(place), |x| *x as f32),
            (Numbers::U8(x), _) => assign(out, x.row(place), |x| f32::from(*x) / 255.0),
            (Numbers::F32(x), Some(by)) => {
                scale(out, x.row(place).iter().map(|x| f64::from(*x)), by)
            }
            (Numbers::F64(x), Some(by)) => scale(out, x.row(place).iter().copied(), by),
        }
        if let (Numbers::U8(_), Some((shift, divisor))) = (self.x, self.scaling) {
            for ((x, shift), divisor) in out.iter_mut().zip(shift).zip(divisor) {
                *x = ((f64::from(*x) - shift) / divisor) as f32;
            }
        }
        if let Some((low, high)) = self.limits {
            out.iter_mut().for_each(|x| *x = x.clamp(low, high));
        }
    }

    fn conditions(&self) -> usize {
        self.conditions.map_or(0, |conditions| conditions.ncols())
    }

    fn read_condition(&self, row: usize, out: &mut [f32]) {
        match self.conditions {
            None => assert!(out.is_empty(), "data without conditions"),
            Some(conditions) => assign(out, conditions.row(self.place(row)), |x| *x),
        }
    }
}

/// Scales each number in float64 and rounds it once.
fn scale(
    out: &mut [f32],
    numbers: impl Iterator<Item = f64>,
    (shift, divisor): (ArrayView1<'_, f64>, ArrayView1<'_, f64>),
) {
    for (((out, x), shift), divisor) in out.iter_mut().zip(numbers).zip(shift).zip(divisor) {
        *out = ((x - shift) / divisor) as f32;
    }
}

/// Draws the rows to hold out, as `elbo train` does: returns the order of the rows, those held out at its end,
/// and the number of the others.
///
/// `fraction` of `rows` rows are held out, at least one, and at least one stays.
#[pyfunction]
pub fn hold_out<'py>(
    py: Python<'py>,
    rows: usize,
    fraction: f64,
    seed: u64,
) -> PyResult<(Bound<'py, PyArray1<u32>>, usize)> {
    let last = u32::try_from(rows).ok().filter(|&rows| rows >= 2).ok_or_else(|| {
        PyValueError::new_err(format!(
            "validation_fraction: rows can be held out of 2 to {} rows, found n_samples = {rows}",
            u32::MAX
        ))
    })?;
    let held_out = ((rows as f64 * fraction) as usize).clamp(1, rows - 1);
    let start = rows - held_out;
    let mut order: Vec<u32> = (0..last).collect();
    let mut state = seed;
    // The last steps of a Fisher-Yates shuffle: each leaves one drawn row at the end.
    for last in (start..rows).rev() {
        let drawn = (u128::from(split_mix(&mut state)) * (last as u128 + 1)) >> 64;
        order.swap(drawn as usize, last);
    }
    Ok((order.into_pyarray(py), start))
}

/// Next number of SplitMix64 (Steele, Lea and Flood 2014), the tool's generator of held-out rows.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
