//! The fields of a log line on standard error: `name=value`, without those that only a journal's reader can use.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// See the module; in everything else like `tracing-subscriber`'s own.
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut line = Line { writer, is_empty: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'writer> {
    writer: Writer<'writer>,
    is_empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn add(&mut self, name: &str, value: &dyn Debug) -> fmt::Result {
        let space = if std::mem::take(&mut self.is_empty) { "" } else { " " };
        match name {
            "message" => write!(self.writer, "{space}{value:?}"),
            _ if self.writer.has_ansi_escapes() => {
                write!(self.writer, "{space}\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value:?}")
            }
            _ => write!(self.writer, "{space}{name}={value:?}"),
        }
    }
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = field.name();
        // Records of the `log` crate say twice where they came from.
        if name != "message_id" && !name.starts_with("log.") && self.result.is_ok() {
            self.result = self.add(name, value);
        }
    }
}
