//! Gives boards that run from RAM their linker script. Cortex-M boards have that of cortex-m-rt, of the same name. Firmware that takes
//! updates learns the key that models are signed with.

fn main() {
    println!("cargo::rerun-if-changed=link.x");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch != "arm") {
        println!("cargo::rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    }
    #[cfg(feature = "serve")]
    public_key();
}

/// Writes the key of the file `$MBERT_PUBLIC_KEY` as an expression; without that, that there is none.
#[cfg(feature = "serve")]
fn public_key() {
    use ed25519_dalek::VerifyingKey;
    use ed25519_dalek::pkcs8::DecodePublicKey;

    println!("cargo::rerun-if-env-changed=MBERT_PUBLIC_KEY");
    let path = std::env::var("MBERT_PUBLIC_KEY").ok().filter(|path| !path.is_empty());
    let key = path.map(|path| {
        println!("cargo::rerun-if-changed={path}");
        let pem = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("$MBERT_PUBLIC_KEY, {path}: {error}"));
        let key = VerifyingKey::from_public_key_pem(&pem);
        key.unwrap_or_else(|_| panic!("{path} is no public ed25519 key: mbert keygen writes one")).to_bytes()
    });
    let out = std::env::var("OUT_DIR").expect("cargo tells where to write");
    std::fs::write(format!("{out}/public_key.rs"), format!("{key:?}"))
        .expect("the build's own folder can be written to");
}
