//! The whole product in one process: single chats that are stored, acknowledged and delivered. There is no floor for it; what
//! counts is CPU a message, latency and that nothing was lost.

use std::fmt::Write;
use std::io;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::Place;
use super::run::{Process, free_address, load_test, start};
use crate::spread::Spread;

/// Users; two of them make a chat.
const USERS: &str = "1000";
/// Between two loads on one server.
const SETTLE: Duration = Duration::from_secs(3);

/// What one load gave, round by round.
#[derive(Default)]
struct Figures {
    per_s: Vec<f64>,
    us: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
}

impl Figures {
    fn add(&mut self, report: &Value) {
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
        self.per_s.push(number("/rates/acked_per_s"));
        self.us.push(number("/server/us_per_message"));
        self.p50_ms.push(number("/latency_us/ack/p50") / 1000.0);
        self.p99_ms.push(number("/latency_us/ack/p99") / 1000.0);
    }

    fn row(&self, name: &str, out: &mut String) {
        let [per_s, us, p50, p99] = [&self.per_s, &self.us, &self.p50_ms, &self.p99_ms].map(|it| Spread::of(it));
        let per_core = 1e6 / us.median;
        let _ = writeln!(out, "| {name} | {per_s} | {us} | {per_core:.0} | {p50} | {p99} |");
    }
}

/// Saturation, half of it, and 1,000 a second, each round on a new data directory.
#[allow(clippy::print_stdout, reason = "this is a command")]
pub(super) fn run(place: &Place) -> io::Result<String> {
    let (mut full, mut half, mut few) = (Figures::default(), Figures::default(), Figures::default());
    for round in 0..place.rounds {
        let dir = tempfile::tempdir()?;
        let tokens = dir.path().join("tokens.csv");
        let data = dir.path().join("data");
        let gochat = place.bin.join("gochat");
        let mint = Command::new(&gochat)
            .args(["user", "mint", "--count", USERS, "--out"])
            .arg(&tokens)
            .arg("--data-dir")
            .arg(&data)
            .stdout(Stdio::null())
            .status()?;
        if !mint.success() {
            return Err(io::Error::other("gochat user mint failed"));
        }
        let (listen, admin) = (free_address()?, free_address()?);
        let mut command = Command::new(&gochat);
        command.arg("--data-dir").arg(&data).args(["--limits", "off", "--listen", &listen.to_string(), "--admin"]);
        command.arg(admin.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let server: Process = start(&mut command, listen)?;
        let pid = server.0.id();
        let run = |load: &str| {
            let (seconds, tokens) = (2 * place.seconds, tokens.display());
            let line = format!(
                "run single --url http://{listen} --pairs 500 --size 150 --tokens {tokens} --server-pid {pid} --duration {seconds}s --drain 20s {load}"
            );
            // The sessions of the load before have to be gone: what ends them is work for the server too.
            sleep(SETTLE);
            load_test(place, &line)
        };
        full.add(&run("--in-flight 16")?);
        let rate = full.per_s.last().copied().unwrap_or_default() / 2.0;
        half.add(&run(&format!("--rate {rate:.0}"))?);
        few.add(&run("--rate 1000")?);
        println!("pipeline: round {} of {}", round + 1, place.rounds);
    }
    let mut table = String::from(
        "| load | messages/s | CPU µs a message, whole process | messages a core-second | ack p50, ms | ack p99, ms |\n|---|---|---|---|---|---|\n",
    );
    full.row("closed loop, 16 in flight each of 1,000", &mut table);
    half.row("open loop at half of that", &mut table);
    few.row("open loop at 1,000/s", &mut table);
    Ok(table)
}
