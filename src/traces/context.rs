//! W3C Trace Context (`traceparent`), level 2.

use http::HeaderMap;

use crate::ids::{RequestId, random};

/// Which trace a call belongs to, and which span of it the call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The call.
    pub span_id: [u8; 8],
    /// The caller's span.
    pub parent: Option<[u8; 8]>,
    /// Whether its spans are sent.
    pub is_sampled: bool,
}

impl Context {
    /// The caller's trace, if it sent exactly one `traceparent` that is valid.
    pub fn continued(fields: &HeaderMap) -> Option<Self> {
        let mut values = fields.get_all("traceparent").iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        let (trace_id, parent, flags) = parse(value.as_bytes())?;
        Some(Self {
            trace_id,
            span_id: new_span(),
            parent: Some(parent),
            is_sampled: flags & 1 == 1,
        })
    }

    /// A trace of the call's own. Its id is that of the request, without the
    /// hyphens: whoever has one has the other.
    pub fn new(request_id: RequestId) -> Self {
        Self {
            trace_id: request_id.bytes(),
            span_id: new_span(),
            parent: None,
            is_sampled: true,
        }
    }
}

/// The part of a trace's id that is random by every standard: the last 56 bits
/// (W3C Trace Context level 2 §5.1.2).
pub fn random_part(trace_id: &[u8; 16]) -> u64 {
    let last = trace_id.iter().skip(9);
    last.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The id of a new span: never all zero.
pub fn new_span() -> [u8; 8] {
    let id = random::<8>();
    if id == [0; 8] { [1; 8] } else { id }
}

/// Version, trace, parent and flags: `00-<32 hex>-<16 hex>-<2 hex>`. A later
/// version may have more behind it (§3.2.2.3, §4.3).
fn parse(value: &[u8]) -> Option<([u8; 16], [u8; 8], u8)> {
    let (known, rest) = value.split_at_checked(55)?;
    let mut parts = known.split(|b| *b == b'-');
    let [version] = hex::<1>(parts.next()?)?;
    let trace_id = hex::<16>(parts.next()?)?;
    let parent = hex::<8>(parts.next()?)?;
    let [flags] = hex::<1>(parts.next()?)?;
    let ends_well = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    let is_valid = ends_well && parts.next().is_none() && trace_id != [0; 16] && parent != [0; 8];
    is_valid.then_some((trace_id, parent, flags))
}

/// Exactly `N` bytes in lower-case hex.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Option<Context> {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append("traceparent", HeaderValue::from_str(value).unwrap());
        }
        Context::continued(&fields)
    }

    #[test]
    fn a_callers_trace_is_continued_as_the_standard_says() {
        // The example of the standard (§3.2.2.5).
        let context = of(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]).unwrap();
        assert_eq!(
            crate::secret::hex(&context.trace_id),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(
            crate::secret::hex(&context.parent.unwrap()),
            "00f067aa0ba902b7"
        );
        assert!(context.is_sampled && Some(context.span_id) != context.parent);
        let not = of(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"]).unwrap();
        assert!(!not.is_sampled);
        // Flags that are not known yet, and what a later version adds, are ignored.
        for later in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-will-be",
        ] {
            assert!(of(&[later]).unwrap().is_sampled, "{later}");
        }
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        ] {
            assert_eq!(of(&[bad]), None, "{bad}");
        }
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(of(&[good, good]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_new_trace_has_the_id_of_its_request() {
        let id = RequestId::next();
        let context = Context::new(id);
        let text = crate::secret::hex(&context.trace_id);
        assert_eq!(text, id.as_str().replace('-', ""));
        let last = u64::from_str_radix(&text[18..], 16).unwrap();
        assert_eq!(random_part(&context.trace_id), last);
    }
}
