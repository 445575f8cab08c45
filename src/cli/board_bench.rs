//! `easeld bench --board`: whole pictures, and one line about this board that people can compare.

use std::time::Instant;

use anyhow::Context;
use serde::Serialize;

use super::doctor::{board, cpu_name};
use super::model::{self, Overrides};
use crate::config::Settings;
use crate::device::board::Board;
use crate::device::memory::status_kib;
use crate::diffusion::request::{GenerationRequest, Limits, RawRequest};
use crate::engine::Isa;

/// Pictures that are timed, after one that is not.
const RUNS: usize = 3;
const PROMPT: &str = "a cat on a blue background";

/// The line, as `--json` prints it.
#[derive(Serialize)]
struct Line {
    version: &'static str,
    board: String,
    cpu: String,
    cores: usize,
    threads: usize,
    isa: &'static str,
    model: String,
    width: usize,
    height: usize,
    steps: usize,
    /// Of a whole picture, the middle one of three.
    median_s: f64,
    /// The first one, networks read and planned.
    first_s: f64,
    peak_mib: u64,
    /// Before the first picture and after the last.
    celsius: [Option<f64>; 2],
    throttled: bool,
}

/// Makes the pictures and prints the line.
pub(super) fn run(settings: &Settings, overrides: &Overrides<'_>, json: bool) -> anyhow::Result<()> {
    let mut generator = model::open(settings, overrides)?;
    let defaults = generator.pack().defaults();
    let raw = RawRequest { prompt: PROMPT.to_owned(), seed: Some(7), ..RawRequest::default() };
    let request = GenerationRequest::new(raw, &Limits::default(), &defaults, || 7)?;
    let sensors = Board::new(&settings.power.sysfs);
    let before = sensors.read();
    let mut seconds = Vec::new();
    for _ in 0..=RUNS {
        let began = Instant::now();
        generator.generate(&request, None, &mut |_| std::ops::ControlFlow::Continue(()))?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    let after = sensors.read();
    let first_s = seconds.remove(0);
    seconds.sort_by(f64::total_cmp);
    let line = Line {
        version: env!("CARGO_PKG_VERSION"),
        board: board(),
        cpu: cpu_name(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads: overrides
            .threads
            .filter(|threads| *threads > 0)
            .unwrap_or_else(|| settings.inference.thread_count()),
        isa: Isa::choose()?.name(),
        model: generator.pack().name.clone(),
        width: request.width,
        height: request.height,
        steps: request.num_inference_steps,
        median_s: seconds[seconds.len() / 2],
        first_s,
        peak_mib: status_kib("VmHWM").unwrap_or(0) >> 10,
        celsius: [before.celsius(), after.celsius()],
        throttled: after.kernel_throttles
            || after.power.is_some_and(|power| power.throttled || power.under_voltage),
    };
    if json {
        println!("{}", serde_json::to_string(&line).context("cannot print the line")?);
    } else {
        print(&line);
    }
    Ok(())
}

fn print(line: &Line) {
    let Line { version, board, cpu, cores, threads, isa, model, width, height, steps, .. } = line;
    let heat = match line.celsius {
        [Some(before), Some(after)] => format!(", {before:.0} to {after:.0} degrees Celsius"),
        _ => String::new(),
    };
    let throttled = if line.throttled { ", throttled" } else { "" };
    println!(
        "easeld {version} | {board} | {cpu}, {cores} cores, {threads} threads, {isa} | {model} {width}x{height}, {steps} steps: \
         {:.2} s (first {:.2} s), {} MiB{heat}{throttled}",
        line.median_s, line.first_s, line.peak_mib
    );
}
