//! A small HTTP/1.1 client: it sends exactly what a test says, whole or in pieces, and reads what comes back.

#![allow(dead_code)] // each test file uses a part

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// What takes longer has failed: a picture at opt-level 1 on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(if cfg!(target_arch = "x86_64") { 120 } else { 1200 });

/// An answer, its body whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The header `name`, lower-case; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Web {
    pub(crate) fn connect(address: SocketAddr) -> Web {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Web { address, stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request with `Host` and `Content-Length` beside `headers`.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("content-length: {}\r\n", body.len());
        }
        self.send(format!("{head}\r\n").as_bytes()).expect("the head is taken");
        // A server may answer before it has read a body that it does not want.
        let _ = self.send(body);
        self.read(method == "HEAD").expect("an answer")
    }

    /// The next line, without its end; `None` at the end of the stream.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Status and headers.
    pub(crate) fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let first = self.line()?;
        let status = first.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Some((status, headers))
    }

    /// An answer; `None` where the connection ends instead.
    pub(crate) fn read(&mut self, no_body: bool) -> Option<Answer> {
        let (status, headers) = self.head()?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        if no_body || matches!(status, 204 | 304) {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == "chunked" {
            while let Some(size) = self.line().and_then(|line| usize::from_str_radix(&line, 16).ok()) {
                let mut chunk = vec![0; size + 2];
                self.stream.read_exact(&mut chunk).ok()?;
                if size == 0 {
                    break;
                }
                answer.body.extend(&chunk[..size]);
            }
        } else {
            answer.body = vec![0; answer.header("content-length").parse().unwrap_or(0)];
            self.stream.read_exact(&mut answer.body).ok()?;
        }
        Some(answer)
    }

    /// Whether the server has closed the connection, or does within `time`.
    pub(crate) fn is_closed_within(&mut self, time: Duration) -> bool {
        self.stream.get_ref().set_read_timeout(Some(time)).expect("a timeout");
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => {
                !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
            }
        }
    }
}

/// Server-sent events.
#[derive(Debug)]
pub(crate) struct Events(Web);

impl Events {
    /// Listens at `address`; `Err` is the answer of a server that does not let us.
    pub(crate) fn listen(address: SocketAddr, headers: &[(&str, &str)]) -> Result<Events, Answer> {
        let mut web = Web::connect(address);
        let mut head = format!("GET /api/events HTTP/1.1\r\nhost: {address}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        web.send(format!("{head}\r\n").as_bytes()).expect("taken");
        let (status, headers) = web.head().expect("an answer");
        if status == 200 {
            assert!(headers.iter().any(|(_, value)| value == "text/event-stream"), "{headers:?}");
            return Ok(Events(web));
        }
        Err(Answer { status, headers, body: Vec::new() })
    }

    /// The next event: id, kind, data. Comments and the sizes of chunks are passed over.
    pub(crate) fn next(&mut self) -> Option<(String, String, Value)> {
        let (mut id, mut kind) = (String::new(), String::new());
        loop {
            let line = self.0.line()?;
            if let Some(value) = line.strip_prefix("id: ") {
                id = value.to_owned();
            } else if let Some(value) = line.strip_prefix("event: ") {
                kind = value.to_owned();
            } else if let Some(value) = line.strip_prefix("data: ") {
                return Some((id, kind, serde_json::from_str(value).expect("JSON")));
            }
        }
    }

    /// The first event of this kind that `wanted` says.
    pub(crate) fn wait(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> (String, Value) {
        let mut others = Vec::new();
        while let Some((id, of, data)) = self.next() {
            if of == kind && wanted(&data) {
                return (id, data);
            }
            others.push(format!("{of} {data}"));
        }
        panic!("no {kind} among\n{}", others.join("\n"));
    }
}
