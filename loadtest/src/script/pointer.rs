//! JSON pointers (RFC 6901) of a description, all found in one pass over a message, borrowed from it and without a tree.
//! Owns reading; what a value means is the rules'.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Different pointers in one description.
const SLOTS_MAX: usize = 24;

/// The number of a pointer.
pub(super) type Slot = usize;

/// What stands at a pointer. `null` counts as nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Value<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Number(u64),
    Bool(bool),
    /// An object, a list, or a number that is negative or has a fraction.
    Other,
}

/// What stands at each pointer of one message.
#[derive(Debug, Default)]
pub(super) struct Values<'a>([Value<'a>; SLOTS_MAX]);

impl<'a> Values<'a> {
    pub(super) fn get(&self, slot: Slot) -> &Value<'a> {
        self.0.get(slot).unwrap_or(&Value::Absent)
    }
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(Box<str>, usize)>,
    /// The same for children whose names are positions in a list.
    elements: Vec<(usize, usize)>,
    slot: Option<Slot>,
}

/// All pointers of a description.
#[derive(Debug)]
pub(super) struct Pointers {
    nodes: Vec<Node>,
    slots: usize,
}

impl Pointers {
    pub(super) fn new() -> Pointers {
        Pointers { nodes: vec![Node::default()], slots: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// Adds a pointer, or finds it. The error says what is wrong with it.
    pub(super) fn add(&mut self, pointer: &str) -> Result<Slot, String> {
        let mut at = 0;
        if !pointer.is_empty() {
            let names = pointer.strip_prefix('/');
            let names =
                names.ok_or_else(|| format!("the JSON pointer {pointer:?} must begin with /, as in /data/id"))?;
            for name in names.split('/') {
                at = self.child(at, &unescape(name, pointer)?);
            }
        }
        let (slots, node) = (self.slots, self.nodes.get_mut(at));
        let Some(node) = node else { return Err(format!("the JSON pointer {pointer:?} leads nowhere")) };
        if node.slot.is_none() {
            if slots == SLOTS_MAX {
                return Err(format!("a description has at most {SLOTS_MAX} different JSON pointers: remove some"));
            }
            self.slots += 1;
        }
        Ok(*node.slot.get_or_insert(slots))
    }

    fn child(&mut self, at: usize, name: &str) -> usize {
        if let Some(child) = self.named(at, name) {
            return child;
        }
        let new = self.nodes.len();
        if let Some(node) = self.nodes.get_mut(at) {
            node.children.push((name.into(), new));
            let position = name.parse::<usize>().ok().filter(|position| position.to_string() == name);
            node.elements.extend(position.map(|position| (position, new)));
        }
        self.nodes.push(Node::default());
        new
    }

    fn named(&self, at: usize, name: &str) -> Option<usize> {
        let (_, child) = self.nodes.get(at)?.children.iter().find(|(its, _)| **its == *name)?;
        Some(*child)
    }

    fn element(&self, at: usize, position: usize) -> Option<usize> {
        let (_, child) = self.nodes.get(at)?.elements.iter().find(|(its, _)| *its == position)?;
        Some(*child)
    }

    /// The values of one message; `None` when it is not JSON.
    pub(super) fn read<'a>(&self, json: &'a str) -> Option<Values<'a>> {
        let mut values = Values::default();
        let mut json = serde_json::Deserializer::from_str(json);
        Walk { pointers: self, at: 0, values: &mut values }.deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(values)
    }

    /// Calls `each` with the values of every message in a JSON list. Whether it was one.
    pub(super) fn read_list<'a>(&self, json: &'a str, each: &mut dyn FnMut(Values<'a>)) -> bool {
        let mut json = serde_json::Deserializer::from_str(json);
        let list = List { pointers: self, each };
        list.deserialize(&mut json).is_ok() && json.end().is_ok()
    }
}

/// `~1` stands for `/`, `~0` for `~`.
fn unescape(name: &str, pointer: &str) -> Result<String, String> {
    let mut parts = name.split('~');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => return Err(format!("the JSON pointer {pointer:?} has a ~ that is neither ~0 (for ~) nor ~1 (for /)")),
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    Ok(plain)
}

/// Goes through one value of a message.
struct Walk<'p, 'v, 'de> {
    pointers: &'p Pointers,
    at: usize,
    values: &'v mut Values<'de>,
}

impl<'de> Walk<'_, '_, 'de> {
    fn set<E>(self, value: impl FnOnce() -> Value<'de>) -> Result<(), E> {
        let slot = self.pointers.nodes.get(self.at).and_then(|node| node.slot);
        if let Some(place) = slot.and_then(|slot| self.values.0.get_mut(slot)) {
            *place = value();
        }
        Ok(())
    }

