//! Descriptions of protocols: a TOML file that says what to send and what incoming messages mean, compiled once when it is
//! loaded. Owns the format; connections, counting and time are the driver's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Table;

use crate::cli::ScriptArgs;
use crate::error::LoadError;
use crate::spread::duration;
use crate::suggest::suggestion;

mod pointer;
mod rule;
mod section;
mod template;
mod variables;

use pointer::{Pointers, Values};
use rule::{Address, Compiler, Match};
pub(crate) use rule::{Found, Message};
use section::Section;
pub(crate) use template::MessageParts;
use template::{Extra, Place, Template};
use variables::Variables;

/// Descriptions that are part of the tool.
const BUILT_IN: [(&str, &str); 4] = [
    ("centrifugo", include_str!("../scripts/centrifugo.toml")),
    ("jsonrpc", include_str!("../scripts/jsonrpc.toml")),
    ("socketio", include_str!("../scripts/socketio.toml")),
    ("stomp", include_str!("../scripts/stomp.toml")),
];
/// Steps of a handshake: a connection keeps its step in one byte.
const STEPS_MAX: usize = 255;
const WHOLE: &[&str] = &[
    "target",
    "subprotocols",
    "headers",
    "frames",
    "several",
    "variables",
    "connect",
    "answer",
    "heartbeat",
    "refusal",
    "echo",
    "publish",
];
const STEP: &[&str] = &["send", "expect"];
const ANSWER: &[&str] = &["to", "value", "send"];
const HEARTBEAT: &[&str] = &["every", "send"];
const REFUSAL: &[&str] = &["match", "id", "code"];
const ECHO: &[&str] = &["connect", "send", "number_from", "delivery"];
const PUBLISH: &[&str] = &["connect", "send", "number_from", "sender_receives", "acknowledgement", "delivery"];
const DELIVERY: &[&str] = &["match", "id", "content", "sequence", "redelivered"];
const ACKNOWLEDGEMENT: &[&str] = &["match", "id", "sequence"];

/// Which part of a description a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Connect,
    Echo,
    Publish,
}

/// How many messages one frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Several {
    /// One.
    No,
    /// One in each line.
    Lines,
    /// Those of a JSON list.
    Array,
}

/// One step of the handshake.
#[derive(Debug)]
struct Step {
    send: Option<Template>,
    expect: Option<Match>,
}

/// What is sent at once when something arrives.
#[derive(Debug)]
struct Answer {
    to: Match,
    value: Option<Address>,
    send: Template,
}

#[derive(Debug)]
struct Refusal {
    rule: Match,
    id: Option<Address>,
    code: Option<Address>,
}

#[derive(Debug)]
struct Acknowledgement {
    rule: Match,
    id: Option<Address>,
    sequence: Option<Address>,
}

#[derive(Debug)]
struct Delivery {
    rule: Match,
    id: Option<Address>,
    content: Option<Address>,
    sequence: Option<Address>,
    redelivered: Option<Address>,
}

/// Messages and what becomes of them.
#[derive(Debug)]
struct Exchange {
    send: Template,
    /// What is added to a message's number where it is written.
    number_from: u64,
    sender_receives: bool,
    acknowledgement: Option<Acknowledgement>,
    delivery: Delivery,
}

/// What the upgrade request says.
#[derive(Debug)]
struct Upgrade {
    target: Option<Template>,
    headers: Vec<(String, Template)>,
    subprotocols: Vec<String>,
}

/// A loaded description.
#[derive(Debug)]
pub(crate) struct Script {
    upgrade: Upgrade,
    variables: Variables,
    pointers: Pointers,
    several: Several,
    binary: bool,
    steps: Vec<Step>,
    answers: Vec<Answer>,
    heartbeat: Option<(Duration, Template)>,
    refusal: Option<Refusal>,
    exchange: Option<Exchange>,
}

