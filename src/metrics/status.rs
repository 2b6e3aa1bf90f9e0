//! Upstream statuses as a closed list: a label must not be what an upstream
//! likes to invent.

/// The values of the label. Those that the vendor's contract or an HTTP
/// intermediary is known to answer stand for themselves, others for their class.
pub const STATUSES: [&str; 25] = [
    "200", "202", "204", "400", "401", "403", "404", "405", "408", "409", "410", "422", "423",
    "429", "500", "501", "502", "503", "504", "1xx", "2xx", "3xx", "4xx", "5xx", "other",
];

/// The place of a status in [`STATUSES`].
pub fn slot(status: u16) -> usize {
    match status {
        200 => 0,
        202 => 1,
        204 => 2,
        400 => 3,
        401 => 4,
        403 => 5,
        404 => 6,
        405 => 7,
        408 => 8,
        409 => 9,
        410 => 10,
        422 => 11,
        423 => 12,
        429 => 13,
        500 => 14,
        501 => 15,
        502 => 16,
        503 => 17,
        504 => 18,
        other => match other / 100 {
            class @ 1..=5 => 18 + usize::from(class),
            _ => 24,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_own_label_or_that_of_its_class() {
        for status in 0..=u16::MAX {
            let label = STATUSES[slot(status)];
            let class = format!("{}xx", status / 100);
            let is_right = match label {
                "other" => !(100..600).contains(&status),
                label => label == status.to_string() || label == class,
            };
            assert!(is_right, "{status}: {label}");
        }
        for label in STATUSES {
            if let Ok(status) = label.parse() {
                assert_eq!(STATUSES[slot(status)], label);
            }
        }
    }
}
