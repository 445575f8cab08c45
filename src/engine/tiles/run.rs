//! Runs a network in bands: rows of pixels go from stretch to stretch, channels last.

use anyhow::Context;
use ndarray::{ArrayD, ArrayViewD, Axis, Ix4};

use super::bands::{Band, Bands};
use super::{Stretch, Tiles};
use crate::engine::ops::Machine;
use crate::engine::plan::Plan;
use crate::engine::weights::Weights;

impl Tiles {
    /// Runs the network on `picture`, `[1, C, H, W]`.
    pub(in crate::engine) fn run(
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
    fn run(&self, weights: &mut Weights, machine: &Machine, rows: Vec<f32>) -> anyhow::Result<Vec<f32>> {
        let mut plan = Plan::new(self.graph.clone(), weights, machine.clone())?;
        if let Some(bands) = self.bands {
            return self.run_in_bands(&mut plan, weights, machine, bands, rows);
        }
        plan.take(&rows);
        drop(rows);
        plan.run_taken(weights).map(<[f32]>::to_vec)
    }

    /// One vector holds both tensors: `rows` move to its end, and the output is written from its beginning on. Before a
    /// band's output is written the next band has taken its input, and every band owns as many rows as it looks at: so
    /// what is written over is looked at no more, whichever of the two tensors is the larger one.
    fn run_in_bands(
        &self,
        plan: &mut Plan,
        weights: &mut Weights,
        machine: &Machine,
        bands: Bands,
        mut rows: Vec<f32>,
    ) -> anyhow::Result<Vec<f32>> {
        let units = self.input[0].min(self.output[0]);
        let [input, output] = [self.input, self.output].map(|shape| shape.iter().product::<usize>());
        let start = output.saturating_sub(input);
        rows.reserve_exact(start);
        rows.resize(start + input, 0.0);
        rows.copy_within(..input, start);
        let held = |band: &Band| {
            let [from, to] = [band.held.start, band.held.end].map(|unit| start + unit * (input / units));
            from..to
        };
        for (norm, pixels) in plan.pooled_norms() {
            // Pixels of a unit's row where this norm stands.
            let unit = pixels / bands.height;
            let moments = match plan.moments_of_input(norm, &rows[start..]) {
                Some(moments) => moments,
                None => {
                    let of_bands = bands.all().map(|band| {
                        plan.take(&rows[held(&band)]);
                        plan.moments(weights, norm, band.within(unit))
                    });
                    of_bands.collect::<anyhow::Result<Vec<_>>>()?.concat()
                }
            };
            plan.impose(norm, &moments, units * unit);
        }
        let given = output / units;
        let (mut waiting, mut place) = (Vec::new(), 0..0);
        for band in bands.all() {
            plan.take(&rows[held(&band)]);
            machine.pool.copy(&waiting, &mut rows[place]);
            let values = &plan.run_taken(weights)?[band.within(given)];
            waiting.resize(values.len(), 0.0);
            machine.pool.copy(values, &mut waiting);
            place = band.owned.start * given..band.owned.end * given;
        }
        machine.pool.copy(&waiting, &mut rows[place]);
        rows.truncate(output);
        rows.shrink_to_fit();
        Ok(rows)
    }
}
