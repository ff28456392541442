//! `agent`: waits for a coordinator and carries out one share of a run at a time. Owns its listener and who is let in; what is
//! measured is the run's.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::merge::{Second, Share};
use super::split::{common_mut, parse_run, touches_files};
use super::wire::{Assignment, FromAgent, HELLO_BYTES_MAX, LINE_BYTES_MAX, Lines, ToAgent, VERSION, tell};
use crate::cli::{AgentArgs, Scenario};
use crate::driver::Place;
use crate::error::LoadError;
use crate::observer::{Observer, say};
use crate::run::run;
use crate::sample;
use crate::seat::Seat;
use crate::timeline::{Interval, Point};
use crate::view::Stage;

/// How long a coordinator may take to say who it is, and to take what it is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the next caller is accepted when one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Conversations at once, refused ones included.
const CALLERS_MAX: usize = 16;

/// An agent that listens.
#[derive(Debug)]
pub struct Agent {
    listener: TcpListener,
    token: Option<String>,
    cpu: Option<usize>,
    busy: Arc<AtomicBool>,
}

impl Agent {
    /// Listens.
    ///
    /// # Errors
    /// The address cannot be used, or is open to others without a token.
    pub fn listen(args: &AgentArgs) -> Result<Agent, LoadError> {
        let failure = |why: String| LoadError::Arguments(format!("--listen {}: {why}", args.listen));
        let addr = args.listen.to_socket_addrs().map_err(|e| failure(e.to_string()))?.next();
        let addr = addr.ok_or_else(|| failure("it resolves to no address".to_owned()))?;
        if !addr.ip().is_loopback() && args.token.as_ref().is_none_or(String::is_empty) {
            return Err(failure(
                "whoever reaches it could make this machine send load anywhere: give --token SECRET, or listen on 127.0.0.1"
                    .to_owned(),
            ));
        }
        let listener = TcpListener::bind(addr).map_err(|e| failure(e.to_string()))?;
        Ok(Agent { listener, token: args.token.clone(), cpu: args.cpu, busy: Arc::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn addr(&self) -> Result<SocketAddr, LoadError> {
        self.listener.local_addr().map_err(|e| LoadError::Arguments(e.to_string()))
    }

    /// Serves coordinators until the process ends.
    pub fn serve(self) {
        let callers = Arc::new(());
        for stream in self.listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors in a large run, as a rule; a caller that gives up is no reason to end either.
                thread::sleep(ACCEPT_PAUSE);
                continue;
            };
            if Arc::strong_count(&callers) > CALLERS_MAX {
                continue;
            }
            let caller = Caller { stream, token: self.token.clone(), cpu: self.cpu, busy: Arc::clone(&self.busy) };
            let counted = Arc::clone(&callers);
            thread::spawn(move || {
                let peer = caller.stream.peer_addr().map_or("a coordinator".to_owned(), |addr| addr.to_string());
                match caller.serve() {
                    Ok(()) => say(&format!("{peer}: done")),
                    Err(why) => say(&format!("{peer}: {why}")),
                }
                drop(counted);
            });
        }
    }
}

/// Whoever connected.
struct Caller {
    stream: TcpStream,
    token: Option<String>,
    cpu: Option<usize>,
    busy: Arc<AtomicBool>,
}

/// The agent is free again when this is dropped.
struct Claim(Arc<AtomicBool>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Caller {
    fn serve(self) -> Result<(), String> {
        let io = |error: std::io::Error| error.to_string();
        self.stream.set_nodelay(true).map_err(io)?;
        self.stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
        self.stream.set_write_timeout(Some(PATIENCE)).map_err(io)?;
        let mut lines = Lines::new(self.stream.try_clone().map_err(io)?);
        let claim = match self.admit(lines.next(HELLO_BYTES_MAX)?) {
            Ok(claim) => claim,
            Err(why) => {
                tell(&self.stream, &FromAgent::Refused { why: why.clone() })?;
                return Err(why);
            }
        };
        tell(&self.stream, &FromAgent::Welcome { version: VERSION })?;
        let assignment = match lines.next(LINE_BYTES_MAX)? {
            ToAgent::Prepare(assignment) => assignment,
            ToAgent::Hello { .. } | ToAgent::Go { .. } | ToAgent::Others { .. } => {
                return Err("it did not say what to prepare".to_owned());
            }
        };
        self.stream.set_read_timeout(None).map_err(io)?;
        let orders = Arc::new(Mutex::new(Orders::Wait));
        let (ears, heard) = (Arc::clone(&orders), self.stream.try_clone().map_err(io)?);
        let listener = thread::spawn(move || listen_for_orders(lines, &heard, &ears));
        let outcome = self.carry_out(&assignment, orders);
        let answer = match outcome {
            Ok(share) => FromAgent::Done(Box::new(share)),
            Err(error) => FromAgent::Failed { why: error.to_string() },
        };
        // Who hears of the end may ask for the next run at once.
        drop(claim);
        let told = tell(&self.stream, &answer);
        // The other half of the conversation ends with the connection.
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = listener.join();
        told
    }

    /// Lets the coordinator in if it may come in and nobody else is there.
    fn admit(&self, hello: ToAgent) -> Result<Claim, String> {
        let ToAgent::Hello { version, token } = hello else { return Err("a coordinator says hello first".to_owned()) };
        if version != VERSION {
            return Err(format!(
                "this agent speaks version {VERSION} and the coordinator {version}: use the same release"
            ));
        }
        if let Some(wanted) = &self.token
            && !same(wanted, token.as_deref().unwrap_or_default())
        {
            return Err("the token is missing or wrong: give the agent's --token to the coordinator".to_owned());
        }
        match self.busy.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Claim(Arc::clone(&self.busy))),
            Err(_) => Err("this agent is in a run already: wait for its end, or start another agent".to_owned()),
        }
    }

