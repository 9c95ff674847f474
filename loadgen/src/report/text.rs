//! Numbers for people.

/// A time in the unit that leaves one to three digits before the point.
pub fn readable(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..100_000 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A count or rate with a comma between thousands; below ten with one decimal where it has any.
pub fn count(value: f64) -> String {
    if value.abs() < 10.0 && value.fract().abs() > 0.05 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

/// Bytes in the binary unit that leaves one to four digits before the point.
pub fn bytes(value: f64) -> String {
    match value.abs() {
        0.0..1024.0 => format!("{value:.0} B"),
        1024.0..1_048_576.0 => format!("{:.1} KiB", value / 1024.0),
        1_048_576.0..1_073_741_824.0 => format!("{:.1} MiB", value / 1_048_576.0),
        _ => format!("{:.2} GiB", value / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_unit() {
        assert_eq!(["0", "999", "1,000", "-12,345,678"], [0.0, 999.4, 1000.0, -12_345_678.0].map(count)[..]);
        assert_eq!(["1.5", "9", "-0.2", "0"], [1.5, 9.0, -0.2, -0.04].map(count)[..]);
        assert_eq!(
            ["12 B", "4.1 KiB", "1.0 MiB", "-2.00 GiB"],
            [12.0, 4200.0, 1e6 * 1.05, -2.0 * 1024.0_f64.powi(3)].map(bytes)[..]
        );
    }
}
