//! `include/mbert.h` is what cbindgen makes of the source.

use std::path::Path;

#[test]
fn the_header_is_that_of_the_source() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut header = Vec::new();
    let config = cbindgen::Config::from_file(package.join("cbindgen.toml")).unwrap();
    let sources = ["status.rs", "lib.rs"].map(|name| package.join("src").join(name));
    let builder =
        sources.iter().fold(cbindgen::Builder::new().with_config(config), |builder, path| builder.with_src(path));
    builder.generate().unwrap().write(&mut header);
    let path = package.join("include/mbert.h");
    if std::env::var_os("MBERT_WRITE_HEADER").is_some() {
        std::fs::write(&path, &header).unwrap();
    }
    let written = std::fs::read(&path).unwrap_or_default();
    assert!(
        written == header,
        "mbert.h is not that of the source: MBERT_WRITE_HEADER=1 cargo test -p mbert-c --test header"
    );
}
