//! The caller's body: read wholly, counted, dropped. Some SDKs send `{}` with a
//! DELETE; a body cut short means that nothing is sent.

use std::time::Duration;

use bytes::Buf;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::config::settings::Bounds;

/// Reads `body` to its end within the bounds.
///
/// # Errors
///
/// `content-too-large` (decoded bytes), `request-timeout`, or
/// `malformed-request` for a body that ended early or is framed wrongly.
pub async fn drop_whole<B>(body: B, bounds: &Bounds) -> Result<(), Refusal>
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
    timeout(within, read(body, u64::from(bounds.body_bytes)))
        .await
        .unwrap_or(Err(Refusal::RequestTimeout))
}

async fn read<B: Body + Unpin>(mut body: B, bytes_max: u64) -> Result<(), Refusal> {
    let mut bytes: u64 = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|_| Refusal::MalformedRequest("the body ended early or was framed wrongly"))?;
        if let Some(data) = frame.data_ref() {
            bytes = bytes.saturating_add(data.remaining() as u64);
        }
        if bytes > bytes_max {
            return Err(Refusal::ContentTooLarge);
        }
    }
    Ok(())
}
