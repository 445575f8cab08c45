//! Fetches an archive over HTTP in pieces, and goes on after a cut where it was: in this call, and in a later one.
//!
//! Each piece is a range request of its own, so a server that stalls costs one piece's patience. `If-Range` with the
//! entity tag makes sure that all pieces are of one file. What was fetched lies in `NAME.part`, the tag in `NAME.tag`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{InstallError, Step};
use crate::jobs::worker::hex;

/// Bytes of a request.
const PIECE: u64 = 32 << 20;
/// For a piece: less than 55 kB/s count as stalled.
const PATIENCE: Duration = Duration::from_secs(600);
const CONNECT: Duration = Duration::from_secs(30);
/// Tries in a row that brought nothing.
const TRIES: u32 = 5;

/// A download under way.
pub(super) struct Download<'a> {
    url: &'a str,
    part: PathBuf,
    tag: PathBuf,
    max_bytes: u64,
    agent: Agent,
}

/// What one request brought.
enum Piece {
    /// There is more.
    More,
    /// That was all.
    Last,
}

impl<'a> Download<'a> {
    /// To be kept in `directory`, which is there.
    pub(super) fn new(url: &'a str, directory: &Path, max_bytes: u64) -> Download<'a> {
        let name = &hex(&Sha256::digest(url))[..16];
        let (part, tag) = (directory.join(format!("{name}.part")), directory.join(format!("{name}.tag")));
        Download { url, part, tag, max_bytes, agent: agent() }
    }

    /// Fetches what is missing; the path of the whole file.
    pub(super) fn fetch(&self, on: &mut dyn FnMut(Step)) -> Result<PathBuf, InstallError> {
        let mut failures = 0;
        loop {
            let before = self.fetched();
            match self.piece(on) {
                Ok(Piece::Last) => return Ok(self.part.clone()),
                Ok(Piece::More) => failures = 0,
                Err(error @ InstallError::TooLarge(_)) => return Err(error),
                Err(error @ InstallError::Io { .. }) => return Err(error),
                Err(error) => {
                    failures = if self.fetched() > before { 1 } else { failures + 1 };
                    if failures >= TRIES || matches!(error, InstallError::Download { again: false, .. }) {
                        return Err(error);
                    }
                    on(Step::Waiting { seconds: 1 << failures });
                    thread::sleep(Duration::from_secs(1 << failures));
                }
            }
        }
    }

    /// Forgets what was fetched.
    pub(super) fn discard(&self) {
        let _ = fs::remove_file(&self.part);
        let _ = fs::remove_file(&self.tag);
    }

    fn fetched(&self) -> u64 {
        fs::metadata(&self.part).map_or(0, |file| file.len())
    }

    fn piece(&self, on: &mut dyn FnMut(Step)) -> Result<Piece, InstallError> {
        let at = self.fetched();
        let mut request = self.agent.get(self.url);
        request = request.header(header::RANGE, format!("bytes={at}-{}", at + PIECE - 1));
        if let Ok(tag) = fs::read_to_string(&self.tag)
            && at > 0
        {
            request = request.header(header::IF_RANGE, tag);
        }
        let response = request.call().map_err(|error| self.refuse(&error))?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let (begin, total) = content_range(&response)
                    .ok_or_else(|| self.refuse("the server's Content-Range cannot be read"))?;
                if begin != at {
                    return Err(self.refuse(format!("the server gave bytes from {begin} on, not {at}")));
                }
                self.remember(&response)?;
                self.append(response, at, total, on)?;
                Ok(if self.fetched() >= total { Piece::Last } else { Piece::More })
            }
            // It knows no ranges, or the file is another one now.
            StatusCode::OK => {
                self.discard();
                let total = response.body().content_length();
                self.remember(&response)?;
                self.append(response, 0, total.unwrap_or(0), on)?;
                match total.is_none_or(|total| self.fetched() == total) {
                    true => Ok(Piece::Last),
                    false => Err(self.refuse("the connection ended early")),
                }
            }
            // All of it is there already, or what is there is of another file.
            StatusCode::RANGE_NOT_SATISFIABLE if at > 0 => {
                if content_length(&response) == Some(at) {
                    return Ok(Piece::Last);
                }
                self.discard();
                Ok(Piece::More)
            }
            status => {
                let patient = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
                let message = self.with_rest(format!("the server says {status}"));
                let again = patient || !status.is_client_error();
                Err(InstallError::Download { url: self.url.to_owned(), message, again })
            }
        }
    }

    /// The tag by which the server knows the file; weak ones are no good for ranges (RFC 9110, 13.1.5).
    fn remember(&self, response: &Response<Body>) -> Result<(), InstallError> {
        let tag =
            response.headers().get(header::ETAG).or_else(|| response.headers().get(header::LAST_MODIFIED));
        match tag.and_then(|tag| tag.to_str().ok()).filter(|tag| !tag.starts_with("W/")) {
            Some(tag) => fs::write(&self.tag, tag).map_err(InstallError::io(&self.tag)),
            None => Ok(()),
        }
    }

    fn append(
        &self,
        response: Response<Body>,
        at: u64,
        total: u64,
        on: &mut dyn FnMut(Step),
    ) -> Result<(), InstallError> {
        let wrap = || InstallError::io(&self.part);
        let mut file =
            File::options().create(true).truncate(false).write(true).open(&self.part).map_err(wrap())?;
        file.seek(SeekFrom::Start(at)).map_err(wrap())?;
        let mut body = response.into_body().into_reader();
        let (mut at, mut buffer) = (at, vec![0; 64 << 10]);
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.refuse(error)),
            };
            at += read as u64;
            if at > self.max_bytes {
                self.discard();
                return Err(InstallError::TooLarge(self.max_bytes));
            }
            file.write_all(&buffer[..read]).map_err(wrap())?;
            on(Step::Fetching { bytes: at, total });
        }
    }

    fn refuse(&self, message: impl std::fmt::Display) -> InstallError {
        InstallError::Download { url: self.url.to_owned(), message: self.with_rest(message), again: true }
    }

    /// The message, and what is here already.
    fn with_rest(&self, message: impl std::fmt::Display) -> String {
        match self.fetched() {
            0 => message.to_string(),
            bytes => {
                format!("{message}; {:.1} MiB are here, the same command goes on from there", mib(bytes))
            }
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn agent() -> Agent {
    // The system's authorities, the owner's own included.
    let system = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = system.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    let agent = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(CONNECT))
        .timeout_recv_body(Some(PATIENCE))
        .user_agent(concat!("easeld/", env!("CARGO_PKG_VERSION")));
    agent.build().into()
}

/// First byte and whole length of `Content-Range: bytes 0-99/1234`.
fn content_range(response: &Response<Body>) -> Option<(u64, u64)> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = range.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

/// Whole length of `Content-Range: bytes */1234`.
fn content_length(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes */")?.parse().ok()
}
