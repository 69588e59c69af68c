//! Updates of the model: refused before anything is lost, tried before they are trusted, and never left half done by a loss of power.

mod board;
mod power;
mod power_cuts;
mod updates;
