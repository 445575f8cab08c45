//! What the networks of a pack hold, read from their files without running them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tract_onnx::pb::tensor_proto::DataType;

use super::load;
use super::packed::networks;

/// One network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// Its file.
    pub path: PathBuf,
    /// Its directory within the pack.
    pub component: String,
    /// Numbers in its weights, by the type they are stored in.
    pub weights: BTreeMap<&'static str, u64>,
}

impl Surveyed {
    /// Numbers in all weights.
    pub fn parameters(&self) -> u64 {
        self.weights.values().sum()
    }

    /// The type that most numbers are stored in.
    pub fn precision(&self) -> &'static str {
        self.weights.iter().max_by_key(|(_, count)| **count).map_or("none", |(name, _)| name)
    }
}

/// Every network of the pack at `directory`.
///
/// # Errors
/// A file is no ONNX model.
pub fn survey(directory: &Path) -> anyhow::Result<Vec<Surveyed>> {
    let read = |path: PathBuf| {
        let proto = load::parse(&path).with_context(|| path.display().to_string())?;
        let mut weights = BTreeMap::new();
        for tensor in proto.graph.iter().flat_map(|graph| &graph.initializer) {
            let count: u64 = tensor.dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(0)).product();
            *weights.entry(type_name(tensor.data_type)).or_default() += count;
        }
        let component = path.parent().and_then(Path::file_name).unwrap_or_default();
        Ok(Surveyed { component: component.to_string_lossy().into_owned(), path, weights })
    };
    networks(directory)?.into_iter().map(read).collect()
}

fn type_name(data_type: i32) -> &'static str {
    match DataType::try_from(data_type) {
        Ok(DataType::Float) => "fp32",
        Ok(DataType::Float16) => "fp16",
        Ok(DataType::Bfloat16) => "bf16",
        Ok(DataType::Int8 | DataType::Uint8) => "int8",
        _ => "other",
    }
}
