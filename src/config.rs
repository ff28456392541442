//! The configuration file and its merge with the flags into one checked [`Config`]. The serde types end here: crates
//! get small plain structs. Every key stands, with its default, in docs/gochat.example.toml.

use crate::cli::{DevArgs, Limits, Reactor};
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// What is wrong with a configuration, in one line that says where and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("configuration {path}, line {line}: {problem}")]
    Invalid { path: PathBuf, line: usize, problem: String },
    #[error("{key}: {problem}")]
    Value { key: &'static str, problem: String },
}

/// The whole configuration, resolved: file over defaults, flags over the file.
#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(default, deny_unknown_fields)]
// tidy: the sections of the file, as it is written
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) data_dir: PathBuf,
    /// 0 = one per core.
    pub(crate) shards: u16,
    pub(crate) reactor: Reactor,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    pub(crate) ws: WebSocket,
    pub(crate) auth: Auth,
    pub(crate) guests: Guests,
    pub(crate) world: World,
    pub(crate) single: Single,
    pub(crate) bus: Bus,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Console,
    Json,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebSocket {
    pub(crate) connections_max: u32,
    pub(crate) message_bytes_max: u32,
    pub(crate) ping_interval_s: u32,
    pub(crate) pong_timeout_s: u32,
    pub(crate) send_queue_frames: u32,
    pub(crate) send_queue_bytes: u32,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) query_token: bool,
    pub(crate) session_policy: SessionPolicy,
    pub(crate) max_devices: u32,
}

/// How many sessions a user may have.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SessionPolicy {
    Single,
    PerDevice,
    Multi,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Auth {
    pub(crate) access_token_ttl_s: u64,
    pub(crate) refresh_token_ttl_s: u64,
    pub(crate) bcrypt_cost: u32,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Guests {
    pub(crate) enabled: bool,
    pub(crate) refresh_token_ttl_s: u64,
    pub(crate) idle_days_max: u64,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct World {
    pub(crate) auto_join_registered: bool,
    pub(crate) auto_join_guests: bool,
    pub(crate) messages_per_minute: u32,
}

#[derive(Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Single {
    pub(crate) friends_only: bool,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bus {
    pub(crate) partitions: u32,
    pub(crate) segment_bytes: u64,
    pub(crate) retention_bytes: u64,
    pub(crate) retention_s: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            admin: (Ipv4Addr::LOCALHOST, 9093).into(),
            data_dir: PathBuf::from("./data"),
            shards: 0,
            reactor: Reactor::Auto,
            limits: Limits::On,
            log: Log::default(),
            ws: WebSocket::default(),
            auth: Auth::default(),
            guests: Guests::default(),
            world: World::default(),
            single: Single::default(),
            bus: Bus::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { level: "info".to_owned(), format: LogFormat::Console }
    }
}

impl Default for WebSocket {
    fn default() -> WebSocket {
        WebSocket {
            connections_max: 200_000,
            message_bytes_max: 1 << 20,
            ping_interval_s: 30,
            pong_timeout_s: 10,
            send_queue_frames: 256,
            send_queue_bytes: 1 << 20,
            allowed_origins: vec!["*".to_owned()],
            query_token: true,
            session_policy: SessionPolicy::Single,
            max_devices: 5,
        }
    }
}

impl Default for Auth {
    fn default() -> Auth {
        Auth { access_token_ttl_s: 24 * 3600, refresh_token_ttl_s: 30 * 24 * 3600, bcrypt_cost: 10 }
    }
}

impl Default for Guests {
    fn default() -> Guests {
        Guests { enabled: true, refresh_token_ttl_s: 7 * 24 * 3600, idle_days_max: 7 }
    }
}

impl Default for World {
    fn default() -> World {
        World { auto_join_registered: true, auto_join_guests: true, messages_per_minute: 10 }
    }
}

impl Default for Bus {
    fn default() -> Bus {
        Bus { partitions: 4, segment_bytes: 64 << 20, retention_bytes: 1 << 30, retention_s: 24 * 3600 }
    }
}

impl Config {
    /// Reads the file that the flags name, if any, lets the flags win, and checks the result.
    pub(crate) fn resolve(flags: &DevArgs) -> Result<Config, ConfigError> {
        let mut config = match &flags.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        config.listen = flags.listen.unwrap_or(config.listen);
        config.admin = flags.admin.unwrap_or(config.admin);
        config.data_dir = flags.data_dir.clone().unwrap_or(config.data_dir);
        config.shards = flags.shards.unwrap_or(config.shards);
        config.reactor = flags.reactor.unwrap_or(config.reactor);
        config.limits = flags.limits.unwrap_or(config.limits);
        config.check()?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Config, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start).min(text.len());
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::Invalid { path: path.to_owned(), line, problem: with_suggestion(error.message()) }
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let within = |key, value: u64, range: std::ops::RangeInclusive<u64>| {
            if range.contains(&value) {
                return Ok(());
            }
            let problem = format!("{value} is not within {} to {}", range.start(), range.end());
            Err(ConfigError::Value { key, problem })
        };
        within("shards", self.shards.into(), 0..=255)?;
        within("ws.connections_max", self.ws.connections_max.into(), 1..=16_000_000)?;
        within("ws.message_bytes_max", self.ws.message_bytes_max.into(), 32 << 10..=16 << 20)?;
        within("ws.ping_interval_s", self.ws.ping_interval_s.into(), 1..=3600)?;
        within("ws.pong_timeout_s", self.ws.pong_timeout_s.into(), 1..=600)?;
        within("ws.send_queue_frames", self.ws.send_queue_frames.into(), 8..=65_536)?;
        within("ws.send_queue_bytes", self.ws.send_queue_bytes.into(), 64 << 10..=64 << 20)?;
        within("ws.max_devices", self.ws.max_devices.into(), 1..=64)?;
        within("world.messages_per_minute", self.world.messages_per_minute.into(), 1..=100_000)?;
        within("auth.access_token_ttl_s", self.auth.access_token_ttl_s, 60..=30 * 24 * 3600)?;
        within("auth.refresh_token_ttl_s", self.auth.refresh_token_ttl_s, 60..=365 * 24 * 3600)?;
        within("auth.bcrypt_cost", self.auth.bcrypt_cost.into(), 4..=16)?;
        within("guests.refresh_token_ttl_s", self.guests.refresh_token_ttl_s, 60..=365 * 24 * 3600)?;
        within("guests.idle_days_max", self.guests.idle_days_max, 1..=3650)?;
        within("bus.partitions", self.bus.partitions.into(), 1..=64)?;
        within("bus.segment_bytes", self.bus.segment_bytes, 4 << 20..=1 << 30)?;
        within("bus.retention_bytes", self.bus.retention_bytes, 0..=u64::MAX)?;
        if self.listen == self.admin && self.listen.port() != 0 {
            return Err(ConfigError::Value { key: "admin", problem: format!("{} is already `listen`", self.admin) });
        }
        Ok(())
    }
}

