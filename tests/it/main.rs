//! The integration tests, one module per part.

mod cadence;
mod config;
mod tidy;
