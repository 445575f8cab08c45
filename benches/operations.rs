//! Times single operations on the shapes of a Stable Diffusion 1.5 UNet and VAE decoder.
//!
//! `cargo bench --bench operations [-- FILTER]`; `EASELD_ISA` and `EASELD_THREADS` choose kernels and threads (one thread if
//! nothing is said). Throughput is in multiplications with an addition, where there are any: `Gelem/s` reads as GMAC/s.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use easeld::engine::{Isa, IsaError, Trial, dot_product_peak};

fn threads() -> usize {
    std::env::var("EASELD_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn time(criterion: &mut Criterion, name: &str, trial: Result<Trial, IsaError>) {
    let mut trial = trial.unwrap_or_else(|error| panic!("{error}"));
    let mut group = criterion.benchmark_group("operations");
    if trial.macs > 0.0 {
        group.throughput(Throughput::Elements(trial.macs as u64));
    }
    group.bench_function(name, |bencher| bencher.iter(|| trial.run()));
    group.finish();
}

fn operations(criterion: &mut Criterion) {
    let threads = threads();
    let isa = Isa::choose().unwrap_or_else(|error| panic!("{error}"));
    println!(
        "{} with {threads} threads; the kernel alone, in the first-level cache: {:.0} GMAC/s a thread",
        isa.name(),
        dot_product_peak(isa) / 1e9
    );
    for (size, inputs, channels, kernel, stride) in [
        (64, 320, 320, 3, 1),
        (64, 320, 320, 3, 2),
        (32, 640, 640, 3, 1),
        (16, 1280, 1280, 3, 1),
        (8, 1280, 1280, 3, 1),
        (64, 960, 320, 1, 1),
        (128, 512, 512, 3, 1),
    ] {
        let name = format!("convolution {kernel}x{kernel}/{stride} {inputs}->{channels} at {size}");
        time(criterion, &name, Trial::convolution(threads, size, inputs, channels, kernel, stride));
    }
    for (rows, inputs, channels) in [(4096, 320, 2560), (1024, 640, 640), (256, 1280, 10240), (77, 768, 1280)]
    {
        let name = format!("linear {inputs}->{channels} of {rows}");
        time(criterion, &name, Trial::linear(threads, rows, inputs, channels));
    }
    for (tokens, keys, heads, depth) in [(4096, 4096, 8, 40), (1024, 1024, 8, 80), (4096, 77, 8, 40)] {
        let name = format!("attention {tokens}x{keys}, {heads} heads of {depth}");
        time(criterion, &name, Trial::attention(threads, tokens, keys, heads, depth));
    }
    for (rows, channels) in [(4096, 320), (64, 1280)] {
        time(
            criterion,
            &format!("group norm {channels} of {rows}"),
            Trial::group_norm(threads, rows, channels, 32),
        );
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    targets = operations
}
criterion_main!(benches);
