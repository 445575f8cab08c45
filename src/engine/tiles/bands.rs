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
        let bands = Bands::even(units, reach, owned.max(least(reach, multiple)), multiple);
        (bands.height < units).then_some(bands)
    }

    /// Bands that own an eighth less, at least; nothing where they cannot.
    pub(super) fn thinner(self, multiple: usize) -> Option<Bands> {
        let Bands { units, reach, .. } = self;
        let owned = self.owned();
        let fewer = (owned - owned.div_ceil(8)) / multiple * multiple;
        (fewer >= least(reach, multiple)).then(|| Bands::even(units, reach, fewer, multiple))
    }

    /// As many bands as it takes where none owns more than `owned`, all about as high: the last one is no remainder that
    /// holds mostly neighbours.
    fn even(units: usize, reach: usize, owned: usize, multiple: usize) -> Bands {
        let even = units.div_ceil(units.div_ceil(owned)).next_multiple_of(multiple);
        Bands { units, height: even.max(least(reach, multiple)) + 2 * reach, reach }
    }

    /// Units that a band gives, all but the last.
    pub(super) fn owned(self) -> usize {
        self.height - 2 * self.reach
    }

    /// From top to bottom, all of one height: those at the edges hold more of their neighbours.
    pub(super) fn all(self) -> impl Iterator<Item = Band> {
        let owned = self.owned();
        (0..self.units).step_by(owned).map(move |top| {
            let start = top.saturating_sub(self.reach).min(self.units - self.height);
            Band { held: start..start + self.height, owned: top..self.units.min(top + owned) }
        })
    }
}

/// Units that a band owns at least: no fewer than its reach, so that it looks at its direct neighbours only.
fn least(reach: usize, multiple: usize) -> usize {
    reach.max(1).next_multiple_of(multiple)
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

    #[test]
    fn no_band_is_a_remainder() {
        // Of 256 rows 85 fit: four bands of 68 instead of three of 85 and one with 13 rows of its own.
        let bands = Bands::new(256, 2, 85.0 / 256.0, 1).unwrap();
        assert_eq!((bands.height, bands.all().count()), (68, 4));
    }

    #[test]
    fn bands_become_thinner_until_they_own_as_little_as_they_look_at() {
        let mut bands = Bands::new(512, 3, 0.1, 4).unwrap();
        let mut owned = vec![bands.owned()];
        while let Some(thinner) = bands.thinner(4) {
            bands = thinner;
            owned.push(bands.owned());
        }
        assert_eq!(owned, [44, 36, 28, 24, 20, 16, 12, 8, 4]);
    }
}
