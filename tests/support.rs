//! Finds and loads the fixtures that the tests share.

use std::path::PathBuf;

/// The folder of real checkpoints, golden outputs and multilingual text beside the project.
///
/// Prints one plain line and returns `None` where it is absent, so that a test can end early.
///
/// # Panics
///
/// If the folder is absent while `MBERT_REQUIRE_SHARED` is set: there silence is not a pass.
pub fn shared(path: &str) -> Option<PathBuf> {
    let found = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    assert!(
        std::env::var_os("MBERT_REQUIRE_SHARED").is_none(),
        "{} is absent, and MBERT_REQUIRE_SHARED is set",
        found.display()
    );
    println!("did not run: {} is absent", found.display());
    None
}
