//! Keys and signed models.

use super::{Folder, mbert, names};

#[test]
fn a_model_is_signed_with_a_fresh_key_and_inspect_tells_by_whom() {
    let folder = Folder::new();
    let (key, model, signed) = (folder.file("key"), folder.file("tiny.mbert"), folder.file("signed.mbert"));
    let public = format!("{key}.pub");
    let printed = mbert(&["keygen", "-o", &key]).ok().stdout;
    let fingerprint = printed.lines().find_map(|line| line.strip_prefix("fingerprint  ")).unwrap();

    let told = mbert(&["inspect", &model, "--json"]).json();
    assert!(told["signature"].is_null());
    mbert(&["inspect", &model, "--public-key", &public]).refused(&["not signed", "key.pub"]);
    let before = std::fs::read(&model).unwrap();
    mbert(&["sign", &model, "--key", &key, "-o", &signed]).ok();
    assert!(std::fs::read(&model).unwrap() == before);
    let told = mbert(&["inspect", &signed, "--json"]).json();
    assert_eq!(told["signature"]["public_key"], fingerprint);
    assert_eq!(told["signature"]["verified"], false);
    let told = mbert(&["inspect", &signed, "--json", "--public-key", &public]).json();
    assert_eq!(told["signature"]["verified"], true);
    assert!(mbert(&["inspect", &signed, "--public-key", &public]).ok().stdout.contains("verified"));

    // In place, over the signature of another key.
    let other = folder.file("other");
    mbert(&["keygen", "-o", &other]).ok();
    mbert(&["sign", &signed, "--key", &other]).ok();
    mbert(&["inspect", &signed, "--public-key", &public]).refused(&["not by this key", "key.pub"]);
    mbert(&["inspect", &signed, "--public-key", &format!("{other}.pub")]).ok();
    mbert(&["fill-mask", "--model", &signed, "the [MASK]"]).ok();

    let mut damaged = std::fs::read(&signed).unwrap();
    let first = damaged.iter().zip(&before).position(|(now, before)| now != before).unwrap();
    damaged[first + 40] ^= 1;
    std::fs::write(&signed, &damaged).unwrap();
    mbert(&["inspect", &signed]).refused(&["Signature", "damaged"]);
}

#[test]
fn a_key_is_never_overwritten_and_only_its_owner_reads_it() {
    let folder = Folder::new();
    let key = folder.file("key");
    mbert(&["keygen", "-o", &key]).ok();
    let before = std::fs::read(&key).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
    mbert(&["keygen", "-o", &key]).refused(&["exists", "never overwritten"]);
    std::fs::remove_file(&key).unwrap();
    mbert(&["keygen", "-o", &key]).refused(&["key.pub", "exists"]);
    assert!(!folder.path("key").exists());
    assert!(before.starts_with(b"-----BEGIN PRIVATE KEY-----"));
    mbert(&["keygen", "-o", &folder.file("absent/key")]).refused(&["does not exist"]);
}

#[test]
fn what_is_no_key_or_no_model_is_refused() {
    let folder = Folder::new();
    let (key, model) = (folder.file("key"), folder.file("tiny.mbert"));
    mbert(&["keygen", "-o", &key]).ok();
    let before = std::fs::read(&model).unwrap();
    let public = format!("{key}.pub");
    mbert(&["sign", &model, "--key", &public]).refused(&["key.pub", "no private", "keygen"]);
    mbert(&["sign", &model, "--key", &folder.file("absent")]).refused(&["absent"]);
    mbert(&["inspect", &model, "--public-key", &key]).refused(&["no public", "keygen"]);
    mbert(&["sign", &model, "--key", &model]).refused(&["tiny.mbert", "no private", "keygen"]);
    mbert(&["inspect", &model, "--public-key", &model]).refused(&["tiny.mbert", "no public", "keygen"]);
    mbert(&["sign", &key, "--key", &key]).refused(&["not a .mbert model"]);
    mbert(&["sign", "tiny", "--key", &key]).refused(&["--output"]);
    assert!(std::fs::read(&model).unwrap() == before);
    assert_eq!(names(folder.path("tiny").parent().unwrap()), ["key", "key.pub", "tiny", "tiny.mbert"]);
}
