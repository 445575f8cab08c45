//! A network over pictures, taken in bands of rows so that its buffers stay small: the same numbers, bit for bit, as of
//! the whole picture at once, so no seam can show.
//!
//! The network is cut ([`cuts`]) where one tensor is all that is needed to go on: that tensor is kept whole. A stretch
//! between two cuts runs band by band ([`bands`]); each band holds as many of its neighbours' rows as its convolutions
//! look at. What convolutions cannot tell from a band are the statistics of group norms. They are gathered first, norm
//! by norm, in passes over all bands that go no further than the norm's input; the last pass, with all statistics known,
//! writes the output. A stretch that needs little memory, or that looks at the whole picture (attention), runs at once.
//!
//! That trades time for memory: what lies before a norm within a stretch runs again for every norm behind it.

mod bands;
mod cuts;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use ndarray::{ArrayD, ArrayViewD, Axis, Ix4};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::lower::{self, Graph};
use super::ops::Machine;
use super::plan::Plan;
use super::typed::{Input, typed};
use super::weights::Weights;
use bands::{Band, Bands};
use cuts::ROWS_IN;

/// Pixels whose sums a norm takes together: bands that are whole multiples of it add up the same numbers in the same
/// order as the whole picture does.
const BLOCK: usize = super::ops::norm::BLOCK;

/// Height, width, channels of rows of pixels.
type Shape = [usize; 3];

