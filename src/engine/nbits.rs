//! Weights of 2, 4 or 8 bits in blocks, as ONNX Runtime's `MatMulNBits` has them, multiplied out: what is computed here is int8
//! or f32, and both begin from floats.

use anyhow::{Context, ensure};
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

/// The operator, of the domain `com.microsoft`.
pub(super) const OPERATOR: &str = "MatMulNBits";

/// Makes a `MatMul` with a weight of f32, and an `Add` where there is a bias, of every such node.
pub(super) fn unfold(proto: &mut ModelProto, directory: Option<&str>) -> anyhow::Result<()> {
    let Some(graph) = &mut proto.graph else {
        return Ok(());
    };
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        if node.op_type != OPERATOR {
            nodes.push(node);
            continue;
        }
        let weight = weight(&node, graph, directory).with_context(|| format!("node '{}'", node.name))?;
        nodes.extend(plain(node, &weight.name)?);
        graph.initializer.push(weight);
    }
    graph.node = nodes;
    let read = |name: &String| graph.node.iter().any(|node| node.input.contains(name));
    let unread = |tensor: &TensorProto| tensor.data_type == DataType::Uint8 as i32 && !read(&tensor.name);
    let gone: Vec<String> =
        graph.initializer.iter().filter(|tensor| unread(tensor)).map(|tensor| tensor.name.clone()).collect();
    graph.initializer.retain(|tensor| !gone.contains(&tensor.name));
    graph.input.retain(|input| !gone.contains(&input.name));
    Ok(())
}

/// `input(5)` is the bias.
fn plain(mut node: NodeProto, weight: &str) -> anyhow::Result<Vec<NodeProto>> {
    let bias = node.input.get(5).filter(|name| !name.is_empty()).cloned();
    let a = node.input.first().context("it reads nothing")?.clone();
    let output = node.output.first().context("it makes nothing")?.clone();
    node.input = vec![a, weight.to_owned()];
    (node.op_type, node.domain) = ("MatMul".to_owned(), String::new());
    node.attribute.clear();
    let Some(bias) = bias else {
        return Ok(vec![node]);
    };
    let product = format!("{output}/easeld_product");
    node.output = vec![product.clone()];
    let name = format!("{}/easeld_bias", node.name);
    let add = NodeProto {
        name,
        op_type: "Add".to_owned(),
        input: vec![product, bias],
        output: vec![output],
        ..NodeProto::default()
    };
    Ok(vec![node, add])
}

/// How a weight is cut: `outputs` rows of `inputs` numbers, in blocks of `block` with a scale each.
struct Cut {
    inputs: usize,
    outputs: usize,
    bits: usize,
    block: usize,
}

impl Cut {
    fn of(node: &NodeProto) -> anyhow::Result<Self> {
        let number = |name: &str| {
            let found = node.attribute.iter().find(|attribute| attribute.name == name).map(|found| found.i);
            let size = found.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
            size.with_context(|| format!("its {name} is {found:?}"))
        };
        let cut = Self {
            inputs: number("K")?,
            outputs: number("N")?,
            bits: if node.attribute.iter().any(|attribute| attribute.name == "bits") {
                number("bits")?
            } else {
                4
            },
            block: number("block_size")?,
        };
        ensure!([2, 4, 8].contains(&cut.bits), "weights of {} bits: 2, 4 and 8 are known", cut.bits);
        ensure!((cut.block * cut.bits).is_multiple_of(8), "blocks of {} are no whole bytes", cut.block);
        Ok(cut)
    }

    fn blocks(&self) -> usize {
        self.inputs.div_ceil(self.block)
    }

    /// The code at `at` of bytes that hold the lowest bits first.
    fn code(&self, bytes: &[u8], at: usize) -> f32 {
        let per_byte = 8 / self.bits;
        let shifted = bytes[at / per_byte] >> (at % per_byte * self.bits);
        f32::from(shifted & (0xff >> (8 - self.bits)))
    }
}

/// The weight of `node`, `[K, N]` in f32.
fn weight(node: &NodeProto, graph: &GraphProto, directory: Option<&str>) -> anyhow::Result<TensorProto> {
    let cut = Cut::of(node)?;
    ensure!(node.input.get(4).is_none_or(String::is_empty), "groups in an order of their own are not known");
    let tensor = |slot: usize| -> anyhow::Result<Option<Tensor>> {
        let Some(name) = node.input.get(slot).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let found = graph.initializer.iter().find(|tensor| tensor.name == *name);
        let found = found.with_context(|| format!("its '{name}' is no constant"))?;
        Ok(Some(load_tensor(&MmapDataResolver, found, directory)?))
    };
    let (blocks, blob) = (cut.blocks(), cut.block * cut.bits / 8);
    let codes = tensor(1)?.context("it has no weight")?;
    let codes = codes.as_bytes();
    ensure!(codes.len() == cut.outputs * blocks * blob, "its weight has {} bytes", codes.len());
    let scales = tensor(2)?.context("it has no scales")?.cast_to::<f32>()?.into_owned();
    let scales = scales.try_as_plain_ram()?.as_slice::<f32>()?;
    ensure!(scales.len() == cut.outputs * blocks, "it has {} scales", scales.len());
    let zeros = zeros(tensor(3)?, &cut)?;
    let mut values = vec![0.0_f32; cut.inputs * cut.outputs];
    for output in 0..cut.outputs {
        for input in 0..cut.inputs {
            let block = output * blocks + input / cut.block;
            let code = cut.code(&codes[block * blob..][..blob], input % cut.block);
            values[input * cut.outputs + output] = (code - zeros[block]) * scales[block];
        }
    }
    Ok(TensorProto {
        name: format!("{}/easeld_weight", node.input[1]),
        data_type: DataType::Float as i32,
        dims: vec![cut.inputs as i64, cut.outputs as i64],
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    })
}

