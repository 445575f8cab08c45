//! `tests/long drain`: ten thousand tiny jobs queued at once, and what the daemon itself costs.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use easeld::config::{JobStore, Settings};
use easeld::daemon;
use easeld::diffusion::checkpoint::Checkpoints;
use easeld::diffusion::pipeline::Progress;
use easeld::diffusion::request::GenerationRequest;
use easeld::jobs::{GenerateError, GeneratePictures, Picture};

use crate::count;
use crate::mosquitto::Mosquitto;
use crate::observer::{Observer, json};
use crate::scripted_pack::scripted_pack;

/// Takes no time: what is measured is everything around it.
struct Instantly;

impl GeneratePictures for Instantly {
    fn generate(
        &mut self,
        request: &GenerationRequest,
        _: &mut dyn Checkpoints,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, GenerateError> {
        let steps = request.num_inference_steps;
        for step in 0..=steps {
            let _ = observer(Progress::Step { step, steps });
        }
        Ok(vec![Picture {
            png: vec![7; 20_000],
            width: 64,
            height: 64,
            seed: request.seed,
            similarity: None,
        }])
    }
}

#[test]
#[ignore = "long: tests/long drain"]
fn drain() {
    let jobs = count("EASELD_JOBS", 10_000);
    let broker = Mosquitto::builder().line("max_queued_messages 0").start();
    let mut observer = Observer::start(broker.port(), "observer", &["easel/desk/job/+", "easel/desk/state"]);
    let state = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut settings = Settings::default();
    settings.http.listen = None;
    settings.mqtt.url = broker.url();
    settings.node.name = "desk".to_owned();
    settings.state.dir = state.path().to_owned();
    settings.state.jobs = JobStore::Disk;
    settings.limits.queue_capacity = 10_000;
    (settings.limits.requests_per_minute, settings.limits.requests_per_client) = (0, 0);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let daemon = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let shutdown = async { drop(stopped.await) };
        runtime
            .block_on(daemon::run(settings, Box::new(Instantly), vec![scripted_pack()], shutdown))
            .unwrap();
    });
    while observer.next(Duration::from_secs(20)).is_some_and(|message| json(&message)["state"] != "idle") {}
    // All of them wait before the first one runs.
    observer.publish("easel/desk/set/paused", "ON");
    let mut queued = 0;
    for n in 0..jobs {
        observer.publish("easel/desk/generate", format!(r#"{{"id":"j{n}","prompt":"a fox","seed":{n}}}"#));
        while let Some(message) = observer.next(Duration::ZERO) {
            queued += usize::from(json(&message)["status"] == "queued");
        }
    }
    while queued < jobs {
        let message = observer.next(Duration::from_secs(20)).expect("all are accepted");
        queued += usize::from(json(&message)["status"] == "queued");
    }
    eprintln!("{queued} jobs wait");
    observer.publish("easel/desk/set/paused", "OFF");
    let started = Instant::now();
    let mut ends = Vec::with_capacity(jobs);
    while ends.len() < jobs {
        let message = observer.next(Duration::from_secs(60)).expect("it goes on");
        if json(&message)["status"] == "succeeded" {
            ends.push(started.elapsed());
        }
    }
    let tenth = jobs / 10;
    let rate =
        |from: usize| tenth as f64 / (ends[from + tenth - 1] - ends[from.saturating_sub(1)]).as_secs_f64();
    let mut gaps: Vec<f64> = ends.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).collect();
    gaps.sort_by(f64::total_cmp);
    let (first, last) = (rate(tenth), rate(jobs - tenth));
    eprintln!(
        "{jobs} jobs in {:.1} s: {first:.0} a second in the second tenth, {last:.0} in the last; from one end to the next \
         {:.2} ms median, {:.2} ms at 99 %",
        ends.last().unwrap().as_secs_f64(),
        gaps[gaps.len() / 2],
        gaps[gaps.len() * 99 / 100],
    );
    stop.send(()).unwrap();
    daemon.join().unwrap();
    assert!(last > 0.7 * first, "it slows down: {first:.0} to {last:.0} jobs a second");
}
