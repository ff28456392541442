//! Results held against loadtest/schema/result.schema.json. Knows as much of JSON Schema as that file uses, and refuses the rest.

use serde_json::{Map, Value};

/// The schema.
pub(crate) fn schema() -> Value {
    serde_json::from_str(include_str!("../../../schema/result.schema.json")).unwrap()
}

/// Fails with everything in `result` that is not as the schema has it.
pub(crate) fn check(result: &Value) {
    let schema = schema();
    let mut wrong = Vec::new();
    hold(&schema, &schema, result, "", &mut wrong);
    assert!(wrong.is_empty(), "not as in result.schema.json, which docs/loadtest.md explains:\n{}", wrong.join("\n"));
}

fn hold(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let Value::Object(rules) = schema else { panic!("{at}: a schema is an object, not {schema}") };
    for (rule, wanted) in rules {
        let is_good = match rule.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let target = root.pointer(wanted.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
                hold(root, target, value, at, wrong);
                true
            }
            "type" => match wanted {
                Value::Array(types) => types.iter().any(|it| is_a(it, value)),
                one => is_a(one, value),
            },
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "required" => value.as_object().is_none_or(|fields| {
                let missing =
                    wanted.as_array().unwrap().iter().find(|name| !fields.contains_key(name.as_str().unwrap()));
                missing.inspect(|name| wrong.push(format!("{at}: no {name}"))).is_none()
            }),
            "properties" | "additionalProperties" => true,
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    hold(root, wanted, item, &format!("{at}/{number}"), wrong);
                }
                true
            }
            other => panic!("{at}: this check does not know {other:?}"),
        };
        if !is_good {
            wrong.push(format!("{at}: {value} is not {rule} {wanted}"));
        }
    }
    if let Value::Object(fields) = value {
        hold_fields(root, rules, fields, at, wrong);
    }
}

fn hold_fields(
    root: &Value,
    rules: &Map<String, Value>,
    fields: &Map<String, Value>,
    at: &str,
    wrong: &mut Vec<String>,
) {
    let known = rules.get("properties").and_then(Value::as_object);
    for (name, field) in fields {
        let at = format!("{at}/{name}");
        match (known.and_then(|known| known.get(name)), rules.get("additionalProperties")) {
            (Some(schema), _) => hold(root, schema, field, &at, wrong),
            (None, Some(Value::Bool(false))) => wrong.push(format!("{at}: not in the schema")),
            (None, Some(schema)) => hold(root, schema, field, &at, wrong),
            // Where the schema is only a reference.
            (None, None) => assert!(rules.contains_key("$ref"), "{at}: the schema leaves open what stands there"),
        }
    }
}

fn is_a(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("no type {other:?}"),
    }
}
