//! Images: precision, damage, and images that are not read.

use crate::scratch::{SHORT, Scratch, last_line};
use image::{GrayImage, ImageBuffer, Luma};
use std::fs;

fn save(scratch: &Scratch, name: &str, gray: u8) {
    let path = scratch.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    GrayImage::from_fn(9, 7, |x, y| Luma([gray + (x * y) as u8])).save(path).unwrap();
}

#[test]
fn images_of_16_bits_keep_them() {
    let scratch = Scratch::new("deep-images");
    fs::create_dir(scratch.path("s")).unwrap();
    for (name, words) in [("a", [1000_u16, 1100]), ("b", [60_000, 30_000])] {
        let image: ImageBuffer<Luma<u16>, _> =
            ImageBuffer::from_fn(2, 1, |x, _| Luma([words[x as usize]]));
        image.save(scratch.path(&format!("s/{name}.png"))).unwrap();
    }
    for rgb in ["", " --rgb"] {
        scratch.succeeds(&format!(
            "train --data s --validation s --scale standardize --likelihood gaussian{rgb} {SHORT} --out m"
        ));
        let report = last_line(&scratch.succeeds("inspect m/model.safetensors --json"));
        let mean = report["data"]["scaling"]["standardise"]["mean"].as_array().unwrap();
        let channels = if rgb.is_empty() { 1 } else { 3 };
        assert_eq!(mean.len(), 2 * channels);
        // (1000 + 60000) / 2 / 65535 and (1100 + 30000) / 2 / 65535.
        for (feature, expected) in [(0, 0.465_400), (channels, 0.237_278)] {
            let found = mean[feature].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        fs::remove_dir_all(scratch.path("m")).unwrap();
    }
}

#[test]
fn pixels_of_12_bits_are_read_by_their_white() {
    let scratch = Scratch::new("12-bits");
    fs::create_dir(scratch.path("s")).unwrap();
    let image: ImageBuffer<Luma<u16>, _> =
        ImageBuffer::from_fn(3, 2, |x, y| Luma([4095 - 819 * (x + 3 * y) as u16]));
    for name in ["a", "b"] {
        image.save(scratch.path(&format!("s/{name}.png"))).unwrap();
    }
    let train = format!("train --data s --validation s {SHORT}");
    let output = scratch.run(&format!("{train} --out dark"));
    let said = String::from_utf8(output.stderr).unwrap();
    let warning = "warning: s: the largest value is 4095 (of 65535), which is read as 0.062; to read 4095 as 1, use \
                   --white 4095\n";
    assert!(said.contains(warning), "{said}");
    let output = scratch.run(&format!("{train} --white 4095 --out m"));
    assert_eq!(String::from_utf8(output.stderr).unwrap().matches("largest value").count(), 0);
    let sheet = image::open(scratch.path("m/reconstructions.png")).unwrap().to_luma8();
    // The pixels of the upper row are 1, 0.8 and 0.6.
    let pixels = [0, 8, 16].map(|x| sheet.get_pixel(2 + x, 2).0[0]);
    assert_eq!(pixels, [255, 204, 153]);
}

#[test]
fn truncated_images_are_damaged_and_trailing_bytes_are_not() {
    let scratch = Scratch::new("cut-images");
    for (name, marker) in [("a.jpg", "end-of-image marker"), ("a.png", "IEND chunk")] {
        let directory = name.replace('.', "-");
        save(&scratch, &format!("{directory}/{name}"), 40);
        let whole = fs::read(scratch.path(&format!("{directory}/{name}"))).unwrap();
        let second = format!("{directory}/b.jpeg");
        let train = format!("train --data {directory} --validation {directory} {SHORT} --out m");
        for length in [whole.len() - 2, whole.len() / 2] {
            fs::write(scratch.path(&second), &whole[..length]).unwrap();
            let message = scratch.fails(1, &train);
            let expected = format!("{second}: damaged image: the file ends before its {marker}");
            assert_eq!(message, expected);
        }
        fs::write(scratch.path(&second), [&whole[..], b"more"].concat()).unwrap();
        scratch.succeeds(&train);
        fs::remove_dir_all(scratch.path("m")).unwrap();
    }
}

#[test]
fn names_images_and_classes_that_are_not_read() {
    let scratch = Scratch::new("unread-images");
    for name in ["q/1.png", "q/2.png", "p/a/1.png", "p/b/1.png"] {
        save(&scratch, name, 40);
    }
    fs::write(scratch.path("q/3.bmp"), "BM").unwrap();
    let output = scratch.run(&format!("train --data q --validation q {SHORT} --out m"));
    let warning = "warning: q: 1 image is not read because it is neither PNG nor JPEG: 3.bmp\n";
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.matches(warning).count(), 1, "{stderr}");
    let output = scratch.run("encode --model m/model.safetensors --data q --out -");
    assert!(String::from_utf8(output.stderr).unwrap().contains(warning));

    fs::create_dir(scratch.path("p/c")).unwrap();
    let train = format!("train --data p --validation p --conditional {SHORT} --out n");
    let message = scratch.fails(1, &train);
    assert_eq!(message, "p/c: the class directory has no images; add some or remove the directory");
    fs::write(scratch.path("p/c/1.webp"), "RIFF").unwrap();
    let message = scratch.fails(1, &train);
    assert!(message.starts_with("p/c: the class directory has no PNG or JPEG images, but 1.webp;"));
    fs::rename(scratch.path("p/c"), scratch.path("p/__MACOSX")).unwrap();
    scratch.succeeds(&train);
}
