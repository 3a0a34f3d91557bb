//! What the tests share.
#![allow(dead_code, clippy::undocumented_unsafe_blocks)]

use elbo::*;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

/// Arrays that live as long as the test.
#[derive(Default)]
pub struct Memory {
    floats: Vec<Box<[f32]>>,
    doubles: Vec<Box<[f64]>>,
}

impl Memory {
    /// Numbers in [0, 1], some of them 0.
    pub fn floats(&mut self, count: usize) -> *mut f32 {
        let salt = self.floats.len();
        let value = |i: usize| ((i * 37 + salt * 11) % 17) as f32 / 16.0;
        self.floats.push((0..count).map(value).collect());
        self.floats.last_mut().unwrap().as_mut_ptr()
    }

    pub fn doubles(&mut self, count: usize) -> *mut f64 {
        self.doubles.push(vec![f64::NAN; count].into());
        self.doubles.last_mut().unwrap().as_mut_ptr()
    }
}

pub fn message() -> String {
    unsafe { CStr::from_ptr(elbo_last_error_message()) }.to_str().unwrap().to_owned()
}

pub fn status_name(status: elbo_status) -> &'static str {
    unsafe { CStr::from_ptr(elbo_status_name(status as i32)) }.to_str().unwrap()
}

/// The value of a row of the test's data set.
pub fn datum(row: usize, column: usize) -> f32 {
    f32::from(u8::from((row * 5 + column * 3) % 7 < 3))
}

/// The callback that fills rows.
pub unsafe extern "C" fn fill_row(
    _: *mut c_void,
    row: usize,
    out: *mut f32,
    columns: usize,
) -> i32 {
    for (column, out) in
        unsafe { std::slice::from_raw_parts_mut(out, columns) }.iter_mut().enumerate()
    {
        *out = datum(row, column);
    }
    0
}

/// A model with two hidden layers of different widths.
pub fn model(features: usize, latent: usize, conditions: usize) -> *mut elbo_model {
    unsafe {
        let mut config = std::mem::zeroed::<elbo_config>();
        assert_eq!(elbo_config_init(&mut config, features, latent), elbo_status::ELBO_OK);
        let layers = [20, 9];
        (config.encoder, config.encoder_layers) = (layers.as_ptr(), 2);
        config.conditions = conditions;
        let mut model = null_mut();
        assert_eq!(elbo_model_new(&mut model, &config, 1), elbo_status::ELBO_OK, "{}", message());
        model
    }
}
