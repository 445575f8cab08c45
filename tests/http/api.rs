//! Jobs, events and what OpenAI's and TRMNL's clients say.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::daemon::easeld;
use crate::web::Events;
use crate::{ENDLESS, node};

#[test]
fn a_prompt_becomes_the_picture_that_the_command_line_makes_and_everybody_hears_of_it() {
    let node = node(&[]);
    let mut events = Events::listen(node.address, &[]).unwrap();
    assert_eq!(events.next().unwrap().1, "hello");
    assert_eq!(events.next().unwrap().1, "state");
    // States are told twice a second: it has to take longer than that.
    let body = json!({"id": "one", "prompt": "a cat on a blue background", "seed": 7, "steps": 200, "preview": true});
    let asked = node.post("/api/generate", &body);
    assert_eq!((asked.status, asked.header("location")), (202, "/api/jobs/one"));
    let job = asked.json();
    assert_eq!(job["prompt"], "a cat on a blue background");
    let (_, preview) = events.wait("preview", |event| event["id"] == "one");
    let jpeg = node.get(preview["url"].as_str().unwrap());
    assert!(
        jpeg.status == 404 || (jpeg.header("content-type") == "image/jpeg" && jpeg.body[..2] == [0xff, 0xd8])
    );
    events.wait("state", |state| state["job"] == "one" && state["steps"] == 200);
    let (_, end) = events.wait("job", |job| job["status"] == "succeeded");
    let (_, image) = events.wait("image", |image| image["id"] == "one");
    assert_eq!(end["images"][0], image);
    let ended = node.ended("one");
    assert_eq!(ended["images"][0], image);
    let picture = node.get("/api/images/one");
    assert_eq!((picture.status, picture.header("content-type")), (200, "image/png"));
    let reference = node.daemon.state().join("reference.png");
    let made = easeld()
        .args(["generate", "a cat on a blue background", "--seed", "7", "--steps", "200", "--model"])
        .arg(crate::daemon::pack())
        .arg("-o")
        .arg(&reference)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let pixels = |png: &[u8]| image::load_from_memory(png).unwrap().to_rgb8();
    assert_eq!(pixels(&picture.body), pixels(&std::fs::read(reference).unwrap()));
}

#[test]
fn requests_that_cannot_be_are_answered_with_field_value_and_what_is_allowed() {
    let node = node(&[("EASELD__LIMITS__QUEUE_CAPACITY", "1")]);
    for (body, status, code, field) in [
        (json!({"prompt": "a fox", "steps": 0}), 400, "invalid_value", "steps"),
        (json!({"prompt": "a fox", "stpes": 4}), 400, "unknown_field", "stpes"),
        (json!({"steps": 4}), 400, "missing_field", "prompt"),
        (json!({"prompt": "  "}), 400, "missing_field", "prompt"),
        (json!({"prompt": "a fox", "id": "../../etc/passwd"}), 400, "invalid_value", "id"),
    ] {
        let answer = node.post("/api/generate", &body);
        assert_eq!(answer.status, status, "{}", answer.text());
        let error = &answer.json()["error"];
        assert!(error["field"] == field || code == "missing_field", "{error}");
        assert!(error["code"] == code || (field == "prompt" && error["code"] == "invalid_value"), "{error}");
    }
    let json = [("content-type", "application/json")];
    let broken = node.post_with("/api/generate", &json, b"{\"prompt\": ");
    assert_eq!((broken.status, broken.json()["error"]["code"].as_str()), (400, Some("malformed")));
    let array = node.post_with("/api/generate", &json, b"[1]");
    assert_eq!((array.status, array.json()["error"]["code"].as_str()), (400, Some("wrong_type")));
    let form = node.post_with(
        "/api/generate",
        &[("content-type", "application/x-www-form-urlencoded")],
        b"prompt=x",
    );
    assert_eq!(form.status, 415);
    for (path, method) in
        [("/api/jobs/none", "GET"), ("/api/jobs/none", "DELETE"), ("/api/images/none", "DELETE")]
    {
        let answer = crate::web::Web::connect(node.address).request(method, path, &[], b"");
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (404, Some("not_found")),
            "{method} {path}"
        );
    }
    assert_eq!(node.get("/api/generate").status, 405);
    assert_eq!(node.get("/nowhere").status, 404);
    for query in ["limit=0", "limit=101", "limit=x", "before=-1", "offset=2", "limit=1&limit=2"] {
        assert_eq!(node.get(&format!("/api/images?{query}")).status, 400, "{query}");
    }
    // One runs, one waits, and there is no room for more.
    for id in ["runs", "waits"] {
        let asked = node.post("/api/generate", &json!({"id": id, "prompt": "a fox", "steps": ENDLESS}));
        assert_eq!(asked.status, 202);
        node.until(id, |status| status == if id == "runs" { "running" } else { "queued" });
    }
    let full = node.post("/api/generate", &json!({"prompt": "a fox"}));
    assert_eq!((full.status, full.header("retry-after")), (503, "10"));
    assert_eq!(full.json()["error"]["code"], "queue_full");
}

