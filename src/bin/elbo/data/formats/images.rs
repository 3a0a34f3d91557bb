//! Reader of a directory of images as rows of bytes.
//!
//! The images of the directory itself, sorted by name; or, if it has subdirectories, the images of each
//! subdirectory in turn, whose name is their class. Images are rotated by their EXIF orientation, and
//! transparent pixels are blended with white.

use super::file;
use super::image_shape::ImageShape;
use crate::failure::{Failure, Result};
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, Rgb, RgbImage};
use ndarray::Array2;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Accepted contents of a directory, for messages.
const EXPECTED: &str = "expected .png or .jpg images, or one directory of them per class";

/// Options for reading images.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageOptions {
    /// Width and height in pixels to which images of any other size are resized.
    pub size: Option<[u32; 2]>,
    /// Reads red, green and blue instead of gray.
    pub rgb: bool,
}

/// Images as rows.
#[derive(Debug)]
pub struct Images {
    /// One image per row; the channels of a pixel are adjacent.
    pub rows: Array2<u8>,
    pub shape: ImageShape,
    /// Class of each image, if they are in one directory per class.
    pub classes: Option<Vec<String>>,
}

/// Reads a directory of images.
pub fn read_directory(directory: &Path, options: ImageOptions) -> Result<Images> {
    let (direct, directories) = contents(directory)?;
    let mut inner = Vec::new();
    for path in directories {
        inner.extend(contents(&path)?.0.into_iter().map(|image| (class(&path), image)));
    }
    match (direct.is_empty(), inner.is_empty()) {
        (true, true) => Err(wrong(directory, &format!("no images found; {EXPECTED}"))),
        (false, false) => Err(wrong(
            directory,
            &format!(
                "some images are in subdirectories and some are not, such as {1} and {0}; {EXPECTED}",
                direct[0].display(),
                inner[0].1.display()
            ),
        )),
        (false, true) => read(&direct, None, options),
        (true, false) => {
            let (classes, images): (Vec<_>, Vec<_>) = inner.into_iter().unzip();
            read(&images, Some(classes), options)
        }
    }
}

/// Reads a single image.
pub fn read_one(path: &Path, options: ImageOptions) -> Result<Images> {
    read(&[path.to_owned()], None, options)
}

fn class(directory: &Path) -> String {
    directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Lists the images and the subdirectories of a directory, sorted by name; hidden entries are left out.
fn contents(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let cannot = |error: std::io::Error| Failure::cannot_read(&directory.display(), &error);
    let (mut images, mut directories) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        if path.is_dir() {
            directories.push(path);
        } else if is_image(&path) {
            images.push(path);
        }
    }
    images.sort();
    directories.sort();
    Ok((images, directories))
}

/// Returns true if the name of a file is that of an image.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn read(paths: &[PathBuf], classes: Option<Vec<String>>, options: ImageOptions) -> Result<Images> {
    let channels = if options.rgb { 3 } else { 1 };
    let mut bytes = Vec::new();
    let mut size = options.size;
    for path in paths {
        let mut image = open(path)?;
        let found = [image.width(), image.height()];
        let [width, height] = *size.get_or_insert(found);
        if found != [width, height] {
            if options.size.is_none() {
                return Err(wrong(
                    path,
                    &format!(
                        "the image is {}x{} pixels (width x height), but {} is {width}x{height}; resize all \
                         images with --size {width}x{height}",
                        found[0],
                        found[1],
                        paths[0].display()
                    ),
                ));
            }
            image = image.resize_exact(width, height, FilterType::Triangle);
        }
        if options.rgb {
            bytes.extend(image.into_rgb8().into_raw());
        } else {
            bytes.extend(image.into_luma8().into_raw());
        }
    }
    let [width, height] = size.unwrap_or_default().map(|n| n as usize);
    let shape = ImageShape { height, width, channels };
    let rows = Array2::from_shape_vec([paths.len(), height * width * channels], bytes)
        .expect("images of one size");
    Ok(Images { rows, shape, classes })
}

fn open(path: &Path) -> Result<DynamicImage> {
    let file = file::open(path)?;
    let reader = ImageReader::new(std::io::BufReader::new(file)).with_guessed_format();
    let reader = reader.map_err(|error| Failure::cannot_read(&path.display(), &error))?;
    let decode = || {
        let mut decoder = reader.into_decoder()?;
        Limits::default().reserve(decoder.total_bytes())?;
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        Ok(on_white(image))
    };
    decode().map_err(|error: image::ImageError| wrong(path, &format!("damaged image: {error}")))
}