/// What an incoming message is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meaning<'m> {
    Refusal {
        id: Found<'m>,
        code: Found<'m>,
    },
    Acknowledgement {
        id: Found<'m>,
        sequence: Option<u32>,
    },
    Delivery {
        id: Found<'m>,
        /// `None`: the description says nothing about contents.
        content: Option<Found<'m>>,
        sequence: Option<u32>,
        redelivered: bool,
    },
    Nothing,
}

impl Script {
    /// Loads a description by the name of one that is built in, or from a file.
    pub(crate) fn load(name: &str, set: &[String], purpose: Purpose, seed: u64) -> Result<Script, LoadError> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Script::parse(&format!("{name} (built in)"), text, Path::new(""), set, purpose, seed);
        }
        let path = PathBuf::from(name);
        let text = std::fs::read_to_string(&path).map_err(|error| {
            let names = BUILT_IN.map(|(known, _)| known);
            LoadError::File { path: path.clone(), why: format!("{error}; built in are {}", names.join(", ")) }
        })?;
        Script::parse(name, &text, path.parent().unwrap_or(Path::new("")), set, purpose, seed)
    }

    fn parse(
        file: &str,
        text: &str,
        folder: &Path,
        set: &[String],
        purpose: Purpose,
        seed: u64,
    ) -> Result<Script, LoadError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text).matches('\n').count() + 1;
            LoadError::File { path: PathBuf::from(file), why: format!("line {line}: {}", error.message()) }
        })?;
        let whole = Section::whole(file, &table, WHOLE)?;
        let variables = Variables::read(whole.open_table("variables")?.as_ref(), folder, set, seed)?;
        let mut pointers = Pointers::new();
        let mut compiler = Compiler { pointers: &mut pointers, variables: &variables };
        let mut steps = steps(&whole, &mut compiler)?;
        // Both are read even when one is used: a mistake shows in every run.
        let echo = exchange(&whole, Purpose::Echo, &mut compiler)?;
        let publish = exchange(&whole, Purpose::Publish, &mut compiler)?;
        let (section, used) = match purpose {
            Purpose::Connect => ("connect", None),
            Purpose::Echo => ("echo", echo),
            Purpose::Publish => ("publish", publish),
        };
        if purpose != Purpose::Connect && used.is_none() {
            let why = format!("it is missing and `run {section}` needs it: add [{section}] with send and delivery");
            return Err(whole.error(section, &why));
        }
        let (more, exchange) = used.unzip();
        steps.extend(more.unwrap_or_default());
        if steps.len() > STEPS_MAX {
            return Err(whole.error("connect", &format!("a handshake has at most {STEPS_MAX} steps")));
        }
        let upgrade = upgrade(&whole, &compiler)?;
        let answers = answers(&whole, &mut compiler)?;
        let heartbeat = heartbeat(&whole, &compiler)?;
        let refusal = refusal(&whole, &mut compiler)?;
        let several =
            choice(&whole, "several", &[("no", Several::No), ("lines", Several::Lines), ("array", Several::Array)])?;
        let binary = choice(&whole, "frames", &[("text", false), ("binary", true)])?;
        Ok(Script { upgrade, variables, pointers, several, binary, steps, answers, heartbeat, refusal, exchange })
    }

    /// The connections are `clients` from number `first` on; an error when a variable has no value for one of them.
    pub(crate) fn seat(&mut self, first: u32, clients: u32) -> Result<(), LoadError> {
        self.variables.seat(first, clients)
    }

    /// Whether a run needs no file of this machine.
    pub(crate) fn is_portable(args: &ScriptArgs) -> bool {
        let is_built_in = |name: &str| BUILT_IN.iter().any(|(known, _)| *known == name);
        args.script.as_deref().is_none_or(is_built_in) && !args.set.iter().any(|setting| setting.contains("=@"))
    }

    /// Whether data frames are binary.
    pub(crate) fn is_binary(&self) -> bool {
        self.binary
    }

    pub(crate) fn subprotocols(&self) -> &[String] {
        &self.upgrade.subprotocols
    }

    /// Path and query of a connection, if the description says them.
    pub(crate) fn target(&self, client: u32) -> Option<String> {
        self.upgrade.target.as_ref().map(|target| self.text(target, client))
    }

    /// Every connection asks for the path of the URL.
    pub(crate) fn keep_target(&mut self) {
        self.upgrade.target = None;
    }

    pub(crate) fn headers(&self, client: u32) -> Vec<(String, String)> {
        self.upgrade.headers.iter().map(|(name, value)| (name.clone(), self.text(value, client))).collect()
    }

    fn text(&self, template: &Template, client: u32) -> String {
        let mut text = Vec::new();
        template.write(&self.variables, client, Extra::None, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Steps of the handshake.
    pub(crate) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Whether a step waits for a message.
    pub(crate) fn step_waits(&self, step: usize) -> bool {
        self.steps.get(step).is_some_and(|step| step.expect.is_some())
    }

    /// Whether a step waits for this message.
    pub(crate) fn step_expects(&self, step: usize, message: &Message<'_>) -> bool {
        self.steps.get(step).and_then(|step| step.expect.as_ref()).is_some_and(|rule| rule.matches(message))
    }

    /// Appends what a step sends. Whether it sends anything.
    pub(crate) fn write_step(&self, step: usize, client: u32, out: &mut Vec<u8>) -> bool {
        let send = self.steps.get(step).and_then(|step| step.send.as_ref());
        send.map(|send| send.write(&self.variables, client, Extra::None, out)).is_some()
    }

    /// How often a connection says that it is alive.
    pub(crate) fn heartbeat_every(&self) -> Option<Duration> {
        self.heartbeat.as_ref().map(|(every, _)| *every)
    }

    pub(crate) fn write_heartbeat(&self, client: u32, out: &mut Vec<u8>) {
        if let Some((_, send)) = &self.heartbeat {
            send.write(&self.variables, client, Extra::None, out);
        }
    }

    /// Appends the answer to a message that wants one. Whether it does.
    pub(crate) fn write_answer(&self, message: &Message<'_>, client: u32, out: &mut Vec<u8>) -> bool {
        let Some(answer) = self.answers.iter().find(|answer| answer.to.matches(message)) else { return false };
        let found = answer.to.find(&answer.value, message);
        let value = match (&answer.value, found) {
            (Some(Address::Json(_)), Found::Text(text)) => serde_json::Value::from(text).to_string(),
            _ => found.written(),
        };
        answer.send.write(&self.variables, client, Extra::Value(&value), out);
        true
    }

    /// The number of a message as it is written: 1 for the first unless the description says otherwise.
    pub(crate) fn number_from(&self) -> u64 {
        self.exchange.as_ref().map_or(0, |exchange| exchange.number_from)
    }

    /// Appends a message.
    pub(crate) fn write_message(&self, parts: MessageParts<'_>, out: &mut Vec<u8>) {
        if let Some(exchange) = &self.exchange {
            exchange.send.write(&self.variables, parts.key.client(), Extra::Message(parts), out);
        }
    }

    /// Whether senders receive their own messages.
    pub(crate) fn sender_receives(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.sender_receives)
    }

    /// Whether messages are acknowledged.
    pub(crate) fn acknowledges(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.acknowledgement.is_some())
    }

    /// Whether deliveries carry a sequence number.
    pub(crate) fn is_numbered(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.delivery.sequence.is_some())
    }

    /// Calls `each` with every message of a frame; with `None` for one that cannot be read.
    pub(crate) fn each<'a>(&self, frame: &'a str, mut each: impl FnMut(Option<Message<'a>>)) {
        match self.several {
            Several::Array if frame.trim_start().starts_with('[') => {
                if !self.pointers.read_list(frame, &mut |values| each(Some(Message { text: "", values }))) {
                    each(None);
                }
            }
            Several::Lines => {
                let lines = frame.split('\n').map(|line| line.trim_end_matches('\r'));
                lines.filter(|line| !line.is_empty()).for_each(|line| each(self.message(line)));
            }
            Several::No | Several::Array => each(self.message(frame)),
        }
    }

    /// One message. JSON begins at the first `{` or `[`; a message without any is text.
    fn message<'a>(&self, text: &'a str) -> Option<Message<'a>> {
        let begin = if self.pointers.is_empty() { None } else { text.find(['{', '[']) };
        let json = begin.and_then(|at| text.get(at..));
        let values = json.map_or(Some(Values::default()), |json| self.pointers.read(json))?;
        Some(Message { text, values })
    }

    /// What a message is.
    pub(crate) fn meaning<'m>(&self, message: &'m Message<'_>) -> Meaning<'m> {
        if let Some(refusal) = self.refusal.as_ref().filter(|refusal| refusal.rule.matches(message)) {
            let find = |address| refusal.rule.find(address, message);
            return Meaning::Refusal { id: find(&refusal.id), code: find(&refusal.code) };
        }
        let Some(exchange) = &self.exchange else { return Meaning::Nothing };
        let sequence = |found: Found<'_>| found.number().and_then(|number| u32::try_from(number).ok());
        if let Some(acknowledgement) = exchange.acknowledgement.as_ref().filter(|it| it.rule.matches(message)) {
            let find = |address| acknowledgement.rule.find(address, message);
            return Meaning::Acknowledgement {
                id: find(&acknowledgement.id),
                sequence: sequence(find(&acknowledgement.sequence)),
            };
        }
        let delivery = &exchange.delivery;
        if !delivery.rule.matches(message) {
            return Meaning::Nothing;
        }
        let find = |address| delivery.rule.find(address, message);
        Meaning::Delivery {
            id: find(&delivery.id),
            content: delivery.content.is_some().then(|| find(&delivery.content)),
            sequence: sequence(find(&delivery.sequence)),
            redelivered: matches!(find(&delivery.redelivered), Found::Bool(true) | Found::Text("true")),
        }
    }
}

