//! The memory of header fields that nobody needs any more.

use http::HeaderMap;

/// Fields of an earlier message with nothing left in them: the next message
/// takes no memory of its own.
#[derive(Debug, Default)]
pub struct Room(HeaderMap);

impl Room {
    /// Removes every field and keeps their memory.
    pub fn emptied(mut fields: HeaderMap) -> Self {
        fields.clear();
        Self(fields)
    }

    /// No fields, and memory for `fields` of them.
    pub fn for_fields(self, fields: usize) -> HeaderMap {
        let Self(mut map) = self;
        map.reserve(fields);
        map
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn nothing_of_the_earlier_message_is_left() {
        let mut fields = HeaderMap::new();
        for value in ["a", "b", "c"] {
            fields.append(header::COOKIE, HeaderValue::from_static(value));
            fields.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        let fields = Room::emptied(fields).for_fields(8);
        assert_eq!(fields.len(), 0);
        assert!(fields.get(header::COOKIE).is_none());
        assert_eq!(fields.get_all(header::AUTHORIZATION).iter().count(), 0);
    }
}
