//! issuerwatch: continuous compliance monitor for JWKS and OpenID Connect endpoints.
//!
//! Everything the product *decides* is one pure function, [`assess::assess`]: what one observation
//! means, given what we knew before. Polling, the one-shot `check`, the report and the replay of old
//! observations are four thin callers of it. Code outside of it only fetches, stores, waits, sends or draws.
//!
//! ```text
//! pure    model  <-  policy, cadence, parse  <-  facts, ledger, archive  <-  rules  <-  assess (lifecycle, routing, grade)
//! shell   clock    config    fetch    store    report         leaves: import pure modules only
//!         poll     notify    web                              loops and doors: import pure modules and leaves
//!         cli                                                 wires everything; main.rs calls it
//! ```
//!
//! # Invariants
//! 1. `assess` and everything left of it does no I/O, reads no clock, keeps no state.
//! 2. Nothing outside `clock.rs` asks what time it is; nothing outside `config/` reads the environment;
//!    nothing outside `fetch/` and `notify/` opens a connection.
//! 3. An `Observation` is never changed after it is made, and is stored before anything is said about it.
//! 4. "We could not look" is never "it is fine", and never "it is broken".
//! 5. Nothing is sent that is not first in the outbox; nothing leaves the outbox without a recorded outcome.
//! 6. A fact about a rule is written once, in its document under `rules/`.
//! 7. Bytes from a provider are hostile: bounded, parsed without panic, escaped wherever shown, never logged.
//! 8. Storage backends are told apart only in `cli/`, by the database URL.
//!
//! `tests/it/tidy.rs` keeps the arrows; `.clippy.toml` keeps clock, environment and client in their files.

pub mod archive;
pub mod assess;
pub mod cadence;
pub mod cli;
pub mod clock;
pub mod config;
pub mod facts;
pub mod fetch;
pub mod grade;
pub mod ledger;
pub mod lifecycle;
pub mod model;
pub mod notify;
pub mod parse;
pub mod policy;
pub mod poll;
pub mod report;
pub mod routing;
pub mod rules;
pub mod store;
pub mod web;
