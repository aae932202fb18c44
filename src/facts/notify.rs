//! Notifications: changed rows that the database tells of, so that facts may be older without being wrong.
//!
//! Decides:  from when on every change is heard of, and which facts a notification makes worthless.
//! Trusts:   `proof` for whether every change is told of. What is not is found out by age.
//! Not here: ages (`shelf`).
//!
//! A payload is a kind and an id, `project 018f…`; the kinds are those of `resources`, `caller` and `memberships`. One without an id says that
//! anything may have changed.
//!
//! Ages stay short until the whole way is proven: a word of our own, said where facts are read, was heard here, and every table that the queries
//! read has its triggers. It is proven again for each connection and configuration, and from time to time, since triggers can be taken away.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::AsyncMessage;
use uuid::Uuid;

use super::Shelf;
use super::trigger_coverage::{self, Asked, Told};
use crate::clock;
use crate::database::{Database, DatabaseError, Listener};
use crate::store::Notice;

/// Pause before a connection that broke is made again.
const AGAIN: Duration = Duration::from_millis(500);

/// How often a silent connection is asked whether it is still there. What is missed until it is found dead counts for reads only.
const PULSE: Duration = Duration::from_secs(2);

/// How long looking for the triggers may take, and then hearing our own word.
const PROOF: Duration = Duration::from_secs(5);
const HEARD: Duration = Duration::from_secs(2);

/// When a proof is made again: after it succeeded, and after it did not, since somebody may be putting the triggers in. After each that fails
/// the pause doubles, up to the one after a success.
const PROVEN: Duration = Duration::from_secs(60);
const UNPROVEN: Duration = Duration::from_secs(2);

/// How long after a proof it still holds while the database cannot be asked for another. A choice: triggers seldom vanish meanwhile, and what
/// they tell is heard on another connection; but a database that is away is what old facts are for.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// How many notifications are taken at once.
const BATCH: usize = 1024;

/// How many things wait at most to be told to other replicas, before they are told that everything may have changed.
const MOST: usize = 50_000;

/// How many of them are told at once. A choice: Redis takes that many writes in some milliseconds.
const AT_ONCE: usize = 1000;

/// How a word of our own begins. No kind of things has such a name.
const OWN: &str = "+foregate ";

/// Why it is not known whether every change is heard of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unproven {
    /// The database cannot be asked.
    Database(DatabaseError),
    /// It cannot be told of anything: it is a standby, or refuses.
    Mute(DatabaseError),
    /// What is said where facts are read is not heard here.
    Unheard,
    /// Changes of these are not told of.
    Untold(Vec<Told>),
}

impl Unproven {
    /// Whether it only says that the database could not be asked now.
    fn is_outage(&self) -> bool {
        match self {
            Self::Database(error) => match error {
                DatabaseError::Away | DatabaseError::Deadline | DatabaseError::Busy => true,
                DatabaseError::Refused(_) => false,
            },
            Self::Mute(_) | Self::Unheard | Self::Untold(_) => false,
        }
    }
}

impl std::fmt::Display for Unproven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => write!(f, "the database cannot be asked: {error}"),
            Self::Mute(error) => write!(
                f,
                "no notification can be sent where facts are read, as on a standby: {error}"
            ),
            Self::Unheard => f.write_str(
                "what is notified on `database.url` is not heard on `database.notify_url`: they are different databases, or a pooler stands before the second",
            ),
            Self::Untold(told) => {
                for (index, told) in told.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "; " };
                    write!(f, "{comma}{told}")?;
                }
                f.write_str(" (deploy/sql/notify.sql)")
            }
        }
    }
}

/// Listens for as long as anybody has the shelf, and takes note of what other replicas say in the store.
pub fn follow(shelf: &Arc<Shelf>, listener: Option<Listener>) {
    tokio::spawn(hear_replicas(Arc::downgrade(shelf)));
    if let Some(listener) = listener {
        tokio::spawn(hear_database(Arc::downgrade(shelf), listener));
    }
}

/// Whether everything would be heard of that changes what these queries read: all that is told of each table, or why it is not known.
pub async fn check(
    asked: Vec<Asked>,
    database: &Database,
    listener: &Listener,
) -> Result<Vec<Told>, Unproven> {
    let (_client, mut said) = listener.listen().await.map_err(Unproven::Database)?;
    let word = own_word();
    let told = prove(asked.into(), database.clone(), word.clone()).await?;
    let heard = async {
        while let Some(message) = said.recv().await {
            if matches!(&message, AsyncMessage::Notification(one) if one.payload() == word) {
                return true;
            }
        }
        false
    };
    match timeout(HEARD, heard).await {
        Ok(true) => Ok(told),
        Ok(false) | Err(_) => Err(Unproven::Unheard),
    }
}

