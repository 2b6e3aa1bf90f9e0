//! The process itself, as `/proc/self` shows it.

use std::fs;

use super::text::{Kind, Text};

/// Clock ticks a second in `/proc`: USER_HZ, fixed by the kernel's interface.
const TICKS: f64 = 100.0;

/// The standard process metrics. What can't be read is left out.
pub fn render(text: &mut Text, started_at: f64) {
    if let Some(seconds) = cpu_seconds() {
        text.family("process_cpu_seconds", Kind::Counter, "CPU time used");
        text.figure(&[], seconds);
    }
    if let Some(bytes) = resident_bytes() {
        text.family(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Memory in use",
        );
        text.number(&[], bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        text.family("process_open_fds", Kind::Gauge, "Open file descriptors");
        text.number(&[], open.count() as u64);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    text.family(
        "process_max_fds",
        Kind::Gauge,
        "File descriptors that may be open",
    );
    text.number(&[], limit.current.unwrap_or(u64::MAX));
    text.family(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process was started, in Unix time",
    );
    text.figure(&[], started_at);
}

/// User and system time: the 14th and 15th field (proc_pid_stat(5)).
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses and may hold anything.
    let behind_the_name = stat.rsplit_once(')')?.1;
    let mut fields = behind_the_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let kib = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        assert!(resident_bytes().unwrap() > 100 << 10);
        let before = cpu_seconds().unwrap();
        let mut number = 1_u64;
        while cpu_seconds().unwrap() <= before {
            number = std::hint::black_box(number.wrapping_mul(31) + 1);
        }
        assert!(cpu_seconds().unwrap() > before);
    }
}
