//! Text as a configuration: no panic, no hang, and every problem has a place inside the file and
//! tells no secret.

#![no_main]

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::LazyLock;

use foregate::cli::offline;
use foregate::config::{Loaded, Problems, load_str};
use libfuzzer_sys::fuzz_target;

/// The value of every variable whose name begins with `S`. Long enough to sign tokens with.
const SECRET: &str = "zQ8-the-value-of-a-variable-that-nobody-may-see";

static EMPTY_FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("foregate-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match load(text) {
        Ok(loaded) => assert_loads_again(text, loaded),
        Err(problems) => assert_tells_where(text, &problems),
    }
});

fn load(text: &str) -> Result<Loaded, Problems> {
    let variables = |name: &str| match name.as_bytes().first() {
        Some(b'S') => Some(SECRET.to_owned()),
        Some(b'N') => Some("8080".to_owned()),
        Some(b'Y') => Some("a: [b, \"c\n# ${N} {{".to_owned()),
        _ => None,
    };
    load_str("fuzz.yaml", text, &EMPTY_FOLDER, &variables)
}

/// What was taken is the same when it is read again, and can be built.
fn assert_loads_again(text: &str, loaded: Loaded) {
    let again = load(text).expect("what was valid is valid");
    assert_eq!(loaded.digest, again.digest);
    assert!(!loaded.warnings.iter().any(|line| line.contains(SECRET)));
    assert!(!format!("{:?}", loaded.config).contains(SECRET) || text.contains(SECRET));
    // Nothing runs in it.
    let background = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let _entered = background.enter();
    let mut loaded = loaded;
    // Whatever the text says, a cache is made for it.
    loaded.config.token_cache = NonZeroUsize::MIN;
    let _ = offline::snapshot(loaded, 1);
}

fn assert_tells_where(text: &str, problems: &Problems) {
    // To YAML, a carriage return ends a line, too (YAML 1.2.2, section 5.4).
    let breaks = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = breaks.split('\n').collect();
    for problem in problems.iter() {
        if problem.line == 0 {
            assert_eq!(problem.column, 0, "{problem:?}");
            continue;
        }
        let line = lines.get(problem.line as usize - 1);
        let line = line.unwrap_or_else(|| panic!("behind the end: {problem:?}"));
        // One column behind the last character is where something is missing.
        let width = line.chars().count() + 1;
        assert!(
            (1..=width).contains(&(problem.column as usize)),
            "outside its line: {problem:?}"
        );
    }
    for told in [problems.to_string(), problems.to_json().to_string()] {
        assert!(
            !told.contains(SECRET) || text.contains(SECRET),
            "a secret: {told}"
        );
    }
}
