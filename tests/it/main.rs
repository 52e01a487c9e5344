//! The one integration test binary.

mod store;
mod notify;
mod parts;
//! The integration tests, one module per part.

mod cadence;
mod config;
mod tidy;
mod fetch;
mod support;
