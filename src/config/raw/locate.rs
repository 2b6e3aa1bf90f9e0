//! Where a field stands in the text: the text is walked again towards the field,
//! and the walk ends there with an error, since only errors know their place.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::config::problem::{FieldPath, Place, Problem, Problems, Segment};

/// Walks through a long file take long: after this, problems go without a place.
const TIME_MAX: Duration = Duration::from_secs(5);
/// The error that ends the walk at the field.
const HERE: &str = "\u{1}here";

impl Problems {
    /// Finds the place of each problem in the text.
    pub fn locate(file: &str, text: &str, problems: Vec<Problem>) -> Self {
        let places = places(text, &problems);
        Self::with_places(file, places.into_iter().zip(problems).collect())
    }
}

/// The place of each problem: that of its field or, if it is not there, of what
/// is around it.
fn places(text: &str, problems: &[Problem]) -> Vec<Option<Place>> {
    let end = Instant::now() + TIME_MAX;
    problems
        .iter()
        .map(|problem| {
            if Instant::now() > end {
                return None;
            }
            if problem.is_about_key {
                return key(text, &problem.path, 0).or_else(|| place(text, &problem.path, None));
            }
            around(&problem.path).find_map(|path| place(text, &path, None))
        })
        .collect()
}

/// A path and all that is around it, from the inside.
fn around(path: &FieldPath) -> impl Iterator<Item = FieldPath> {
    let segments = path.segments();
    (1..=segments.len()).rev().map(move |len| {
        segments
            .iter()
            .take(len)
            .fold(FieldPath::root(), |path, segment| match segment {
                Segment::Key(key) => path.key(key.clone()),
                Segment::Index(index) => path.index(*index),
            })
    })
}

/// The place of a key, or of one that stands again after so many.
pub fn key(text: &str, path: &FieldPath, after: usize) -> Option<Place> {
    place(text, path, Some(after))
}

fn place(text: &str, path: &FieldPath, key: Option<usize>) -> Option<Place> {
    let walk = Walk {
        path: path.segments(),
        key,
    };
    let error = walk
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()?;
    if !error.to_string().contains(HERE) {
        return None;
    }
    let location = error.location()?;
    Some(Place {
        line: location.line(),
        column: location.column(),
    })
}

/// Walks towards a field. With `key`, ends at the last key, not at its value, and after
/// so many that are the same.
#[derive(Clone, Copy)]
struct Walk<'a> {
    path: &'a [Segment],
    key: Option<usize>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.path.is_empty() {
            HERE
        } else {
            "something else"
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.path.split_first() else {
            return Err(A::Error::custom(HERE));
        };
        let Segment::Key(wanted) = first else {
            return Ok(());
        };
        let mut left = self.key.filter(|_| rest.is_empty());
        while let Some(found) = map.next_key_seed(KeySeed {
            wanted,
            stop: left == Some(0),
        })? {
            if let (true, Some(more)) = (found, &mut left) {
                *more -= 1;
            } else if found {
                return map.next_value_seed(Walk {
                    path: rest,
                    key: self.key,
                });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.path.split_first() else {
            return Err(A::Error::custom(HERE));
        };
        let Segment::Index(wanted) = first else {
            return Ok(());
        };
        for _ in 0..*wanted {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        seq.next_element_seed(Walk {
            path: rest,
            key: self.key,
        })?;
        Ok(())
    }
}

/// Compares a key.
struct KeySeed<'a> {
    wanted: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match (key == self.wanted, self.stop) {
            (true, true) => Err(E::custom(HERE)),
            (found, _) => Ok(found),
        }
    }

    // A word that is no text stands for itself, as in the tree.

    fn visit_bool<E: Error>(self, key: bool) -> Result<bool, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<bool, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_i64<E: Error>(self, key: i64) -> Result<bool, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_f64<E: Error>(self, key: f64) -> Result<bool, E> {
        self.visit_str(&key.to_string())
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        self.visit_str("null")
    }

    // No other key is the wanted one, and the walk goes on behind it.

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}
