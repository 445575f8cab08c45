//! The packed file: the graph without its weights, and the weights in the panels that kernels read.
//!
//! ```text
//! 0      magic, total length, length of the contents, SHA-256 of the source and of the contents
//! 4096   counts, then one record per weight: name, order, kind, where it lies, its checksum; then the same of a table of
//!        token embeddings, then the graph
//! ...    weights, scales and sums, the table, each on a multiple of 64, the first on a multiple of 65536
//! ```

use std::io::{Cursor, Seek, SeekFrom, Write};

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};

use super::kernels::{PANEL, QUAD, STEP};
use super::load::{RawWeight, Values};
use super::records::{LINE, Order, Part, Record};
pub(super) use super::symmetric::{is_worth_int8, quantize};
use super::token_table::{RawTable, Table};

/// Changes whenever this file's layout or the panels' does.
const MAGIC: &[u8; 16] = b"easeld packed 04";
/// Where the contents begin.
pub(super) const HEADER: usize = 4096;
/// Pages are at most this large (64-bit ARM).
const PAGE: usize = 65536;

/// Everything a packed file says before the weights themselves.
pub(super) struct Contents {
    pub(super) records: Vec<Record>,
    /// Token embeddings, where the graph has lost its table.
    pub(super) table: Option<Table>,
    /// The ONNX graph without its weights.
    pub(super) graph: Vec<u8>,
}

/// What is f32 in a packed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Floats {
    /// Weights in f32 that s8 is not worth it for.
    Few,
    /// Every weight that is f32 in the graph.
    Kept,
    /// All weights: codes are multiplied out.
    All,
}

/// What goes into a packed file.
pub(super) struct Packing<'a> {
    /// Identifies the file that it is made from.
    pub(super) source: &'a [u8; 32],
    /// The ONNX graph without its weights.
    pub(super) graph: &'a [u8],
    /// Name and order of each weight.
    pub(super) weights: Vec<(&'a str, &'a Order)>,
    pub(super) table: Option<&'a RawTable>,
    pub(super) floats: Floats,
}

impl Packing<'_> {
    /// Writes the file. `read` gives the numbers of the weight at a place: no more than one of them is in memory.
    ///
    /// # Errors
    /// What `read` says; `to` cannot be written.
    pub(super) fn write(
        &self,
        to: &mut (impl Write + Seek),
        read: &mut dyn FnMut(usize) -> anyhow::Result<Values>,
    ) -> anyhow::Result<()> {
        // Records have the same length wherever and whatever the weights are, so their length is known from the beginning.
        let record = |(name, order): &(&str, &Order)| Record {
            name: (*name).to_owned(),
            order: (*order).clone(),
            int8: false,
            offset: 0,
            checksum: 0,
        };
        let mut records: Vec<Record> = self.weights.iter().map(record).collect();
        let table = |part, checksum| {
            self.table.map(|table| Table { name: table.name.clone(), width: table.width, part, checksum })
        };
        let nowhere = table(Part { offset: 0, bytes: 0 }, 0);
        let contents = write_contents(&records, nowhere.as_ref(), self.graph).len();
        let start = (HEADER + contents).next_multiple_of(PAGE);
        let mut end = start;
        to.seek(SeekFrom::Start(start as u64))?;
        for (at, record) in records.iter_mut().enumerate() {
            let (bytes, int8) = self.panels(read(at)?, &record.order);
            (record.offset, record.int8, record.checksum) = (end, int8, checksum(&bytes));
            to.write_all(&bytes)?;
            end += bytes.len();
        }
        let mut lies = None;
        if let Some(RawTable { bytes, .. }) = self.table {
            to.write_all(bytes)?;
            lies = table(Part { offset: end, bytes: bytes.len() }, checksum(bytes));
            end += bytes.len();
        }
        let contents = write_contents(&records, lies.as_ref(), self.graph);
        let mut first = Vec::with_capacity(start);
        first.extend(MAGIC);
        first.extend((end as u64).to_le_bytes());
        first.extend((contents.len() as u64).to_le_bytes());
        first.extend(self.source);
        first.extend(Sha256::digest(&contents));
        first.resize(HEADER, 0);
        first.extend(contents);
        first.resize(start, 0);
        to.seek(SeekFrom::Start(0))?;
        Ok(to.write_all(&first)?)
    }

    /// A weight as it lies in the file, and whether it is s8.
    fn panels(&self, values: Values, order: &Order) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let mut put = |part: &mut dyn Iterator<Item = u8>| {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(LINE), 0);
        };
        let values = match (self.floats, values) {
            (Floats::Few, Values::Float(values)) if is_worth_int8(order) => quantize(&values, order),
            (Floats::All, values) => values.into_f32(order),
            (_, values) => values,
        };
        match values {
            Values::Int8(codes, mut scales) => {
                let (panels, sums) = int8_panels(&codes, order);
                scales.resize(order.panels() * PANEL, 0.0);
                put(&mut panels.iter().map(|code| *code as u8));
                put(&mut scales.iter().flat_map(|scale| scale.to_le_bytes()));
                put(&mut sums.iter().flat_map(|sum| sum.to_le_bytes()));
                (bytes, true)
            }
            Values::Float(values) => {
                put(&mut float_panels(&values, order).iter().flat_map(|value| value.to_le_bytes()));
                (bytes, false)
            }
        }
    }
}

