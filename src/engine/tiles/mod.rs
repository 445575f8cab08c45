//! A network over pictures, taken in bands of rows so that its buffers stay small: the same numbers, bit for bit, as of
//! the whole picture at once, so no seam can show.
//!
//! The network is cut ([`cuts`]) where one tensor is all that is needed to go on: that tensor is kept whole. A stretch
//! between two cuts runs band by band ([`bands`]); each band holds as many of its neighbours' rows as its convolutions
//! look at. What convolutions cannot tell from a band are the statistics of group norms. They are gathered first, norm
//! by norm, in passes over all bands that go no further than the norm's input; the last pass, with all statistics known,
//! writes the output. A stretch that needs little memory, or that looks at the whole picture (attention), runs at once.
//! Its output takes its input's place ([`run`]), so that the larger one of the two is all that is kept of the picture.
//!
//! That trades time for memory: what lies before a norm within a stretch runs again for every norm behind it, and what
//! bands hold of their neighbours runs twice. So bands are as high as memory allows.

mod bands;
mod cuts;
mod run;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use ndarray::{ArrayD, ArrayViewD};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::lower::{self, Graph};
use super::ops::Machine;
use super::plan::Plan;
use super::typed::{Input, typed};
use super::weights::Weights;
use bands::Bands;
use cuts::ROWS_IN;

/// Pixels whose sums a norm takes together: bands that are whole multiples of it add up the same numbers in the same
/// order as the whole picture does.
const BLOCK: usize = super::ops::norm::BLOCK;

/// Height, width, channels of rows of pixels.
type Shape = [usize; 3];

/// Memory that a network may take, bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// For the buffers of a stretch: from here on it is taken in bands, which take no more.
    pub(super) buffers: usize,
    /// For those and the tensors that the stretch lies between.
    pub(super) all: usize,
}

/// What lies between two tensors that are kept whole.
struct Stretch {
    /// For a band, or for the whole.
    graph: Graph,
    bands: Option<Bands>,
    input: Shape,
    output: Shape,
    /// Bytes that it takes while it runs, with the tensors that it lies between.
    bytes: usize,
    /// Bytes that its weights take beside it where they are streamed.
    staged: usize,
    /// Multiplications of all its runs for a picture, by kind of operation.
    work: Vec<(&'static str, f64)>,
}

/// A network with one picture in and one out, ready for pictures of one size.
pub(super) struct Tiles {
    stretches: Vec<Stretch>,
}

impl Tiles {
    /// Cuts the network `proto`, whose file is `path`, for the picture `input`. No stretch takes more than there is `room`,
    /// unless the few rows that its layers look at already do.
    pub(super) fn new(
        proto: &ModelProto,
        path: &Path,
        [input, output]: [&str; 2],
        picture: ArrayViewD<'_, f32>,
        weights: &Weights,
        machine: &Machine,
        room: Room,
    ) -> anyhow::Result<Tiles> {
        ensure!(picture.ndim() == 4 && picture.shape()[0] == 1, "not one picture: {:?}", picture.shape());
        let names = cuts::candidates(proto, input, output);
        let inputs = [(input, Input::Floats(picture))];
        let (model, _) = typed(&cuts::with_outputs(proto, &names[1..]), path, &inputs, true)?;
        let mut places = vec![(input, shape_of(model.input_fact(0)?)?)];
        for (at, name) in names[1..].iter().enumerate() {
            match shape_of(model.output_fact(at)?) {
                Ok(shape) => places.push((name, shape)),
                Err(_) if name != output => {}
                Err(error) => return Err(error),
            }
        }
        drop(model);
        let shapes: Vec<Shape> = places.iter().map(|(_, shape)| *shape).collect();
        // Bands want their share beside it.
        let kept = cuts::choose(&shapes, (room.all / 3 * 2).min(room.buffers.saturating_mul(2)));
        let stretches = kept.windows(2).map(|two| {
            let [(from, input), (to, output)] = [places[two[0]], places[two[1]]];
            let part = cuts::between(proto, from, to);
            let lowered = |height: usize| -> anyhow::Result<Graph> {
                let rows = ArrayD::<f32>::zeros(vec![1, height, input[1], input[2]]);
                let (model, _) = typed(&part, path, &[(ROWS_IN, Input::Floats(rows.view()))], true)?;
                lower::lower(&model, weights)
            };
            let stretch = Stretch::new(lowered, [input, output], weights, machine, room);
            stretch.with_context(|| format!("between '{from}' and '{to}'"))
        });
        let stretches = stretches.collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(
            stretches.iter().any(|stretch| stretch.bands.is_some()),
            "no part of it can be taken in bands"
        );
        Ok(Tiles { stretches })
    }

