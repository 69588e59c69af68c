//! Models on boards: into the files of machines, and through the programs of makers.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mbert::built_in::BuiltIn;
use mbert_tests::models::built_in;

use super::{Folder, Run, mbert};

const TINY: BuiltIn = BuiltIn::Tiny;

#[test]
fn an_image_has_the_model_where_the_machine_reads_it() {
    let folder = Folder::new();
    let (image, blob) = (folder.file("flash.img"), built_in(TINY));
    let run = mbert(&["flash", "tiny", "--board", "mps2-an386", "-o", &image]).ok();
    assert!(run.stdout.contains("flash.img") && run.stdout.contains("read back and compared"), "{}", run.stdout);
    let flash = std::fs::read(&image).unwrap();
    assert_eq!(flash.len(), 16 << 20);
    assert!(flash.starts_with(blob));
    assert!(flash.ends_with(&[0xff; 8192]), "no state of an earlier model is left");

    mbert(&["flash", "tiny", "--board", "raspi3b", "-o", &image]).ok();
    let mut memory = File::open(&image).unwrap();
    assert_eq!(memory.metadata().unwrap().len(), 1 << 30);
    memory.seek(SeekFrom::Start(0x1000_0000)).unwrap();
    let mut found = vec![0; blob.len()];
    memory.read_exact(&mut found).unwrap();
    assert!(found == blob);

    mbert(&["flash", "tiny", "--board", "lm3s6965evb", "-o", &image]).ok();
    mbert(&["sd-image", "tiny", "-o", &folder.file("card.img")]).ok();
    assert!(std::fs::read(&image).unwrap() == std::fs::read(folder.path("card.img")).unwrap());
}

#[test]
fn a_uf2_file_puts_the_model_together_again() {
    let folder = Folder::new();
    let (file, blob) = (folder.file("model.uf2"), built_in(TINY));
    mbert(&["flash", "tiny", "--board", "raspberry-pi-pico-2", "-o", &file]).ok();
    let mut flash = Vec::new();
    let blocks = std::fs::read(&file).unwrap();
    let (model, log) = blocks.split_at(512 * blob.len().div_ceil(256));
    let address = |block: &[u8]| u32::from_le_bytes(block[12..16].try_into().unwrap()) as usize;
    for block in model.chunks(512) {
        assert_eq!(address(block), 0x1008_0000 + flash.len());
        flash.extend_from_slice(&block[32..32 + 256]);
    }
    assert!(flash.starts_with(blob) && flash.len() < blob.len() + 256);
    // Behind the second slot, so that the board looks for models anew.
    assert_eq!((address(log), log.len()), (0x1008_0000 + 3_661_824, 32 * 512));
    assert!(log.chunks(512).all(|block| block[32..32 + 256] == [0xff; 256]));
}

#[test]
fn what_cannot_run_is_not_written() {
    let folder = Folder::new();
    let output = folder.file("model.uf2");
    mbert(&["flash", "small", "--board", "raspberry-pi-pico-2", "-o", &output]).refused(&[
        "small does not fit raspberry-pi-pico-2",
        "QSPI flash",
        "take a smaller model",
    ]);
    let text = folder.write("text.txt", "no model, but long enough for the header of one, which has sixty-four bytes");
    mbert(&["flash", &text, "--board", "mps2-an386", "-o", &output]).refused(&["text.txt", "not a .mbert model"]);
    mbert(&["flash", "tiny", "--board", "mps2-an386"]).refused(&["mps2-an386", "--output"]);
    mbert(&["flash", "tiny", "--board", "mps2-an386", "-o", &output, "--port", "ttyUSB0"]).refused(&["--port"]);
    mbert(&["flash", "tiny", "--board", "nrf5340-dk", "-o", &output]).refused(&["nrf5340-dk", "--output"]);
    mbert(&["flash", "tiny", "--board", "esp32-p4-function-ev-board"]).refused(&["boards.toml"]);
    mbert(&["flash", "tiny", "--board", "no-board"]).refused(&["no-board", "mps2-an386"]);
    mbert(&["flash", "tiny", "--board", "mps2-an386", "-o", &folder.file("absent/flash.img")]).refused(&["absent"]);
    assert!(!folder.path("model.uf2").exists());
}

#[test]
fn weights_packed_for_another_cpu_are_refused_and_built_in_ones_packed_for_the_board() {
    let folder = Folder::new();
    let (packed, image) = (folder.file("packed.mbert"), folder.file("flash.img"));
    mbert(&["convert", "tiny", "--target", "x86-64-avx2", "-o", &packed]).ok();
    for (board, target) in [("mps2-an386", "--target portable"), ("mps3-an547", "--target cortex-m55")] {
        mbert(&["flash", &packed, "--board", board, "-o", &image]).refused(&["does not fit", "vnni16x4", target]);
        mbert(&["plan", &packed, "--board", board]).refused(&["does not fit", "vnni16x4", target]);
    }
    assert!(mbert(&["boards", "--model", &packed]).ok().stdout.contains("packed for another CPU"));
    assert!(!folder.path("flash.img").exists());

    mbert(&["convert", "tiny", "--target", "cortex-m55", "-o", &packed]).ok();
    mbert(&["flash", "tiny", "--board", "mps3-an547", "-o", &image]).ok();
    let mut found = vec![0; built_in(TINY).len()];
    File::open(&image).unwrap().read_exact(&mut found).unwrap();
    assert!(found == std::fs::read(&packed).unwrap());
    mbert(&["flash", &packed, "--board", "mps3-an547", "-o", &image]).ok();
}

#[test]
fn without_a_way_through_the_debugger_the_advice_is_to_upload() {
    mbert(&["flash", "tiny", "--board", "nrf5340-dk"]).refused(&["0x10000000", "mbert device upload"]);
}

/// Runs `mbert flash` where `espflash` is this script.
fn with_espflash(folder: &Folder, script: Option<&str>, arguments: &[&str]) -> Run {
    let programs = folder.path("programs");
    std::fs::create_dir_all(&programs).unwrap();
    let program = programs.join("espflash");
    let _ = std::fs::remove_file(&program);
    if let Some(script) = script {
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_mbert"));
    command.args(["flash", "tiny", "--board", "esp32-c6-devkitc-1"]).args(arguments).env("PATH", path);
    command.output().unwrap().into()
}

#[test]
fn espflash_is_given_the_model_its_place_and_the_port() {
    let folder = Folder::new();
    let (arguments, written) = (folder.file("arguments"), folder.file("written"));
    let script = format!("echo \"$*\" >>{arguments}; for last; do :; done; cat \"$last\" >>{written}");
    let run = with_espflash(&folder, Some(&script), &["--port", "/dev/ttyUSB7"]).ok();
    assert!(run.stdout.contains("from 0x100000 on") && run.stdout.contains("espflash"), "{}", run.stdout);
    let arguments = std::fs::read_to_string(arguments).unwrap();
    let places: Vec<_> = arguments.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
    let to = |place| format!("write-bin --chip esp32c6 --port /dev/ttyUSB7 {place}");
    assert_eq!(places, [to("0x100000"), to("0x7fe000")]);
    // Then the log, which is erased, so that the board looks for models anew.
    assert!(std::fs::read(written).unwrap() == [built_in(TINY), &[0xff; 8192]].concat());
}

#[test]
fn an_espflash_that_fails_or_is_not_there_is_an_error() {
    let folder = Folder::new();
    with_espflash(&folder, Some("exit 3"), &[]).refused(&["espflash failed", "exit status: 3"]);
    with_espflash(&folder, None, &[]).refused(&["cargo install espflash"]);
}
