//! Places in a YAML tree.

use serde_yaml::Value;

use crate::config::problem::Segment;

/// What stands at `path`.
pub fn find<'a>(tree: &'a Value, path: &[Segment]) -> Option<&'a Value> {
    path.iter().try_fold(tree, |value, segment| match segment {
        Segment::Key(key) => value.as_mapping()?.get(&**key),
        Segment::Index(index) => value.as_sequence()?.get(*index),
    })
}

/// The same, to change it.
pub fn find_mut<'a>(tree: &'a mut Value, path: &[Segment]) -> Option<&'a mut Value> {
    path.iter().try_fold(tree, |value, segment| match segment {
        Segment::Key(key) => value.as_mapping_mut()?.get_mut(&**key),
        Segment::Index(index) => value.as_sequence_mut()?.get_mut(*index),
    })
}

/// Takes out what stands at `path`, of a list by leaving nothing in its place; whether
/// something stood there.
pub fn remove(tree: &mut Value, path: &[Segment]) -> bool {
    let Some((last, before)) = path.split_last() else {
        *tree = Value::Mapping(serde_yaml::Mapping::new());
        return true;
    };
    match (find_mut(tree, before), last) {
        (Some(Value::Mapping(map)), Segment::Key(key)) => map.remove(&**key).is_some(),
        (Some(Value::Sequence(list)), Segment::Index(index)) => match list.get_mut(*index) {
            // A null is skipped where its problem is known already.
            Some(entry) if !entry.is_null() => {
                *entry = Value::Null;
                true
            }
            _ => false,
        },
        _ => false,
    }
}