#[test]
fn jobs_are_listed_cancelled_and_asked_once() {
    let node = node(&[]);
    for id in ["a", "b", "c"] {
        node.post("/api/generate", &json!({"id": id, "prompt": format!("{id} fox"), "steps": ENDLESS}));
    }
    node.until("a", |status| status == "running");
    let list = node.get("/api/jobs").json();
    let told: Vec<_> = (list["jobs"].as_array().unwrap().iter())
        .map(|job| {
            (job["id"].as_str().unwrap(), job["status"].as_str().unwrap(), job["prompt"].as_str().unwrap())
        })
        .collect();
    assert_eq!(told, [("a", "running", "a fox"), ("b", "queued", "b fox"), ("c", "queued", "c fox")]);
    let waiting = node.delete("/api/jobs/b");
    assert_eq!((waiting.status, waiting.json()["status"].as_str()), (200, Some("cancelled")));
    assert_eq!(node.get("/api/jobs/c").json()["position"], 1);
    assert_eq!(node.delete("/api/jobs/a").status, 202);
    assert_eq!(node.ended("a")["status"], "cancelled");
    // The same id again is answered, not run.
    let again = node.post("/api/generate", &json!({"id": "a", "prompt": "another fox"}));
    assert_eq!((again.status, again.json()["status"].as_str()), (200, Some("cancelled")));
    assert_eq!(node.get("/api/jobs?ended=1").json()["jobs"].as_array().unwrap().len(), 2);
    // A prompt alone, as plain text.
    let plain = node.post_with("/api/generate", &[("content-type", "text/plain")], b"an owl");
    assert_eq!((plain.status, plain.json()["prompt"].as_str()), (202, Some("an owl")));
}

#[test]
fn a_listener_that_comes_back_hears_what_it_missed() {
    let node = node(&[]);
    let mut events = Events::listen(node.address, &[]).unwrap();
    node.post("/api/generate", &json!({"id": "a", "prompt": "a fox", "steps": ENDLESS}));
    let (last, _) = events.wait("job", |job| job["status"] == "running");
    drop(events);
    node.delete("/api/jobs/a");
    node.ended("a");
    let mut events = Events::listen(node.address, &[("last-event-id", &last)]).unwrap();
    let (_, kind, hello) = events.next().unwrap();
    assert_eq!((kind.as_str(), &hello["complete"]), ("hello", &Value::Bool(true)));
    events.wait("job", |job| job["id"] == "a" && job["status"] == "cancelled");
    let mut fresh = Events::listen(node.address, &[("last-event-id", "another-process-7")]).unwrap();
    assert_eq!(fresh.next().unwrap().2["complete"], false);
}

