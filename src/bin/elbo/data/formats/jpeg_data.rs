//! Check that the coded data of a JPEG hold every block of the image.
//!
//! Decoders fill the blocks that are missing with gray, so a file that was cut and then given an end-of-image marker
//! decodes without an error. Here the Huffman codes of each scan are read, without their coefficients:
//!
//! 1. Segments before a scan give the size of the image, the sampling of its components, the Huffman tables and the
//!    restart interval.
//! 2. A scan of one component codes each of its 8×8 blocks; a scan of several codes as many blocks of each as its
//!    sampling factors say, for each minimum coded unit.
//! 3. Each block is a DC code and AC codes, or their part that a progressive scan refines. A code that is missing or
//!    invalid means that the file is damaged.
//!
//! Frames that are neither sequential nor progressive, or without a height, are not checked. A progressive file may
//! lack whole scans at its end. Source: ITU-T T.81, annexes B, F and G.

/// Returns false if a scan of a JPEG file lacks blocks.
pub fn holds_all_blocks(bytes: &[u8]) -> bool {
    // A segment that is cut is a fault, too.
    check(bytes).unwrap_or(false)
}

/// Returns `None` if something is missing.
fn check(bytes: &[u8]) -> Option<bool> {
    let mut reader = Segments::default();
    // After the start-of-image marker.
    let mut rest = bytes.get(2..)?;
    loop {
        let at = rest.windows(2).position(|pair| pair[0] == 0xff && !is_filler(pair[1]))?;
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        if marker == 0xd9 {
            return Some(reader.has_all_components());
        }
        if marker == 0x01 || (0xd0..=0xd8).contains(&marker) {
            continue;
        }
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
        let segment = rest.get(2..length)?;
        rest = &rest[length..];
        match marker {
            0xc0..=0xc2 => {
                reader.frame(segment, marker == 0xc2)?;
                if reader.size.contains(&0) {
                    return Some(true);
                }
            }
            0xc4 => reader.tables(segment)?,
            0xdd => reader.restart_interval = u16::from_be_bytes(*segment.first_chunk()?).into(),
            0xda => rest = reader.scan(segment, rest)?,
            // Lossless, hierarchical or arithmetic coding.
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return Some(true),
            _ => {}
        }
    }
}

/// Returns true for a byte that makes no marker of the 0xff before it.
fn is_filler(byte: u8) -> bool {
    byte == 0 || byte == 0xff
}

/// Settings of the segments before a scan.
#[derive(Default)]
struct Segments {
    progressive: bool,
    /// Width and height.
    size: [usize; 2],
    components: Vec<Component>,
    dc: [Option<HuffmanTable>; 4],
    ac: [Option<HuffmanTable>; 4],
    /// Minimum coded units between restart markers; 0 for none.
    restart_interval: usize,
}

struct Component {
    id: u8,
    /// Horizontal and vertical sampling factor.
    sampling: [usize; 2],
    /// True if a scan has its DC coefficients.
    is_coded: bool,
    /// Coefficients of each block that are known not to be 0, of a progressive frame.
    nonzero: Vec<u64>,
}

/// The part of the coefficients that a scan codes.
#[derive(Clone, Copy)]
struct Band {
    start: usize,
    end: usize,
    /// True if it adds a bit to coefficients of earlier scans.
    refines: bool,
}

impl Segments {
    fn has_all_components(&self) -> bool {
        !self.components.is_empty() && self.components.iter().all(|component| component.is_coded)
    }

    // 1.
    fn frame(&mut self, segment: &[u8], progressive: bool) -> Option<()> {
        let &[_, y1, y0, x1, x0, count, ref parts @ ..] = segment else { return None };
        self.progressive = progressive;
        self.size = [[x1, x0], [y1, y0]].map(|pair| usize::from(u16::from_be_bytes(pair)));
        let parts = parts.get(..3 * usize::from(count))?;
        let component = |part: &[u8]| {
            let sampling = [part[1] >> 4, part[1] & 15].map(usize::from);
            let valid = sampling.iter().all(|factor| (1..=4).contains(factor));
            valid.then(|| Component { id: part[0], sampling, is_coded: false, nonzero: Vec::new() })
        };
        self.components = parts.chunks(3).map(component).collect::<Option<_>>()?;
        Some(())
    }

