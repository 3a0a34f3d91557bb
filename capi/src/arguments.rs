//! Checks of pointers, sizes and strides, before anything is read or written.
//!
//! # Method
//! 1. A [`Matrix`] is a pointer with its shape and stride. Making one checks that the pointer is there and aligned,
//!    that the stride holds a row, and that the last element has an address.
//! 2. [`expect_apart`] checks that no output shares memory with another array of the call. Columns of one wider
//!    array, which interleave in memory, are apart.
//! 3. Only then is the memory looked at, as views of ndarray.

use crate::status::elbo_status::*;
use crate::status::{Failure, Outcome};
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};
use std::ffi::{CStr, OsStr, c_char};
use std::path::Path;

/// Rows in the caller's memory.
pub(crate) struct Matrix<T> {
    name: &'static str,
    data: *mut T,
    rows: usize,
    columns: usize,
    /// Elements from a row to the next.
    stride: usize,
}

/// The bytes of a matrix, or of other memory.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    name: &'static str,
    start: usize,
    rows: usize,
    /// Bytes of a row, and from a row to the next.
    width: usize,
    stride: usize,
}

impl<T> Matrix<T> {
    /// Checks an array that is read or written.
    pub(crate) fn new(
        name: &'static str,
        data: *const T,
        [rows, columns]: [usize; 2],
        stride: usize,
    ) -> Outcome<Self> {
        // 1.
        if rows > 0 && stride < columns {
            return Err(Failure::new(
                ELBO_STRIDE,
                format!(
                    "`{name}_stride` is {stride}, less than the {columns} columns of a row; strides count \
                     elements, and rows that follow one another have a stride of {columns}"
                ),
            ));
        }
        let elements = match rows {
            0 => Some(0),
            _ => (rows - 1).checked_mul(stride).and_then(|last| last.checked_add(columns)),
        };
        let bytes = elements.and_then(|elements| elements.checked_mul(size_of::<T>()));
        let end = bytes.and_then(|bytes| (data as usize).checked_add(bytes));
        // As in Rust and C, no object is larger than half of the address space.
        if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) || end.is_none() {
            return Err(Failure::new(
                ELBO_SIZE,
                format!(
                    "`{name}`: {rows} rows of {columns} columns, {stride} elements apart, exceed the address \
                     space; a size may have overflowed"
                ),
            ));
        }
        if rows == 0 || columns == 0 {
            return Ok(Self::empty(name, [rows, columns]));
        }
        expect_pointer(name, data)?;
        Ok(Self { name, data: data.cast_mut(), rows, columns, stride })
    }

    /// An array without elements, which needs no memory.
    fn empty(name: &'static str, [rows, columns]: [usize; 2]) -> Self {
        let data = std::ptr::NonNull::dangling().as_ptr();
        Self { name, data, rows, columns, stride: columns }
    }

    /// Checks an array of one dimension.
    pub(crate) fn vector(name: &'static str, data: *const T, length: usize) -> Outcome<Self> {
        Self::new(name, data, [1, length], length)
    }

    pub(crate) fn region(&self) -> Region {
        let size = size_of::<T>();
        Region {
            name: self.name,
            start: self.data as usize,
            rows: if self.columns == 0 { 0 } else { self.rows },
            width: self.columns * size,
            // Checked for more than one row; not used for one.
            stride: self.stride.saturating_mul(size),
        }
    }

    /// True if the rows follow one another.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.rows <= 1 || self.stride == self.columns
    }

    /// The strides of a view: those of a contiguous array for a single row, whose stride may be anything.
    fn shape(&self) -> ndarray::StrideShape<ndarray::Ix2> {
        let stride = if self.rows <= 1 { self.columns } else { self.stride };
        (self.rows, self.columns).strides((stride, 1))
    }

    /// The array, to be read.
    ///
    /// # Safety
    /// The memory is the caller's, as the header says, and nothing writes to it during `'a`.
    pub(crate) unsafe fn view<'a>(&self) -> ArrayView2<'a, T> {
        // SAFETY: aligned, not null and inside the address space by `new`; readable by the contract.
        unsafe { ArrayView2::from_shape_ptr(self.shape(), self.data) }
    }

    /// The array, to be overwritten.
    ///
    /// # Safety
    /// The memory is the caller's, as the header says, and nothing else reads or writes it during `'a`.
    pub(crate) unsafe fn view_mut<'a>(&self) -> ArrayViewMut2<'a, T> {
        // SAFETY: as in `view`; rows do not overlap, as the stride is at least the columns.
        unsafe { ArrayViewMut2::from_shape_ptr(self.shape(), self.data) }
    }

    /// The elements of an array of one row.
    ///
    /// # Safety
    /// As [`Self::view`].
    pub(crate) unsafe fn slice<'a>(&self) -> &'a [T] {
        assert_eq!(self.rows, 1);
        // SAFETY: as in `view`.
        unsafe { std::slice::from_raw_parts(self.data, self.columns) }
    }

    /// The elements of an array of one row, to be overwritten.
    ///
    /// # Safety
    /// As [`Self::view_mut`].
    pub(crate) unsafe fn slice_mut<'a>(&self) -> &'a mut [T] {
        assert_eq!(self.rows, 1);
        // SAFETY: as in `view_mut`.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.columns) }
    }
}

