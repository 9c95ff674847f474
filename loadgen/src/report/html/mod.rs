//! `--html FILE`: the report as one file for any browser. Nothing is loaded from anywhere, and it says all it has to say
//! without its script, which only tells the values where somebody points.

mod axis;
mod over_time;
mod page;
mod plot;

pub use page::page;

#[cfg(test)]
mod tests;
