//! Finds the known name nearest to a misspelled one, for "did you mean" in messages.

/// The candidate of which `word` is most likely a misspelling or the beginning.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word: Vec<char> = word.chars().collect();
    // At most a third of the letters. Arbitrary; enough for two errors in a long name.
    let allowed = (word.len() / 3).max(1);
    let slips = |candidate: &str| {
        let letters: Vec<char> = candidate.chars().collect();
        if word.len() >= 3 && letters.starts_with(&word) {
            1
        } else {
            distance(&word, &letters)
        }
    };
    candidates
        .into_iter()
        .map(|candidate| (slips(candidate), candidate))
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// The edit distance: how many letters were inserted, deleted, replaced, or swapped with their
/// neighbour.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let at =
                |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX / 2);
            let mut least = (at(&above, column) + usize::from(a != b))
                .min(at(&above, column + 1) + 1)
                .min(at(&line, column) + 1);
            let swapped = column > 0
                && row > 0
                && from.get(row - 1) == Some(b)
                && to.get(column - 1) == Some(a);
            if swapped {
                least = least.min(at(&before, column - 1) + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut above, line);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_likely_misspelling_has_a_nearest_name() {
        let names = ["first_byte", "stream_idle", "total"];
        assert_eq!(nearest("first_bite", names), Some("first_byte"));
        assert_eq!(nearest("totl", names), Some("total"));
        assert_eq!(nearest("secret", names), None);
        assert_eq!(nearest("kogn", ["kong", "other"]), Some("kong"));
        assert_eq!(
            nearest("prod", ["production", "development"]),
            Some("production")
        );
        let letters = |word: &str| word.chars().collect::<Vec<_>>();
        assert_eq!(distance(&letters("kitten"), &letters("sitting")), 3);
    }
}
