//! What a reader knows beside the trail.

use super::chain::Head;
use crate::secret::MacKey;

/// What a reader knows beside the trail.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The key that its records are hashed with.
    pub mac_key: Option<MacKey>,
    /// The number of the first of them: the trail got its key later.
    pub keyed_from: Option<u64>,
    /// A head that was noted elsewhere, and must be in the trail.
    pub head: Option<Head>,
}
