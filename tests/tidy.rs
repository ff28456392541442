//! The house's own rules, checked on every run: who may depend on whom, file sizes, no circles of files, where
//! `unsafe` may stand, and that ARCHITECTURE.md names every crate.
#![allow(clippy::unwrap_used, reason = "a broken checkout may fail this test in any way")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const STRUCT_FIELDS_MAX: usize = 12;

#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        (
            "gochat",
            &["gochat-gateway", "gochat-logic", "gochat-repo", "gochat-task", "gochat-infra", "gochat-proto"][..],
        ),
        ("gochat-gateway", &["gochat-ring", "gochat-ws", "gochat-infra", "gochat-proto"][..]),
        ("gochat-logic", &["gochat-infra", "gochat-proto"][..]),
        ("gochat-repo", &["gochat-infra", "gochat-proto"][..]),
        ("gochat-task", &["gochat-infra", "gochat-proto"][..]),
        ("gochat-infra", &["gochat-proto"][..]),
        ("gochat-loadtest", &["gochat-ring", "gochat-ws", "gochat-proto"][..]),
        ("gochat-ring", &[][..]),
        ("gochat-ws", &[][..]),
        ("gochat-proto", &[][..]),
        ("xtask", &[][..]),
    ]);
    let mut wrong = Vec::new();
    for (name, dependencies) in workspace_dependencies() {
        // Test-only crates may look at everything; nothing may look at them.
        let Some(allowed) = allowed.get(name.as_str()) else { continue };
        for dependency in dependencies {
            if !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} -> {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden edges between crates: {wrong:?}");
}

#[test]
fn architecture_names_every_crate() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let missing: Vec<_> =
        workspace_dependencies().into_keys().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md has no word about {missing:?}");
}

#[test]
fn architecture_names_only_files_that_exist() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let missing: Vec<_> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| {
            word.contains('/') && word.rsplit('/').next().unwrap().contains('.') && !word.contains([' ', '*', '{'])
        })
        .filter(|word| !root().join(word).exists())
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names files that do not exist: {missing:?}");
}

#[test]
fn dependencies_are_justified() {
    let page = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let missing: Vec<_> = section
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()))
        .filter(|name| !name.starts_with("gochat-") && !page.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "docs/dependencies.md does not say what these are for: {missing:?}");
}

#[test]
fn files_functions_and_structs_stay_small() {
    let mut wrong = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root()).unwrap().display();
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{name}: {lines} lines"));
        }
        for (item, at, size) in long_items(&text) {
            wrong.push(format!("{name}:{at}: {item} has {size}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "split by owner, or mark with `// tidy: <reason>` on the line above:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_file_says_what_it_owns() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|file| !fs::read_to_string(file).unwrap().trim_start().starts_with("//!"))
        .map(|file| file.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    assert!(silent.is_empty(), "no `//!` line at the top of {silent:?}");
}

#[test]
fn unsafe_stands_only_in_the_reactors() {
    let outside: Vec<_> = sources()
        .into_iter()
        .filter(|file| !file.starts_with(root().join("gateway/ring/src")) && !file.starts_with(root().join("benches")))
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.lines().any(|line| {
                let code = line.split("//").next().unwrap();
                code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
            })
        })
        .map(|file| file.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    assert!(outside.is_empty(), "unsafe outside gateway/ring: {outside:?}");
}

#[test]
fn no_circle_of_files() {
    let mut circles = Vec::new();
    for src in source_dirs() {
        let graph = import_graph(&src);
        for circle in circles_of(&graph) {
            circles.push(format!("{}: {}", src.strip_prefix(root()).unwrap().display(), circle.join(" -> ")));
        }
    }
    assert!(circles.is_empty(), "files that import each other in a circle:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let graph = BTreeMap::from([
        ("a".to_owned(), BTreeSet::from(["b".to_owned()])),
        ("b".to_owned(), BTreeSet::from(["c".to_owned()])),
        ("c".to_owned(), BTreeSet::from(["a".to_owned()])),
    ]);
    assert_eq!(circles_of(&graph).len(), 1);
    let text = format!("fn long() {{\n{}}}\nstruct S {{\n{}}}\n", "    x();\n".repeat(90), "    a: u8,\n".repeat(13));
    assert_eq!(long_items(&text).len(), 2);
}

fn root() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap())
}

/// Normal dependencies between the workspace's own crates.
fn workspace_dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["metadata", "--no-deps", "--format-version", "1"];
    let out = Command::new(cargo).args(args).current_dir(root()).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<_> = packages.iter().map(|p| p["name"].as_str().unwrap().to_owned()).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let normal = dependencies.filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().unwrap().to_owned());
            (package["name"].as_str().unwrap().to_owned(), normal.filter(|name| ours.contains(name)).collect())
        })
        .collect()
}

