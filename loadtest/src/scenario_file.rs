//! Scenario files: a TOML table that names a scenario and gives any of its flags, turned into the arguments that say the
//! same. Owns the form of the files and those that come with the tool; what a flag means is the command line's.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, CommandFactory};
use toml::Value;
use toml::de::DeTable;

use crate::cli::Cli;
use crate::error::LoadError;
use crate::suggest::suggestion;

/// Keys that are no flags.
const SCENARIO: &str = "scenario";
const DESCRIPTION: &str = "description";
/// A list; each is one `--threshold`.
const THRESHOLDS: &str = "thresholds";
/// The flag that a file and the command line may both give: all of them count.
const THRESHOLD: &str = "threshold";

/// A file that comes with the tool.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// As in `run NAME`.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(BuiltIn { name: $name, text: include_str!(concat!("../scenarios/", $name, ".toml")) }),*]
    };
}

/// All of them.
pub const BUILT_IN: &[BuiltIn] = built_in![
    "echo-open",
    "echo-pipelined",
    "idle-100k",
    "single-5k",
    "group500",
    "group10k",
    "world",
    "mixed-70-25-5",
    "history-deep",
    "logins",
    "greedy-3",
    "slow-readers",
    "churning",
    "all-reconnect",
    "presence",
];

/// One line for each file that comes with the tool.
///
/// # Errors
/// A file that comes with the tool cannot be read.
pub fn list() -> Result<String, LoadError> {
    let mut out = String::new();
    for built_in in BUILT_IN {
        let file = ScenarioFile::parse(Path::new(built_in.name), built_in.text)?;
        let _ = writeln!(out, "{:<16} {:<12} {}", built_in.name, file.kind, file.description);
    }
    out.push_str(
        "\nRun one with `run NAME --url URL`; flags after it override the file. To change more, keep a copy:\n",
    );
    out.push_str("`scenarios --show NAME > mine.toml`, then `run mine.toml --url URL`.\n");
    Ok(out)
}

/// The text of a file that comes with the tool.
///
/// # Errors
/// There is none of that name.
pub fn show(name: &str) -> Result<&'static str, LoadError> {
    let names: Vec<&str> = BUILT_IN.iter().map(|it| it.name).collect();
    let unknown = || LoadError::Arguments(format!("no scenario file {name:?}: {}", suggestion(name, &names)));
    BUILT_IN.iter().find(|it| it.name == name).map(|it| it.text).ok_or_else(unknown)
}

/// Arguments in which `run FILE` and `run NAME` are replaced by what the file says. Flags that stand on the command line
/// replace those of the file, and those that exclude them.
///
/// # Errors
/// The file cannot be read or says something that no run understands; no scenario has that name.
pub fn expand(args: Vec<OsString>) -> Result<Vec<OsString>, LoadError> {
    let Some(at) = args.iter().position(|arg| arg == "run") else { return Ok(args) };
    let Some(name) = args.get(at + 1).and_then(|arg| arg.to_str()) else { return Ok(args) };
    let kinds = kinds();
    if name.starts_with('-') || name == "help" || kinds.find_subcommand(name).is_some() {
        return Ok(args);
    }
    let path = Path::new(name);
    let file = if let Some(built_in) = BUILT_IN.iter().find(|it| it.name == name) {
        ScenarioFile::parse(path, built_in.text)?
    } else if path.extension().is_some_and(|it| it == "toml") || path.components().count() > 1 {
        let failure = |e: std::io::Error| LoadError::File { path: path.to_owned(), why: e.to_string() };
        ScenarioFile::parse(path, &std::fs::read_to_string(path).map_err(failure)?)?
    } else {
        let known = kinds.get_subcommands().map(Command::get_name).chain(BUILT_IN.iter().map(|it| it.name));
        let known: Vec<&str> = known.collect();
        let why = suggestion(name, &known);
        return Err(LoadError::Arguments(format!(
            "no scenario {name:?}: {why}; or give a file, as in `run my.toml`; `gochat-loadtest scenarios` lists those that come with the tool"
        )));
    };
    let (before, after) = args.split_at(at + 1);
    let rest = after.get(1..).unwrap_or_default();
    let flags = file.flags(&kinds, rest)?;
    let kind = OsString::from(&file.kind);
    Ok(before.iter().cloned().chain([kind]).chain(flags).chain(rest.iter().cloned()).collect())
}

/// The command `run` with all that it knows.
fn kinds() -> Command {
    let mut whole = Cli::command();
    whole.build();
    whole.find_subcommand("run").cloned().unwrap_or_default()
}

