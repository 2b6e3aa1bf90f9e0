//! Protocol Buffers, as far as OTLP needs them (the encoding of
//! protobuf.dev/programming-guides/encoding, the field numbers of
//! opentelemetry-proto 1.x).

/// A message that is being written.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

/// How a field is written.
#[derive(Debug, Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

impl Message {
    /// A whole number (int64, uint64, an enum).
    pub fn number(&mut self, field: u32, value: u64) {
        self.tag(field, Wire::Varint);
        self.varint(value);
    }

    /// A time in nanoseconds since 1970.
    pub fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, Wire::Fixed64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Flags.
    pub fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, Wire::Fixed32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes or a text.
    pub fn bytes(&mut self, field: u32, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.tag(field, Wire::Bytes);
        self.varint(u64::try_from(value.len()).unwrap_or(u64::MAX));
        self.0.extend_from_slice(value);
    }

    /// A message in this one.
    pub fn message(&mut self, field: u32, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// A `KeyValue` with a text.
    pub fn text_attribute(&mut self, field: u32, key: &str, value: &str) {
        self.message(field, |pair| {
            pair.bytes(1, key);
            pair.message(2, |any| any.bytes(1, value));
        });
    }

    /// A `KeyValue` with a whole number.
    pub fn number_attribute(&mut self, field: u32, key: &str, value: u64) {
        self.message(field, |pair| {
            pair.bytes(1, key);
            pair.message(2, |any| any.number(3, value));
        });
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn tag(&mut self, field: u32, wire: Wire) {
        self.varint(u64::from(field << 3 | wire as u32));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(low(value) | 0x80);
            value >>= 7;
        }
        self.0.push(low(value));
    }
}

/// The lowest seven bits.
fn low(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or(0)
}

/// What a collector says of a request that it took (`ExportTraceServiceResponse`):
/// how many spans it rejected, and why.
pub fn partial_success(answer: &[u8]) -> (u64, String) {
    let mut rejected = (0, String::new());
    for (field, value) in Fields(answer) {
        let (1, Value::Bytes(partial)) = (field, value) else {
            continue;
        };
        for (field, value) in Fields(partial) {
            match (field, value) {
                (1, Value::Number(spans)) => rejected.0 = spans,
                (2, Value::Bytes(why)) => rejected.1 = String::from_utf8_lossy(why).into_owned(),
                _ => {}
            }
        }
    }
    rejected
}

/// A value of a field that is read.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// Reads a message; ends at the first thing that is none.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(1)? else { return None };
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_the_documentation_of_the_encoding_shows_them() {
        let written = |fill: fn(&mut Message)| {
            let mut message = Message::default();
            fill(&mut message);
            message.into_bytes()
        };
        // The three examples of "A Simple Message", "Strings" and "Submessages".
        assert_eq!(written(|m| m.number(1, 150)), [0x08, 0x96, 0x01]);
        let text = [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67];
        assert_eq!(written(|m| m.bytes(2, "testing")), text);
        let inner = [0x1a, 0x03, 0x08, 0x96, 0x01];
        assert_eq!(written(|m| m.message(3, |m| m.number(1, 150))), inner);
        assert_eq!(written(|m| m.fixed32(16, 0x101)), [0x85, 0x01, 1, 1, 0, 0]);
        assert_eq!(written(|m| m.fixed64(7, 1)), [0x39, 1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_partial_success_is_read_and_nonsense_is_none() {
        let mut answer = Message::default();
        answer.fixed64(9, 1);
        answer.message(1, |partial| {
            partial.number(1, 300);
            partial.bytes(2, "no such tenant");
        });
        let answer = answer.into_bytes();
        assert_eq!(partial_success(&answer), (300, "no such tenant".to_owned()));
        assert_eq!(partial_success(b""), (0, String::new()));
        for cut in 0..answer.len() {
            let _ = partial_success(&answer[..cut]);
        }
        assert_eq!(partial_success(&[0xff; 64]), (0, String::new()));
        assert_eq!(
            partial_success(b"{\"partialSuccess\":{}}"),
            (0, String::new())
        );
    }
}