/// The bytes of a packed file of `weights`, in memory.
pub(super) fn pack(
    source: &[u8; 32],
    graph: &[u8],
    weights: Vec<RawWeight>,
    table: Option<&RawTable>,
) -> Vec<u8> {
    let named: Vec<(String, Order)> =
        weights.iter().map(|weight| (weight.name.clone(), weight.order.clone())).collect();
    let packing = Packing {
        source,
        graph,
        weights: named.iter().map(|(name, order)| (name.as_str(), order)).collect(),
        table,
        floats: Floats::Few,
    };
    let mut values = weights.into_iter().map(|weight| weight.values);
    let mut file = Cursor::new(Vec::new());
    let read = &mut |_| values.next().context("a weight more than there are");
    packing.write(&mut file, read).expect("memory takes all of it");
    file.into_inner()
}

fn write_contents(records: &[Record], table: Option<&Table>, graph: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let number = |bytes: &mut Vec<u8>, number: usize| bytes.extend((number as u64).to_le_bytes());
    number(&mut bytes, records.len());
    for record in records {
        number(&mut bytes, record.name.len());
        bytes.extend(record.name.as_bytes());
        let [kind, channels, inputs, taps] = match record.order {
            Order::ChannelsFirst { channels, inputs, taps } => [0, channels, inputs, taps],
            Order::InputsFirst { inputs, channels } => [1, channels, inputs, 1],
        };
        for value in [kind, channels, inputs, taps, usize::from(record.int8), record.offset] {
            number(&mut bytes, value);
        }
        bytes.extend(record.checksum.to_le_bytes());
    }
    number(&mut bytes, usize::from(table.is_some()));
    if let Some(Table { name, width, part, checksum }) = table {
        number(&mut bytes, name.len());
        bytes.extend(name.as_bytes());
        for value in [*width, part.offset, part.bytes] {
            number(&mut bytes, value);
        }
        bytes.extend(checksum.to_le_bytes());
    }
    number(&mut bytes, graph.len());
    bytes.extend(graph);
    bytes
}

/// What the beginning of a packed file says about the rest.
pub(super) struct Header {
    /// Where the contents lie.
    pub(super) contents: Part,
    digest: [u8; 32],
    /// Bytes of the whole file.
    length: usize,
}

