//! The integration tests, one module per part.

mod cadence;
mod config;
mod estate;
mod fetch;
mod notify;
mod parts;
mod report;
mod store;
mod support;
mod tidy;
mod web;
