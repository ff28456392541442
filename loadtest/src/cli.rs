//! The command line: flags, defaults, units. Runs nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use gochat_ring::ReactorChoice;

use crate::error::LoadError;
use crate::profile::{Phases, Profile};
use crate::schedule::{ArrivalProcess, Load};
use crate::seat::Seat;
use crate::spread::{Sizes, Think, duration};
use crate::threshold::Threshold;

mod distributed;
mod gochat;
mod million;
mod reopen;
mod script;
mod uneven;

pub use distributed::{AgentArgs, CoordinatorArgs};
pub use gochat::{GroupArgs, HistoryArgs, HttpArgs, LoginStormArgs, Mix, MixedArgs, UserArgs};
pub use million::{MillionArgs, ServeArgs};
pub use reopen::{ChurnArgs, HolderArgs, HolderProtocol, PresenceStormArgs, ReconnectStormArgs};
pub use script::ScriptArgs;
pub use uneven::{GreedyArgs, GreedyProtocol, RoomProtocol, SlowReaderArgs};

/// Load-test a WebSocket server: latency from intended times, and an account of every message.
///
/// Exit code 0: verdict ok; 2: the run failed or is invalid; 1: it could not be carried out.
#[derive(Debug, Parser)]
#[command(name = "gochat-loadtest", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[allow(clippy::large_enum_variant, reason = "there is one, once")]
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a scenario and report: `run echo ...`, or one from a file: `run my.toml ...`, `run group500 ...`.
    Run {
        /// Which.
        #[command(subcommand)]
        scenario: Scenario,
    },
    /// List the scenario files that come with the tool, or show one to start from.
    Scenarios(ScenariosArgs),
    /// Check that every acknowledged message of a run stands in history exactly once.
    Audit(AuditArgs),
    /// Check what limits a run here, and what to do about it.
    Doctor(DoctorArgs),
    /// Compare the second of two results to the first: ratios with confidence intervals.
    Compare(CompareArgs),
    /// Open a million connections in a network namespace of its own, to a server in it; root only.
    Million(MillionArgs),
    /// Serve as an echo server, to try the tool on.
    Serve(ServeArgs),
    /// Wait for a coordinator and carry out its share of a run.
    Agent(AgentArgs),
    /// Split a run among agents, on this machine or others, and report on the whole.
    Coordinator(CoordinatorArgs),
}

/// The scenarios.
#[derive(Debug, Clone, Subcommand)]
pub enum Scenario {
    /// Every client sends messages to an echo server and gets each back.
    Echo(EchoArgs),
    /// Open connections and hold them.
    Connect(ConnectArgs),
    /// Pairs of GoChat users write to each other in single chats.
    Single(SingleArgs),
    /// Some clients write to a room, everybody in it receives.
    Publish(PublishArgs),
    /// GoChat users write in groups, everybody in a group receives.
    Group(GroupArgs),
    /// GoChat users write in single chats, groups and the world room at once.
    Mixed(MixedArgs),
    /// Pages of GoChat's message history are read over HTTP.
    History(HistoryArgs),
    /// GoChat users log in over HTTP.
    LoginStorm(LoginStormArgs),
    /// Some receivers in a room stop reading: what the others notice, and what becomes of the slow ones.
    SlowReader(SlowReaderArgs),
    /// Greedy clients send as fast as they are answered among polite ones: what the polite notice.
    Greedy(GreedyArgs),
    /// Connections are closed and opened again at a rate while the others stand.
    Churn(ChurnArgs),
    /// Connections are lost at one moment, and their clients come back.
    ReconnectStorm(ReconnectStormArgs),
    /// GoChat users come and go at one moment, and others are told of it.
    PresenceStorm(PresenceStormArgs),
}

impl Scenario {
    /// The flags all scenarios share.
    pub fn common(&self) -> &Common {
        match self {
            Scenario::Echo(args) => &args.common,
            Scenario::Connect(args) => &args.common,
            Scenario::Single(args) => &args.common,
            Scenario::Publish(args) => &args.common,
            Scenario::Group(args) => &args.common,
            Scenario::Mixed(args) => &args.common,
            Scenario::History(args) => &args.common,
            Scenario::LoginStorm(args) => &args.common,
            Scenario::SlowReader(args) => &args.common,
            Scenario::Greedy(args) => &args.common,
            Scenario::Churn(args) => &args.common,
            Scenario::ReconnectStorm(args) => &args.common,
            Scenario::PresenceStorm(args) => &args.common,
        }
    }
}

