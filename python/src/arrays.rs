//! NumPy arrays: their type, shape and memory are checked, and they are never copied.

use ndarray::{ArrayView2, ArrayViewMut2, Dimension};
use numpy::npyffi::NPY_ARRAY_WRITEABLE;
use numpy::{
    Element, PyArray, PyArray1, PyArray2, PyArrayDescrMethods, PyArrayMethods, PyReadonlyArray1,
    PyReadonlyArray2, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// Borrows an array `[rows, columns]` of float32.
pub fn matrix<'py>(name: &str, array: &Bound<'py, PyAny>) -> PyResult<PyReadonlyArray2<'py, f32>> {
    matrix_of(name, array, "float32")
}

/// Borrows an array `[rows, columns]` of `T`, the type that NumPy calls `dtype`.
pub fn matrix_of<'py, T: Element>(
    name: &str,
    array: &Bound<'py, PyAny>,
    dtype: &str,
) -> PyResult<PyReadonlyArray2<'py, T>> {
    let array = as_matrix::<T>(name, array, dtype)?;
    array.try_readonly().map_err(|_| in_use(name))
}

/// An array `[rows, columns]` of float32 that a kernel reads.
///
/// Without an entry in NumPy's table of borrowed arrays, which takes as long as the rest of a small call.
pub struct Input<'py>(Bound<'py, PyArray2<f32>>);

impl<'py> Input<'py> {
    /// Checks the array.
    pub fn new(name: &str, array: &Bound<'py, PyAny>) -> PyResult<Self> {
        as_matrix::<f32>(name, array, "float32").map(|array| Self(array.clone()))
    }

    /// The array.
    pub fn view(&self) -> ArrayView2<'_, f32> {
        // SAFETY: the elements are aligned (`as_matrix`), `self` keeps them in memory, and no argument that is written
        // to has any of them (`views`). Other threads must leave the arrays alone during the call, as with every
        // function of NumPy that releases the lock.
        #[allow(unsafe_code)]
        unsafe {
            self.0.as_array()
        }
    }
}

/// An array `[rows, columns]` of float32 to write to, with contiguous rows.
pub struct Place<'py> {
    name: &'static str,
    array: Bound<'py, PyArray2<f32>>,
}

impl<'py> Place<'py> {
    /// Checks the array.
    pub fn new(name: &'static str, array: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = as_matrix::<f32>(name, array, "float32")?;
        // SAFETY: the pointer is that of a live array.
        #[allow(unsafe_code)]
        let flags = unsafe { (*array.as_array_ptr()).fields.flags };
        if flags & NPY_ARRAY_WRITEABLE == 0 {
            return Err(PyValueError::new_err(format!(
                "`{name}`: the array is read-only; pass a copy, as in {name}.copy()"
            )));
        }
        let (rows, columns, strides) = (array.shape()[0], array.shape()[1], array.strides());
        let width = (columns * size_of::<f32>()) as isize;
        let is_contiguous = columns <= 1 || strides[1] == size_of::<f32>() as isize;
        if rows * columns > 0 && (!is_contiguous || (rows > 1 && strides[0] < width)) {
            return Err(PyValueError::new_err(format!(
                "`{name}`: results need contiguous rows, found strides {strides:?} (bytes); pass an array such \
                 as numpy.empty({:?}, dtype=numpy.float32)",
                (rows, columns)
            )));
        }
        Ok(Self { name, array: array.clone() })
    }
}

/// Views of places that overlap neither each other nor the inputs.
///
/// NumPy's own borrow checker takes columns of one wide array, such as the gradients of two heads beside each other,
/// for overlapping; here they are not.
pub fn views<'a, const N: usize>(
    places: &'a mut [Place<'_>; N],
    inputs: &[&Input<'_>],
) -> PyResult<[ArrayViewMut2<'a, f32>; N]> {
    let extents: Vec<Extent> = places.iter().map(|place| Extent::new(&place.array)).collect();
    for (i, place) in places.iter().enumerate() {
        let inputs = inputs.iter().map(|input| Extent::new(&input.0));
        if inputs.chain(extents[..i].iter().copied()).any(|other| extents[i].overlaps(other)) {
            return Err(PyValueError::new_err(format!(
                "`{}`: the array overlaps another argument; pass one of its own",
                place.name
            )));
        }
    }
    // SAFETY: the elements are aligned and in memory that may be written to (`Place::new`), no two elements of a
    // place are the same (its rows are contiguous and apart), and no other argument has any of them (above). The places
    // are borrowed for as long as the views. Other threads must leave the arrays alone during the call, as with
    // every function of NumPy that releases the lock.
    #[allow(unsafe_code)]
    Ok(places.each_mut().map(|place| unsafe { place.array.as_array_mut() }))
}

