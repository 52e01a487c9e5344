mod fetch;
mod support;
