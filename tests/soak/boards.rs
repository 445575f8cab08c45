//! `tests/long boards`: a thousand light boards in one process on one mosquitto, each with the daemon's own MQTT client and
//! topics: what the broker takes, and how long a request is on its way.

use std::time::{Duration, Instant};

use easeld::mqtt::{Client, ClientSettings, MqttEvent, Publication};
use tokio::sync::mpsc;

use crate::count;
use crate::mosquitto::Mosquitto;

/// The picture that a board answers with.
const PICTURE_BYTES: usize = 20_000;

/// Seconds of processor time of a process.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn publication(topic: String, payload: impl Into<bytes::Bytes>) -> Publication {
    Publication { topic, payload: payload.into(), ..Publication::default() }
}

/// One board: answers each of the fleet's requests with `running`, a picture and `succeeded`.
async fn board(port: u16, number: usize, ready: mpsc::Sender<()>) {
    let node = format!("board-{number}");
    let settings = ClientSettings {
        subscriptions: vec![
            format!("easel/{node}/generate"),
            "$share/boards/easel/fleet/generate".to_owned(),
        ],
        will: Some(Publication { retain: true, ..publication(format!("easel/{node}/status"), "offline") }),
        ..ClientSettings::new("127.0.0.1", port, format!("easeld-{node}"))
    };
    let (client, mut events) = Client::start(settings);
    while let Some(event) = events.recv().await {
        match event {
            MqttEvent::Connected { .. } => {
                let online =
                    Publication { retain: true, ..publication(format!("easel/{node}/status"), "online") };
                client.publish(online).await.unwrap();
                let _ = ready.send(()).await;
            }
            MqttEvent::Message(message) => {
                let id = String::from_utf8_lossy(&message.payload).into_owned();
                let job = format!("easel/{node}/job/{id}");
                client.publish(publication(job.clone(), r#"{"status":"running"}"#)).await.unwrap();
                let image = publication(format!("easel/{node}/image"), vec![7; PICTURE_BYTES]);
                client.publish(Publication { retain: true, ..image }).await.unwrap();
                client.publish(publication(job, r#"{"status":"succeeded"}"#)).await.unwrap();
            }
            _ => {}
        }
    }
}

#[test]
#[ignore = "long: tests/long boards"]
fn boards() {
    let (boards, requests) = (count("EASELD_BOARDS", 1000), count("EASELD_JOBS", 2000));
    let broker = Mosquitto::builder().line("max_queued_messages 0").start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let idle = rss_kib(broker.pid());
        let started = Instant::now();
        let (ready, mut are_ready) = mpsc::channel(boards);
        for number in 0..boards {
            tokio::spawn(board(broker.port(), number, ready.clone()));
        }
        for _ in 0..boards {
            tokio::time::timeout(Duration::from_secs(120), are_ready.recv()).await.unwrap().unwrap();
        }
        eprintln!(
            "{boards} boards connected in {:.1} s; the broker has {} KiB, {:.1} a board",
            started.elapsed().as_secs_f64(),
            rss_kib(broker.pid()),
            (rss_kib(broker.pid()) - idle) as f64 / boards as f64
        );
        let settings = ClientSettings {
            subscriptions: vec!["easel/+/job/+".to_owned()],
            ..ClientSettings::new("127.0.0.1", broker.port(), "sender")
        };
        let (sender, mut events) = Client::start(settings);
        while !matches!(events.recv().await, Some(MqttEvent::Connected { .. })) {}
        let (before, started) = (cpu_s(broker.pid()), Instant::now());
        let asking = sender.clone();
        let (asked, mut asked_at) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for n in 0..requests {
                let _ = asked.send(Instant::now());
                asking.publish(publication("easel/fleet/generate".to_owned(), n.to_string())).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let (mut sent, mut heard, mut took) = (Vec::new(), vec![false; requests], (Vec::new(), Vec::new()));
        while took.1.len() < requests {
            let event = tokio::time::timeout(Duration::from_secs(60), events.recv()).await.expect("all answer");
            let Some(MqttEvent::Message(message)) = event else { continue };
            while let Ok(at) = asked_at.try_recv() {
                sent.push(at);
            }
            let n: usize = message.topic.rsplit('/').next().unwrap().parse().unwrap();
            let ms = sent[n].elapsed().as_secs_f64() * 1e3;
            if message.payload.windows(9).any(|word| word == b"succeeded") {
                took.1.push(ms);
            } else if !std::mem::replace(&mut heard[n], true) {
                took.0.push(ms);
            }
        }
        let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_s(broker.pid()) - before);
        for (what, mut times) in [("first answer", took.0), ("picture out", took.1)] {
            times.sort_by(f64::total_cmp);
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            eprintln!("{what}: {:.1} ms median, {:.1} at 95 %, {:.1} at 99 %, {:.1} at most", at(50), at(95), at(99), at(100));
        }
        eprintln!(
            "{requests} requests, {:.0} a second; the broker took {:.2} s of processor time, {:.2} ms a request, and has {} KiB",
            requests as f64 / seconds,
            cpu,
            1e3 * cpu / requests as f64,
            rss_kib(broker.pid())
        );
    });
    runtime.shutdown_background();
}
