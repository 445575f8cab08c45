//! A graph ready to run for certain shapes, and what its inputs and outputs are called.

use std::sync::Arc;

use anyhow::{Context, bail};
use tract_onnx::prelude::*;

use super::plan::Plan;
use super::tiles::Tiles;

/// What every text encoder has first, whatever its exporter called it.
pub(super) const FIRST_OUTPUT: &str = "last_hidden_state";
/// Stands for the hidden states that go into a text encoder's last layer, `hidden_states.N`: of all layers' the last but one,
/// as Optimum writes them, or the only one that the graph gives.
pub(super) const PENULTIMATE: &str = "hidden_states.-2";
const HIDDEN_STATES: &str = "hidden_states.";

/// A graph made ready to run.
pub(super) struct Planned {
    pub(super) shapes: Vec<Vec<usize>>,
    pub(super) runner: Runner,
    pub(super) output_names: Vec<Vec<String>>,
    pub(super) input_types: Vec<DatumType>,
    pub(super) input_shapes: Vec<Vec<usize>>,
}

/// What runs it.
pub(super) enum Runner {
    Tract(Arc<TypedSimplePlan>),
    Own(Box<Plan>),
    Tiles(Tiles),
}

impl Planned {
    /// The output called `name`. The only output of a graph may be called what it likes.
    pub(super) fn output_index(&self, name: &str) -> anyhow::Result<usize> {
        if name == PENULTIMATE {
            return self.penultimate().context(
                "the graph gives no hidden_states.N: SDXL's text encoders have to be exported with them",
            );
        }
        match self.output_names.iter().position(|names| names.iter().any(|known| known == name)) {
            Some(index) => Ok(index),
            None if self.output_names.len() == 1 || name == FIRST_OUTPUT => Ok(0),
            None => bail!("the graph has no output '{name}'"),
        }
    }

    /// What [`PENULTIMATE`] stands for.
    fn penultimate(&self) -> Option<usize> {
        let layer = |name: &String| name.strip_prefix(HIDDEN_STATES)?.parse::<usize>().ok();
        let layers = self.output_names.iter().enumerate();
        let mut layers: Vec<_> =
            layers.filter_map(|(index, names)| Some((names.iter().find_map(layer)?, index))).collect();
        layers.sort_unstable();
        let at = layers.len().saturating_sub(2);
        layers.get(at).map(|(_, index)| *index)
    }
}
