//! ONNX operators kept whole on their way through tract: norms, which tract would take apart into a dozen passes,
//! and weights, which stay in the packed file.

use anyhow::{Context, bail, ensure};
use tract_core::internal::*;
use tract_onnx::Onnx;
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::array::ConstantOfShape;
use tract_onnx::tract_hir::ops::logic::wire_with_rank_broadcast;

/// The operator that stands for a weight in a graph stripped of them.
pub(super) const WEIGHT: &str = "EaseldWeight";

/// Makes tract read norms and weights as the operators of this file.
pub(super) fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("InstanceNormalization", |_, node| norm(node, Kind::Instance));
    onnx.op_register.insert("LayerNormalization", layer);
    onnx.op_register.insert("GroupNormalization", group);
    onnx.op_register.insert("ConstantOfShape", filled);
    onnx.op_register.insert(WEIGHT, weight);
}

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

fn norm(node: &NodeProto, kind: Kind) -> Built {
    ensure!(
        node.output.iter().skip(1).all(String::is_empty),
        "{}: only the first output is known",
        node.op_type
    );
    let epsilon = node.get_attr_opt("epsilon")?.unwrap_or(1e-5);
    let affine = node.input.len() - 1;
    Ok((expand(NormNode { kind, epsilon, affine }), vec![]))
}

fn layer(_: &ParsingContext, node: &NodeProto) -> Built {
    norm(node, Kind::Layer(node.get_attr_opt("axis")?.unwrap_or(-1)))
}

fn group(context: &ParsingContext, node: &NodeProto) -> Built {
    let per_channel = context.onnx_operator_set_version >= 21;
    norm(node, Kind::Group { groups: node.get_attr("num_groups")?, per_channel })
}

fn filled(_: &ParsingContext, node: &NodeProto) -> Built {
    let value = node.get_attr_opt::<&TensorProto>("value")?;
    let value = value.map(|value| load_tensor(&MmapDataResolver, value, None)).transpose()?;
    let value: Arc<Tensor> = match value {
        Some(value) if value.len() == 1 => value.into_shape(&[])?.into_arc_tensor(),
        Some(_) => bail!("{}: its value is not one number", node.name),
        None => rctensor0(0.0_f32),
    };
    let whole = ConstantOfShape::new(value.clone());
    Ok((
        if value.datum_type() == f32::datum_type() {
            expand(FilledNode(whole, value))
        } else {
            expand(whole)
        },
        vec![],
    ))
}

fn weight(_: &ParsingContext, node: &NodeProto) -> Built {
    let shape: TVec<i64> = node.get_attr_tvec("shape")?;
    let shape = shape.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>()?;
    Ok((expand(WeightNode { name: node.name.clone(), shape }), vec![]))
}

/// Which values make up a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Instance,
    /// From this axis on.
    Layer(i64),
    /// Opset 18 has scale and bias per group, 21 per channel.
    Group {
        groups: usize,
        per_channel: bool,
    },
}

#[derive(Debug, Clone)]
struct NormNode {
    kind: Kind,
    epsilon: f32,
    /// Inputs after the first: a scale, and a bias.
    affine: usize,
}

impl Expansion for NormNode {
    fn name(&self) -> StaticName {
        "Norm".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1 + self.affine)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let shape: TVec<TDim> = model.outlet_fact(inputs[0])?.shape.to_tvec();
        let rank = shape.len();
        let mut x = inputs[0];
        let axis = match self.kind {
            Kind::Instance | Kind::Group { .. } => 2,
            Kind::Layer(axis) if axis < 0 => rank.checked_add_signed(isize::try_from(axis)?).unwrap_or(rank),
            Kind::Layer(axis) => usize::try_from(axis)?,
        };
        ensure!(axis < rank, "a norm over no axis");
        let grouped: Option<TVec<TDim>> = match self.kind {
            Kind::Group { groups, .. } => {
                let rest = shape[1..].iter().product::<TDim>() / groups;
                Some(tvec![groups.to_dim(), rest])
            }
            _ => None,
        };
        let inner: TVec<TDim> = shape[1..].into();
        if let Some(grouped) = &grouped {
            let op = AxisOp::Reshape(1, inner.clone(), grouped.clone());
            x = model.wire_node(format!("{name}.groups"), op, &[x])?[0];
        }
        let op = Standardize { axis, epsilon: self.epsilon };
        x = model.wire_node(format!("{name}.standardize"), op, &[x])?[0];
        let per_group = matches!(self.kind, Kind::Group { per_channel: false, .. });
        let back = |model: &mut TypedModel, x: OutletId| match &grouped {
            Some(grouped) => {
                let op = AxisOp::Reshape(1, grouped.clone(), inner.clone());
                Ok(model.wire_node(format!("{name}.channels"), op, &[x])?[0])
            }
            None => TractResult::Ok(x),
        };
        if !per_group {
            x = back(model, x)?;
        }
        // One number per channel or group stands on axis 1; those of a layer norm are the last axes already.
        let trailing = match self.kind {
            Kind::Layer(_) => 0,
            _ if per_group => 1,
            _ => rank - 2,
        };
        for (at, input) in inputs[1..].iter().enumerate() {
            let mut vector = *input;
            for axis in 0..trailing {
                vector =
                    model.wire_node(format!("{name}.axis-{at}-{axis}"), AxisOp::Add(1 + axis), &[vector])?[0];
            }
            let op: Box<dyn TypedOp> = match at {
                0 => Box::new(tract_core::ops::math::mul()),
                _ => Box::new(tract_core::ops::math::add()),
            };
            x = wire_with_rank_broadcast(format!("{name}.affine-{at}"), model, op, &[x, vector])?[0];
        }
        if per_group {
            x = back(model, x)?;
        }
        Ok(tvec!(x))
    }
}

