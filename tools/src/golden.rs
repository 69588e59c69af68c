//! stub
use anyhow::Result; use std::path::Path;
/// .
pub struct Ids { /// .
 pub name: String, /// .
 pub input_ids: Vec<u32>, /// .
 pub token_type_ids: Vec<u8> }
/// .
pub fn read_ids(_: &Path) -> Result<Vec<Ids>> { todo!() }