/// Reads the first [`HEADER`] bytes of a file that is `length` bytes long; `source` is what it should have been made
/// from.
pub(super) fn read_header(first: &[u8], length: usize, source: &[u8; 32]) -> anyhow::Result<Header> {
    ensure!(first.len() >= HEADER, "it is cut short");
    let (magic, rest) = first.split_at(MAGIC.len());
    ensure!(magic == MAGIC, "another program or version wrote it");
    let number = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().expect("eight bytes"));
    let contents = Part { offset: HEADER, bytes: usize::try_from(number(8))? };
    ensure!(number(0) == length as u64, "it is cut short, or longer than it should be");
    ensure!(contents.bytes <= length - HEADER, "it is cut short");
    ensure!(rest[16..48] == source[..], "it was made from another file");
    Ok(Header { contents, digest: rest[48..80].try_into().expect("thirty-two bytes"), length })
}

/// Reads and checks everything but the weights.
pub(super) fn read_contents(contents: &[u8], header: &Header) -> anyhow::Result<Contents> {
    ensure!(Sha256::digest(contents)[..] == header.digest, "it is damaged");
    let start = (HEADER + contents.len()).next_multiple_of(PAGE);
    let mut left = contents;
    let count = take_number(&mut left)?;
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(read_record(&mut left, start, header.length)?);
    }
    let table = match take_number(&mut left)? {
        0 => None,
        1 => Some(read_table(&mut left, start, header.length)?),
        _ => bail!("more than one table"),
    };
    let graph = take_number(&mut left)?;
    ensure!(graph == left.len(), "its graph is damaged");
    Ok(Contents { records, table, graph: left.to_vec() })
}

/// Whether the bytes of a weight are those that were written.
pub(super) fn check(record: &Record, bytes: &[u8]) -> anyhow::Result<()> {
    ensure!(checksum(bytes) == record.checksum, "weight '{}' is damaged", record.name);
    Ok(())
}

/// Reads and checks a whole file.
pub(super) fn read(file: &[u8], source: &[u8; 32]) -> anyhow::Result<Contents> {
    let header = read_header(file, file.len(), source)?;
    let contents = read_contents(&file[HEADER..][..header.contents.bytes], &header)?;
    for record in &contents.records {
        check(record, &file[record.offset..][..record.span().bytes])?;
    }
    if let Some(Table { part, checksum: written, .. }) = &contents.table {
        ensure!(
            checksum(&file[part.offset..][..part.bytes]) == *written,
            "the table of token embeddings is damaged"
        );
    }
    Ok(contents)
}

fn take<'a>(left: &mut &'a [u8], count: usize) -> anyhow::Result<&'a [u8]> {
    let (taken, rest) = left.split_at_checked(count).context("a record is cut short")?;
    *left = rest;
    Ok(taken)
}

fn take_u64(left: &mut &[u8]) -> anyhow::Result<u64> {
    Ok(u64::from_le_bytes(take(left, 8)?.try_into()?))
}

fn take_number(left: &mut &[u8]) -> anyhow::Result<usize> {
    Ok(usize::try_from(take_u64(left)?)?)
}

/// A record whose bytes lie within the file, on whole lines.
fn read_record(left: &mut &[u8], start: usize, end: usize) -> anyhow::Result<Record> {
    let length = take_number(left)?;
    let name = std::str::from_utf8(take(left, length)?)?.to_owned();
    let mut numbers = [0; 6];
    for number in &mut numbers {
        *number = take_number(left)?;
    }
    let checksum = take_u64(left)?;
    let [kind, channels, inputs, taps, int8, offset] = numbers;
    let order = match kind {
        0 => Order::ChannelsFirst { channels, inputs, taps },
        1 if taps == 1 => Order::InputsFirst { inputs, channels },
        _ => bail!("weight '{name}' has an unknown order"),
    };
    ensure!(int8 <= 1, "weight '{name}' is of an unknown kind");
    let record = Record { name, order, int8: int8 == 1, offset, checksum };
    let last = record.parts().and_then(|(_, bytes)| offset.checked_add(bytes));
    let lies = offset >= start && offset.is_multiple_of(LINE) && last.is_some_and(|last| last <= end);
    ensure!(lies, "weight '{}' lies outside the file", record.name);
    Ok(record)
}