    fn tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&class, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (values, rest) = rest.split_at_checked(total)?;
            let tables = if class >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(class & 15))? = Some(HuffmanTable::new(counts, values)?);
            segment = rest;
        }
        Some(())
    }

    /// Blocks of a component in a row and in a column of a scan of its own.
    fn blocks(&self, component: &Component) -> [usize; 2] {
        let most = self.most_sampling();
        [0, 1].map(|axis| {
            let samples = (self.size[axis] * component.sampling[axis]).div_ceil(most[axis]);
            samples.div_ceil(8)
        })
    }

    fn most_sampling(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.components.iter().map(|c| c.sampling[axis]).max().unwrap_or(1))
    }

    /// Reads the data of a scan; returns what follows them.
    fn scan<'a>(&mut self, segment: &[u8], data: &'a [u8]) -> Option<&'a [u8]> {
        let (&count, parts) = segment.split_first()?;
        let (parts, band) = parts.split_at_checked(2 * usize::from(count))?;
        let &[start, end, bits] = band.first_chunk()?;
        let band = match self.progressive {
            true => Band { start: start.into(), end: end.into(), refines: bits >> 4 != 0 },
            false => Band { start: 0, end: 63, refines: false },
        };
        if band.end > 63 || (band.start == 0) != (band.end == 0 || !self.progressive) {
            return None;
        }
        // 2. Components with their numbers of blocks in a unit.
        let mut scanned = Vec::new();
        for part in parts.chunks(2) {
            let index = self.components.iter().position(|component| component.id == part[0])?;
            scanned.push((index, usize::from(part[1] >> 4), usize::from(part[1] & 15)));
        }
        let (units, is_single) = match scanned[..] {
            [] => return None,
            [(index, ..)] => (self.blocks(&self.components[index]).iter().product(), true),
            _ => {
                let most = self.most_sampling();
                let units = [0, 1].map(|axis| self.size[axis].div_ceil(8 * most[axis]));
                (units.iter().product::<usize>(), false)
            }
        };
        if band.start > 0 && !is_single {
            return None;
        }
        let mut codes = Codes::new(data);
        let mut skipped_blocks = 0;
        for unit in 0..units {
            if self.restart_interval > 0 && unit > 0 && unit % self.restart_interval == 0 {
                codes.restart()?;
                skipped_blocks = 0;
            }
            for &(index, dc, ac) in &scanned {
                let component = &mut self.components[index];
                component.is_coded |= band.start == 0;
                let [across, down] = component.sampling;
                let blocks = if is_single { 1 } else { across * down };
                if band.start > 0 && component.nonzero.len() <= unit {
                    component.nonzero.resize(unit + 1, 0);
                }
                let (dc, ac) = (self.dc.get(dc)?.as_ref(), self.ac.get(ac)?.as_ref());
                for _ in 0..blocks {
                    match (self.progressive, band) {
                        (false, _) => codes.sequential_block(dc?, ac?)?,
                        (true, Band { start: 0, refines: true, .. }) => codes.skip(1)?,
                        (true, Band { start: 0, .. }) => codes.dc(dc?)?,
                        (true, band) => {
                            let nonzero = &mut component.nonzero[unit];
                            codes.band(ac?, band, &mut skipped_blocks, nonzero)?;
                        }
                    }
                }
            }
        }
        Some(codes.rest())
    }
}

/// A canonical Huffman code.
struct HuffmanTable {
    /// Length and value of the code that each byte begins with; length 0 for longer codes.
    short: [(u8, u8); 256],
    /// For each length from 1 to 16, the first code beyond those of that length, and the position of its value.
    ends: [(u32, i32); 17],
    values: Vec<u8>,
}

impl HuffmanTable {
    fn new(counts: &[u8; 16], values: &[u8]) -> Option<Self> {
        let mut table = Self { short: [(0, 0); 256], ends: [(0, 0); 17], values: values.to_vec() };
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, &count) in (1..=16_usize).zip(counts) {
            let end = code + u32::from(count);
            if end > 1 << length {
                return None;
            }
            for &value in &values[place..place + usize::from(count)] {
                if length <= 8 {
                    let first = (code as usize) << (8 - length);
                    table.short[first..first + (1 << (8 - length))].fill((length as u8, value));
                }
                (code, place) = (code + 1, place + 1);
            }
            table.ends[length] = (end, place as i32 - end as i32);
            code = end << 1;
        }
        Some(table)
    }
}

/// Reader of the coded data of a scan.
struct Codes<'a> {
    /// Data that are not in `bits` yet.
    data: &'a [u8],
    /// The next bits, from the highest on, and their number.
    bits: u64,
    count: u32,
}

