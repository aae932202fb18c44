//! Upper bounds on the size of futures, checked at compile time.
//!
//! A future has room for its largest branch, whichever branch runs: one careless local variable
//! costs memory for every open connection and every open request. The bounds are a little above the
//! sizes of today. Box a branch that exceeds its bound, or raise the bound deliberately.

/// Returns the future. It does not compile if the future is larger than `LIMIT` bytes.
pub(crate) const fn at_most<const LIMIT: usize, F: Future>(future: F) -> F {
    const {
        assert!(
            size_of::<F>() <= LIMIT,
            "this future has outgrown its bound"
        );
    }
    future
}
