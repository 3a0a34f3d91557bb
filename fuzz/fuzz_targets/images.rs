//! Reads PNG and JPEG files with the tool's reader: arbitrary bytes do not panic and take memory in proportion
//! to the file, and the pixels of an image from a writer of its own come back exactly.

#![no_main]

use elbo_fuzz::{Input, Meter, crc32, measured};
use libfuzzer_sys::fuzz_target;

#[path = "../../src/bin/elbo/failure.rs"]
#[allow(dead_code)]
mod failure;
#[path = "../../src/bin/elbo/data/formats/file.rs"]
#[allow(dead_code)]
mod file;
#[path = "../../src/bin/elbo/data/formats/gzip.rs"]
#[allow(dead_code)]
mod gzip;
#[path = "../../src/bin/elbo/data/formats/image_file.rs"]
#[allow(dead_code)]
mod image_file;
#[path = "../../src/bin/elbo/data/formats/jpeg_data.rs"]
mod jpeg_data;

#[global_allocator]
static METER: Meter = Meter;

/// Most bytes of pixels for a byte of a file: 1,032 of a deflate stream, each of 8 gray or palette pixels of
/// three bytes.
const EXPANSION: usize = 1032 * 24;

/// Reads arbitrary bytes.
fn anything(bytes: &[u8]) {
    let (read, peak) = measured(|| image_file::decode(bytes));
    // The pixels as they are in the file, blended or rotated, and the buffers of the decoder.
    let limit = 8 * EXPANSION * bytes.len() + (1 << 20);
    assert!(peak <= limit, "{peak} bytes for a file of {}", bytes.len());
    match read {
        Ok(image) => assert!(image.width() > 0 && image.height() > 0),
        Err(message) => assert!(!message.is_empty()),
    }
}

/// Appends a chunk to a PNG file.
fn chunk(file: &mut Vec<u8>, name: &[u8; 4], contents: &[u8]) {
    file.extend((contents.len() as u32).to_be_bytes());
    let named = [name, contents].concat();
    file.extend(&named);
    file.extend(crc32(&named).to_be_bytes());
}

/// A zlib stream of stored blocks.
fn stored(bytes: &[u8], block: usize) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let blocks = bytes.chunks(block);
    let last = blocks.len() - 1;
    for (i, block) in blocks.enumerate() {
        let length = block.len() as u16;
        stream.push(u8::from(i == last));
        stream.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
        stream.extend(block);
    }
    // Adler-32.
    let [mut a, mut b] = [1_u32, 0];
    for &byte in bytes {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

/// Writes an image and reads it back; then cuts it off and changes one bit.
fn written(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (width, height) = (1 + input.size(8), 1 + input.size(8));
    let deep = input.flag();
    // Color types 0, 2, 4 and 6 of the format.
    let (color, channels) = [(0, 1), (2, 3), (4, 2), (6, 4)][input.size(3)];
    let sample = if deep { 2 } else { 1 };
    let stride = width * channels * sample;
    let pixels: Vec<u8> = (0..height * stride).map(|_| input.byte()).collect();
    let mut filtered = Vec::new();
    for (y, row) in pixels.chunks(stride).enumerate() {
        let filter = input.size(2) as u8;
        filtered.push(filter);
        filtered.extend((0..stride).map(|i| {
            let left = i.checked_sub(channels * sample).map_or(0, |i| row[i]);
            let above = if y == 0 { 0 } else { pixels[(y - 1) * stride + i] };
            row[i].wrapping_sub([0, left, above][usize::from(filter)])
        }));
    }
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let size = [width as u32, height as u32].map(u32::to_be_bytes).concat();
    chunk(&mut file, b"IHDR", &[&size[..], &[8 * sample as u8, color, 0, 0, 0]].concat());
    let data = stored(&filtered, 1 + usize::from(input.byte()));
    // In two chunks, one of which may be empty.
    let (first, second) = data.split_at(usize::from(input.byte()) * data.len() / 255);
    chunk(&mut file, b"IDAT", first);
    chunk(&mut file, b"IDAT", second);
    chunk(&mut file, b"IEND", b"");

    let image = image_file::decode(&file).expect("a valid image");
    assert_eq!((image.width() as usize, image.height() as usize), (width, height));
    assert_eq!(image_file::is_deep(&image), deep);
    let found: Vec<u16> = if deep {
        image.to_rgb16().into_raw()
    } else {
        image.to_rgb8().into_raw().into_iter().map(u16::from).collect()
    };
    let samples: Vec<f64> = pixels
        .chunks(sample)
        .map(|bytes| bytes.iter().fold(0.0, |number, &byte| 256.0 * number + f64::from(byte)))
        .collect();
    let white = if deep { 65_535.0 } else { 255.0 };
    for (pixel, found) in samples.chunks(channels).zip(found.chunks(3)) {
        let (colors, alpha) = match *pixel {
            [gray] => ([gray; 3], white),
            [gray, alpha] => ([gray; 3], alpha),
            [red, green, blue] => ([red, green, blue], white),
            [red, green, blue, alpha] => ([red, green, blue], alpha),
            _ => unreachable!("one to four channels"),
        };
        for (color, &found) in colors.into_iter().zip(found) {
            let over = (color * alpha + white * (white - alpha)) / white;
            assert_eq!(f64::from(found), over.round(), "{pixel:?}");
        }
    }

    let end = usize::from(input.byte()) * file.len() / 256;
    assert!(image_file::decode(&file[..end]).is_err(), "cut off at {end}");
    let place = usize::from(input.byte()) * file.len() / 256;
    file[place] ^= 1 << input.size(7);
    // A chunk without pixels may become one that decoders skip.
    if let Ok(damaged) = image_file::decode(&file) {
        assert_eq!(damaged, image, "a wrong bit at {place}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    anything(bytes);
    written(bytes);
});