fn source_dirs() -> Vec<PathBuf> {
    let dirs = [
        "src",
        "proto/src",
        "infra/src",
        "gateway/src",
        "gateway/ws/src",
        "gateway/ring/src",
        "backend/logic/src",
        "backend/repo/src",
        "backend/task/src",
        "backend/sim/src",
        "loadtest/src",
        "benches/src",
        "xtask/src",
    ];
    dirs.iter().map(|dir| root().join(dir)).filter(|dir| dir.exists()).collect()
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = source_dirs();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Functions that are too long and structs with too many fields. Relies on rustfmt: an item ends at its own indent.
fn long_items(text: &str) -> Vec<(String, usize, String)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let words = || code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        let prefix = |w: &&str| ["pub", "crate", "super", "async", "const", "unsafe", "in", "self"].contains(w);
        let mut rest = words().skip_while(prefix);
        let (Some(kind @ ("fn" | "struct")), Some(name)) = (rest.next(), rest.next()) else { continue };
        if at > 0 && lines[at - 1].trim_start().starts_with("// tidy:") {
            continue;
        }
        let ends = |l: &&str| l.starts_with(&format!("{}}}", " ".repeat(indent))) && l.trim_end().ends_with('}');
        if line.trim_end().ends_with(';') || line.trim_end().ends_with('}') {
            continue;
        }
        let Some(size) = lines[at + 1..].iter().position(ends) else { continue };
        if kind == "fn" && size > FUNCTION_LINES_MAX {
            found.push((format!("fn {name}"), at + 1, format!("{size} lines")));
        }
        let field = |l: &&&str| {
            let l = l.trim_start();
            !l.starts_with("//") && !l.starts_with('#') && l.contains(": ") && l.ends_with(',')
        };
        let fields = lines[at + 1..at + 1 + size].iter().filter(field).count();
        if kind == "struct" && fields > STRUCT_FIELDS_MAX {
            found.push((format!("struct {name}"), at + 1, format!("{fields} fields")));
        }
    }
    found
}

/// Which file names which by `crate::` or `super::` paths, by module path. A parent that only declares or re-exports its child is no
/// import; a child that names its parent's own items is.
fn import_graph(src: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut modules = BTreeMap::new();
    for file in sources().into_iter().filter(|file| file.starts_with(src)) {
        let relative = file.strip_prefix(src).unwrap().with_extension("");
        let mut parts: Vec<_> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            parts.pop();
        }
        modules.insert(parts.join("::"), fs::read_to_string(&file).unwrap());
    }
    let names: BTreeSet<_> = modules.keys().cloned().collect();
    let mut graph = BTreeMap::new();
    for (module, text) in &modules {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let mut imports = BTreeSet::new();
        for path in paths_in(code, module) {
            let mut target = path.as_str();
            while !target.is_empty() && !names.contains(target) {
                target = target.rsplit_once("::").map_or("", |(head, _)| head);
            }
            if !target.is_empty() && target != module {
                imports.insert(target.to_owned());
            }
        }
        graph.insert(module.clone(), imports);
    }
    graph
}

/// Absolute module paths (without `crate::`) that code of `module` names, groups of a `use` spread out.
fn paths_in(code: &str, module: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (start, base) in
        [("crate::", String::new()), ("super::", module.rsplit_once("::").map_or("", |(head, _)| head).to_owned())]
    {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let tail = &code[at + start.len()..];
            spread(tail, &base, &mut found);
        }
    }
    found
}

fn spread(tail: &str, base: &str, found: &mut Vec<String>) {
    let end = tail.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(tail.len());
    let head = tail[..end].trim_end_matches("::");
    let joined = [base, head].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("::");
    if tail[end..].starts_with('{') && tail[..end].ends_with("::") || (end == 0 && tail.starts_with('{')) {
        let mut depth = 0;
        let mut item = String::new();
        for c in tail[end..].chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (c == ',' && depth == 1) || depth == 0 {
                spread(item.trim(), &joined, found);
                item.clear();
            } else if !(c == '{' && depth == 1) {
                item.push(c);
            }
            if depth == 0 {
                break;
            }
        }
    } else if !joined.is_empty() {
        found.push(joined);
    }
}

/// Strongly connected groups of more than one file, each once.
fn circles_of(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reaches = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(node) = open.pop() {
            for next in graph.get(&node).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reach: BTreeMap<_, _> = graph.keys().map(|node| (node.clone(), reaches(node))).collect();
    let mut done = BTreeSet::new();
    let mut circles = Vec::new();
    for (node, seen) in &reach {
        if !seen.contains(node) || done.contains(node) {
            continue;
        }
        let group: Vec<_> =
            seen.iter().filter(|other| reach.get(*other).is_some_and(|r| r.contains(node))).cloned().collect();
        done.extend(group.iter().cloned());
        circles.push(group);
    }
    circles
}