/// A file that was read.
#[derive(Debug)]
struct ScenarioFile {
    path: PathBuf,
    kind: String,
    description: String,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    line: usize,
    key: String,
    value: Value,
}

impl ScenarioFile {
    fn parse(path: &Path, text: &str) -> Result<ScenarioFile, LoadError> {
        let line_of = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        let bad = |error: toml::de::Error| LoadError::File {
            path: path.to_owned(),
            why: format!("line {}: {}", line_of(error.span().map_or(0, |span| span.start)), error.message().trim()),
        };
        // Once for the lines of the keys, once for their values.
        let lines = DeTable::parse(text).map_err(bad)?;
        let mut values: toml::Table = text.parse().map_err(bad)?;
        let mut file = ScenarioFile {
            path: path.to_owned(),
            kind: String::new(),
            description: String::new(),
            entries: Vec::new(),
        };
        for key in lines.get_ref().keys() {
            let Some(value) = values.remove(key.get_ref().as_ref()) else { continue };
            file.entries.push(Entry { line: line_of(key.span().start), key: key.get_ref().to_string(), value });
        }
        file.entries.sort_by_key(|entry| entry.line);
        file.kind = file
            .take_text(SCENARIO)?
            .ok_or_else(|| file.failure("it names no scenario: add scenario = \"echo\", or another"))?;
        file.description = file.take_text(DESCRIPTION)?.unwrap_or_default();
        Ok(file)
    }

    fn take_text(&mut self, key: &str) -> Result<Option<String>, LoadError> {
        let Some(at) = self.entries.iter().position(|entry| entry.key == key) else { return Ok(None) };
        let entry = self.entries.remove(at);
        match entry.value {
            Value::String(text) => Ok(Some(text)),
            _ => Err(self.wrong(&entry, "it must be a text in quotes")),
        }
    }

    fn failure(&self, why: &str) -> LoadError {
        LoadError::File { path: self.path.clone(), why: why.to_owned() }
    }

    fn wrong(&self, entry: &Entry, why: &str) -> LoadError {
        self.failure(&format!("line {}: {}: {why}", entry.line, entry.key))
    }

    /// The arguments that say what the file says, except what the command line says itself.
    fn flags(&self, kinds: &Command, given: &[OsString]) -> Result<Vec<OsString>, LoadError> {
        let Some(kind) = kinds.find_subcommand(&self.kind) else {
            let known: Vec<&str> = kinds.get_subcommands().map(Command::get_name).filter(|it| *it != "help").collect();
            let why = suggestion(&self.kind, &known);
            return Err(self.failure(&format!("{SCENARIO}: no scenario {:?}; {why}", self.kind)));
        };
        let given: Vec<&Arg> = given.iter().filter_map(|word| flag(kind, long(word.to_str()?)?)).collect();
        let mut flags = Vec::new();
        for entry in &self.entries {
            let name = if entry.key == THRESHOLDS { THRESHOLD } else { &entry.key };
            let Some(arg) = flag(kind, name).filter(|_| entry.key != THRESHOLD) else {
                let longs =
                    kind.get_arguments().filter_map(Arg::get_long).filter(|it| ![THRESHOLD, "help"].contains(it));
                let known: Vec<&str> = longs.chain([SCENARIO, DESCRIPTION, THRESHOLDS]).collect();
                return Err(self.wrong(
                    entry,
                    &format!("run {} knows no such key; {}", self.kind, suggestion(&entry.key, &known)),
                ));
            };
            let excluded = |other: &&Arg| {
                let excludes =
                    |a: &Arg, b: &Arg| kind.get_arg_conflicts_with(a).iter().any(|it| it.get_id() == b.get_id());
                other.get_id() == arg.get_id() || excludes(arg, other) || excludes(other, arg)
            };
            if name == THRESHOLD || !given.iter().any(excluded) {
                flags.extend(self.words(entry, name, arg)?.into_iter().map(OsString::from));
            }
        }
        Ok(flags)
    }

    /// One entry as arguments.
    fn words(&self, entry: &Entry, name: &str, arg: &Arg) -> Result<Vec<String>, LoadError> {
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            _ => None,
        };
        let word = |value: &Value| Some(format!("--{name}={}", text(value)?));
        match &entry.value {
            Value::Boolean(on) if is_switch => Ok(if *on { vec![format!("--{name}")] } else { Vec::new() }),
            _ if is_switch => Err(self.wrong(entry, "it must be true or false")),
            Value::Array(list) if matches!(arg.get_action(), ArgAction::Append) => {
                let words: Option<Vec<String>> = list.iter().map(word).collect();
                words.ok_or_else(|| self.wrong(entry, "it must be a list of texts or numbers"))
            }
            _ if name == THRESHOLD => Err(self.wrong(entry, "it must be a list: [\"messages.lost == 0\"]")),
            value => {
                word(value).map(|word| vec![word]).ok_or_else(|| self.wrong(entry, "it must be a text or a number"))
            }
        }
    }
}

