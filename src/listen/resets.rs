//! The stream of an HTTP/2 connection, which counts the streams that the gateway resets.
//!
//! The protocol implementation resets a malformed request before there is a request, and tells
//! nobody. What it writes says so.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::metrics::ListenMetrics;
use crate::metrics::labels;

/// Length of a frame's header, and the type of RST_STREAM (RFC 9113, sections 4.1 and 6.4).
const HEADER: usize = 9;
const RST_STREAM: u8 = 3;

labels! {
    /// The error code of a reset (RFC 9113, section 7).
    pub(crate) enum ResetCode {
        NoError = "no_error",
        ProtocolError = "protocol_error",
        InternalError = "internal_error",
        FlowControlError = "flow_control_error",
        SettingsTimeout = "settings_timeout",
        StreamClosed = "stream_closed",
        FrameSizeError = "frame_size_error",
        RefusedStream = "refused_stream",
        Cancel = "cancel",
        CompressionError = "compression_error",
        ConnectError = "connect_error",
        EnhanceYourCalm = "enhance_your_calm",
        InadequateSecurity = "inadequate_security",
        Http11Required = "http_1_1_required",
    }
}

/// Finds resets in the frames that are written, in pieces of any size.
#[derive(Debug, Default)]
struct ResetScan {
    /// The header of the current frame, and of a reset its code, as far as they were written.
    head: [u8; HEADER + 4],
    filled: usize,
    /// Bytes of the current frame's payload that follow.
    payload: usize,
}

impl ResetScan {
    fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(ResetCode)) {
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let is_reset = self.filled >= HEADER && self.head.get(3) == Some(&RST_STREAM);
            let wanted = if is_reset { HEADER + 4 } else { HEADER };
            let room = self.head.get_mut(self.filled..wanted).unwrap_or_default();
            let copied = room.len().min(bytes.len());
            for (to, from) in room.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.filled += copied;
            bytes = bytes.get(copied..).unwrap_or_default();
            if self.filled < wanted {
                return;
            }
            let [high, middle, low, kind, _, _, _, _, _, code @ ..] = self.head;
            if is_reset {
                let code = usize::try_from(u32::from_be_bytes(code)).unwrap_or(usize::MAX);
                // An unknown code is treated as an internal error (section 7).
                let code = ResetCode::ALL.get(code).copied();
                found(code.unwrap_or(ResetCode::InternalError));
                self.filled = 0;
            } else if kind != RST_STREAM {
                let length = u32::from_be_bytes([0, high, middle, low]);
                self.payload = usize::try_from(length).unwrap_or(usize::MAX);
                self.filled = 0;
            }
        }
    }
}

/// A stream that counts the resets which are written to it.
pub(super) struct CountedResets<S> {
    stream: S,
    scan: ResetScan,
    metrics: Arc<ListenMetrics>,
}

impl<S> CountedResets<S> {
    pub(super) fn new(stream: S, metrics: Arc<ListenMetrics>) -> Self {
        Self {
            stream,
            scan: ResetScan::default(),
            metrics,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedResets<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedResets<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.as_mut()
            .poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self {
            stream,
            scan,
            metrics,
        } = &mut *self;
        let written = ready!(Pin::new(stream).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let part = slice.get(..left.min(slice.len())).unwrap_or_default();
            scan.scan(part, |code| metrics.resets.inc(code));
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let [_, high, middle, low] = length;
        [&[high, middle, low, kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn resets_are_found_among_other_frames_in_pieces_of_any_size() {
        let frames = [
            frame(4, &[]),
            frame(1, &[3; 40]),
            frame(3, &[0, 0, 0, 1]),
            frame(0, &[3; 300]),
            frame(3, &[0, 0, 0, 0]),
            frame(3, &[0, 0, 0, 99]),
            frame(6, &[0; 8]),
        ]
        .concat();
        for size in 1..=frames.len() {
            let mut scan = ResetScan::default();
            let mut found = Vec::new();
            for piece in frames.chunks(size) {
                scan.scan(piece, |code| found.push(code.as_str()));
            }
            let codes = ["protocol_error", "no_error", "internal_error"];
            assert_eq!(found, codes, "{size}");
        }
    }
}
