//! Layer norms as exporters spell them before opset 17, which has an operator for them:
//! `d = x - mean(x)`, `d / sqrt(mean(d ^ 2) + epsilon)`.

use std::collections::HashMap;

use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType,
};
use tract_onnx::tensor::load_tensor;

/// Makes a `LayerNormalization` without scale and bias of every such quotient; what else it needs is multiplied and added
/// behind it, as in the graph.
pub(super) fn whole(proto: &mut ModelProto) {
    let Some(graph) = &mut proto.graph else {
        return;
    };
    let finder = Finder::new(graph);
    let found: Vec<(usize, String, f32)> = (graph.node.iter().enumerate())
        .filter_map(|(at, node)| finder.norm(node).map(|(input, epsilon)| (at, input, epsilon)))
        .collect();
    for (at, input, epsilon) in found {
        let node = &mut graph.node[at];
        let attribute = |name: &str| AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
        node.op_type = "LayerNormalization".to_owned();
        node.input = vec![input];
        node.attribute = vec![
            AttributeProto { r#type: AttributeType::Int as i32, i: -1, ..attribute("axis") },
            AttributeProto { r#type: AttributeType::Float as i32, f: epsilon, ..attribute("epsilon") },
        ];
    }
}

struct Finder<'a> {
    makers: HashMap<&'a str, &'a NodeProto>,
    constants: HashMap<&'a str, &'a TensorProto>,
}

impl<'a> Finder<'a> {
    fn new(graph: &'a GraphProto) -> Finder<'a> {
        let mut constants: HashMap<&str, &TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut makers = HashMap::new();
        for node in &graph.node {
            let value = node.attribute.iter().find(|attribute| attribute.name == "value");
            if let ("Constant", Some(tensor)) =
                (node.op_type.as_str(), value.and_then(|value| value.t.as_ref()))
            {
                constants.extend(node.output.iter().map(|output| (output.as_str(), tensor)));
            }
            makers.extend(node.output.iter().map(|output| (output.as_str(), node)));
        }
        Finder { makers, constants }
    }

    fn made_by(&self, name: &str, kind: &str) -> Option<&'a NodeProto> {
        self.makers.get(name).copied().filter(|node| node.op_type == kind)
    }

    /// A constant of one number.
    fn number(&self, name: &str) -> Option<f32> {
        let tensor = load_tensor(&MmapDataResolver, self.constants.get(name)?, None).ok()?;
        let floats = tensor.cast_to::<f32>().ok()?.into_owned();
        let floats = floats.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec();
        if let [number] = floats[..] { Some(number) } else { None }
    }

    /// What a mean over the last axis, which stays as 1, is taken of.
    fn mean(&self, name: &str) -> Option<&'a str> {
        let node = self.made_by(name, "ReduceMean")?;
        let find = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
        let last = match node.input.get(1) {
            Some(axes) => self.number(axes) == Some(-1.0),
            None => find("axes").is_some_and(|axes| axes.ints == [-1]),
        };
        let keeps = find("keepdims").is_none_or(|keeps| keeps.i == 1);
        (last && keeps).then(|| node.input[0].as_str())
    }

    /// The input and the epsilon of the norm that `node` ends.
    fn norm(&self, node: &NodeProto) -> Option<(String, f32)> {
        let [difference, deviation] = &node.input[..] else {
            return None;
        };
        let centred = self.made_by(difference, "Sub")?;
        let input = centred.input.first()?;
        let root = self.made_by(deviation, "Sqrt")?;
        let sum = self.made_by(root.input.first()?, "Add")?;
        let (variance, epsilon) = match [self.number(&sum.input[0]), self.number(sum.input.get(1)?)] {
            [None, Some(epsilon)] => (&sum.input[0], epsilon),
            [Some(epsilon), None] => (&sum.input[1], epsilon),
            _ => return None,
        };
        let squared = self.mean(variance)?;
        let is_square = match (self.made_by(squared, "Pow"), self.made_by(squared, "Mul")) {
            (Some(power), _) => {
                power.input[0] == *difference && self.number(power.input.get(1)?) == Some(2.0)
            }
            (_, Some(product)) => product.input.iter().all(|factor| factor == difference),
            _ => false,
        };
        let fits = node.op_type == "Div" && is_square && self.mean(centred.input.get(1)?)? == input;
        fits.then(|| (input.clone(), epsilon))
    }
}