fn flag<'a>(kind: &'a Command, long: &str) -> Option<&'a Arg> {
    kind.get_arguments().find(|arg| arg.get_long() == Some(long))
}

/// The name in `--name` and `--name=value`.
fn long(word: &str) -> Option<&str> {
    word.strip_prefix("--").map(|rest| rest.split_once('=').map_or(rest, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use clap::Parser;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn expanded(text: &str, more: &str) -> Result<String, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my.toml");
        std::fs::write(&path, text).unwrap();
        let args = expand(words(&format!("x run {} {more}", path.display())))?;
        let line = args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        Ok(line.trim_end().to_owned())
    }

    #[test]
    fn a_file_says_what_flags_say_and_flags_override_it() {
        let file = "scenario = \"single\"\ndescription = \"d\"\npairs = 5\nrate = 12.5\none-way = true\nduration = \"3s\"\n\
                    thresholds = [\"messages.lost == 0\", \"latency_us.ack.p99 < 1s\"]";
        let thresholds = "--threshold=messages.lost == 0 --threshold=latency_us.ack.p99 < 1s";
        let all = expanded(file, "--url http://a/").unwrap();
        assert_eq!(
            all,
            format!("x run single --pairs=5 --rate=12.5 --one-way --duration=3s {thresholds} --url http://a/")
        );
        // A closed loop on the command line takes the file's rate away; thresholds add up.
        let other = expanded(file, "--in-flight=4 --pairs 7 --threshold=messages.sent>1").unwrap();
        let flags = "--in-flight=4 --pairs 7 --threshold=messages.sent>1";
        assert_eq!(other, format!("x run single --one-way --duration=3s {thresholds} {flags}"));
        let phased = expanded("scenario = \"echo\"\nphases = \"1s@5\"", "--rate 5").unwrap();
        assert_eq!(phased, "x run echo --rate 5");
        assert_eq!(expand(words("x run echo --rate 5")).unwrap(), words("x run echo --rate 5"));
        assert_eq!(expand(words("x doctor")).unwrap(), words("x doctor"));
    }

    #[test]
    fn every_file_that_comes_with_the_tool_is_a_run() {
        for built_in in BUILT_IN {
            let args = expand(words(&format!("x run {} --url http://a/ --tokens t", built_in.name)));
            let args = args.or_else(|_| expand(words(&format!("x run {} --url http://a/", built_in.name)))).unwrap();
            let without_tokens: Vec<OsString> = args[..args.len() - 2].to_vec();
            let parsed = Cli::try_parse_from(&args).or_else(|_| Cli::try_parse_from(without_tokens));
            assert!(parsed.is_ok(), "{}: {parsed:?}", built_in.name);
            assert_eq!(show(built_in.name).unwrap(), built_in.text);
        }
        assert_eq!(list().unwrap().lines().take_while(|line| !line.is_empty()).count(), BUILT_IN.len());
        assert!(show("world2").unwrap_err().to_string().contains("did you mean world?"));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_one_line_that_says_where() {
        let error = |text: &str| expanded(text, "").unwrap_err().to_string();
        let unknown = error("# a comment\nscenario = \"publish\"\npublisher = 5");
        assert!(
            unknown.ends_with("my.toml: line 3: publisher: run publish knows no such key; did you mean publishers?"),
            "{unknown}"
        );
        assert!(error("scenario = \"publsh\"").contains("no scenario \"publsh\"; did you mean publish?"));
        assert!(error("rate = 5").contains("it names no scenario"));
        assert!(error("scenario = 5").contains("line 1: scenario: it must be a text"));
        assert!(error("scenario = \"single\"\none-way = 1").contains("line 2: one-way: it must be true or false"));
        assert!(error("scenario = \"echo\"\nthresholds = \"x\"").contains("line 2: thresholds: it must be a list"));
        assert!(error("scenario = \"echo\"\nrate = { a = 1 }").contains("line 2: rate: it must be a text or a number"));
        assert!(error("scenario = \"echo\"\nrate = ").contains("my.toml: line 2: "));
        let none = expand(words("x run ecko --url ws://a/")).unwrap_err().to_string();
        assert!(none.contains("no scenario \"ecko\": did you mean echo?") && !none.contains('\n'), "{none}");
        assert!(expand(words("x run missing.toml")).unwrap_err().to_string().contains("missing.toml: No such file"));
    }
}
