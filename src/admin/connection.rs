//! A connection to the admin listener: HTTP/1.1 on a place, until its stage takes too long or the
//! place is given to another one.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::answer;
use super::places::{Place, Stage};
use crate::gateway::ended::EndCause;
use crate::gateway::process::Process;

/// How often a stage's time limit is checked.
const CHECK: Duration = Duration::from_millis(250);

/// The longest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How much of what a client still sends is discarded, so that it can read the answer before the
/// connection is reset.
const MOST_LINGERING: usize = 256 * 1024;

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, process: Arc<Process>, place: Place) {
    let place = Arc::new(place);
    let ended = tokio::select! {
        () = exchange(stream, &process, &place) => return,
        () = place.displaced() => EndCause::AdminFull,
        stage = overdue(&place) => match stage {
            // It was of no use to anybody any more.
            Stage::Idle | Stage::Linger => return,
            Stage::Head | Stage::Webhook | Stage::Call | Stage::Answer => EndCause::AdminSlow,
        },
    };
    process.metrics().ended(ended);
}

async fn overdue(place: &Place) -> Stage {
    loop {
        if let Some(stage) = place.overdue() {
            return stage;
        }
        sleep(CHECK).await;
    }
}

async fn exchange(stream: TcpStream, process: &Arc<Process>, place: &Arc<Place>) {
    let service = service_fn(|request| {
        Box::pin(async {
            // Its head is complete.
            place.enter(Stage::Answer);
            let answer = answer(process, request, place).await;
            place.enter(Stage::Answer);
            Ok::<_, Infallible>(answer)
        })
    });
    let stream = TokioIo::new(StagedStream {
        stream,
        place: place.clone(),
    });
    let mut builder = http1::Builder::new();
    // The stages have the time limits.
    builder.header_read_timeout(None).max_buf_size(MAX_HEAD);
    let mut connection = builder.serve_connection(stream, service);
    if poll_fn(|context| connection.poll_without_shutdown(context))
        .await
        .is_ok()
    {
        let stream = connection.into_parts().io.into_inner().stream;
        place.enter(Stage::Linger);
        linger(stream).await;
    }
}

/// Closes a connection whose client may still be sending. Unread bytes would make the system reset
/// it, and the client would lose the answer.
async fn linger(mut stream: TcpStream) {
    let mut discarded = 0;
    let mut buffer = [0; 4096];
    if stream.shutdown().await.is_err() {
        return;
    }
    while discarded < MOST_LINGERING {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => discarded += read,
        }
    }
}

/// A stream that notes when an answer is written and when the next head begins.
struct StagedStream {
    stream: TcpStream,
    place: Arc<Place>,
}

impl AsyncRead for StagedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before && self.place.is_in(Stage::Idle) {
            self.place.enter(Stage::Head);
        }
        read
    }
}

impl AsyncWrite for StagedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // hyper flushes once it has handed over everything of an answer.
        if matches!(flushed, Poll::Ready(Ok(()))) && self.place.is_in(Stage::Answer) {
            self.place.enter(Stage::Idle);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