/// Flags of every scenario.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// ws://host:port/path, or http://host:port for GoChat.
    #[arg(long)]
    pub url: String,
    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the seconds of the run as a table.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write one page with figures and plots that opens in any browser.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// What is seen of the run while it goes on.
    #[command(flatten)]
    pub watch: WatchArgs,
    /// Pin the generator to this CPU.
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
    /// auto, uring or epoll.
    #[arg(long, default_value = "auto")]
    pub reactor: ReactorChoice,
    /// Sample CPU and memory of this process.
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Connections opened per second; without it as fast as the server takes them.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub ramp: Option<f64>,
    /// How long stragglers are waited for at the end.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub drain: Duration,
    /// The run fails unless this holds of its JSON result, as in "latency_us.ack.p99 < 20ms"; may be repeated.
    #[arg(long, value_name = "FIGURE OP VALUE")]
    pub threshold: Vec<Threshold>,
    /// No flag: the place among several agents.
    #[arg(skip)]
    pub seat: Option<Seat>,
}

/// Flags that say what is seen of a run while it goes on.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Write the latencies of each second as an HdrHistogram interval log, tags ack and deliver.
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Say what happens in lines, without the live view that a terminal shows.
    #[arg(long)]
    pub no_tui: bool,
}

/// Flags of scenarios that send messages. Without --rate or --in-flight: one message in flight.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// The measured phase.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Sending before the measured phase.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// Open loop: messages per second in all, at intended times.
    #[arg(long, conflicts_with = "in_flight", value_parser = rate)]
    pub rate: Option<f64>,
    /// Closed loop: unanswered messages that each sender keeps.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: Option<u32>,
    /// Open loop in place of --rate and --duration: lengths with messages per second, 10s@100,30s@100..2000.
    #[arg(long, value_name = "LENGTH@RATE[..RATE],...", conflicts_with_all = ["rate", "in_flight", "duration"])]
    pub phases: Option<Phases>,
    /// How the intended times of an open loop lie around its rate.
    #[arg(long, default_value = "uniform")]
    pub arrivals: ArrivalProcess,
    /// Closed loop: the wait between an answer and the next message, 100ms or 50ms..200ms.
    #[arg(long, value_name = "TIME[..TIME]", conflicts_with_all = ["rate", "phases"])]
    pub think: Option<Think>,
}

impl LoadArgs {
    /// How sends are triggered.
    pub fn load(&self) -> Load {
        let arrivals = self.arrivals;
        match (&self.phases, self.rate) {
            (Some(phases), _) => Load::Open { profile: Profile::phased(self.warmup, phases), arrivals },
            (None, Some(rate)) => Load::Open { profile: Profile::constant(rate), arrivals },
            (None, None) => Load::Closed { in_flight: self.in_flight.unwrap_or(1), think: self.think.clone() },
        }
    }

    /// Length of the measured phase.
    pub fn measured(&self) -> Duration {
        self.phases.as_ref().map_or(self.duration, Phases::duration)
    }
}

/// `run echo`.
#[derive(Debug, Clone, Args)]
pub struct EchoArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What the server speaks.
    #[arg(long, default_value = "raw-echo")]
    pub protocol: EchoProtocol,
    /// The description of a protocol.
    #[command(flatten)]
    pub script: ScriptArgs,
    /// Clients.
    #[arg(long, default_value_t = 100)]
    pub connections: u32,
    /// Bytes of a message, at least 16 (script: of its content, at least 1): 64, 16..4096 or 90%:64,10%:1000..4096.
    #[arg(long, default_value = "64")]
    pub size: Sizes,
    /// Frames of this kind.
    #[arg(long, default_value = "text")]
    pub payload: Payload,
    /// Which generator: the engine, or tungstenite to check it against (at most 2,000 connections).
    #[arg(long, default_value = "engine")]
    pub client: Client,
}

/// Generators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Client {
    /// The gateway's reactors and frames.
    Engine,
    /// The tungstenite crate over sockets of the standard library; raw protocols only.
    Tungstenite,
}

/// Servers that `run echo` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EchoProtocol {
    /// Sends every message back to its sender, unchanged.
    RawEcho,
    /// What --script describes.
    Script,
}

/// Kinds of data frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

/// `run connect`.
#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// What the server speaks; gochat needs --tokens.
    #[arg(long, default_value = "raw-echo")]
    pub protocol: ConnectProtocol,
    /// The description of a protocol.
    #[command(flatten)]
    pub script: ScriptArgs,
    /// Clients.
    #[arg(long, default_value_t = 100)]
    pub connections: u32,
    /// How long the connections stand.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub hold: Duration,
    /// Every connection sends a ping once in this time, and the server has to answer.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub heartbeat: Option<Duration>,
    /// Lines user_id,username,access_token, as from `gochat user mint`.
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
}

