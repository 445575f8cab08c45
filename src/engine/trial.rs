//! Single operations on made-up numbers, as a plan runs them: what `benches/operations.rs` times.

use super::kernels::attention::Head;
use super::kernels::codes::Codes;
use super::kernels::finish::Epilogue;
use super::kernels::float::Activation;
use super::kernels::gemm::{Geometry, IntProducts, PAIR, run as gemm};
use super::load::{RawWeight, Values};
use super::lower::{Attention, Norm, View};
use super::ops::Machine;
use super::ops::attention::{Inputs, attention};
use super::ops::encode::encode;
use super::ops::norm::{Target, norm};
use super::packing;
use super::records::Order;
use super::weights::{Lines, Packed, Weights};
use super::{EngineOptions, IsaError, machine};

/// An operation that can be run again and again.
pub struct Trial {
    work: Box<dyn FnMut() + Send>,
    machine: Machine,
    /// Multiplications with an addition in one run; 0 for operations that are not made of them.
    pub macs: f64,
}

/// Numbers between -1 and 1 that go up and down.
fn wave(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at as f32 * 0.61).sin()).collect()
}

impl Trial {
    fn new(machine: &Machine, macs: usize, work: impl FnMut() + Send + 'static) -> Trial {
        Trial { work: Box::new(work), machine: machine.clone(), macs: macs as f64 }
    }

    /// Runs it once, on the threads that it was made for.
    pub fn run(&mut self) {
        let work = &mut self.work;
        self.machine.pool.enter(work);
    }

