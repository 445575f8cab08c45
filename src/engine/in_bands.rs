//! Whether a network that makes a picture of a picture works in bands of rows, and how thin they are.

use tract_onnx::prelude::*;

use super::network::Network;
use super::packed::PackedModel;
use super::tiles::{Room, Tiles};
use super::typed::Input;

impl Network {
    /// The network in bands, if it would take more than it may and can be taken so: in bands that fit, or in the thinnest
    /// there are.
    pub(super) fn tiles(
        &self,
        packed: &PackedModel,
        needed: usize,
        inputs: &[(&str, Input<'_>)],
    ) -> Option<Tiles> {
        let buffers = self.tile.filter(|bytes| needed > *bytes)?;
        let [(input, Input::Floats(picture))] = inputs else {
            return None;
        };
        let [output] = &packed.graph.graph.as_ref()?.output[..] else {
            return None;
        };
        let ends = [input, output.name.as_str()];
        let room = Room { buffers, all: self.memory_in_bands.unwrap_or(usize::MAX) };
        let (graph, weights, picture) = (&packed.graph, &packed.weights, picture.view());
        Tiles::new(graph, &self.path, ends, picture, weights, &self.machine, room)
            .inspect_err(|error| {
                tracing::warn!("{} takes all of a picture at once: {error:#}", self.component());
            })
            .ok()
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
        Ok(self.tiles(&packed, needed, inputs).map(|tiles| (packed, tiles)))
    }
}