/// The code of zero in each block: floats, or codes packed row by row; half of the range where nothing is said.
fn zeros(given: Option<Tensor>, cut: &Cut) -> anyhow::Result<Vec<f32>> {
    let (rows, blocks) = (cut.outputs, cut.blocks());
    let Some(given) = given else {
        return Ok(vec![(1 << (cut.bits - 1)) as f32; rows * blocks]);
    };
    if given.datum_type() != u8::datum_type() {
        let floats = given.cast_to::<f32>()?;
        let floats = floats.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        ensure!(floats.len() == rows * blocks, "it has {} zero points", floats.len());
        return Ok(floats);
    }
    let (bytes, row) = (given.as_bytes(), (blocks * cut.bits).div_ceil(8));
    ensure!(bytes.len() == rows * row, "its zero points have {} bytes", bytes.len());
    Ok((0..rows * blocks).map(|at| cut.code(&bytes[at / blocks * row..][..row], at % blocks)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::AttributeProto;

    fn number(name: &str, i: i64) -> AttributeProto {
        AttributeProto { name: name.to_owned(), i, ..AttributeProto::default() }
    }

    fn bytes(name: &str, dims: &[i64], raw_data: Vec<u8>) -> TensorProto {
        let data_type = DataType::Uint8 as i32;
        TensorProto {
            name: name.to_owned(),
            dims: dims.to_vec(),
            data_type,
            raw_data,
            ..TensorProto::default()
        }
    }

    fn node(inputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: OPERATOR.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec!["y".to_owned()],
            attribute: vec![number("K", 5), number("N", 2), number("bits", 4), number("block_size", 4)],
            ..NodeProto::default()
        }
    }

    fn scales() -> TensorProto {
        let raw_data = [0.5_f32, 1.0, 2.0, 4.0].iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let data_type = DataType::Float as i32;
        TensorProto { name: "s".to_owned(), dims: vec![4], data_type, raw_data, ..TensorProto::default() }
    }

    fn unfolded(node: NodeProto, more: Vec<TensorProto>) -> anyhow::Result<(Vec<String>, Vec<f32>)> {
        // Rows of five codes, 8 to 12 and 3 to 7, in blocks of four; the last block is padded.
        let codes = bytes("b", &[2, 2, 2], vec![0x98, 0xba, 0x0c, 0x00, 0x43, 0x65, 0x07, 0x00]);
        let graph = GraphProto {
            node: vec![node],
            initializer: [vec![codes, scales()], more].concat(),
            ..GraphProto::default()
        };
        let mut proto = ModelProto { graph: Some(graph), ..ModelProto::default() };
        unfold(&mut proto, None)?;
        let graph = proto.graph.unwrap();
        let weight = graph.initializer.iter().find(|tensor| tensor.name == "b/easeld_weight").unwrap();
        let values = weight.raw_data.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
        assert!(graph.initializer.iter().all(|tensor| tensor.name != "b"), "the codes are not kept");
        Ok((graph.node.iter().map(|node| node.op_type.clone()).collect(), values.collect()))
    }

    #[test]
    fn codes_count_from_the_middle_where_nothing_else_is_said() {
        let (kinds, values) = unfolded(node(&["x", "b", "s"]), vec![]).unwrap();
        assert_eq!(kinds, ["MatMul"]);
        assert_eq!(values, [0.0, -10.0, 0.5, -8.0, 1.0, -6.0, 1.5, -4.0, 4.0, -4.0]);
    }

    #[test]
    fn zero_points_are_packed_row_by_row_and_a_bias_is_added() {
        let zeros = bytes("z", &[2, 1], vec![0xc8, 0x73]);
        let (kinds, values) = unfolded(node(&["x", "b", "s", "z", "", "bias"]), vec![zeros]).unwrap();
        assert_eq!(kinds, ["MatMul", "Add"]);
        assert_eq!(values, [0.0, 0.0, 0.5, 2.0, 1.0, 4.0, 1.5, 6.0, 0.0, 0.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut wide = node(&["x", "b", "s"]);
        wide.attribute[1].i = 3;
        assert!(unfolded(wide, vec![]).unwrap_err().root_cause().to_string().contains("8 bytes"));
        let mut odd = node(&["x", "b", "s"]);
        odd.attribute[2].i = 3;
        assert!(unfolded(odd, vec![]).is_err());
    }
}
