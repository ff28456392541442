//! The paired echo bench: `engine_echo` against the bare floor, in interleaved rounds of one run. Builds, starts, pins and
//! compares; measuring is the load-test tool's.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use clap::Parser;
use gochat_ring::pin_current_thread;
use serde_json::Value;

const SERVER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;
const FLOOR: &str = "127.0.0.1:9102";
const OURS: &str = "127.0.0.1:9101";

/// Server CPU per echoed message, ours against the floor: server on core 0, generator on core 1.
#[derive(Parser)]
struct Arguments {
    /// Rounds; each runs both servers once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds measured per run.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// The reactor of engine_echo: uring or epoll.
    #[arg(long, default_value = "uring")]
    reactor: String,
    /// Do not build first.
    #[arg(long)]
    no_build: bool,
}

/// One column of the table.
struct Cell {
    name: &'static str,
    connections: u32,
    in_flight: u32,
    size: usize,
}

const CELLS: [Cell; 4] = [
    Cell { name: "64 B, 1 in flight", connections: 100, in_flight: 1, size: 64 },
    Cell { name: "64 B, 16 in flight", connections: 100, in_flight: 16, size: 64 },
    Cell { name: "16 KiB, 1 in flight", connections: 100, in_flight: 1, size: 16 * 1024 },
    Cell { name: "64 B, 10k connections", connections: 10_000, in_flight: 1, size: 64 },
];

/// A server that ends with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU microseconds per message.
struct Figures {
    server: f64,
    generator: f64,
    per_s: f64,
}

#[allow(clippy::print_stdout, reason = "this is a command")]
fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let release = std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
    if !arguments.no_build {
        build()?;
    }
    let (floor, ours) = start(&release, &arguments.reactor)?;
    println!(
        "engine_echo on {}, {} rounds of {} s, server core {SERVER_CPU}, generator core {GENERATOR_CPU}",
        arguments.reactor, arguments.rounds, arguments.seconds
    );
    println!("CPU µs a message: median (min-max)");
    for cell in &CELLS {
        let (mut of_floor, mut of_ours) = (Vec::new(), Vec::new());
        for round in 0..arguments.rounds {
            let mut measure = |first: bool| -> io::Result<()> {
                let (list, url, pid) =
                    if first { (&mut of_floor, FLOOR, floor.0.id()) } else { (&mut of_ours, OURS, ours.0.id()) };
                list.push(generate(&release, cell, url, pid, arguments.seconds)?);
                Ok(())
            };
            // Who goes first alternates, so that a machine that warms or slows favours nobody.
            measure(round % 2 == 0)?;
            measure(round % 2 == 1)?;
        }
        let ratios: Vec<f64> = of_ours.iter().zip(&of_floor).map(|(ours, floor)| ours.server / floor.server).collect();
        let show = |of: &[Figures], what: fn(&Figures) -> f64| spread(of.iter().map(what).collect());
        println!("{}", cell.name);
        println!("  floor      {}   {} msg/s", show(&of_floor, |f| f.server), show(&of_floor, |f| f.per_s));
        println!("  ours       {}   {} msg/s", show(&of_ours, |f| f.server), show(&of_ours, |f| f.per_s));
        println!("  ratio      {}", spread(ratios));
        println!("  generator  {}", show(&of_ours, |f| f.generator));
    }
    Ok(())
}

fn build() -> io::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for arguments in [
        &["-p", "gochat-benches", "--bin", "floor_echo"][..],
        &["-p", "gochat-loadtest"][..],
        &["-p", "gochat-gateway", "--example", "engine_echo"][..],
    ] {
        let status = Command::new(&cargo).args(["build", "--release", "--quiet"]).args(arguments).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("cargo build {} failed", arguments.join(" "))));
        }
    }
    Ok(())
}

/// Both servers, on the server's core, which children inherit.
fn start(release: &Path, reactor: &str) -> io::Result<(Server, Server)> {
    pin(SERVER_CPU)?;
    let spawn = |path: PathBuf, arguments: &[&str]| {
        let child = Command::new(&path).args(arguments).stderr(Stdio::null()).spawn();
        child.map(Server).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
    };
    let floor = spawn(release.join("floor_echo"), &["--listen", FLOOR])?;
    let ours = spawn(release.join("examples/engine_echo"), &["--listen", OURS, "--reactor", reactor, "--shards", "1"])?;
    thread::sleep(Duration::from_secs(1));
    Ok((floor, ours))
}

fn pin(cpu: usize) -> io::Result<()> {
    pin_current_thread(cpu).map_err(|e| io::Error::other(format!("two cores are needed: {e}")))
}

fn generate(release: &Path, cell: &Cell, addr: &str, pid: u32, seconds: u32) -> io::Result<Figures> {
    pin(GENERATOR_CPU)?;
    let json = std::env::temp_dir().join(format!("paired-echo-{}.json", std::process::id()));
    let line = format!(
        "run echo --url ws://{addr}/ --connections {} --in-flight {} --size {} --duration {seconds}s --warmup 1s \
         --cpu {GENERATOR_CPU} --server-pid {pid} --json {}",
        cell.connections,
        cell.in_flight,
        cell.size,
        json.display()
    );
    let output = Command::new(release.join("gochat-loadtest")).args(line.split(' ')).output()?;
    let text = std::fs::read(&json)
        .map_err(|e| io::Error::other(format!("{e}: {}", String::from_utf8_lossy(&output.stderr))))?;
    std::fs::remove_file(&json)?;
    let report: Value = serde_json::from_slice(&text)?;
    // A saturated generator makes rates its own, but not the server's CPU per message.
    if report["verdict"] == "failed" {
        return Err(io::Error::other(format!("{} at {addr} failed: {}", cell.name, report["reasons"])));
    }
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
    Ok(Figures {
        server: number("/server/us_per_message"),
        generator: number("/generator/us_per_message"),
        per_s: number("/rates/delivered_per_s"),
    })
}

/// The median and the extremes.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let digits = if values.last().is_some_and(|last| *last >= 1000.0) { 0 } else { 3 };
    match (values.first(), values.get(values.len() / 2), values.last()) {
        (Some(min), Some(median), Some(max)) => format!("{median:.digits$} ({min:.digits$}-{max:.digits$})"),
        _ => "nothing".to_owned(),
    }
}
