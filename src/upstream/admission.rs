//! When a request may be sent: once there is something to send, and while its client holds less
//! than its share of the upstream.
//!
//! A request whose head announces a body waits for the first part of it before it takes a
//! connection, so that clients who send nothing keep no connection from others. A few may be sent
//! before, because some clients send a body only once the answer has begun.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{timeout, timeout_at};

use crate::auth::SpentPermit;
use crate::denial::{Denial, Reason};
use crate::request::holder::Holder;
use crate::upstream::limits::Limits;
use crate::upstream::occupancy::{Occupancies, Occupant};
use crate::upstream::pool::Pool;
use crate::upstream::upload::{FIRST_PART, Upload, UploadError};

/// How long a request may wait for its body without being counted. Most bodies arrive with their
/// head. A choice.
const UNCOUNTED: Duration = Duration::from_secs(1);

/// A request that may be sent soon.
pub(super) struct Admission<'a> {
    pool: &'a Pool,
    holder: Holder,
    limits: &'a Limits,
}

impl<'a> Admission<'a> {
    pub(super) fn of(spent: &SpentPermit, pool: &'a Pool, limits: &'a Limits) -> Self {
        Self {
            pool,
            holder: Holder::of(spent.request().client(), spent.verified()),
            limits,
        }
    }

    /// Lets the request in, if it may be sent now.
    ///
    /// # Errors
    ///
    /// The refusals of the body.
    pub(super) fn at_once(
        &self,
        upload: Option<&mut Upload>,
        context: &mut Context<'_>,
    ) -> Result<Option<Occupant>, Denial> {
        let occupancies = &self.pool.occupancies;
        if let Some(upload) = upload {
            match upload.poll_gather(first_part(occupancies), context) {
                Poll::Pending => return Ok(None),
                Poll::Ready(gathered) => gathered.map_err(UploadError::reason)?,
            }
        }
        Ok(occupancies.requests.admit(self.holder).ok())
    }

    /// Waits until the request may be sent.
    ///
    /// # Errors
    ///
    /// The refusals of the body; [`Reason::ClientBusy`], [`Reason::UpstreamBusy`],
    /// [`Reason::UpstreamTotalTimeout`].
    pub(super) async fn later(self, upload: Option<&mut Upload>) -> Result<Occupant, Denial> {
        let waiting = async {
            if let Some(upload) = upload {
                self.wait_for_body(upload).await?;
            }
            self.wait_for_turn().await
        };
        match self.limits.deadline {
            None => waiting.await,
            Some(deadline) => timeout_at(deadline, waiting)
                .await
                .map_err(|_| Reason::UpstreamTotalTimeout)?,
        }
    }

    async fn wait_for_turn(&self) -> Result<Occupant, Denial> {
        let occupancies = &*self.pool.occupancies;
        if let Ok(occupant) = occupancies.requests.admit(self.holder) {
            return Ok(occupant);
        }
        // Trying again costs more than waiting does, so not all of a client's requests may.
        let waiting = occupancies.waiting.take(self.holder);
        let _waiting = waiting.map_err(|busy| busy.because("requests that wait"))?;
        let patience = self.pool.config().connect_timeout;
        occupancies
            .requests
            .admit_within(self.holder, patience)
            .await
    }

    async fn wait_for_body(&self, upload: &mut Upload) -> Result<(), Denial> {
        let occupancies = &*self.pool.occupancies;
        if let Ok(gathered) = timeout(UNCOUNTED, gather(upload, occupancies)).await {
            return Ok(gathered?);
        }
        // The client may be waiting for the head of the answer before it sends anything.
        if let Ok(occupant) = occupancies.early.take(self.holder) {
            upload.early = Some(occupant);
            return Ok(());
        }
        let waiting = occupancies.waiting.take(self.holder);
        let _waiting = waiting.map_err(|busy| busy.because("requests that wait"))?;
        Ok(gather(upload, occupancies).await?)
    }
}

/// Waits for the first part of a body, as long as the client is not late.
async fn gather(upload: &mut Upload, occupancies: &Occupancies) -> Result<(), Reason> {
    poll_fn(
        |context| match upload.poll_gather(first_part(occupancies), context) {
            Poll::Pending => upload.poll_late(context).map(Err),
            ready => ready,
        },
    )
    .await
    .map_err(UploadError::reason)
}

/// How much of a body must have arrived before the request is sent: a byte, or while a quarter of
/// the requests is in use, its first part.
fn first_part(occupancies: &Occupancies) -> usize {
    match occupancies.requests.is_busy() {
        true => FIRST_PART,
        false => 1,
    }
}
