//! A run cut into shares, one for each agent: whole pairs and groups, rates in proportion. Starts nothing.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;

use super::wire::Assignment;
use crate::cli::{
    Cli, Client, Command, Common, ConnectArgs, ConnectProtocol, EchoArgs, EchoProtocol, LoadArgs, PublishProtocol,
    Scenario,
};
use crate::error::LoadError;
use crate::message::mix;
use crate::script::Script;
use crate::tokens;

/// Flags that each agent gets anew, or that are the coordinator's own business; all take a value.
const REPLACED: [&str; 13] = [
    "--connections",
    "--pairs",
    "--groups",
    "--publishers",
    "--rate",
    "--phases",
    "--ramp",
    "--tokens",
    "--threshold",
    "--json",
    "--csv",
    "--html",
    "--hlog",
];

/// What is divided, and what goes with it.
struct Whole<'a> {
    /// The flag that counts units.
    flag: &'static str,
    units: u32,
    clients_per_unit: u32,
    load: Option<&'a LoadArgs>,
    tokens: Option<&'a Path>,
    /// Senders among all clients, which are in one room.
    publishers: Option<u32>,
}

impl Whole<'_> {
    /// Of what agents share evenly: how many of `all` the agent `at` of `agents` has.
    fn part(all: u32, at: u32, agents: u32) -> u32 {
        all / agents + u32::from(at < all % agents)
    }
}

/// The scenario of a command line from `run` on; or one line that says why there is none.
pub(super) fn parse_run(command: &[String]) -> Result<Scenario, String> {
    let words = std::iter::once("gochat-loadtest").chain(command.iter().map(String::as_str));
    match Cli::try_parse_from(words).map(|cli| cli.command) {
        Ok(Command::Run { scenario }) => Ok(scenario),
        Ok(_) => Err("only `run` and what to run can be shared".to_owned()),
        Err(error) => {
            let text = error.to_string();
            Err(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
        }
    }
}

/// The shares of `agents` agents. `command` is what `scenario` was parsed from.
pub(super) fn split(scenario: &Scenario, command: &[String], agents: usize) -> Result<Vec<Assignment>, LoadError> {
    let whole = whole(scenario)?;
    let common = scenario.common();
    if common.cpu.is_some() {
        return Err(LoadError::Arguments("each agent has its own --cpu: give it to `agent`".to_owned()));
    }
    let (units, agents) = (whole.units, agents as u32);
    if units < agents {
        let flag = whole.flag;
        return Err(LoadError::Arguments(format!("{agents} agents cannot share {flag} {units}: use fewer agents")));
    }
    let clients = units.saturating_mul(whole.clients_per_unit);
    let users = match whole.tokens {
        Some(path) => tokens::read(path, clients as usize)?,
        None => Vec::new(),
    };
    let shared_run = whole.publishers.map(|_| run_id());
    let mut first_unit = 0;
    let mut shares = Vec::new();
    for agent in 0..agents {
        let own = Whole::part(units, agent, agents);
        let part = f64::from(own) / f64::from(units);
        let publishers = whole.publishers.map(|all| (Whole::part(all, agent, agents), all));
        // Messages are those of the senders.
        let sending = publishers.map_or(part, |(own, all)| f64::from(own) / f64::from(all.max(1)));
        let mut command = without(command, &REPLACED);
        if agent > 0 {
            command = without(&command, &["--server-pid"]);
        }
        command.extend([whole.flag.to_owned(), own.to_string()]);
        let load = whole.load.filter(|_| sending > 0.0);
        let flags = [
            ("--rate", load.and_then(|load| Some((load.rate? * sending).to_string()))),
            ("--phases", load.and_then(|load| Some(load.phases.as_ref()?.share(sending)))),
            ("--ramp", common.ramp.map(|rate| (rate * part).to_string())),
            ("--publishers", publishers.map(|(own, _)| own.to_string())),
        ];
        for (flag, value) in flags {
            command.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
        }
        let first_client = first_unit * whole.clients_per_unit;
        let own_users = users.iter().skip(first_client as usize).take((own * whole.clients_per_unit) as usize);
        let users = own_users.map(|user| format!("{},{},{}", user.id, user.name, user.access_token)).collect();
        shares.push(Assignment { command, users, first_client, clients, shared_run });
        first_unit += own;
    }
    Ok(shares)
}

fn whole(scenario: &Scenario) -> Result<Whole<'_>, LoadError> {
    match scenario {
        Scenario::Echo(EchoArgs { protocol: EchoProtocol::Script, script, .. })
        | Scenario::Connect(ConnectArgs { protocol: ConnectProtocol::Script, script, .. })
            if !Script::is_portable(script) =>
        {
            let why = "agents read no files: take a built-in --script and --set without @, or no coordinator";
            Err(LoadError::Arguments(why.to_owned()))
        }
        Scenario::Echo(args) => Ok(Whole {
            flag: "--connections",
            units: args.connections,
            clients_per_unit: 1,
            load: Some(&args.load),
            tokens: None,
            publishers: None,
        }),
        Scenario::Connect(args) => Ok(Whole {
            flag: "--connections",
            units: args.connections,
            clients_per_unit: 1,
            load: None,
            tokens: args.tokens.as_deref(),
            publishers: None,
        }),
        Scenario::Single(args) if args.acked.is_some() || args.tokens_out.is_some() => {
            Err(LoadError::Arguments("--acked and --tokens-out are of runs without a coordinator".to_owned()))
        }
        Scenario::Single(args) => Ok(Whole {
            flag: "--pairs",
            units: args.pairs,
            clients_per_unit: 2,
            load: Some(&args.load),
            tokens: args.tokens.as_deref(),
            publishers: None,
        }),
        Scenario::Group(args) if args.users.tokens_out.is_some() => {
            Err(LoadError::Arguments("--tokens-out is of runs without a coordinator".to_owned()))
        }
        Scenario::Group(args) => Ok(Whole {
            flag: "--groups",
            units: args.groups,
            clients_per_unit: args.members,
            load: Some(&args.load),
            tokens: args.users.tokens.as_deref(),
            publishers: None,
        }),
        Scenario::Publish(args) if args.protocol == PublishProtocol::Script || args.client != Client::Engine => Err(
            LoadError::Arguments("agents share run publish of raw-publish and gochat, with --client engine".to_owned()),
        ),
        Scenario::Publish(args) if args.publishers == 0 || args.publishers > args.connections => {
            Err(LoadError::Arguments("--publishers must be 1 to --connections".to_owned()))
        }
        Scenario::Publish(args) => Ok(Whole {
            flag: "--connections",
            units: args.connections,
            clients_per_unit: 1,
            load: Some(&args.load),
            tokens: args.tokens.as_deref(),
            publishers: Some(args.publishers),
        }),
        _ => Err(LoadError::Arguments(
            "agents share run echo, connect, single, group and publish: run this without a coordinator".to_owned(),
        )),
    }
}

