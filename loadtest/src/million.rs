//! `million`: a network namespace with room for the connections, a server in it, and `run connect` against that. Owns what
//! is prepared and put back; the run is the ordinary one.

use std::io;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::cli::{self, Cli, Common, MillionArgs};
use crate::doctor::{self, Level};
use crate::error::LoadError;
use crate::observer::say;
use crate::report::Report;
use crate::run;
use crate::url::Url;

mod namespace;

/// How long the server may take until it listens.
const START_MAX: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);
/// Limits that a network namespace of one's own does away with.
const NOT_INSIDE: [&str; 4] = ["local ports", "conntrack", "accept queue", "SYN queue"];

/// Makes the namespace and carries out this very command in it. What it exits with is the run's verdict.
///
/// # Errors
/// Not root, too little memory, or the namespace cannot be made.
pub fn outside(args: &MillionArgs) -> Result<ExitStatus, LoadError> {
    if !rustix::process::geteuid().is_root() {
        return Err(LoadError::Arguments(
            "million makes a network namespace of its own, which only root may: run it with sudo".to_owned(),
        ));
    }
    let diagnosis = doctor::run(args.connections);
    let mut in_the_way = diagnosis.0.iter().filter(|it| it.level == Level::Fail && !NOT_INSIDE.contains(&it.name));
    if let Some(finding) = in_the_way.next() {
        return Err(LoadError::Arguments(format!("{}: {}; {}", finding.name, finding.found, finding.remedy)));
    }
    say(&format!("making a network namespace for {} connections, both ends in it", args.connections));
    namespace::run_inside(args.connections)
}

/// In the namespace: prepares it, starts the server, runs, stops the server.
///
/// # Errors
/// As of a run; the server does not start or does not listen.
pub fn inside(args: &MillionArgs) -> Result<(Report, Common), LoadError> {
    namespace::prepare()?;
    let url = Url::parse(&args.url)?;
    let server = Server::start(args, &url)?;
    let line = run_line(args, server.0.id());
    let cli = Cli::try_parse_from(line).map_err(|error| LoadError::Arguments(error.to_string()))?;
    let cli::Command::Run { scenario } = cli.command else {
        return Err(LoadError::Arguments("million runs nothing but a scenario".to_owned()));
    };
    let common = scenario.common().clone();
    Ok((run(scenario)?, common))
}

/// `run connect` with the flags that stand for it here.
fn run_line(args: &MillionArgs, server: u32) -> Vec<String> {
    let mut line = vec!["gochat-loadtest".to_owned(), "run".to_owned(), "connect".to_owned()];
    let mut flag = |name: &str, value: String| line.extend([format!("--{name}"), value]);
    flag("url", args.url.clone());
    flag("connections", args.connections.to_string());
    flag("hold", format!("{}ms", args.hold.as_millis()));
    flag("server-pid", server.to_string());
    if let Some(heartbeat) = args.heartbeat {
        flag("heartbeat", format!("{}ms", heartbeat.as_millis()));
    }
    for (name, file) in [("json", &args.json), ("csv", &args.csv), ("html", &args.html)] {
        if let Some(file) = file {
            flag(name, file.display().to_string());
        }
    }
    line
}

/// The server under load; stopped when it goes out of scope.
struct Server(Child);

impl Server {
    /// Starts the server asked for, or the tool's own, and waits until it listens.
    fn start(args: &MillionArgs, url: &Url) -> Result<Server, LoadError> {
        let mut command = match args.server.split_first() {
            Some((program, words)) => {
                let mut command = Command::new(program);
                command.args(words);
                command
            }
            None => {
                let mut command = Command::new(namespace::this_program()?);
                let (listen, connections) = (url.addr.to_string(), args.connections.to_string());
                command.args(["serve", "--listen", &listen, "--connections", &connections]);
                command
            }
        };
        let name = command.get_program().to_string_lossy().into_owned();
        // A Ctrl-C ends the run, which then reports on connections that still stand.
        let child = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut server = Server(child.map_err(|error| wrong_server(&name, &error.to_string()))?);
        let give_up = Instant::now() + START_MAX;
        while TcpStream::connect(url.addr).is_err() {
            if let Ok(Some(status)) = server.0.try_wait() {
                return Err(wrong_server(&name, &format!("it ended at once: {status}")));
            }
            if Instant::now() > give_up {
                return Err(wrong_server(&name, &format!("nothing listens on {} (see --url)", url.addr)));
            }
            sleep(STEP);
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _: io::Result<()> = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wrong_server(name: &str, why: &str) -> LoadError {
    LoadError::Arguments(format!("the server {name} cannot be used: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    fn args(line: &[&str]) -> MillionArgs {
        match Cli::try_parse_from(["gochat-loadtest", "million"].iter().chain(line)).unwrap().command {
            cli::Command::Million(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn its_flags_are_those_of_run_connect() {
        let args =
            args(&["--connections", "7", "--heartbeat", "20s", "--json", "a.json", "--", "server", "--listen", "x"]);
        assert_eq!(args.server, ["server", "--listen", "x"]);
        let cli = Cli::try_parse_from(run_line(&args, 9)).unwrap();
        let cli::Command::Run { scenario } = cli.command else { panic!("no run") };
        let common = scenario.common();
        assert_eq!((common.server_pid, common.json.as_deref()), (Some(9), Some("a.json".as_ref())));
        let cli::Scenario::Connect(connect) = scenario else { panic!("not connect") };
        assert_eq!((connect.connections, connect.heartbeat), (7, Some(Duration::from_secs(20))));
    }

    #[test]
    fn outside_of_a_namespace_nothing_is_changed() {
        let inside = MillionArgs { inside: true, ..args(&[]) };
        let error = inside_of(&inside);
        assert!(error.contains("network namespace"), "{error}");
    }

    fn inside_of(args: &MillionArgs) -> String {
        inside(args).err().map(|error| error.to_string()).unwrap_or_default()
    }
}
