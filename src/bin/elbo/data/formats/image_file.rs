//! Reader of one PNG or JPEG file.
//!
//! The decoders fill the missing part of a file that ends early with gray, so a file is first checked to be
//! complete: a JPEG must reach its end-of-image marker and hold every block ([`jpeg_data`]), and a PNG must reach its
//! IEND chunk, with the right checksums. Bytes after the image are ignored. Sources: ITU-T T.81, annex B; PNG
//! Specification (Third Edition), section 5.

use super::{file, jpeg_data};
use crate::failure::{Failure, Result};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb};
use image::{ImageBuffer, RgbImage};
use std::ffi::OsStr;
use std::io::{Cursor, Read};
use std::path::Path;

/// Suffixes of files that are read.
const SUFFIXES: [&str; 5] = ["png", "jpg", "jpeg", "jpe", "jfif"];

/// Suffixes of images that are not read.
const OTHER_SUFFIXES: [&str; 42] = [
    "apng", "arw", "avif", "bmp", "cr2", "cr3", "dcm", "dds", "dib", "dng", "eps", "exr", "ff",
    "gif", "hdr", "heic", "heif", "ico", "j2k", "jp2", "jpf", "jpx", "jxl", "nef", "orf", "pam",
    "pbm", "pcx", "pfm", "pgm", "pnm", "ppm", "psd", "qoi", "raf", "rw2", "svg", "tga", "tif",
    "tiff", "webp", "xcf",
];

/// First bytes of formats that `image` does not recognize, with their offset.
const OTHER_STARTS: [(usize, &[u8], &str); 6] = [
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"jP  \r\n", "JPEG 2000"),
    (4, b"JXL \r\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
];

/// Most bytes of pixels that one byte of a file can stand for: 1,032 bytes of a deflate stream, each with 8
/// pixels of a palette. A JPEG stays far below.
const EXPANSION: u64 = 1032 * 24;

/// Number of bytes from which [`other_format`] recognizes a format.
const START: u64 = 16;

/// Returns true if the name of a file is that of an image.
pub fn is_image(path: &Path) -> bool {
    has_suffix(path, &SUFFIXES)
}

/// Returns true if a file is a PNG or JPEG image, by its name or else by its first bytes.
pub fn is_readable(path: &Path) -> bool {
    is_image(path)
        || matches!(image::guess_format(&start(path)), Ok(ImageFormat::Png | ImageFormat::Jpeg))
}

/// Returns true if a file is an image of a format that is not read, by its name or its first bytes.
pub fn is_unreadable(path: &Path) -> bool {
    let start = start(path);
    has_suffix(path, &OTHER_SUFFIXES) || (!file::is_text(&start) && other_format(&start).is_some())
}

fn has_suffix(path: &Path, suffixes: &[&str]) -> bool {
    let suffix = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    suffixes.iter().any(|known| suffix.eq_ignore_ascii_case(known))
}

/// The first bytes of a file; none if it cannot be read.
fn start(path: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    if path.is_file()
        && let Ok(file) = file::open(path)
    {
        // A file that cannot be read is not known to be an image.
        let _ = file.take(START).read_to_end(&mut start);
    }
    start
}

/// Name of the image format, other than PNG and JPEG, that a file starting with these bytes has.
pub fn other_format(start: &[u8]) -> Option<String> {
    let known = |(at, magic, _): &&(usize, &[u8], &str)| {
        start.get(*at..).is_some_and(|rest| rest.starts_with(magic))
    };
    if let Some((_, _, name)) = OTHER_STARTS.iter().find(known) {
        return Some((*name).to_owned());
    }
    let format = image::guess_format(start).ok()?;
    match format {
        ImageFormat::Png | ImageFormat::Jpeg => None,
        ImageFormat::WebP => Some("WebP".to_owned()),
        ImageFormat::Pnm => Some("PNM".to_owned()),
        other => Some(other.extensions_str().first()?.to_uppercase()),
    }
}

/// Reads an image: rotated by its EXIF orientation, blended with white where it is transparent, and with 8 or 16
/// bits per channel, as in the file.
pub fn read(path: &Path) -> Result<DynamicImage> {
    let mut bytes = Vec::new();
    file::open(path)?
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::cannot_read(&path.display(), &error))?;
    decode(&bytes).map_err(|reason| Failure::Run(format!("{}: {reason}", path.display())))
}

