//! What a page says when there is nothing to show: in words, never with what went wrong inside.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

use crate::store::StoreError;

/// A page that could not be made.
#[derive(Debug, Template)]
#[template(path = "page/error.html")]
pub(super) struct Problem {
    status: u16,
    title: &'static str,
    advice: String,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, advice: impl Into<String>) -> Self {
        Self { status: status.as_u16(), title, advice: advice.into() }
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "There is no such page",
            "The pages are the overview and the report; /metrics, /healthz and /readyz are for machines.",
        )
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "Pages can only be read",
            "Nothing can be changed here; decisions are made with the commands expect and approve.",
        )
    }

    pub(super) fn foreign_host() -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "This name is not served",
            "Open the page as http://localhost or by its loopback address.",
        )
    }

    pub(super) fn bad_request(advice: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "The question was not understood", advice)
    }
}

/// Logged here, once; the reader learns what to do and nothing about our insides.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(why) => Self::new(StatusCode::NOT_FOUND, "That is not in the database", why),
            StoreError::Busy(_) => {
                tracing::warn!(%error, "the database is busy");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "The database is busy", "Try again in a moment; if it stays so, see the log.")
            }
            StoreError::Foreign(_) | StoreError::Damaged(_) | StoreError::Failed { .. } => {
                tracing::error!(%error, "a page could not read the database");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The database could not be read", "The log says why.")
            }
        }
    }
}

impl From<askama::Error> for Problem {
    fn from(error: askama::Error) -> Self {
        tracing::error!(%error, "a page could not be drawn");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The page could not be drawn", "The log says why.")
    }
}

impl From<tokio::task::JoinError> for Problem {
    fn from(error: tokio::task::JoinError) -> Self {
        tracing::error!(%error, "a page was given up");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The page could not be drawn", "The log says why.")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match self.render() {
            Ok(page) => (status, Html(page)).into_response(),
            Err(_) => (status, self.title).into_response(),
        }
    }
}
