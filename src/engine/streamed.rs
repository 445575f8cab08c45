//! Weights read from the packed file while the network runs, for machines whose memory the file would fill: a thread
//! reads ahead of the layer at work.
//!
//! What the coming run asks for is cut into loads, each a large weight or some megabytes of small ones. Two staging
//! buffers take turns: layers use one load while the next is read into the other.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, anyhow, ensure};

use super::packing;
use super::records::{LINE, Part, Record};
use super::weights::{Lines, Source};

/// Most bytes of weights in memory at a time.
pub const STAGING_BYTES: usize = 64 << 20;
/// Buffers that share them.
const BUFFERS: usize = 2;
/// Weights are read together up to this many bytes: enough for an SD card to read at full speed, too few to matter.
const LOAD_BYTES: usize = 4 << 20;

/// Weights that are read together.
#[derive(Default)]
struct Load {
    records: Vec<Record>,
    bytes: usize,
}

impl Load {
    /// Where a weight lies in the buffer.
    fn find(&self, wanted: &Record) -> Option<Part> {
        let mut offset = 0;
        for record in &self.records {
            let bytes = record.span().bytes;
            if record.offset == wanted.offset {
                return Some(Part { offset, bytes });
            }
            offset += bytes;
        }
        None
    }
}

/// Cuts what a run asks for, in this order, into loads.
fn loads(records: Vec<Record>) -> VecDeque<Load> {
    let mut loads: VecDeque<Load> = VecDeque::new();
    for record in records {
        let bytes = record.span().bytes;
        match loads.back_mut() {
            Some(load) if load.bytes + bytes <= LOAD_BYTES => {
                load.records.push(record);
                load.bytes += bytes;
            }
            _ => loads.push_back(Load { records: vec![record], bytes }),
        }
    }
    loads
}

/// What the buffers come to take while runs follow each other that ask for `records`, in this order: a run may begin with
/// the buffer that the one before it ended with.
fn staged_bytes(records: Vec<Record>) -> usize {
    let loads = loads(records);
    let mut capacities = [0; BUFFERS];
    let mut most = 0;
    for first in 0..BUFFERS {
        for (at, load) in loads.iter().enumerate() {
            let capacity = &mut capacities[(first + at) % BUFFERS];
            *capacity = Lines::capacity_after(*capacity, load.bytes);
            most = most.max(capacities.iter().sum());
        }
    }
    most
}

/// What the reading thread gets and gives back.
type Request = (Load, Lines);
type Reply = (Load, Lines, anyhow::Result<()>);

/// A packed file that is read a load at a time.
pub(super) struct Streamed {
    file: Arc<File>,
    length: u64,
    requests: Sender<Request>,
    replies: Receiver<Reply>,
    /// Loads that nobody reads yet.
    waiting: VecDeque<Load>,
    /// How many the thread is at.
    reading: usize,
    /// The load that layers use.
    current: Load,
    buffer: Option<Lines>,
    idle: Vec<Lines>,
}

impl Streamed {
    /// Will read the weights `records` from `file`.
    pub(super) fn new(file: File, records: &[Record]) -> anyhow::Result<Streamed> {
        for record in records {
            let (bytes, most) = (record.span().bytes, STAGING_BYTES / BUFFERS);
            ensure!(
                bytes <= most,
                "weight '{}' takes {bytes} bytes, and no more than {most} can be streamed at once: set [inference] \
                 weights = \"mapped\"",
                record.name
            );
        }
        let length = file.metadata()?.len();
        let file = Arc::new(file);
        let (requests, asked) = channel::<Request>();
        let (answers, replies) = channel::<Reply>();
        let from = file.clone();
        let read = move || {
            for (load, mut buffer) in asked {
                let result = fill(&from, &load, &mut buffer);
                if answers.send((load, buffer, result)).is_err() {
                    break; // nobody waits any more
                }
            }
        };
        thread::Builder::new().name("weights".to_owned()).spawn(read).context("cannot start a thread")?;
        Ok(Streamed {
            file,
            length,
            requests,
            replies,
            waiting: VecDeque::new(),
            reading: 0,
            current: Load::default(),
            buffer: None,
            idle: (0..BUFFERS).map(|_| Lines::default()).collect(),
        })
    }