/// The flags of a share that its agent sets; `None` for scenarios that are not shared.
pub(super) fn common_mut(scenario: &mut Scenario) -> Option<&mut Common> {
    match scenario {
        Scenario::Echo(args) => Some(&mut args.common),
        Scenario::Connect(args) => Some(&mut args.common),
        Scenario::Single(args) => Some(&mut args.common),
        Scenario::Publish(args) => Some(&mut args.common),
        Scenario::Group(args) => Some(&mut args.common),
        _ => None,
    }
}

/// Whether a share would write or read files of the agent's machine, which only the agent's own user may ask for.
pub(super) fn touches_files(scenario: &Scenario) -> bool {
    let common = scenario.common();
    let outputs = [&common.json, &common.csv, &common.html, &common.watch.hlog].into_iter().any(Option::is_some);
    outputs
        || match scenario {
            Scenario::Echo(args) => !Script::is_portable(&args.script),
            Scenario::Connect(args) => args.tokens.is_some() || !Script::is_portable(&args.script),
            Scenario::Publish(args) => args.tokens.is_some() || args.script.script.is_some(),
            Scenario::Single(args) => args.tokens.is_some() || args.tokens_out.is_some() || args.acked.is_some(),
            Scenario::Group(args) => args.users.tokens.is_some() || args.users.tokens_out.is_some(),
            _ => false,
        }
}

/// What messages of this run can be told from those of another by.
fn run_id() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    mix(now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32) as u32
}

