//! What a body says of `"success"`, and nothing else of it: a tree of a body of 1 MiB
//! could take a hundred times its size.

use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// `success` of the vendor's contract; `None` if `body` is no JSON object that has it,
/// once, as a boolean.
pub fn success_in(body: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(body).ok()?;
    serde_json::from_str(text).map(|Success(it)| it).ok()?
}

struct Success(Option<bool>);

impl<'de> serde::Deserialize<'de> for Success {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Success;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Success, A::Error> {
        let mut success = None;
        while let Some(IsSuccess(is_success)) = fields.next_key()? {
            if !is_success {
                fields.next_value::<IgnoredAny>()?;
            } else if success.replace(fields.next_value()?).is_some() {
                // Readers differ in which one counts (RFC 8259 §4).
                return Err(A::Error::duplicate_field("success"));
            }
        }
        Ok(Success(success))
    }
}

struct IsSuccess(bool);

impl<'de> serde::Deserialize<'de> for IsSuccess {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Name)
    }
}

struct Name;

impl Visitor<'_> for Name {
    type Value = IsSuccess;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<IsSuccess, E> {
        Ok(IsSuccess(name == "success"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_boolean_of_an_object_counts() {
        for (body, said) in [
            (r#"{"success":true}"#, Some(true)),
            (r#" { "success" : false } "#, Some(false)),
            (
                r#"{"data":{"success":false},"success":true,"x":[1,null]}"#,
                Some(true),
            ),
            (r#"{"succ\u0065ss":true}"#, Some(true)),
            ("{}", None),
            ("", None),
            ("true", None),
            (r#"[{"success":true}]"#, None),
            (r#""success""#, None),
            (r#"{"data":{"success":true}}"#, None),
            (r#"{"Success":true}"#, None),
            (r#"{"success":"true"}"#, None),
            (r#"{"success":1}"#, None),
            (r#"{"success":null}"#, None),
            (r#"{"success":true"#, None),
            (r#"{"success":true}x"#, None),
            (r#"{"success":true,"x":}"#, None),
            (r#"{"success":true,"success":false}"#, None),
            (r#"{"success":true,"success":true}"#, None),
        ] {
            assert_eq!(success_in(body.as_bytes()), said, "{body}");
        }
        let not_utf_8 = b"{\"x\":\"\xff\",\"success\":true}";
        assert_eq!(success_in(not_utf_8), None);
    }

    #[test]
    fn what_else_is_in_it_may_be_nested_as_deeply_as_there_is_room() {
        let (open, close) = ("[".repeat(1 << 19), "]".repeat(1 << 19));
        let body = format!(r#"{{"x":{open}{close},"success":true}}"#);
        assert_eq!(success_in(body.as_bytes()), Some(true));
    }
}