    /// Has the thread read as far ahead as there are buffers.
    fn read_ahead(&mut self) -> anyhow::Result<()> {
        while !self.waiting.is_empty() {
            let Some(buffer) = self.idle.pop() else {
                break;
            };
            let load = self.waiting.pop_front().unwrap_or_default();
            self.requests
                .send((load, buffer))
                .map_err(|_| anyhow!("the thread that reads weights is gone"))?;
            self.reading += 1;
        }
        Ok(())
    }

    /// Waits for the load that is read next.
    fn receive(&mut self) -> anyhow::Result<(Load, Lines)> {
        let reply = self.replies.recv().map_err(|_| anyhow!("the thread that reads weights is gone"));
        let (load, buffer, result) = reply?;
        self.reading -= 1;
        match result {
            Ok(()) => Ok((load, buffer)),
            Err(error) => {
                self.idle.push(buffer);
                Err(error)
            }
        }
    }

    /// Goes on to the next load.
    fn advance(&mut self) -> anyhow::Result<()> {
        self.current = Load::default();
        self.idle.extend(self.buffer.take());
        self.read_ahead()?;
        let (load, buffer) = self.receive()?;
        (self.current, self.buffer) = (load, Some(buffer));
        Ok(())
    }

    /// Bytes of staging memory, as far as it is not being written.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.idle.iter().chain(&self.buffer).map(Lines::capacity).sum()
    }
}

fn fill(file: &File, load: &Load, buffer: &mut Lines) -> anyhow::Result<()> {
    buffer.resize(load.bytes);
    let mut left = buffer.all_mut();
    for record in &load.records {
        let Part { offset, bytes } = record.span();
        let (to, rest) = left.split_at_mut(bytes);
        read(file, record, offset, to)?;
        left = rest;
    }
    Ok(())
}

fn read(file: &File, record: &Record, offset: usize, to: &mut [u8]) -> anyhow::Result<()> {
    file.read_exact_at(to, offset as u64)
        .with_context(|| format!("cannot read weight '{}' from the packed file", record.name))?;
    packing::check(record, to)
}

impl Source for Streamed {
    fn expect(&mut self, records: Vec<Record>) {
        self.current = Load::default();
        self.idle.extend(self.buffer.take());
        while self.reading > 0 {
            match self.receive() {
                Ok((_, buffer)) => self.idle.push(buffer),
                Err(error) => tracing::debug!("left behind by a run that ended: {error:#}"),
            }
        }
        self.waiting = loads(records);
        if let Err(error) = self.read_ahead() {
            tracing::debug!("{error:#}"); // the first layer meets it, too
        }
    }

    fn bytes(&mut self, record: &Record) -> anyhow::Result<&[u8]> {
        while self.current.find(record).is_none() {
            if self.reading == 0 && self.waiting.is_empty() {
                self.expect(vec![record.clone()]); // nobody said so before
            }
            self.advance()?;
        }
        let part = self.current.find(record).context("a load without its weight")?;
        debug_assert!(part.offset.is_multiple_of(LINE));
        let buffer = self.buffer.as_ref().context("a load without its buffer")?;
        Ok(&buffer.all()[part.offset..][..part.bytes])
    }

