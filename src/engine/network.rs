//! One ONNX file as a tract plan, made for the shapes it is called with.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use ndarray::{ArrayD, ArrayViewD};
use tract_core::internal::DimLike;
use tract_core::prelude::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

/// What every text encoder has first, whatever its exporter called it.
const FIRST_OUTPUT: &str = "last_hidden_state";

/// A value for one graph input; integers and floats are cast to the type the graph declares.
pub(super) enum Input<'a> {
    /// Text tokens.
    Tokens(ArrayViewD<'a, i64>),
    /// Latents or embeddings.
    Floats(ArrayViewD<'a, f32>),
    /// A timestep: takes the rank the graph declares, a scalar or `[1]`.
    Scalar(f64),
}

/// A graph and its plan. tract wants concrete shapes (its choice of convolution needs them), so the plan is
/// made at the first call and made again when shapes change; the file is read again then, rather than its
/// weights be held twice.
pub(super) struct Network {
    component: String,
    path: PathBuf,
    executor: Executor,
    planned: Option<Planned>,
    load_time: Duration,
}

struct Planned {
    shapes: Vec<Vec<usize>>,
    runnable: Arc<TypedSimplePlan>,
    input_types: Vec<DatumType>,
    input_shapes: Vec<Vec<usize>>,
}

impl Network {
    /// A network that will be read from `path`; checks no more than that the file is there.
    pub(super) fn new(component: &str, path: &Path, executor: Executor) -> anyhow::Result<Self> {
        ensure!(path.is_file(), "{} is missing", path.display());
        let component = component.to_owned();
        Ok(Self { component, path: path.to_owned(), executor, planned: None, load_time: Duration::ZERO })
    }

    /// The component's name in the pack.
    pub(super) fn component(&self) -> &str {
        &self.component
    }

    /// Time spent reading and planning since this was last asked.
    pub(super) fn take_load_time(&mut self) -> Duration {
        std::mem::take(&mut self.load_time)
    }

    /// Runs the graph on `inputs`, given by the graph's own input names, and returns the output called `output`.
    pub(super) fn run(&mut self, inputs: &[(&str, Input<'_>)], output: &str) -> anyhow::Result<ArrayD<f32>> {
        let started = Instant::now();
        let component = self.component.clone();
        let result = catch_unwind(AssertUnwindSafe(|| self.plan(inputs)))
            .unwrap_or_else(|_| bail!("tract cannot plan this graph (it panicked)"));
        self.load_time += started.elapsed();
        result.with_context(|| format!("cannot load {}", self.path.display()))?;

        let planned = self.planned.as_ref().expect("plan() returned Ok");
        let values = inputs
            .iter()
            .zip(planned.input_types.iter().zip(&planned.input_shapes))
            .map(|((_, input), (datum_type, shape))| {
                input.to_tensor(*datum_type, shape).map(IntoTValue::into_tvalue)
            })
            .collect::<TractResult<TVec<TValue>>>()?;
        let index = planned.output_index(output)?;
        let outputs = multithread_tract_scope(self.executor.clone(), || planned.runnable.run(values))
            .with_context(|| format!("{component} failed in {}", self.path.display()))?;
        let result = outputs[index].cast_to::<f32>()?.into_owned();
        result.into_plain_array::<f32>()
    }

    /// Makes sure that the plan fits the shapes of `inputs`.
    fn plan(&mut self, inputs: &[(&str, Input<'_>)]) -> anyhow::Result<()> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|(_, input)| input.shape()).collect();
        if self.planned.as_ref().is_some_and(|planned| planned.shapes == shapes) {
            return Ok(());
        }
        self.planned = None; // its memory goes before the new plan's comes
        let mut model = parse(&self.path)?;
        let mut order = Vec::with_capacity(inputs.len());
        let mut facts = Vec::with_capacity(inputs.len());
        for (name, input) in inputs {
            let (outlet, datum_type, shape) = declare(&model, name, input)?;
            order.push(outlet);
            facts.push((datum_type, shape));
        }
        let missing =
            input_names(&model).into_iter().find(|name| !inputs.iter().any(|(given, _)| given == name));
        if let Some(name) = missing {
            bail!("the graph has an input '{name}' that this kind of model should not have");
        }
        model.set_input_outlets(&order)?;
        for (index, (datum_type, shape)) in facts.iter().enumerate() {
            model.set_input_fact(index, InferenceFact::dt_shape(*datum_type, shape))?;
        }
        let runnable = model.into_optimized()?.into_runnable()?;
        let (input_types, input_shapes) = facts.into_iter().unzip();
        self.planned = Some(Planned { shapes, runnable, input_types, input_shapes });
        Ok(())
    }
}

impl Planned {
    /// The output called `name`. The only output of a graph may be called what it likes.
    fn output_index(&self, name: &str) -> anyhow::Result<usize> {
        let model = self.runnable.model();
        let labelled = |outlet: &OutletId| {
            model.outlet_label(*outlet) == Some(name) || model.node(outlet.node).name == name
        };
        match model.outputs.iter().position(labelled) {
            Some(index) => Ok(index),
            None if model.outputs.len() == 1 || name == FIRST_OUTPUT => Ok(0),
            None => bail!("the graph has no output '{name}'"),
        }
    }
}

impl Input<'_> {
    fn shape(&self) -> Vec<usize> {
        match self {
            Input::Tokens(values) => values.shape().to_vec(),
            Input::Floats(values) => values.shape().to_vec(),
            Input::Scalar(_) => vec![],
        }
    }

    fn to_tensor(&self, datum_type: DatumType, shape: &[usize]) -> TractResult<Tensor> {
        let tensor = match self {
            Input::Tokens(values) => values.to_owned().into_tensor(),
            Input::Floats(values) => values.to_owned().into_tensor(),
            Input::Scalar(value) => tensor0(*value).broadcast_scalar_to_shape(shape)?,
        };
        Ok(tensor.cast_to_dt(datum_type)?.into_owned())
    }
}

/// Reads the graph, shapes still open. Shapes recorded inside the file are ignored: exporters leave
/// symbols there that would contradict the ones we set.
fn parse(path: &Path) -> anyhow::Result<InferenceModel> {
    let onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let proto =
        onnx.proto_model_for_read(&mut File::open(path)?).context("not an ONNX file, or a truncated one")?;
    ensure!(proto.graph.is_some(), "not an ONNX file, or a truncated one: it holds no graph");
    let directory = path.parent().and_then(Path::to_str);
    let parsed = onnx.parse(&proto, directory)?;
    ensure!(parsed.unresolved_inputs.is_empty(), "inputs without a source: {:?}", parsed.unresolved_inputs);
    Ok(parsed.model)
}

fn input_names(model: &InferenceModel) -> Vec<String> {
    model.inputs.iter().map(|outlet| model.node(outlet.node).name.clone()).collect()
}

/// The graph input called `name`, the type it declares, and the shape that `input` gives it.
fn declare(
    model: &InferenceModel,
    name: &str,
    input: &Input<'_>,
) -> anyhow::Result<(OutletId, DatumType, Vec<usize>)> {
    let outlet =
        model.inputs.iter().copied().find(|outlet| model.node(outlet.node).name == name).ok_or_else(
            || anyhow!("the graph has no input '{name}', only {}", input_names(model).join(", ")),
        )?;
    let fact = model.outlet_fact(outlet)?;
    let datum_type =
        fact.datum_type.concretize().ok_or_else(|| anyhow!("input '{name}' declares no type"))?;
    let declared = fact.shape.as_concrete_dims();
    let shape = match input {
        Input::Scalar(_) => vec![1; declared.len()],
        _ => input.shape(),
    };
    let fits =
        declared.len() == shape.len() && declared.iter().zip(&shape).all(|(d, s)| d.is_none_or(|d| d == *s));
    ensure!(fits, "input '{name}' takes {}, the pack's configuration makes it {shape:?}", spell(&declared));
    Ok((outlet, datum_type, shape))
}

/// `[?, 4, ?, ?]`: open dimensions as question marks.
fn spell(dims: &[Option<usize>]) -> String {
    let dims: Vec<String> = dims.iter().map(|d| d.map_or("?".to_owned(), |d| d.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

/// Dimensions as far as they are plain numbers.
trait ConcreteDims {
    fn as_concrete_dims(&self) -> Vec<Option<usize>>;
}

impl ConcreteDims for tract_onnx::tract_hir::infer::ShapeFactoid {
    fn as_concrete_dims(&self) -> Vec<Option<usize>> {
        self.dims().map(|dim| dim.concretize().and_then(|d| d.to_usize().ok())).collect()
    }
}
