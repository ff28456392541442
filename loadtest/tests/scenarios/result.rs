//! The JSON result: each scenario gives exactly the fields that the schema has, the documentation names each of them, and which
//! figures a scenario measures does not change unnoticed.

use serde_json::Value;

use crate::support::{chat, echo, load, publish, schema};

/// The fields of an object that have a value.
fn given(result: &Value, pointer: &str) -> String {
    let fields = result.pointer(pointer).and_then(Value::as_object).unwrap_or_else(|| panic!("no object {pointer}"));
    fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_scenario_gives_the_fields_of_the_schema() {
    let echoing = echo::serve(echo::Fault::None);
    let room = publish::serve(publish::Fault::None);
    let chats = chat::serve(chat::Fault::None);
    let pid = std::process::id();
    // The flags, then what of `latency_us` and `service_us` the run measures.
    let runs = [
        (format!("echo --url ws://{echoing}/ --connections 2 --rate 50 --server-pid {pid}"), "connect rtt", "rtt"),
        (format!("echo --url ws://{echoing}/ --connections 2 --think 5ms --size 16..64"), "connect rtt", "rtt"),
        (
            format!("echo --url ws://{echoing}/ --connections 2 --phases 300ms@20..60 --arrivals poisson"),
            "connect rtt",
            "rtt",
        ),
        (format!("echo --url ws://{echoing}/ --connections 2 --rate 50 --client tungstenite"), "connect rtt", "rtt"),
        (format!("connect --url ws://{echoing}/ --connections 2 --server-pid {pid}"), "connect", ""),
        (
            format!("publish --url ws://{room}/ --connections 3 --rate 50 --server-pid {pid}"),
            "connect deliver fanout_last",
            "deliver",
        ),
        (format!("single --url http://{chats} --pairs 1 --rate 50"), "ack connect deliver", "ack deliver"),
    ];
    for (flags, latencies, services) in runs {
        let length = match &flags {
            line if line.starts_with("connect") => "--hold 300ms",
            line if line.contains("--phases") => "--warmup 0s",
            _ => "--warmup 0s --duration 300ms",
        };
        let report = load(&format!("run {flags} {length}")).unwrap();
        let result = serde_json::from_str(&report.json().unwrap()).unwrap();
        schema::check(&result);
        assert_eq!(
            (given(&result, "/latency_us").as_str(), &*given(&result, "/service_us")),
            (latencies, services),
            "{flags}"
        );
        assert_eq!(result["lag_us"].is_null(), result["loop"] != "open", "{flags}");
        assert_eq!(result["server"].is_null(), !flags.contains("--server-pid"), "{flags}");
        assert_eq!(result["messages"].is_null(), flags.starts_with("connect"), "{flags}");
        assert!(!result["timeline"].as_array().unwrap().is_empty(), "{flags}");
    }
}

#[test]
fn a_field_that_is_missing_added_or_of_another_kind_is_found() {
    let addr = echo::serve(echo::Fault::None);
    let report = load(&format!("run echo --url ws://{addr}/ --connections 1 --warmup 0s --duration 100ms")).unwrap();
    let good = serde_json::to_value(&report).unwrap();
    schema::check(&good);
    let spoil: [fn(&mut Value); 5] = [
        |result| drop(result.as_object_mut().unwrap().remove("lag_us")),
        |result| result["latency_us"]["rtt"]["p95"] = 5.into(),
        |result| result["messages"]["sent"] = "5".into(),
        |result| result["timeline"][0]["connections"] = Value::Null,
        |result| result["schema"] = 2.into(),
    ];
    for spoil in spoil {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(std::panic::catch_unwind(|| schema::check(&bad)).is_err(), "{bad}");
    }
}

/// All names of fields in a schema.
fn names(schema: &Value, found: &mut Vec<String>) {
    let Value::Object(rules) = schema else { return };
    for (name, field) in rules.get("properties").and_then(Value::as_object).into_iter().flatten() {
        found.push(name.clone());
        names(field, found);
    }
    rules.get("$defs").and_then(Value::as_object).into_iter().flatten().for_each(|(_, schema)| names(schema, found));
}

#[test]
fn the_documentation_names_every_field() {
    let page = include_str!("../../../docs/loadtest.md");
    let (_, section) = page.split_once("## The JSON result").unwrap();
    let table = section.split("\n## ").next().unwrap();
    let words: Vec<&str> = table.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut fields = Vec::new();
    names(&schema::schema(), &mut fields);
    let silent: Vec<&String> = fields.iter().filter(|name| !words.contains(&name.as_str())).collect();
    assert!(fields.len() > 60 && silent.is_empty(), "docs/loadtest.md has no word about {silent:?}");
}
