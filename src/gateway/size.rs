//! Upper bounds on the size of futures, checked when the gateway is compiled.
//!
//! A future has room for its largest branch, whichever branch runs: one careless local costs memory
//! for every open connection and every request. The bounds are a little above the sizes of today. A
//! branch that exceeds one is boxed, or the bound is raised on purpose.

/// Gives the future back. It does not compile if the future is larger than `LIMIT` bytes.
pub(crate) const fn at_most<const LIMIT: usize, F: Future>(future: F) -> F {
    const {
        assert!(
            size_of::<F>() <= LIMIT,
            "this future has outgrown its bound"
        );
    }
    future
}
