//! Runs one network of a pack on inputs from `.npy` files: `run_network PACK COMPONENT OUT.npy NAME=FILE.npy...`
//!
//! `benches/error/run` compares what it writes with other arithmetic; `EASELD_COMPUTE=f32` leaves activations as they are.

use std::path::Path;

use anyhow::Context;
use easeld::engine::{Component, Compute, EngineOptions};
use ndarray::ArrayD;
use ndarray_npy::{read_npy, write_npy};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pack, component, out, inputs @ ..] = &arguments[..] else {
        anyhow::bail!("usage: run_network PACK COMPONENT OUT.npy NAME=FILE.npy...");
    };
    let mut values = Vec::new();
    for input in inputs {
        let (name, file) =
            input.split_once('=').with_context(|| format!("'{input}' is not NAME=FILE.npy"))?;
        let array: ArrayD<f32> = read_npy(file).with_context(|| file.to_owned())?;
        values.push((name, array));
    }
    let compute = match std::env::var("EASELD_COMPUTE").as_deref() {
        Ok("f32") => Compute::F32,
        _ => Compute::Int8,
    };
    let options = EngineOptions { compute, ..EngineOptions::default() };
    let mut network = Component::open(Path::new(pack), component, options)?;
    let views: Vec<_> = values.iter().map(|(name, values)| (*name, values.view())).collect();
    write_npy(out, &network.run(&views)?).with_context(|| out.clone())
}
