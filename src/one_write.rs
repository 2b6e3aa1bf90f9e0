//! Small messages as one buffer: a list of them costs the system more than the
//! copy costs us.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is copied together at most, in bytes: an answer of the usual size.
const SMALL: usize = 1024;

/// Writes `pieces`, as one buffer if they are small or all but one are empty.
pub fn poll_write_together<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
    let Some(first) = filled.next() else {
        return stream.poll_write(cx, &[]);
    };
    if filled.next().is_none() {
        return stream.poll_write(cx, first);
    }
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() > SMALL {
        return stream.poll_write_vectored(cx, pieces);
    }
    let mut space = [const { MaybeUninit::uninit() }; SMALL];
    let mut together = ReadBuf::uninit(&mut space);
    for piece in pieces {
        together.put_slice(piece);
    }
    stream.poll_write(cx, together.filled())
}

/// A stream that writes lists of pieces as [`poll_write_together`] does.
#[derive(Debug)]
pub struct Together<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for Together<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Together<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_together(&mut self.0, cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Notes each write.
    #[derive(Default)]
    struct Noted(Vec<(&'static str, Vec<u8>)>);

    impl AsyncWrite for Noted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(("one", buf.to_vec()));
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            self.0.push(("list", bytes.clone()));
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn small_pieces_go_together_and_large_ones_as_a_list() {
        let (small, half, more) = (vec![1; 100], vec![2; SMALL / 2], vec![3; SMALL / 2 + 1]);
        for (pieces, how) in [
            (vec![], "one"),
            (vec![&small], "one"),
            (vec![&small, &half], "one"),
            (vec![&half, &half], "one"),
            (vec![&half, &more], "list"),
        ] {
            let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            // Pieces without a byte change nothing.
            let mut slices = vec![IoSlice::new(&[])];
            slices.extend(pieces.iter().map(|piece| IoSlice::new(piece)));
            let mut noted = Noted::default();
            let mut cx = Context::from_waker(Waker::noop());
            let written = poll_write_together(&mut noted, &mut cx, &slices);
            assert!(matches!(written, Poll::Ready(Ok(length)) if length == whole.len()));
            assert_eq!(noted.0, [(how, whole)]);
        }
        let long = vec![4; 10 * SMALL];
        let mut noted = Noted::default();
        let mut cx = Context::from_waker(Waker::noop());
        let _ = poll_write_together(&mut noted, &mut cx, &[IoSlice::new(&long)]);
        assert_eq!(noted.0, [("one", long)]);
    }
}
