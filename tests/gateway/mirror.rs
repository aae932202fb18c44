//! Every layer has a file, a name, a position in the order, and a test module here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use foregate::auth::LAYERS;

use crate::support::{Gateway, Http};

/// Files of `src/auth` that are not layers.
const NOT_LAYERS: [&str; 8] = [
    "mod",
    "chain",
    "caller",
    "layer",
    "permit",
    "role_table",
    "snapshot",
    "step",
];

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn layer_files() -> BTreeSet<String> {
    std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth"))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .filter(|name| !NOT_LAYERS.contains(&name.as_str()))
        .collect()
}

fn names() -> Vec<&'static str> {
    LAYERS.iter().map(|layer| layer.as_str()).collect()
}

#[test]
fn every_layer_has_a_file_and_every_file_a_layer() {
    let named: BTreeSet<String> = names().into_iter().map(str::to_owned).collect();
    assert_eq!(layer_files(), named);
}

#[test]
fn every_layer_has_a_test_module_of_its_name() {
    let main = file("tests/gateway/main.rs");
    for name in layer_files() {
        assert!(
            main.lines().any(|line| line == format!("mod {name};")),
            "`{name}` has no tests"
        );
    }
}

/// Every module but those of tests; `lib.rs` is the map of them all.
fn modules(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        match path.is_dir() {
            true if name != "tests" => modules(&path, found),
            false
                if path.extension().is_some_and(|kind| kind == "rs")
                    && name != "lib"
                    && name != "tests"
                    && !name.ends_with("_tests") =>
            {
                found.push(path);
            }
            _ => {}
        }
    }
}

/// Whether a module must say what it decides, what it trusts and what is elsewhere: a folder or a
/// layer.
fn is_boundary(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let is_layer = path.parent().unwrap().ends_with("src/auth") && layer_files().contains(name);
    name == "mod" || is_layer
}

#[test]
fn every_module_has_a_header_and_folders_and_layers_have_the_three_parts() {
    let mut all = Vec::new();
    modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    assert!(all.len() > 200, "{}", all.len());
    assert!(all.iter().filter(|path| is_boundary(path)).count() > 30);
    for path in all {
        let text = std::fs::read_to_string(&path).unwrap();
        let header: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .collect();
        let header = header.join("");
        assert!(!header.trim().is_empty(), "{}: no header", path.display());
        let words: &[&str] = match is_boundary(&path) {
            true => &["Decides: ", "Trusts: ", "Not here: "],
            false => &[],
        };
        for word in words {
            assert!(header.contains(word), "{}: no `{word}`", path.display());
        }
    }
}

#[test]
fn the_chain_runs_the_layers_in_the_order_of_their_table() {
    let order = "identity identifiers rest performance roles when ownership lineage";
    assert_eq!(names(), order.split(' ').collect::<Vec<_>>());
    let chain = file("src/auth/chain.rs");
    // The layers that depend on facts have a function of their own, which comes next and is called
    // at the end.
    let authorize = chain.split("pub async fn authorize").nth(1).unwrap();
    let authorize = authorize.split("    fn touched").next().unwrap();
    let by_facts = authorize.find("self.by_facts(").unwrap();
    assert!(authorize.find("(&Rest,").unwrap() < by_facts);
    let asked = |name: &str| {
        // A layer with state is a field of the chain, one without is a unit value.
        let words = name.split('_').map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        });
        let value = format!("(&{},", words.collect::<String>());
        authorize
            .find(&format!("(&self.{name},"))
            .or_else(|| authorize.find(&value))
            .unwrap_or_else(|| panic!("`{name}` is not asked"))
    };
    let places: Vec<usize> = names().into_iter().map(asked).collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[tokio::test]
async fn the_line_of_a_permitted_request_names_every_layer_in_order() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        let answer = gateway
            .get(http, "/me")
            .bearer(&gateway.issuer.token())
            .send()
            .await;
        let line = answer.is_ok().log_line();
        let layers = line["layers"].as_str().unwrap();
        let asked: Vec<&str> = layers
            .split(' ')
            .map(|step| step.split(':').next().unwrap())
            .collect();
        assert_eq!(asked, names());
        assert!(
            layers.split(' ').all(|step| step.matches(':').count() == 1),
            "all said yes: {layers}"
        );
    }
}

#[tokio::test]
async fn the_first_refusal_ends_the_chain_and_nothing_is_forwarded() {
    let gateway = Gateway::start().await;
    for http in Http::BOTH {
        // Every layer would refuse this request; the first does, and the others do not run.
        let line = gateway.get(http, "/things/1").send().await.log_line();
        assert_eq!(
            (line["decision"].as_str(), line["reason"].as_str()),
            (Some("deny"), Some("token_missing"))
        );
        assert!(line["layers"].as_str().unwrap().starts_with("identity:"));
        assert_eq!(line["layers"].as_str().unwrap().split(' ').count(), 1);
        gateway.origin.saw_nothing();
    }
}
