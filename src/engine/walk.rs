//! Walks through the encoding of an ONNX file (<https://protobuf.dev/programming-guides/encoding>) without taking up its large
//! tensors.

use std::fs::File;
use std::io::{BufReader, Read};

use anyhow::{bail, ensure};

/// Inline tensors of as many bytes stay in the file.
const LARGE: u64 = 4096;
/// Fields of `ModelProto`, `GraphProto` and `TensorProto` (onnx.proto).
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const RAW_DATA: u64 = 9;

/// Where an inline tensor's numbers lie in its file: the first byte, and how many.
pub(super) type Inline = Option<(u64, u64)>;

/// The encoding of a `ModelProto` in `file` but for the numbers of its large initializers, and for each initializer where those are.
///
/// # Errors
/// It is cut short, or lengths contradict each other.
pub(super) fn without_large_tensors(file: File) -> anyhow::Result<(Vec<u8>, Vec<Inline>)> {
    let length = file.metadata()?.len();
    let mut walk = Walk { reader: BufReader::new(file), at: 0 };
    let (mut bytes, mut places) = (Vec::new(), Vec::new());
    walk.model(length, &mut bytes, &mut places)?;
    Ok((bytes, places))
}

/// Hears a field's number and length, and takes that many bytes or none.
type Inner<'a> = &'a mut dyn FnMut(&mut Walk, u64, u64, &mut Vec<u8>) -> anyhow::Result<bool>;

/// A file on the way through its messages.
struct Walk {
    reader: BufReader<File>,
    at: u64,
}

impl Walk {
    /// Copies a `ModelProto` that ends at `end`; `places` get an entry for each initializer.
    fn model(&mut self, end: u64, out: &mut Vec<u8>, places: &mut Vec<Inline>) -> anyhow::Result<()> {
        self.fields(end, out, &mut |walk, field, length, out| {
            if field != GRAPH {
                return Ok(false);
            }
            let mut graph = Vec::new();
            walk.fields(walk.at + length, &mut graph, &mut |walk, field, length, out| {
                if field == INITIALIZER {
                    let (tensor, place) = walk.tensor(length)?;
                    put(out, INITIALIZER, &tensor);
                    places.push(place);
                }
                Ok(field == INITIALIZER)
            })?;
            put(out, GRAPH, &graph);
            Ok(true)
        })
    }

    /// A `TensorProto` without its numbers, if they are many.
    fn tensor(&mut self, length: u64) -> anyhow::Result<(Vec<u8>, Inline)> {
        let (mut tensor, mut place) = (Vec::new(), None);
        self.fields(self.at + length, &mut tensor, &mut |walk, field, length, _| {
            let taken = field == RAW_DATA && length >= LARGE;
            if taken {
                place = Some((walk.at, length));
                walk.reader.seek_relative(i64::try_from(length)?)?;
                walk.at += length;
            }
            Ok(taken)
        })?;
        Ok((tensor, place))
    }

    /// Copies the fields of a message that ends at `end`, but for those that `inner` takes.
    fn fields(&mut self, end: u64, out: &mut Vec<u8>, inner: Inner<'_>) -> anyhow::Result<()> {
        while self.at < end {
            let key = self.varint()?;
            let mut head = Vec::new();
            prost::encoding::encode_varint(key, &mut head);
            let length = match key & 7 {
                0 => {
                    prost::encoding::encode_varint(self.varint()?, &mut head);
                    0
                }
                1 => 8,
                5 => 4,
                2 => {
                    let length = self.varint()?;
                    let last = self.at.checked_add(length);
                    ensure!(last.is_some_and(|last| last <= end), "a field ends outside of its message");
                    if inner(self, key >> 3, length, out)? {
                        continue;
                    }
                    prost::encoding::encode_varint(length, &mut head);
                    length
                }
                kind => bail!("a field is of the unknown kind {kind}"),
            };
            out.extend(head);
            let copied = self.reader.by_ref().take(length).read_to_end(out)?;
            ensure!(copied as u64 == length, "it ends within a field");
            self.at += length;
        }
        ensure!(self.at == end, "a field ends outside of its message");
        Ok(())
    }

    fn varint(&mut self) -> anyhow::Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number has no end")
    }
}

/// A field that holds a message.
fn put(out: &mut Vec<u8>, field: u64, message: &[u8]) {
    prost::encoding::encode_varint(field << 3 | 2, out);
    prost::encoding::encode_varint(message.len() as u64, out);
    out.extend(message);
}
