//! Authorization: the layers, and the permit that only the chain can make.
//!
//! Decides:  whether a canonical request may be forwarded or served.
//! Trusts:   `request` for the head, `tokens` for signatures, the configuration for the rules.
//! Not here: input and output. No module below this one reads a body, opens a socket, logs, counts,
//!           writes an answer or knows an HTTP status.
//!
//! How to add a layer, say `window`, which refuses writes outside working hours:
//!
//! 1. `auth/window.rs`: `pub struct Window;` with `impl Layer` (what passing it proves) and `impl
//!    Check` (its decision), or `impl AsyncCheck` if it has to wait. It only decides: see the
//!    header of `roles.rs`. Its unit tests are at the end of the file.
//! 2. Here: `pub mod window;`. In `auth/chain.rs`: one row in the table of layers, in the order in
//!    which they run.
//! 3. There, too: one line that runs it, with the reason for its place. Without that line `Proofs`
//!    lacks a field and the build fails. The same holds for the reauthorization of open streams,
//!    which runs the layer again or says there why not.
//! 4. A refusal of its own is one row of `reasons!` in `denial/reason.rs`; `config/reasons.md` is
//!    written from it by `tests/reasons.rs`.
//! 5. A key of a route: its checked form in `policy/route.rs`, its YAML form and check in `config`
//!    (see the header of `config/mod.rs`), and a line in `config/foregate.yaml`. The layer reads it
//!    as `request.rule().window`.
//! 6. `tests/gateway/window.rs`, and `mod window;` in `tests/gateway/main.rs`: each refusal, on
//!    HTTP/1.1 and HTTP/2, and that the upstream saw nothing.
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