/// Blends an image with a white background; fully transparent pixels may have any color in the file.
fn on_white(image: DynamicImage) -> DynamicImage {
    if !image.color().has_alpha() {
        return image;
    }
    let image = image.into_rgba8();
    let over = |color: u8, alpha: u32| {
        ((u32::from(color) * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0;
        Rgb([red, green, blue].map(|color| over(color, alpha.into())))
    })
    .into()
}

fn wrong(path: &Path, reason: &str) -> Failure {
    Failure::Run(format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use image::{GrayImage, Luma, LumaA, Rgba};

    fn save(scratch: &Scratch, name: &str, size: [u32; 2], color: [u8; 3]) {
        let path = scratch.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(size[0], size[1], Rgb(color)).save(path).unwrap();
    }

    fn try_read(scratch: &Scratch, options: ImageOptions) -> std::result::Result<Images, String> {
        read_directory(&scratch.0, options).map_err(|failure| failure.to_string())
    }

    #[test]
    fn reads_images_in_the_order_of_their_names() {
        let scratch = Scratch::new("images-order");
        save(&scratch, "b.png", [3, 2], [255, 255, 255]);
        save(&scratch, "a.PNG", [3, 2], [0, 0, 0]);
        save(&scratch, "c.jpg", [3, 2], [200, 100, 50]);
        fs::write(scratch.0.join("notes.txt"), "no image").unwrap();
        fs::write(scratch.0.join(".hidden.png"), "no image").unwrap();
        let gray = try_read(&scratch, ImageOptions::default()).unwrap();
        assert_eq!(gray.shape, ImageShape { height: 2, width: 3, channels: 1 });
        assert_eq!(gray.rows.dim(), (3, 6));
        assert_eq!((gray.rows[[0, 0]], gray.rows[[1, 5]]), (0, 255));
        assert!(gray.classes.is_none());
        let rgb =
            try_read(&scratch, ImageOptions { rgb: true, ..ImageOptions::default() }).unwrap();
        assert_eq!((rgb.rows.dim(), rgb.shape.channels), ((3, 18), 3));
        let off = rgb
            .rows
            .row(2)
            .into_iter()
            .zip([200_i16, 100, 50])
            .map(|(&a, b)| (i16::from(a) - b).abs());
        assert!(off.max().unwrap() < 10, "{}", rgb.rows.row(2));
    }

    #[test]
    fn subdirectories_are_classes() {
        let scratch = Scratch::new("images-classes");
        for (name, gray) in [("sun/2.png", 9), ("moon/1.png", 7), ("sun/1.png", 8)] {
            save(&scratch, name, [2, 2], [gray; 3]);
        }
        let images = try_read(&scratch, ImageOptions::default()).unwrap();
        assert_eq!(images.classes.unwrap(), ["moon", "sun", "sun"]);
        assert_eq!(images.rows.column(0).to_vec(), [7, 8, 9]);
        save(&scratch, "stray.png", [2, 2], [0; 3]);
        let message = try_read(&scratch, ImageOptions::default()).unwrap_err();
        assert!(
            message.contains("some images are in subdirectories and some are not"),
            "{message}"
        );
    }

    #[test]
    fn resizes_or_rejects_other_sizes() {
        let scratch = Scratch::new("images-sizes");
        save(&scratch, "a.png", [4, 2], [100; 3]);
        save(&scratch, "b.png", [8, 8], [50; 3]);
        let message = try_read(&scratch, ImageOptions::default()).unwrap_err();
        assert!(
            message.contains("b.png: the image is 8x8 pixels") && message.contains("--size 4x2"),
            "{message}"
        );
        let images = try_read(&scratch, ImageOptions { size: Some([6, 3]), rgb: false }).unwrap();
        assert_eq!(images.shape, ImageShape { height: 3, width: 6, channels: 1 });
        assert!(images.rows.row(0).iter().all(|&gray| gray == 100));
        assert!(images.rows.row(1).iter().all(|&gray| gray == 50));
    }

    #[test]
    fn blends_transparent_pixels_with_white() {
        let scratch = Scratch::new("images-transparent");
        let pixels = [[10, 20, 30, 255], [200, 0, 0, 0], [0, 255, 0, 51]];
        let colors = image::RgbaImage::from_fn(3, 1, |x, _| Rgba(pixels[x as usize]));
        colors.save(scratch.0.join("a.png")).unwrap();
        let grays = [[7, 255], [7, 0], [5, 51]];
        let gray = image::GrayAlphaImage::from_fn(3, 1, |x, _| LumaA(grays[x as usize]));
        gray.save(scratch.0.join("b.png")).unwrap();
        let images =
            try_read(&scratch, ImageOptions { rgb: true, ..ImageOptions::default() }).unwrap();
        assert_eq!(images.rows.row(0).to_vec(), [10, 20, 30, 255, 255, 255, 204, 255, 204]);
        let images = try_read(&scratch, ImageOptions::default()).unwrap();
        assert_eq!(images.rows.row(1).to_vec(), [7, 255, 205]);
    }

    #[test]
    fn rotates_by_exif_orientation() {
        let scratch = Scratch::new("images-turned");
        let path = scratch.0.join("a.jpg");
        GrayImage::from_fn(32, 16, |x, _| Luma([if x < 16 { 20 } else { 230 }]))
            .save(&path)
            .unwrap();
        let mut file = fs::read(&path).unwrap();
        // A single field: orientation (0x112) 6, a quarter turn clockwise.
        let exif = b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        file.splice(2..2, exif.iter().copied());
        fs::write(&path, file).unwrap();
        let images = try_read(&scratch, ImageOptions::default()).unwrap();
        assert_eq!(images.shape, ImageShape { height: 32, width: 16, channels: 1 });
        let (top, bottom) = (images.rows[[0, 15]], images.rows[[0, 31 * 16]]);
        assert!(top < 60 && bottom > 190, "{top} {bottom}");
    }

    #[test]
    fn names_the_damaged_file() {
        let scratch = Scratch::new("images-damage");
        assert!(
            try_read(&scratch, ImageOptions::default())
                .unwrap_err()
                .contains("no images found; expected .png")
        );
        save(&scratch, "a.png", [40, 20], [100; 3]);
        let whole = fs::read(scratch.0.join("a.png")).unwrap();
        fs::write(scratch.0.join("b.png"), &whole[..whole.len() / 2]).unwrap();
        let message = try_read(&scratch, ImageOptions::default()).unwrap_err();
        assert!(message.contains("b.png: damaged image"), "{message}");
        fs::write(scratch.0.join("b.png"), "text").unwrap();
        assert!(
            try_read(&scratch, ImageOptions::default())
                .unwrap_err()
                .contains("b.png: damaged image")
        );
    }
}
