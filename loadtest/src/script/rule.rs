//! Which incoming messages a description means, and where in them it finds things. Owns matching; what follows from a match
//! is the driver's.

use toml::Value as Toml;

use super::pointer::{Pointers, Slot, Value, Values};
use super::section::Section;
use super::template::{Place, Template};
use super::variables::Variables;
use crate::error::LoadError;

/// Characters of a message that people are shown.
const SHOWN_CHARS: usize = 100;
pub(super) const MATCH_KEYS: &[&str] = &["text", "prefix", "has", "where"];

/// One incoming message.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// As it arrived; empty for one of a JSON list.
    pub(super) text: &'a str,
    pub(super) values: Values<'a>,
}

impl Message<'_> {
    /// Its beginning, for people.
    pub(crate) fn shown(&self) -> String {
        match self.text.char_indices().nth(SHOWN_CHARS) {
            _ if self.text.is_empty() => "a message of a list".to_owned(),
            Some((end, _)) => format!("{:?}…", self.text.get(..end).unwrap_or_default()),
            None => format!("{:?}", self.text),
        }
    }
}

/// Something found in a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Found<'m> {
    Absent,
    Text(&'m str),
    Number(u64),
    Bool(bool),
    Other,
}

impl Found<'_> {
    /// A number, also one that is written as text.
    pub(crate) fn number(self) -> Option<u64> {
        match self {
            Found::Number(number) => Some(number),
            Found::Text(text) => text.parse().ok(),
            Found::Absent | Found::Bool(_) | Found::Other => None,
        }
    }

    /// As it is written into answers.
    pub(crate) fn written(self) -> String {
        match self {
            Found::Absent | Found::Other => String::new(),
            Found::Text(text) => text.to_owned(),
            Found::Number(number) => number.to_string(),
            Found::Bool(value) => value.to_string(),
        }
    }
}

/// Where something stands in a message.
#[derive(Debug, Clone)]
pub(super) enum Address {
    /// At a JSON pointer.
    Json(Slot),
    /// In a line `NAME:value` before the first empty line.
    Header(String),
    /// After the first empty line, up to a NUL.
    Body,
    /// The digits right after the rule's prefix.
    Digits,
    /// After the first such text, up to a line's end or a NUL at the end.
    After(String),
}

impl Address {
    fn compile(text: &str, pointers: &mut Pointers) -> Result<Address, String> {
        match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => Ok(Address::Header(name.to_owned())),
            Some(("after", text)) if !text.is_empty() => Ok(Address::After(text.to_owned())),
            _ if text == "body" => Ok(Address::Body),
            _ if text == "digits" => Ok(Address::Digits),
            _ if text.is_empty() || text.starts_with('/') => Ok(Address::Json(pointers.add(text)?)),
            _ => Err(format!(
                "{text:?} must be a JSON pointer such as /data/id, header:NAME, body, digits or after:TEXT"
            )),
        }
    }

    fn find<'m>(&self, message: &'m Message<'_>, prefix: &str) -> Found<'m> {
        let text = match self {
            Address::Json(slot) => {
                return match message.values.get(*slot) {
                    Value::Absent => Found::Absent,
                    Value::Text(text) => Found::Text(text),
                    Value::Number(number) => Found::Number(*number),
                    Value::Bool(value) => Found::Bool(*value),
                    Value::Other => Found::Other,
                };
            }
            Address::Header(name) => header(message.text, name),
            Address::Body => body(message.text),
            Address::After(start) => {
                message.text.split_once(start.as_str()).map(|(_, rest)| rest.trim_end_matches(['\r', '\n', '\0']))
            }
            Address::Digits => message.text.strip_prefix(prefix).and_then(|rest| {
                let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                rest.get(..digits).filter(|digits| !digits.is_empty())
            }),
        };
        text.map_or(Found::Absent, Found::Text)
    }
}

fn header<'m>(text: &'m str, name: &str) -> Option<&'m str> {
    let lines = text.split('\n').map(|line| line.trim_end_matches('\r')).skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_once(':')).find(|(its, _)| *its == name).map(|(_, value)| value)
}

fn body(text: &str) -> Option<&str> {
    let (_, body) = text.split_once("\n\n").or_else(|| text.split_once("\n\r\n"))?;
    Some(body.split('\0').next().unwrap_or_default())
}

#[derive(Debug)]
enum Expected {
    Text(String),
    Number(u64),
    Bool(bool),
}

impl Expected {
    fn is(&self, found: Found<'_>) -> bool {
        match (self, found) {
            (Expected::Text(text), Found::Text(found)) => text == found,
            (Expected::Number(number), found) => found.number() == Some(*number),
            (Expected::Bool(value), Found::Bool(found)) => *value == found,
            _ => false,
        }
    }
}

/// What a message must be like. All conditions hold.
#[derive(Debug, Default)]
pub(super) struct Match {
    text: Option<String>,
    prefix: String,
    has: Vec<Address>,
    equal: Vec<(Address, Expected)>,
}

impl Match {
    pub(super) fn matches(&self, message: &Message<'_>) -> bool {
        message.text.starts_with(&self.prefix)
            && self.text.as_deref().is_none_or(|text| text == message.text)
            && self.equal.iter().all(|(address, expected)| expected.is(address.find(message, &self.prefix)))
            && self.has.iter().all(|address| address.find(message, &self.prefix) != Found::Absent)
    }