/// An unknown key's message with the known key that is spelled most alike.
fn with_suggestion(message: &str) -> String {
    let quoted: Vec<_> = message.split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = quoted.split_first().filter(|_| message.starts_with("unknown field")) else {
        return message.to_owned();
    };
    let alike = known.iter().map(|key| (strsim::jaro_winkler(unknown, key), key)).max_by(|a, b| a.0.total_cmp(&b.0));
    match alike {
        Some((likeness, key)) if likeness > 0.75 => format!("unknown key `{unknown}`, did you mean `{key}`?"),
        _ => format!("unknown key `{unknown}`; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::resolve(&DevArgs { config: Some(file.path().to_owned()), ..DevArgs::default() })
    }

    /// The example shows every key, and shows it with its default.
    #[test]
    fn example_is_complete_and_true() {
        let example = include_str!("../docs/gochat.example.toml");
        let live: String =
            example.lines().map(|line| line.strip_prefix("#:").unwrap_or(line)).collect::<Vec<_>>().join("\n");
        assert_eq!(parse(&live).unwrap(), Config::default());
        let debug = format!("{:?}", Config::default());
        let keys = debug.split([' ', '{']).filter_map(|word| word.strip_suffix(':'));
        for key in keys {
            assert!(
                live.contains(&format!("{key} =")) || live.contains(&format!("[{key}]")),
                "{key} is not in the example"
            );
        }
        assert_eq!(parse(example).unwrap(), Config::default());
    }

    #[test]
    fn bad_files_say_where_and_what() {
        let problems = [
            ("liste = 3\n", "line 1: unknown key `liste`, did you mean `listen`?"),
            ("\n[ws]\nzzz = 3\n", "line 3: unknown key `zzz`; known here: connections_max"),
            ("listen = \"nowhere\"\n", "line 1: invalid socket address syntax"),
            ("shards = \"two\"\n", "line 1: invalid type: string \"two\", expected u16"),
            ("shards = 300\n", "shards: 300 is not within 0 to 255"),
            ("[bus\n", "line 1: "),
            ("listen = \"127.0.0.1:9093\"\n", "admin: 127.0.0.1:9093 is already `listen`"),
            (
                "[world]\nauto_join_guest = true\n",
                "line 2: unknown key `auto_join_guest`, did you mean `auto_join_guests`?",
            ),
            (
                "[ws]\nsession_policy = \"two\"\n",
                "unknown variant `two`, expected one of `single`, `per_device`, `multi`",
            ),
            ("[ws]\nmax_devices = 0\n", "ws.max_devices: 0 is not within 1 to 64"),
            ("[guests]\nidle_days_max = 0\n", "guests.idle_days_max: 0 is not within 1 to 3650"),
            ("reactor = \"kqueue\"\n", "unknown variant `kqueue`, expected one of `auto`, `uring`, `epoll`"),
        ];
        for (text, expected) in problems {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text:?} gave {message:?}");
            assert!(!message.contains('\n'), "{message:?} is more than one line");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "shards = 3\n[auth]\nbcrypt_cost = 4\n").unwrap();
        let flags = DevArgs { config: Some(file.path().to_owned()), shards: Some(2), ..DevArgs::default() };
        let config = Config::resolve(&flags).unwrap();
        assert_eq!((config.shards, config.auth.bcrypt_cost), (2, 4));
    }
}