    /// A convolution over pictures of `size` x `size` with as much padding as keeps the size, after which a stride of 2
    /// leaves half; its input is coded in every run, as a norm does it.
    ///
    /// # Errors
    /// `EASELD_ISA` asks for what this CPU does not have. The same holds for all others.
    pub fn convolution(
        threads: usize,
        size: usize,
        inputs: usize,
        channels: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<Trial, IsaError> {
        let geometry = Geometry {
            batch: 1,
            input: [size; 2],
            repeat: 1,
            output: [size / stride; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
        };
        let order = Order::ChannelsFirst { channels, inputs, taps: kernel * kernel };
        Trial::layer(threads, geometry, order)
    }

    /// A linear layer over `rows` tokens.
    pub fn linear(threads: usize, rows: usize, inputs: usize, channels: usize) -> Result<Trial, IsaError> {
        Trial::layer(threads, Geometry::linear(rows), Order::InputsFirst { inputs, channels })
    }

    fn layer(threads: usize, geometry: Geometry, order: Order) -> Result<Trial, IsaError> {
        let machine = machine(EngineOptions { threads, ..EngineOptions::default() })?;
        let (inputs, channels) = (order.inputs(), order.channels());
        let macs = geometry.output_rows() * order.taps() * inputs * channels;
        let values = Values::Float(wave(order.len()));
        let raw = RawWeight { name: String::new(), order, values };
        let file = packing::pack(&[0; 32], &[], vec![raw], None);
        let contents = packing::read(&file, &[0; 32]).expect("a file as it was written");
        let mut weights = Weights::new(Box::new(Lines::hold(&file)), contents.records);
        let values = wave(geometry.input_rows() * inputs);
        let (mut codes, mut out) = (Codes::default(), vec![0.0; geometry.output_rows() * channels]);
        let bias = vec![0.5; channels.next_multiple_of(PAIR)];
        let on = machine.clone();
        Ok(Trial::new(&machine, macs, move || {
            encode(&on, &values, inputs, &mut codes);
            let Ok(Packed::Int8(panels)) = weights.get(0) else {
                unreachable!("layers as wide as these are int8");
            };
            let epilogue = Epilogue {
                scale: panels.scale,
                bias: &bias,
                row_bias: None,
                activation: Activation::Identity,
                gated: false,
                residual: None,
            };
            let products = IntProducts { unit: on.unit, codes: &codes, panels };
            gemm(&on.pool, on.unit, &geometry, &products, channels, &epilogue, &mut out);
        }))
    }

    /// Attention of `tokens` queries to `keys` keys, heads side by side.
    pub fn attention(
        threads: usize,
        tokens: usize,
        keys: usize,
        heads: usize,
        depth: usize,
    ) -> Result<Trial, IsaError> {
        let machine = machine(EngineOptions { threads, ..EngineOptions::default() })?;
        let view = |tokens: usize| View::row_major(0, &[tokens, heads, depth]).moved(1, 0);
        let op = Attention {
            query: view(tokens),
            key: view(keys),
            value: view(keys),
            scale: (depth as f32).sqrt().recip(),
            mask: None,
            output: view(tokens),
        };
        let (query, key) = (wave(tokens * heads * depth), wave(keys * heads * depth));
        let (mut scratch, mut out) = (Vec::<Head>::new(), vec![0.0; query.len()]);
        let on = machine.clone();
        Ok(Trial::new(&machine, 2 * tokens * keys * heads * depth, move || {
            let inputs = Inputs { query: &query, key: &key, value: &key, mask: None };
            attention(&on, &op, &inputs, &mut scratch, &mut out);
        }))
    }

    /// A group norm with SiLU over `rows` pixels, coded for the layer behind it.
    pub fn group_norm(
        threads: usize,
        rows: usize,
        channels: usize,
        groups: usize,
    ) -> Result<Trial, IsaError> {
        let machine = machine(EngineOptions { threads, ..EngineOptions::default() })?;
        let op = Norm {
            input: 0,
            batch: 1,
            rows,
            channels,
            groups,
            epsilon: 1e-5,
            gain: vec![1.0; channels],
            shift: vec![0.1; channels],
            activation: Activation::Silu,
        };
        let (values, mut codes) = (wave(rows * channels), Codes::default());
        let on = machine.clone();
        Ok(Trial::new(&machine, 0, move || norm(&on, &op, None, &values, Target::Codes(&mut codes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_of_the_benches_runs() {
        for trial in [
            Trial::convolution(2, 6, 32, 48, 3, 2),
            Trial::linear(2, 10, 32, 64),
            Trial::attention(2, 9, 7, 2, 16),
            Trial::group_norm(2, 12, 32, 4),
        ] {
            let mut trial = trial.unwrap();
            trial.run();
            trial.run();
        }
        assert_eq!(Trial::convolution(1, 6, 32, 48, 3, 2).unwrap().macs, (9 * 9 * 32 * 48) as f64);
    }

    /// Each row in `steps` steps from its least to its largest value.
    fn rounded_rows(values: &[f32], width: usize, steps: f64) -> Vec<f64> {
        let row = |row: &[f32]| {
            let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
            let least = row.iter().copied().fold(f64::MAX, f64::min);
            let step = (row.iter().copied().fold(f64::MIN, f64::max) - least) / steps;
            row.into_iter().map(move |x| ((x - least) / step).round_ties_even() * step + least)
        };
        values.chunks_exact(width).flat_map(row).collect()
    }

    /// What layers compute, in double precision from the same codes: rows in 255 steps (127 on AVX2) from their least to
    /// their largest value, weights as they were packed.
    #[test]
    fn layers_are_their_scheme_within_a_thousandth() {
        for isa in super::super::Isa::supported() {
            let on = Machine { pool: super::super::Pool::new(2), unit: super::super::Unit::of(isa) };
            for (size, order) in [
                (12, Order::ChannelsFirst { channels: 64, inputs: 80, taps: 9 }),
                (10, Order::ChannelsFirst { channels: 48, inputs: 320, taps: 1 }),
            ] {
                let side = if order.taps() == 9 { 3 } else { 1 };
                let geometry = Geometry {
                    batch: 1,
                    input: [size; 2],
                    repeat: 1,
                    output: [size; 2],
                    kernel: [side; 2],
                    stride: [1; 2],
                    padding: [side / 2; 2],
                };
                let (inputs, channels) = (order.inputs(), order.channels());
                let noise = |at: usize| ((at as f64 * 12.9898).sin() * 43_758.547).fract() as f32;
                let numbers: Vec<f32> = (0..order.len()).map(noise).collect();
                let Values::Int8(weights, scales) = packing::quantize(&numbers, &order) else {
                    panic!("codes")
                };
                let raw = RawWeight {
                    name: String::new(),
                    order: order.clone(),
                    values: Values::Int8(weights.clone(), scales.clone()),
                };
                let file = packing::pack(&[0; 32], &[], vec![raw], None);
                let contents = packing::read(&file, &[0; 32]).unwrap();
                let mut packed = Weights::new(Box::new(Lines::hold(&file)), contents.records);
                let values: Vec<f32> = (0..size * size * inputs).map(|at| noise(at * 31 + 5)).collect();
                let (mut codes, mut out) = (Codes::default(), vec![0.0; size * size * channels]);
                encode(&on, &values, inputs, &mut codes);
                let Ok(Packed::Int8(panels)) = packed.get(0) else { panic!("codes") };
                let epilogue = Epilogue {
                    scale: panels.scale,
                    bias: &[],
                    row_bias: None,
                    activation: Activation::Identity,
                    gated: false,
                    residual: None,
                };
                let products = IntProducts { unit: on.unit, codes: &codes, panels };
                gemm(&on.pool, on.unit, &geometry, &products, channels, &epilogue, &mut out);

                let coded = rounded_rows(&values, inputs, f64::from(on.unit.kernel.code_max));
                let mut wanted = vec![0.0_f64; out.len()];
                order.each(|at, channel, input, tap| {
                    let weight = f64::from(weights[at]) * f64::from(scales[channel]);
                    for row in 0..size * size {
                        let [y, x] = [row / size + tap / side, row % size + tap % side];
                        let [y, x] = [y, x].map(|at| at.wrapping_sub(side / 2));
                        if y < size && x < size {
                            wanted[row * channels + channel] +=
                                coded[(y * size + x) * inputs + input] * weight;
                        }
                    }
                });
                let square = |sum: f64, x: f64| sum + x * x;
                let off = out.iter().zip(&wanted).map(|(a, b)| f64::from(*a) - b).fold(0.0, square);
                let error = (off / wanted.iter().copied().fold(0.0, square)).sqrt();
                println!("{isa:?} {order:?}: {error:.1e}");
                assert!(error <= 1e-3, "{isa:?} {order:?}: {error:.1e}");
            }
        }
    }
}
