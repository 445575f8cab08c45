//! Files as HTTP gives them out: only when they have changed, and in parts where that is asked for.
//!
//! RFC 9110, sections 13 (conditional requests) and 14 (ranges). Of several ranges none is given: the whole file is, which a server may.

use std::time::SystemTime;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, LAST_MODIFIED, RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;

/// A file to give out.
#[derive(Debug)]
pub(super) struct File {
    /// All of it.
    pub(super) bytes: Bytes,
    /// Its media type.
    pub(super) content_type: &'static str,
    /// Changes with the bytes; without quotes.
    pub(super) tag: String,
    /// When it was made.
    pub(super) modified: Option<SystemTime>,
    /// `Cache-Control`.
    pub(super) cache: &'static str,
}

/// A cache asks every time, and mostly hears 304.
pub(super) const ASK: &str = "private, no-cache";

impl File {
    /// The answer to a request with these `headers`.
    pub(super) fn answer(self, method: &Method, headers: &HeaderMap) -> Response {
        let mut response = self.body(method, headers);
        let tag = format!("\"{}\"", self.tag);
        let mut put = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        };
        put(ETAG, &tag);
        put(CACHE_CONTROL, self.cache);
        put(ACCEPT_RANGES, "bytes");
        if let Some(modified) = self.modified {
            put(LAST_MODIFIED, &httpdate::fmt_http_date(modified));
        }
        response
    }

    /// Whether a file with this tag and date need not be made for a client with these `headers`: it has it.
    pub(super) fn is_had(tag: &str, modified: Option<SystemTime>, headers: &HeaderMap) -> bool {
        let (bytes, content_type, tag) = (Bytes::new(), "", tag.to_owned());
        Self { bytes, content_type, tag, modified, cache: ASK }.is_known(headers)
    }

    fn body(&self, method: &Method, headers: &HeaderMap) -> Response {
        if self.is_known(headers) {
            return respond(StatusCode::NOT_MODIFIED, Bytes::new());
        }
        let ranges = *method == Method::GET && self.may_range(headers);
        let range = headers.get(RANGE).filter(|_| ranges).and_then(|value| value.to_str().ok());
        let size = self.bytes.len();
        let mut response = match range.map_or(Part::Whole, |range| part(range, size)) {
            Part::Whole => respond(StatusCode::OK, self.bytes.clone()),
            Part::Of { from, to } => {
                let mut response = respond(StatusCode::PARTIAL_CONTENT, self.bytes.slice(from..to));
                set_range(&mut response, &format!("bytes {from}-{}/{size}", to - 1));
                response
            }
            Part::Nowhere => {
                let mut response = respond(StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new());
                set_range(&mut response, &format!("bytes */{size}"));
                return response;
            }
        };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        response
    }

    /// The client has it already. A tag says more than a date.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key(IF_NONE_MATCH) {
            let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
            let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
            return tags.any(|tag| tag == "*" || self.is_tag(tag.strip_prefix("W/").unwrap_or(tag)));
        }
        let since = headers.get(IF_MODIFIED_SINCE).and_then(date);
        since.zip(self.modified).is_some_and(|(since, modified)| modified <= since)
    }

    /// A part only makes sense of the file that the client has the rest of.
    fn may_range(&self, headers: &HeaderMap) -> bool {
        let Some(condition) = headers.get(IF_RANGE) else { return true };
        let tag = condition.to_str().is_ok_and(|tag| self.is_tag(tag));
        tag || date(condition).zip(self.modified).is_some_and(|(of, modified)| of == modified)
    }

    fn is_tag(&self, quoted: &str) -> bool {
        quoted.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(&self.tag)
    }
}

fn respond(status: StatusCode, bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response
}

fn set_range(response: &mut Response, text: &str) {
    let value = HeaderValue::from_str(text).expect("digits and slashes");
    response.headers_mut().insert(CONTENT_RANGE, value);
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// What of a file is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// `from..to`, not empty.
    Of {
        from: usize,
        to: usize,
    },
    /// Behind its end.
    Nowhere,
}

/// Reads `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-LENGTH`; what is not that form is passed over, as RFC 9110 asks.
fn part(range: &str, size: usize) -> Part {
    let Some((first, last)) = range.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Part::Whole;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<usize>().unwrap_or(usize::MAX))
    };
    let (from, to) = match (number(first.trim()), number(last.trim())) {
        (Some(from), Some(last)) if from <= last => (from, last.saturating_add(1).min(size)),
        (Some(from), None) if last.trim().is_empty() => (from, size),
        (None, Some(length)) if first.trim().is_empty() => {
            // The last 0 bytes are nowhere.
            (if length == 0 { size } else { size.saturating_sub(length) }, size)
        }
        _ => return Part::Whole,
    };
    if from >= size { Part::Nowhere } else { Part::Of { from, to } }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn file() -> File {
        let modified = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        let bytes = Bytes::from_static(b"0123456789");
        File { bytes, content_type: "image/png", tag: "abc".to_owned(), modified, cache: ASK }
    }

    fn status(pairs: &[(&'static str, &str)]) -> u16 {
        let headers = pairs.iter().map(|(name, value)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
        });
        file().answer(&Method::GET, &headers.collect()).status().as_u16()
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (pairs, expected) in [
            (&[][..], 200),
            (&[("if-none-match", "\"abc\"")], 304),
            (&[("if-none-match", "W/\"abc\"")], 304),
            (&[("if-none-match", "\"x\", \"abc\"")], 304),
            (&[("if-none-match", "*")], 304),
            (&[("if-none-match", "abc")], 200),
            (&[("if-none-match", "\"x\"")], 200),
            (&[("if-modified-since", date)], 304),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], 200),
            (&[("if-modified-since", "yesterday")], 200),
            (&[("if-none-match", "\"x\""), ("if-modified-since", date)], 200),
        ] {
            assert_eq!(status(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn parts_are_cut_as_asked() {
        for (range, expected) in [
            ("bytes=0-3", Part::Of { from: 0, to: 4 }),
            ("bytes=4-", Part::Of { from: 4, to: 10 }),
            ("bytes=-3", Part::Of { from: 7, to: 10 }),
            ("bytes=-30", Part::Of { from: 0, to: 10 }),
            ("bytes=8-99999999999999999999999", Part::Of { from: 8, to: 10 }),
            ("bytes=10-", Part::Nowhere),
            ("bytes=-0", Part::Nowhere),
            ("bytes=3-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=-", Part::Whole),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Nowhere);
    }

    #[test]
    fn a_part_of_another_file_is_not_given() {
        for (condition, expected) in [
            ("\"abc\"", 206),
            ("\"x\"", 200),
            ("W/\"abc\"", 200),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 206),
            ("Sun, 06 Nov 1994 08:49:38 GMT", 200),
        ] {
            assert_eq!(status(&[("range", "bytes=0-1"), ("if-range", condition)]), expected, "{condition}");
        }
        assert_eq!(status(&[("range", "bytes=99-")]), 416);
    }
}
