//! Whether a network that makes a picture of a picture works in bands of rows, and how thin they are.

use tract_onnx::prelude::*;

use super::budget;
use super::network::Network;
use super::packed::PackedModel;
use super::tiles::Tiles;
use super::typed::Input;

/// Bands of less are hardly thinner, and take long.
const THINNEST: usize = 4 << 20;

impl Network {
    /// The network in bands, if it would take more than it may and can be taken so.
    pub(super) fn tiles(
        &self,
        packed: &PackedModel,
        needed: usize,
        inputs: &[(&str, Input<'_>)],
    ) -> anyhow::Result<Option<Tiles>> {
        let Some(mut bytes) = self.tile.filter(|bytes| needed > *bytes) else {
            return Ok(None);
        };
        let outputs = packed.graph.graph.as_ref().map(|graph| &graph.output[..]);
        let ([(input, Input::Floats(picture))], Some([output])) = (inputs, outputs) else {
            return Ok(None);
        };
        let ends = [input, output.name.as_str()];
        let (weights, machine) = (&packed.weights, &self.machine);
        loop {
            let cut = Tiles::new(&packed.graph, &self.path, ends, picture.view(), weights, machine, bytes);
            let tiles = match cut {
                Ok(tiles) => tiles,
                Err(error) => {
                    tracing::warn!("{} takes all of a picture at once: {error:#}", self.component());
                    return Ok(None);
                }
            };
            let Some(allowed) = self.memory_in_bands else { return Ok(Some(tiles)) };
            let (needed, _) = tiles.estimate(weights, machine)?;
            if needed <= allowed || bytes <= THINNEST {
                budget::check(needed, Some(allowed).filter(|_| self.refuses))?;
                return Ok(Some(tiles));
            }
            bytes /= 2;
        }
    }

    /// The same with weights in f32 for our own kernels: tract cannot be told statistics.
    pub(super) fn tiles_in_f32(
        &self,
        model: &TypedModel,
        inputs: &[(&str, Input<'_>)],
    ) -> anyhow::Result<Option<(PackedModel, Tiles)>> {
        // Beside a tensor there is at least what it comes from and what becomes of it.
        const ALIVE: usize = 3;
        let size =
            |fact: &TypedFact| fact.shape.as_concrete().map_or(0, |shape| shape.iter().product::<usize>());
        let outlets = model.nodes().iter().flat_map(|node| &node.outputs);
        let largest = outlets.map(|outlet| size(&outlet.fact)).max().unwrap_or(0);
        let needed = largest * size_of::<f32>() * ALIVE;
        if self.tile.is_none_or(|bytes| needed <= bytes) {
            return Ok(None);
        }
        let packed = PackedModel::in_f32(&self.path)?;
        Ok(self.tiles(&packed, needed, inputs)?.map(|tiles| (packed, tiles)))
    }
}
