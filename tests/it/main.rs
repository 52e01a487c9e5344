//! The one integration test binary.

mod estate;
mod report;
mod web;