fn own_word() -> String {
    format!("{OWN}{}", Uuid::now_v7())
}

/// Looks for the triggers, and says our own word where facts are read.
async fn prove(
    asked: Arc<[Asked]>,
    database: Database,
    word: String,
) -> Result<Vec<Told>, Unproven> {
    let statements = asked.iter().map(|one| (one.sql.clone(), one.id)).collect();
    let deadline = clock::now() + PROOF;
    let readings = database
        .readings(statements, deadline)
        .await
        .map_err(Unproven::Database)?;
    database
        .notify(&word, deadline)
        .await
        .map_err(|error| match error {
            DatabaseError::Refused(_) => Unproven::Mute(error),
            DatabaseError::Away | DatabaseError::Deadline | DatabaseError::Busy => {
                Unproven::Database(error)
            }
        })?;
    Ok(trigger_coverage::told(&asked, &readings))
}

async fn hear_replicas(shelf: Weak<Shelf>) {
    let Some(mut told) = shelf.upgrade().map(|shelf| shelf.store().notices()) else {
        return;
    };
    loop {
        let message = told.recv().await;
        let Some(shelf) = shelf.upgrade() else { return };
        match message {
            Ok(Notice::Message(message)) => shelf.heard(&message),
            Ok(Notice::Began) => shelf.began(),
            Ok(Notice::Missed) | Err(RecvError::Lagged(_)) => shelf.missed(),
            // A store of this process alone.
            Err(RecvError::Closed) => return,
        }
    }
}

async fn hear_database(shelf: Weak<Shelf>, listener: Listener) {
    let mut past = Past {
        said: None,
        pause: UNPROVEN,
    };
    loop {
        let mut again = AGAIN;
        match listener.listen().await {
            Ok((client, said)) => {
                let hearing = shelf.upgrade().map(|shelf| Hearing::new(&shelf, &mut past));
                let Some(hearing) = hearing else { return };
                match hearing.go_on(&shelf, &client, said).await {
                    Ended::Broken => {
                        tracing::warn!("notifications of the database are not heard any more");
                    }
                    Ended::Deaf(pause) => again = pause,
                }
            }
            Err(error) => tracing::debug!(%error, "no connection for notifications"),
        }
        let Some(shelf) = shelf.upgrade() else { return };
        shelf.listens(false);
        drop(shelf);
        sleep(again).await;
    }
}

/// What outlives a connection.
struct Past {
    /// What was said of the last proof, and whether an earlier one still held, so that the same is not said again; `None` before the first.
    said: Option<(Result<(), Unproven>, bool)>,
    /// How long the next proof waits if this one fails.
    pause: Duration,
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ended {
    /// It broke, does not answer, or nobody has the shelf any more.
    Broken,
    /// It answers, but our own word was not heard on it. Another is made after this pause.
    Deaf(Duration),
}

/// One connection that hears.
struct Hearing<'a> {
    asked: watch::Receiver<Arc<[Asked]>>,
    past: &'a mut Past,
    proving: Option<Proving>,
    /// When the last proof succeeded that still holds.
    proven: Option<Instant>,
    /// When it is asked whether the connection is still there.
    pulse: Instant,
    /// When the next one begins.
    next: Instant,
    /// What other replicas were not told yet.
    untold: HashSet<(Arc<str>, String)>,
    /// It became too much to name.
    is_everything: bool,
    telling: Option<JoinHandle<()>>,
}

/// A proof that is being made.
struct Proving {
    task: JoinHandle<Result<Vec<Told>, Unproven>>,
    told: Option<Vec<Told>>,
    word: String,
    is_heard: bool,
    until: Instant,
}

impl Drop for Proving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<'a> Hearing<'a> {
    fn new(shelf: &Arc<Shelf>, past: &'a mut Past) -> Self {
        Self {
            asked: shelf.asked(),
            past,
            proving: None,
            proven: None,
            pulse: Instant::now() + PULSE,
            next: Instant::now(),
            untold: HashSet::new(),
            is_everything: false,
            telling: None,
        }
    }

