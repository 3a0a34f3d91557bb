//! Writer of `.npy`, the array format of NumPy: version 1.0, little-endian, C order.
//!
//! ```text
//! \x93NUMPY  1 0  header length (u16, little-endian)
//! {'descr': '<f4', 'fortran_order': False, 'shape': (100, 20), }
//! the elements, from a multiple of 64 bytes on
//! ```
//! Source: NumPy's documentation of `numpy.lib.format`. The crates for this format compile arithmetic of
//! large integers and a parser generator, for these twenty lines.

use ndarray::ArrayView2;
use std::io::{self, Write};

/// Element type of a written array.
pub trait Element: Copy {
    /// Its name in the header.
    const DESCR: &'static str;

    /// Writes one element, little-endian.
    fn write(self, to: &mut (impl Write + ?Sized)) -> io::Result<()>;
}

impl Element for f32 {
    const DESCR: &'static str = "<f4";

    fn write(self, to: &mut (impl Write + ?Sized)) -> io::Result<()> {
        to.write_all(&self.to_le_bytes())
    }
}

impl Element for f64 {
    const DESCR: &'static str = "<f8";

    fn write(self, to: &mut (impl Write + ?Sized)) -> io::Result<()> {
        to.write_all(&self.to_le_bytes())
    }
}

/// Writes `rows`. `to` should be buffered.
pub fn write<T: Element>(to: &mut (impl Write + ?Sized), rows: ArrayView2<T>) -> io::Result<()> {
    let (descr, (height, width)) = (T::DESCR, rows.dim());
    let dictionary =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({height}, {width}), }}");
    // Ten bytes before the dictionary, spaces and a line feed after it.
    let padded = (10 + dictionary.len() + 1).next_multiple_of(64) - 10;
    to.write_all(b"\x93NUMPY\x01\x00")?;
    to.write_all(&(padded as u16).to_le_bytes())?;
    writeln!(to, "{dictionary:<0$}", padded - 1)?;
    // Iteration is in C order whatever the strides.
    rows.iter().try_for_each(|element| element.write(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, ShapeBuilder, arr2};
    use ndarray_npy::ReadNpyExt;

    #[test]
    fn arrays_are_read_back_by_another_reader() {
        for shape in [(0, 3), (1, 1), (7, 20), (3, 0), (12_345, 2)] {
            for array in [
                Array2::from_shape_fn(shape, |(r, c)| r as f32 - 0.1 * c as f32),
                Array2::from_shape_fn(shape.f(), |(r, c)| r as f32 - 0.1 * c as f32),
            ] {
                let mut file = Vec::new();
                write(&mut file, array.view()).unwrap();
                assert_eq!((file.len() - 4 * array.len()) % 64, 0, "{shape:?}");
                assert_eq!(Array2::<f32>::read_npy(&file[..]).unwrap(), array, "{shape:?}");
            }
        }
        let (mut file, array) = (Vec::new(), arr2(&[[0.1_f64, f64::MAX], [-0.0, f64::INFINITY]]));
        write(&mut file, array.view()).unwrap();
        assert_eq!(Array2::<f64>::read_npy(&file[..]).unwrap(), array);
    }
}
