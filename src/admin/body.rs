//! Bodies of requests that change something.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};

use super::text;

/// The longest body that is read, in bytes.
const BYTES_MAX: usize = 2048;
/// By when it must be in.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The whole body.
///
/// # Errors
///
/// The answer, if it is too long, cut short or slow.
pub async fn read<B>(body: B) -> Result<Bytes, Box<Response<Full<Bytes>>>>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let reading = Limited::new(body, BYTES_MAX).collect();
    match tokio::time::timeout(TIMEOUT, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Box::new(text(
            StatusCode::BAD_REQUEST,
            "the body is cut short or too long\n",
        ))),
        Err(_) => Err(Box::new(text(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time\n",
        ))),
    }
}