    pub(super) fn find<'m>(&self, address: &Option<Address>, message: &'m Message<'_>) -> Found<'m> {
        address.as_ref().map_or(Found::Absent, |address| address.find(message, &self.prefix))
    }
}

/// Compiles rules and addresses of one description.
#[derive(Debug)]
pub(super) struct Compiler<'c> {
    pub(super) pointers: &'c mut Pointers,
    pub(super) variables: &'c Variables,
}

impl Compiler<'_> {
    /// The match table `key` of `section`.
    pub(super) fn rule(&mut self, section: &Section<'_>, key: &str) -> Result<Match, LoadError> {
        let table = section.needed_table(key, MATCH_KEYS)?;
        let mut rule = Match {
            text: table.text("text")?.map(|text| self.constant(&table, "text", text)).transpose()?,
            prefix: self.constant(&table, "prefix", table.text("prefix")?.unwrap_or_default())?,
            ..Match::default()
        };
        for address in table.texts("has")? {
            rule.has.push(self.compile(&table, "has", address)?);
        }
        if let Some(equal) = table.open_table("where")? {
            for address in equal.keys() {
                let expected = match equal.value(address) {
                    Some(Toml::String(text)) => Expected::Text(self.constant(&equal, address, text)?),
                    Some(Toml::Boolean(value)) => Expected::Bool(*value),
                    Some(Toml::Integer(number)) => Expected::Number((*number).try_into().unwrap_or(u64::MAX)),
                    _ => return Err(equal.error(address, "it must be a text, a whole number, true or false")),
                };
                rule.equal.push((self.compile(&equal, address, address)?, expected));
            }
        }
        if rule.text.is_none() && rule.prefix.is_empty() && rule.has.is_empty() && rule.equal.is_empty() {
            return Err(section.error(key, "it matches everything: add text, prefix, has or where"));
        }
        Ok(rule)
    }

    /// The address `key` of `section`, if it has one.
    pub(super) fn address(&mut self, section: &Section<'_>, key: &str) -> Result<Option<Address>, LoadError> {
        section.text(key)?.map(|address| self.compile(section, key, address)).transpose()
    }

    /// The template `key` of `section`, if it has one.
    pub(super) fn template(
        &self,
        section: &Section<'_>,
        key: &str,
        place: Place,
    ) -> Result<Option<Template>, LoadError> {
        let compile = |text| Template::compile(text, self.variables, place).map_err(|why| section.error(key, &why));
        section.text(key)?.map(compile).transpose()
    }

    pub(super) fn needed_template(
        &self,
        section: &Section<'_>,
        key: &str,
        place: Place,
    ) -> Result<Template, LoadError> {
        section.needed_text(key)?;
        Ok(self.template(section, key, place)?.unwrap_or_default())
    }

    fn compile(&mut self, section: &Section<'_>, key: &str, address: &str) -> Result<Address, LoadError> {
        Address::compile(address, self.pointers).map_err(|why| section.error(key, &why))
    }

    /// A text in which variables stand that are the same for all connections.
    fn constant(&self, section: &Section<'_>, key: &str, text: &str) -> Result<String, LoadError> {
        let template = Template::compile(text, self.variables, Place::Connection);
        let template = template.map_err(|why| section.error(key, &why))?;
        template.constant().ok_or_else(|| section.error(key, "only variables that are plain texts may stand here"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const STOMP: &str = "MESSAGE\nsubscription:0\r\nmessage-id:7\nlt-id:x:y\n\nhello\nyou\0\n";

    fn found<'m>(address: &str, message: &'m Message<'_>, prefix: &str) -> Found<'m> {
        Address::compile(address, &mut Pointers::new()).unwrap().find(message, prefix)
    }

    #[test]
    fn parts_of_text_frames() {
        let message = Message { text: STOMP, values: Values::default() };
        assert_eq!(found("header:subscription", &message, ""), Found::Text("0"));
        assert_eq!(found("header:lt-id", &message, ""), Found::Text("x:y"));
        assert_eq!(found("header:hello", &message, ""), Found::Absent);
        assert_eq!(found("body", &message, ""), Found::Text("hello\nyou"));
        let message = Message { text: "4317[\"ok\"]", values: Values::default() };
        assert_eq!(found("digits", &message, "43").number(), Some(17));
        assert_eq!(found("digits", &message, "4317"), Found::Absent);
        let message = Message { text: ":me!u@h PRIVMSG #room :a b\r\n", values: Values::default() };
        assert_eq!(found("after: PRIVMSG #room :", &message, ""), Found::Text("a b"));
        assert_eq!(found("after: PRIVMSG #other :", &message, ""), Found::Absent);
        assert_eq!(found("body", &message, ""), Found::Absent);
    }

    #[test]
    fn addresses_that_are_none_say_what_may_stand_there() {
        for bad in ["id", "header:", "Header:x", "data.id", "after:"] {
            assert!(Address::compile(bad, &mut Pointers::new()).unwrap_err().contains("JSON pointer such as"), "{bad}");
        }
    }
}
