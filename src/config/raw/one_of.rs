//! A value that may be a word, a number, a list of texts, or a map.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

/// A value that may be one of several kinds; which of them are right is not
/// known here.
#[derive(Debug)]
pub enum OneOf<M> {
    /// A text.
    Word(String),
    /// A whole number.
    Number(u64),
    /// A list of texts.
    List(Vec<Option<String>>),
    /// A map.
    Map(M),
}

impl<'de, M: Deserialize<'de>> Deserialize<'de> for OneOf<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOfVisitor(PhantomData))
    }
}

struct OneOfVisitor<M>(PhantomData<M>);

impl<'de, M: Deserialize<'de>> Visitor<'de> for OneOfVisitor<M> {
    type Value = OneOf<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another kind of value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(OneOf::Word(text.to_owned()))
    }

    /// As it is written: that no word is right where one is wanted is said by who knows
    /// the words.
    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(OneOf::Word(value.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(OneOf::Number(number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(text) = seq.next_element()? {
            list.push(text);
        }
        Ok(OneOf::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        M::deserialize(MapAccessDeserializer::new(map)).map(OneOf::Map)
    }
}
