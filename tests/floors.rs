//! The floors of `src/lib.rs`: imports run down only.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// The modules of the top level that a file names by `crate::`, outside comments and tests.
fn imports(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text
        .lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .map(|line| line.split("//").next().unwrap_or_default())
        .filter(|line| !line.trim_start().starts_with("pub(in crate::"))
        .collect();
    let code = code.join("\n");
    let mut found = BTreeSet::new();
    for behind in code.split("crate::").skip(1) {
        match behind.strip_prefix('{') {
            // `use crate::{a::b, c}` names the first part of each.
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                found.extend(group.split(',').map(first_part));
            }
            None => {
                found.insert(first_part(behind));
            }
        }
    }
    found
}

fn first_part(path: &str) -> String {
    path.trim()
        .chars()
        .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
        .collect()
}

/// The module of the top level that a file belongs to, and whether it has only tests.
fn module(path: &Path) -> (String, bool) {
    let inside = path.strip_prefix(source()).unwrap();
    let is_test = inside.iter().any(|part| {
        let part = part.to_str().unwrap();
        part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs")
    });
    let first = inside.iter().next().unwrap().to_str().unwrap();
    (first.trim_end_matches(".rs").to_owned(), is_test)
}

#[test]
fn every_module_has_a_floor_and_imports_only_from_below() {
    let floors = floors();
    let mut all = Vec::new();
    files(&source(), &mut all);
    assert!(all.len() > 250, "{}", all.len());
    let mut seen = BTreeSet::from(["main".to_owned()]);
    let mut wrong = Vec::new();
    for path in all {
        let (module, is_test) = module(&path);
        if module == "lib" || is_test {
            continue;
        }
        let floor = *floors.get(&module).unwrap_or_else(|| {
            panic!("`{module}` is in no row of the table of floors in src/lib.rs")
        });
        let text = std::fs::read_to_string(&path).unwrap();
        for import in imports(&text) {
            // Macros of the crate have no floor.
            let Some(&below) = floors.get(&import) else {
                continue;
            };
            if import != module && below <= floor {
                wrong.push(format!("{} imports `crate::{import}`", path.display()));
            }
        }
        seen.insert(module);
    }
    assert!(
        wrong.is_empty(),
        "imports that run up or sideways:\n{}",
        wrong.join("\n")
    );
    let named: BTreeSet<String> = floors.into_keys().collect();
    assert_eq!(
        named, seen,
        "the table of floors names the modules that there are"
    );
}