/// Brings the values over all axes from `axis` on to mean 0 and variance 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standardize {
    pub(super) axis: usize,
    pub(super) epsilon: f32,
}

impl Eq for Standardize {}

impl Op for Standardize {
    fn name(&self) -> StaticName {
        "Standardize".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Standardize {
    op_out_of_plan!();

    /// For norms whose groups lie in a way that the lowering does not know.
    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut tensor = args_1!(inputs).into_tensor();
        let group: usize = tensor.shape()[self.axis..].iter().product();
        for values in tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?.chunks_exact_mut(group) {
            let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / group as f64;
            let variance = values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / group as f64;
            let steepness = (variance + f64::from(self.epsilon)).sqrt().recip();
            values.iter_mut().for_each(|x| *x = ((f64::from(*x) - mean) * steepness) as f32);
        }
        Ok(tvec!(tensor.into_tvalue()))
    }
}

impl TypedOp for Standardize {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }
}

/// A tensor of one number over and over. PyTorch gives `baddbmm` one as large as all scores of an attention, times zero:
/// tract would fill it while it infers shapes.
#[derive(Debug, Clone)]
struct FilledNode(ConstantOfShape, Arc<Tensor>);

impl Expansion for FilledNode {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.0.rules(s, inputs, outputs)
    }

    fn wire(&self, name: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let shape = model.outlet_fact(inputs[0])?.konst.clone().context("a shape that is not known")?;
        let shape = shape.cast_to::<i64>()?;
        let shape = shape.try_as_plain_ram()?.as_slice::<i64>()?;
        let shape = shape.iter().map(|size| usize::try_from(*size)).collect::<Result<Vec<_>, _>>()?;
        let value = *self.1.try_as_plain_ram()?.to_scalar::<f32>()?;
        model.wire_node(name, FilledOp { value, shape }, &[])
    }

    fn runs_out_of_plan(&self) -> bool {
        false
    }
}

/// One number over and over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FilledOp {
    pub(super) value: f32,
    pub(super) shape: Vec<usize>,
}

impl Eq for FilledOp {}

impl Op for FilledOp {
    fn name(&self) -> StaticName {
        "Filled".into()
    }

    op_as_typed_op!();
}

impl EvalOp for FilledOp {
    not_out_of_plan!();
}

impl TypedOp for FilledOp {
    as_op!();

    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }
}

#[derive(Debug, Clone)]
struct WeightNode {
    name: String,
    shape: Vec<usize>,
}

impl Expansion for WeightNode {
    fn name(&self) -> StaticName {
        WEIGHT.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 0)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.equals(&outputs[0].shape, ShapeFactoid::from(self.shape.clone()))
    }

    fn wire(&self, name: &str, model: &mut TypedModel, _: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let op = WeightOp { name: self.name.clone(), shape: self.shape.clone() };
        model.wire_node(name, op, &[])
    }
}

/// A weight by its name; the numbers are in the packed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WeightOp {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
}

impl Op for WeightOp {
    fn name(&self) -> StaticName {
        WEIGHT.into()
    }

    op_as_typed_op!();
}

impl EvalOp for WeightOp {
    not_out_of_plan!();
}

impl TypedOp for WeightOp {
    as_op!();

    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }
}
