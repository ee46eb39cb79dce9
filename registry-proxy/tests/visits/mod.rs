//! One host at a time: what is asked of it, and what is made of the answers.

mod hosts;
mod right;
mod time;
mod unknown;
mod wrong;
