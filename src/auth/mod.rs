//! Authorization: the layers, and the permit that only the chain can make.
//!
//! Decides:  whether a canonical request may be forwarded or served.
//! Trusts:   `request` for the head, `tokens` for signatures, the configuration for the rules.
//! Not here: input and output. No module below this one reads a body, opens a socket, logs, counts,
//!           writes an answer or knows an HTTP status.
//!
//! How to add a layer, say `maximum_age`, which refuses tokens older than a key of the route says:
//!
//! 1. `auth/maximum_age.rs`, like `when.rs`: `pub struct MaximumAge;` with `impl Layer` (what
//!    passing it proves; `concerns`, or it is timed on every route) and `impl Check` (its decision
//!    and nothing else; its `Input` is `&Caller`, or `&GatheredFacts` if it needs facts;
//!    `clock::unix_now()` is the time), or `impl AsyncCheck` if it has to wait.
//! 2. `pub mod maximum_age;` here; in `auth/chain.rs` its import, and its row in the table of
//!    layers, in the order in which they run: `enforced`, or `waivable` if an operator may waive it
//!    for a time, which `config/foregate.yaml` then shows under `layers`.
//! 3. In `auth/chain.rs`, ask it, with the reason for its place: behind `identity` and the wait for
//!    a body, and before `identifiers`, which takes the caller, if it needs no facts; else as
//!    `Ownership` is. `Proofs` has a field for the row, so the compiler leads from one place to the
//!    next. `reauthorize_caller` asks it again for an open stream: a message may bring another
//!    token, so `Passed::earlier` is only for what reads neither the caller nor a clock.
//! 4. Its refusal is a row of `reasons!` in `denial/reason.rs`: 401 if another token of the same
//!    user helps, else 403. If it is 401, look at the lists in `gateway/refuse.rs` and
//!    `live/ending.rs`, too. It is a case of the walk in `tests/gateway/reasons.rs`, on a route
//!    there. `FOREGATE_BLESS=1 cargo test --test reasons` writes `config/reasons.md`.
//! 5. Its key: a field of `policy::route::Route`, which the layer reads as `request.rule()`, and in
//!    `config/sections/routes/route.rs` the key, its range or words (`config/macros.rs`), and its
//!    value. A key about users is listed in `about_users` there. Write it on a route of
//!    `config/foregate.yaml`, not as a comment, so that it is checked.
//! 6. `tests/gateway/maximum_age.rs`, its `mod` in `tests/gateway/main.rs`, and its name in the
//!    order that `mirror.rs` holds: each refusal, on HTTP/1.1 and HTTP/2, and that the upstream saw
//!    nothing.
//!
//! Passing a layer yields a value that the next layer requires, and forwarding requires the
//! [`Permit`], which has private fields and one constructor:
//!
//! ```
//! use foregate::auth::Permit;
//! // A permit may be passed on. The two examples below differ from this one only in what
//! // must not compile.
//! fn keep(permit: Permit) -> Permit {
//!     permit
//! }
//! ```
//!
//! ```compile_fail,E0451
//! use foregate::auth::Permit;
//! // A permit cannot be constructed outside the chain, not even inside this crate.
//! fn forge(permit: Permit) -> Permit {
//!     Permit { ..permit }
//! }
//! ```
//!
//! ```compile_fail,E0382
//! use foregate::auth::Permit;
//! // Nor can one permit forward two requests.
//! fn consume(_: Permit) {}
//! fn twice(permit: Permit) {
//!     consume(permit);
//!     consume(permit);
//! }
//! ```

pub mod caller;
pub mod chain;
pub mod identifiers;
pub mod identity;
pub mod layer;
pub mod lineage;
pub mod ownership;
pub mod performance;
pub mod permit;
pub mod rest;
pub mod role_table;
pub mod roles;
pub mod snapshot;
mod step;
pub mod when;

pub use caller::Caller;
pub use chain::{Chain, LAYERS};
pub use layer::{AsyncCheck, Check, Layer, NamedLayer};
pub(crate) use permit::SpentPermit;
pub use permit::{Permit, StreamAuthorization};
