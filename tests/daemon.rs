//! `daemon::run` with generators that misbehave in ways no healthy model does, against a real mosquitto.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report; helpers are not seen as tests")]

#[path = "common/listener.rs"]
mod listener;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/scripted_pack.rs"]
mod scripted_pack;

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use easeld::config::{JobStore, Settings};
use easeld::daemon;
use easeld::diffusion::checkpoint::Checkpoints;
use easeld::diffusion::pipeline::Progress;
use easeld::diffusion::postprocess::RgbImage;
use easeld::diffusion::request::GenerationRequest;
use easeld::jobs::{GenerateError, GeneratePictures, PackInfo, Picture};
use listener::{Listener, publish};
use mosquitto::Mosquitto;
use scripted_pack::scripted_pack;
use tokio::sync::oneshot;

/// Does what its prompt says.
struct ByPrompt;

impl GeneratePictures for ByPrompt {
    fn generate(
        &mut self,
        request: &GenerationRequest,
        _: &mut dyn Checkpoints,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, GenerateError> {
        match request.prompt.as_str() {
            "panic" => panic!("as the prompt says"),
            "hang" => thread::sleep(Duration::from_secs(60)),
            "no model" => {
                return Err(GenerateError::Failed {
                    code: "model",
                    message: "unet/model.onnx: not there".to_owned(),
                });
            }
            _ => {}
        }
        let steps = request.num_inference_steps;
        for step in 0..steps {
            if request.preview {
                let latents = RgbImage { width: 8, height: 8, pixels: vec![200; 192] };
                let _ = observer(Progress::Preview(latents.into()));
            }
            if observer(Progress::Step { step, steps }).is_break() {
                return Err(GenerateError::Cancelled);
            }
            thread::sleep(Duration::from_millis(50));
        }
        let (png, count) = (request.prompt.clone().into_bytes(), u32::try_from(request.num_images).unwrap());
        let picture = |index| Picture {
            png: png.clone(),
            width: 64,
            height: 64,
            seed: request.seed + index,
            similarity: None,
        };
        Ok((0..count).map(picture).collect())
    }
}

/// A daemon in this process, on its own runtime.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<Result<(), daemon::DaemonError>>>,
}

impl Running {
    fn start(broker: &Mosquitto) -> Running {
        let mut settings = Settings::default();
        settings.mqtt.url = broker.url();
        settings.node.name = "desk".to_owned();
        settings.state.jobs = JobStore::Memory;
        settings.http.listen = None;
        let pack = scripted_pack();
        let pack = PackInfo { defaults: pack.defaults.with_previews(true), ..pack };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let shutdown = async { stopped.await.unwrap_or_default() };
            let result = runtime.block_on(daemon::run(settings, Box::new(ByPrompt), vec![pack], shutdown));
            runtime.shutdown_background();
            result
        });
        Running { stop: Some(stop), thread: Some(thread) }
    }

    /// Stops it and returns how long that took.
    fn stop(mut self) -> Duration {
        let asked = Instant::now();
        self.stop.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap().unwrap();
        asked.elapsed()
    }
}

fn ask(broker: &Mosquitto, id: &str, prompt: &str, steps: u32) {
    let request = format!(r#"{{"id":"{id}","prompt":"{prompt}","steps":{steps}}}"#);
    publish(broker.port(), "easel/desk/generate", request.as_bytes(), &[]);
}

#[test]
fn a_panic_fails_its_job_and_the_next_one_succeeds() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let daemon = Running::start(&broker);
    listener.word("easel/desk/state", "idle");
    ask(&broker, "bad", "panic", 2);
    let status = listener.word("easel/desk/job/bad", "failed");
    assert_eq!(status["error"]["code"], "internal");
    ask(&broker, "good", "a fox", 2);
    assert_eq!(listener.on("easel/desk/image").payload, b"a fox");
    listener.word("easel/desk/job/good", "succeeded");
    daemon.stop();
}

