//! The caller's body: read wholly, counted, dropped. Some SDKs send `{}` with a
//! DELETE; a body cut short means that nothing is sent.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use bytes::Buf;
use http::Version;
use http_body::{Body, Frame};
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::{arrival::Arrival, config::settings::Bounds};

/// What is said of a body that is not whole.
const CUT: Refusal = Refusal::MalformedRequest("the body ended early or was framed wrongly");

/// Reads `body` to its end within the bounds.
///
/// # Errors
///
/// `content-too-large` (decoded bytes), `request-timeout`, or
/// `malformed-request` for a body that ended early (a reset, whatever its error code, is
/// no end) or is framed wrongly, and for what of it the connection saw and the HTTP
/// library hides.
pub async fn drop_whole<B>(body: B, bounds: &Bounds, arrival: &Arrival) -> Result<(), Refusal>
where
    B: Body + Unpin,
{
    if body.is_end_stream() {
        return Ok(());
    }
    if body.size_hint().lower() > u64::from(bounds.body_bytes) {
        return Err(Refusal::ContentTooLarge);
    }
    let within: Duration = bounds.body_timeout;
    timeout(within, read(body, u64::from(bounds.body_bytes), arrival))
        .await
        .unwrap_or(Err(Refusal::RequestTimeout))
}

async fn read<B: Body + Unpin>(
    mut body: B,
    bytes_max: u64,
    arrival: &Arrival,
) -> Result<(), Refusal> {
    let mut bytes: u64 = 0;
    while let Some(frame) = next(&mut body, arrival).await? {
        let frame = frame.map_err(|_| CUT)?;
        if let Some(data) = frame.data_ref() {
            bytes = bytes.saturating_add(data.remaining() as u64);
        }
        if bytes > bytes_max {
            return Err(Refusal::ContentTooLarge);
        }
    }
    if is_reset(&body, arrival.version) {
        return Err(CUT);
    }
    Ok(())
}

/// Whether a body without any more frames is one that the caller did not end.
///
/// hyper says so little also of a stream that the caller reset with NO_ERROR, the word by
/// which a server asks for no more of a body (RFC 9113 §8.1). The body itself knows whether
/// END_STREAM came; over HTTP/1 it knows the end of a chunked one by its last frame only,
/// and a cut is an error there.
fn is_reset<B: Body>(body: &B, version: Version) -> bool {
    version == Version::HTTP_2 && !body.is_end_stream()
}

/// The next frame, unless the message is known to be malformed. That is looked at with
/// each poll, and the connection polls whenever it has read something: so what came with
/// the body's end is found, and an end that the HTTP library never sees is not waited for.
async fn next<B: Body + Unpin>(
    body: &mut B,
    arrival: &Arrival,
) -> Result<Option<Result<Frame<B::Data>, B::Error>>, Refusal> {
    poll_fn(|cx| match arrival.malformed() {
        Some(what) => Poll::Ready(Err(Refusal::MalformedRequest(what))),
        None => Pin::new(&mut *body).poll_frame(cx).map(Ok),
    })
    .await
}