/// Whole rows that lie within the file.
fn read_table(left: &mut &[u8], start: usize, end: usize) -> anyhow::Result<Table> {
    let length = take_number(left)?;
    let name = std::str::from_utf8(take(left, length)?)?.to_owned();
    let (width, offset, bytes) = (take_number(left)?, take_number(left)?, take_number(left)?);
    let checksum = take_u64(left)?;
    let row = width.checked_mul(size_of::<f32>()).filter(|row| *row > 0);
    let whole = row.is_some_and(|row| bytes.is_multiple_of(row));
    let lies = offset >= start && offset.checked_add(bytes).is_some_and(|last| last <= end);
    ensure!(whole && lies, "the table of token embeddings lies outside the file");
    Ok(Table { name, width, part: Part { offset, bytes }, checksum })
}

/// Tells whether weights are still what was written, at the speed of memory: nobody but this program makes the file, so
/// accidents are to be found, not forgeries. Every step can be undone, so no single wrong word goes unseen.
fn checksum(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |lane: u64, word: u64| (lane ^ word).wrapping_mul(ODD).rotate_left(29);
    let mut lanes: [u64; 8] = std::array::from_fn(|lane| lane as u64);
    let chunks = bytes.chunks_exact(64);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(8)) {
            *lane = mix(*lane, u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
    }
    let rest = rest.iter().map(|byte| u64::from(*byte));
    lanes.into_iter().chain(rest).fold(bytes.len() as u64, mix)
}

/// Weights as `[panel][tap][quad][channel][4]`, and their sums as `[panel][tap][channel]`.
fn int8_panels(codes: &[i8], order: &Order) -> (Vec<i8>, Vec<i32>) {
    let (taps, width) = (order.taps(), order.inputs().next_multiple_of(STEP));
    let mut panels = vec![0; order.panels() * taps * width * PANEL];
    let mut sums = vec![0; order.panels() * taps * PANEL];
    order.each(|at, channel, input, tap| {
        let (panel, channel) = (channel / PANEL, channel % PANEL);
        let tap = panel * taps + tap;
        panels[tap * width * PANEL + (input / QUAD * PANEL + channel) * QUAD + input % QUAD] = codes[at];
        sums[tap * PANEL + channel] += i32::from(codes[at]);
    });
    (panels, sums)
}

/// Weights as `[panel][tap][input][channel]`.
fn float_panels(values: &[f32], order: &Order) -> Vec<f32> {
    let (taps, inputs) = (order.taps(), order.inputs());
    let mut panels = vec![0.0; order.panels() * taps * inputs * PANEL];
    order.each(|at, channel, input, tap| {
        let tap = channel / PANEL * taps + tap;
        panels[(tap * inputs + input) * PANEL + channel % PANEL] = values[at];
    });
    panels
}

#[cfg(test)]
mod tests {
    use super::super::typed::Input;
    use super::super::weights::{Lines, Weights};
    use super::*;

    const SOURCE: [u8; 32] = [7; 32];