    /// Until the connection is of no use, or nobody has the shelf any more.
    async fn go_on(
        mut self,
        shelf: &Weak<Shelf>,
        client: &tokio_postgres::Client,
        mut said: UnboundedReceiver<AsyncMessage>,
    ) -> Ended {
        let mut messages = Vec::with_capacity(BATCH);
        loop {
            let due = match &self.proving {
                Some(proving) => proving.until,
                None => self.next,
            };
            let event = tokio::select! {
                taken = said.recv_many(&mut messages, BATCH) => Event::Said(taken),
                proven = finished(&mut self.proving) => Event::Proven(proven),
                () = ended(&mut self.telling) => Event::Told,
                changed = self.asked.changed() => Event::Asked(changed.is_ok()),
                () = sleep_until(due) => Event::Due,
                // Whatever else happens; but not while it speaks.
                () = sleep_until(self.pulse) => Event::Pulse,
            };
            let Some(shelf) = shelf.upgrade() else {
                return Ended::Broken;
            };
            match event {
                Event::Said(0) | Event::Asked(false) => return Ended::Broken,
                Event::Said(_) => {
                    self.pulse = Instant::now() + PULSE;
                    self.take(&shelf, &mut messages);
                }
                Event::Proven(Ok(told)) => {
                    if let Some(proving) = &mut self.proving {
                        proving.told = Some(told);
                        proving.until = Instant::now() + HEARD;
                    }
                }
                Event::Proven(Err(why)) => self.conclude(&shelf, Err(why)),
                Event::Told => {}
                // What was proven was another thing.
                Event::Asked(true) => {
                    shelf.listens(false);
                    self.proven = None;
                    self.past.pause = UNPROVEN;
                    self.begin(&shelf);
                }
                Event::Due => match &self.proving {
                    None => self.begin(&shelf),
                    Some(proving) if proving.told.is_none() => {
                        let late = Unproven::Database(DatabaseError::Deadline);
                        self.conclude(&shelf, Err(late));
                    }
                    // Nothing else that is said may be heard here either. On another connection it may.
                    Some(_) => {
                        let pause = self.past.pause;
                        self.conclude(&shelf, Err(Unproven::Unheard));
                        return Ended::Deaf(pause);
                    }
                },
                Event::Pulse => {
                    drop(shelf);
                    let asked = timeout(PULSE, client.batch_execute("")).await;
                    if !matches!(asked, Ok(Ok(()))) {
                        return Ended::Broken;
                    }
                    self.pulse = Instant::now() + PULSE;
                    continue;
                }
            }
            self.look(&shelf);
            self.tell(&shelf);
        }
    }

    /// Begins a proof of what is asked now.
    fn begin(&mut self, shelf: &Arc<Shelf>) {
        let Some(database) = shelf.database().cloned() else {
            return;
        };
        let asked = self.asked.borrow_and_update().clone();
        let word = own_word();
        self.proving = Some(Proving {
            task: tokio::spawn(prove(asked, database, word.clone())),
            told: None,
            word,
            is_heard: false,
            until: Instant::now() + PROOF + HEARD,
        });
    }

    /// Whether the proof is complete.
    fn look(&mut self, shelf: &Arc<Shelf>) {
        let is_other = self.asked.has_changed().unwrap_or(true);
        let told = match &mut self.proving {
            Some(proving) if proving.is_heard && !is_other => proving.told.take(),
            Some(_) | None => None,
        };
        let Some(told) = told else { return };
        shelf.metrics().told(&told);
        let untold: Vec<Told> = told
            .into_iter()
            .filter(|told| told.missing.is_some())
            .collect();
        let outcome = match untold.is_empty() {
            true => Ok(()),
            false => Err(Unproven::Untold(untold)),
        };
        self.conclude(shelf, outcome);
    }

    fn conclude(&mut self, shelf: &Arc<Shelf>, outcome: Result<(), Unproven>) {
        self.proving = None;
        let now = Instant::now();
        let kept = match &outcome {
            Err(why) if why.is_outage() && shelf.is_listening() => self.proven,
            Ok(()) | Err(_) => None,
        };
        let kept = kept.map(|proven| proven + KEPT).filter(|end| now < *end);
        match &outcome {
            Ok(()) => {
                self.proven = Some(now);
                self.next = now + PROVEN;
                self.past.pause = UNPROVEN;
                // From here on; what was loaded before may have changed while nobody would have told.
                if !shelf.is_listening() {
                    shelf.listens(true);
                }
            }
            Err(_) => {
                let next = now + self.past.pause;
                self.next = kept.map_or(next, |end| next.min(end));
                self.past.pause = (2 * self.past.pause).min(PROVEN);
                if kept.is_none() {
                    self.proven = None;
                    shelf.listens(false);
                }
            }
        }
        let saying = Some((outcome, kept.is_some()));
        if self.past.said != saying {
            match &saying {
                Some((Ok(()), _)) => tracing::info!("every change of a fact is heard of"),
                Some((Err(why), true)) => tracing::warn!(
                    %why,
                    "it cannot be asked whether every change is still heard of; that it is holds for a while"
                ),
                Some((Err(why), false)) => tracing::warn!(
                    %why,
                    "facts keep the ages without notifications: not every change would be heard of"
                ),
                None => {}
            }
        }
        self.past.said = saying;
    }

