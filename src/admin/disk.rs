//! Looks at the trail's disk without waiting for one that does not answer.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::audit::{DiskSpace, Trail};

/// How long a look may take.
const TIMEOUT: Duration = Duration::from_millis(500);

/// One look at a time: a dead disk must not pile up threads that wait for it.
#[derive(Debug)]
pub struct DiskLook(Arc<Semaphore>);

impl Default for DiskLook {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl DiskLook {
    /// The disk of `trail`; `None` if it does not answer soon.
    pub async fn at(&self, trail: &Trail) -> Option<DiskSpace> {
        let look = async {
            let looking = Arc::clone(&self.0).acquire_owned().await.ok()?;
            let trail = trail.clone();
            let look = tokio::task::spawn_blocking(move || {
                let found = trail.disk().ok();
                drop(looking);
                found
            });
            look.await.ok()?
        };
        tokio::time::timeout(TIMEOUT, look).await.ok()?
    }
}
