//! Desired state minus observed state: the steps between them. Pure.

pub mod object;