/// What lies between two tensors that are kept whole.
struct Stretch {
    /// For a band, or for the whole.
    graph: Graph,
    bands: Option<Bands>,
    input: Shape,
    output: Shape,
    /// Bytes that its plan takes while it runs.
    running: usize,
    /// Multiplications of all its runs for a picture, by kind of operation.
    work: Vec<(&'static str, f64)>,
}

/// A network with one picture in and one out, ready for pictures of one size.
pub(super) struct Tiles {
    stretches: Vec<Stretch>,
}

impl Tiles {
    /// Cuts the network `proto`, whose file is `path`, for the picture `input`. No stretch takes more than `bytes` for
    /// its buffers, besides the two tensors that it lies between, unless a few rows already do.
    pub(super) fn new(
        proto: &ModelProto,
        path: &Path,
        [input, output]: [&str; 2],
        picture: ArrayViewD<'_, f32>,
        weights: &Weights,
        machine: &Machine,
        bytes: usize,
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
        let kept = cuts::choose(&shapes);
        let stretches = kept.windows(2).map(|two| {
            let [(from, input), (to, output)] = [places[two[0]], places[two[1]]];
            let part = cuts::between(proto, from, to);
            let lowered = |height: usize| -> anyhow::Result<Graph> {
                let rows = ArrayD::<f32>::zeros(vec![1, height, input[1], input[2]]);
                let (model, _) = typed(&part, path, &[(ROWS_IN, Input::Floats(rows.view()))], true)?;
                lower::lower(&model, weights)
            };
            let stretch = Stretch::new(lowered, [input, output], weights, machine, bytes);
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
        self.stretches.iter().map(|stretch| stretch.running + stretch.tensor_bytes()).max().unwrap_or(0)
    }

    /// Multiplications of the whole run, by kind of operation.
    pub(super) fn work(&self) -> Vec<(&'static str, f64)> {
        let mut sums: BTreeMap<&'static str, f64> = BTreeMap::new();
        for (kind, macs) in self.stretches.iter().flat_map(|stretch| &stretch.work) {
            *sums.entry(kind).or_default() += macs;
        }
        sums.into_iter().collect()
    }

    /// Runs the network on `picture`, `[1, C, H, W]`.
    pub(super) fn run(
        &self,
        weights: &mut Weights,
        machine: &Machine,
        picture: ArrayViewD<'_, f32>,
    ) -> anyhow::Result<ArrayD<f32>> {
        let rows = picture.into_dimensionality::<Ix4>()?.permuted_axes([0, 2, 3, 1]);
        let mut rows: Vec<f32> = rows.iter().copied().collect();
        for stretch in &self.stretches {
            rows = stretch.run(weights, machine, rows)?;
        }
        let [height, width, channels] = self.stretches.last().context("no stretch")?.output;
        let rows = ArrayD::from_shape_vec(vec![height, width, channels], rows)?;
        let planes = rows.permuted_axes(vec![2, 0, 1]).insert_axis(Axis(0));
        Ok(planes.as_standard_layout().into_owned())
    }
}

impl Stretch {
    fn new(
        lowered: impl Fn(usize) -> anyhow::Result<Graph>,
        [input, output]: [Shape; 2],
        weights: &Weights,
        machine: &Machine,
        bytes: usize,
    ) -> anyhow::Result<Stretch> {
        let planned = |graph: &Graph| Plan::new(graph.clone(), weights, machine.clone());
        let graph = lowered(input[0])?;
        let plan = planned(&graph)?;
        let needed = plan.bytes();
        let units = input[0].min(output[0]);
        let width = input[1].min(output[1]);
        let even = [input[0], output[0]].iter().all(|height| height.is_multiple_of(units));
        let reach = bands::reach(&graph, input[0]).filter(|_| needed > bytes && even);
        let bands = reach.and_then(|reach| {
            let reach = reach.div_ceil(input[0] / units);
            let multiple = BLOCK / greatest_common_divisor(BLOCK, width);
            Bands::new(units, reach, bytes as f64 / needed as f64, multiple)
        });
        let Some(bands) = bands else {
            return Ok(Stretch {
                graph,
                bands: None,
                input,
                output,
                running: plan.bytes_running(),
                work: plan.work(),
            });
        };
        let graph = lowered(bands.height * (input[0] / units))?;
        let wanted = [1, bands.height * (output[0] / units), output[1], output[2]];
        let met = graph.outputs[0].shape();
        ensure!(met == wanted, "a band of it gives {met:?} instead of {wanted:?}");
        let plan = planned(&graph)?;
        // A pass for a norm ends there: half of the whole, on average.
        let passes = 1.0 + plan.pooled_norms().len() as f64 / 2.0;
        let runs = passes * bands.all().count() as f64;
        let work = plan.work().into_iter().map(|(kind, macs)| (kind, macs * runs)).collect();
        Ok(Stretch { graph, bands: Some(bands), input, output, running: plan.bytes_running(), work })
    }

    /// Of the tensor that it reads and the one that it writes, as far as its plan has no copy of them.
    fn tensor_bytes(&self) -> usize {
        let [input, output] =
            [self.input, self.output].map(|shape| shape.iter().product::<usize>() * size_of::<f32>());
        // In bands the output may take the input's place; at once the plan has a copy of either.
        match self.bands {
            Some(_) if self.input == self.output => input,
            Some(_) => input + output,
            None => input,
        }
    }

    fn run(&self, weights: &mut Weights, machine: &Machine, mut rows: Vec<f32>) -> anyhow::Result<Vec<f32>> {
        let mut plan = Plan::new(self.graph.clone(), weights, machine.clone())?;
        let Some(bands) = self.bands else {
            let input = self.tensor(0..self.input[0], &rows)?;
            drop(rows);
            return plan.run_first(weights, input);
        };
        let units = self.input[0].min(self.output[0]);
        let [taken, given] = [self.input, self.output].map(|shape| shape[0] / units);
        let input =
            |band: &Band, rows: &[f32]| self.tensor(band.held.start * taken..band.held.end * taken, rows);
        for (norm, pixels) in plan.pooled_norms() {
            // Pixels of a unit's row where this norm stands.
            let unit = pixels / bands.height;
            let mut moments = Vec::new();
            for band in bands.all() {
                moments.extend(plan.moments(weights, input(&band, &rows)?, norm, band.within(unit))?);
            }
            plan.impose(norm, &moments, units * unit);
        }
        let in_place = self.input == self.output;
        let width = self.output[1] * self.output[2];
        let mut out = if in_place { Vec::new() } else { vec![0.0; self.output.iter().product()] };
        // A band's rows go where they belong once the next band has taken its input from there.
        let mut waiting: Option<(usize, Vec<f32>)> = None;
        for band in bands.all() {
            let input = input(&band, &rows)?;
            let target = if in_place { &mut rows } else { &mut out };
            if let Some((at, values)) = waiting.take() {
                target[at..at + values.len()].copy_from_slice(&values);
            }
            let values = plan.run_first(weights, input)?;
            let owned = band.within(given);
            waiting = Some((
                band.owned.start * given * width,
                values[owned.start * width..owned.end * width].to_vec(),
            ));
        }
        let mut target = if in_place { rows } else { out };
        if let Some((at, values)) = waiting {
            target[at..at + values.len()].copy_from_slice(&values);
        }
        Ok(target)
    }

    /// Some of the input's rows.
    fn tensor(&self, held: std::ops::Range<usize>, rows: &[f32]) -> TractResult<Tensor> {
        let [_, width, channels] = self.input;
        let size = width * channels;
        Tensor::from_shape(&[1, held.len(), width, channels], &rows[held.start * size..held.end * size])
    }
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
