//! Policy on real networks: who gets through to whom, with real sockets.
//!
//! # Layout
//! - `language`: the table of the language, row by row
//! - `rows`: the rows
//! - `matrix`: every pair of twelve endpoints, held against a reader of the rules
//! - `model`: that reader
//! - `burst`: many questions at once
//! - `change`: a change takes effect at once and loses nothing
//! - `talk`: conversations that it interrupts
//! - `growth`: what a list costs as it grows
//! - `pitfall`: where other implementations have failed
//! - `tagged`: frames that are no plain IP packets
//! - `forged`: packets that claim to come from somebody else
//! - `guard`: policy about the node itself
//! - `lockout`: who applies it is not locked out unawares
//! - `trial`: nor for long, if it is tried

mod burst;
mod change;
mod forged;
mod growth;
mod guard;
mod language;
mod lockout;
mod matrix;
#[expect(dead_code, reason = "here nobody asks about the health endpoint")]
#[path = "../../../agent/tests/policy/model.rs"]
mod model;
mod pitfall;
mod rows;
mod tagged;
mod talk;
mod trial;
