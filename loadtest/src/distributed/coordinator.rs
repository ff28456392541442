//! `coordinator`: gives each agent its share, lets all begin at one moment, and makes one result of theirs. Owns the
//! conversations with agents; adds nothing up itself.

use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::merge::{Second, Share, Whole, second};
use super::split::{parse_run, split};
use super::wire::{FromAgent, HELLO_BYTES_MAX, LINE_BYTES_MAX, Lines, ToAgent, VERSION, tell};
use crate::cli::{Common, CoordinatorArgs, Scenario};
use crate::error::LoadError;
use crate::observer::{Observer, Progress, say};
use crate::report::Report;
use crate::run::label_of;
use crate::threshold;
use crate::timeline::Point;

/// How long an agent may take to answer a greeting.
const PATIENCE: Duration = Duration::from_secs(10);
/// All agents hear of the beginning well before it.
const GO_AFTER_MS: u64 = 200;
/// Between the end of a run as planned and its results.
const RESULT_MAX: Duration = Duration::from_secs(60);
/// An agent's machine that is gone is noticed after so many unanswered questions, seconds apart.
const PROBES: u32 = 3;
const PROBE_S: u64 = 5;

/// Carries out a run with all agents; the result comes with the flags that say where it goes.
///
/// # Errors
/// What keeps the run from taking place. Agents lost in it make the result invalid.
pub fn run(args: &CoordinatorArgs) -> Result<(Report, Common), LoadError> {
    let scenario = parse_run(&args.command).map_err(LoadError::Arguments)?;
    let common = scenario.common().clone();
    let shares = split(&scenario, &args.command, args.agents.len())?;
    let (told, heard) = channel();
    let mut party = Party { agents: Vec::new(), heard, seconds: Vec::new() };
    for (at, name) in args.agents.iter().enumerate() {
        party.agents.push(Agent::greet(name, args.token.clone(), at, told.clone())?);
    }
    drop(told);
    for (agent, share) in party.agents.iter().zip(shares) {
        agent.tell(&ToAgent::Prepare(share))?;
    }
    let connections = party.await_prepared()?;
    say(&format!("{connections} connections stand on {} agents; they begin", party.agents.len()));
    for agent in &party.agents {
        agent.tell(&ToAgent::Go { after_ms: GO_AFTER_MS })?;
    }
    let mut progress = Progress::new(common.watch.hlog.as_deref())?;
    let over = Instant::now() + phases(&scenario) + common.drain + RESULT_MAX;
    let (timeline, lost) = party.await_results(over, &mut progress);
    progress.finish()?;
    let label = label_of(&scenario).ok_or_else(|| LoadError::Arguments("this scenario is not shared".to_owned()))?;
    let shares: Vec<(String, Share)> =
        party.agents.iter_mut().filter_map(|agent| Some((agent.name.clone(), agent.share.take()?))).collect();
    if shares.is_empty() {
        return Err(LoadError::Peer { peer: "all agents".to_owned(), why: lost.join("; ") });
    }
    let mut report = Whole { label, shares, lost, timeline }.report();
    threshold::judge(&mut report, &common.threshold);
    Ok((report, common))
}

/// How long the agents' phases take after the beginning.
fn phases(scenario: &Scenario) -> Duration {
    match scenario {
        Scenario::Echo(args) => args.load.warmup + args.load.measured(),
        Scenario::Single(args) => args.load.warmup + args.load.measured(),
        Scenario::Group(args) => args.load.warmup + args.load.measured(),
        Scenario::Publish(args) => args.load.warmup + args.load.measured(),
        Scenario::Connect(args) => args.hold,
        _ => Duration::ZERO,
    }
}

/// One agent.
struct Agent {
    name: String,
    stream: TcpStream,
    prepared: bool,
    /// Messages it sent, once it sends no more.
    sent: Option<u64>,
    lost: bool,
    share: Option<Share>,
}

impl Agent {
    /// Connects and is let in; what the agent says from then on goes to `told`.
    fn greet(
        name: &str,
        token: Option<String>,
        at: usize,
        told: Sender<(usize, Result<FromAgent, String>)>,
    ) -> Result<Agent, LoadError> {
        let failure = |why: String| LoadError::Peer { peer: format!("agent {name}"), why };
        let io = |e: std::io::Error| failure(e.to_string());
        let addr = name.to_socket_addrs().map_err(io)?.next().ok_or_else(|| failure("no such host".to_owned()))?;
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)
            .map_err(|e| failure(format!("{e}; is `gochat-loadtest agent --listen {name}` running there?")))?;
        stream.set_nodelay(true).map_err(io)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(io)?;
        watch_for_life(&stream).map_err(|e| failure(e.to_string()))?;
        tell(&stream, &ToAgent::Hello { version: VERSION, token }).map_err(failure)?;
        let mut lines = Lines::new(stream.try_clone().map_err(io)?);
        match lines.next(HELLO_BYTES_MAX).map_err(failure)? {
            FromAgent::Welcome { version: VERSION } => {}
            FromAgent::Refused { why } => return Err(failure(why)),
            _ => return Err(failure("it does not answer as an agent of this version does".to_owned())),
        }
        stream.set_read_timeout(None).map_err(io)?;
        thread::spawn(move || {
            loop {
                let said = lines.next(LINE_BYTES_MAX);
                let last = said.is_err();
                if told.send((at, said)).is_err() || last {
                    return;
                }
            }
        });
        Ok(Agent { name: name.to_owned(), stream, prepared: false, sent: None, lost: false, share: None })
    }

    fn tell(&self, message: &ToAgent) -> Result<(), LoadError> {
        tell(&self.stream, message).map_err(|why| self.failure(why))
    }

    fn failure(&self, why: String) -> LoadError {
        LoadError::Peer { peer: format!("agent {}", self.name), why }
    }

    /// Whether nothing more is expected of it.
    fn is_over(&self) -> bool {
        self.lost || self.share.is_some()
    }
}

