//! Weights of one network, as kernels read them, wherever their bytes come from: a mapped file, the same bytes in memory
//! where no file can be written, or staging buffers (`streamed.rs`).

#![allow(unsafe_code, reason = "maps files, gives memory back; each block says why it holds")]

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;

use anyhow::{Context, ensure};

use super::kernels::gemm::Panels;
use super::kernels::{PANEL, STEP};
use super::records::{LINE, Order, Part, Record};

/// Memory that a buffer may keep beyond what it holds, half as much again not counted: taking it anew costs time.
const IDLE_BYTES: usize = 4 << 20;

/// Gives the memory between freed blocks back to the system, as far as the C library can. Planning a network frees some
/// hundred thousand small blocks, and what lives on lies scattered among them: 25 MiB for a UNet of SD 1.5's size.
pub(super) fn give_back_free_blocks() {
    // SAFETY: it takes no pointer and may be called at any time from any thread (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A weight, by its place in the file.
pub(super) type WeightId = usize;

/// A weight ready for a kernel.
pub(super) enum Packed<'a> {
    Int8(Panels<'a, i8>),
    Float(Panels<'a, f32>),
}

/// Where the bytes of weights come from while a network runs.
pub(super) trait Source: Send {
    /// Says what the coming run asks for, in this order.
    fn expect(&mut self, records: Vec<Record>);

    /// The bytes of a weight; they begin on a whole line.
    fn bytes(&mut self, record: &Record) -> anyhow::Result<&[u8]>;

    /// The bytes of a weight, once, outside of a run.
    fn copy(&self, record: &Record) -> anyhow::Result<Cow<'_, [u8]>>;

    /// Some bytes of the packed file.
    fn part(&self, part: Part) -> anyhow::Result<Cow<'_, [u8]>>;

    /// Bytes of memory, beside the file's own pages, that runs take which ask for these weights in this order.
    fn staged(&self, _: Vec<Record>) -> usize {
        0
    }

    /// Whether the file is still as long as it was: reading a page beyond its end would be a signal.
    fn is_whole(&self) -> bool;
}

/// A packed file in the address space: the kernel loads its pages when they are touched and drops them as it likes.
pub(super) struct Mapped {
    map: memmap2::Mmap,
    file: File,
}

impl Mapped {
    /// Maps `file` as it is now.
    pub(super) fn new(file: File) -> std::io::Result<Mapped> {
        // SAFETY: a packed file is never modified: it is written under another name, made read-only, then renamed. That
        // nobody else has cut it is checked before every run and before every layer (`Mapped::bytes`).
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Mapped { map, file })
    }

    pub(super) fn all(&self) -> &[u8] {
        &self.map
    }
}

impl Source for Mapped {
    fn expect(&mut self, _: Vec<Record>) {}

    fn bytes(&mut self, record: &Record) -> anyhow::Result<&[u8]> {
        ensure!(self.is_whole(), "the packed file was cut while it was in use");
        slice(&self.map, record)
    }

    fn copy(&self, record: &Record) -> anyhow::Result<Cow<'_, [u8]>> {
        ensure!(self.is_whole(), "the packed file was cut while it was in use");
        slice(&self.map, record).map(Cow::Borrowed)
    }

    fn part(&self, part: Part) -> anyhow::Result<Cow<'_, [u8]>> {
        ensure!(self.is_whole(), "the packed file was cut while it was in use");
        stretch(&self.map, part).map(Cow::Borrowed)
    }

    fn is_whole(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.len() == self.map.len() as u64)
    }
}

fn slice<'a>(all: &'a [u8], record: &Record) -> anyhow::Result<&'a [u8]> {
    stretch(all, record.span()).with_context(|| format!("weight '{}'", record.name))
}

fn stretch(all: &[u8], Part { offset, bytes }: Part) -> anyhow::Result<&[u8]> {
    all.get(offset..).and_then(|rest| rest.get(..bytes)).context("it lies outside the file")
}

/// Bytes that begin on a whole line.
#[derive(Default)]
pub(super) struct Lines(Vec<Line>);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

impl Lines {
    /// The same bytes on whole lines.
    pub(super) fn hold(bytes: &[u8]) -> Lines {
        let mut lines = Lines::default();
        lines.resize(bytes.len());
        lines.all_mut()[..bytes.len()].copy_from_slice(bytes);
        lines
    }

    /// The memory that so many bytes leave of `capacity` bytes: it is kept, unless most of it would lie idle.
    pub(super) fn capacity_after(capacity: usize, bytes: usize) -> usize {
        let wanted = bytes.next_multiple_of(LINE);
        if wanted * 3 / 2 + IDLE_BYTES < capacity { wanted } else { capacity.max(wanted) }
    }

    /// Makes room for so many bytes of any value, keeping the memory there is as [`Lines::capacity_after`] says.
    pub(super) fn resize(&mut self, bytes: usize) {
        let lines = bytes.div_ceil(LINE);
        if Self::capacity_after(self.capacity(), bytes) != self.capacity() {
            // Memory on whole lines does not grow in place: both, the old and the new, would be there for a moment.
            self.0 = Vec::new();
            self.0.reserve_exact(lines);
        }
        self.0.resize(lines, Line([0; LINE]));
    }

    /// Bytes of memory that it takes.
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity() * LINE
    }

    pub(super) fn all(&self) -> &[u8] {
        // SAFETY: initialized memory of this many bytes without padding; any byte is a u8.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(&self.0[..])) }
    }

    pub(super) fn all_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `all`, and borrowed by nobody else; any u8 is a byte of a line.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), size_of_val(&self.0[..])) }
    }
}

/// A packed file that could be written nowhere.
impl Source for Lines {
    fn expect(&mut self, _: Vec<Record>) {}

