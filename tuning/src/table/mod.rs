//! The table of settings, by what they are about. It is the only place that says what is required and why.

pub mod devices;
pub mod files;
pub mod folklore;
pub mod memory;
pub mod netfilter;
pub mod ring;
pub mod tcp;
pub mod units;

use crate::setting::Setting;

/// The parts of the table with their titles, in the order of the report.
pub const PARTS: &[(&str, &[Setting])] = &[
    ("Files", files::SETTINGS),
    ("Units and login sessions", units::SETTINGS),
    ("io_uring", ring::SETTINGS),
    ("TCP", tcp::SETTINGS),
    ("Connection tracking and neighbours", netfilter::SETTINGS),
    ("Memory", memory::SETTINGS),
    ("Devices and clock", devices::SETTINGS),
];

/// Every setting, in the order of the report.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    PARTS.iter().flat_map(|(_, settings)| settings.iter())
}

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}
