//! Closes the client's connection after a tunnel, without resetting it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::streams::pipe::Pipe;

/// Shuts the connection down, after the answer to our close frame if one is expected, and reads
/// what is still in flight: closing a socket with unread bytes resets it, and its peer may lose
/// bytes that it has not read yet.
pub(super) async fn leave<C>(client: &mut C, awaits_answer: bool, upload: &mut Pipe)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = [0; 1024];
    let mut is_shut = false;
    poll_fn(|context| {
        loop {
            if !is_shut && (!awaits_answer || upload.is_closed()) {
                is_shut = Pin::new(&mut *client).poll_shutdown(context).is_ready();
            }
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *client).poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    upload.observe(buffer.filled());
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}
