//! The facts that a write may change, from before it is sent until its answer is there.
//!
//! Decides: nothing. Trusts: `facts` for which they are. Not here: how a fact is made worthless (`shelf`).
//!
//! They are made worthless before the write is sent, so that what is loaded meanwhile is not remembered, and again when the head of its answer
//! is there or it ended in any other way, since only then everybody reads what it wrote. What an upstream writes after it has answered is
//! found out by age.

use std::sync::Arc;

use tokio::time::timeout;

use super::{Facts, Shelf};

/// How long an answer waits for the other replicas to be told. A choice: as long as `store.timeout` is by default.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(100);

/// Facts that are made worthless at the end, also if the request is dropped.
#[derive(Debug)]
pub struct Touched {
    shelf: Option<Arc<Shelf>>,
    things: Vec<(Arc<str>, String)>,
}

impl Touched {
    /// Nothing changes.
    pub const fn nothing() -> Self {
        Self {
            shelf: None,
            things: Vec::new(),
        }
    }

    /// These may change.
    pub fn new(facts: &Facts, things: Vec<(Arc<str>, String)>) -> Self {
        Self {
            shelf: (!things.is_empty()).then(|| facts.shelf().clone()),
            things,
        }
    }

    /// Whether anything may change.
    pub fn is_something(&self) -> bool {
        self.shelf.is_some()
    }

    /// The write is about to be sent.
    pub async fn begin(&self) {
        if let Some(shelf) = &self.shelf {
            shelf.raise_here(&self.things);
            // What it does not tell now, the end tells.
            let _ = timeout(PATIENCE, shelf.raise_elsewhere(&self.things)).await;
        }
    }

    /// It has come to an end. The other replicas know when this returns, if the store does.
    pub async fn end(mut self) {
        if let Some(shelf) = self.shelf.take() {
            shelf.raise_here(&self.things);
            let things = std::mem::take(&mut self.things);
            let telling = shelf.clone();
            match shelf.runtime() {
                // In the background, so that a client who leaves now does not keep others from knowing.
                Some(runtime) => {
                    let told = runtime.spawn(async move { telling.raise_elsewhere(&things).await });
                    let _ = timeout(PATIENCE, told).await;
                }
                None => telling.raise_elsewhere(&things).await,
            }
        }
    }
}

impl Drop for Touched {
    /// The request was dropped in the middle: what it did is not known.
    fn drop(&mut self) {
        if let Some(shelf) = self.shelf.take() {
            shelf.raise_here(&self.things);
            let things = std::mem::take(&mut self.things);
            if let Some(runtime) = shelf.runtime().cloned() {
                runtime.spawn(async move { shelf.raise_elsewhere(&things).await });
            }
        }
    }
}