#[test]
fn several_pictures_come_in_order_and_end_in_one_status() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let daemon = Running::start(&broker);
    listener.word("easel/desk/state", "idle");
    let request = br#"{"id":"three","prompt":"an owl","seed":7,"num_images":3}"#;
    publish(broker.port(), "easel/desk/generate", request, &[]);
    for index in 0..3 {
        assert_eq!(listener.on("easel/desk/image").payload, b"an owl");
        let meta = listener.on("easel/desk/image/meta").json();
        assert_eq!([&meta["index"], &meta["count"], &meta["seed"]], [index, 3, 7 + index], "{meta}");
    }
    let status = listener.word("easel/desk/job/three", "succeeded");
    let seeds: Vec<_> = status["images"].as_array().unwrap().iter().map(|image| &image["seed"]).collect();
    assert_eq!(seeds, [7, 8, 9]);
    assert_eq!(status["image"], status["images"][0]);
    daemon.stop();
}

#[test]
fn whoever_asks_sees_the_picture_being_made() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let daemon = Running::start(&broker);
    listener.word("easel/desk/state", "idle");
    let request = br#"{"id":"seen","prompt":"an owl","steps":2,"preview":true}"#;
    publish(broker.port(), "easel/desk/generate", request, &[]);
    for _ in 0..2 {
        let jpeg = listener.on("easel/desk/job/seen/preview").payload;
        let preview = image::load_from_memory_with_format(&jpeg, image::ImageFormat::Jpeg).unwrap();
        assert_eq!((preview.width(), preview.height()), (32, 32));
    }
    listener.word("easel/desk/job/seen", "succeeded");
    daemon.stop();
}

#[test]
fn a_model_that_fails_shows_in_the_state_until_a_picture_succeeds() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let daemon = Running::start(&broker);
    listener.word("easel/desk/state", "idle");
    ask(&broker, "bad", "no model", 2);
    let state = listener.word("easel/desk/state", "error");
    assert_eq!(state["error"]["message"], "unet/model.onnx: not there");
    ask(&broker, "good", "a fox", 2);
    let state = listener.word("easel/desk/state", "idle");
    assert!(state["error"].is_null(), "{state}");
    daemon.stop();
}

#[test]
fn a_stop_cancels_what_runs_and_what_waits_and_says_offline() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let daemon = Running::start(&broker);
    listener.word("easel/desk/state", "idle");
    ask(&broker, "running", "a fox", 200);
    ask(&broker, "waiting", "a cat", 2);
    listener.word("easel/desk/job/waiting", "queued");
    let took = daemon.stop();
    listener.word("easel/desk/job/waiting", "cancelled");
    listener.word("easel/desk/job/running", "cancelled");
    assert_eq!(listener.on("easel/desk/status").text(), "offline");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_stop_does_not_wait_for_a_job_that_hangs() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let daemon = Running::start(&broker);
    listener.word("easel/desk/state", "idle");
    ask(&broker, "stuck", "hang", 2);
    listener.word("easel/desk/job/stuck", "running");
    let took = daemon.stop();
    listener.word("easel/desk/job/stuck", "cancelled");
    assert_eq!(listener.on("easel/desk/status").text(), "offline");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_stop_without_a_broker_is_bounded_too() {
    let mut broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let daemon = Running::start(&broker);
    listener.word("easel/desk/state", "idle");
    ask(&broker, "running", "a fox", 200);
    listener.word("easel/desk/job/running", "running");
    broker.kill();
    let took = daemon.stop();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn progress_and_state_come_at_most_once_a_second() {
    let broker = Mosquitto::start();
    let listener = Listener::start(broker.port(), "easel/desk/#", &[]);
    let daemon = Running::start(&broker);
    listener.word("easel/desk/state", "idle");
    // 80 steps of 50 ms: four seconds.
    ask(&broker, "long", "a fox", 80);
    listener.word("easel/desk/job/long", "queued");
    let messages = listener.during(Duration::from_millis(3500));
    let count = |topic: &str| messages.iter().filter(|message| message.topic == topic).count();
    let (progress, states) = (count("easel/desk/job/long"), count("easel/desk/state"));
    assert!((3..=5).contains(&progress), "{progress} job messages in 3.5 s");
    assert!((3..=5).contains(&states), "{states} states in 3.5 s");
    let last = messages.iter().rfind(|m| m.topic == "easel/desk/job/long").unwrap().json();
    assert!(last["step"].as_u64().unwrap() > 40, "{last}");
    assert!((0..=3).contains(&last["eta_s"].as_i64().unwrap()), "{last}");
    daemon.stop();
}