/// Servers that `run connect` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConnectProtocol {
    /// Any WebSocket server: ready after the upgrade.
    RawEcho,
    /// GoChat: ready after `connected`.
    Gochat,
    /// What --script describes.
    Script,
}

/// `run single`.
#[derive(Debug, Clone, Args)]
pub struct SingleArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What the server speaks.
    #[arg(long, default_value = "gochat")]
    pub protocol: ChatProtocol,
    /// Pairs of users; each user is one connection.
    #[arg(long, default_value_t = 50)]
    pub pairs: u32,
    /// Only one of each pair sends.
    #[arg(long)]
    pub one_way: bool,
    /// Characters of a message, at most 5000: 150, 16..4096 or 90%:64,10%:1000..4096.
    #[arg(long, default_value = "150")]
    pub size: Sizes,
    /// Lines user_id,username,access_token; without it the run registers users of its own.
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Write the users of the run there, for `audit`.
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub tokens_out: Option<PathBuf>,
    /// Write every acknowledgement there, for `audit`.
    #[arg(long, value_name = "FILE")]
    pub acked: Option<PathBuf>,
}

/// `run publish`.
#[derive(Debug, Clone, Args)]
pub struct PublishArgs {
    /// Flags of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// Load.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What the server speaks; gochat needs --tokens.
    #[arg(long, default_value = "raw-publish")]
    pub protocol: PublishProtocol,
    /// The description of a protocol.
    #[command(flatten)]
    pub script: ScriptArgs,
    /// Clients, all in one room.
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// How many of them send.
    #[arg(long, default_value_t = 1)]
    pub publishers: u32,
    /// gochat: characters of a message, at most 5000; raw-publish: bytes, at least 16; script: bytes of its content.
    #[arg(long, default_value = "150")]
    pub size: Sizes,
    /// Lines user_id,username,access_token, as from `gochat user mint`.
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Which generator: the engine, or tungstenite to check it against (raw-publish, at most 2,000 connections).
    #[arg(long, default_value = "engine")]
    pub client: Client,
}

/// Servers that `run publish` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PublishProtocol {
    /// Sends every message to all connections, the sender's too, unchanged.
    RawPublish,
    /// GoChat's world room.
    Gochat,
    /// What --script describes.
    Script,
}

/// Servers that `run single` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChatProtocol {
    /// GoChat.
    Gochat,
}

/// `audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// http://host:port of the server.
    #[arg(long)]
    pub url: String,
    /// What `run single --acked` wrote.
    #[arg(long, value_name = "FILE")]
    pub acked: PathBuf,
    /// The users of that run.
    #[arg(long, value_name = "FILE")]
    pub tokens: PathBuf,
}

/// `scenarios`.
#[derive(Debug, Clone, Args)]
pub struct ScenariosArgs {
    /// Print this one.
    #[arg(long, value_name = "NAME")]
    pub show: Option<String>,
}

/// `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// For a run with so many connections.
    #[arg(long, default_value_t = 10_000)]
    pub connections: u32,
}

/// `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// What `run --json` wrote.
    #[arg(value_name = "A.json")]
    pub a: PathBuf,
    /// The same of another run.
    #[arg(value_name = "B.json")]
    pub b: PathBuf,
}

/// A number above 0; `5000/s` is accepted too.
fn rate(text: &str) -> Result<f64, String> {
    let number: f64 =
        text.trim_end_matches("/s").parse().map_err(|_| format!("{text:?} is not a number per second"))?;
    if number > 0.0 && number <= 1e9 { Ok(number) } else { Err("it must be above 0 and at most 1e9".to_owned()) }
}

