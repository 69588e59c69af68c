//! Places that cannot be written to: the exit status is 2, and what was there before is there still.

use std::process::Command;

use super::{Folder, Run, mbert, names};

#[test]
fn output_in_a_directory_that_does_not_exist_is_refused() {
    let folder = Folder::new();
    let (tiny, out) = (folder.file("tiny"), folder.file("absent/new.mbert"));
    mbert(&["convert", &tiny, "-o", &out]).refused(&["absent/new.mbert", "does not exist"]);
    folder.run("features", &["the", "-o", &out]).refused(&["absent/new.mbert", "does not exist"]);
}

#[test]
fn output_over_a_directory_is_refused() {
    let folder = Folder::new();
    let tiny = folder.file("tiny");
    mbert(&["convert", &tiny, "-o", &tiny]).refused(&["tiny", "not a file"]);
    folder.run("features", &["the", "-o", &tiny]).refused(&["tiny", "not a file"]);
}

/// Runs `mbert` from a shell that has done `first`.
#[cfg(unix)]
fn mbert_after(first: &str, arguments: &[&str]) -> Run {
    let script = format!("{first}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_mbert")]).args(arguments).output().unwrap().into()
}

/// Files can grow to a few kilobytes only, which fails in the middle of writing as a full disk does.
#[cfg(unix)]
const SMALL_FILES: &str = "trap '' XFSZ; ulimit -f 8";

#[cfg(unix)]
#[test]
fn writing_that_fails_half_way_leaves_the_old_file_and_no_other() {
    let folder = Folder::new();
    let (tiny, model) = (folder.file("tiny"), folder.file("tiny.mbert"));
    let before = std::fs::read(&model).unwrap();
    assert!(before.len() > 20_000);
    mbert_after(SMALL_FILES, &["convert", &tiny, "-o", &model]).refused(&["cannot write", "tiny.mbert"]);
    assert!(std::fs::read(&model).unwrap() == before);
    let out = folder.write("out.safetensors", "old");
    let text = ["the cat sat on the mat"; 8];
    let features = [&["features", "--layers", "all", "--model", &model, "-o", &out], &text[..]].concat();
    mbert_after(SMALL_FILES, &features).refused(&["cannot write", "out.safetensors"]);
    assert_eq!(std::fs::read(&out).unwrap(), b"old");
    assert_eq!(folder.names(), ["out.safetensors", "tiny", "tiny.mbert"]);
}

/// A file system of 32 KiB, where this user may make one: in a mount namespace of its own, so that nothing remains.
#[cfg(target_os = "linux")]
#[test]
fn full_disk_is_named_and_leaves_the_old_file_and_no_other() {
    let folder = Folder::new();
    let disk = folder.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = r#"mount -t tmpfs -o size=32k none "$1" || exit 77
        echo old > "$1/new.mbert"
        "$0" convert "$2" -o "$1/new.mbert"; code=$?
        ls -A "$1"; cat "$1/new.mbert"; exit $code"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script, env!("CARGO_BIN_EXE_mbert")]);
    let Ok(output) = command.args([&disk, &folder.path("tiny")]).output() else {
        println!("did not run: unshare is absent");
        return;
    };
    if output.status.code() != Some(2) && !String::from_utf8_lossy(&output.stderr).contains("mbert:") {
        println!(
            "did not run: no file system can be mounted here ({})",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        return;
    }
    let run = Run::from(output);
    assert_eq!(run.stdout, "new.mbert\nold\n");
    run.refused(&["cannot write", "new.mbert", "the disk is full"]);
    assert!(names(&disk).is_empty(), "the mount was private");
}

#[cfg(target_os = "linux")]
#[test]
fn answers_that_cannot_be_printed_are_an_error() {
    let folder = Folder::new();
    let model = folder.file("tiny.mbert");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mbert"));
    let output = command.args(["fill-mask", "--model", &model, "the [MASK]"]).stdout(full).output().unwrap();
    Run::from(output).refused(&["No space left"]);
}

#[cfg(unix)]
#[test]
fn new_files_can_be_read_by_others_as_the_umask_says() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let out = folder.file("new.mbert");
    mbert_after("umask 027", &["convert", &folder.file("tiny"), "-o", &out]).ok();
    assert_eq!(std::fs::metadata(out).unwrap().permissions().mode() & 0o777, 0o640);
}
