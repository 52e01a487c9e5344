//! The integration tests, one module per part.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archive;
mod cadence;
mod config;
mod estate;
mod fetch;
mod notify;
mod oracle;
mod parse;
mod parts;
mod report;
mod store;
mod support;
mod tidy;
mod timeline;
mod web;
