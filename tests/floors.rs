//! The floors of `src/lib.rs`: imports run down only, and inside a room no circle has more than
//! three files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The most files that may import each other in a circle.
const LARGEST_CIRCLE: usize = 3;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The table of `src/lib.rs`: each module with the number of its row, from the top.
fn floors() -> BTreeMap<String, usize> {
    let map = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let table = map.split("//! # Floors").nth(1).unwrap();
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with("//! |---"))
        .skip(1)
        .map_while(|line| line.strip_prefix("//! | "));
    let mut floors = BTreeMap::new();
    for (number, row) in rows.enumerate() {
        let modules = row.split(" | ").next().unwrap();
        for module in modules.split(", ") {
            let module = module.trim_matches('`').to_owned();
            assert!(floors.insert(module, number).is_none(), "twice in {row}");
        }
    }
    floors
}

/// A file of `src` that is no test: where it is, its module path, and the module paths it imports.
struct File {
    path: PathBuf,
    module: Vec<String>,
    imports: BTreeSet<Vec<String>>,
}

fn files() -> Vec<File> {
    let mut paths = Vec::new();
    walk(&source(), &mut paths);
    let files: Vec<File> = paths.into_iter().filter_map(read).collect();
    assert!(files.len() > 250, "{}", files.len());
    files
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

fn read(path: PathBuf) -> Option<File> {
    let inside = path.strip_prefix(source()).unwrap().with_extension("");
    let mut module: Vec<String> = inside
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    let is_test = |part: &String| part == "tests" || part.ends_with("_tests");
    if module.iter().any(is_test) || module == ["lib"] {
        return None;
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let imports = imports(&code(&text), &module);
    Some(File {
        path,
        module,
        imports,
    })
}

/// The text without comments, tests and visibilities.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut is_test = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        match (is_test, line.trim()) {
            (_, "#[cfg(test)]") => is_test = true,
            // The tests of a file are its last item.
            (true, item) if item.starts_with("mod ") && item.ends_with('{') => break,
            (true, item) if item.ends_with([';', '{']) => is_test = false,
            (true, _) => {}
            (false, _) => {
                code.push_str(line);
                code.push('\n');
            }
        }
    }
    let mut kept = String::with_capacity(code.len());
    for (index, part) in code.split("pub(in ").enumerate() {
        let rest = match index {
            0 => part,
            _ => part.split_once(')').map_or("", |(_, rest)| rest),
        };
        kept.push_str(rest);
    }
    kept
}

/// Every path that begins with `crate`, `super` or `self`, from the crate's root.
fn imports(code: &str, module: &[String]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let is_name = |before: Option<char>| {
        before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
    };
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            if is_name(code[..at].chars().next_back()) {
                continue;
            }
            let start: Vec<String> = match root {
                "crate::" => Vec::new(),
                "self::" => module.to_vec(),
                _ => module.split_last().map_or(&[][..], |(_, up)| up).to_vec(),
            };
            expand(&code[at + root.len()..], start, &mut found);
        }
    }
    // `use child::Name;` in a mod.rs.
    for (at, _) in code.match_indices("use ") {
        let first = first_part(&code[at + 4..]);
        if code.contains(&format!("mod {first};")) {
            expand(&code[at + 4..], module.to_vec(), &mut found);
        }
    }
    found
}

/// Adds the paths of a use tree that begins here.
fn expand(tree: &str, mut path: Vec<String>, found: &mut BTreeSet<Vec<String>>) {
    let tree = tree.trim_start();
    if let Some(group) = tree.strip_prefix('{') {
        let (mut depth, mut start) = (1, 0);
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || depth == 1 && character == ',' {
                expand(&group[start..at], path.clone(), found);
                start = at + 1;
            }
            if depth == 0 {
                return;
            }
        }
        return;
    }
    let part = first_part(tree);
    let rest = &tree[part.len()..];
    if part == "super" {
        path.pop();
    } else if !part.is_empty() && part != "self" {
        path.push(part);
    }
    match rest.strip_prefix("::") {
        Some(rest) => expand(rest, path, found),
        None => drop(found.insert(path)),
    }
}

fn first_part(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
        .collect()
}

#[test]
fn every_module_has_a_floor_and_imports_only_from_below() {
    let floors = floors();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in files() {
        let module = file.module.first().unwrap();
        let floor = *floors.get(module).unwrap_or_else(|| {
            panic!("`{module}` is in no row of the table of floors in src/lib.rs")
        });
        for import in &file.imports {
            // Macros of the crate have no floor.
            let Some((first, below)) = import.first().and_then(|one| floors.get_key_value(one))
            else {
                continue;
            };
            if first != module && *below <= floor {
                let path = file.path.display();
                wrong.push(format!("{path} imports {}", import.join("::")));
            }
        }
        seen.insert(module.clone());
    }
    assert!(
        wrong.is_empty(),
        "imports that run up or sideways:\n{}",
        wrong.join("\n")
    );
    let named: BTreeSet<String> = floors.into_keys().collect();
    assert_eq!(named, seen, "the table names the modules that there are");
}

#[test]
fn no_circle_of_imports_has_more_than_three_files() {
    let files = files();
    let by_module: BTreeMap<&[String], usize> = files
        .iter()
        .enumerate()
        .map(|(index, file)| (file.module.as_slice(), index))
        .collect();
    let file_of = |import: &[String]| {
        (1..=import.len())
            .rev()
            .find_map(|length| by_module.get(&import[..length]).copied())
    };
    let reached: Vec<BTreeSet<usize>> = (0..files.len())
        .map(|start| {
            let mut reached = BTreeSet::new();
            let mut next = vec![start];
            while let Some(index) = next.pop() {
                let imports = files[index].imports.iter();
                for to in imports.filter_map(|import| file_of(import)) {
                    if to != index && reached.insert(to) {
                        next.push(to);
                    }
                }
            }
            reached
        })
        .collect();
    let circle = |start: usize| -> Vec<String> {
        let others = reached[start].iter();
        let circle = others.filter(|other| reached[**other].contains(&start));
        circle
            .map(|other| files[*other].module.join("::"))
            .collect()
    };
    let circles: BTreeSet<Vec<String>> = (0..files.len()).map(circle).collect();
    let large: Vec<String> = circles
        .iter()
        .filter(|circle| circle.len() > LARGEST_CIRCLE)
        .map(|circle| circle.join(", "))
        .collect();
    assert!(large.is_empty(), "{}", large.join("\n"));
}
