//! One measurement: a server on its core, the load-test tool on the other, figures from its JSON result and from /proc.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gochat_ring::pin_current_thread;
use serde_json::Value;

use super::Place;
use super::cells::{Cell, Figure};
use super::contenders::Contender;

const SERVER_CPU: usize = 0;
pub(super) const GENERATOR_CPU: usize = 1;
const START_MAX: Duration = Duration::from_secs(30);

/// A process that ends with its owner.
pub(super) struct Process(pub(super) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) struct Figures {
    pub(super) server: f64,
    pub(super) generator: Option<f64>,
}

/// Measures one contender once. Every measurement has a server of its own.
pub(super) fn one(place: &Place, cell: &Cell, contender: &Contender) -> io::Result<Figures> {
    let listen = free_address()?;
    pin(SERVER_CPU)?;
    let mut command = contender.command(&place.bin, cell.mode, listen);
    let server = start(command.stdout(Stdio::null()).stderr(Stdio::null()), listen)?;
    pin(GENERATOR_CPU)?;
    let pid = server.0.id();
    let before = cpu_us(pid);
    let seconds = format!("{}s", place.seconds);
    let load = cell.load.replace("SECONDS", &seconds);
    let line = format!("{load} --url ws://{listen}/ --cpu {GENERATOR_CPU} --server-pid {pid}");
    let report = load_test(place, &line)?;
    // The closing of the connections belongs to what a connection costs.
    let spent = cpu_us(pid) - before;
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64);
    let server = match cell.figure {
        Figure::Message => number("/server/us_per_message"),
        Figure::Connect(connections) => Some(spent / f64::from(connections)),
        Figure::Memory => number("/server/bytes_per_connection"),
    };
    let server = server.ok_or_else(|| io::Error::other(format!("{}: {} gave no figure", cell.name, contender.name)))?;
    let generator = number("/generator/us_per_message").filter(|_| cell.figure == Figure::Message);
    Ok(Figures { server, generator })
}

/// Runs the load-test tool and gives its result. A saturated generator makes rates its own, not the server's CPU a message.
pub(super) fn load_test(place: &Place, line: &str) -> io::Result<Value> {
    let json = std::env::temp_dir().join(format!("gochat-bench-{}.json", std::process::id()));
    let mut command = Command::new(place.bin.join("gochat-loadtest"));
    let output = command.args(line.split(' ')).arg("--json").arg(&json).current_dir(&place.root).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = fs::read(&json).map_err(|e| io::Error::other(format!("{line}: {e}: {said}")))?;
    fs::remove_file(&json)?;
    let report: Value = serde_json::from_slice(&text)?;
    match report["verdict"].as_str() {
        Some("failed") | None => Err(io::Error::other(format!("{line} failed: {}", report["reasons"]))),
        Some(_) => Ok(report),
    }
}

/// Starts a server and waits until it listens.
pub(super) fn start(command: &mut Command, listen: SocketAddr) -> io::Result<Process> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut process = Process(command.spawn().map_err(|e| io::Error::other(format!("{name}: {e}")))?);
    let began = Instant::now();
    while TcpStream::connect(listen).is_err() {
        if let Some(status) = process.0.try_wait()? {
            return Err(io::Error::other(format!("{name} ended: {status}")));
        }
        if began.elapsed() > START_MAX {
            return Err(io::Error::other(format!("{name} does not listen on {listen}")));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

/// An address where nobody listens.
pub(super) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// CPU of all threads of a process so far.
fn cpu_us(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1000.0
}

fn pin(cpu: usize) -> io::Result<()> {
    pin_current_thread(cpu).map_err(|e| io::Error::other(format!("two cores are needed: {e}")))
}

/// The commit in the working directory, with `-dirty` where it was changed.
pub(super) fn commit(root: &Path) -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=10"]).current_dir(root).output();
    git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
