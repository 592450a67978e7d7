//! How a node comes to be, changes and goes, and what happens when that is interrupted.

mod edit;
mod failure;
mod farewell;
mod idempotence;
mod interruption;
mod killed;
mod place;
mod setting;
mod trial;
mod verb;
