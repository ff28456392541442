//! JSON schemas of the API's objects, in the form that both descriptions use. Owns the clean-up of what the derive makes;
//! never invents a field.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::objects::{Conversation, Friend, FriendRequest, Member, Message, User};
use crate::settings::Settings;

#[derive(OpenApi)]
#[openapi(components(schemas(Conversation, Friend, FriendRequest, Member, Message, User, Settings)))]
struct Objects;

/// The schemas of all objects, by name.
pub fn objects() -> Map<String, Value> {
    let document = serde_json::to_value(Objects::openapi()).unwrap_or_default();
    match document.pointer("/components/schemas") {
        Some(Value::Object(schemas)) => {
            let mut schemas = Value::Object(schemas.clone());
            tidy(&mut schemas);
            std::mem::take(schemas.as_object_mut().unwrap_or(&mut Map::new()))
        }
        _ => Map::new(),
    }
}

/// Brings derived schemas into the API's form: what is absent is left out and never null, and an object that was put
/// together from parts is one object.
pub fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            fields.values_mut().for_each(tidy);
            without_null(fields);
            merge_parts(fields);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn without_null(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            fields.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = fields.get_mut("oneOf") else { return };
    choices.retain(|choice| choice != &json!({"type": "null"}));
    if choices.len() != 1 {
        return;
    }
    if let Some(Value::Object(only)) = choices.pop() {
        fields.remove("oneOf");
        fields.extend(only);
    }
}

/// `allOf` of inline objects becomes one object; one that refers to others stays.
fn merge_parts(fields: &mut Map<String, Value>) {
    let Some(Value::Array(parts)) = fields.get("allOf") else { return };
    if !parts.iter().all(|part| part.get("properties").is_some()) {
        return;
    }
    let Some(Value::Array(parts)) = fields.remove("allOf") else { return };
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in parts {
        if let Some(Value::Object(more)) = part.get("properties") {
            properties.extend(more.clone());
        }
        if let Some(Value::Array(more)) = part.get("required") {
            required.extend(more.iter().cloned());
        }
    }
    fields.insert("type".to_owned(), json!("object"));
    fields.insert("properties".to_owned(), Value::Object(properties));
    fields.insert("required".to_owned(), Value::Array(required));
}

/// References of a document that lead nowhere inside of it.
pub fn dangling(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    references(document, &mut |reference| {
        let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
        if target.is_none() {
            found.push(reference.to_owned());
        }
    });
    found
}

fn references(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                see(reference);
            }
            fields.values().for_each(|value| references(value, see));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
    use super::*;
    use crate::common::v1 as wire;

    #[test]
    fn objects_have_one_level_and_no_nulls() {
        let objects = Value::Object(objects());
        assert!(!objects.to_string().contains("\"null\""), "{objects}");
        let conversation = &objects["Conversation"];
        assert_eq!(conversation["properties"]["id"]["type"], "string");
        assert_eq!(conversation["properties"]["myMembership"]["$ref"], "#/components/schemas/Member");
        assert!(conversation["required"].as_array().unwrap().contains(&json!("memberCount")));
        assert!(dangling(&json!({"components": {"schemas": objects}})).is_empty());
    }

    #[test]
    fn what_is_written_is_what_is_described() {
        let message = wire::Message {
            id: "1".into(),
            sender: Some(wire::UserInfo { id: "7".into(), username: "ann".into(), ..Default::default() }),
            extra: "{}".into(),
            updated_at: 5,
            deleted: true,
            ..wire::Message::default()
        };
        let written = serde_json::to_value(Message::from(message)).unwrap();
        let described = objects();
        let properties = described["Message"]["properties"].as_object().unwrap();
        for field in written.as_object().unwrap().keys() {
            assert!(properties.contains_key(field), "{field} is not described");
        }
        for field in described["Message"]["required"].as_array().unwrap() {
            assert!(written.get(field.as_str().unwrap()).is_some(), "{field} is not written");
        }
    }

    #[test]
    fn references_that_lead_nowhere_are_found() {
        let document = json!({"a": {"$ref": "#/b/c"}, "b": {"c": 1}, "d": [{"$ref": "#/b/x"}]});
        assert_eq!(dangling(&document), ["#/b/x"]);
    }
}
