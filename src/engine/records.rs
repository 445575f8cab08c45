//! What a packed file says about each weight: in which order its numbers are, where it lies, how many bytes it takes.

use super::kernels::{PANEL, STEP};

/// Bytes of a cache line: parts of a packed file and staging buffers begin on one, so that no vector straddles two.
pub(super) const LINE: usize = 64;

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

    /// Bytes of weights, scales and sums, as s8 or as f32; nothing if they overflow.
    fn sizes(&self, int8: bool) -> Option<[usize; 3]> {
        let panels = self.channels().checked_next_multiple_of(2 * PANEL)? / PANEL;
        let column = panels.checked_mul(self.taps())?.checked_mul(PANEL)?;
        let stepped = self.inputs().checked_next_multiple_of(STEP)?;
        let float = size_of::<f32>();
        if !int8 {
            return Some([column.checked_mul(self.inputs())?.checked_mul(float)?, 0, 0]);
        }
        Some([column.checked_mul(stepped)?, panels.checked_mul(PANEL * float)?, column.checked_mul(float)?])
    }
}

/// A stretch of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Part {
    pub(super) offset: usize,
    pub(super) bytes: usize,
}

/// What a packed file says about one weight: weights, scales and sums lie one after the other, each on a whole line.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) order: Order,
    /// s8 panels with scales and sums, else f32 panels.
    pub(super) int8: bool,
    /// Where it begins in the file.
    pub(super) offset: usize,
    /// Of all its bytes.
    pub(super) checksum: u64,
}

impl Record {
    /// Where weights, scales and sums lie in the weight's own bytes, and how many those are; nothing if they overflow.
    pub(super) fn parts(&self) -> Option<([Part; 3], usize)> {
        let mut end = 0_usize;
        let mut parts = [Part::default(); 3];
        for (part, bytes) in parts.iter_mut().zip(self.order.sizes(self.int8)?) {
            *part = Part { offset: end, bytes };
            end = end.checked_add(bytes)?.checked_next_multiple_of(LINE)?;
        }
        Some((parts, end))
    }

    /// Where its bytes lie in the file. Whoever reads or writes a record has seen to it that they can be counted.
    pub(super) fn span(&self) -> Part {
        Part { offset: self.offset, bytes: self.parts().expect("a size that was checked").1 }
    }
}
