//! A file server for one file, which can do to a client what networks do: cut, forget ranges, change the file.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the server does from now on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// The file.
    pub(crate) content: Vec<u8>,
    /// By which it is known; changes with the file.
    pub(crate) tag: &'static str,
    /// It answers every request with the whole file.
    pub(crate) knows_no_ranges: bool,
    /// The next answers end after so many bytes each, the connection with them.
    pub(crate) cuts: Vec<usize>,
    /// Instead of the file.
    pub(crate) status: Option<&'static str>,
}

/// Serves until the test ends.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    manners: Arc<Mutex<Manners>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts on a free port of loopback.
    pub(crate) fn start(manners: Manners) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let server = Server { port, manners: Arc::new(Mutex::new(manners)), asked: Arc::default() };
        let (manners, asked) = (server.manners.clone(), server.asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &manners, &asked);
            }
        });
        server
    }

    /// Where the file is, under the name `name`.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// Changes what it does.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().expect("no panic holds it"));
    }

    /// The `Range` of every request so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic holds it").clone()
    }
}

/// One request, one answer.
fn serve(stream: TcpStream, manners: &Mutex<Manners>, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut range, mut if_range) = (String::new(), None);
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        match line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
            Some((name, value)) if name == "range" => range = value.to_owned(),
            Some((name, value)) if name == "if-range" => if_range = Some(value.to_owned()),
            None if line.is_empty() => break,
            _ => {}
        }
    }
    asked.lock().expect("no panic holds it").push(range.clone());
    let mut manners = manners.lock().expect("no panic holds it");
    let (content, tag) = (manners.content.clone(), manners.tag);
    let cut = if manners.cuts.is_empty() { usize::MAX } else { manners.cuts.remove(0) };
    let (status, unranged) = (manners.status, manners.knows_no_ranges);
    drop(manners);
    let mut stream = stream;
    if let Some(status) = status {
        return write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let size = content.len();
    let bounds = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
    let bounds = bounds.and_then(|(from, to)| Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?)));
    let same = if_range.is_none_or(|wanted| wanted == tag);
    let (head, body) = match bounds {
        Some((from, _)) if !unranged && same && from >= size => {
            (format!("416 Range Not Satisfiable\r\nContent-Range: bytes */{size}"), &content[..0])
        }
        Some((from, to)) if !unranged && same => {
            let to = (to + 1).min(size);
            let head = format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}", to - 1);
            (head, &content[from..to])
        }
        _ => ("200 OK".to_owned(), &content[..]),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {head}\r\nETag: {tag}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body[..length.min(cut)])
}