#[test]
fn accepted_jobs_and_pictures_outlive_the_process() {
    let mut node = node(&[]);
    let made = node.paint("made", "a fox");
    node.post("/api/generate", &json!({"id": "open", "prompt": "an owl", "preset": "fast", "seed": 7}));
    node.daemon.again();
    node.address = crate::address_of(&mut node.daemon);
    assert_eq!(node.get("/api/jobs/made").json(), made);
    assert_eq!(node.ended("open")["status"], "succeeded");
    let ids: Vec<_> = node.get("/api/images").json()["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["id"].clone())
        .collect();
    assert_eq!(ids, ["open", "made"]);
}

#[test]
fn openai_clients_get_their_pictures() {
    let node = node(&[]);
    let body = json!({"model": "gpt-image-1", "prompt": "a fox", "n": 2, "size": "128x128", "preset": "fast", "seed": 7});
    let answer = node.post("/v1/images/generations", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let data = answer.json()["data"].as_array().unwrap().clone();
    assert_eq!(data.len(), 2);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    for (index, picture) in data.iter().enumerate() {
        let png = STANDARD.decode(picture["b64_json"].as_str().unwrap()).unwrap();
        assert_eq!(png, node.get(&format!("/api/images/{id}/{index}")).body);
    }
    let by_url = node.post(
        "/v1/images/generations",
        &json!({"prompt": "a fox", "response_format": "url", "preset": "fast"}),
    );
    let url = by_url.json()["data"][0]["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(&format!("http://{}", node.address)).unwrap();
    assert_eq!(node.get(path).header("content-type"), "image/png");
    let wrong = node.post("/v1/images/generations", &json!({"prompt": "a fox", "size": "7x7"}));
    let error = wrong.json()["error"].clone();
    assert_eq!((wrong.status, error["type"].as_str()), (400, Some("invalid_request_error")));
    assert!(["width", "height"].contains(&error["param"].as_str().unwrap()), "{error}");
    assert_eq!(node.get("/v1/models").json()["data"][0]["object"], "model");
}

#[test]
fn trmnl_devices_are_set_up_and_shown_the_picture() {
    let node = node(&[]);
    let id = [("id", "28:37:2F:AA:15:88")];
    let empty = node.get_with("/api/display", &id).json();
    assert_eq!((&empty["image_url"], empty["refresh_rate"].as_u64()), (&Value::Null, Some(60)));
    node.paint("one", "a fox");
    let setup = node.get_with("/api/setup", &id).json();
    assert_eq!((setup["status"].as_u64(), setup["friendly_id"].as_str()), (Some(200), Some("AA1588")));
    assert_eq!(node.get("/api/setup").status, 400);
    let display = node.get_with("/api/display", &id).json();
    assert_eq!((display["status"].as_u64(), display["update_firmware"].as_bool()), (Some(0), Some(false)));
    let url = display["image_url"].as_str().unwrap();
    let path = url.strip_prefix(&format!("http://{}", node.address)).unwrap();
    let picture = node.get(path);
    assert_eq!((path, picture.status, picture.body.len()), ("/image/trmnl", 200, 48_062));
    let before = display["filename"].clone();
    node.paint("two", "an owl");
    assert_ne!(node.get_with("/api/display", &id).json()["filename"], before);
    assert_eq!(node.post_with("/api/log", &id, b"{}").status, 204);
}

#[test]
fn the_node_says_what_it_is_and_how_it_does() {
    let node = node(&[]);
    node.paint("one", "a fox");
    assert_eq!(node.get("/healthz").json(), json!({"status": "ok", "state": "idle"}));
    let info = node.get("/api/info").json();
    assert_eq!((info["node"].as_str(), info["models"][0]["width"].as_u64()), (Some("desk"), Some(128)));
    assert_eq!(node.get("/api/state").json()["state"], "idle");
    let metrics = node.get("/metrics");
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    for line in [
        "easeld_state{state=\"idle\"} 1",
        "easeld_jobs_total{status=\"succeeded\"} 1",
        "easeld_pictures_total 1",
        "easeld_http_requests_total{method=\"POST\",code=\"202\"} 1",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "no {line} in\n{}", metrics.text());
    }
    // Every sample has its HELP and TYPE, and a number.
    for line in metrics.text().lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        let family = name.split('{').next().unwrap();
        assert!(metrics.text().contains(&format!("# TYPE {family} ")), "{line}");
    }
}

#[test]
fn every_documented_operation_exists() {
    let node = node(&[]);
    let openapi = node.get("/openapi.json").json();
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path
                .replace("{id}", "x")
                .replace("{index}", "0")
                .replace("{rendition}", "x")
                .replace("/api/events", "/api/state");
            let answer =
                crate::web::Web::connect(node.address).request(&method.to_uppercase(), &path, &[], b"");
            assert_ne!(answer.status, 405, "{method} {path}");
            assert!(!answer.text().contains("there is nothing at"), "{method} {path}");
        }
    }
}

#[test]
fn curl_takes_parts_and_knows_what_it_has() {
    let node = node(&[]);
    node.paint("one", "a fox");
    let whole = node.get("/image").body;
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("picture.png");
    let url = format!("http://{}/image", node.address);
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "-w", "%{http_code}", "-o"])
            .arg(&file)
            .args(arguments)
            .arg(&url)
            .stderr(Stdio::inherit())
            .output();
        String::from_utf8(output.expect("curl runs").stdout).unwrap()
    };
    // Half of it is there already: curl asks for the rest.
    std::fs::File::create(&file).unwrap().write_all(&whole[..whole.len() / 2]).unwrap();
    assert_eq!(curl(&["-C", "-"]), "206");
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    let tags = directory.path().join("tag");
    let tags = tags.to_str().unwrap();
    assert_eq!(curl(&["--etag-save", tags]), "200");
    assert_eq!(curl(&["--etag-compare", tags]), "304");
    assert_eq!(curl(&["-z", file.to_str().unwrap()]), "304");
    assert_eq!(curl(&["-r", "99999999-"]), "416");
}