impl Drop for Agent {
    /// An agent whose coordinator leaves ends its run.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// An agent's process that ends closes its connection; a machine that does goes silent.
fn watch_for_life(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(PROBE_S))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(PROBE_S))?;
    sockopt::set_tcp_keepcnt(stream, PROBES)
}

/// All agents of a run.
struct Party {
    agents: Vec<Agent>,
    heard: Receiver<(usize, Result<FromAgent, String>)>,
    /// Seconds of each agent that are not merged yet.
    seconds: Vec<Vec<Second>>,
}

impl Party {
    /// Waits until all connections of all agents stand, and counts them.
    fn await_prepared(&mut self) -> Result<u32, LoadError> {
        let mut connections = 0;
        while self.agents.iter().any(|agent| !agent.prepared) {
            // Every agent is heard of at its end, if not before.
            let Ok((at, said)) = self.heard.recv() else { break };
            let Some(agent) = self.agents.get_mut(at) else { continue };
            match said {
                Ok(FromAgent::Prepared { connections: own }) => {
                    agent.prepared = true;
                    connections += own;
                }
                Ok(FromAgent::Failed { why }) | Err(why) => return Err(agent.failure(why)),
                Ok(_) => return Err(agent.failure("it began before it was told to".to_owned())),
            }
        }
        Ok(connections)
    }

    /// Waits for the results until `over`; gives the merged seconds, and what happened to agents that were lost.
    fn await_results(&mut self, over: Instant, progress: &mut Progress) -> (Vec<Point>, Vec<String>) {
        let (mut timeline, mut lost) = (Vec::new(), Vec::new());
        self.seconds = self.agents.iter().map(|_| Vec::new()).collect();
        while self.agents.iter().any(|agent| !agent.is_over()) {
            let (at, said) = match self.heard.recv_timeout(over.saturating_duration_since(Instant::now())) {
                Ok(heard) => heard,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let late = self.agents.iter_mut().filter(|agent| !agent.is_over());
                    lost.extend(late.map(|agent| {
                        agent.lost = true;
                        format!("agent {} was lost: it gave no result in time", agent.name)
                    }));
                    break;
                }
            };
            let Some(agent) = self.agents.get_mut(at).filter(|agent| !agent.is_over()) else { continue };
            match said {
                Ok(FromAgent::Second(second)) => {
                    if let Some(seconds) = self.seconds.get_mut(at) {
                        seconds.push(*second);
                    }
                }
                Ok(FromAgent::Done(share)) => {
                    agent.share = Some(*share);
                    self.tell_of_others();
                }
                Ok(FromAgent::Sent { messages }) => {
                    agent.sent = Some(messages);
                    self.tell_of_others();
                }
                Ok(FromAgent::Begun) => {}
                Ok(FromAgent::Failed { why }) | Err(why) => {
                    agent.lost = true;
                    lost.push(format!("agent {} was lost in the run, its figures are missing: {why}", agent.name));
                    self.tell_of_others();
                }
                Ok(FromAgent::Welcome { .. } | FromAgent::Refused { .. } | FromAgent::Prepared { .. }) => {}
            }
            self.merge_seconds(&mut timeline, progress);
        }
        (timeline, lost)
    }

    /// Tells each agent what the others sent, once none of them sends any more: so many messages its clients wait for.
    fn tell_of_others(&self) {
        let expected = self.agents.iter().filter(|agent| !agent.is_over());
        if expected.clone().any(|agent| agent.sent.is_none()) {
            return;
        }
        let all: u64 = self.agents.iter().filter_map(|agent| agent.sent).sum();
        for agent in expected {
            // One that cannot be told is lost, which its connection says.
            let _ = agent.tell(&ToAgent::Others { sent: all - agent.sent.unwrap_or_default() });
        }
    }

    /// Merges the seconds that every agent has had which is still expected to have it.
    fn merge_seconds(&mut self, timeline: &mut Vec<Point>, progress: &mut Progress) {
        loop {
            let expected = self.agents.iter().zip(&self.seconds).filter(|(agent, _)| !agent.is_over());
            let all_have = expected.clone().all(|(_, seconds)| !seconds.is_empty());
            let same: Vec<Second> = match all_have {
                true => self.seconds.iter_mut().filter(|it| !it.is_empty()).map(|seconds| seconds.remove(0)).collect(),
                false => return,
            };
            let Some((point, seen)) = second(&same.iter().collect::<Vec<_>>()) else { return };
            progress.interval(&point, &seen);
            timeline.push(point);
        }
    }
}
