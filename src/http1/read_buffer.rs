//! The memory into which connections read.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

/// How many bytes are read at once, which also bounds how much of a body is held for a slow reader.
const READ: usize = 64 * 1024;

/// The read buffer of all connections of a worker, so that none needs one while it waits.
#[derive(Clone)]
pub(crate) struct ReadBuffer(Rc<RefCell<Box<[u8]>>>);

impl Default for ReadBuffer {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0; READ].into())))
    }
}

impl ReadBuffer {
    /// Reads once, and appends to the unread bytes. False at the end of the connection.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        unread: &mut Bytes,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let mut buffer = self.0.borrow_mut();
        let mut buffer = ReadBuf::new(&mut buffer);
        ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
        let read = buffer.filled();
        *unread = if unread.is_empty() {
            Bytes::copy_from_slice(read)
        } else {
            [unread, read].concat().into()
        };
        Poll::Ready(Ok(!read.is_empty()))
    }
}

impl std::fmt::Debug for ReadBuffer {
    /// The bytes are a user's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadBuffer(…)")
    }
}
