//! What is sent, as a description writes it: text with `${name}`, compiled once to pieces. Owns writing messages; sends
//! none.

use std::io::Write;

use super::variables::Variables;
use crate::message::{Key, write_id};

/// What only a message has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageParts<'a> {
    pub(crate) run: u32,
    pub(crate) key: Key,
    /// The message's number as it is written.
    pub(crate) number: u64,
    pub(crate) content: &'a [u8],
    /// Microseconds since 1970.
    pub(crate) intended_us: u64,
}

/// What stands in place of a `${name}` besides variables.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extra<'a> {
    /// Nothing: a header, a step of the handshake, a heartbeat.
    None,
    /// An answer: the value found in what is answered.
    Value(&'a str),
    /// A message.
    Message(MessageParts<'a>),
}

/// Where a template stands, which decides what it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Connection,
    Answer,
    Message,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Variable(usize),
    Client,
    Value,
    Id,
    Number,
    Content,
    IntendedMs,
    IntendedUs,
}

const MESSAGE_NAMES: [&str; 5] = ["id", "number", "content", "intended_ms", "intended_us"];

/// A compiled text.
#[derive(Debug, Default)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Compiles a text. The error says what is wrong with it.
    pub(super) fn compile(text: &str, variables: &Variables, place: Place) -> Result<Template, String> {
        let mut template = Template::default();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if let Some(before) = rest[..at].strip_suffix('$') {
                template.bytes(before);
                template.bytes("${");
                rest = &rest[at + 2..];
                continue;
            }
            template.bytes(&rest[..at]);
            let (name, after) = rest[at + 2..].split_once('}').ok_or("a ${ without its }: close it, or write $${")?;
            template.name(name, variables, place)?;
            rest = after;
        }
        template.bytes(rest);
        Ok(template)
    }

    fn bytes(&mut self, text: &str) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Bytes(bytes)) => bytes.extend_from_slice(text.as_bytes()),
            _ => self.pieces.push(Piece::Bytes(text.as_bytes().to_vec())),
        }
    }

    fn name(&mut self, name: &str, variables: &Variables, place: Place) -> Result<(), String> {
        let piece = match (name, place) {
            ("client", _) => Piece::Client,
            ("value", Place::Answer) => Piece::Value,
            ("id", Place::Message) => Piece::Id,
            ("number", Place::Message) => Piece::Number,
            ("content", Place::Message) => Piece::Content,
            ("intended_ms", Place::Message) => Piece::IntendedMs,
            ("intended_us", Place::Message) => Piece::IntendedUs,
            _ => {
                let others: &[&str] = match place {
                    Place::Connection => &["client"],
                    Place::Answer => &["client", "value"],
                    Place::Message => &["client", "id", "number", "content", "intended_ms", "intended_us"],
                };
                let found = variables.find(name, others);
                if found.is_err() && MESSAGE_NAMES.contains(&name) {
                    return Err(format!("${{{name}}} stands only in the send of [echo] and [publish]: remove it"));
                }
                let variable = found?;
                if let Some(text) = variables.constant(variable) {
                    self.bytes(text);
                    return Ok(());
                }
                Piece::Variable(variable)
            }
        };
        self.pieces.push(piece);
        Ok(())
    }

    /// The text, if it is the same for all connections.
    pub(super) fn constant(&self) -> Option<String> {
        match self.pieces.as_slice() {
            [] => Some(String::new()),
            [Piece::Bytes(bytes)] => String::from_utf8(bytes.clone()).ok(),
            _ => None,
        }
    }

    pub(super) fn has_id(&self) -> bool {
        self.pieces.contains(&Piece::Id)
    }

    pub(super) fn has_number(&self) -> bool {
        self.pieces.contains(&Piece::Number)
    }

    pub(super) fn has_content(&self) -> bool {
        self.pieces.contains(&Piece::Content)
    }

    /// Appends the text for a connection.
    pub(super) fn write(&self, variables: &Variables, client: u32, extra: Extra<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match (piece, extra) {
                (Piece::Bytes(bytes), _) => out.extend_from_slice(bytes),
                (Piece::Variable(variable), _) => variables.write(*variable, client, out),
                (Piece::Client, _) => number(u64::from(variables.number(client)), out),
                (Piece::Value, Extra::Value(value)) => out.extend_from_slice(value.as_bytes()),
                (Piece::Id, Extra::Message(parts)) => write_id(parts.run, parts.key, out),
                (Piece::Number, Extra::Message(parts)) => number(parts.number, out),
                (Piece::Content, Extra::Message(parts)) => out.extend_from_slice(parts.content),
                (Piece::IntendedMs, Extra::Message(parts)) => number(parts.intended_us / 1000, out),
                (Piece::IntendedUs, Extra::Message(parts)) => number(parts.intended_us, out),
                // `compile` lets no piece stand where it has no value.
                _ => {}
            }
        }
    }
}

fn number(number: u64, out: &mut Vec<u8>) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "{number}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::script::section::Section;
    use std::path::Path;

    fn variables(toml: &str) -> Variables {
        let table = toml.parse().unwrap();
        let whole = Section::whole("x.toml", &table, &["variables"]).unwrap();
        let section = whole.open_table("variables").unwrap();
        Variables::read(section.as_ref(), Path::new(""), &["b=set".to_owned()], 7).unwrap()
    }

    fn write(template: &Template, variables: &Variables, client: u32, extra: Extra<'_>) -> String {
        let mut out = Vec::new();
        template.write(variables, client, extra, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_are_compiled_to_few_pieces() {
        let variables = variables("[variables]\na = \"room\"\nb = \"x\"\nn = { counter = 5 }\nr = { random = 9 }\n");
        let template = Template::compile("<${a}/${b}>$${a} $", &variables, Place::Connection).unwrap();
        assert_eq!(template.constant().as_deref(), Some("<room/set>${a} $"));
        let template = Template::compile("${n}.${client}.${r}", &variables, Place::Connection).unwrap();
        assert_eq!(template.pieces.len(), 5);
        let [one, two] = [1, 2].map(|client| write(&template, &variables, client, Extra::None));
        assert!(one.starts_with("6.1.") && two.starts_with("7.2.") && one.len() == 13, "{one} {two}");
        assert_ne!(one[4..], two[4..], "random text differs");
        assert_eq!(one, write(&template, &variables, 1, Extra::None), "and stays");
    }

    #[test]
    fn a_message_names_itself() {
        let variables = variables("[variables]\nb = \"\"");
        let text = "${id} ${number} ${content} ${intended_ms} ${intended_us}";
        let template = Template::compile(text, &variables, Place::Message).unwrap();
        let key = Key::new(1, 2);
        let parts = MessageParts { run: 0xab, key, number: 102, content: b"hello", intended_us: 1_234_567 };
        let written = write(&template, &variables, 1, Extra::Message(parts));
        assert_eq!(written, "lt000000ab0000010000000002 102 hello 1234 1234567");
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let variables = variables("[variables]\nb = \"\"\ntoken = \"\"");
        let wrong = |text, place| Template::compile(text, &variables, place).unwrap_err();
        assert!(wrong("${tokem}", Place::Connection).contains("did you mean token?"));
        assert!(wrong("${contend}", Place::Message).contains("did you mean content?"));
        assert!(wrong("${id}", Place::Connection).contains("only in the send of [echo] and [publish]"));
        assert!(wrong("a ${b", Place::Message).contains("without its }"));
    }
}
