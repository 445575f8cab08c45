//! How a stretch of a network is taken in bands: how far its layers reach, how high a band may be, which rows are whose.

use std::ops::Range;

use tract_onnx::prelude::*;

use crate::engine::lower::{Graph, Op};

/// Rows are counted in units: rows of the smaller one of input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bands {
    /// Of the whole picture.
    units: usize,
    /// Of a band with the neighbours' rows that it looks at.
    pub(super) height: usize,
    /// How far it looks, above and below.
    reach: usize,
}

/// One band.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Band {
    /// What is computed.
    pub(super) held: Range<usize>,
    /// What of it is right, and this band's to give.
    pub(super) owned: Range<usize>,
}

impl Band {
    /// The owned rows where a unit has `scale` rows, within the band.
    pub(super) fn within(&self, scale: usize) -> Range<usize> {
        let start = self.held.start;
        (self.owned.start - start) * scale..(self.owned.end - start) * scale
    }
}

impl Bands {
    /// Bands of a picture of `units` that need about `share` of the memory that all of it at once would. `multiple`: what
    /// the owned units are a multiple of. Nothing where that is no less than all of it.
    pub(super) fn new(units: usize, reach: usize, share: f64, multiple: usize) -> Option<Bands> {
        let affordable = (units as f64 * share) as usize;
        let owned = affordable.saturating_sub(2 * reach) / multiple * multiple;
        // Owned rows are no fewer than the reach, so that a band looks at its direct neighbours only.
        let owned = owned.max(reach.max(1).next_multiple_of(multiple));
        let height = owned + 2 * reach;
        (height < units).then_some(Bands { units, height, reach })
    }

    /// From top to bottom, all of one height: those at the edges hold more of their neighbours.
    pub(super) fn all(self) -> impl Iterator<Item = Band> {
        let owned = self.height - 2 * self.reach;
        (0..self.units).step_by(owned).map(move |top| {
            let start = top.saturating_sub(self.reach).min(self.units - self.height);
            Band { held: start..start + self.height, owned: top..self.units.min(top + owned) }
        })
    }
}

/// How many rows of its input, `height` in all, the output of `graph` looks up and down at most. Nothing where it may look
/// at all of them.
pub(super) fn reach(graph: &Graph, height: usize) -> Option<usize> {
    let uses = graph.uses();
    let mut reach = 0.0;
    for (node, _) in graph.nodes.iter().zip(uses).filter(|(_, uses)| *uses > 0) {
        match &node.op {
            Op::Gemm(gemm) if gemm.geometry.kernel[0] > 1 => {
                let geometry = &gemm.geometry;
                let above = geometry.padding[0];
                let rows = above.max((geometry.kernel[0] - 1).saturating_sub(above));
                reach += (rows * height) as f64 / (geometry.input[0] * geometry.repeat) as f64;
            }
            Op::Attention(_) => return None,
            // A border of zeros is one more row below.
            Op::Foreign(op, _) if op.name() == "Pad" => reach += 1.0,
            Op::Foreign(..) if node.datum_type == f32::datum_type() => return None,
            Op::Norm(norm) if norm.batch > 1 && norm.rows > 1 => return None,
            _ => {}
        }
    }
    Some(reach.ceil() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_owned_once_and_sees_what_it_needs() {
        for (units, reach, share, multiple) in
            [(64, 3, 0.5, 1), (64, 3, 0.0, 4), (65, 6, 0.3, 2), (33, 0, 0.2, 1), (512, 7, 0.1, 8)]
        {
            let bands = Bands::new(units, reach, share, multiple).unwrap();
            let mut next = 0;
            for Band { held, owned } in bands.all() {
                assert_eq!(owned.start, next);
                assert_eq!(held.len(), bands.height);
                assert!(held.start <= owned.start.saturating_sub(reach) && held.end <= units, "{held:?}");
                assert!(held.end >= units.min(owned.end + reach), "{held:?} {owned:?}");
                assert!(owned.start.is_multiple_of(multiple));
                next = owned.end;
            }
            assert_eq!(next, units);
        }
        assert_eq!(Bands::new(15, 5, 0.5, 1), None);
    }
}
