//! x
pub use super::poll::Poll as Parked;