/// One of several words; the first is the default.
fn choice<T: Copy>(section: &Section<'_>, key: &str, words: &[(&str, T)]) -> Result<T, LoadError> {
    let text = section.text(key)?;
    let found = words.iter().find(|(word, _)| text.is_none_or(|text| text == *word)).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        section
            .error(key, &format!("it must be one of {}; {}", known.join(", "), suggestion(text.unwrap_or(""), &known)))
    })
}

fn upgrade(whole: &Section<'_>, compiler: &Compiler<'_>) -> Result<Upgrade, LoadError> {
    let target = compiler.template(whole, "target", Place::Connection)?;
    if whole.text("target")?.is_some_and(|target| !target.starts_with('/')) {
        return Err(whole.error("target", "it must begin with /: the path, not the whole URL, which is --url"));
    }
    let mut headers = Vec::new();
    if let Some(section) = whole.open_table("headers")? {
        for name in section.keys() {
            headers.push((name.clone(), compiler.needed_template(&section, name, Place::Connection)?));
        }
    }
    let subprotocols = whole.texts("subprotocols")?.into_iter().map(str::to_owned).collect();
    Ok(Upgrade { target, headers, subprotocols })
}

fn steps(section: &Section<'_>, compiler: &mut Compiler<'_>) -> Result<Vec<Step>, LoadError> {
    let mut steps = Vec::new();
    for step in section.tables("connect", STEP)? {
        let send = compiler.template(&step, "send", Place::Connection)?;
        let expect = step.value("expect").map(|_| compiler.rule(&step, "expect")).transpose()?;
        if send.is_none() && expect.is_none() {
            return Err(step.error("send", "a step needs send, expect or both: add one"));
        }
        steps.push(Step { send, expect });
    }
    Ok(steps)
}

