//! Whether a value is what a JSON schema of the API's description says, with nothing beside it. Knows the part of JSON
//! Schema that the description uses, and fails on any other.

use serde_json::{Map, Value};

/// Keywords that say nothing about a value here.
const SAID_ONLY: [&str; 10] = [
    "description",
    "title",
    "format",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "examples",
    "default",
];

/// Panics, naming the place, when `value` is not what `schema` says.
pub fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = resolved(document, schema);
    if schema.contains_key("allOf") {
        return check_all(document, &schema, value, at);
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        let fits = |choice: &Value| std::panic::catch_unwind(|| check(document, choice, value, at)).is_ok();
        assert!(choices.iter().any(fits), "{at}: {value} is none of {choices:?}");
        return;
    }
    for keyword in schema.keys() {
        let known = ["type", "properties", "required", "items", "const", "enum", "minimum", "maximum"];
        assert!(known.contains(&keyword.as_str()) || SAID_ONLY.contains(&keyword.as_str()), "{at}: {keyword}?");
    }
    if let Some(only) = schema.get("const") {
        assert_eq!(value, only, "{at}");
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        assert!(choices.contains(value), "{at}: {value} is not one of {choices:?}");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => check_object(document, &schema, value, at),
        Some("array") => {
            let items = value.as_array().unwrap_or_else(|| panic!("{at}: {value} is no list"));
            for (n, item) in items.iter().enumerate() {
                check(document, &schema["items"], item, &format!("{at}[{n}]"));
            }
        }
        Some("string") => assert!(value.is_string(), "{at}: {value} is no text"),
        Some("integer") => assert!(value.is_i64() || value.is_u64(), "{at}: {value} is no integer"),
        Some("boolean") => assert!(value.is_boolean(), "{at}: {value} is not true or false"),
        Some(other) => panic!("{at}: type {other}?"),
        None => {}
    }
}

fn check_object(document: &Value, schema: &Map<String, Value>, value: &Value, at: &str) {
    let fields = value.as_object().unwrap_or_else(|| panic!("{at}: {value} is no object"));
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        assert!(fields.contains_key(name.as_str().unwrap()), "{at} lacks {name}: {value}");
    }
    let Some(properties) = schema.get("properties") else { return };
    for (name, field) in fields {
        let schema = properties.get(name).unwrap_or_else(|| panic!("{at}.{name} is not described"));
        check(document, schema, field, &format!("{at}.{name}"));
    }
}

/// All parts at once: their properties together are the properties of the whole.
fn check_all(document: &Value, schema: &Map<String, Value>, value: &Value, at: &str) {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in schema["allOf"].as_array().unwrap() {
        let part = resolved(document, part);
        properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
        required.extend(part.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
    }
    let whole = serde_json::json!({"type": "object", "properties": properties, "required": required});
    check(document, &whole, value, at);
}

fn resolved(document: &Value, schema: &Value) -> Map<String, Value> {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            let target = document.pointer(reference.strip_prefix('#').unwrap());
            resolved(document, target.unwrap_or_else(|| panic!("{reference} leads nowhere")))
        }
        None => schema.as_object().cloned().unwrap_or_default(),
    }
}
