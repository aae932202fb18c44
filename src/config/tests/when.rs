//! Conditions of routes: where a bad one is, and which ones have no sense.

use super::*;

fn place_of(route: &str) -> (u32, u32, String) {
    let problems = load_in(Path::new("."), &with_route(route)).unwrap_err();
    let told = problems.to_json();
    let only = &told[0];
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{told}");
    let number = |key: &str| u32::try_from(only[key].as_u64().unwrap()).unwrap();
    (
        number("line"),
        number("column"),
        only["problem"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn a_bad_condition_is_told_at_the_character_where_it_is_bad() {
    let column_of = |route: &str, part: &str| {
        let line = with_route(route);
        let line = line
            .lines()
            .find(|line| line.contains(part))
            .unwrap()
            .to_owned();
        u32::try_from(line.find(part).unwrap()).unwrap() + 1
    };
    for when in [
        "when: caller.aal == 'aal2' && request.metod == 'GET'",
        "when: \"caller.aal == 'aal2' && request.metod == 'GET'\"",
    ] {
        let route = format!("path: /a, access: user, {when}");
        let (_, column, problem) = place_of(&route);
        assert!(
            problem.contains("`request.metod` is not a name"),
            "{problem}"
        );
        assert_eq!(column, column_of(&route, ".metod"));
    }
}

#[test]
fn a_condition_that_no_request_could_fit_or_that_a_variable_could_change_is_refused() {
    for (route, message) in [
        (
            "path: /a, access: public, when: caller.known",
            "a public route reads no credential",
        ),
        (
            "path: /a, access: deny, when: request.method == 'GET'",
            "nobody comes",
        ),
        (
            "path: /a, access: user, when: \"request.host == '${PORT}'\"",
            "a variable could change",
        ),
        (
            "path: /a, access: user, when: \"request.path.matches('a')\"",
            "`matches` is not a function here",
        ),
    ] {
        let (_, _, problem) = place_of(route);
        assert!(problem.contains(message), "{problem}");
    }
}