    fn file() -> Vec<u8> {
        let wave = |count: usize| (0..count).map(|at| (at as f32 * 0.7).sin()).collect::<Vec<_>>();
        let weights = vec![
            RawWeight {
                name: "conv".to_owned(),
                order: Order::ChannelsFirst { channels: 20, inputs: 17, taps: 9 },
                values: Values::Float(wave(20 * 17 * 9)),
            },
            RawWeight {
                name: "first".to_owned(),
                order: Order::InputsFirst { inputs: 4, channels: 40 },
                values: Values::Float(wave(160)),
            },
        ];
        let table = RawTable {
            name: "rows".to_owned(),
            width: 3,
            bytes: wave(12).iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        pack(&SOURCE, b"graph", weights, Some(&table))
    }

    /// The file with its contents changed by `change`, and a digest that says they are right.
    fn forged(change: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut file = file();
        let length = u64::from_le_bytes(file[24..32].try_into().unwrap()) as usize;
        change(&mut file[HEADER..HEADER + length]);
        let digest = Sha256::digest(&file[HEADER..HEADER + length]);
        file[64..96].copy_from_slice(&digest);
        file
    }

    #[test]
    fn what_was_packed_is_read() {
        let contents = read(&file(), &SOURCE).unwrap();
        assert_eq!(contents.graph, b"graph");
        let names: Vec<&str> = contents.records.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["conv", "first"]);
        assert!(contents.records[0].int8, "a large weight is s8");
        assert!(!contents.records[1].int8, "one of few inputs stays f32");
        let table = contents.table.unwrap();
        let weights = Weights::new(Box::new(Lines::hold(&file())), contents.records);
        let look_up = |ids: ndarray::ArrayD<i64>, learned: &[Vec<f32>]| {
            table
                .look_up(&weights, &Input::Tokens(ids.view()), learned)
                .map(|rows| rows.into_raw_vec_and_offset().0)
        };
        let wave: Vec<f32> = (0..12).map(|at| (at as f32 * 0.7).sin()).collect();
        let learned = i64::from(crate::text::FIRST_LEARNED_ID);
        let ids = ndarray::arr2(&[[2, 0, learned]]).into_dyn();
        let expected = [&wave[6..9], &wave[..3], &[7.0, 8.0, 9.0]].concat();
        assert_eq!(look_up(ids, &[vec![7.0, 8.0, 9.0]]).unwrap(), expected);
        for beyond in [4, -1, learned] {
            let error = look_up(ndarray::arr2(&[[beyond]]).into_dyn(), &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("token id {beyond} is not among the 4")), "{error}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let file = file();
        for length in
            (0..file.len()).step_by(61).chain([HEADER - 1, HEADER, HEADER + 1, PAGE, file.len() - 1])
        {
            assert!(read(&file[..length], &SOURCE).is_err(), "{length} of {} bytes", file.len());
        }
        assert!(read(&[file, vec![0]].concat(), &SOURCE).is_err(), "a byte too many");
    }

    #[test]
    fn any_other_byte_is_seen() {
        let file = file();
        let length = u64::from_le_bytes(file[24..32].try_into().unwrap()) as usize;
        let used = (0..96).chain(HEADER..HEADER + length).chain((PAGE..file.len()).step_by(97));
        for at in used {
            let mut other = file.clone();
            other[at] ^= 0x10;
            assert!(read(&other, &SOURCE).is_err(), "byte {at}");
        }
        assert!(read(&file, &[8; 32]).is_err(), "a file made from another source");
    }

    /// Records that no packer wrote, under a digest that is right: what is read lies within the file, and can be used.
    #[test]
    fn forged_records_are_refused_or_lie_within_the_file() {
        let length = file().len();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        let single = (0..300).flat_map(|at| [0, 1, 0x7f, 0x80, 0xff].map(|value| vec![(at, value)]));
        let several = (0..2000)
            .map(|_| (0..1 + random() % 6).map(|_| (random() % 300, random() as u8)).collect::<Vec<_>>());
        let mut read_anyway = 0;
        for changes in single.chain(several.collect::<Vec<_>>()) {
            let file = forged(|bytes| {
                for (at, value) in &changes {
                    let at = at % bytes.len();
                    bytes[at] = *value;
                }
            });
            let header = read_header(&file, file.len(), &SOURCE).unwrap();
            let contents = &file[HEADER..][..header.contents.bytes];
            let Ok(contents) = read_contents(contents, &header) else {
                continue;
            };
            read_anyway += 1;
            for record in &contents.records {
                let Part { offset, bytes } = record.span();
                assert!(offset + bytes <= length, "{changes:?}");
            }
            let count = contents.records.len();
            let mut weights = Weights::new(Box::new(Lines::hold(&file)), contents.records);
            assert!((0..count).all(|id| weights.get(id).is_ok()), "{changes:?}");
        }
        assert!(read_anyway > 100, "only {read_anyway} of them came as far as the weights");
    }
}
