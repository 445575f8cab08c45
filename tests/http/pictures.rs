//! Pictures to pull: conditions, ranges, thumbnails, pages, their end.

use serde_json::json;

use crate::node;
use crate::web::{Events, Web};

#[test]
fn the_newest_picture_is_there_for_displays_that_poll() {
    let node = node(&[("EASELD__HTTP__REFRESH_S", "77")]);
    let none = node.get("/image");
    assert_eq!((none.status, none.json()["error"]["code"].as_str()), (404, Some("not_found")));
    let job = node.paint("one", "a fox");
    let picture = node.get("/image");
    let sha256 = job["images"][0]["sha256"].as_str().unwrap();
    assert_eq!(picture.header("etag"), format!("\"{sha256}\""));
    assert_eq!(picture.header("refresh"), "77");
    assert_eq!(picture.header("cache-control"), "private, no-cache");
    assert!(picture.header("last-modified").ends_with(" GMT"));
    let conditional = node.get_with("/image", &[("if-none-match", picture.header("etag"))]);
    assert_eq!(
        (conditional.status, conditional.body.len(), conditional.header("etag")),
        (304, 0, picture.header("etag"))
    );
    let since = node.get_with("/image", &[("if-modified-since", picture.header("last-modified"))]);
    assert_eq!(since.status, 304);
    let part = node.get_with("/image", &[("range", "bytes=1-3")]);
    assert_eq!((part.status, &part.body[..]), (206, &b"PNG"[..]));
    assert_eq!(part.header("content-range"), format!("bytes 1-3/{}", picture.body.len()));
    let beyond = node.get_with("/image", &[("range", "bytes=99999999-")]);
    assert_eq!(
        (beyond.status, beyond.header("content-range")),
        (416, format!("bytes */{}", picture.body.len()).as_str())
    );
    let head = Web::connect(node.address).request("HEAD", "/image", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, picture.body.len().to_string().as_str()));
    node.paint("two", "an owl");
    let newer = node.get_with("/image", &[("if-none-match", picture.header("etag"))]);
    assert_eq!(newer.status, 200);
    assert_ne!(newer.body, picture.body);
    // TRMNL's exact file, again only when it is another.
    let panel = node.get("/image/trmnl");
    assert_eq!((panel.status, panel.body.len(), &panel.body[..2]), (200, 48_062, &b"BM"[..]));
    assert_eq!((panel.header("content-type"), panel.header("refresh")), ("image/bmp", "77"));
    let same = node.get_with("/image/trmnl", &[("if-none-match", panel.header("etag"))]);
    assert_eq!((same.status, same.header("etag")), (304, panel.header("etag")));
    let part = node.get_with("/image/trmnl", &[("range", "bytes=-16"), ("if-range", panel.header("etag"))]);
    assert_eq!((part.status, &part.body[..]), (206, &panel.body[48_046..]));
    let unknown = node.get("/image/no-such-panel");
    assert_eq!((unknown.status, unknown.json()["error"]["code"].as_str()), (404, Some("not_found")));
}

#[test]
fn a_request_is_answered_with_where_its_renditions_are() {
    let node = node(&[]);
    let asked = json!({"id": "one", "prompt": "a fox", "num_images": 2, "renditions": ["trmnl", "jpeg"]});
    assert_eq!(node.post("/api/generate", &asked).status, 202);
    let job = node.ended("one");
    let second = &job["images"][1]["renditions"];
    assert_eq!(second["jpeg"], "/api/images/one/1?rendition=jpeg");
    let panel = node.get(job["images"][0]["renditions"]["trmnl"].as_str().unwrap());
    assert_eq!((panel.status, panel.body.len(), panel.header("content-type")), (200, 48_062, "image/bmp"));
    assert_eq!(panel.body, node.get("/image/trmnl").body);
    let download = node.get("/api/images/one/1?rendition=jpeg&download=1");
    assert_eq!(download.header("content-disposition"), "attachment; filename=\"easeld-one-1.jpg\"");
    assert_eq!(node.get("/api/images/one?rendition=no-such-panel").status, 404);
    let wrong = node.post("/api/generate", &json!({"prompt": "a fox", "renditions": ["trmnll"]}));
    assert_eq!((wrong.status, wrong.json()["error"]["field"].as_str()), (400, Some("renditions")));
    node.paint("two", "an owl");
    assert!(node.get("/api/jobs/two").json()["images"][0].get("renditions").is_none());
}

#[test]
fn thumbnails_prints_and_downloads_are_what_they_say() {
    let node = node(&[]);
    node.paint("one", "a fox");
    let size = |path: &str| {
        let answer = node.get(path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let picture = image::load_from_memory(&answer.body).unwrap();
        (answer.header("content-type").to_owned(), picture.width(), picture.height())
    };
    assert_eq!(size("/api/images/one?size=32"), ("image/jpeg".to_owned(), 32, 32));
    assert_eq!(size("/api/images/one?size=1024"), ("image/jpeg".to_owned(), 128, 128));
    assert_eq!(size("/api/images/one?print=1"), ("image/png".to_owned(), 2400, 2400));
    let download = node.get("/api/images/one?download=1");
    assert_eq!(download.header("content-disposition"), "attachment; filename=\"easeld-one-0.png\"");
    let thumbnail = node.get("/api/images/one?size=32");
    assert_ne!(thumbnail.header("etag"), download.header("etag"));
    let again = node.get_with("/api/images/one?size=32", &[("if-none-match", thumbnail.header("etag"))]);
    assert_eq!(again.status, 304);
    for path in ["/api/images/one?size=7", "/api/images/one?size=x", "/api/images/one?colour=red"] {
        assert_eq!(node.get(path).status, 400, "{path}");
    }
    for path in
        ["/api/images/one/1", "/api/images/one/x", "/api/images/one/-1", "/api/images/one/99999999999"]
    {
        assert_eq!(node.get(path).status, 404, "{path}");
    }
}

#[test]
fn the_gallery_comes_in_pages_and_deleted_pictures_are_gone() {
    let node = node(&[]);
    for n in 0..5 {
        node.post("/api/generate", &json!({"id": format!("j{n}"), "prompt": "a fox", "preset": "fast"}));
    }
    node.ended("j4");
    let page = |query: &str| {
        let page = node.get(&format!("/api/images{query}")).json();
        let ids: Vec<_> = page["images"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| image["id"].as_str().unwrap().to_owned())
            .collect();
        (ids, page["next"].as_u64())
    };
    let (first, next) = page("?limit=2");
    assert_eq!(first, ["j4", "j3"]);
    let (second, next) = page(&format!("?limit=2&before={}", next.unwrap()));
    assert_eq!(second, ["j2", "j1"]);
    let (third, next) = page(&format!("?limit=2&before={}", next.unwrap()));
    assert_eq!((third, next), (vec!["j0".to_owned()], None));
    let mut events = Events::listen(node.address, &[]).unwrap();
    assert_eq!(node.delete("/api/images/j4").status, 204);
    events.wait("deleted", |event| event["id"] == "j4");
    assert_eq!(node.delete("/api/images/j4").status, 404);
    assert_eq!(node.get("/api/images/j4").status, 404);
    assert_eq!(page("?limit=1").0, ["j3"]);
    let job = node.get("/api/jobs/j4").json();
    assert_eq!(
        (job["status"].as_str(), job.get("images")),
        (Some("succeeded"), None),
        "how it ended is still known"
    );
    let newest = node.get("/image");
    assert_eq!(newest.body, node.get("/api/images/j3").body);
}