    fn carry_out(&self, assignment: &Assignment, orders: Arc<Mutex<Orders>>) -> Result<Share, LoadError> {
        let users = UsersFile::write(&assignment.users)?;
        let mut scenario = parse(&assignment.command, users.as_ref().map(|file| file.path.as_path()))?;
        let stream = self.stream.try_clone().map_err(|e| gone(e.to_string()))?;
        let place = Place {
            first_client: assignment.first_client,
            clients: assignment.clients,
            shared_run: assignment.shared_run,
        };
        let common = common_mut(&mut scenario).ok_or_else(|| gone("the scenario is not shared".to_owned()))?;
        let shared = assignment.shared_run.is_some();
        let watcher = Watcher { stream, orders, shared, prepared: false, sent: false, failed: None };
        common.seat = Some(Seat::new(place, watcher));
        common.cpu = self.cpu;
        let server_cpus = common.server_pid.and_then(sample::server_cpus);
        let report = run(scenario)?;
        Share::new(report, server_cpus).ok_or_else(|| gone("the run has no accounts".to_owned()))
    }
}

/// What the coordinator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Orders {
    Wait,
    BeginAt(Instant),
    /// Others sent so many messages, after the end.
    Others(u64),
    /// It is gone, or says what it should not.
    CallOff(String),
}

/// Hears when to begin, and that the coordinator is gone.
fn listen_for_orders(mut lines: Lines, stream: &TcpStream, orders: &Mutex<Orders>) {
    loop {
        let order = match lines.next(HELLO_BYTES_MAX) {
            Ok(ToAgent::Go { after_ms }) => match tell(stream, &FromAgent::Begun) {
                Ok(()) => Orders::BeginAt(Instant::now() + Duration::from_millis(after_ms)),
                Err(why) => Orders::CallOff(why),
            },
            Ok(ToAgent::Others { sent }) => Orders::Others(sent),
            Ok(ToAgent::Hello { .. } | ToAgent::Prepare(_)) => Orders::CallOff("it changed its mind".to_owned()),
            Err(why) => Orders::CallOff(why),
        };
        let over = matches!(order, Orders::CallOff(_));
        *orders.lock().unwrap_or_else(PoisonError::into_inner) = order;
        if over {
            return;
        }
    }
}

/// Tells the coordinator of the run, and the run what the coordinator wants.
struct Watcher {
    stream: TcpStream,
    orders: Arc<Mutex<Orders>>,
    /// Clients of other agents are in the same room.
    shared: bool,
    prepared: bool,
    sent: bool,
    failed: Option<String>,
}