impl<'a> Codes<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, bits: 0, count: 0 }
    }

    /// Reads bytes up to a marker, as long as there is room.
    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match self.data {
                [0xff, 0, rest @ ..] => {
                    self.data = rest;
                    0xff
                }
                [byte, rest @ ..] if *byte != 0xff => {
                    self.data = rest;
                    *byte
                }
                _ => return,
            };
            self.bits |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Skips at most 16 bits and returns them.
    fn take(&mut self, count: u32) -> Option<u32> {
        if count == 0 {
            return Some(0);
        }
        if self.count < count {
            self.fill();
        }
        let taken = (self.bits >> (64 - count)) as u32;
        self.count = self.count.checked_sub(count)?;
        self.bits <<= count;
        Some(taken)
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        self.take(count).map(drop)
    }

    fn symbol(&mut self, table: &HuffmanTable) -> Option<u8> {
        if self.count < 16 {
            self.fill();
        }
        let (length, value) = table.short[(self.bits >> 56) as usize];
        if length > 0 {
            self.skip(length.into())?;
            return Some(value);
        }
        let is_code =
            |length: &u32| (self.bits >> (64 - length)) < table.ends[*length as usize].0.into();
        let length = (9..=16).find(is_code)?;
        let code = self.take(length)?;
        let place = code as i32 + table.ends[length as usize].1;
        table.values.get(usize::try_from(place).ok()?).copied()
    }

    // 3.
    fn dc(&mut self, table: &HuffmanTable) -> Option<()> {
        let size = self.symbol(table)?;
        self.skip(u32::from(size).min(16))
    }

    fn sequential_block(&mut self, dc: &HuffmanTable, ac: &HuffmanTable) -> Option<()> {
        self.dc(dc)?;
        let mut place = 1;
        while place < 64 {
            let symbol = self.symbol(ac)?;
            let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (zeros, size) {
                (0..15, 0) => return Some(()),
                _ => place += zeros + 1,
            }
            self.skip(size)?;
        }
        Some(())
    }

    /// Reads the AC codes of a block of a progressive scan. `skipped` is the number of blocks, from this one on,
    /// that have no further codes.
    fn band(
        &mut self,
        ac: &HuffmanTable,
        band: Band,
        skipped: &mut u32,
        nonzero: &mut u64,
    ) -> Option<()> {
        let mut place = band.start;
        while *skipped == 0 && place <= band.end {
            let symbol = self.symbol(ac)?;
            let (mut zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 && zeros < 15 {
                *skipped = (1 << zeros) + self.take(zeros as u32)?;
                break;
            }
            self.skip(size)?;
            // A refining code counts only coefficients that are 0 so far, and the others have a bit each.
            while band.refines && place <= band.end {
                if *nonzero >> place & 1 == 1 {
                    self.skip(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                place += 1;
            }
            if !band.refines {
                place += zeros;
            }
            if size > 0 {
                *nonzero |= 1_u64.checked_shl(place as u32)?;
            }
            place += 1;
        }
        if *skipped > 0 {
            if band.refines {
                let left = (place..=band.end).filter(|place| *nonzero >> place & 1 == 1).count();
                (0..left).try_for_each(|_| self.skip(1))?;
            }
            *skipped -= 1;
        }
        Some(())
    }

    /// Goes to the data after the next restart marker.
    fn restart(&mut self) -> Option<()> {
        let rest = self.rest();
        let at = rest.windows(2).position(|pair| pair[0] == 0xff && !is_filler(pair[1]))?;
        if !(0xd0..=0xd7).contains(&rest[at + 1]) {
            return None;
        }
        *self = Self::new(&rest[at + 2..]);
        Some(())
    }

    /// The data after the last byte that was read, at a marker if the scan is over.
    fn rest(&self) -> &'a [u8] {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use image::{GrayImage, ImageFormat, Luma};

    /// 24×17 pixels in color, chroma halved both ways, of libjpeg: ten progressive scans.
    const PROGRESSIVE: &str = "\
/9j/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI////////////////////////////////////////////////////\
2wBDAVVaWnhpeOuCguv/////////////////////////////////////////////////////////////////////////wgAR\
CAARABgDASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAAECA//EABYBAQEBAAAAAAAAAAAAAAAAAAEAAv/aAAwDAQAC\
EAMQAAABigjSeY0gP//EABYQAQEBAAAAAAAAAAAAAAAAACEAIP/aAAgBAQABBQIiN//EABQRAQAAAAAAAAAAAAAAAAAAACD/\
2gAIAQMBAT8BH//EABYRAAMAAAAAAAAAAAAAAAAAAAABEP/aAAgBAgEBPwGs/8QAFBABAAAAAAAAAAAAAAAAAAAAMP/aAAgB\
AQAGPwIf/8QAGhAAAwEBAQEAAAAAAAAAAAAAAAERITFBUf/aAAgBAQABPyFKCQTArOI2cRuYhcPD4f/aAAwDAQACAAMAAAAQ\
PzDB/8QAGREAAgMBAAAAAAAAAAAAAAAAABEQITFB/9oACAEDAQE/EHWjOR//xAAXEQADAQAAAAAAAAAAAAAAAAAAARBB/9oA\
CAECAQE/EFcH/8QAHRAAAgICAwEAAAAAAAAAAAAAAAERUTFBIXGh4f/aAAgBAQABPxCc51Q4nO6HueCTUUNRWUP5Bl6Hh2PA\
/9k=";

    /// The same in one scan with a restart marker after each unit.
    const RESTARTS: &str = "\
/9j/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI////////////////////////////////////////////////////\
2wBDAVVaWnhpeOuCguv/////////////////////////////////////////////////////////////////////////wAAR\
CAARABgDASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAAIDAf/EACEQAAIBAwQDAQAAAAAAAAAAAAABAhIiUQMhMTJB\
cZGh/8QAFwEBAQEBAAAAAAAAAAAAAAAAAQIAA//EABoRAQACAwEAAAAAAAAAAAAAAAARQQECITH/3QAEAAH/2gAMAwEAAhED\
EQA/AJhDTpe/jAcNOlb+cFxU6XbHjAanSrY84DAnnr//0OOGnbv+At122x+ADL//0cY9H6D6r2AWun//0sXxEAG2p1f/2Q==";

    fn file(text: &str) -> Vec<u8> {
        BASE64.decode(text).unwrap()
    }

    fn markers(bytes: &[u8], marker: u8) -> Vec<usize> {
        let is = |at: &usize| bytes[*at..].starts_with(&[0xff, marker]);
        (0..bytes.len()).filter(is).collect()
    }

    /// Cuts a file at each byte of its scans, and ends it as if it were whole.
    fn cuts(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
        let first = markers(bytes, 0xda)[0];
        (first..bytes.len() - 2).map(|end| (end, [&bytes[..end], b"\xff\xd9"].concat()))
    }

    #[test]
    fn finds_a_cut_at_any_byte_of_sequential_data() {
        let mut gray = std::io::Cursor::new(Vec::new());
        GrayImage::from_fn(37, 21, |x, y| Luma([(x * y * 3) as u8]))
            .write_to(&mut gray, ImageFormat::Jpeg)
            .unwrap();
        for whole in [gray.into_inner(), file(RESTARTS)] {
            assert!(holds_all_blocks(&whole));
            // Bytes before the end, such as padding of a camera, are no fault.
            let padded = [&whole[..whole.len() - 2], &[0; 9], b"\xff\xd9more"].concat();
            assert!(holds_all_blocks(&padded));
            for (end, cut) in cuts(&whole) {
                assert!(!holds_all_blocks(&cut), "{end}");
            }
        }
    }

    #[test]
    fn finds_a_cut_inside_any_progressive_scan() {
        let whole = file(PROGRESSIVE);
        assert!(holds_all_blocks(&whole));
        let scans = markers(&whole, 0xda);
        assert_eq!(scans.len(), 10);
        let ends: Vec<usize> =
            cuts(&whole).filter(|(_, cut)| holds_all_blocks(cut)).map(|(end, _)| end).collect();
        // Whole scans may be missing at the end, but not the first, which has the DC codes of all components. A cut is
        // before a marker, or after its first byte, which then is a fill byte.
        let between = [markers(&whole, 0xc4), scans.clone()].concat();
        let between = between.into_iter().filter(|at| *at > scans[0]);
        let mut expected: Vec<usize> = between.flat_map(|at| [at, at + 1]).collect();
        expected.sort_unstable();
        assert_eq!(ends, expected);
        let refining = [&whole[..scans[9] + 12], b"\xff\xd9"].concat();
        assert!(!holds_all_blocks(&refining));
    }

    #[test]
    fn finds_missing_or_misplaced_restarts_and_invalid_codes() {
        let whole = file(RESTARTS);
        let restarts = markers(&whole, 0xd2);
        let without = [&whole[..restarts[0]], &whole[restarts[0] + 2..]].concat();
        assert!(!holds_all_blocks(&without));
        // Sixteen ones are no code.
        let data = markers(&whole, 0xda)[0] + 14;
        let invalid = [&whole[..data], b"\xff\0\xff\0\xff\0", &whole[data..]].concat();
        assert!(!holds_all_blocks(&invalid));
    }

    #[test]
    fn arbitrary_bytes_do_not_crash() {
        for whole in [file(PROGRESSIVE), file(RESTARTS)] {
            for place in 2..whole.len() {
                for value in [0, 1, 0x3f, 0x7f, 0x80, 0xff] {
                    let mut changed = whole.clone();
                    changed[place] = value;
                    let _ = holds_all_blocks(&changed);
                }
                let _ = holds_all_blocks(&whole[..place]);
                let _ = holds_all_blocks(&whole[place..]);
            }
        }
    }
}