/// Memory of an array of two dimensions: rows of `width` bytes, `stride` bytes apart.
#[derive(Clone, Copy)]
struct Extent {
    start: usize,
    rows: usize,
    stride: usize,
    width: usize,
}

impl Extent {
    fn new(array: &Bound<'_, PyArray2<f32>>) -> Self {
        let (shape, strides) = (array.shape(), array.strides());
        let first = array.data() as usize;
        if shape.contains(&0) {
            return Self { start: first, rows: 0, stride: 0, width: 0 };
        }
        // Axes that run backwards begin at their last element.
        let back = |axis: usize| (shape[axis] - 1) * strides[axis].min(0).unsigned_abs();
        let width = (shape[1] - 1) * strides[1].unsigned_abs() + size_of::<f32>();
        let (start, stride) = (first - back(0) - back(1), strides[0].unsigned_abs());
        Self { start, rows: shape[0], stride, width }
    }

    fn end(self) -> usize {
        self.start + (self.rows - 1) * self.stride + self.width
    }

    /// True if both may have a byte in common.
    fn overlaps(self, other: Self) -> bool {
        if self.rows == 0
            || other.rows == 0
            || self.end() <= other.start
            || other.end() <= self.start
        {
            return false;
        }
        let stride = if self.rows > 1 { self.stride } else { other.stride };
        let is_common = |extent: Self| extent.rows == 1 || extent.stride == stride;
        let fits = |extent: Self| extent.width <= stride;
        if is_common(self) && is_common(other) && fits(self) && fits(other) {
            // Columns of one wide array: those of the other one begin so many bytes to the right.
            let offset = (other.start as isize - self.start as isize).rem_euclid(stride as isize);
            let offset = offset.unsigned_abs();
            return offset < self.width || offset + other.width > stride;
        }
        true
    }
}

/// Borrows an array of one dimension of `T`, the type that NumPy calls `dtype`.
pub fn vector_of<'py, T: Element>(
    name: &str,
    array: &Bound<'py, PyAny>,
    dtype: &str,
) -> PyResult<PyReadonlyArray1<'py, T>> {
    let Ok(typed) = array.cast::<PyArray1<T>>() else {
        return Err(wrong_type(name, array, dtype, 1));
    };
    expect_aligned(name, typed)?;
    typed.try_readonly().map_err(|_| in_use(name))
}

fn as_matrix<'a, 'py, T: Element>(
    name: &str,
    array: &'a Bound<'py, PyAny>,
    dtype: &str,
) -> PyResult<&'a Bound<'py, PyArray2<T>>> {
    let Ok(typed) = array.cast::<PyArray2<T>>() else {
        return Err(wrong_type(name, array, dtype, 2));
    };
    expect_aligned(name, typed)?;
    Ok(typed)
}

/// Returns an error if an element, as in a field of a packed structure, is not where a processor reads it.
fn expect_aligned<T: Element, D: Dimension>(
    name: &str,
    array: &Bound<'_, PyArray<T, D>>,
) -> PyResult<()> {
    let size = size_of::<T>();
    let is_aligned = (array.data() as usize).is_multiple_of(size)
        && array.strides().iter().all(|stride| stride % size as isize == 0);
    if is_aligned || array.shape().contains(&0) {
        return Ok(());
    }
    Err(PyValueError::new_err(format!(
        "`{name}`: the elements are not aligned; convert it with numpy.ascontiguousarray({name})"
    )))
}

/// The error for an object that is no array of this type and number of dimensions.
fn wrong_type(name: &str, found: &Bound<'_, PyAny>, dtype: &str, dimensions: usize) -> PyErr {
    let kind =
        found.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string());
    let Ok(array) = found.cast::<PyUntypedArray>() else {
        let remedy = match found.hasattr("toarray") {
            Ok(true) => format!("{name}.toarray().astype(numpy.{dtype})"),
            _ => format!("numpy.asarray({name}, dtype=numpy.{dtype})"),
        };
        return PyTypeError::new_err(format!(
            "`{name}`: expected a NumPy array of {dtype}, found {kind}; convert it with {remedy}"
        ));
    };
    let shape = array.shape();
    if shape.len() != dimensions {
        return PyValueError::new_err(format!(
            "`{name}`: expected {dimensions} dimensions, found shape {shape:?}; reshape it with \
             {name}.reshape({})",
            if dimensions == 2 { "rows, columns" } else { "-1" }
        ));
    }
    let order = match array.dtype().is_native_byteorder() {
        Some(false) => " of foreign byte order",
        _ => "",
    };
    PyTypeError::new_err(format!(
        "`{name}`: expected {dtype}, found {}{order}; convert it with {name}.astype(numpy.{dtype})",
        array.dtype()
    ))
}

fn in_use(name: &str) -> PyErr {
    PyValueError::new_err(format!(
        "`{name}`: the array shares memory with a result, or another call is using it; pass arrays that do not \
         overlap"
    ))
}