impl Watcher {
    fn orders(&self) -> Orders {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Watcher {
    fn stage(&mut self, _stage: Stage, what: &str) {
        say(what);
    }

    fn interval(&mut self, point: &Point, seen: &Interval) {
        let told = tell(&self.stream, &FromAgent::Second(Box::new(Second::new(point, seen))));
        self.failed = self.failed.take().or(told.err());
    }

    fn begin_at(&mut self, connections: u32) -> Result<Option<Instant>, LoadError> {
        if !self.prepared {
            self.prepared = true;
            tell(&self.stream, &FromAgent::Prepared { connections }).map_err(gone)?;
        }
        match self.orders() {
            Orders::Wait => Ok(None),
            Orders::BeginAt(at) => Ok(Some(at)),
            Orders::Others(_) => Err(gone("it spoke of the end before the beginning".to_owned())),
            Orders::CallOff(why) => Err(gone(why)),
        }
    }

    fn sent_by_others(&mut self, own: u64) -> Result<Option<u64>, LoadError> {
        if !self.shared {
            return Ok(Some(0));
        }
        if !self.sent {
            self.sent = true;
            tell(&self.stream, &FromAgent::Sent { messages: own }).map_err(gone)?;
        }
        match self.orders() {
            Orders::Others(messages) => Ok(Some(messages)),
            Orders::Wait | Orders::BeginAt(_) => Ok(None),
            Orders::CallOff(why) => Err(gone(why)),
        }
    }

    fn go_on(&mut self) -> Result<(), LoadError> {
        match (self.failed.take(), self.orders()) {
            (Some(why), _) | (None, Orders::CallOff(why)) => Err(gone(why)),
            (None, Orders::Wait | Orders::BeginAt(_) | Orders::Others(_)) => Ok(()),
        }
    }
}

/// The share's command line, with the users' file in place; an error when it asks for what a coordinator may not.
fn parse(command: &[String], users: Option<&Path>) -> Result<Scenario, LoadError> {
    let plain = parse_run(command).map_err(gone)?;
    if touches_files(&plain) {
        return Err(gone("it may not name files of this machine".to_owned()));
    }
    let Some(path) = users else { return Ok(plain) };
    let tokens = ["--tokens".to_owned(), path.display().to_string()];
    parse_run(&[command, &tokens].concat()).map_err(gone)
}

fn gone(why: String) -> LoadError {
    LoadError::Peer { peer: "the coordinator".to_owned(), why }
}

/// Whether two secrets are the same, in a time that depends on their lengths only.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

/// The users of a share, in a file that nobody else may read and that goes with the run.
struct UsersFile {
    path: PathBuf,
}

impl UsersFile {
    fn write(users: &[String]) -> Result<Option<UsersFile>, LoadError> {
        if users.is_empty() {
            return Ok(None);
        }
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let path = std::env::temp_dir().join(format!("gochat-loadtest-{}-{nanos}.csv", std::process::id()));
        let failure = |e: std::io::Error| LoadError::File { path: path.clone(), why: e.to_string() };
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failure)?;
        let file_of = UsersFile { path: path.clone() };
        file.write_all((users.join("\n") + "\n").as_bytes()).map_err(failure)?;
        Ok(Some(file_of))
    }
}

impl Drop for UsersFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn listen(addr: &str, token: Option<&str>) -> Result<Agent, LoadError> {
        Agent::listen(&AgentArgs { listen: addr.to_owned(), token: token.map(str::to_owned), cpu: None })
    }

    #[test]
    fn others_reach_an_agent_only_with_a_token() {
        for token in [None, Some("")] {
            let error = listen("0.0.0.0:0", token).unwrap_err().to_string();
            assert!(error.contains("--token") && !error.contains('\n'), "{error}");
        }
        assert!(listen("0.0.0.0:0", Some("secret")).is_ok());
        assert!(listen("127.0.0.1:0", None).unwrap().addr().unwrap().ip().is_loopback());
        assert!(same("abc", "abc") && !same("abc", "abd") && !same("abc", "ab") && !same("", "a"));
    }

    #[test]
    fn a_coordinator_may_ask_for_runs_and_name_no_files() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (line, wanted) in [
            ("doctor", "only `run`"),
            ("run echo --url ws://a/ --json /etc/passwd", "may not name files"),
            ("run single --url http://a --tokens x", "may not name files"),
            ("run echo --url ws://a/ --protocol script --script x", "may not name files"),
            (
                "run connect --url ws://a/ --protocol script --script stomp --set login=@/etc/passwd:1",
                "may not name files",
            ),
            ("run nothing", "unrecognized subcommand"),
        ] {
            let error = parse(&words(line), None).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains('\n'), "{line}: {error}");
        }
        let users = UsersFile::write(&["1,a,t".to_owned()]).unwrap().unwrap();
        let Scenario::Single(args) = parse(&words("run single --url http://a"), Some(&users.path)).unwrap() else {
            panic!("no single")
        };
        let path = args.tokens.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1,a,t\n");
        drop(users);
        assert!(!path.exists());
    }
}
