//! One binary for all integration tests.

mod archive;
mod oracle;
mod parse;
