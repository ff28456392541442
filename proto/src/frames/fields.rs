//! One pass over a client's frame: the envelope and every field any frame type knows, borrowed from the input.
//!
//! Owns JSON syntax, nesting depth and synonyms of names. Never knows which frame type needs which field.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::limits::DEPTH_MAX;

/// A field's value as far as frames need it. A string borrows from the input unless it has escapes.
#[derive(Debug, Default)]
pub(super) enum Value<'a> {
    /// Absent, or null.
    #[default]
    Absent,
    Int(i64),
    Text(Cow<'a, str>),
    /// Anything else: no frame has a field of such a type.
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Envelope<'a> {
    pub(super) kind: Value<'a>,
    /// `None`: absent or not an object.
    pub(super) data: Option<Fields<'a>>,
}

/// Of a name that stands twice, the last one counts.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) conversation_id: Value<'a>,
    pub(super) content: Value<'a>,
    pub(super) message_type: Value<'a>,
    pub(super) client_msg_id: Value<'a>,
    pub(super) temp_message_id: Value<'a>,
    pub(super) extra: Value<'a>,
    pub(super) seq_id: Value<'a>,
    pub(super) message_id: Value<'a>,
    pub(super) reason: Value<'a>,
    pub(super) token: Value<'a>,
}

/// `None`: not one JSON object, not UTF-8, or nested deeper than [`DEPTH_MAX`].
pub(super) fn envelope(input: &[u8]) -> Option<Envelope<'_>> {
    let mut json = serde_json::Deserializer::from_slice(input);
    let envelope = Envelope::deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(envelope)
}

/// As [`envelope`], for an object that is the data itself.
pub(super) fn body(input: &[u8]) -> Option<Fields<'_>> {
    let mut json = serde_json::Deserializer::from_slice(input);
    let fields = Data(1).deserialize(&mut json).ok()??;
    json.end().ok()?;
    Some(fields)
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor;

        impl<'de> Visitor<'de> for EnvelopeVisitor {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        "type" => envelope.kind = map.next_value_seed(Any(2))?,
                        "data" => envelope.data = map.next_value_seed(Data(2))?,
                        _ => drop(map.next_value_seed(Any(2))?),
                    }
                }
                Ok(envelope)
            }
        }

        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

/// The data object at the given level; anything that is not an object gives `None`.
struct Data(u8);

impl<'de> DeserializeSeed<'de> for Data {
    type Value = Option<Fields<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Data {
    type Value = Option<Fields<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(Text(key)) = map.next_key()? {
            let value = map.next_value_seed(Any(self.0 + 1))?;
            match &*key {
                "conversationId" => fields.conversation_id = value,
                "content" => fields.content = value,
                "messageType" => fields.message_type = value,
                "client_msg_id" | "clientMsgId" => fields.client_msg_id = value,
                "tempMessageId" => fields.temp_message_id = value,
                "extra" => fields.extra = value,
                "seqId" => fields.seq_id = value,
                "messageId" => fields.message_id = value,
                "reason" => fields.reason = value,
                "token" => fields.token = value,
                _ => {}
            }
        }
        Ok(Some(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Any(self.0).visit_seq(seq).map(|_| None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Any value; an object or array in it stands at the given level.
#[derive(Clone, Copy)]
struct Any(u8);

impl Any {
    fn inner<E: de::Error>(self) -> Result<Any, E> {
        if self.0 > DEPTH_MAX { Err(E::custom("nested too deep")) } else { Ok(Any(self.0 + 1)) }
    }
}

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        let inner = self.inner()?;
        while let Some(Text(_)) = map.next_key()? {
            map.next_value_seed(inner)?;
        }
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        let inner = self.inner()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(number).map_or(Value::Other, Value::Int))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Absent)
    }
}

/// A key, borrowed unless it has escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}
