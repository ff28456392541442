//! One run carried out by several agents: a coordinator splits it, all shares begin at one moment, and their accounts and
//! histograms are added up. Owns who says what to whom; measures nothing.

pub mod agent;
pub mod coordinator;
mod merge;
mod packed;
mod split;
mod wire;