fn answers(whole: &Section<'_>, compiler: &mut Compiler<'_>) -> Result<Vec<Answer>, LoadError> {
    let mut answers = Vec::new();
    for section in whole.tables("answer", ANSWER)? {
        let to = compiler.rule(&section, "to")?;
        let value = compiler.address(&section, "value")?;
        answers.push(Answer { to, value, send: compiler.needed_template(&section, "send", Place::Answer)? });
    }
    Ok(answers)
}

fn heartbeat(whole: &Section<'_>, compiler: &Compiler<'_>) -> Result<Option<(Duration, Template)>, LoadError> {
    let Some(section) = whole.table("heartbeat", HEARTBEAT)? else { return Ok(None) };
    let every = duration(section.needed_text("every")?).map_err(|why| section.error("every", &why))?;
    if every < Duration::from_millis(10) {
        return Err(section.error("every", "it must be at least 10ms"));
    }
    Ok(Some((every, compiler.needed_template(&section, "send", Place::Connection)?)))
}

fn refusal(whole: &Section<'_>, compiler: &mut Compiler<'_>) -> Result<Option<Refusal>, LoadError> {
    let Some(section) = whole.table("refusal", REFUSAL)? else { return Ok(None) };
    let rule = compiler.rule(&section, "match")?;
    let (id, code) = (compiler.address(&section, "id")?, compiler.address(&section, "code")?);
    Ok(Some(Refusal { rule, id, code }))
}

