//! Weights of one network, as kernels read them: a mapped file, or the same bytes in memory where no file can be
//! written.

#![allow(unsafe_code, reason = "maps a file and reads its bytes as numbers; each block says why it holds")]

use std::collections::HashMap;

use anyhow::{Context, ensure};

use super::kernels::gemm::Panels;
use super::kernels::{PANEL, STEP};
use super::packing::Part;

/// How the numbers of a weight are ordered in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// `[channel][input][tap]`: convolutions, and linear layers as PyTorch keeps them.
    ChannelsFirst { channels: usize, inputs: usize, taps: usize },
    /// `[input][channel]`: matrix products.
    InputsFirst { inputs: usize, channels: usize },
}

impl Order {
    pub(super) fn channels(&self) -> usize {
        match self {
            Order::ChannelsFirst { channels, .. } | Order::InputsFirst { channels, .. } => *channels,
        }
    }

    pub(super) fn inputs(&self) -> usize {
        match self {
            Order::ChannelsFirst { inputs, .. } | Order::InputsFirst { inputs, .. } => *inputs,
        }
    }

    pub(super) fn taps(&self) -> usize {
        match self {
            Order::ChannelsFirst { taps, .. } => *taps,
            Order::InputsFirst { .. } => 1,
        }
    }

    /// Numbers in all.
    pub(super) fn len(&self) -> usize {
        self.channels() * self.inputs() * self.taps()
    }

    /// An even number, since a tile takes two.
    pub(super) fn panels(&self) -> usize {
        self.channels().next_multiple_of(2 * PANEL) / PANEL
    }

    /// Calls `f` with the place, channel, input and tap of every number.
    pub(super) fn each(&self, mut f: impl FnMut(usize, usize, usize, usize)) {
        let (channels, inputs, taps) = (self.channels(), self.inputs(), self.taps());
        for channel in 0..channels {
            for input in 0..inputs {
                for tap in 0..taps {
                    let at = match self {
                        Order::ChannelsFirst { .. } => (channel * inputs + input) * taps + tap,
                        Order::InputsFirst { .. } => input * channels + channel,
                    };
                    f(at, channel, input, tap);
                }
            }
        }
    }

    /// Bytes of weights, scales and sums, as s8 and as f32; nothing if they overflow.
    pub(super) fn sizes(&self) -> Option<([usize; 3], [usize; 3])> {
        let panels = self.channels().checked_next_multiple_of(2 * PANEL)? / PANEL;
        let column = panels.checked_mul(self.taps())?.checked_mul(PANEL)?;
        let stepped = self.inputs().checked_next_multiple_of(STEP)?;
        let float = size_of::<f32>();
        let int8 = [column.checked_mul(stepped)?, panels * PANEL * float, column.checked_mul(float)?];
        Some((int8, [column.checked_mul(self.inputs())?.checked_mul(float)?, 0, 0]))
    }
}

/// What a packed file says about one weight.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) order: Order,
    /// s8 panels if there are scales, else f32 panels.
    pub(super) weights: Part,
    pub(super) scales: Part,
    pub(super) sums: Part,
}

/// A weight, by its place in the file.
pub(super) type WeightId = usize;

/// A weight ready for a kernel.
pub(super) enum Packed<'a> {
    Int8(Panels<'a, i8>),
    Float(Panels<'a, f32>),
}

/// The bytes of a packed file.
pub(super) enum Bytes {
    Mapped(memmap2::Mmap),
    /// Where no file could be written; in u64 for the alignment.
    Memory(Vec<u64>),
}

impl Bytes {
    /// Maps `file` as it is now.
    pub(super) fn map(file: &std::fs::File) -> std::io::Result<Bytes> {
        // SAFETY: a packed file is never modified: it is written under another name, then renamed. That nobody else
        // has cut it is checked before every run (`PackedModel::is_whole`).
        Ok(Bytes::Mapped(unsafe { memmap2::Mmap::map(file)? }))
    }

    /// The same bytes in memory.
    pub(super) fn hold(bytes: &[u8]) -> Bytes {
        let words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        });
        Bytes::Memory(words.collect())
    }

    pub(super) fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Memory(words) => {
                // SAFETY: initialized memory of this many bytes; any byte is a u8.
                unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(&words[..])) }
            }
        }
    }

    /// A part as numbers of type `T`, which is i8, i32 or f32.
    fn part<T: Number>(&self, part: Part) -> &[T] {
        let bytes = &self.all()[part.offset..][..part.bytes];
        assert!(bytes.as_ptr().cast::<T>().is_aligned());
        // SAFETY: aligned, as just asserted; within the slice, as the division rounds down; any bits are a number of
        // these types, whose order of bytes in the file is that of every target (little-endian).
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
    }
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
    bytes: Bytes,
    records: Vec<Record>,
    by_name: HashMap<String, WeightId>,
}

impl Weights {
    pub(super) fn new(bytes: Bytes, records: Vec<Record>) -> Weights {
        let by_name = records.iter().enumerate().map(|(id, record)| (record.name.clone(), id)).collect();
        Weights { bytes, records, by_name }
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

    pub(super) fn get(&self, id: WeightId) -> Packed<'_> {
        let record = &self.records[id];
        let (inputs, taps) = (record.order.inputs(), record.order.taps());
        if record.scales.bytes == 0 {
            let weights = self.bytes.part(record.weights);
            return Packed::Float(Panels { inputs, taps, weights, scale: &[], sums: &[] });
        }
        Packed::Int8(Panels {
            inputs: inputs.next_multiple_of(STEP),
            taps,
            weights: self.bytes.part(record.weights),
            scale: self.bytes.part(record.scales),
            sums: self.bytes.part(record.sums),
        })
    }

    /// All numbers of a weight, in the order of the graph.
    pub(super) fn dense(&self, name: &str) -> anyhow::Result<Vec<f32>> {
        let id = self.find(name)?;
        let order = &self.records[id].order;
        let (inputs, taps) = (order.inputs(), order.taps());
        let mut values = vec![0.0; order.channels() * inputs * taps];
        match self.get(id) {
            Packed::Int8(panels) => order.each(|at, channel, input, tap| {
                let start = (channel / PANEL * taps + tap) * panels.inputs * PANEL;
                let code = panels.weights[start + (input / 4 * PANEL + channel % PANEL) * 4 + input % 4];
                values[at] = f32::from(code) * panels.scale[channel];
            }),
            Packed::Float(panels) => order.each(|at, channel, input, tap| {
                let start = (channel / PANEL * taps + tap) * inputs;
                values[at] = panels.weights[(start + input) * PANEL + channel % PANEL];
            }),
        }
        Ok(values)
    }
}