    /// Makes worthless here what was said to have changed, and remembers to tell it.
    fn take(&mut self, shelf: &Arc<Shelf>, messages: &mut Vec<AsyncMessage>) {
        for message in messages.drain(..) {
            let AsyncMessage::Notification(notification) = message else {
                continue;
            };
            let payload = notification.payload();
            if payload.starts_with(OWN) {
                if let Some(proving) = &mut self.proving
                    && payload == proving.word
                {
                    proving.is_heard = true;
                }
                continue;
            }
            shelf.metrics().notified();
            match payload.split_once(' ') {
                Some((kind, id)) => {
                    let thing = (Arc::from(kind), id.to_owned());
                    shelf.raise_here(std::slice::from_ref(&thing));
                    self.untold.insert(thing);
                }
                None => {
                    shelf.missed();
                    self.is_everything = true;
                }
            }
        }
        if self.untold.len() > MOST {
            self.untold = HashSet::new();
            self.is_everything = true;
        }
    }

    /// One task at a time, however much there is to tell.
    fn tell(&mut self, shelf: &Arc<Shelf>) {
        if self.telling.is_some() || self.untold.is_empty() && !self.is_everything {
            return;
        }
        let is_everything = std::mem::take(&mut self.is_everything);
        let things: Vec<_> = match is_everything {
            // That says it all.
            true => {
                self.untold.clear();
                Vec::new()
            }
            false => std::mem::take(&mut self.untold).into_iter().collect(),
        };
        let shelf = shelf.clone();
        self.telling = Some(tokio::spawn(async move {
            if is_everything {
                shelf.tell_everything().await;
            }
            for some in things.chunks(AT_ONCE) {
                shelf.raise_elsewhere(some).await;
            }
        }));
    }
}

/// What happens on a connection that hears.
enum Event {
    /// That many messages.
    Said(usize),
    Proven(Result<Vec<Told>, Unproven>),
    /// Other replicas know.
    Told,
    /// Other queries are in force; or none any more.
    Asked(bool),
    /// The next proof begins, or this one is over without our word.
    Due,
    /// It is time to ask whether the connection is still there.
    Pulse,
}

/// What the task of a proof found, once.
async fn finished(proving: &mut Option<Proving>) -> Result<Vec<Told>, Unproven> {
    match proving {
        Some(proving) if proving.told.is_none() => match (&mut proving.task).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Unproven::Database(DatabaseError::Away)),
        },
        Some(_) | None => std::future::pending().await,
    }
}

/// The end of a task, once.
async fn ended(telling: &mut Option<JoinHandle<()>>) {
    match telling {
        Some(task) => {
            let _ = task.await;
            *telling = None;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::FactMetrics;
    use crate::store::Memory;

    #[tokio::test]
    async fn a_proof_holds_for_a_while_without_the_database_and_not_against_its_word() {
        let metrics = FactMetrics::new(&prometheus::Registry::new()).map(Arc::new);
        let metrics = metrics.unwrap_or_else(|error| unreachable!("{error}"));
        let store = Arc::new(Memory::new(10, clock::unix_now));
        let shelf = Shelf::new(store, false, None, metrics);
        let mut past = Past {
            said: None,
            pause: UNPROVEN,
        };
        let mut hearing = Hearing::new(&shelf, &mut past);
        let away = || Err(Unproven::Database(DatabaseError::Away));
        hearing.conclude(&shelf, away());
        assert!(!shelf.is_listening(), "nothing was proven yet");
        for no in [
            Unproven::Unheard,
            Unproven::Untold(Vec::new()),
            Unproven::Mute(DatabaseError::Refused("25006".to_owned())),
            Unproven::Database(DatabaseError::Refused("42501".to_owned())),
        ] {
            hearing.conclude(&shelf, Ok(()));
            assert!(shelf.is_listening());
            hearing.conclude(&shelf, Err(no.clone()));
            assert!(!shelf.is_listening(), "{no}");
            hearing.conclude(&shelf, away());
            assert!(!shelf.is_listening(), "{no}");
        }
        hearing.conclude(&shelf, Ok(()));
        for _ in 0..100 {
            hearing.conclude(&shelf, away());
            assert!(shelf.is_listening());
        }
        // Not beyond its time, however long the pauses have become.
        assert_eq!(hearing.past.pause, PROVEN);
        let before = Instant::now() + Duration::from_secs(1);
        hearing.proven = before.checked_sub(KEPT);
        hearing.conclude(&shelf, away());
        assert!(shelf.is_listening() && hearing.next <= before);
        hearing.proven = Instant::now().checked_sub(KEPT);
        hearing.conclude(&shelf, away());
        assert!(!shelf.is_listening());
        // The next success begins afresh.
        hearing.conclude(&shelf, Ok(()));
        assert!(shelf.is_listening());
        assert_eq!(hearing.past.pause, UNPROVEN);
    }
}
