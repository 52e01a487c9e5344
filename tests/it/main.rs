//! The integration tests, one module per part.

mod archive;
mod cadence;
mod cli;
mod config;
mod end_to_end;
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