    fn bytes(&mut self, record: &Record) -> anyhow::Result<&[u8]> {
        slice(self.all(), record)
    }

    fn copy(&self, record: &Record) -> anyhow::Result<Cow<'_, [u8]>> {
        slice(self.all(), record).map(Cow::Borrowed)
    }

    fn part(&self, part: Part) -> anyhow::Result<Cow<'_, [u8]>> {
        stretch(self.all(), part).map(Cow::Borrowed)
    }

    fn is_whole(&self) -> bool {
        true
    }
}

/// The same, and the pages of this program's code, which come back from its file: for a daemon that waits.
pub(super) fn give_back() {
    give_back_free_blocks();
    for (start, bytes) in super::code_pages::own_code() {
        // SAFETY: a private mapping of a file that is executable and so was never written: its pages are read again.
        let _ = unsafe { libc::madvise(start as *mut _, bytes, libc::MADV_DONTNEED) };
    }
}

/// A part as numbers of type `T`, which is i8, i32 or f32.
fn numbers<T: Number>(bytes: &[u8], part: Part) -> &[T] {
    let bytes = &bytes[part.offset..][..part.bytes];
    assert!(bytes.as_ptr().cast::<T>().is_aligned());
    // SAFETY: aligned, as just asserted; within the slice, as the division rounds down; any bits are a number of
    // these types, whose order of bytes in the file is that of every target (little-endian).
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
}

/// Types any bits of which are a value.
trait Number {}
impl Number for i8 {}
impl Number for f32 {}
impl Number for i32 {}

#[cfg(not(target_endian = "little"))]
compile_error!("packed files are little-endian, and are used as they lie");

/// The weights of one network.
pub(super) struct Weights {
    source: Box<dyn Source>,
    records: Vec<Record>,
    by_name: HashMap<String, WeightId>,
}

impl Weights {
    pub(super) fn new(source: Box<dyn Source>, records: Vec<Record>) -> Weights {
        let by_name = records.iter().enumerate().map(|(id, record)| (record.name.clone(), id)).collect();
        Weights { source, records, by_name }
    }

    /// Some bytes of the packed file.
    pub(super) fn part(&self, part: Part) -> anyhow::Result<Cow<'_, [u8]>> {
        self.source.part(part)
    }

    /// Whether the file behind them is as long as it was.
    pub(super) fn is_whole(&self) -> bool {
        self.source.is_whole()
    }

    fn find(&self, name: &str) -> anyhow::Result<WeightId> {
        self.by_name.get(name).copied().with_context(|| format!("there is no weight '{name}'"))
    }

    /// The weight called `name`, read in this order.
    pub(super) fn panels(&self, name: &str, order: &Order) -> anyhow::Result<WeightId> {
        let id = self.find(name)?;
        let packed = &self.records[id].order;
        ensure!(packed == order, "weight '{name}' was packed as {packed:?} and is read as {order:?}");
        Ok(id)
    }

    /// Whether its numbers are s8.
    pub(super) fn is_int8(&self, id: WeightId) -> bool {
        self.records[id].int8
    }

    /// Says which weights the coming run asks for, in this order.
    pub(super) fn expect(&mut self, ids: impl Iterator<Item = WeightId>) {
        self.source.expect(self.in_order(ids));
    }

    /// Bytes of memory, beside the file's own pages, that runs take which ask for these weights in this order.
    pub(super) fn staged(&self, ids: impl Iterator<Item = WeightId>) -> usize {
        self.source.staged(self.in_order(ids))
    }

    fn in_order(&self, ids: impl Iterator<Item = WeightId>) -> Vec<Record> {
        ids.map(|id| self.records[id].clone()).collect()
    }

    pub(super) fn get(&mut self, id: WeightId) -> anyhow::Result<Packed<'_>> {
        let record = &self.records[id];
        let (inputs, taps) = (record.order.inputs(), record.order.taps());
        let ([weights, scales, sums], _) = record.parts().context("a size that cannot be counted")?;
        let bytes = self.source.bytes(record)?;
        Ok(match record.int8 {
            true => Packed::Int8(Panels {
                inputs: inputs.next_multiple_of(STEP),
                taps,
                weights: numbers(bytes, weights),
                scale: numbers(bytes, scales),
                sums: numbers(bytes, sums),
            }),
            false => Packed::Float(Panels {
                inputs,
                taps,
                weights: numbers(bytes, weights),
                scale: &[],
                sums: &[],
            }),
        })
    }

    /// All numbers of a weight, in the order of the graph.
    pub(super) fn dense(&self, name: &str) -> anyhow::Result<Vec<f32>> {
        let record = &self.records[self.find(name)?];
        let order = &record.order;
        let (inputs, taps) = (order.inputs(), order.taps());
        let ([weights, scales, _], _) = record.parts().context("a size that cannot be counted")?;
        let bytes = self.source.copy(record)?;
        let float = |part: Part, at: usize| {
            let bytes = &bytes[part.offset..][..part.bytes][at * size_of::<f32>()..];
            f32::from_le_bytes(bytes[..size_of::<f32>()].try_into().expect("four bytes"))
        };
        let mut values = vec![0.0; order.len()];
        let stepped = if record.int8 { inputs.next_multiple_of(STEP) } else { inputs };
        order.each(|at, channel, input, tap| {
            let start = (channel / PANEL * taps + tap) * stepped * PANEL;
            let lane = channel % PANEL;
            values[at] = if record.int8 {
                let code = bytes[start + (input / 4 * PANEL + lane) * 4 + input % 4] as i8;
                f32::from(code) * float(scales, channel)
            } else {
                float(weights, start + input * PANEL + lane)
            };
        });
        Ok(values)
    }
}