    /// Memory that a run takes, bytes: what the largest stretch does with the tensors around it.
    pub(super) fn bytes(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.bytes).max().unwrap_or(0)
    }

    /// Memory that weights take beside it where they are streamed, bytes.
    pub(super) fn staged(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.staged).max().unwrap_or(0)
    }

    /// Multiplications of the whole run, by kind of operation.
    pub(super) fn work(&self) -> Vec<(&'static str, f64)> {
        let mut sums: BTreeMap<&'static str, f64> = BTreeMap::new();
        for (kind, macs) in self.stretches.iter().flat_map(|stretch| &stretch.work) {
            *sums.entry(kind).or_default() += macs;
        }
        sums.into_iter().collect()
    }
}

impl Stretch {
    fn new(
        lowered: impl Fn(usize) -> anyhow::Result<Graph>,
        [input, output]: [Shape; 2],
        weights: &Weights,
        machine: &Machine,
        room: Room,
    ) -> anyhow::Result<Stretch> {
        let planned = |graph: &Graph| Plan::new(graph.clone(), weights, machine.clone());
        let graph = lowered(input[0])?;
        let plan = planned(&graph)?;
        let needed = plan.bytes_at_work();
        // In bands the output takes the input's place; at once the input is gone before the output is there.
        let tensors = bytes_of(input).max(bytes_of(output));
        let buffers = room.buffers.min(room.all.saturating_sub(tensors));
        let units = input[0].min(output[0]);
        let width = input[1].min(output[1]);
        let even = [input[0], output[0]].iter().all(|height| height.is_multiple_of(units));
        let reach = bands::reach(&graph, input[0]).filter(|_| needed > buffers && even);
        let multiple = BLOCK / greatest_common_divisor(BLOCK, width);
        let bands = reach.and_then(|reach| {
            let reach = reach.div_ceil(input[0] / units);
            Bands::new(units, reach, buffers as f64 / needed as f64, multiple)
        });
        let Some(mut bands) = bands else {
            let bytes = needed + tensors;
            let (staged, work) = (plan.staged(weights), plan.work());
            return Ok(Stretch { graph, bands: None, input, output, bytes, staged, work });
        };
        drop((graph, plan));
        let (graph, plan, needed) = loop {
            let graph = lowered(bands.height * (input[0] / units))?;
            let wanted = [1, bands.height * (output[0] / units), output[1], output[2]];
            let met = graph.outputs[0].shape();
            ensure!(met == wanted, "a band of it gives {met:?} instead of {wanted:?}");
            let plan = planned(&graph)?;
            // A band's output waits until the next one has taken its input.
            let needed = plan.bytes_at_work() + bytes_of(output) / units * bands.owned();
            match bands.thinner(multiple).filter(|_| needed > buffers) {
                Some(thinner) => bands = thinner,
                None => break (graph, plan, needed),
            }
        };
        // A pass for a norm ends there: half of the whole, on average.
        let passes = 1.0 + plan.pooled_norms().len() as f64 / 2.0;
        let runs = passes * bands.all().count() as f64;
        let work = plan.work().into_iter().map(|(kind, macs)| (kind, macs * runs)).collect();
        let (bytes, staged) = (needed + tensors, plan.staged(weights));
        Ok(Stretch { graph, bands: Some(bands), input, output, bytes, staged, work })
    }
}

/// Bytes of a tensor of f32.
fn bytes_of(shape: Shape) -> usize {
    shape.iter().product::<usize>() * size_of::<f32>()
}

/// Height, width and channels of one picture's planes.
fn shape_of(fact: &TypedFact) -> anyhow::Result<Shape> {
    let shape = fact.shape.as_concrete().context("an open shape")?;
    match shape {
        [1, channels, height, width] => Ok([*height, *width, *channels]),
        _ => anyhow::bail!("a tensor of shape {shape:?} is no picture"),
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
