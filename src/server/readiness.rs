//! Whether calls are taken just now.

use std::fmt;

use crate::audit::Unwritable;

/// What was found, all at once: none of it is looked at twice, or two lines of one
/// answer could contradict each other.
#[derive(Debug, Default)]
pub struct Readiness {
    /// The gateway stops.
    pub is_draining: bool,
    /// The worker that is stuck or gone.
    pub stuck_worker: Option<usize>,
    /// Why the trail can't be written.
    pub trail: Option<Unwritable>,
}

impl Readiness {
    /// Why no calls are taken, if so.
    pub fn unready(&self) -> Option<String> {
        if self.is_draining {
            return Some("draining".to_owned());
        }
        if let Some(worker) = self.stuck_worker {
            return Some(format!("worker {worker} is stuck or gone"));
        }
        let trail = self.trail.as_ref()?;
        Some(format!("the trail cannot be written: {trail}"))
    }
}

impl fmt::Display for Readiness {
    /// A line for each check, with a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stuck = |worker| format!("worker {worker} is not");
        let checks = [
            ("config loaded", None),
            ("workers alive", self.stuck_worker.map(stuck)),
            (
                "trail writable",
                self.trail.as_ref().map(ToString::to_string),
            ),
            ("not draining", self.is_draining.then(|| "it is".to_owned())),
        ];
        for (check, failed) in checks {
            match failed {
                None => writeln!(f, "[+] {check}")?,
                Some(why) => writeln!(f, "[-] {check}: {why}")?,
            }
        }
        Ok(())
    }
}
