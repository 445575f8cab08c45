//! One ONNX file made ready to run for the shapes it is called with: on our own kernels, or on tract's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use ndarray::ArrayD;
use tract_core::prelude::multithread::multithread_tract_scope;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::component::{Estimate, KindTime};
use super::ops::Machine;
use super::packed::{PackedModel, Reading};
use super::plan::Plan;
use super::planned::{FIRST_OUTPUT, Planned, Runner};
use super::typed::{Input, typed};
use super::weights::give_back_free_blocks;
use super::{Compute, EngineOptions, budget, learned, load, lower, quantizers};
use crate::diffusion::ports::DeepFeatures;

/// What a text encoder's ids are called.
const TOKEN_IDS: &str = "input_ids";

/// A graph and its plan. Plans are for concrete shapes, so one is made at the first call and made again when shapes
/// change.
pub(super) struct Network {
    component: String,
    pub(super) path: PathBuf,
    compute: Compute,
    reading: Reading,
    pub(super) machine: Machine,
    /// The name of the only input, once somebody asked.
    only_input: Option<String>,
    /// Vectors of words that the graph's own table of token embeddings lacks.
    learned: Arc<[Vec<f32>]>,
    /// More bytes than this are not taken for buffers where the picture can be had in bands.
    pub(super) tile: Option<usize>,
    /// More bytes than this are not taken for buffers at all.
    memory: Option<usize>,
    /// The same for bands, with the tensors around them.
    pub(super) memory_in_bands: Option<usize>,
    /// Its weights for our own kernels; tract reads the file again rather than have them held twice.
    packed: Option<PackedModel>,
    planned: Option<Planned>,
    load_time: Duration,
}

impl Network {
    /// A network that will be read from `path`; checks no more than that the file is there.
    pub(super) fn new(
        component: &str,
        path: &Path,
        options: EngineOptions,
        machine: Machine,
    ) -> anyhow::Result<Self> {
        ensure!(path.is_file(), "{} is missing", path.display());
        Ok(Self {
            component: component.to_owned(),
            path: path.to_owned(),
            compute: options.compute,
            reading: Reading { source: options.weights, check_all: false, pack_within: options.memory },
            machine,
            learned: Arc::default(),
            only_input: None,
            tile: None,
            memory: options.memory,
            memory_in_bands: options.memory_in_bands,
            packed: None,
            planned: None,
            load_time: Duration::ZERO,
        })
    }

    /// The same network, one picture in and one out, in bands where it would take more than `tile` bytes.
    pub(super) fn with_tile(self, tile: Option<usize>) -> Self {
        Self { tile, ..self }
    }

    /// The same network, a text encoder, with vectors for ids from `FIRST_LEARNED_ID` on.
    pub(super) fn with_learned(self, learned: Arc<[Vec<f32>]>) -> Self {
        Self { learned, ..self }
    }

    /// The component's name in the pack.
    pub(super) fn component(&self) -> &str {
        &self.component
    }

    /// Time spent reading and planning since this was last asked.
    pub(super) fn take_load_time(&mut self) -> Duration {
        std::mem::take(&mut self.load_time)
    }

