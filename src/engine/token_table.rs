//! The table of token embeddings, outside of its text encoder's graph.
//!
//! It is the larger part of a text encoder (150 MB of Stable Diffusion 1.5's), and a prompt reads 77 rows of it. Left in the
//! graph it would be in memory several times over: in the file's contents, in what tract makes of them, in the plan. So the
//! rows become an input of the graph, and are read from the packed file for each prompt.

use anyhow::{Context, bail, ensure};
use ndarray::{ArrayD, IxDyn};
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use tract_onnx::tensor::load_tensor;

use super::learned::token_embeddings;
use super::records::Part;
use super::typed::Input;
use super::weights::Weights;
use crate::text::FIRST_LEARNED_ID;

/// Smaller tables stay where they are.
const BYTES_MIN: usize = 1 << 20;

/// A table with its numbers, on its way into a packed file.
pub(super) struct RawTable {
    /// The tensor that the rows make: an input of the graph from now on.
    pub(super) name: String,
    pub(super) width: usize,
    /// Its numbers row by row, f32, little-endian.
    pub(super) bytes: Vec<u8>,
}

/// Where the table lies in a packed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// The input of the graph.
    pub(super) name: String,
    pub(super) width: usize,
    /// Of all rows, f32.
    pub(super) part: Part,
    /// Of all its bytes.
    pub(super) checksum: u64,
}

/// Takes the table out of `proto` where it is worth it, and nothing but the look-up of token ids reads it.
pub(super) fn take(proto: &mut ModelProto, directory: Option<&str>) -> anyhow::Result<Option<RawTable>> {
    let graph = proto.graph.as_mut().context("no graph")?;
    let Some(at) = token_embeddings(graph) else { return Ok(None) };
    let [table, _] = &graph.node[at].input[..] else { return Ok(None) };
    let Some(name) = graph.node[at].output.first().cloned() else { return Ok(None) };
    let readers = graph.node.iter().flat_map(|node| &node.input).filter(|input| *input == table).count();
    let given_out = graph.output.iter().any(|output| [table, &name].contains(&&output.name));
    let Some(index) = graph.initializer.iter().position(|tensor| tensor.name == *table) else {
        return Ok(None);
    };
    let [rows, width] = graph.initializer[index].dims[..] else { return Ok(None) };
    let bytes = usize::try_from(rows * width * 4).unwrap_or(0);
    if readers != 1 || given_out || bytes < BYTES_MIN {
        return Ok(None);
    }
    if graph.initializer[index].data_type != DataType::Float as i32 {
        return Ok(None); // halves are f32 by now
    }
    let tensor = graph.initializer.remove(index);
    // Each copy is 150 MB of Stable Diffusion 1.5's: none is made of what is here.
    let bytes = if tensor.raw_data.len() == bytes {
        tensor.raw_data
    } else {
        let values = load_tensor(&MmapDataResolver, &tensor, directory)?;
        values.try_as_plain_ram()?.as_slice::<f32>()?.iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    let table = tensor.name;
    graph.input.retain(|input| input.name != table);
    graph.input.push(floats(&name));
    graph.node.remove(at);
    Ok(Some(RawTable { name, width: usize::try_from(width)?, bytes }))
}

/// An input of three dimensions: text, token, feature.
fn floats(name: &str) -> ValueInfoProto {
    let dimension = tract_onnx::pb::tensor_shape_proto::Dimension::default;
    let shape = TensorShapeProto { dim: vec![dimension(), dimension(), dimension()] };
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

impl Table {
    /// The rows of `ids`, in their shape; ids from [`FIRST_LEARNED_ID`] on stand for the vectors `learned`.
    pub(super) fn look_up(
        &self,
        weights: &Weights,
        ids: &Input<'_>,
        learned: &[Vec<f32>],
    ) -> anyhow::Result<ArrayD<f32>> {
        let (shape, ids): (Vec<usize>, Vec<i64>) = match ids {
            Input::Tokens(ids) => (ids.shape().to_vec(), ids.iter().copied().collect()),
            Input::Floats(ids) => (ids.shape().to_vec(), ids.iter().map(|id| *id as i64).collect()),
            Input::Scalar(_) => bail!("token ids are no scalar"),
        };
        let mut values = Vec::with_capacity(ids.len() * self.width);
        for id in ids {
            let after = id.checked_sub(i64::from(FIRST_LEARNED_ID)).and_then(|at| usize::try_from(at).ok());
            match after.and_then(|at| learned.get(at)) {
                Some(vector) => {
                    ensure!(vector.len() == self.width, "a learned word has {} numbers", vector.len());
                    values.extend(vector);
                }
                None => values.extend(self.row(weights, id)?),
            }
        }
        Ok(ArrayD::from_shape_vec(IxDyn(&[&shape[..], &[self.width]].concat()), values)?)
    }

    fn row(&self, weights: &Weights, id: i64) -> anyhow::Result<Vec<f32>> {
        let bytes = self.width * size_of::<f32>();
        let rows = self.part.bytes / bytes;
        let at = usize::try_from(id).ok().filter(|at| *at < rows);
        let at = at.with_context(|| format!("token id {id} is not among the {rows} that the model knows"))?;
        let row = weights.part(Part { offset: self.part.offset + at * bytes, bytes })?;
        let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
        Ok(row.chunks_exact(size_of::<f32>()).map(number).collect())
    }
}
