//! Tests of `worker`: outcomes, cancellation between steps, panics contained.

use std::sync::Arc;

use super::*;
use crate::diffusion::presets::{PackDefaults, Preset};
use crate::diffusion::request::{GenerationRequest, Limits, RawRequest};
use crate::jobs::store::Store;

/// Does what its prompt says, so that one generator serves every test.
struct ByPrompt;

impl GeneratePictures for ByPrompt {
    fn generate(
        &mut self,
        request: &GenerationRequest,
        _: &mut dyn Checkpoints,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, GenerateError> {
        assert!(request.prompt != "panic", "as the prompt says");
        let mut step = 0;
        loop {
            let progress = Progress::Step { step, steps: 1000 };
            if observer(progress).is_break() {
                return Err(GenerateError::Cancelled);
            }
            step += 1;
            if request.prompt != "endless" {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(vec![Picture {
            png: b"abc".to_vec(),
            width: 64,
            height: 64,
            seed: request.seed,
            similarity: None,
        }])
    }
}

fn job(prompt: &str) -> Job {
    let pack = PackDefaults::new(
        Preset {
            width: 64,
            height: 64,
            steps: 2,
            guidance_scale: 1.0,
            scheduler: None,
            unet: "unet".to_owned(),
            time_cond_proj_dim: None,
            decoder: crate::diffusion::decoding::Decoder::Full,
        },
        16,
    );
    let raw = RawRequest { prompt: prompt.to_owned(), ..RawRequest::default() };
    let (stop, store) = (StopFlag::default(), Arc::new(Store::in_memory()));
    Job {
        number: 0,
        id: JobId::generate(),
        request: GenerationRequest::new(raw, &Limits::default(), &pack, || 7).expect("valid"),
        stop: stop.clone(),
        checkpoints: JobCheckpoints::new(store, 0, "pack", None, stop),
    }
}

/// The outcome of the job, and how many progress events came before it.
fn outcome(events: &mut mpsc::Receiver<WorkerEvent>) -> (Result<Vec<Finished>, GenerateError>, usize) {
    let mut seen = 0;
    loop {
        match events.blocking_recv().expect("the worker lives") {
            WorkerEvent::Progress { .. } => seen += 1,
            WorkerEvent::Resting { .. } => {}
            WorkerEvent::Finished { outcome, .. } => return (outcome, seen),
        }
    }
}

#[test]
fn a_picture_comes_with_its_digest() {
    let (sender, mut events) = mpsc::channel(8);
    let worker = Worker::spawn(Box::new(ByPrompt), sender, Throttle::default(), None).expect("a thread");
    worker.start(job("a fox")).expect("alive");
    let (outcome, progress) = outcome(&mut events);
    // FIPS 180-2, appendix B.1.
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(outcome.expect("a picture")[0].sha256, digest);
    assert_eq!(progress, 1);
}

#[test]
fn a_running_job_stops_at_the_next_step_and_the_worker_goes_on() {
    let (sender, mut events) = mpsc::channel(8);
    let worker = Worker::spawn(Box::new(ByPrompt), sender, Throttle::default(), None).expect("a thread");
    let endless = job("endless");
    let stop = endless.stop.clone();
    worker.start(endless).expect("alive");
    events.blocking_recv().expect("it started");
    stop.set(Stop::Cancelled);
    assert_eq!(outcome(&mut events).0, Err(GenerateError::Cancelled));
    worker.start(job("a fox")).expect("alive");
    assert!(outcome(&mut events).0.is_ok());
}

#[test]
fn why_a_job_was_stopped_is_what_becomes_of_it() {
    let (sender, mut events) = mpsc::channel(8);
    let worker = Worker::spawn(Box::new(ByPrompt), sender, Throttle::default(), None).expect("a thread");
    for (stop, becomes) in [
        (Stop::Interrupted, GenerateError::Interrupted),
        (Stop::Late, GenerateError::late()),
        (Stop::Cancelled, GenerateError::Cancelled),
    ] {
        let endless = job("endless");
        endless.stop.set(stop);
        worker.start(endless).expect("alive");
        assert_eq!(outcome(&mut events).0, Err(becomes));
    }
}

#[test]
fn a_panic_fails_its_job_only() {
    let (sender, mut events) = mpsc::channel(8);
    let worker = Worker::spawn(Box::new(ByPrompt), sender, Throttle::default(), None).expect("a thread");
    worker.start(job("panic")).expect("alive");
    let Err(GenerateError::Failed { code, message }) = outcome(&mut events).0 else {
        panic!("the job must fail");
    };
    assert_eq!(code, "internal");
    assert!(message.contains("as the prompt says"), "{message}");
    worker.start(job("a fox")).expect("alive");
    assert!(outcome(&mut events).0.is_ok());
}

#[test]
fn inference_does_not_wait_for_a_listener_that_is_behind() {
    let (sender, mut events) = mpsc::channel(1);
    let worker = Worker::spawn(Box::new(ByPrompt), sender, Throttle::default(), None).expect("a thread");
    let endless = job("endless");
    let stop = endless.stop.clone();
    worker.start(endless).expect("alive");
    // Nobody reads: the channel is full after one event, and steps go on.
    thread::sleep(std::time::Duration::from_millis(50));
    stop.set(Stop::Cancelled);
    let (result, progress) = outcome(&mut events);
    assert_eq!(result, Err(GenerateError::Cancelled));
    assert!(progress <= 2, "{progress} events through a channel of one");
}

/// Says when it rests.
struct Resting(std_mpsc::Sender<()>);

impl GeneratePictures for Resting {
    fn rest(&mut self) {
        self.0.send(()).expect("the test listens");
    }

    fn generate(
        &mut self,
        _: &GenerationRequest,
        _: &mut dyn Checkpoints,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, GenerateError> {
        Err(GenerateError::Cancelled)
    }
}

#[test]
fn memory_is_given_back_once_after_a_while_without_a_job() {
    let (rests, resting) = std_mpsc::channel();
    let (sender, mut events) = mpsc::channel(64);
    let idle = Some(Duration::from_millis(50));
    let worker =
        Worker::spawn(Box::new(Resting(rests)), sender, Throttle::default(), idle).expect("a thread");
    let rested = || resting.recv_timeout(Duration::from_millis(500)).is_ok();
    assert!(rested());
    assert!(!rested(), "once is enough");
    worker.start(job("cat")).expect("it lives");
    outcome(&mut events).0.expect_err("cancelled");
    assert!(rested(), "again after a job");
}