    fn copy(&self, record: &Record) -> anyhow::Result<Cow<'_, [u8]>> {
        let Part { offset, bytes } = record.span();
        let mut copy = vec![0; bytes];
        read(&self.file, record, offset, &mut copy)?;
        Ok(Cow::Owned(copy))
    }

    fn part(&self, Part { offset, bytes }: Part) -> anyhow::Result<Cow<'_, [u8]>> {
        let mut copy = vec![0; bytes];
        self.file.read_exact_at(&mut copy, offset as u64).context("cannot read from the packed file")?;
        Ok(Cow::Owned(copy))
    }

    fn staged(&self, records: Vec<Record>) -> usize {
        staged_bytes(records)
    }

    fn is_whole(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.len() == self.length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::load::{RawWeight, Values};
    use super::super::packing::{HEADER, pack, read_contents, read_header};
    use super::super::records::Order;
    use super::super::weights::Mapped;
    use super::*;

    /// A file of `sizes.len()` weights of so many thousand bytes, and its records.
    fn packed(sizes: &[usize]) -> (tempfile::NamedTempFile, Vec<Record>) {
        let weight = |(at, size): (usize, &usize)| {
            let order = Order::InputsFirst { inputs: 1000, channels: size.next_multiple_of(32) };
            let codes =
                (0..order.len()).map(|code| ((code * (at + 3)) % 251) as i8).map(|code| code.max(-127));
            let values = Values::Int8(codes.collect(), vec![0.5; order.channels()]);
            RawWeight { name: format!("weight {at}"), order, values }
        };
        let bytes = pack(&[1; 32], b"graph", sizes.iter().enumerate().map(weight).collect(), None);
        let header = read_header(&bytes, bytes.len(), &[1; 32]).unwrap();
        let contents = read_contents(&bytes[HEADER..][..header.contents.bytes], &header).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        (file, contents.records)
    }

    #[test]
    fn streamed_bytes_are_the_mapped_ones_and_staging_is_bounded() {
        let (file, records) = packed(&[32, 5000, 64, 320, 12_000, 8000, 32, 2000]);
        let mut mapped = Mapped::new(file.reopen().unwrap()).unwrap();
        let orders: [&[usize]; 4] =
            [&[0, 1, 2, 3, 4, 5, 6, 7], &[7, 5, 5, 3, 1, 1], &[4, 4, 4], &[1, 0, 1, 0, 5]];
        for order in orders {
            let mut streamed = Streamed::new(file.reopen().unwrap(), &records).unwrap();
            let asked: Vec<Record> = order.iter().map(|at| records[*at].clone()).collect();
            let told = streamed.staged(asked.clone());
            assert!(told <= STAGING_BYTES);
            for _ in 0..3 {
                streamed.expect(asked.clone());
                for at in order {
                    assert!(
                        mapped.bytes(&records[*at]).unwrap() == streamed.bytes(&records[*at]).unwrap(),
                        "{at}"
                    );
                    assert!(streamed.held() <= told, "{} of {told}", streamed.held());
                }
            }
        }
        let mut streamed = Streamed::new(file.reopen().unwrap(), &records).unwrap();
        // Left in the middle, asked for something else, asked without a word.
        streamed.expect(records.clone());
        streamed.bytes(&records[0]).unwrap();
        streamed.expect(vec![records[6].clone()]);
        for at in [6, 2, 4, 0] {
            assert!(mapped.bytes(&records[at]).unwrap() == streamed.bytes(&records[at]).unwrap(), "{at}");
        }
        assert!(streamed.held() <= 2 * (12_100_000 + LOAD_BYTES), "buffers are no larger than loads");
        // 12 MB and the 8 after them, though the largest is read more than once.
        let told = streamed.staged(records.clone());
        assert!((20_000_000..20_500_000).contains(&told), "{told}");
    }

    #[test]
    fn a_file_that_is_cut_or_changed_meanwhile_is_an_error_that_names_the_weight() {
        let (file, records) = packed(&[320, 5000, 5000]);
        let mut streamed = Streamed::new(file.reopen().unwrap(), &records).unwrap();
        file.as_file().write_all_at(&[77], records[1].offset as u64 + 11).unwrap();
        let error = format!("{:#}", streamed.bytes(&records[1]).unwrap_err());
        assert!(error.contains("weight 'weight 1' is damaged"), "{error}");
        assert!(streamed.bytes(&records[0]).is_ok(), "the others can still be read");
        file.as_file().set_len(records[2].offset as u64 + 100).unwrap();
        assert!(!streamed.is_whole());
        let error = format!("{:#}", streamed.bytes(&records[2]).unwrap_err());
        assert!(error.contains("'weight 2'"), "{error}");
    }

    #[test]
    fn a_weight_beyond_the_bound_is_named_with_what_to_do() {
        let order = Order::ChannelsFirst { channels: 4096, inputs: 4096, taps: 9 };
        let record = Record { name: "huge".to_owned(), order, int8: true, offset: 0, checksum: 0 };
        let file = tempfile::tempfile().unwrap();
        let error = Streamed::new(file, &[record]).err().unwrap().to_string();
        assert!(error.contains("'huge'") && error.contains("weights = \"mapped\""), "{error}");
    }
}