/// Decodes a file as [`read`] does.
pub fn decode(bytes: &[u8]) -> std::result::Result<DynamicImage, String> {
    if let Some(format) = other_format(bytes) {
        return Err(format!("{format} images are not supported; convert it to PNG or JPEG"));
    }
    let damaged = |reason: &str| format!("damaged image: {reason}");
    let format =
        image::guess_format(bytes).map_err(|_| damaged("the file is neither PNG nor JPEG"))?;
    if format == ImageFormat::Png {
        check_png(bytes).map_err(damaged)?;
    } else if !is_complete_jpeg(bytes) {
        return Err(damaged("the file ends before its end-of-image marker"));
    }
    let explain = |error| match error {
        ImageError::Unsupported(error) => format!("{error}; convert it to a common PNG or JPEG"),
        error => damaged(&error.to_string()),
    };
    let mut decoder =
        ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(explain)?;
    let (claimed, (width, height)) = (decoder.total_bytes(), decoder.dimensions());
    // The decoders allocate what the header claims.
    if claimed > EXPANSION.saturating_mul(bytes.len() as u64) {
        let size = bytes.len();
        return Err(damaged(&format!(
            "its header claims {width}×{height} pixels, more than a file of {size} bytes can hold"
        )));
    }
    Limits::default().reserve(claimed).map_err(explain)?;
    let orientation = decoder.orientation().map_err(explain)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(explain)?;
    if format == ImageFormat::Jpeg && !jpeg_data::holds_all_blocks(bytes) {
        return Err(damaged("its coded data end early"));
    }
    image.apply_orientation(orientation);
    Ok(on_white(image))
}

/// Returns true if a JPEG file reaches its end-of-image marker. Segments are skipped by their length, because
/// an embedded thumbnail has such a marker, too.
fn is_complete_jpeg(bytes: &[u8]) -> bool {
    // After the start-of-image marker.
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let Some(at) = rest.iter().position(|&byte| byte == 0xff) {
        rest = &rest[at + 1..];
        let Some(&marker) = rest.first() else { return false };
        match marker {
            0xd9 => return true,
            // A fill byte.
            0xff => continue,
            // A stuffed byte of coded data, TEM, a restart, or a start: markers without a segment.
            0x00 | 0x01 | 0xd0..=0xd8 => rest = &rest[1..],
            _ => {
                let &[_, high, low, ..] = rest else { return false };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(after) = rest.get(1 + length..) else { return false };
                rest = after;
            }
        }
    }
    false
}

/// Checks that a PNG file reaches its IEND chunk, and the checksums of its critical chunks.
fn check_png(bytes: &[u8]) -> std::result::Result<(), &'static str> {
    const ENDS: &str = "the file ends before its IEND chunk";
    let mut rest = bytes.get(8..).ok_or(ENDS)?;
    loop {
        let (length, chunk) = rest.split_first_chunk().ok_or(ENDS)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (named, after) =
            length.checked_add(4).and_then(|length| chunk.split_at_checked(length)).ok_or(ENDS)?;
        let (checksum, after) = after.split_first_chunk().ok_or(ENDS)?;
        // A capital letter marks a chunk without which the image cannot be read.
        if named[0].is_ascii_uppercase() {
            let mut crc = flate2::Crc::new();
            crc.update(named);
            if crc.sum() != u32::from_be_bytes(*checksum) {
                return Err("the checksum of a chunk is wrong");
            }
        }
        if named.starts_with(b"IEND") {
            return Ok(());
        }
        rest = after;
    }
}

/// Returns true if an image has more than 8 bits per channel.
pub fn is_deep(image: &DynamicImage) -> bool {
    let color = image.color();
    color.bytes_per_pixel() > color.channel_count()
}

