//! The mark of a file that elbo wrote and nobody changed since: its name and a checksum of the rest of the file.
//!
//! Each format has a place for it: a text chunk of a PNG before its last chunk, a comment at the end of an SVG or
//! of a manual page, a metadata property at the end of an ONNX file. Tables and arrays have none.

use super::path::extension;
use std::path::Path;

/// A format with a place for a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkedFormat {
    Png,
    Svg,
    Onnx,
    ManualPage,
}

impl MarkedFormat {
    /// Returns the format of a file by the extension of its name.
    pub fn of(path: &Path) -> Option<Self> {
        match &extension(path)[..] {
            "png" => Some(Self::Png),
            "svg" => Some(Self::Svg),
            "onnx" => Some(Self::Onnx),
            "1" => Some(Self::ManualPage),
            _ => None,
        }
    }

    /// Adds the mark to a file of this format.
    pub fn mark(self, mut bytes: Vec<u8>) -> Vec<u8> {
        let at = bytes.len().saturating_sub(self.bytes_after());
        let mark = self.mark_of(&bytes[..at], &bytes[at..]);
        bytes.splice(at..at, mark);
        bytes
    }

    /// Returns true if a file has the mark, with the checksum of its other bytes.
    pub fn is_marked(self, bytes: &[u8]) -> bool {
        let length = self.mark_of(&[], &[]).len();
        let Some(at) = bytes.len().checked_sub(self.bytes_after() + length) else { return false };
        let (before, rest) = bytes.split_at(at);
        let (found, after) = rest.split_at(length);
        found == self.mark_of(before, after)
    }

    /// Number of bytes of a file after its mark.
    fn bytes_after(self) -> usize {
        // The IEND chunk: length, name, no data, checksum.
        if self == Self::Png { 12 } else { 0 }
    }

    /// The mark between two parts of a file, of the same length for all.
    fn mark_of(self, before: &[u8], after: &[u8]) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(before);
        crc.update(after);
        let sum = format!("{:08x}", crc.sum());
        match self {
            Self::Png => {
                let text = format!("tEXtSoftware\0elbo, CRC-32 of the other bytes {sum}");
                let mut crc = flate2::Crc::new();
                crc.update(text.as_bytes());
                let length = text.len() as u32 - 4;
                [&length.to_be_bytes()[..], text.as_bytes(), &crc.sum().to_be_bytes()].concat()
            }
            Self::Svg => format!("<!-- elbo, CRC-32 of the above {sum} -->\n").into_bytes(),
            // An entry of metadata_props (field 14): the key is field 1, the value field 2.
            Self::Onnx => [&b"\x72\x16\x0a\x0aelbo.crc32\x12\x08"[..], sum.as_bytes()].concat(),
            Self::ManualPage => format!(".\\\" elbo, CRC-32 of the above {sum}\n").into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::messages::{ModelProto, StringStringEntryProto};
    use image::{GrayImage, ImageFormat, Luma};
    use prost::Message;
    use std::io::Cursor;

    /// A file of each format.
    fn files() -> [(MarkedFormat, Vec<u8>); 4] {
        let mut png = Cursor::new(Vec::new());
        GrayImage::from_fn(9, 7, |x, y| Luma([(x * y) as u8]))
            .write_to(&mut png, ImageFormat::Png)
            .unwrap();
        let property = StringStringEntryProto { key: "model".into(), value: "3-2-3".into() };
        let onnx = ModelProto {
            ir_version: 7,
            producer_name: "elbo".into(),
            metadata_props: vec![property],
            ..ModelProto::default()
        };
        [
            (MarkedFormat::Png, png.into_inner()),
            (MarkedFormat::Svg, b"<svg width=\"1\"><g/></svg>\n".to_vec()),
            (MarkedFormat::Onnx, onnx.encode_to_vec()),
            (MarkedFormat::ManualPage, b".TH elbo 1\n.SH NAME\n".to_vec()),
        ]
    }

    #[test]
    fn any_change_of_a_byte_takes_the_mark_away() {
        for (format, file) in files() {
            assert!(!format.is_marked(&file), "{format:?}");
            let marked = format.mark(file.clone());
            assert!(format.is_marked(&marked), "{format:?}");
            for place in 0..marked.len() {
                let mut changed = marked.clone();
                changed[place] ^= 1;
                assert!(!format.is_marked(&changed), "{format:?}, byte {place}");
                assert!(!format.is_marked(&marked[..place]), "{format:?}, first {place} bytes");
                assert!(!format.is_marked(&marked[place + 1..]), "{format:?}, from {place}");
            }
            assert!(!format.is_marked(&[&marked[..], b"\n"].concat()), "{format:?}");
        }
    }

    #[test]
    fn a_marked_file_reads_as_before() {
        let [(_, png), (_, svg), (_, onnx), _] = files();
        let marked = MarkedFormat::Png.mark(png.clone());
        assert_eq!(
            image::load_from_memory(&marked).unwrap(),
            image::load_from_memory(&png).unwrap()
        );
        crate::data::formats::image_file::decode(&marked).unwrap();
        let marked = String::from_utf8(MarkedFormat::Svg.mark(svg)).unwrap();
        assert!(marked.ends_with(" -->\n") && marked.contains("</svg>\n<!-- elbo, "), "{marked}");
        let before = ModelProto::decode(&onnx[..]).unwrap();
        let after = ModelProto::decode(&MarkedFormat::Onnx.mark(onnx.clone())[..]).unwrap();
        let added = after.metadata_props.last().unwrap();
        assert_eq!((&added.key[..], added.value.len()), ("elbo.crc32", 8));
        assert_eq!(after.metadata_props[..1], before.metadata_props);
        assert_eq!(after.producer_name, before.producer_name);
    }
}
