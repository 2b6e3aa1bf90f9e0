//! Durations and sizes as they are written in the config.

use std::time::Duration;

/// Reads `250ms`, `5s`, `10m`, `1h` or `1d`.
///
/// # Errors
///
/// What is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or_default();
    let factor_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => {
            return Err(
                "expected a number with a unit: ms, s, m, h or d, as in 250ms or 5s".to_owned(),
            );
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a number before the unit, as in 5s".to_owned())?;
    let ms = number.checked_mul(factor_ms).ok_or("is too long")?;
    Ok(Duration::from_millis(ms))
}

/// Writes a duration as [`duration`] reads it, in the largest unit that fits.
pub fn show_duration(span: Duration) -> String {
    let ms = span.as_millis();
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    let unit = units
        .into_iter()
        .find(|(factor, _)| ms > 0 && ms.is_multiple_of(*factor));
    match unit {
        Some((factor, unit)) => format!("{}{unit}", ms / factor),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

/// Writes a size as [`size`] reads it, in the largest unit that fits.
pub fn show_size(bytes: u32) -> String {
    let units = [(1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits = |factor: &u32| bytes > 0 && bytes.is_multiple_of(*factor);
    match units.into_iter().find(|(factor, _)| fits(factor)) {
        Some((factor, unit)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Reads `4096`, `4096B`, `16KiB` or `1MiB`.
///
/// # Errors
///
/// What is allowed.
pub fn size(text: &str) -> Result<u64, String> {
    let expected = || "expected bytes, as in 16KiB or 1MiB".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or_default();
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(expected()),
    };
    let number: u64 = number.parse().map_err(|_| expected())?;
    number.checked_mul(factor).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for bad in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5s",
            "5S",
            "5sec",
            "99999999999999999999s",
            "999999999999999999d",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        assert_eq!(size("16KiB"), Ok(16_384));
        assert_eq!(size("4096"), Ok(4096));
        for bad in [
            "",
            "KiB",
            "16KB",
            "16kib",
            "1.5MiB",
            "-1",
            "99999999999999999999",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_shown_size_reads_back(bytes: u32) {
            proptest::prop_assert_eq!(size(&show_size(bytes)), Ok(bytes.into()));
        }

        #[test]
        fn a_shown_duration_reads_back(ms in 0_u64..u64::MAX / 2) {
            let span = Duration::from_millis(ms);
            assert_eq!(duration(&show_duration(span)), Ok(span));
        }
    }
}
