//! The log: lines to standard error, as text or as JSON, changed while the program runs.
//!
//! What is said is chosen by `RUST_LOG`, or else by the configuration.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use oci_mirror::error_chain::chain;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber, warn};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{self, Level};

/// The running log.
#[derive(Debug)]
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    is_json: Arc<AtomicBool>,
}

impl Log {
    /// Starts it, as it is without a configuration.
    pub fn start() -> Self {
        let is_json = Arc::new(AtomicBool::new(false));
        let (filter, handle) = reload::Layer::new(filter(Level::default()));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .event_format(Line {
                text: format::format(),
                is_json: Arc::clone(&is_json),
            });
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .init();
        Self {
            filter: handle,
            is_json,
        }
    }

    /// Does what the configuration says from now on.
    pub fn apply(&self, config: &config::Log) {
        let is_json = config.format == config::Format::Json;
        self.is_json.store(is_json, Ordering::Relaxed);
        if let Err(error) = self.filter.reload(filter(config.level)) {
            warn!(%error, "cannot change the level of the log");
        }
    }
}

fn filter(level: Level) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        let level = LevelFilter::from_level(level.into());
        EnvFilter::default().add_directive(level.into())
    })
}

/// How an event becomes a line.
struct Line {
    text: format::Format,
    is_json: Arc<AtomicBool>,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !self.is_json.load(Ordering::Relaxed) {
            return self.text.format_event(context, writer, event);
        }
        let metadata = event.metadata();
        let mut object = Object(Map::new());
        event.record(&mut object);
        let facts = [
            ("timestamp", Timestamp::now().to_string()),
            ("level", metadata.level().to_string()),
            ("target", metadata.target().to_owned()),
        ];
        for (name, value) in facts {
            object.0.insert(name.to_owned(), value.into());
        }
        writeln!(writer, "{}", Value::Object(object.0))
    }
}

/// The fields of an event; its message is one of them.
struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Object {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, chain(value));
    }
}