/// Checks that sizes lie in a range.
pub(crate) fn check_size(sizes: &Sizes, range: std::ops::RangeInclusive<usize>) -> Result<(), LoadError> {
    match sizes.within(&range) {
        true => Ok(()),
        false => Err(LoadError::Arguments(format!("--size must be {} to {}", range.start(), range.end()))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_documented_commands_parse() {
        Cli::command().debug_assert();
        for line in [
            "x run echo --protocol raw-echo --url ws://127.0.0.1:9001/ --connections 100 --duration 10s --json out.json",
            "x run echo --protocol raw-echo --url ws://127.0.0.1:9001/ --in-flight 16 --size 64 --cpu 1 --reactor epoll",
            "x run echo --url ws://127.0.0.1:9001/ --connections 100 --rate 5000 --client tungstenite",
            "x run echo --url ws://127.0.0.1:9001/ --phases 10s@100,30s@100..2000 --arrivals poisson --size 90%:64,10%:4096",
            "x run echo --url ws://127.0.0.1:9001/ --in-flight 2 --think 50ms..1s --threshold latency_us.rtt.p99<20ms",
            "x run connect --url ws://127.0.0.1:9001/ --connections 100000 --hold 30s --ramp 5000/s",
            "x run connect --protocol gochat --url http://127.0.0.1:8080 --connections 15000 --hold 30s --tokens t.csv",
            "x run single --protocol gochat --url http://127.0.0.1:8080 --pairs 500 --rate 5000 --acked a.jsonl",
            "x run single --protocol gochat --url http://127.0.0.1:8080 --pairs 500 --in-flight 16 --server-pid 7",
            "x run publish --protocol raw-publish --url ws://127.0.0.1:9002/ --connections 10 --publishers 3 --in-flight 4",
            "x run publish --protocol gochat --url http://127.0.0.1:8080 --connections 10000 --rate 5 --tokens t.csv --server-pid 7",
            "x run group --url http://127.0.0.1:8080 --members 50 --groups 20 --writers 5 --rate 200 --tokens t.csv",
            "x run mixed --url http://127.0.0.1:8080 --connections 200 --members 20 --mix 70/25/5 --rate 100 --tokens t.csv",
            "x run history --url http://127.0.0.1:8080 --conversations 20 --messages 1000 --rate 500 --cold-percent 80",
            "x run login-storm --url http://127.0.0.1:8080 --accounts 500 --rate 20 --tokens t.csv --password password",
            "x run slow-reader --url ws://127.0.0.1:9002/ --connections 1000 --slow-percent 10 --rate 50 --stall 5s",
            "x run slow-reader --protocol gochat --url http://127.0.0.1:8080 --tokens t.csv --rate 50 --baseline 0s",
            "x run greedy --url ws://127.0.0.1:9001/ --connections 10000 --greedy 3 --rate 1000 --server-pid 7",
            "x run greedy --url ws://127.0.0.1:9001/ --greedy 3 --greedy-rate 100000/s --rate 1000",
            "x run greedy --protocol gochat --url http://127.0.0.1:8080 --greedy 4 --greedy-in-flight 64 --rate 100",
            "x run churn --url ws://127.0.0.1:9001/ --connections 10000 --rate 500 --echo",
            "x run reconnect-storm --url ws://127.0.0.1:9001/ --connections 10000 --cut 50 --rate 1000",
            "x run reconnect-storm --protocol gochat --url http://127.0.0.1:8080 --tokens t.csv --restart --backoff 500ms",
            "x run presence-storm --url http://127.0.0.1:8080 --connections 1000 --stay 5s --away 45s --duration 2m",
            "x run echo --protocol script --script stomp --url ws://127.0.0.1:15674/ws --set login=me --rate 100",
            "x run publish --protocol script --script my.toml --url ws://127.0.0.1:9000/ --set token=@t.csv:token",
            "x agent --listen 127.0.0.1:7000 --token SECRET --cpu 1",
            "x coordinator --agents 127.0.0.1:7000,h:7001 --token SECRET run echo --url ws://127.0.0.1:9001/ --rate 50 --json o.json",
            "x audit --acked a.jsonl --url http://127.0.0.1:8080 --tokens t.csv",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap();
        }
        for line in [
            "x run echo --url ws://a/ --rate 5 --in-flight 6",
            "x run echo --url ws://a/ --rate 0",
            "x run echo --url ws://a/ --rate 5 --phases 1s@5",
            "x run echo --url ws://a/ --duration 1s --phases 1s@5",
            "x run echo --url ws://a/ --rate 5 --think 1s",
            "x run echo --url ws://a/ --size 50%:64",
            "x run echo --url ws://a/ --threshold messages.lots<1",
            "x run echo --url ws://a/ --duration 10",
            "x run echo --url ws://a/ --protocol script",
            "x run echo --url ws://a/ --reactor kqueue",
            "x run publish --protocol echo --url http://a/",
            "x run greedy --url ws://a/ --rate 5 --greedy-rate 9 --greedy-in-flight 2",
            "x run slow-reader --url ws://a/ --rate 5 --slow-percent 100",
            "x run mixed --url http://a/ --rate 5 --mix 70/25/6",
            "x run mixed --url http://a/ --rate 5 --mix 70/30",
            "x run reconnect-storm --url ws://a/ --restart --cut 50",
            "x run presence-storm --url http://a/ --away 5s",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
