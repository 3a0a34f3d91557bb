//! Helpers shared by the fuzz targets: numbers from the fuzzer's bytes, comparison of bits, and a
//! measurement of allocated memory.

use elbo::{Compute, Error, simd::InstructionSet};
use ndarray::Array2;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Configurations to test a kernel with: every instruction set on the calling thread, then the
/// widest on two threads.
pub static COMPUTES: LazyLock<Vec<Compute>> = LazyLock::new(|| {
    let serial = InstructionSet::available().into_iter().map(|simd| (simd, 1));
    serial
        .chain([(InstructionSet::detect(), 2)])
        .map(|(simd, threads)| Compute::new(simd, threads).expect("two threads"))
        .collect()
});

/// Fuzzer input, read as sizes and numbers.
///
/// After the last byte, a generator seeded by all bytes continues the stream. So a few bytes are
/// enough for a large matrix: the fuzzer controls shapes and kinds, and single numbers where the
/// input is long enough.
pub struct Input<'a> {
    bytes: &'a [u8],
    state: u64,
}

/// Distribution of the numbers of a matrix.
#[derive(Clone, Copy)]
enum Kind {
    /// Multiples of 1/16 from −8 to 8.
    Sixteenths,
    /// Numbers from −1 to 1 that use the full precision of f32.
    Unit,
    /// `Unit` times 2⁻¹³⁵, which is subnormal.
    Subnormal,
    /// Arbitrary bit patterns.
    Bits,
    /// Mostly `Unit`, with some zeros, infinities, extreme values and arbitrary bit patterns.
    Mixed,
}

const SPECIAL: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    88.75,
    -104.0,
    1.9e19,
    0.5,
];

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        // FNV-1a.
        let state = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { bytes, state }
    }

    pub fn byte(&mut self) -> u8 {
        if let Some((&first, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            return first;
        }
        // Knuth's linear congruential generator.
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 56) as u8
    }

    /// Returns a size from 0 to `max`, which is at most 255.
    pub fn size(&mut self, max: usize) -> usize {
        usize::from(self.byte()) % (max + 1)
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Returns a number with an arbitrary bit pattern.
    pub fn bits(&mut self) -> f32 {
        f32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn unit(&mut self) -> f32 {
        let word = i32::from_le_bytes([0, self.byte(), self.byte(), self.byte()]) >> 8;
        word as f32 / 8_388_608.0
    }

    fn number(&mut self, kind: Kind) -> f32 {
        match kind {
            Kind::Sixteenths => f32::from(self.byte() as i8) / 16.0,
            Kind::Unit => self.unit(),
            Kind::Subnormal => self.unit() * 2.0_f32.powi(-120) * 2.0_f32.powi(-15),
            Kind::Bits => self.bits(),
            Kind::Mixed => match self.byte() {
                0..224 => self.unit(),
                224..248 => SPECIAL[self.size(SPECIAL.len() - 1)],
                248.. => self.bits(),
            },
        }
    }

    /// Returns a matrix of numbers with a distribution that the input selects.
    pub fn matrix(&mut self, rows: usize, columns: usize) -> Array2<f32> {
        let kind = match self.byte() % 8 {
            0 | 1 => Kind::Sixteenths,
            2 | 3 => Kind::Unit,
            4 => Kind::Subnormal,
            5 => Kind::Bits,
            _ => Kind::Mixed,
        };
        Array2::from_shape_simple_fn((rows, columns), || self.number(kind))
    }

    /// Returns a matrix of numbers from 0 to 1. If the input selects it, some of them may be
    /// arbitrary instead.
    pub fn targets(&mut self, rows: usize, columns: usize) -> Array2<f32> {
        let wild = self.byte() < 48;
        Array2::from_shape_simple_fn((rows, columns), || match self.byte() {
            253.. if wild => self.number(Kind::Mixed),
            0..=7 => -0.0,
            8..=15 => f32::from_bits(u32::from(self.byte())),
            byte => f32::from(byte - 15) / 240.0,
        })
    }
}

/// Returns true if both numbers have the same bits or both are NaN, whose payload depends on the
/// processor.
pub fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Asserts that two matrices hold the same bits.
pub fn assert_same(found: &Array2<f32>, expected: &Array2<f32>, what: &str, compute: &Compute) {
    assert_eq!(found.dim(), expected.dim(), "{what}");
    for ((at, &f), &e) in found.indexed_iter().zip(expected) {
        assert!(same(f, e), "{what}{at:?}: found {f:e}, expected {e:e} ({compute:?})");
    }
}

/// Returns the CRC-32 of zip and PNG, bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

/// Returns an error of a loss in words: the setting, or the kind of fault with its row and column.
pub fn word(error: &Error) -> String {
    match error {
        Error::Config { setting, .. } => (*setting).to_owned(),
        Error::Shape { .. } => "shape".to_owned(),
        Error::TargetOutOfRange { row, column, .. } => format!("range {row} {column}"),
        Error::NotFiniteData { row, column, .. } => format!("finite {row} {column}"),
        other => panic!("{other}"),
    }
}

/// System allocator that counts the allocated bytes and their peak.
pub struct Meter;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(size: usize) {
    let live = LIVE.fetch_add(size, Relaxed) + size;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: every call is forwarded to `System` unchanged; the counters do not touch the caller's memory.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller upholds the contract of `System::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller upholds the contract of `System::dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller upholds the contract of `System::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        grow(new_size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller upholds the contract of `System::realloc`.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

/// Runs `work` and returns its result and the peak number of bytes allocated during the call, beyond
/// those allocated before.
///
/// Counts the whole process, so it suits single-threaded targets whose global allocator is [`Meter`].
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = work();
    (result, PEAK.load(Relaxed) - before)
}
