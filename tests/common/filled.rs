//! Graphs whose weights are not in the file, but named by what makes them: `Filled` in `quantize/golden/graphs.py`.

use std::fs;
use std::io::Read;
use std::path::Path;

use prost::Message;
use tract_onnx::pb::{ModelProto, StringStringEntryProto, TensorProto};

/// What is in a gzipped file.
pub(crate) fn gunzip(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("a gzipped file");
    bytes
}

/// Numbers evenly spread around `mean`: murmur3's finalizer over seed and index.
pub(crate) fn fill(seed: u32, count: usize, mean: f64, spread: f64) -> Vec<f32> {
    let number = |at: usize| {
        let mut x = (at as u32).wrapping_add(seed.wrapping_mul(1_000_003));
        for (shift, factor) in [(16, 0x85EB_CA6B_u32), (13, 0xC2B2_AE35)] {
            x = (x ^ (x >> shift)).wrapping_mul(factor);
        }
        x ^= x >> 16;
        (mean + spread * (f64::from(x) / 2_f64.powi(31) - 1.0)) as f32
    };
    (0..count).map(number).collect()
}

/// The graph of a gzipped file with all its weights, as an ONNX file.
pub(crate) fn whole(path: &Path) -> Vec<u8> {
    let mut proto = ModelProto::decode(&gunzip(path)[..]).expect("an ONNX file");
    proto.graph.as_mut().expect("a graph").initializer.iter_mut().for_each(refill);
    proto.encode_to_vec()
}

/// Gives a tensor the numbers that its `fill` names.
fn refill(tensor: &mut TensorProto) {
    let Some(StringStringEntryProto { value, .. }) =
        tensor.external_data.iter().find(|entry| entry.key == "fill")
    else {
        return;
    };
    let parts: Vec<f64> = value.split(' ').map(|part| part.parse().expect("a number")).collect();
    let count: i64 = tensor.dims.iter().product();
    let values = fill(parts[0] as u32, count as usize, parts[1], parts[2]);
    let values: Vec<f32> = match (parts[3], &tensor.dims[..]) {
        (1.0, [rows, columns]) => {
            let (rows, columns) = (*rows as usize, *columns as usize);
            (0..rows * columns).map(|at| values[at % columns * rows + at / columns]).collect()
        }
        _ => values,
    };
    tensor.raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor.external_data.clear();
}
