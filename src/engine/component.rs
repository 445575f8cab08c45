//! One network of a pack by itself, outside of a pipeline: what `easeld bench` times and `easeld doctor` looks at.

use std::path::Path;
use std::time::Duration;

use ndarray::{ArrayD, ArrayViewD};

use super::budget::NoMemory;
use super::network::Network;
use super::typed::Input;
use super::{EngineOptions, machine};
use crate::diffusion::ports::ModelError;

/// A network ready to be called with inputs of one's own.
pub struct Component(Network);

/// Time spent in one kind of operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KindTime {
    /// `convolution`, `linear`, `attention`, `norm`, `encode`, `elementwise`, `copy`, or `tract` for what was left to it.
    pub kind: &'static str,
    /// All of it.
    pub time: Duration,
    /// Operations run.
    pub count: usize,
    /// Multiplications with an addition, of those kinds that count them.
    pub macs: f64,
}

/// What a run of a network takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Bytes of buffers, as they are held against what is allowed.
    pub buffers: usize,
    /// Bytes of buffers above which it is refused, by [`EngineOptions::memory`] or [`EngineOptions::memory_in_bands`].
    pub allowed: Option<usize>,
    /// Bytes that come when it runs and go when it rests: the buffers, and what is staged beside them.
    pub running: usize,
    /// Bytes of packed weights, which are mapped from their file.
    pub weights: u64,
    /// Multiplications with an addition, by kind of operation.
    pub work: Vec<(&'static str, f64)>,
}

impl Component {
    /// The network in `directory/component/model.onnx`; it is read by the first run.
    ///
    /// # Errors
    /// The file is not there, or `EASELD_ISA` asks for what this CPU does not have.
    pub fn open(directory: &Path, component: &str, options: EngineOptions) -> Result<Self, ModelError> {
        let path = directory.join(component).join("model.onnx");
        machine(options)
            .map_err(anyhow::Error::from)
            .and_then(|machine| Network::new(component, &path, options, machine))
            .map(|network| Self(network.with_tile(options.vae_tile.filter(|_| component.starts_with("vae")))))
            .map_err(|error| failed(component, &error))
    }

    /// Runs the graph; numbers become what the graph declares. Returns its first output.
    ///
    /// # Errors
    /// Those of reading, planning and running the graph: file, node, reason.
    pub fn run(&mut self, inputs: &[(&str, ArrayViewD<'_, f32>)]) -> Result<ArrayD<f32>, ModelError> {
        let inputs: Vec<_> =
            inputs.iter().map(|(name, values)| (*name, Input::Floats(values.view()))).collect();
        self.0.run_first(&inputs).map_err(|error| self.error(&error))
    }

    /// As [`Component::run`], for the output called `output`.
    ///
    /// # Errors
    /// As well, the graph has no such output.
    pub fn run_output(
        &mut self,
        inputs: &[(&str, ArrayViewD<'_, f32>)],
        output: &str,
    ) -> Result<ArrayD<f32>, ModelError> {
        let inputs: Vec<_> =
            inputs.iter().map(|(name, values)| (*name, Input::Floats(values.view()))).collect();
        self.0.run(&inputs, output).map_err(|error| self.error(&error))
    }

    /// What [`Component::run`] with these inputs would take, without running it; nothing where that is not known before: in
    /// f32. Weights that are not packed yet are packed. Buffers may be larger than what is allowed.
    ///
    /// # Errors
    /// Those of reading and planning the graph; `no_memory` where packing would take more than there is.
    pub fn estimate(
        &mut self,
        inputs: &[(&str, ArrayViewD<'_, f32>)],
    ) -> Result<Option<Estimate>, ModelError> {
        let inputs: Vec<_> =
            inputs.iter().map(|(name, values)| (*name, Input::Floats(values.view()))).collect();
        self.0.estimate(&inputs).map_err(|error| self.error(&error))
    }

    /// Time by kind of operation since this was last asked, or nothing where tract runs the graph; the first call begins
    /// to measure.
    pub fn take_times(&mut self) -> Vec<KindTime> {
        self.0.take_times()
    }

    /// How many operations of each kind run, and what is left to tract: the node and its operation. After a first run.
    pub fn report(&self) -> (Vec<(&'static str, usize)>, Vec<String>) {
        self.0.report()
    }

    fn error(&self, error: &anyhow::Error) -> ModelError {
        failed(self.0.component(), error)
    }
}

/// What went wrong with `component`, for those who ask for its network.
pub(super) fn failed(component: &str, error: &anyhow::Error) -> ModelError {
    ModelError { no_memory: NoMemory::caused(error), ..ModelError::new(component, format!("{error:#}")) }
}