/// Blends an image with a white background; fully transparent pixels may have any color in the file.
fn on_white(image: DynamicImage) -> DynamicImage {
    if !image.color().has_alpha() {
        return image;
    }
    // Rounded to the nearest level.
    let over = |color: u64, alpha: u64, white: u64| {
        (color * alpha + white * (white - alpha) + white / 2) / white
    };
    if is_deep(&image) {
        let image = image.into_rgba16();
        return ImageBuffer::from_fn(image.width(), image.height(), |x, y| {
            let [red, green, blue, alpha] = image.get_pixel(x, y).0.map(u64::from);
            Rgb([red, green, blue].map(|color| over(color, alpha, 65_535) as u16))
        })
        .into();
    }
    let image = image.into_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0.map(u64::from);
        Rgb([red, green, blue].map(|color| over(color, alpha, 255) as u8))
    })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, LumaA, Rgba};

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn noise() -> RgbImage {
        RgbImage::from_fn(40, 24, |x, y| Rgb([(x * 6) as u8, (y * 10) as u8, (x * y) as u8]))
    }

    /// A thumbnail in an APP1 segment, with an end-of-image marker of its own.
    fn with_thumbnail(jpeg: &[u8]) -> Vec<u8> {
        let mut segment = vec![0xff, 0xe1];
        segment.extend((jpeg.len() as u16 + 2).to_be_bytes());
        segment.extend(jpeg);
        let mut file = jpeg.to_vec();
        file.splice(2..2, segment);
        file
    }

    #[test]
    fn rejects_a_jpeg_that_ends_early_at_any_byte() {
        let whole = encoded(noise(), ImageFormat::Jpeg);
        for whole in [with_thumbnail(&whole), whole] {
            decode(&whole).unwrap();
            decode(&[&whole[..], b"trailing"].concat()).unwrap();
            for end in 3..whole.len() {
                let message = decode(&whole[..end]).unwrap_err();
                assert_eq!(
                    message, "damaged image: the file ends before its end-of-image marker",
                    "{end}"
                );
            }
        }
    }

    #[test]
    fn finds_the_end_of_any_kind_of_jpeg() {
        // Fill bytes, a restart marker, stuffed bytes, a second scan, and an unknown byte between segments.
        let scans =
            b"\xff\xd8\xff\xc2\x00\x04ab\xff\xda\x00\x03a12\xff\x00\xff\xd0\xff\xff\xff\xd9";
        let scans = [&scans[..scans.len() - 4], b"\xff\xda\x00\x0334\xff\xff\xd9"].concat();
        assert!(is_complete_jpeg(&scans));
        for end in 0..scans.len() {
            assert!(!is_complete_jpeg(&scans[..end]), "{end}");
        }
    }

    #[test]
    fn rejects_a_png_that_ends_early_at_any_byte_or_has_a_wrong_byte() {
        let whole = encoded(noise(), ImageFormat::Png);
        decode(&[&whole[..], b"trailing"].concat()).unwrap();
        for end in 8..whole.len() {
            let message = decode(&whole[..end]).unwrap_err();
            assert!(message.starts_with("damaged image: "), "{end}: {message}");
        }
        for place in 8..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x10;
            assert!(decode(&damaged).is_err(), "{place}");
        }
    }

    #[test]
    fn rejects_cut_data_with_a_valid_end() {
        let jpeg = encoded(noise(), ImageFormat::Jpeg);
        let scan = jpeg.windows(2).position(|marker| marker == [0xff, 0xda]).unwrap();
        for end in scan + 14..jpeg.len() - 2 {
            let message = decode(&[&jpeg[..end], b"\xff\xd9"].concat()).unwrap_err();
            assert_eq!(message, "damaged image: its coded data end early", "{end}");
        }
        // Fewer bytes of the one IDAT chunk, with the right length and checksum.
        let png = encoded(noise(), ImageFormat::Png);
        let at = png.windows(4).position(|name| name == b"IDAT").unwrap();
        let length = u32::from_be_bytes(png[at - 4..at].try_into().unwrap()) as usize;
        let (data, end) = (&png[at..at + 4 + length], &png[at + 8 + length..]);
        let with = |data: &[u8]| {
            let mut crc = flate2::Crc::new();
            crc.update(data);
            let length = (data.len() as u32 - 4).to_be_bytes();
            [&png[..at - 4], &length, data, &crc.sum().to_be_bytes(), end].concat()
        };
        assert_eq!(with(data), png);
        for kept in 4..data.len() - 4 {
            match decode(&with(&data[..kept])) {
                Err(message) => assert!(message.starts_with("damaged image: "), "{message}"),
                // Only the checksum after the pixels may be missing.
                Ok(read) => assert!(read == noise().into() && kept + 8 > data.len(), "{kept}"),
            }
        }
    }

    #[test]
    fn rejects_more_pixels_than_the_file_can_hold() {
        let mut png = encoded(noise(), ImageFormat::Png);
        png.splice(16..24, [12_000_u32.to_be_bytes(); 2].concat());
        let mut crc = flate2::Crc::new();
        crc.update(&png[12..29]);
        png.splice(29..33, crc.sum().to_be_bytes());
        let mut jpeg = encoded(noise(), ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        jpeg.splice(frame + 5..frame + 9, [12_000_u16.to_be_bytes(); 2].concat());
        for file in [png, jpeg] {
            let message = decode(&file).unwrap_err();
            let expected =
                "damaged image: its header claims 12000×12000 pixels, more than a file of ";
            assert!(message.starts_with(expected), "{message}");
        }
        // An image of one color is small, and valid.
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let plain = GrayImage::from_pixel(3000, 2000, Luma([255]));
            assert_eq!(decode(&encoded(plain, format)).unwrap().width(), 3000);
        }
    }

    #[test]
    fn keeps_16_bits_and_blends_them_with_white() {
        let gray: ImageBuffer<Luma<u16>, _> =
            ImageBuffer::from_fn(2, 1, |x, _| Luma([1000 + x as u16]));
        let read = decode(&encoded(gray, ImageFormat::Png)).unwrap();
        assert!(is_deep(&read));
        assert_eq!(read.into_luma16().into_raw(), [1000, 1001]);
        let gray: ImageBuffer<LumaA<u16>, _> =
            ImageBuffer::from_fn(2, 1, |x, _| LumaA([1000, [65_535, 32_768][x as usize]]));
        let read = decode(&encoded(gray, ImageFormat::Png)).unwrap();
        // (1000 · 32768 + 65535 · 32767) / 65535 = 33267.008
        assert_eq!(read.into_luma16().into_raw(), [1000, 33_267]);
        let color: ImageBuffer<Rgba<u16>, _> =
            ImageBuffer::from_fn(1, 1, |_, _| Rgba([1, 258, 65_535, 65_535]));
        let read = decode(&encoded(color, ImageFormat::Png)).unwrap();
        assert_eq!(read.into_rgb16().into_raw(), [1, 258, 65_535]);
        assert!(!is_deep(&decode(&encoded(noise(), ImageFormat::Png)).unwrap()));
    }

    #[test]
    fn blends_transparent_pixels_with_white() {
        let pixels = [[10, 20, 30, 255], [200, 0, 0, 0], [0, 255, 0, 51]];
        let colors = image::RgbaImage::from_fn(3, 1, |x, _| Rgba(pixels[x as usize]));
        let read = decode(&encoded(colors, ImageFormat::Png)).unwrap();
        assert_eq!(read.into_rgb8().into_raw(), [10, 20, 30, 255, 255, 255, 204, 255, 204]);
        let grays = [[7, 255], [7, 0], [5, 51]];
        let gray = image::GrayAlphaImage::from_fn(3, 1, |x, _| LumaA(grays[x as usize]));
        let read = decode(&encoded(gray, ImageFormat::Png)).unwrap();
        assert_eq!(read.into_luma8().into_raw(), [7, 255, 205]);
    }

    #[test]
    fn rotates_by_exif_orientation() {
        let image = GrayImage::from_fn(32, 16, |x, _| Luma([if x < 16 { 20 } else { 230 }]));
        let mut file = encoded(image, ImageFormat::Jpeg);
        // A single field: orientation (0x112) 6, a quarter turn clockwise.
        let exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        file.splice(2..2, exif.iter().copied());
        let read = decode(&file).unwrap().into_luma8();
        assert_eq!(read.dimensions(), (16, 32));
        let [top, bottom] = [(15, 0), (0, 31)].map(|(x, y)| read.get_pixel(x, y).0[0]);
        assert!(top < 60 && bottom > 190, "{top} {bottom}");
    }

    #[test]
    fn names_formats_that_are_not_read() {
        for (start, name) in [
            (&b"RIFF\x24\0\0\0WEBPVP8 "[..], Some("WebP")),
            (b"GIF89a", Some("GIF")),
            (b"\0\0\0\x18ftypheic", Some("HEIC")),
            (b"\0\0\0\x0cjP  \r\n\x87\n", Some("JPEG 2000")),
            (b"II*\0", Some("TIFF")),
            (b"\x89PNG\r\n\x1a\n", None),
            (b"\xff\xd8\xff\xe0", None),
            (b"text", None),
        ] {
            assert_eq!(other_format(start).as_deref(), name);
        }
        assert_eq!(
            decode(b"GIF89a").unwrap_err(),
            "GIF images are not supported; convert it to PNG or JPEG"
        );
        assert_eq!(decode(b"text").unwrap_err(), "damaged image: the file is neither PNG nor JPEG");
    }
}