/// The section of a purpose, with the steps that its connections add to the handshake.
fn exchange(
    whole: &Section<'_>,
    purpose: Purpose,
    compiler: &mut Compiler<'_>,
) -> Result<Option<(Vec<Step>, Exchange)>, LoadError> {
    let (key, known) = match purpose {
        Purpose::Publish => ("publish", PUBLISH),
        Purpose::Echo | Purpose::Connect => ("echo", ECHO),
    };
    let Some(section) = whole.table(key, known)? else { return Ok(None) };
    let steps = steps(&section, compiler)?;
    let send = compiler.needed_template(&section, "send", Place::Message)?;
    let acknowledgement = acknowledgement(&section, compiler)?;
    let delivery = section.needed_table("delivery", DELIVERY)?;
    let rule = compiler.rule(&delivery, "match")?;
    delivery.needed_text("id")?;
    let [id, content, sequence, redelivered] =
        ["id", "content", "sequence", "redelivered"].map(|key| compiler.address(&delivery, key));
    let delivery_rules = Delivery { rule, id: id?, content: content?, sequence: sequence?, redelivered: redelivered? };
    let named = send.has_id() || (send.has_number() && purpose == Purpose::Echo);
    if !named {
        let why = match purpose {
            Purpose::Publish => {
                "it has no ${id}, by which receivers know a message: put it where delivery.id looks for it"
            }
            Purpose::Echo | Purpose::Connect => {
                "it has neither ${id} nor ${number}: put one where delivery.id looks for it"
            }
        };
        return Err(section.error("send", why));
    }
    if delivery_rules.content.is_some() && !send.has_content() {
        return Err(section.error("send", "it has no ${content}, which delivery.content looks for: put it there"));
    }
    let number_from = section.number("number_from")?.unwrap_or(1).into();
    let sender_receives = section.boolean("sender_receives")?.unwrap_or(false);
    Ok(Some((steps, Exchange { send, number_from, sender_receives, acknowledgement, delivery: delivery_rules })))
}

fn acknowledgement(section: &Section<'_>, compiler: &mut Compiler<'_>) -> Result<Option<Acknowledgement>, LoadError> {
    let Some(section) = section.table("acknowledgement", ACKNOWLEDGEMENT)? else { return Ok(None) };
    section.needed_text("id")?;
    let rule = compiler.rule(&section, "match")?;
    let (id, sequence) = (compiler.address(&section, "id")?, compiler.address(&section, "sequence")?);
    Ok(Some(Acknowledgement { rule, id, sequence }))
}

#[cfg(test)]
mod tests;
