//! Policy on real networks: who gets through to whom, with real sockets.
//!
//! # Layout
//! - `language`: the table of the language, row by row
//! - `rows`: the rows

mod language;
mod rows;