impl Region {
    /// Memory of the library that the caller has a pointer to.
    pub(crate) fn of_slice(name: &'static str, slice: &[f32]) -> Self {
        let width = size_of_val(slice);
        Self { name, start: slice.as_ptr() as usize, rows: 1, width, stride: width }
    }

    /// The address after the last byte.
    fn end(&self) -> usize {
        match self.rows {
            0 => self.start,
            rows => self.start + (rows - 1) * self.stride + self.width,
        }
    }

    /// True if the two share no byte.
    fn is_apart(&self, other: &Self) -> bool {
        let is_empty = |region: &Self| region.rows == 0 || region.width == 0;
        if is_empty(self)
            || is_empty(other)
            || self.end() <= other.start
            || other.end() <= self.start
        {
            return true;
        }
        // Columns of one array: of equal strides, with neither reaching into the other's columns of any row.
        if self.rows > 1 && other.rows > 1 && self.stride == other.stride {
            let (low, high) = if self.start <= other.start { (self, other) } else { (other, self) };
            let column = (high.start - low.start) % low.stride;
            return column >= low.width && column + high.width <= low.stride;
        }
        // One row between the columns of others.
        let (row, rows) = if self.rows == 1 { (self, other) } else { (other, self) };
        if row.rows == 1 && rows.rows > 1 && row.start >= rows.start {
            let column = (row.start - rows.start) % rows.stride;
            return column >= rows.width && column + row.width <= rows.stride;
        }
        false
    }
}

/// Checks that no output shares memory with another output or with an input.
pub(crate) fn expect_apart(outputs: &[Region], inputs: &[Region]) -> Outcome<()> {
    for (i, output) in outputs.iter().enumerate() {
        let others = outputs[i + 1..].iter().chain(inputs);
        if let Some(other) = others.into_iter().find(|other| !output.is_apart(other)) {
            return Err(Failure::new(
                ELBO_OVERLAP,
                format!(
                    "`{}`, which is written, overlaps `{}`; give each memory of its own",
                    output.name, other.name
                ),
            ));
        }
    }
    Ok(())
}

/// Checks that a pointer is there and aligned.
fn expect_pointer<T>(name: &str, pointer: *const T) -> Outcome<()> {
    if pointer.is_null() {
        return Err(Failure::new(ELBO_NULL, format!("`{name}` is a null pointer")));
    }
    if !pointer.is_aligned() {
        let message = format!(
            "`{name}` is {pointer:p}, which is not a multiple of {}, the alignment of its type",
            align_of::<T>()
        );
        return Err(Failure::new(ELBO_MISALIGNED, message));
    }
    Ok(())
}

/// The structure or handle at a pointer.
///
/// # Safety
/// A pointer that is neither null nor misaligned is that of a `T`, which nothing writes to during `'a`.
pub(crate) unsafe fn shared<'a, T>(name: &str, pointer: *const T) -> Outcome<&'a T> {
    expect_pointer(name, pointer)?;
    // SAFETY: not null, aligned, and of a `T` by the contract.
    Ok(unsafe { &*pointer })
}

/// A place for one result.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// Checks the pointer.
    pub(crate) fn new(name: &str, pointer: *mut T) -> Outcome<Self> {
        expect_pointer(name, pointer)?;
        Ok(Self(pointer))
    }

    /// Overwrites the place.
    ///
    /// # Safety
    /// It is memory of a `T`.
    pub(crate) unsafe fn put(&self, value: T) {
        // SAFETY: not null, aligned, and memory of a `T` by the contract.
        unsafe { self.0.write(value) }
    }
}

