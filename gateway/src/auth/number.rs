//! User and device numbers as people and tokens write them.

use super::limits::{DEVICE_MAX, USER_MAX};

/// Reads a user number, 1 to 2^63-1: decimal digits without sign, space or leading zero, so that each user has one
/// spelling. `None` for anything else.
pub fn user_number(text: &str) -> Option<u64> {
    let canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&user| canonical && user_in_range(user))
}

/// Reads a device number, 1 to 2^31-1. `None` for anything else.
pub fn device_number(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|device| (1..=DEVICE_MAX).contains(device))
}

fn user_in_range(user: u64) -> bool {
    (1..=USER_MAX).contains(&user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_spelling() {
        assert_eq!(user_number("1"), Some(1));
        assert_eq!(user_number("9223372036854775807"), Some(USER_MAX));
        for wrong in ["", "0", "01", "+1", "-1", " 1", "1 ", "1.0", "1e3", "0x1", "9223372036854775808", "١"]
        {
            assert_eq!(user_number(wrong), None, "{wrong:?}");
        }
        assert_eq!(user_number(&"1".repeat(100_000)), None);
    }

    #[test]
    fn devices_stay_in_their_range() {
        assert_eq!(device_number(1), Some(1));
        assert_eq!(device_number(u64::from(DEVICE_MAX)), Some(DEVICE_MAX));
        for wrong in [0, u64::from(DEVICE_MAX) + 1, u64::from(u32::MAX) + 2, u64::MAX] {
            assert_eq!(device_number(wrong), None, "{wrong}");
        }
    }
}
