//! Sets up the process-wide log: level filter, JSON lines for machines or a console form for people.
//!
//! Never rotates files (the supervisor does) and never filters secrets out of what it is given: callers do not log
//! tokens, passwords or message text, and types that hold them print a placeholder in `Debug`.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::FormatTime;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `timestamp`, `level`, `message`, the event's fields, `target` (the namespace), and the
    /// `span` with `trace_id` while a request is served.
    Json,
    /// For a terminal.
    #[default]
    Console,
}

/// What [`init`] needs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A level (`info`) or directives by module (`info,gochat_gateway=debug`).
    pub filter: String,
    /// See [`Format`].
    pub format: Format,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { filter: "info".to_owned(), format: Format::Console }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error("log filter {filter:?}: {reason}")]
    Filter {
        /// As configured.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A subscriber is already installed in this process.
    #[error("logging is already set up")]
    AlreadySet,
}

/// Installs the process-wide subscriber, which writes to standard output (spec 07 §2).
pub fn init(config: &LogConfig) -> Result<(), LogError> {
    let filter = parse_filter(&config.filter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_timer(Timestamp).with_writer(std::io::stdout);
    match config.format {
        Format::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
        Format::Console => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stdout())).try_init(),
    }
    .map_err(|_| LogError::AlreadySet)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })
}

/// RFC 3339 in UTC with milliseconds.
struct Timestamp;

impl FormatTime for Timestamp {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        writer.write_str(&rfc3339_ms(since_epoch.as_millis() as u64))
    }
}

/// Unix milliseconds as `2010-11-04T01:42:54.657Z`.
fn rfc3339_ms(unix_ms: u64) -> String {
    let (days, ms_of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Civil date from days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
    let (second, ms) = (ms_of_day / 1000 % 60, ms_of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339_in_milliseconds() {
        assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_ms(1_288_834_974_657), "2010-11-04T01:42:54.657Z");
        assert_eq!(rfc3339_ms(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339_ms(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_filter_is_a_level_or_directives() {
        assert!(parse_filter("info").is_ok());
        assert!(parse_filter("info,gochat_gateway=debug").is_ok());
        let error = parse_filter("gochat=loud").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("gochat=loud"), "the message names the filter: {error}");
    }
}