impl<T> Place<*mut T> {
    /// Makes a handle and writes its pointer; on an error, a null pointer.
    ///
    /// # Safety
    /// As [`Self::put`].
    pub(crate) unsafe fn fill(&self, make: impl FnOnce() -> Outcome<T>) -> Outcome<()> {
        // SAFETY: as the contract says.
        unsafe { self.put(std::ptr::null_mut()) };
        let handle = Box::into_raw(Box::new(make()?));
        // SAFETY: as above.
        unsafe { self.put(handle) };
        Ok(())
    }
}

/// Ends a handle that [`Place::fill`] made; nothing happens for a null pointer.
///
/// # Safety
/// The handle has not been ended, and nothing uses it.
pub(crate) unsafe fn end<T>(handle: *mut T) {
    if !handle.is_null() && handle.is_aligned() {
        // SAFETY: made by `Box::into_raw`, and not ended before, by the contract. Dropping does not panic.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// A text.
///
/// # Safety
/// A pointer that is not null is that of a text that ends with a NUL.
pub(crate) unsafe fn text<'a>(name: &str, pointer: *const c_char) -> Outcome<&'a CStr> {
    expect_pointer(name, pointer)?;
    // SAFETY: not null, and a text by the contract.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// The path of a file: bytes on Unix, UTF-8 elsewhere.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn path<'a>(pointer: *const c_char) -> Outcome<&'a Path> {
    // SAFETY: by the contract.
    let text = unsafe { text("path", pointer) }?;
    #[cfg(unix)]
    let name = {
        use std::os::unix::ffi::OsStrExt;
        OsStr::from_bytes(text.to_bytes())
    };
    #[cfg(not(unix))]
    let name =
        OsStr::new(text.to_str().map_err(|_| {
            Failure::option("path", "UTF-8", String::from_utf8_lossy(text.to_bytes()))
        })?);
    Ok(Path::new(name))
}

/// Returns an error unless the system grants so many elements of memory in one piece.
pub(crate) fn expect_memory(what: &str, elements: Option<usize>) -> Outcome<usize> {
    if let Some(elements) = elements {
        let mut piece = Vec::<f32>::new();
        if piece.try_reserve_exact(elements).is_ok() {
            std::hint::black_box(&piece);
            return Ok(elements);
        }
    }
    Err(Failure::new(ELBO_MEMORY, format!("{what} need more memory than the system grants")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: usize, rows: usize, width: usize, stride: usize) -> Region {
        Region { name: "x", start, rows, width, stride }
    }

    /// The rule against a list of all bytes.
    #[test]
    fn regions_are_apart_if_they_share_no_byte() {
        let bytes = |r: &Region| -> Vec<usize> {
            (0..r.rows)
                .flat_map(|i| (0..r.width).map(move |c| r.start + i * r.stride + c))
                .collect()
        };
        let mut apart = 0;
        for stride in 1..7 {
            for (width, other_width) in (0..=stride).flat_map(|a| (0..=stride).map(move |b| (a, b)))
            {
                for (rows, other_rows) in (0..4).flat_map(|a| (0..4).map(move |b| (a, b))) {
                    for start in 0..40 {
                        let one = region(20, rows, width, stride);
                        let other = region(start, other_rows, other_width, stride);
                        let (a, b) = (bytes(&one), bytes(&other));
                        let expected = a.iter().all(|byte| !b.contains(byte));
                        let found = one.is_apart(&other);
                        assert_eq!(found, other.is_apart(&one));
                        assert!(
                            !found || expected,
                            "{rows} {width} {stride}; {start} {other_rows} {other_width}"
                        );
                        apart += usize::from(found);
                    }
                }
            }
        }
        assert!(apart > 10_000);
    }

    #[test]
    fn columns_of_one_array_are_apart() {
        let (left, right) = (region(0, 5, 12, 20), region(12, 5, 8, 20));
        assert!(left.is_apart(&right) && right.is_apart(&left));
        assert!(!left.is_apart(&region(8, 5, 8, 20)));
        // A row of the columns to the right, alone.
        assert!(left.is_apart(&region(32, 1, 8, 8)) && !left.is_apart(&region(32, 1, 9, 9)));
        // The last columns of one row and the first of the next.
        assert!(!left.is_apart(&region(12, 3, 12, 20)));
    }
}