    /// As [`Network::run`], for the first output, whatever it is called.
    pub(super) fn run_first(&mut self, inputs: &[(&str, Input<'_>)]) -> anyhow::Result<ArrayD<f32>> {
        self.run(inputs, FIRST_OUTPUT)
    }

    /// As [`Network::run`], for a graph with one input and one output, whatever they are called.
    pub(super) fn run_only(&mut self, input: Input<'_>) -> anyhow::Result<ArrayD<f32>> {
        let name = match &self.only_input {
            Some(name) => name.clone(),
            None => load::only_input(&self.path)?,
        };
        self.only_input = Some(name.clone());
        self.run(&[(&name, input)], FIRST_OUTPUT)
    }

    /// Gives its buffers back until it runs again; the plan stays.
    pub(super) fn rest(&mut self) {
        if let Some(Runner::Own(plan)) = self.planned.as_mut().map(|planned| &mut planned.runner) {
            plan.rest();
        }
    }

    /// What a run for these inputs will take, by the plan alone: none of its memory is there yet.
    pub(super) fn estimate(&mut self, inputs: &[(&str, Input<'_>)]) -> anyhow::Result<Option<Estimate>> {
        let rows = self.token_rows(inputs)?;
        self.plan(&with_rows(inputs, rows.as_ref()))?;
        let (Some(packed), Some(planned)) = (&self.packed, &self.planned) else { return Ok(None) };
        let Some((buffers, allowed)) = self.buffers() else { return Ok(None) };
        let (running, work) = match &planned.runner {
            Runner::Own(plan) => (plan.bytes_running() + plan.staged(&packed.weights), plan.work()),
            Runner::Tiles(tiles) => (tiles.bytes() + tiles.staged(), tiles.work()),
            Runner::Tract(_) => return Ok(None),
        };
        let weights = packed.bytes();
        Ok(Some(Estimate { buffers, allowed, running, weights, work }))
    }

    /// Bytes of buffers that a run takes by the plan there is, and how many it may; nothing where tract runs it.
    fn buffers(&self) -> Option<(usize, Option<usize>)> {
        match &self.planned.as_ref()?.runner {
            Runner::Own(plan) => Some((plan.bytes(), self.memory)),
            Runner::Tiles(tiles) => Some((tiles.bytes(), self.memory_in_bands)),
            Runner::Tract(_) => None,
        }
    }

    /// Time by kind of operation, where our own kernels run.
    pub(super) fn take_times(&mut self) -> Vec<KindTime> {
        match self.planned.as_mut().map(|planned| &mut planned.runner) {
            Some(Runner::Own(plan)) => plan.take_times(),
            _ => Vec::new(),
        }
    }

    /// Operations by kind, and what is left to tract.
    pub(super) fn report(&self) -> (Vec<(&'static str, usize)>, Vec<String>) {
        match self.planned.as_ref().map(|planned| &planned.runner) {
            Some(Runner::Own(plan)) => plan.report(),
            _ => (Vec::new(), Vec::new()),
        }
    }

    /// Runs the graph on `inputs`, given by the graph's own input names, and returns the output called `output`.
    pub(super) fn run(&mut self, inputs: &[(&str, Input<'_>)], output: &str) -> anyhow::Result<ArrayD<f32>> {
        self.run_reusing(inputs, output, DeepFeatures::Compute)
    }

    /// As [`Network::run`], for several outputs of one run.
    pub(super) fn run_several<const N: usize>(
        &mut self,
        inputs: &[(&str, Input<'_>)],
        outputs: [&str; N],
    ) -> anyhow::Result<[ArrayD<f32>; N]> {
        self.run_outputs(inputs, outputs, DeepFeatures::Compute)
    }

    /// As [`Network::run`], with the deep levels as `deep` says where our own kernels run.
    pub(super) fn run_reusing(
        &mut self,
        inputs: &[(&str, Input<'_>)],
        output: &str,
        deep: DeepFeatures,
    ) -> anyhow::Result<ArrayD<f32>> {
        self.run_outputs(inputs, [output], deep).map(|[output]| output)
    }

    fn run_outputs<const N: usize>(
        &mut self,
        inputs: &[(&str, Input<'_>)],
        outputs: [&str; N],
        deep: DeepFeatures,
    ) -> anyhow::Result<[ArrayD<f32>; N]> {
        let started = Instant::now();
        if self.packed.as_ref().is_some_and(|packed| !packed.weights.is_whole()) {
            (self.packed, self.planned) = (None, None); // somebody cut the file
        }
        let prepared = catch_unwind(AssertUnwindSafe(|| {
            let rows = self.token_rows(inputs)?;
            self.plan(&with_rows(inputs, rows.as_ref()))?;
            if let Some((needed, allowed)) = self.buffers() {
                budget::check(needed, allowed)?;
            }
            Ok(rows)
        }));
        let rows = prepared.unwrap_or_else(|_| bail!("this graph cannot be planned (a panic)"));
        self.load_time += started.elapsed();
        let rows = rows.with_context(|| format!("cannot load {}", self.path.display()))?;
        let inputs = &with_rows(inputs, rows.as_ref())[..];

        let planned = self.planned.as_mut().expect("plan() returned Ok");
        let tensors = inputs
            .iter()
            .zip(planned.input_types.iter().zip(&planned.input_shapes))
            .map(|((_, input), (datum_type, shape))| input.to_tensor(*datum_type, shape))
            .collect::<TractResult<Vec<_>>>()?;
        let mut indices = [0; N];
        for (index, output) in indices.iter_mut().zip(outputs) {
            *index = planned.output_index(output)?;
        }
        let runner = &mut planned.runner;
        let (executor, packed) = (self.machine.pool.executor(), &mut self.packed);
        let machine = &self.machine;
        let mut weights = packed.as_mut().map(|packed| &mut packed.weights);
        let mut weights = || weights.take().expect("a plan of ours has its weights");
        let run = || match runner {
            Runner::Tract(runnable) => {
                let values = tensors.into_iter().map(IntoTValue::into_tvalue).collect::<TVec<_>>();
                let outputs = multithread_tract_scope(executor, || runnable.run(values))?;
                let floats = |index: usize| outputs[index].cast_to::<f32>()?.into_owned().into_plain_array();
                indices.into_iter().map(floats).collect()
            }
            Runner::Own(plan) => {
                let outputs = plan.run(weights(), tensors, &indices, deep)?;
                outputs
                    .into_iter()
                    .map(|(shape, values)| Ok(ArrayD::from_shape_vec(shape, values)?))
                    .collect()
            }
            Runner::Tiles(tiles) => {
                let [(_, Input::Floats(picture))] = inputs else { bail!("not one picture") };
                Ok(vec![tiles.run(weights(), machine, picture.view())?])
            }
        };
        let outcome: anyhow::Result<Vec<ArrayD<f32>>> =
            catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| bail!("it cannot be run (a panic)"));
        if outcome.is_err() {
            // Weights may have been damaged while they were in use: they are read anew, every byte checked.
            (self.packed, self.planned, self.reading.check_all) = (None, None, true);
        }
        let outputs =
            outcome.with_context(|| format!("{} failed in {}", self.component, self.path.display()))?;
        outputs.try_into().map_err(|_| anyhow!("{} gives one output only", self.component))
    }

    /// Makes sure that the packed weights are there.
    fn open(&mut self) -> anyhow::Result<()> {
        if self.packed.is_none() {
            let mut packed = PackedModel::open(&self.path, self.reading)?;
            if packed.table.is_none() {
                self.teach(&mut packed.graph)?;
            }
            self.packed = Some(packed);
        }
        Ok(())
    }

    /// The token embeddings of `inputs`, for a graph that has lost its table, and the input that they are.
    fn token_rows(&mut self, inputs: &[(&str, Input<'_>)]) -> anyhow::Result<Option<(String, ArrayD<f32>)>> {
        let ids = inputs.iter().find(|(name, _)| *name == TOKEN_IDS);
        let (Some((_, ids)), Compute::Int8) = (ids, self.compute) else { return Ok(None) };
        self.open()?;
        let Some(packed) = &self.packed else { return Ok(None) };
        let Some(table) = &packed.table else { return Ok(None) };
        Ok(Some((table.name.clone(), table.look_up(&packed.weights, ids, &self.learned)?)))
    }

    /// Makes sure that the plan fits the shapes of `inputs`.
    fn plan(&mut self, inputs: &[(&str, Input<'_>)]) -> anyhow::Result<()> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|(_, input)| input.shape()).collect();
        if self.planned.as_ref().is_some_and(|planned| planned.shapes == shapes) {
            return Ok(());
        }
        self.planned = None; // its memory goes before the new plan's comes
        self.planned = Some(self.planned_for(shapes, inputs)?);
        give_back_free_blocks();
        Ok(())
    }

    fn planned_for(
        &mut self,
        shapes: Vec<Vec<usize>>,
        inputs: &[(&str, Input<'_>)],
    ) -> anyhow::Result<Planned> {
        let (model, facts) = match self.compute {
            Compute::F32 => {
                self.packed = None;
                let mut graph = load::decode_widened(&self.path)?;
                quantizers::rounded(&mut graph, self.path.parent().and_then(Path::to_str))?;
                self.teach(&mut graph)?;
                typed(&graph, &self.path, inputs, false)?
            }
            Compute::Int8 => {
                self.open()?;
                let packed = self.packed.as_ref().expect("just opened");
                typed(&packed.graph, &self.path, inputs, true)?
            }
        };
        let names = |outlet: &OutletId| {
            let label = model.outlet_label(*outlet).map(str::to_owned);
            label.into_iter().chain([model.node(outlet.node).name.clone()]).collect()
        };
        let output_names = model.outputs.iter().map(names).collect();
        let runner = match &self.packed {
            Some(packed) => {
                let graph = lower::lower(&model, &packed.weights)?;
                let plan = Plan::new(graph, &packed.weights, self.machine.clone())?;
                match self.tiles(packed, plan.bytes(), inputs) {
                    Some(tiles) => Runner::Tiles(tiles),
                    None => Runner::Own(Box::new(plan)),
                }
            }
            None => match self.tiles_in_f32(&model, inputs)? {
                Some((packed, tiles)) => {
                    self.packed = Some(packed);
                    Runner::Tiles(tiles)
                }
                None => Runner::Tract(model.into_optimized()?.into_runnable()?),
            },
        };
        let (input_types, input_shapes) = facts.into_iter().unzip();
        Ok(Planned { shapes, runner, output_names, input_types, input_shapes })
    }

    /// Has the graph know what was learned after it was made.
    fn teach(&self, graph: &mut ModelProto) -> anyhow::Result<()> {
        if self.learned.is_empty() { Ok(()) } else { learned::add(graph, &self.learned) }
    }
}

/// The inputs of a graph, token embeddings included where it needs them.
fn with_rows<'a>(
    inputs: &'a [(&'a str, Input<'_>)],
    rows: Option<&'a (String, ArrayD<f32>)>,
) -> Vec<(&'a str, Input<'a>)> {
    let rows = rows.map(|(name, values)| (name.as_str(), Input::Floats(values.view())));
    inputs.iter().map(|(name, input)| (*name, input.view())).chain(rows).collect()
}