/// The command line without some flags and their values.
fn without(command: &[String], flags: &[&str]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = command.iter();
    while let Some(word) = words.next() {
        match flags.iter().find(|flag| word.split('=').next() == Some(flag)) {
            Some(_) if word.contains('=') => {}
            Some(_) => {
                words.next();
            }
            None => kept.push(word.clone()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn shares(line: &str, agents: usize) -> Result<Vec<Assignment>, LoadError> {
        let command: Vec<String> = line.split(' ').map(str::to_owned).collect();
        split(&parse_run(&command).unwrap(), &command, agents)
    }

    #[test]
    fn shares_add_up_and_can_be_parsed() {
        let line =
            "run echo --url ws://127.0.0.1:1/ --rate=100 --connections 10 --json out.json --ramp 50/s --server-pid 7";
        let shares = shares(line, 3).unwrap();
        let (mut connections, mut rate, mut first) = (0, 0.0, Vec::new());
        for share in &shares {
            let scenario = parse_run(&share.command).unwrap();
            assert!(!touches_files(&scenario), "{:?}", share.command);
            let Scenario::Echo(args) = scenario else { panic!("{:?}", share.command) };
            connections += args.connections;
            rate += args.load.rate.unwrap();
            first.push((share.first_client, args.common.server_pid, args.common.ramp.unwrap()));
        }
        assert_eq!((connections, rate), (10, 100.0));
        assert_eq!(first, [(0, Some(7), 20.0), (4, None, 15.0), (7, None, 15.0)]);
        assert!(shares.iter().all(|share| share.clients == 10 && share.users.is_empty()));
    }

    #[test]
    fn phases_are_shared_by_their_rates() {
        let line = "run echo --url ws://127.0.0.1:1/ --connections 4 --phases 1.5s@100,2s@100..2000 --threshold messages.lost<1";
        for share in shares(line, 2).unwrap() {
            let Scenario::Echo(args) = parse_run(&share.command).unwrap() else { panic!("{:?}", share.command) };
            assert_eq!(args.load.phases.unwrap().to_string(), "1.5s@50..50,2s@50..1000");
            assert!(args.common.threshold.is_empty());
        }
    }

    #[test]
    fn senders_of_a_room_bring_their_share_of_the_rate() {
        let line = "run publish --url ws://127.0.0.1:1/ --connections 7 --publishers 2 --rate 100";
        let shares = shares(line, 3).unwrap();
        let seen = shares.iter().map(|share| {
            let Scenario::Publish(args) = parse_run(&share.command).unwrap() else { panic!("{:?}", share.command) };
            (args.connections, args.publishers, args.load.rate)
        });
        assert_eq!(seen.collect::<Vec<_>>(), [(3, 1, Some(50.0)), (2, 1, Some(50.0)), (2, 0, None)]);
        assert!(shares[0].shared_run.is_some() && shares[0].shared_run == shares[2].shared_run);
    }

    #[test]
    fn a_description_that_is_built_in_is_shared() {
        let line =
            "run echo --url ws://127.0.0.1:1/ --connections 4 --protocol script --script stomp --set own=/topic/x-";
        let shares = shares(line, 2).unwrap();
        assert_eq!([shares[0].first_client, shares[1].first_client], [0, 2]);
        let scenario = parse_run(&shares[1].command).unwrap();
        assert!(!touches_files(&scenario));
        let Scenario::Echo(args) = scenario else { panic!("{:?}", shares[1].command) };
        assert_eq!(
            (args.script.script.as_deref(), args.script.set.as_slice()),
            (Some("stomp"), &["own=/topic/x-".to_owned()][..])
        );
    }

    #[test]
    fn users_go_with_their_pairs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.csv");
        std::fs::write(&path, (0..10).map(|n| format!("{n},u{n},t{n}\n")).collect::<String>()).unwrap();
        let tokens = path.display();
        let line = format!("run single --url http://127.0.0.1:1 --pairs 5 --tokens {tokens}");
        let shares = shares(&line, 2).unwrap();
        assert_eq!([shares[0].users.len(), shares[1].users.len()], [6, 4]);
        assert_eq!((shares[1].users[0].as_str(), shares[1].first_client), ("6,u6,t6", 6));
        assert!(!shares[1].command.iter().any(|word| word.contains("tokens")));
    }

    #[test]
    fn what_cannot_be_shared_is_refused() {
        for (line, wanted) in [
            ("run echo --url ws://127.0.0.1:1/ --connections 2", "use fewer agents"),
            ("run echo --url ws://127.0.0.1:1/ --cpu 1", "give it to `agent`"),
            ("run single --url http://127.0.0.1:1 --acked a.jsonl", "without a coordinator"),
            ("run mixed --url http://127.0.0.1:1 --rate 5", "without a coordinator"),
            ("run publish --url ws://127.0.0.1:1/ --client tungstenite", "--client engine"),
            ("run publish --url ws://127.0.0.1:1/ --publishers 0", "--publishers must be"),
            ("run echo --url ws://127.0.0.1:1/ --protocol script --script my.toml", "agents read no files"),
            (
                "run echo --url ws://127.0.0.1:1/ --protocol script --script stomp --set own=@a:b",
                "agents read no files",
            ),
        ] {
            assert!(shares(line, 3).unwrap_err().to_string().contains(wanted), "{line}");
        }
    }
}
