//! A graph as tract types it for inputs of given shapes, with our coarse operators in it or without.

use std::path::Path;

use anyhow::{anyhow, bail, ensure};
use ndarray::ArrayViewD;
use tract_core::internal::DimLike;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

use super::coarse;

/// Beyond this a graph is a mistake: all scores of an attention over a picture of 2048 x 2048 pixels, which are never
/// computed at once, are 8 heads of 2^32.
const NUMBERS_MAX: usize = 1 << 36;

/// A value for one graph input; integers and floats are cast to the type the graph declares.
pub(super) enum Input<'a> {
    /// Text tokens.
    Tokens(ArrayViewD<'a, i64>),
    /// Latents or embeddings.
    Floats(ArrayViewD<'a, f32>),
    /// A timestep: takes the rank the graph declares, a scalar or `[1]`.
    Scalar(f64),
}

impl Input<'_> {
    pub(super) fn view(&self) -> Input<'_> {
        match self {
            Input::Tokens(values) => Input::Tokens(values.view()),
            Input::Floats(values) => Input::Floats(values.view()),
            Input::Scalar(value) => Input::Scalar(*value),
        }
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        match self {
            Input::Tokens(values) => values.shape().to_vec(),
            Input::Floats(values) => values.shape().to_vec(),
            Input::Scalar(_) => vec![],
        }
    }

    pub(super) fn to_tensor(&self, datum_type: DatumType, shape: &[usize]) -> TractResult<Tensor> {
        let tensor = match self {
            Input::Tokens(values) => values.to_owned().into_tensor(),
            Input::Floats(values) => values.to_owned().into_tensor(),
            Input::Scalar(value) => tensor0(*value).broadcast_scalar_to_shape(shape)?,
        };
        Ok(tensor.cast_to_dt(datum_type)?.into_owned())
    }
}

/// A graph, and the type and shape of each input.
pub(super) type Typed = (TypedModel, Vec<(DatumType, Vec<usize>)>);

/// The graph for these inputs, its norms and weights as operators of ours or taken apart, and the type and shape of
/// each input.
pub(super) fn typed(
    proto: &ModelProto,
    path: &Path,
    inputs: &[(&str, Input<'_>)],
    coarse_operators: bool,
) -> anyhow::Result<Typed> {
    let mut model = parse(proto, path, coarse_operators)?;
    let mut order = Vec::with_capacity(inputs.len());
    let mut facts = Vec::with_capacity(inputs.len());
    for (name, input) in inputs {
        let (outlet, datum_type, shape) = declare(&model, name, input)?;
        order.push(outlet);
        facts.push((datum_type, shape));
    }
    let missing = input_names(&model).into_iter().find(|name| !inputs.iter().any(|(given, _)| given == name));
    if let Some(name) = missing {
        bail!("the graph has an input '{name}' that this kind of model should not have");
    }
    model.set_input_outlets(&order)?;
    for (index, (datum_type, shape)) in facts.iter().enumerate() {
        model.set_input_fact(index, InferenceFact::dt_shape(*datum_type, shape))?;
    }
    let model = model.into_typed()?;
    for node in model.nodes() {
        for fact in node.outputs.iter().map(|output| &output.fact) {
            let sizes = fact.shape.as_concrete();
            let count =
                sizes.map(|sizes| sizes.iter().try_fold(1_usize, |count, size| count.checked_mul(*size)));
            let fits = count.is_none_or(|count| count.is_some_and(|count| count <= NUMBERS_MAX));
            ensure!(fits, "node '{}' makes a tensor of {:?}", node.name, fact.shape);
        }
    }
    Ok((model, facts))
}

/// Reads the graph, shapes still open. Shapes recorded inside the file are ignored: exporters leave
/// symbols there that would contradict the ones we set.
fn parse(proto: &ModelProto, path: &Path, coarse_operators: bool) -> anyhow::Result<InferenceModel> {
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    if coarse_operators {
        coarse::register(&mut onnx);
    }
    let parsed = onnx.parse(proto, path.parent().and_then(Path::to_str))?;
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
