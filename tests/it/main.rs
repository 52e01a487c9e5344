//! The one integration test binary.

mod store;
mod notify;
mod parts;