    fn below(&mut self, at: usize) -> Walk<'_, '_, 'de> {
        Walk { pointers: self.pointers, at, values: self.values }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.set(|| Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.set(|| Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.set(|| Value::Number(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.set(|| u64::try_from(number).map_or(Value::Other, Value::Number))
    }

    fn visit_f64<E: Error>(self, _number: f64) -> Result<(), E> {
        self.set(|| Value::Other)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.set(|| Value::Bool(value))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(Name { pointers: self.pointers, at: self.at })? {
            match child {
                Some(at) => map.next_value_seed(self.below(at))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        self.set(|| Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for position in 0.. {
            let more = match self.pointers.element(self.at, position) {
                Some(at) => list.next_element_seed(self.below(at))?.is_some(),
                None => list.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        self.set(|| Value::Other)
    }
}

/// A key of an object: where it leads.
struct Name<'p> {
    pointers: &'p Pointers,
    at: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<usize>, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.pointers.named(self.at, name))
    }
}

/// A list of messages.
struct List<'p, 'e, 'de> {
    pointers: &'p Pointers,
    each: &'e mut dyn FnMut(Values<'de>),
}

impl<'de> DeserializeSeed<'de> for List<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        loop {
            let mut values = Values::default();
            let walk = Walk { pointers: self.pointers, at: 0, values: &mut values };
            if list.next_element_seed(walk)?.is_none() {
                return Ok(());
            }
            (self.each)(values);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_examples_of_rfc_6901() {
        let json = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        let numbers = ["/", "/a~1b", "/c%d", "/e^f", "/g|h", "/i\\j", "/k\"l", "/ ", "/m~0n"];
        let mut pointers = Pointers::new();
        let slots = numbers.map(|pointer| pointers.add(pointer).unwrap());
        let [whole, list, first] = ["", "/foo", "/foo/0"].map(|pointer| pointers.add(pointer).unwrap());
        let values = pointers.read(json).unwrap();
        for (at, slot) in slots.into_iter().enumerate() {
            assert_eq!(values.get(slot), &Value::Number(at as u64), "{}", numbers[at]);
        }
        assert_eq!((values.get(whole), values.get(list)), (&Value::Other, &Value::Other));
        assert_eq!(values.get(first), &Value::Text("bar".into()));
        assert_eq!(pointers.add("/foo/0"), Ok(first), "the same again");
    }

    #[test]
    fn what_stands_at_a_pointer_is_told_apart() {
        let mut pointers = Pointers::new();
        let [a, b, c, deep] = ["/a", "/b", "/c", "/l/1/x"].map(|pointer| pointers.add(pointer).unwrap());
        let values = pointers.read(r#"{"a":"x\ny","b":null,"c":true,"l":[{"x":1},{"x":"two"}]}"#).unwrap();
        assert_eq!(values.get(a), &Value::Text("x\ny".into()));
        assert_eq!([values.get(b), values.get(c)], [&Value::Absent, &Value::Bool(true)]);
        assert!(matches!(values.get(deep), Value::Text(Cow::Borrowed("two"))), "not copied");
        let values = pointers.read(r#"{"a":-1,"b":1.5,"c":18446744073709551615,"l":{"1":{"x":3}}}"#).unwrap();
        assert_eq!(
            [values.get(a), values.get(b), values.get(c)],
            [&Value::Other, &Value::Other, &Value::Number(u64::MAX)]
        );
        assert_eq!(values.get(deep), &Value::Number(3), "a name that looks like a position");
        assert!(pointers.read("{\"a\":1").is_none() && pointers.read("{} {}").is_none());
    }

    #[test]
    fn lists_are_read_one_by_one() {
        let mut pointers = Pointers::new();
        let id = pointers.add("/id").unwrap();
        let mut seen = Vec::new();
        assert!(pointers.read_list(r#"[{"id":1},{},{"id":"x"}]"#, &mut |values| seen.push(values.get(id).clone())));
        assert_eq!(seen, [Value::Number(1), Value::Absent, Value::Text("x".into())]);
        assert!(!pointers.read_list("{}", &mut |_| {}) && !pointers.read_list("[{}", &mut |_| {}));
    }

    #[test]
    fn bad_pointers_say_why() {
        let mut pointers = Pointers::new();
        assert!(pointers.add("id").unwrap_err().contains("must begin with /"));
        assert!(pointers.add("/a~2").unwrap_err().contains("~0"));
        assert!((0..30).any(|n| pointers.add(&format!("/{n}")).is_err_and(|why| why.contains("at most"))));
    }
}
