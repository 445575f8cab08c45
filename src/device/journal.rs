//! One `tracing` event becomes one journal entry that keeps its fields.
//!
//! The layer gathers the fields of the event and of the spans around it and hands them, as the key-values
//! of a `log::Record`, to [`JournalLog::journal_send`], which upper-cases the keys: `job_id` is `JOB_ID`.
//! So `journalctl JOB_ID=...` finds every line of a job. Set up by [`super::logging`].

use std::fmt;
use std::io;

use log::kv::{self, Key, Source, Value, VisitSource};
use systemd_journal_logger::JournalLog;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_log::{AsLog, NormalizeEvent};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Takes one finished record; a failure to write it is dropped, since there is nowhere to report it.
type Send = dyn Fn(&log::Record<'_>) + std::marker::Send + Sync;

/// Writes every event to the journal.
pub struct JournalLayer {
    send: Box<Send>,
}

impl JournalLayer {
    /// A layer on the system's journal.
    ///
    /// # Errors
    /// When `/run/systemd/journal/socket` takes no datagrams.
    pub fn connect() -> io::Result<Self> {
        let journal = JournalLog::empty()?.with_syslog_identifier(env!("CARGO_PKG_NAME").to_owned());
        Ok(Self::new(move |record| {
            let _ = journal.journal_send(record);
        }))
    }

    fn new(send: impl Fn(&log::Record<'_>) + std::marker::Send + Sync + 'static) -> Self {
        Self { send: Box::new(send) }
    }
}

impl<S> Layer<S> for JournalLayer
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // The event first, then its spans from the inside out: what is nearest to the event counts.
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = std::mem::take(&mut fields.message);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.add_missing(outer);
            }
        }
        // A record that came from the `log` crate says where it came from in fields of its own.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        (self.send)(
            &log::Record::builder()
                .args(format_args!("{message}"))
                .level(metadata.level().as_log())
                .target(metadata.target())
                .module_path(metadata.module_path())
                .file(metadata.file())
                .line(metadata.line())
                .key_values(&fields)
                .build(),
        );
    }
}

/// A value as `tracing` recorded it.
#[derive(Debug, Clone, PartialEq)]
enum FieldValue {
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
    Text(String),
}

/// The fields of one event or span; a later value of a name replaces the earlier one.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    pairs: Vec<(&'static str, FieldValue)>,
}

impl Fields {
    fn set(&mut self, field: &Field, value: FieldValue) {
        let name = field.name();
        // `log.target` and its kin are where a `log` record came from; the entry has proper fields for it.
        if name.starts_with("log.") {
            return;
        }
        match self.pairs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((name, value)),
        }
    }

    fn add_missing(&mut self, outer: &Fields) {
        for (name, value) in &outer.pairs {
            if !self.pairs.iter().any(|(known, _)| known == name) {
                self.pairs.push((name, value.clone()));
            }
        }
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, FieldValue::Integer(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, FieldValue::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, FieldValue::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, FieldValue::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.set(field, FieldValue::Text(text));
        }
    }
}

impl Source for Fields {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        for (name, value) in &self.pairs {
            let value = match value {
                FieldValue::Integer(value) => Value::from(*value),
                FieldValue::Unsigned(value) => Value::from(*value),
                FieldValue::Float(value) => Value::from(*value),
                FieldValue::Bool(value) => Value::from(*value),
                FieldValue::Text(value) => Value::from(value.as_str()),
            };
            visitor.visit_pair(Key::from_str(name), value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry::Registry;

    use super::*;

    /// What reached the journal's door: message, level, target, fields in order.
    #[derive(Debug, PartialEq)]
    struct Entry {
        message: String,
        level: log::Level,
        target: String,
        fields: Vec<(String, String)>,
    }

    struct Pairs(Vec<(String, String)>);

    impl<'kvs> VisitSource<'kvs> for Pairs {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            self.0.push((key.to_string(), value.to_string()));
            Ok(())
        }
    }

    fn entries(log: impl FnOnce()) -> Vec<Entry> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let layer = JournalLayer::new(move |record| {
            let mut pairs = Pairs(Vec::new());
            record.key_values().visit(&mut pairs).unwrap();
            sink.lock().unwrap().push(Entry {
                message: record.args().to_string(),
                level: record.level(),
                target: record.target().to_owned(),
                fields: pairs.0,
            });
        });
        tracing::subscriber::with_default(Registry::default().with(layer), log);
        std::mem::take(&mut *seen.lock().unwrap())
    }

    fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn fields_of_every_type_are_kept_beside_the_message() {
        let seen = entries(|| {
            tracing::warn!(
                target: "easeld::jobs", step = 3_u64, delta = -2_i64, seconds = 0.5, warm = true, phase = "unet",
                error = %"no\nluck", "job {} done", "a1",
            );
        });
        let fields = [
            ("step", "3"),
            ("delta", "-2"),
            ("seconds", "0.5"),
            ("warm", "true"),
            ("phase", "unet"),
            ("error", "no\nluck"),
        ];
        let entry = Entry {
            message: "job a1 done".to_owned(),
            level: log::Level::Warn,
            target: "easeld::jobs".to_owned(),
            fields: owned(&fields),
        };
        assert_eq!(seen, [entry]);
    }

    #[test]
    fn the_event_beats_the_inner_span_which_beats_the_outer() {
        let seen = entries(|| {
            let outer = tracing::info_span!("job", job_id = "a1", phase = "queue", step = 0);
            let _outer = outer.enter();
            let inner =
                tracing::info_span!("denoise", phase = "unet", step = 1, late = tracing::field::Empty);
            let _inner = inner.enter();
            inner.record("late", 7);
            tracing::info!(step = 2, "stepped");
        });
        assert_eq!(
            seen[0].fields,
            owned(&[("step", "2"), ("phase", "unet"), ("late", "7"), ("job_id", "a1")])
        );
    }

    #[test]
    fn nothing_of_a_span_outlives_it() {
        let seen = entries(|| {
            tracing::info_span!("job", job_id = "a1").in_scope(|| tracing::info!("inside"));
            tracing::info!("outside");
        });
        assert_eq!(seen[0].fields, owned(&[("job_id", "a1")]));
        assert_eq!(seen[1].fields, owned(&[]));
    }

    #[test]
    fn a_record_of_the_log_crate_keeps_its_own_target() {
        let seen = entries(|| {
            let record = log::Record::builder()
                .args(format_args!("packet too large"))
                .level(log::Level::Error)
                .target("rumqttc::state")
                .file(Some("state.rs"))
                .line(Some(9))
                .build();
            tracing_log::format_trace(&record).unwrap();
        });
        assert_eq!(seen[0].target, "rumqttc::state");
        assert_eq!(seen[0].message, "packet too large");
        assert_eq!(seen[0].fields, owned(&[]));
    }
}
